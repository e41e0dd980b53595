"""The ledger: a dbt project that every warehouse of the tests can build, and pull requests to it.

Its SQL is what DuckDB, PostgreSQL and Spark have in common. `payments_log` says of each row whether
it came with a full build or with an increment, so the rows themselves prove which one it was.
Production is built once for each engine in a session, and copied or shared by the tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from tests.e2e.shop import TIMEOUT, Ran
from tests.environments import clean_environ
from tests.samples import Repository, quick_ci_defer

LOG = "models/marts/payments_log.sql"
PROJECT = """\
name: ledger
version: "1.0"
profile: ledger
flags:
  send_anonymous_usage_stats: false
models:
  ledger:
    staging:
      +materialized: view
    marts:
      +materialized: table
      +schema: marts
"""
FILES = {
    ".gitignore": "target/\nlogs/\n*.duckdb\n*.duckdb.wal\n.user.yml\n",
    "seeds/raw_payments.csv": "id,account,amount\n1,ada,10\n2,bram,20\n3,ada,30\n",
    "models/staging/stg_payments.sql": (
        "select id, account, amount from {{ ref('raw_payments') }}\n"
    ),
    "models/marts/balances.sql": (
        "select account, sum(amount) as balance from {{ ref('stg_payments') }} group by account\n"
    ),
    LOG: """\
{{ config(materialized='incremental') }}
select id, amount, '{{ 'increment' if is_incremental() else 'full' }}' as came_with
from {{ ref('stg_payments') }}
{% if is_incremental() %}
where id > (select max(id) from {{ this }})
{% endif %}
""",
    "models/marts/report.sql": "select count(*) as payments from {{ ref('payments_log') }}\n",
}

DEFER = ("--target", "ci", "--pr-schema", "ci_pr_{number}")

# Where a relation is, and what it is called.
Key = tuple[str, str]
# Whether it is a table or a view, and its rows in a fixed order.
Content = tuple[str, list[tuple[Any, ...]]]


class Warehouse(Protocol):
    """A database with production in it, of which this test has its own part.

    `production` is production's schema; everything that production has carries that name.
    """

    @property
    def production(self) -> str: ...

    @property
    def dbt(self) -> Path:
        """The folder of a `dbt` with the adapter."""
        ...

    def output(self, schema: str) -> dict[str, Any]:
        """A target of a profile."""
        ...

    def environ(self) -> Mapping[str, str]:
        """What the profile takes from the environment, the password above all."""
        ...

    def contents(self) -> dict[Key, Content]:
        """All relations of this test's part."""
        ...

    def schemas(self) -> set[str]:
        """All schemas of this test's part."""
        ...

    def execute(self, *statements: str) -> None: ...


@dataclass(frozen=True)
class Ledger:
    """One checkout of the project, on a warehouse."""

    root: Path
    warehouse: Warehouse
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def project(self) -> Path:
        return self.root / "repository"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def repository(self) -> Repository:
        return Repository(self.project, cloned=True)

    def environ(self) -> dict[str, str]:
        """The environment of every command."""
        (self.root / "tmp").mkdir(exist_ok=True)
        return {
            **clean_environ(self.root / "home", self.warehouse.dbt),
            **self.warehouse.environ(),
            "TMPDIR": str(self.root / "tmp"),
            **self.more,
        }

    def write(self, path: str, text: str) -> None:
        (self.project / path).parent.mkdir(parents=True, exist_ok=True)
        (self.project / path).write_text(text, encoding="utf-8")

    def build_production(self) -> None:
        """main: the project, its production and the published state."""
        self.root.mkdir()
        outputs = {
            "prod": self.warehouse.output(self.warehouse.production),
            # Nothing is to be built there: pull requests have schemas of their own.
            "ci": self.warehouse.output("nobody"),
        }
        profile = {"ledger": {"target": "prod", "outputs": outputs}}
        Repository(self.project)
        # JSON is YAML.
        files = {**FILES, "dbt_project.yml": PROJECT, "profiles.yml": json.dumps(profile)}
        for path, text in files.items():
            self.write(path, text)
        self.repository.run("add", "--all")
        self.repository.run("commit", "--quiet", "--message", "The ledger")
        built = self.run(str(self.warehouse.dbt / "dbt"), "build", "--target", "prod")
        assert built.exit_code == 0, built.output
        onboarded = self.ci_defer("onboard", "--target", "prod", "--pr-target", "ci")
        assert onboarded.exit_code == 0, onboarded.output

    def pull_request(self, number: int, path: str, old: str, new: str) -> Ledger:
        """Another checkout with a branch that changes one file, as GitHub would run it."""
        other = Ledger(self.root.parent / f"pull-request-{number}", self.warehouse)
        other.root.mkdir()
        self.repository.run("clone", "--quiet", str(self.project), str(other.project))
        (other.root / "store").symlink_to(self.store)
        other.repository.run("switch", "--quiet", "--create", f"change-{number}")
        text = (other.project / path).read_text(encoding="utf-8")
        assert text.count(old) == 1
        other.write(path, text.replace(old, new))
        other.repository.run("commit", "--quiet", "--all", "--message", f"Change {number}")
        return other.on_event(number, "synchronize")

    def on_event(self, number: int, action: str, branch: str = "") -> Ledger:
        """The same checkout in a run that an event of a pull request has started."""
        payload = {
            "action": action,
            "pull_request": {
                "number": number,
                "head": {"ref": branch or f"change-{number}", "sha": self._commit("HEAD")},
                "base": {"ref": "main", "sha": self._commit("origin/main")},
            },
        }
        file = self.root / f"{action}.json"
        file.write_text(json.dumps(payload), encoding="utf-8")
        more = {"GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": str(file)}
        return replace(self, more={**self.more, **more})

    def _commit(self, name: str) -> str:
        return self.repository.run("rev-parse", name)

    def with_environ(self, **more: str) -> Ledger:
        return replace(self, more={**self.more, **more})

    def defer(self, *arguments: str) -> Ran:
        """`ci-defer defer` as the README's workflow runs it."""
        return self.ci_defer("defer", *DEFER, *arguments)

    @contextmanager
    def deferring(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """The same, while it runs: as a process of its own, whose signals are not ignored."""
        command = [sys.executable, "-m", "ci_defer", "defer", "--state", str(self.store), *DEFER]
        with subprocess.Popen(
            [*command, *arguments],
            cwd=self.project,
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def close(self, number: int, *arguments: str) -> Ran:
        """`ci-defer cleanup` when the pull request is closed."""
        closed = self.on_event(number, "closed")
        return closed.ci_defer("cleanup", "--target", "ci", *arguments)

    def ci_defer(self, command: str, *arguments: str) -> Ran:
        return self.run(quick_ci_defer(), command, "--state", str(self.store), *arguments)

    def run(self, *command: str) -> Ran:
        done = subprocess.run(
            command,
            cwd=self.project,
            env=self.environ(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def report(self) -> dict[str, Any]:
        path = self.project / "target" / "ci-defer" / "report.json"
        return dict(json.loads(path.read_text(encoding="utf-8")))

    # What is in the warehouse.

    def production(self) -> dict[Key, Content]:
        """What production has, every row of it."""
        found = self.warehouse.contents()
        return {key: value for key, value in found.items() if self._is_production(key[0])}

    def others(self) -> dict[Key, Content]:
        """All that is not production's."""
        found = self.warehouse.contents()
        return {key: value for key, value in found.items() if not self._is_production(key[0])}

    def other_schemas(self) -> set[str]:
        return {name for name in self.warehouse.schemas() if not self._is_production(name)}

    def left_on_disk(self) -> list[Path]:
        """What is left in the folder for temporary files."""
        return sorted((self.root / "tmp").rglob("*"))

    def _is_production(self, schema: str) -> bool:
        prefix = self.warehouse.production
        return schema == prefix or schema.startswith(f"{prefix}_")
