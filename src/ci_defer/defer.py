"""Defer: build what a pull request changes against production's state, and report on it.

The order of a run: find the state, plan, stop when nothing is selected, see that it is built where
it may be, clone, build, read what dbt wrote. Whatever happens there is a report: an error of a
known kind becomes its `problem`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache, cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec.structs import replace

from ci_defer import findings, guard, text
from ci_defer.assembly import (
    Facts,
    assemble,
    node_reports,
    planned_nodes,
    production_seconds,
)
from ci_defer.base_commit import History, base_commit
from ci_defer.blind_spots import Texts
from ci_defer.bundle import RUN_RESULTS, Bundle, ParsedWith
from ci_defer.checkout import Checkout
from ci_defer.choices import CloneIncremental, IfNoState
from ci_defer.clones import clones
from ci_defer.cloning import Cloner
from ci_defer.comparison import Changes, differences
from ci_defer.dbt import Engine, Invocation, Operation, Selection
from ci_defer.dbt.output import error_message
from ci_defer.dbt.warehouse import Warehouse
from ci_defer.errors import (
    Cancelled,
    CiDeferError,
    DbtError,
    ExitCode,
    InvalidBundle,
    StateNotFound,
)
from ci_defer.event import Event
from ci_defer.git import Git
from ci_defer.isolation import Isolation, OwnSchema, own_schema
from ci_defer.log import Log
from ci_defer.manifest import (
    Compiled,
    Manifest,
    Node,
    RunResults,
    read_compiled,
    read_run_results,
)
from ci_defer.packages import install_packages
from ci_defer.plan import Planner, changes_since
from ci_defer.project import Project, connection_of
from ci_defer.reparse import EngineFor, Engines, reparse
from ci_defer.report import NodeReport, Outcome, PassedOver, Problem, Report
from ci_defer.selection import Explained
from ci_defer.state import FoundState, find_state
from ci_defer.stores import Latest, Store, is_comparable
from ci_defer.untouched import is_untouched
from ci_defer.wording import (
    CANCELLED,
    NO_COMMITS,
    NO_STATE,
    OF_ANY_COMMIT,
    OUTSIDE_OF_NODES,
    REPARSED,
    failure,
    nothing_selected,
    number,
    success,
)

# dbt's word for what it did not come to.
SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class DeferSettings:
    """How to select and defer, in dbt's words. `key` is the setting `project`.

    `with_full_refresh` says that dbt was asked to rebuild incremental models, `stores_failures`
    that it was asked to keep what tests find, `is_warm` that it may go on from a saved parse.
    """

    key: str
    select: tuple[str, ...]
    exclude: tuple[str, ...]
    favor_state: bool
    allow_production: bool
    if_no_state: IfNoState
    target: str | None
    production_target: str | None
    parsed_with: ParsedWith
    clone_incremental: CloneIncremental = CloneIncremental.FALSE
    clone_snapshots: bool = False
    with_full_refresh: bool = False
    stores_failures: bool = False
    is_warm: bool = True
    profiles_dir: Path | None = None


def defer(
    project: Project,
    settings: DeferSettings,
    open_source: Callable[[], Store | Latest],
    *,
    event: Event,
    git: Git,
    history: History | None,
    engine_for: EngineFor,
    isolation: Isolation | None = None,
    log: Log,
    at_the_end: ExitStack,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> Report:
    """Build the pull request that is checked out, with `isolation` in a schema of its own.

    dbt may still be writing what the report does not need: it is waited for `at_the_end`, when that
    is closed. Never raises CiDeferError.
    """
    run = _Run(project, settings, event, git, history, engine_for, isolation, log, now())
    try:
        directory = Path(at_the_end.enter_context(TemporaryDirectory(prefix="ci-defer-")))
        run.isolate(at_the_end)
        at_the_end.callback(run.close)
        return run.against(open_source(), directory)
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
    finally:
        run.forget()


@dataclass
class _Run:
    """One run: what it was given, and what it has found out so far."""

    project: Project
    settings: DeferSettings
    event: Event
    git: Git
    history: History | None
    engine_for: EngineFor
    isolation: Isolation | None
    log: Log
    started: datetime
    clock: float = field(default_factory=time.monotonic)
    invocations: list[Invocation] = field(default_factory=list)
    own: OwnSchema | None = None
    base: str = ""
    passed_over: list[PassedOver] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    found: FoundState | None = None
    is_untouched: bool = False
    manifest: Manifest | None = None
    results: RunResults | None = None
    planned: tuple[str, ...] = ()
    explained: Explained | None = None
    suspected: dict[str, str] = field(default_factory=dict)
    compiled: Mapping[str, Compiled] = field(default_factory=dict)
    changes: Changes | None = None
    parsed_in_full: str = ""
    cloned: frozenset[str] = frozenset()
    to_build: Sequence[Node] = ()

    def isolate(self, stack: ExitStack) -> None:
        """Build into a schema of its own from here on, until `stack` ends. Raises CiDeferError."""
        if self.isolation:
            self.own = stack.enter_context(
                own_schema(
                    self.isolation,
                    event=self.event,
                    commit=self.checkout.head(),
                    branch=self.checkout.branch(),
                    key=self.settings.key,
                    target=self.settings.target or "",
                    started=self.started,
                    note=self._note,
                    log=self.log,
                )
            )

    def forget(self) -> None:
        """Let go of the manifests: dbt, which may still be writing, takes the most memory then."""
        self.found = self.manifest = self.explained = None
        self.compiled, self.to_build = {}, ()

    def close(self) -> None:
        """Let dbt end, and write what it still has to."""
        if "engine" in self.__dict__:
            self.engine.close()

    @property
    def checkout(self) -> Checkout:
        return Checkout(self.project.directory, self.git)

    @property
    def ours(self) -> Engines:
        """Makes engines that parse and build as this run does."""
        engine_for = self.own.engine_for if self.own else self.engine_for
        return partial(_for_target, engine_for, self.settings.target)

    @property
    def production(self) -> Engines:
        """Makes engines that parse as production does, as far as the settings say."""
        settings = self.settings
        return partial(_for_target, self.engine_for, settings.production_target or settings.target)

    @cached_property
    def engine(self) -> Engine:
        return self.ours(self.project)

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
        if self.found and self.is_untouched:
            return self._without_dbt(self.found)
        install_packages(self.project, self.engine, self.log, self.invocations.append)
        planner = self._planner(directory)
        if self.found and not is_comparable(source) and not self.found.is_parsed_again:
            self.found = planner.compare_apart(self.found, NO_COMMITS, OF_ANY_COMMIT)
        plan = planner.plan(self.found)
        self.found, self.manifest = plan.found, plan.manifest
        self.planned, self.suspected = plan.unique_ids, plan.suspected
        self.explained, self.changes = plan.explained, plan.changes
        self.parsed_in_full = plan.parsed_in_full
        if not self.planned:
            return self._nothing_selected()
        facts = self.facts()
        self.log.info(text.render_plan(planned_nodes(facts), production_seconds(facts)))
        self._keep_in_place(plan.manifest)
        self._clone(plan.manifest)
        return self._build(self._selection(self.found))

    def _nothing_selected(self) -> Report:
        report = self.report(Outcome.NO_CHANGES, "")
        return replace(report, headline=nothing_selected(report.removed))

    def _start_ahead(self) -> None:
        """Let dbt start while the state is fetched, where the pull request changes the project.

        Where it turns out that it is not needed, it has opened no connection yet.
        """
        changes = self._changes_since(self.base) if self.base else None
        if changes and not self._is_untouched_since(changes):
            # Without a state there may be no need of a dbt.
            with contextlib.suppress(CiDeferError):
                self._start()

    def _start(self) -> None:
        # dbt v2 may install packages by itself, and would be interrupted when it is not needed.
        self.engine.start(None if self.project.lacks_packages() else self._selecting())

    def _on_fetched(self, bundle: Bundle) -> None:
        """Let dbt start while the state is read, where it will be needed."""
        self.is_untouched = self._is_made_from_this(bundle)
        if not self.is_untouched:
            self._start()

    def _is_made_from_this(self, bundle: Bundle) -> bool:
        """Whether the dbt project is what the state was made from."""
        settings, provenance = self.settings, bundle.provenance
        if provenance is None:
            return False
        made = (provenance.parsed_with, provenance.compare)
        if all(one is None or differences(one, settings.parsed_with) for one in made):
            return False
        changes = self._changes_since(provenance.origin.commit)
        return changes is not None and self._is_untouched_since(changes)

    def _is_untouched_since(self, changes: Changes) -> bool:
        settings = self.settings
        return is_untouched(
            changes,
            settings.select,
            read_text=self.checkout.text_of_project,
            has_links=self.git.has_links(),
            profiles=self.checkout.path_of(settings.profiles_dir),
        )

    @cached_property
    def _changes_since(self) -> Callable[[str], Changes | None]:
        return cache(partial(changes_since, git=self.git, log=self.log))

    def _without_dbt(self, found: FoundState) -> Report:
        """Report that nothing is selected, with the manifest of the state: it is the same."""
        if provenance := found.production.provenance:
            self.changes = self._changes_since(provenance.origin.commit)
        self.log.info("The dbt project is the same as in the production state: dbt is not started.")
        if compare := found.production.compare:
            # That has been read already.
            self.found = found = dataclasses.replace(found, compared=compare)
        self.manifest = found.compared.manifest
        self.explained = Explained(self.manifest, self.manifest)
        return self._nothing_selected()

    def _keep_in_place(self, manifest: Manifest) -> None:
        """See that the plan is built where it may be. Raises ConfigurationError when not.

        From here on something of this pull request may be in the warehouse, so it is remembered.
        """
        found = self.found
        production = found.production.relations if found else None
        stored = self.settings.stores_failures
        plan = guard.built_of(self.planned, manifest, stores_failures=stored)
        # What was parsed for our own target says nothing of production.
        if found and production and found.is_of_production and not self.settings.allow_production:
            guard.keep_out_of_production(plan, production)
        if self.own:
            adapter = manifest.metadata.adapter_type or ""
            self.own.check(plan, production, adapter=adapter)
            self.own.keep(plan, production, adapter=adapter)
            self.to_build = plan

    def _remember_what_was_built(self, results: RunResults) -> None:
        """Of what was skipped nothing came to be: who has a table of that name there keeps it."""
        if not (self.own and self.manifest):
            return
        made = {item.unique_id for item in results.results if item.status != SKIPPED} | self.cloned
        self.own.keep(
            [node for node in self.to_build if node.unique_id in made],
            self.found.production.relations if self.found else None,
            adapter=self.manifest.metadata.adapter_type or "",
        )

    def _clone(self, manifest: Manifest) -> None:
        """Clone what is built in increments from production, where that can be done."""
        settings = self.settings
        if settings.clone_incremental is CloneIncremental.FALSE or self.found is None:
            return
        if settings.with_full_refresh:
            self.log.info("Nothing is cloned, because dbt-args have --full-refresh.")
            return
        production = self.found.production
        wanted = clones(
            self.planned,
            manifest,
            production.relations,
            how=settings.clone_incremental,
            with_snapshots=settings.clone_snapshots,
        )
        self.cloned = Cloner(
            production=production,
            engine=self.engine,
            warehouse=Warehouse(connection_of(self.project), self._run_operation),
            target_path=self.project.target_path,
            ran=self.invocations.append,
            note=self._note,
        ).clone(wanted)

    def _run_operation(self, folder: Path, macro: str) -> Operation:
        """Run a macro of another dbt project, with the profile and the target of this run."""
        ran = self.ours(self.project.in_folder(folder)).run_operation(macro)
        self.invocations.append(ran.invocation)
        return ran

    def _find_state(self, source: Store | Latest, directory: Path) -> None:
        base = None
        if isinstance(source, Latest) and is_comparable(source):
            # Nothing depends on it here, so a folder without git will do.
            with contextlib.suppress(CiDeferError):
                self.base = base_commit(self.event, self.git, self.history)
        else:
            self.base = base = base_commit(self.event, self.git, self.history)
        self._start_ahead()
        self.found = find_state(
            source,
            base,
            self.git,
            self.history,
            directory,
            project_name=self.project.name,
            log=self.log,
            passed_over=self.passed_over.append,
            fetched=self._on_fetched,
        )
        self.log.info(_describe(self.found, self.base))

    def _reparse(self, directory: Path, reason: str) -> None:
        """Parse the base commit for this run's target, and for production's when there is one."""
        settings = self.settings
        is_other = settings.production_target not in (None, settings.target)
        # In its own schema there is nothing yet to read from.
        engines = [self.ours, self.production] if is_other or self.own else [self.ours]
        parsed = self._parse(self.base, engines, directory)
        self.found = FoundState(
            parsed[0],
            parsed[-1],
            REPARSED,
            0,
            reparsed_because=reason,
            is_of_production=len(engines) > 1 and settings.production_target is not None,
        )

    def _parse(self, commit: str, engines: Sequence[Engines], directory: Path) -> list[Bundle]:
        return reparse(
            commit,
            self.project,
            engines,
            directory,
            git=self.git,
            log=self.log,
            ran=self.invocations.append,
        )

    def _planner(self, directory: Path) -> Planner:
        return Planner(
            project=self.project,
            parsed_with=self.settings.parsed_with,
            selection_of=self._selection,
            base=self.base,
            changes_since=self._changes_since,
            engine=self.engine,
            parse_again=lambda commit: self._parse(commit, [self.ours], directory)[0],
            ran=self.invocations.append,
            note=self._note,
            log=self.log,
            is_warm=self.settings.is_warm,
        )

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self.log.warning(text)

    def _selection(self, found: FoundState | None) -> Selection:
        settings = self.settings
        if found is None:
            # Everything is new where there is no state, and dbt refuses state: selectors then.
            stateless = (word for word in settings.exclude if "state:" not in word)
            return Selection(exclude=tuple(stateless))
        return self._selecting(
            state=found.compared.directory,
            defer_state=found.production.directory if found.is_compared_apart else None,
        )

    def _selecting(self, state: Path | None = None, defer_state: Path | None = None) -> Selection:
        settings = self.settings
        return Selection(
            select=settings.select,
            exclude=settings.exclude,
            state=state,
            defer_state=defer_state,
            # Its own schema may hold what an earlier push built, and a later one took back.
            favor_state=settings.favor_state or self.own is not None,
        )

    def _build(self, selection: Selection) -> Report:
        built = self.engine.build(selection)
        self.invocations.append(built.invocation)
        is_cut_short = built.invocation.interrupted
        target_path = self.project.target_path
        # A dbt that was killed may have died while it was writing them.
        with contextlib.suppress(InvalidBundle) if is_cut_short else contextlib.nullcontext():
            if (target_path / RUN_RESULTS).is_file():
                self.results = read_run_results(target_path / RUN_RESULTS)
            if built.manifest.is_file():
                self.compiled = read_compiled(built.manifest)
        return self._report_on(built.invocation)

    def _report_on(self, built: Invocation) -> Report:
        if self.results is None and not built.interrupted:
            raise _no_results(built)
        finished = built.exit_code in (0, 1) and not built.interrupted
        if finished and self.results:
            self._remember_what_was_built(self.results)
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
            project_dir=self.checkout.project_dir(),
            target=self.settings.target or "",
            pr_schema=self.own.name if self.own else "",
            cloned=self.cloned,
            event=self.event,
            head=self.event.head_sha or self.checkout.head(),
            base=self.base,
            started=self.started,
            seconds=time.monotonic() - self.clock,
            found=self.found,
            passed_over=self.passed_over,
            manifest=self.manifest,
            explained=self._explained(),
            compiled=self.compiled,
            planned=self.planned,
            suspected=self.suspected,
            parsed_in_full=self.parsed_in_full,
            changes=self.changes,
            texts=self._texts,
            invocations=self.invocations,
            production_target=self.settings.production_target,
            notes=self.notes,
            read_text=self.checkout.text_of_project,
        )

    def _explained(self) -> Explained | None:
        if self.explained is None or self.results is None:
            return self.explained
        flag = self.results.args.state_modified_compare_more_unrendered_values
        return self.explained.as_run(compares_unrendered=flag)

    @cached_property
    def _texts(self) -> Texts:
        # The plan and the report ask for the same files.
        return Texts(before=cache(self._text_before), now=cache(self.checkout.text_now))

    def _text_before(self, path: str) -> str | None:
        return self.git.text(self.changes.commit, path) if self.changes else None


def _for_target(engine_for: EngineFor, target: str | None, project: Project) -> Engine:
    return engine_for(project, target)


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
