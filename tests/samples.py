"""Small real things that the fast tests work with: artifacts, repositories, a program named dbt."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ci_defer.bundle import Bundle, Origin, pack
from ci_defer.dbt.commands import CommandEngine, DbtSettings
from ci_defer.dbt.process import Interrupts
from ci_defer.git import Git
from ci_defer.log import Console
from ci_defer.project import Project
from ci_defer.reparse import EngineFor
from tests.environments import clean_environ
from tests.harness import warm_ci_defer
from tests.harness.fork_server import forked

PROJECT = "shop"
COMMIT = "a" * 40
CREATED_AT = "2026-01-02T03:04:05+00:00"
MANIFEST_URL = "https://schemas.getdbt.com/dbt/manifest/v{}.json"
RESULTS_URL = "https://schemas.getdbt.com/dbt/run-results/v{}.json"


def node(unique_id: str, **more: Any) -> dict[str, Any]:
    """A node of a manifest, as dbt writes it; the id says type, package and name."""
    resource_type, package, name = unique_id.split(".", 2)
    basic = {
        "unique_id": unique_id,
        "name": name,
        "resource_type": resource_type,
        "package_name": package,
        "original_file_path": f"models/{name}.sql",
        "relation_name": f'"db"."prod"."{name}"',
        "config": {"materialized": "table"},
        "depends_on": {"nodes": [], "macros": []},
    }
    return {**basic, **more}


def manifest(
    nodes: Iterable[Mapping[str, Any]] = (), *, project: str = PROJECT, version: int = 12
) -> dict[str, Any]:
    """A manifest.json."""
    return {
        "metadata": {
            "dbt_schema_version": MANIFEST_URL.format(version),
            "dbt_version": "1.11.0",
            "project_name": project,
            "adapter_type": "duckdb",
        },
        "nodes": {item["unique_id"]: item for item in nodes},
    }


def run_results(
    statuses: Mapping[str, str] | None = None, *, which: str = "build", **args: Any
) -> dict[str, Any]:
    """A run_results.json; `statuses` goes from unique id to dbt's word. A node takes 2 s."""
    return {
        "metadata": {"dbt_schema_version": RESULTS_URL.format(6), "dbt_version": "1.11.0"},
        "args": {"which": which, "target": "prod", **args},
        "results": [
            {"unique_id": unique_id, "status": status, "execution_time": 2.0}
            for unique_id, status in (statuses or {}).items()
        ],
    }


def write_artifacts(folder: Path, **documents: Any) -> Path:
    """Write each document to `<name>.json`: JSON, or the text itself when it is one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        content = document if isinstance(document, str) else json.dumps(document)
        (folder / f"{name}.json").write_text(content, encoding="utf-8")
    return folder


def packed(
    tmp_path: Path,
    *models: str,
    commit: str = COMMIT,
    project: str = PROJECT,
    target: str = "prod",
    **origin: str,
) -> Bundle:
    """A bundle with these models, all of them built by production's own run.

    `origin` has fields of Origin.
    """
    number = len(list(tmp_path.glob("packed-*")))
    nodes = [node(f"model.{project}.{name}") for name in models]
    artifacts = write_artifacts(
        tmp_path / f"artifacts-{number}",
        manifest=manifest(nodes, project=project),
        run_results=run_results({item["unique_id"]: "success" for item in nodes}, target=target),
    )
    to = tmp_path / f"packed-{number}"
    to.mkdir()
    return pack(
        artifacts,
        to,
        project=project,
        project_name=project,
        origin=Origin(commit=commit, **origin),
        created_at=CREATED_AT,
        target=None,
    )


def content(folder: Path) -> dict[str, bytes]:
    """All files below `folder`, and what is in them."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


class Repository:
    """A git repository in `path`, and the way to drive it. The first branch is `main`."""

    def __init__(self, path: Path, *, cloned: bool = False) -> None:
        self.path = path
        self.environ = clean_environ(path.parent)
        if not cloned:
            path.mkdir(parents=True, exist_ok=True)
            self.run("init", "--quiet", "--initial-branch", "main")

    def run(self, *arguments: str) -> str:
        identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
        done = subprocess.run(
            ["git", *identity, *arguments],
            cwd=self.path,
            env=self.environ,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def commit(self, name: str) -> str:
        """Commit a new file, and return the id of the commit."""
        (self.path / name).write_text(name, encoding="utf-8")
        self.run("add", "--all")
        self.run("commit", "--quiet", "--message", name)
        return self.run("rev-parse", "HEAD")

    def branch(self, name: str, start: str = "HEAD") -> None:
        self.run("switch", "--quiet", "--create", name, start)

    def merge(self, *names: str) -> str:
        self.run("merge", "--quiet", "--no-ff", "--no-edit", *names)
        return self.run("rev-parse", "HEAD")

    def clone(self, path: Path, *options: str) -> Repository:
        self.run("clone", "--quiet", *options, self.path.as_uri(), str(path))
        return Repository(path, cloned=True)

    def checked_out(self, path: Path, ref: str) -> Repository:
        """What actions/checkout makes by default: one commit, detached, no history."""
        clone = Repository(path)
        clone.run("fetch", "--quiet", "--depth=1", self.path.as_uri(), ref)
        clone.run("checkout", "--quiet", "--detach", "FETCH_HEAD")
        return clone

    @property
    def git(self) -> Git:
        return Git(self.path, self.environ)


@functools.cache
def quick_ci_defer() -> str:
    """A program `ci-defer` that starts quickly, for as long as this process: see warm_ci_defer."""
    until_the_end = contextlib.ExitStack()
    atexit.register(until_the_end.close)
    folder = Path(until_the_end.enter_context(tempfile.TemporaryDirectory()))
    recipe = Path(warm_ci_defer.__file__)
    server = forked(folder, "ci-defer", Path(sys.executable), recipe, tuple)
    return str(until_the_end.enter_context(server) / "ci-defer")


def write_program(path: Path, body: str) -> Path:
    """A program that sh runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


class FakeDbt:
    """A program `dbt` in a folder of its own: it records how it was called, and runs a script.

    The script is `<command>.py` in the folder, when there is one; it finds the folder in `here`
    and the target path in `target`. What it prints and its exit code are those of dbt.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_program(
            folder / "dbt", f'exec {shlex.quote(sys.executable)} -I "{folder}/main.py" "$@"'
        )
        (folder / "main.py").write_text(FAKE_DBT, encoding="utf-8")

    @property
    def path(self) -> str:
        """A PATH with this dbt and the system's programs."""
        return f"{self.folder}{os.pathsep}{os.environ['PATH']}"

    def on(self, command: str, script: str) -> None:
        """What `dbt <command>` does from now on, in Python."""
        (self.folder / f"{command}.py").write_text(script, encoding="utf-8")

    def lists(self, *unique_ids: str, nodes: Iterable[Mapping[str, Any]] = ()) -> None:
        """`dbt ls` selects these, and writes a manifest with `nodes`."""
        listing = "".join(json.dumps({"unique_id": item}) + "\n" for item in unique_ids)
        self.on("ls", f"{_writing(manifest=manifest(nodes))}print({listing!r}, end='')\n")

    def builds(
        self,
        statuses: Mapping[str, str],
        *,
        nodes: Iterable[Mapping[str, Any]] = (),
        exit_code: int = 0,
    ) -> None:
        """`dbt build` has these results."""
        wrote = _writing(manifest=manifest(nodes), run_results=run_results(statuses))
        self.on("build", f"{wrote}raise SystemExit({exit_code})\n")

    def parses(self, document: Mapping[str, Any]) -> None:
        self.on("parse", _writing(manifest=document))

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of each call, the first one first."""
        return [call["argv"] for call in self._records()]

    @property
    def environs(self) -> list[dict[str, str]]:
        return [call["environ"] for call in self._records()]

    def _records(self) -> list[dict[str, Any]]:
        file = self.folder / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _writing(**documents: Any) -> str:
    return "".join(
        f"(target / '{name}.json').write_text({json.dumps(document)!r})\n"
        for name, document in documents.items()
    )


FAKE_DBT = """
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as file:
    file.write(json.dumps({"argv": sys.argv[1:], "environ": dict(os.environ)}) + "\\n")
target = pathlib.Path(sys.argv[sys.argv.index("--target-path") + 1])
target.mkdir(exist_ok=True)
script = here / (sys.argv[1] + ".py")
if script.exists():
    exec(script.read_text())
"""


def engines(
    working_directory: Path,
    environ: Mapping[str, str],
    console: Console,
    interrupts: Interrupts | None = None,
) -> EngineFor:
    """Engines of the dbt on the PATH of `environ`, for any checkout and target."""

    def engine_for(checkout: Project, target: str | None) -> CommandEngine:
        return CommandEngine(
            DbtSettings(
                project_dir=checkout.directory,
                target_path=checkout.target_path,
                working_directory=working_directory,
                target=target,
            ),
            environ=environ,
            console=console,
            interrupts=interrupts or Interrupts(),
        )

    return engine_for


class Log:
    """A console that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.moved: dict[str, list[int]] = {}
        self.passed = b""

    @property
    def warnings(self) -> list[str]:
        found = (line for line in self.lines if line.startswith("warning: "))
        return [line.removeprefix("warning: ") for line in found]

    def info(self, text: str) -> None:
        self.lines.append(text)

    @contextlib.contextmanager
    def progress(self, doing: str, total: int) -> Iterator[Callable[[int], None]]:
        moved: list[int] = []
        self.moved[doing] = moved
        yield moved.append
        assert sum(moved) == total

    def warning(self, text: str) -> None:
        self.lines.append(f"warning: {text}")

    @contextlib.contextmanager
    def passthrough(self) -> Iterator[Callable[[bytes], None]]:
        def write(chunk: bytes) -> None:
            self.passed += chunk

        yield write
