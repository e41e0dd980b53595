"""Onboard: publish what production looks like at this commit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

from ci_defer.bundle import MANIFEST, Bundle, Origin, pack
from ci_defer.comparable import Comparing, comparable
from ci_defer.dbt import Engine
from ci_defer.errors import ConfigurationError
from ci_defer.event import Event
from ci_defer.git import Git
from ci_defer.log import Log
from ci_defer.packages import install_packages
from ci_defer.project import Project
from ci_defer.reparse import EngineFor
from ci_defer.stores import Destination, is_comparable


@dataclass(frozen=True)
class Published:
    """A saved bundle, and where it is. The bundle's own directory is gone by now."""

    bundle: Bundle
    location: str

    @property
    def commit(self) -> str:
        return self.bundle.provenance.origin.commit if self.bundle.provenance else ""


def onboard(
    project: Project,
    store: Destination,
    *,
    key: str,
    target: str | None,
    comparing: Comparing | None,
    event: Event,
    git: Git,
    engine_for: EngineFor,
    log: Log,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> Published:
    """Bundle the dbt artifacts in the project's target path, and put them into `store`.

    `key` tells the dbt projects of one repository apart. When there is no manifest, dbt parses
    the project for `target` first. `comparing` says how pull requests parse it: where dbt cannot
    parse it so, or nobody is compared with what is in `store`, the bundle has no `compare/`.
    Raises CiDeferError; the store then holds what it held.
    """
    commit = git.commit("HEAD")
    if commit is None:
        raise ConfigurationError(
            "There is no commit to publish a state for.", "Run actions/checkout before ci-defer."
        )
    if not (project.target_path / MANIFEST).is_file():
        with closing(engine_for(project, target)) as engine:
            _parse(project, target, engine, log)
    origin = Origin(
        commit=commit,
        committed_at=git.committed_at(commit).isoformat(),
        project_dir=git.prefix().rstrip("/") or ".",
        branch=event.ref_name or git.branch(),
        repository=event.repository,
        run_id=event.run_id,
        run_attempt=event.run_attempt,
    )
    with TemporaryDirectory(prefix="ci-defer-") as directory:
        to = Path(directory, "bundle")
        to.mkdir()
        made = None
        # For nobody, it would take three parses.
        if comparing and is_comparable(store):
            made = comparable(project, comparing, Path(directory), engine_for=engine_for, log=log)
        bundle = pack(
            project.target_path,
            to,
            project=key,
            project_name=project.name,
            origin=origin,
            created_at=now().isoformat(timespec="seconds"),
            target=target,
            compare=(made.folder, made.parsed_with) if made else None,
            saved_parse=made.terms if made else None,
        )
        return Published(bundle, store.put(bundle))


def _parse(project: Project, target: str | None, engine: Engine, log: Log) -> None:
    log.info(
        f"There is no {MANIFEST} in {project.target_path}: parsing the project for "
        f"{'target ' + target if target else 'the default target'}."
    )
    install_packages(project, engine, log, ran=lambda _: None)
    engine.parse().invocation.check(
        "parse the project",
        "Run `dbt parse` to see it, or build production in a step before this one.",
    )
