"""What the runs start from: a repository on its way, production in a DuckDB file, and states.

The history is one that people have: production was built at commit A. Pull request 7 started from
A and changes the body of one staging model. Since then main has gone on by three commits, which
change ten other models. A second branch, also from A, changes nothing but the README.

Building all of production takes minutes for thousands of views, and nobody reads most of them. So
production has all raw tables and seeds, and of the models those that the runs read or replace: the
changed ones, all that is below them, and all that those read (dbt's selector `@`). No run is helped
by that: what dbt lists of the schema is a little shorter for all of them. Production's manifest is
of all models, made by `ci-defer onboard` with target prod.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from benchmarks.measure import Failed
from benchmarks.project import (
    RAW_SCHEMA,
    WAREHOUSE_VARIABLE,
    Project,
    make_project,
    raw_table_sql,
)
from ci_defer.bundle import MANIFEST, SAVED_PARSE, STATE, Bundle, encode_state
from ci_defer.runner import Runner
from ci_defer.stores.bundles import BundleStore
from ci_defer.stores.directory import Directory
from tests.environments import DBT_VERSIONS, ROOT, clean_environ, dbt_bin, network

PROJECT_DIR = "transform"
PULL_REQUEST = 7
CHANGED, UNTOUCHED = "change-a-model", "change-the-readme"
# How many other models each commit on main changes.
COMMITS_ON_MAIN = (4, 3, 3)
PARTIAL_PARSE = "partial_parse.msgpack"

# The DuckDB of dbt v2 is older than that of dbt-duckdb, and reads no files of the newer one. Each
# table has blocks of its own: with usual ones, thousands of them would take half a gigabyte.
MAKE_WAREHOUSE = """
import duckdb, sys
connection = duckdb.connect()
options = "storage_version 'v1.2.0', block_size 16384"
connection.execute(f"attach '{sys.argv[1]}' as warehouse ({options})")
connection.execute("use warehouse")
connection.execute(sys.stdin.read())
connection.close()
"""


@dataclass(frozen=True)
class Place:
    """One project with one dbt, below the folder `root`. `home` is shared, for its caches."""

    root: Path
    home: Path
    dbt: str
    models: int

    @cached_property
    def project(self) -> Project:
        return make_project(self.models)

    @property
    def changed(self) -> str:
        """The model that the pull request changes."""
        return self.project.usual_change()

    @property
    def repository(self) -> Path:
        return self.root / "repository"

    @property
    def checkout(self) -> Path:
        """Where every run has its clone: partial parses and caches know the path."""
        return self.root / "checkout"

    @property
    def folder(self) -> Path:
        """The dbt project in the checkout."""
        return self.checkout / PROJECT_DIR

    @property
    def target(self) -> Path:
        return self.folder / "target"

    @property
    def production(self) -> Path:
        """The warehouse as production has left it. Each run has a copy of it."""
        return self.root / "production.duckdb"

    @property
    def warehouse(self) -> Path:
        return self.root / "warehouse.duckdb"

    @property
    def action(self) -> Path:
        """Where the runner has downloaded the action to."""
        return self.root / "action"

    @property
    def store(self) -> Path:
        """Where `ci-defer onboard` has published commit A."""
        return self.root / "store"

    @property
    def store_without_partial_parse(self) -> Path:
        return self.root / "store-without-partial-parse"

    @property
    def state_of_production(self) -> Path:
        """The manifest of commit A, target prod, as `dbt --state` takes it."""
        return self.root / "state-of-production"

    @property
    def state_of_main(self) -> Path:
        """The same of the newest commit of main: what a workflow with 'the latest' finds."""
        return self.root / "state-of-main"

    @property
    def partial_parse(self) -> Path:
        """Of the newest commit of main, target ci, made at the path of the checkout."""
        return self.root / PARTIAL_PARSE

    @property
    def log(self) -> Path:
        """What the last program said."""
        return self.root / "log.txt"

    @property
    def runner_temp(self) -> Path:
        return self.root / "runner-temp"

    @property
    def lock(self) -> Path:
        """What the environment of this dbt was installed from."""
        return ROOT / "requirements" / f"dbt-{self.dbt}.txt"

    def environ(self, *, with_dbt: bool = True, **more: str) -> dict[str, str]:
        """The environment of every program: nothing of ours but where Python is, and dbt.

        Without dbt for those who install their own: its environment has a Python without pip.
        """
        # A python3 of a version manager may be a script that needs the home directory.
        python = Path(sys.base_prefix, "bin")
        programs = [dbt_bin(self.dbt), python] if with_dbt else [python]
        return {
            **network(),
            **clean_environ(self.home, *programs),
            WAREHOUSE_VARIABLE: str(self.warehouse),
            **more,
        }

    def job(self, branch: str, *, with_dbt: bool = True, **settings: str) -> dict[str, str]:
        """The environment of a job of the pull request on GitHub, without a token.

        `settings` are those of ci-defer, in capitals.
        """
        self.runner_temp.mkdir(exist_ok=True)
        payload = {
            "action": "synchronize",
            "pull_request": {
                "number": PULL_REQUEST,
                "head": {"ref": branch, "sha": self.git("rev-parse", branch)},
                "base": {"ref": "main", "sha": self.git("rev-parse", "main")},
            },
        }
        event = self.runner_temp / "event.json"
        event.write_text(json.dumps(payload), encoding="utf-8")
        return self.environ(
            with_dbt=with_dbt,
            GITHUB_ACTIONS="true",
            GITHUB_EVENT_NAME="pull_request",
            GITHUB_EVENT_PATH=str(event),
            GITHUB_BASE_REF="main",
            GITHUB_REF=f"refs/pull/{PULL_REQUEST}/merge",
            GITHUB_OUTPUT=str(self.runner_temp / "output"),
            GITHUB_STEP_SUMMARY=str(self.runner_temp / "summary.md"),
            RUNNER_TEMP=str(self.runner_temp),
            CI_DEFER_PROJECT_DIR=PROJECT_DIR,
            **{f"CI_DEFER_{name}": value for name, value in settings.items()},
        )

    def clone(self, branch: str) -> None:
        """Make the checkout anew, at the tip of a branch, with nothing left of an earlier run."""
        for folder in (self.checkout, self.runner_temp):
            shutil.rmtree(folder, ignore_errors=True)
        self.run(self.root, "git", "clone", "--quiet", "--branch", branch, "repository", "checkout")
        shutil.copyfile(self.production, self.warehouse)

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=Benchmark", "-c", "user.email=benchmark@ci-defer.invalid")
        return self.run(self.repository, "git", *identity, *arguments).strip()

    def run(
        self, folder: Path, *command: str, stdin: str = "", environ: dict[str, str] | None = None
    ) -> str:
        """Run a program that is not measured, and return what it wrote. Raises Failed."""
        done = subprocess.run(
            command,
            cwd=folder,
            env=environ or self.environ(),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Failed(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout


def prepare(place: Place) -> None:
    """Make the repository up to commit A, production, and what is published of it.

    Then main goes on, and the two branches are there. What was there before is gone.
    """
    shutil.rmtree(place.root, ignore_errors=True)
    place.root.mkdir(parents=True)
    place.home.mkdir(exist_ok=True)
    place.project.write(place.repository / PROJECT_DIR)
    (place.repository / "README.md").write_text("The benchmark's project.\n", encoding="utf-8")
    place.git("init", "--quiet", "--initial-branch", "main")
    _commit(place, "Commit A")
    _make_warehouse(place)
    place.clone("main")
    _build_production(place)
    _onboard(place)
    _go_on(place)


def add_state_of_main(place: Place) -> None:
    """Parse the newest commit of main for production: what 'the latest manifest' is."""
    place.clone("main")
    place.run(place.folder, "dbt", "parse", "--target", "prod")
    _keep_manifest(place, place.state_of_main)


def add_partial_parse(place: Place) -> None:
    """Parse the newest commit of main for target ci."""
    place.clone("main")
    place.run(place.folder, "dbt", "parse", "--target", "ci")
    shutil.copyfile(place.target / PARTIAL_PARSE, place.partial_parse)


def add_store_without_partial_parse(place: Place) -> None:
    """Publish commit A a second time, without a partial parse in `compare/`, if there is one."""
    commit = place.git("rev-parse", f"{CHANGED}~1")
    with contextlib.ExitStack() as stack:
        to = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # The standard output is for the tables.
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        log = Runner({})
        source = BundleStore(Directory(place.store), "benchmark", log=log)
        found = next(iter(source.commits(commit)))
        provenance = source.get(found, to, project_name="benchmark").provenance
        if provenance is None:
            raise Failed(f"The state of {commit} has no provenance.")
        files = {name: file for name, file in provenance.files.items() if name not in SAVED_PARSE}
        provenance = msgspec.structs.replace(provenance, files=files, saved_parse=None)
        (to / STATE).write_bytes(encode_state(provenance))
        other = BundleStore(Directory(place.store_without_partial_parse), "benchmark", log=log)
        other.put(Bundle(to, provenance))


def _make_warehouse(place: Place) -> None:
    statements = [f"create schema {RAW_SCHEMA}", *map(raw_table_sql, place.project.raw_tables)]
    python = dbt_bin(DBT_VERSIONS[-1]) / "python"
    place.run(
        place.root,
        *(str(python), "-c", MAKE_WAREHOUSE, str(place.production)),
        stdin="".join(f"{statement};\n" for statement in statements),
    )


def _build_production(place: Place) -> None:
    others = place.project.others(place.changed, sum(COMMITS_ON_MAIN))
    wanted = [f"@{name}" for name in (place.changed, *others)]
    place.run(place.folder, "dbt", "seed", "--target", "prod")
    place.run(place.folder, "dbt", "run", "--target", "prod", "--select", *wanted)
    shutil.copyfile(place.warehouse, place.production)
    shutil.rmtree(place.target)


def _onboard(place: Place) -> None:
    """As the job on main does it. Leaves in `target/` the manifest that it has published."""
    environ = place.environ(
        GITHUB_EVENT_NAME="push",
        GITHUB_REF="refs/heads/main",
        GITHUB_REF_NAME="main",
        CI_DEFER_PROJECT_DIR=PROJECT_DIR,
        CI_DEFER_STATE=str(place.store),
    )
    targets = ("--target", "prod", "--pr-target", "ci")
    command = (*ci_defer("onboard"), *targets)
    place.run(place.checkout, *command, environ=environ)
    _keep_manifest(place, place.state_of_production)


def ci_defer(mode: str) -> tuple[str, ...]:
    """The command of this checkout's ci-defer, as the action runs it."""
    return (sys.executable, "-I", "-m", "ci_defer", "--", mode)


def _keep_manifest(place: Place, to: Path) -> None:
    to.mkdir()
    shutil.copyfile(place.target / MANIFEST, to / MANIFEST)


def _go_on(place: Place) -> None:
    """Main by three commits, and the two branches from commit A."""
    place.git("switch", "--quiet", "--create", CHANGED)
    _change(place, [place.changed])
    place.git("switch", "--quiet", "--create", UNTOUCHED, "main")
    (place.repository / "README.md").write_text("The project of the benchmark.\n", encoding="utf-8")
    _commit(place, "Change the README")
    place.git("switch", "--quiet", "main")
    others = iter(place.project.others(place.changed, sum(COMMITS_ON_MAIN)))
    for count in COMMITS_ON_MAIN:
        _change(place, [next(others) for _ in range(count)])


def _change(place: Place, names: list[str]) -> None:
    for name in names:
        path, text = place.project.changed(name)
        (place.repository / PROJECT_DIR / path).write_text(text, encoding="utf-8")
    _commit(place, f"Change {', '.join(names)}")


def _commit(place: Place, message: str) -> None:
    place.git("add", "--all")
    place.git("commit", "--quiet", "--message", message)
