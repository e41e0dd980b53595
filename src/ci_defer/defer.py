"""Defer: build what a pull request changes against production's state, and report on it.

The order of a run: find the state, plan, stop when nothing is selected, build, read what dbt
wrote. Whatever happens there is a report: an error of a known kind becomes its `problem`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

from ci_defer import findings
from ci_defer.assembly import Facts, assemble, node_reports, removed
from ci_defer.base_commit import History, base_commit
from ci_defer.bundle import MANIFEST, RUN_RESULTS, Bundle
from ci_defer.dbt import Engine, Invocation, Selection
from ci_defer.dbt.output import error_message
from ci_defer.errors import (
    Cancelled,
    CiDeferError,
    ConfigurationError,
    DbtError,
    ExitCode,
    InvalidBundle,
    StateNotFound,
)
from ci_defer.event import Event
from ci_defer.git import Git
from ci_defer.log import Log
from ci_defer.manifest import Manifest, RunResults, read_manifest, read_run_results
from ci_defer.packages import install_packages
from ci_defer.project import Project
from ci_defer.reparse import EngineFor, reparse
from ci_defer.report import NodeReport, Outcome, PassedOver, Problem, Report
from ci_defer.state import FoundState, IfNoState, find_state
from ci_defer.stores import Latest, Store
from ci_defer.wording import (
    CANCELLED,
    NO_STATE,
    NOT_COMPARED_APART,
    OUTSIDE_OF_NODES,
    REPARSED,
    failure,
    nothing_selected,
    number,
    success,
)


@dataclass(frozen=True, kw_only=True)
class DeferSettings:
    """How to select and defer, in dbt's words. `key` is the setting `project`."""

    key: str
    select: tuple[str, ...]
    exclude: tuple[str, ...]
    favor_state: bool
    if_no_state: IfNoState
    target: str | None
    production_target: str | None


def defer(
    project: Project,
    settings: DeferSettings,
    open_source: Callable[[], Store | Latest],
    *,
    event: Event,
    git: Git,
    history: History | None,
    engine_for: EngineFor,
    log: Log,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> Report:
    """Build the pull request that is checked out. Never raises CiDeferError."""
    engine = engine_for(project, settings.target)
    run = _Run(project, settings, event, git, history, engine, engine_for, log, now())
    try:
        with TemporaryDirectory(prefix="ci-defer-") as directory:
            return run.against(open_source(), Path(directory))
    except Cancelled:
        return run.report(Outcome.CANCELLED, CANCELLED)
    except OSError as error:
        message = f"The system refused: {error}."
        problem = Problem(message=message, hint="Is the disk full, or a file not ours?")
        return run.report(Outcome.ERROR, message, problem=problem)
    except CiDeferError as error:
        problem = Problem(message=error.message, hint=error.hint, exit_code=error.exit_code)
        outcome = Outcome.NO_STATE if isinstance(error, StateNotFound) else Outcome.ERROR
        return run.report(outcome, _first_line(error.message), problem=problem)


@dataclass
class _Run:
    """One run: what it was given, and what it has found out so far."""

    project: Project
    settings: DeferSettings
    event: Event
    git: Git
    history: History | None
    engine: Engine
    engine_for: EngineFor
    log: Log
    started: datetime
    clock: float = field(default_factory=time.monotonic)
    invocations: list[Invocation] = field(default_factory=list)
    base: str = ""
    passed_over: list[PassedOver] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    found: FoundState | None = None
    manifest: Manifest | None = None
    results: RunResults | None = None
    planned: tuple[str, ...] = ()

    def against(self, source: Store | Latest, directory: Path) -> Report:
        """The whole run; the bundle is kept in `directory` for as long as dbt needs it."""
        try:
            self._find_state(source, directory)
        except StateNotFound as error:
            if self.settings.if_no_state is IfNoState.FAIL:
                raise
            if self.settings.if_no_state is IfNoState.SKIP:
                self.log.info(f"{error.message} Nothing is built (if-no-state: skip).")
                return self.report(Outcome.NO_STATE, NO_STATE)
            if self.settings.if_no_state is IfNoState.REPARSE:
                self.log.info(error.message)
                self._reparse(directory, error.message)
            else:
                self.log.warning(f"{error.message} The whole project is built (if-no-state: full).")
        install_packages(self.project, self.engine, self.log, self.invocations.append)
        selection = self._selection()
        self._discard_old_artifacts()
        planned = self._plan(selection)
        self.manifest = read_manifest(self.project.target_path / MANIFEST)
        self.planned = planned
        if not planned:
            gone = removed(self.facts())
            return self.report(Outcome.NO_CHANGES, nothing_selected(gone))
        return self._build(selection)

    def _find_state(self, source: Store | Latest, directory: Path) -> None:
        base = None
        if isinstance(source, Latest) and source.is_comparable:
            # Nothing depends on it here, so a folder without git will do.
            with contextlib.suppress(CiDeferError):
                self.base = base_commit(self.event, self.git, self.history)
        else:
            self.base = base = base_commit(self.event, self.git, self.history)
        self.found = find_state(
            source,
            base,
            self.git,
            self.history,
            directory,
            project_name=self.project.name,
            log=self.log,
            passed_over=self.passed_over.append,
        )
        self.log.info(_describe(self.found, self.base))
        if isinstance(source, Latest) and not source.is_comparable:
            self._compare_with_base(directory)

    def _compare_with_base(self, directory: Path) -> None:
        """Compare with the base commit, parsed again: the state is of another target and commit."""
        if self.found is None:
            return
        try:
            [compared] = self._parse_base([self.settings.target], directory)
        except ConfigurationError as error:
            self.notes.append(f"{NOT_COMPARED_APART} {error.message}")
            self.log.warning(self.notes[-1])
            return
        self.found = replace(self.found, compared=compared)

    def _reparse(self, directory: Path, reason: str) -> None:
        """Parse the base commit for this run's target, and for production's when there is one."""
        targets = [self.settings.target]
        if self.settings.production_target not in (None, self.settings.target):
            targets.append(self.settings.production_target)
        parsed = self._parse_base(targets, directory)
        self.found = FoundState(parsed[0], parsed[-1], REPARSED, 0, reparsed_because=reason)

    def _parse_base(self, targets: list[str | None], directory: Path) -> list[Bundle]:
        return reparse(
            self.base,
            self.project,
            targets,
            directory,
            git=self.git,
            engine_for=self.engine_for,
            log=self.log,
            ran=self.invocations.append,
        )

    def _selection(self) -> Selection:
        settings = self.settings
        if self.found is None:
            # Everything is new where there is no state, and dbt refuses state: selectors then.
            stateless = (word for word in settings.exclude if "state:" not in word)
            return Selection(exclude=tuple(stateless))
        return Selection(
            select=settings.select,
            exclude=settings.exclude,
            state=self.found.compared.directory,
            defer_state=self.found.production.directory if self.found.is_compared_apart else None,
            favor_state=settings.favor_state,
        )

    def _discard_old_artifacts(self) -> None:
        """Results of an earlier run in the target path must never be taken for ours."""
        for name in (MANIFEST, RUN_RESULTS):
            (self.project.target_path / name).unlink(missing_ok=True)

    def _plan(self, selection: Selection) -> tuple[str, ...]:
        plan = self.engine.plan(selection)
        self.invocations.append(plan.invocation)
        plan.invocation.check(
            "read the project",
            "Run `dbt parse` with the same target to see it on your machine, and check dbt-args.",
        )
        self.log.info(f"dbt selects {number(len(plan.unique_ids), 'node')}.")
        return plan.unique_ids

    def _build(self, selection: Selection) -> Report:
        built = self.engine.build(selection)
        self.invocations.append(built)
        target_path = self.project.target_path
        # A dbt that was killed may have died while it was writing them.
        with contextlib.suppress(InvalidBundle) if built.interrupted else contextlib.nullcontext():
            if (target_path / RUN_RESULTS).is_file():
                self.results = read_run_results(target_path / RUN_RESULTS)
            if (target_path / MANIFEST).is_file():
                # dbt writes it again, with the compiled SQL.
                self.manifest = read_manifest(target_path / MANIFEST)
        if self.results is None and not built.interrupted:
            raise _no_results(built)
        finished = built.exit_code in (0, 1) and not built.interrupted
        nodes = node_reports(self.facts(), self.results, finished=finished)
        counts = findings.count(nodes)
        if built.interrupted:
            return self.report(Outcome.CANCELLED, CANCELLED, nodes, finished=finished)
        if built.exit_code == 0:
            return self.report(Outcome.SUCCESS, success(counts), nodes)
        if counts.failed or counts.errored:
            return self.report(Outcome.FAILURE, failure(nodes, counts), nodes)
        # A hook that breaks in Jinja: dbt fails, and every result is fine.
        message = error_message(built.tail)
        return self.report(
            Outcome.FAILURE,
            OUTSIDE_OF_NODES,
            nodes,
            finished=finished,
            problem=Problem(
                message=message,
                hint="Look at the on-run-start and on-run-end hooks.",
                exit_code=ExitCode.NODES_FAILED,
            ),
        )

    def report(
        self,
        outcome: Outcome,
        headline: str,
        nodes: list[NodeReport] | None = None,
        *,
        finished: bool = True,
        problem: Problem | None = None,
    ) -> Report:
        """The report of what is known by now: without results no planned node was reached."""
        return assemble(self.facts(), outcome, headline, nodes, finished=finished, problem=problem)

    def facts(self) -> Facts:
        """What is known by now."""
        return Facts(
            key=self.settings.key,
            project_name=self.project.name,
            directory=self.project.directory,
            project_dir=self._project_dir(),
            target=self.settings.target or "",
            event=self.event,
            head=self.event.head_sha or self._head(),
            base=self.base,
            started=self.started,
            seconds=time.monotonic() - self.clock,
            found=self.found,
            passed_over=self.passed_over,
            manifest=self.manifest,
            compares_unrendered=(
                self.results.args.state_modified_compare_more_unrendered_values
                if self.results
                else None
            ),
            planned=self.planned,
            invocations=self.invocations,
            production_target=self.settings.production_target,
            notes=self.notes,
            read_text=self._read_text,
        )

    def _read_text(self, path: str) -> str | None:
        try:
            return (self.project.directory / path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def _head(self) -> str:
        try:
            return self.git.commit("HEAD") or ""
        except CiDeferError:
            return ""

    def _project_dir(self) -> str:
        try:
            return self.git.prefix().rstrip("/") or "."
        except CiDeferError:
            return "."


def _describe(found: FoundState, base: str) -> str:
    provenance = found.production.provenance
    if provenance is None:
        return f"Production state: {found.location}, a manifest without provenance."
    commit = provenance.origin.commit[:12]
    if not found.age_commits:
        return f"Production state: commit {commit}, from {found.location}."
    return (
        f"Production state: commit {commit}, {number(found.age_commits, 'commit')} before the "
        f"base commit {base[:12]}, from {found.location}."
    )


def _no_results(built: Invocation) -> DbtError:
    if built.exit_code < 0:
        built.check("build", "")
    if built.exit_code == 0:
        return DbtError(
            f"dbt ended without an error and without a {RUN_RESULTS}.",
            "Check dbt-args and the flags of dbt_project.yml.",
        )
    return DbtError(
        f"dbt stopped before it built anything: {error_message(built.tail)}",
        "Check the connection in profiles.yml and the secrets of this job.",
    )


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
