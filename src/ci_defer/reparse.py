"""Parsing an older commit again: what a pull request is compared with when nothing else will do.

`git worktree` of the commit, and dbt's parse of it: as this run parses for `--state`, as
production does for `--defer-state`. The worktree is always removed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

from ci_defer.bundle import MANIFEST, Bundle
from ci_defer.dbt import Engine, Invocation
from ci_defer.errors import ConfigurationError, InvalidBundle
from ci_defer.git import Git, GitError
from ci_defer.log import Log
from ci_defer.packages import install_packages
from ci_defer.project import Project, read_project


class EngineFor(Protocol):
    """Makes the engine that runs dbt on `project` for `target`."""

    def __call__(self, project: Project, target: str | None, /) -> Engine: ...


# Makes the engine that runs dbt on a checkout, for the target and with the profile of its maker.
Engines = Callable[[Project], Engine]


def reparse(
    commit: str,
    project: Project,
    engines: Sequence[Engines],
    to: Path,
    *,
    git: Git,
    log: Log,
    ran: Callable[[Invocation], None],
) -> list[Bundle]:
    """The manifests of `commit`, one for each of `engines`, in new folders below `to`.

    `ran` is told of every dbt command. Raises ConfigurationError when the clone does not hold the
    commit and it cannot be fetched, ProjectError when dbt cannot parse it.
    """
    log.info(f"Parsing commit {commit[:12]} again, in a worktree.")
    if git.commit(commit) is None:
        _fetch(commit, git)
    worktree = to / "worktree"
    git.add_worktree(worktree, commit)
    try:
        theirs = read_project(worktree / git.prefix())
        if theirs.name != project.name:
            raise ConfigurationError(
                f"The dbt project of commit {commit[:12]} is {theirs.name!r}, this one is "
                f"{project.name!r}.",
                "A renamed project has nothing in common with the old one: set if-no-state: full.",
            )
        with closing(engines[0](theirs)) as engine:
            install_packages(theirs, engine, log, ran)
        return [
            _parse(theirs, engine_for(theirs), to / f"parsed-{number}", ran)
            for number, engine_for in enumerate(engines)
        ]
    finally:
        git.remove_worktree(worktree)


def _parse(project: Project, engine: Engine, to: Path, ran: Callable[[Invocation], None]) -> Bundle:
    to.mkdir()
    with closing(engine):
        parsed = engine.parse().invocation
    ran(parsed)
    parsed.check(
        "parse the base commit again",
        "Publish states with ci-defer onboard, or set if-no-state to full or skip.",
    )
    if not (project.target_path / MANIFEST).is_file():
        raise InvalidBundle(f"dbt parse wrote no {MANIFEST}.", "Check dbt-args.")
    shutil.move(project.target_path / MANIFEST, to / MANIFEST)
    bundle = Bundle(to, None)
    bundle.read()
    return bundle


def _fetch(commit: str, git: Git) -> None:
    try:
        git.fetch(commit)
    except GitError as error:
        raise ConfigurationError(
            f"The clone does not hold commit {commit[:12]}, and it cannot be fetched: "
            f"{error.message}",
            "Set fetch-depth: 0 for actions/checkout.",
        ) from error
