"""The demo: onboard, change a model on a branch, defer. The real use-cases on a small project.

Needs dbt-duckdb (the extra `demo`) and git; uses no credentials and no network. The project
ships in `demo_project/` beside this file.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ci_defer.bundle import ParsedWith
from ci_defer.choices import IfNoState
from ci_defer.comparable import Comparing
from ci_defer.dbt import Engine, Selection
from ci_defer.dbt.commands import DbtSettings
from ci_defer.dbt.driver import DriverEngine
from ci_defer.dbt.process import Interrupts
from ci_defer.defer import DeferSettings, defer
from ci_defer.errors import ConfigurationError
from ci_defer.event import Event
from ci_defer.git import Git
from ci_defer.log import Console
from ci_defer.onboard import onboard
from ci_defer.profiles import PROFILES_FILE, own_schema
from ci_defer.project import Project, read_project
from ci_defer.reparse import EngineFor
from ci_defer.report import Report
from ci_defer.stores.bundles import BundleStore
from ci_defer.stores.directory import Directory

SHIPPED = Path(__file__).parent / "demo_project"
AUTHOR, EMAIL = "ci-defer demo", "demo@ci-defer.invalid"
BRANCH = "ignore-test-rides"


def demo(
    directory: Path | None,
    *,
    environ: Mapping[str, str],
    console: Console,
    interrupts: Interrupts,
) -> Report:
    """Play one pull request in `directory`, or in a temporary one that is removed at the end.

    Raises ConfigurationError when `directory` is not empty, CiDeferError when the production
    build fails; what becomes of the pull request is in the report.
    """
    with ExitStack() as stack:
        if directory is None:
            temporary = TemporaryDirectory(prefix="ci-defer-demo-")
            directory = Path(stack.enter_context(temporary))
        elif directory.exists() and any(directory.iterdir()):
            raise ConfigurationError(f"{directory} is not empty.", "Name a new folder.")
        return _play(directory.resolve(), environ, console, interrupts)


def _play(
    directory: Path, environ: Mapping[str, str], console: Console, interrupts: Interrupts
) -> Report:
    repository = directory / "repository"
    shutil.copytree(SHIPPED / "main", repository)
    environ = {
        **environ,
        "DEMO_WAREHOUSE": str(directory / "warehouse.duckdb"),
        # Hooks, templates and signing of the user's git have no place in a demo.
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    project = read_project(repository)
    git = Git(repository, environ)
    store = BundleStore(Directory(directory / "state"), project.name, log=console)

    def engines(profiles_dir: Path, project: Project, target: str | None) -> Engine:
        settings = DbtSettings(
            project_dir=project.directory,
            working_directory=repository,
            target_path=project.target_path,
            profiles_dir=profiles_dir,
            target=target,
        )
        return DriverEngine(
            settings,
            environ=environ,
            console=console,
            interrupts=interrupts,
            search_path=_search_path(environ),
        )

    engine_for = partial(engines, repository)

    @contextmanager
    def in_schema(schema: str) -> Iterator[EngineFor]:
        profiles = repository / PROFILES_FILE
        made = own_schema(profiles, schema, profile=project.profile, target="ci", environ=environ)
        with made as folder:
            yield partial(engines, folder)

    console.info(f"A repository with a dbt project, on branch main: {repository}")
    git.create("main")
    git.commit_all("Bike rental: stations, bikes and rides", author=AUTHOR, email=EMAIL)

    _title(console, "1. Production: every model is built on main")
    with closing(engine_for(project, "prod")) as engine:
        built = engine.build(Selection())
    built.invocation.check(
        "build the demo", "Install ci-defer with its dbt: pip install 'ci-defer[demo]'."
    )

    _title(console, "2. ci-defer onboard: what production looks like is published")
    published = onboard(
        project,
        store,
        key=project.name,
        target="prod",
        comparing=Comparing(
            parsed_with=ParsedWith(target="ci"),
            in_schema=in_schema,
            is_asked_for=True,
            saves=True,
        ),
        event=Event(),
        git=git,
        engine_for=engine_for,
        log=console,
    )
    console.info(f"Published the state of commit {published.commit[:12]} to {store.location}.")

    _title(console, f"3. A pull request: one model changes on branch {BRANCH}")
    git.switch_to_new(BRANCH)
    shutil.copytree(SHIPPED / "pull-request", repository, dirs_exist_ok=True)
    git.commit_all("Ignore the workshop's test rides", author=AUTHOR, email=EMAIL)
    shutil.rmtree(project.target_path)
    console.info(git.changes("main", "HEAD"))

    _title(console, "4. ci-defer defer: only what changed is built, the rest is production's")
    settings = DeferSettings(
        key=project.name,
        select=("state:modified+",),
        exclude=(),
        favor_state=False,
        allow_production=False,
        if_no_state=IfNoState.FAIL,
        target="ci",
        production_target="prod",
        parsed_with=ParsedWith(target="ci"),
    )
    with ExitStack() as at_the_end:
        return defer(
            project,
            settings,
            lambda: store,
            event=Event(),
            git=git,
            history=None,
            engine_for=engine_for,
            log=console,
            at_the_end=at_the_end,
        )


def _title(console: Console, text: str) -> None:
    console.info(f"\n{text}\n{'-' * len(text)}")


def _search_path(environ: Mapping[str, str]) -> str:
    """The dbt of the extra `demo` is beside our interpreter, on the PATH or not."""
    return os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])
