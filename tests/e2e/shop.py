"""The tea shop: a small but complete dbt project, with production built and published once.

`make_production` writes the project, commits it on main, runs production's `dbt build` and
`ci-defer onboard`; that takes seconds, so it is done once for each version of dbt in a session
and copied for each test (`Shop.copy`). Nothing in it knows where it is: the DuckDB file is named
relative to the project, which is the folder that dbt runs in.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ci_defer.bundle import MANIFEST, STATE, decode_state
from ci_defer.stores.compression import SUFFIX, decompressed
from tests.e2e.once import made_once
from tests.e2e.shop_files import FILES
from tests.environments import DBT_VERSIONS, clean_environ, dbt_bin
from tests.samples import quick_ci_defer

# No test is made to wait this long: it only ends a run that hangs.
TIMEOUT = 240

DOT_ALL = re.MULTILINE | re.DOTALL

WAREHOUSE = "warehouse.duckdb"


def python_with_duckdb() -> Path:
    """The interpreter of a dbt with dbt-duckdb. Both versions have the same duckdb."""
    return dbt_bin(DBT_VERSIONS[-1]) / "python"


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr

    @property
    def ours(self) -> str:
        """What ci-defer itself says. Told from dbt's output by the lines around that on Actions."""
        return re.sub(r"^::stop-commands::(\w+)\n.*?^::\1::\n", "", self.output, flags=DOT_ALL)

    @property
    def errors(self) -> list[str]:
        """The annotations of a run on Actions; the lines that stand for them in a terminal."""
        annotations = [line for line in self.output.splitlines() if line.startswith("::error")]
        return annotations or re.findall(r"^Error: .*", self.stderr, flags=re.MULTILINE)


@dataclass(frozen=True)
class Shop:
    """One copy of the repository, its warehouse and its store.

    `root` holds `repository/`, `store/` and `home/`; the dbt project is the repository. `dbt` is
    the folder of the `dbt` on the PATH.
    """

    root: Path
    dbt: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def project(self) -> Path:
        return self.root / "repository"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def warehouse(self) -> Path:
        return self.project / WAREHOUSE

    @property
    def target(self) -> Path:
        return self.project / "target"

    def copy(self, to: Path) -> Shop:
        """The same shop in the new folder `to`."""
        shutil.copytree(self.root, to, symlinks=True)
        return dataclasses.replace(self, root=to)

    def with_dbt(self, folder: Path) -> Shop:
        return dataclasses.replace(self, dbt=folder)

    def with_environ(self, **environ: str) -> Shop:
        return dataclasses.replace(self, environ={**self.environ, **environ})

    def full_environ(self) -> dict[str, str]:
        """The environment of every command: nothing of this job but where dbt and git are."""
        return {**clean_environ(self.root / "home", self.dbt), **self.environ}

    # The files of the repository.

    def read(self, path: str) -> str:
        return (self.project / path).read_text(encoding="utf-8")

    def write(self, path: str, text: str) -> None:
        (self.project / path).parent.mkdir(parents=True, exist_ok=True)
        (self.project / path).write_text(text, encoding="utf-8")

    def replace(self, path: str, old: str, new: str) -> None:
        """Replace `old`, which must stand in the file exactly once."""
        text = self.read(path)
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path}"
        self.write(path, text.replace(old, new))

    def remove(self, path: str) -> None:
        (self.project / path).unlink()

    def move(self, path: str, to: str) -> None:
        (self.project / to).parent.mkdir(parents=True, exist_ok=True)
        (self.project / path).rename(self.project / to)

    # git

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=Test", "-c", "user.email=test@ci-defer.invalid")
        return self._run("git", *identity, *arguments, check=True).stdout.strip()

    def commit(self, message: str = "Change") -> str:
        """Commit everything, and return the object id."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def branch(self, name: str = "pull-request", start: str = "HEAD") -> None:
        self.git("switch", "--quiet", "--create", name, start)

    def pull_request(self, edit: Callable[[Shop], None]) -> str:
        """Commit what `edit` does on a new branch."""
        self.branch()
        edit(self)
        return self.commit()

    # dbt and ci-defer

    def run_dbt(self, *arguments: str) -> Ran:
        return self._run(str(self.dbt / "dbt"), *arguments)

    def ci_defer(self, *arguments: str) -> Ran:
        return self._run(quick_ci_defer(), *arguments)

    def defer(self, *arguments: str) -> Ran:
        """`ci-defer defer` as a pull request runs it."""
        return self.ci_defer("defer", "--state", str(self.store), "--target", "ci", *arguments)

    def onboard(self, *arguments: str) -> Ran:
        """`ci-defer onboard` as production runs it."""
        targets = ("--target", "prod", "--pr-target", "ci")
        return self.ci_defer("onboard", "--state", str(self.store), *targets, *arguments)

    def build_production(self) -> Ran:
        """Production's own run, on whatever is checked out."""
        return self.run_dbt("build", "--target", "prod", "--quiet")

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements on the warehouse, and return the rows of the last one."""
        program = (
            "import duckdb, json, sys\n"
            f"connection = duckdb.connect({str(self.warehouse)!r})\n"
            "rows = []\n"
            "for statement in sys.argv[1:]:\n"
            "    rows = connection.execute(statement).fetchall()\n"
            "print(json.dumps(rows, default=str))\n"
        )
        ran = self.run_python(python_with_duckdb(), program, *statements)
        return [tuple(row) for row in json.loads(ran.stdout)]

    def run_python(self, python: Path, program: str, *arguments: str) -> Ran:
        return self._run(str(python), "-c", program, *arguments, check=True)

    # What they wrote.

    def report(self) -> dict[str, Any]:
        return _json(self.target / "ci-defer" / "report.json")

    def summary(self) -> str:
        return (self.target / "ci-defer" / "summary.md").read_text(encoding="utf-8")

    def run_results(self) -> dict[str, Any]:
        return _json(self.target / "run_results.json")

    def manifest(self) -> dict[str, Any]:
        return _json(self.target / "manifest.json")

    def bundle(self) -> dict[str, Path]:
        """The files of the one published state, by the name dbt knows them by: copies of them."""
        state = self.stored(STATE)
        # A new folder each time: two workers may ask the same production.
        to = Path(tempfile.mkdtemp(prefix="published-", dir=self.root))
        shutil.copyfile(state, to / STATE)
        for name, record in decode_state(state).files.items():
            (to / name).parent.mkdir(exist_ok=True)
            chunks = [self.stored(f"{name}{SUFFIX}").read_bytes()]
            (to / name).write_bytes(b"".join(decompressed(chunks, record.size)))
        return {path.name: path for path in to.iterdir() if path.is_file()}

    def stored(self, name: str) -> Path:
        """The one file of this name in the store, where it lies."""
        found = (self.store / "shop").rglob(name.rpartition("/")[2])
        (path,) = (path for path in found if ("compare" in path.parts) == ("compare/" in name))
        return path

    def plain_state(self, to: Path) -> Path:
        """A plain directory with the published manifest, as bare dbt takes it."""
        to.mkdir()
        shutil.copyfile(self.bundle()[MANIFEST], to / MANIFEST)
        return to

    def _run(self, *command: str, check: bool = False) -> Ran:
        done = subprocess.run(
            command,
            cwd=self.project,
            env=self.full_environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
        ran = Ran(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert not check or ran.exit_code == 0, f"{command} failed:\n{ran.output}"
        return ran


def production(shared: Path, version: str) -> Path:
    """The folder of the shop as production left it with a version of dbt. To be copied."""
    return made_once(
        shared / f"shop-{version.replace('.', '-')}",
        lambda folder: make_production(Shop(folder, dbt_bin(version))),
    )


# Two commands of one process, as dbt takes seconds to start.
PRODUCTION = """
from dbt.cli.main import dbtRunner
build = ["build", "--target", "prod"]
parse = ["parse", "--target", "ci", "--target-path", "parsed"]
for command in (build, parse):
    done = dbtRunner().invoke(["--quiet", *command])
    assert done.success, done.exception
"""


def make_production(shop: Shop) -> None:
    """Write the project, commit it on main, build production and publish its state.

    Leaves a `target/` with nothing but the partial parse of target ci, for both sides to start
    from: dbt throws it away where it does not fit.
    """
    write_project(shop)
    shop.run_python(shop.dbt / "python", PRODUCTION)
    published = shop.onboard()
    assert published.exit_code == 0, published.output
    shutil.rmtree(shop.target)
    shop.target.mkdir()
    parsed = shop.project / "parsed"
    (parsed / "partial_parse.msgpack").rename(shop.target / "partial_parse.msgpack")
    shutil.rmtree(parsed)
    shutil.rmtree(shop.project / "logs", ignore_errors=True)


def write_project(shop: Shop) -> None:
    """The repository with its first commit on main, and a warehouse with the source's table."""
    (shop.root / "home").mkdir(parents=True)
    for path, text in FILES.items():
        shop.write(path, text)
    shop.git("init", "--quiet", "--initial-branch", "main")
    shop.commit("The tea shop")
    shop.sql(
        "create schema erp",
        "create table erp.deliveries as select * from (values (1, true), (2, false), (3, true)) "
        "as delivery(order_id, is_on_time)",
    )


def statuses(run_results: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(unique id, status) of each result in a run_results.json."""
    return {(result["unique_id"], result["status"]) for result in run_results["results"]}


def report_statuses(report: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(unique id, status) of each node of a report that dbt had a result for."""
    return {(node["unique_id"], node["status"]) for node in report["nodes"] if node["status"]}


def node(report: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The one node of a report with this name."""
    (found,) = [item for item in report["nodes"] if item["name"] == name]
    return dict(found)


def names(items: Iterable[Mapping[str, Any]]) -> set[str]:
    return {item["name"] for item in items}


def outputs(path: Path) -> dict[str, str]:
    """The outputs in a GITHUB_OUTPUT file: `name<<delimiter`, value, delimiter."""
    found: dict[str, str] = {}
    lines = iter(path.read_text(encoding="utf-8").splitlines())
    for line in lines:
        name, _, delimiter = line.partition("<<")
        value = []
        for part in lines:
            if part == delimiter:
                break
            value.append(part)
        found[name] = "\n".join(value)
    return found


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
