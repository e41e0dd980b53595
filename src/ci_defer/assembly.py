"""From what a run has found out to its report.

Asks nobody but the function that reads a file of the project, and changes nothing. Whatever ended
the run, and however early, there is a report of what is known by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from msgspec.structs import replace

from ci_defer import __version__, findings, impact, locations
from ci_defer.blind_spots import BlindSpots, Texts
from ci_defer.comparison import Changes
from ci_defer.dbt import Invocation
from ci_defer.event import Event
from ci_defer.manifest import COMMIT_IN_MANIFEST, Compiled, Manifest, RunResults
from ci_defer.report import (
    BAD,
    TESTS,
    Change,
    Command,
    Deferred,
    Exposure,
    NodeOutcome,
    NodeReport,
    Outcome,
    PassedOver,
    Problem,
    Reason,
    ReasonKind,
    Removed,
    Report,
    State,
    worst_first,
)
from ci_defer.selection import Explained
from ci_defer.state import FoundState
from ci_defer.wording import NO_PRODUCTION_TARGET, listing

# Of the SQL of each failed node: what a person may want to read, not what a warehouse may be sent.
MAX_CODE = 20_000
# With the SQL of so many the report stays small, and nobody reads more.
MAX_NODES_WITH_CODE = 50

# GitHub shows ten annotations of a kind, and a comment some more failures.
MAX_LOCATED = 100
LOCATED = frozenset({*BAD, NodeOutcome.WARNED})


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known when a run ends. What it has not come to is None or empty.

    `project_dir` is relative to the top of the repository, `directory` the same as an absolute
    path; `read_text` gives a file below it, or None.
    """

    key: str
    project_name: str
    directory: Path
    project_dir: str
    target: str
    # The pull request's own schema, empty when it has none.
    pr_schema: str
    # What was cloned from production before the build.
    cloned: frozenset[str]
    event: Event
    head: str
    base: str
    started: datetime
    seconds: float
    found: FoundState | None
    passed_over: Sequence[PassedOver]
    manifest: Manifest | None
    # Why nodes are selected, None when there was nothing to compare with.
    explained: Explained | None
    # What dbt has compiled, by unique id.
    compiled: Mapping[str, Compiled]
    planned: Sequence[str]
    # What looks modified although nothing of it changed in git, and why that may be.
    suspected: Mapping[str, str]
    # Why dbt did not go on from the saved parse of the state; empty when it did, or had none.
    parsed_in_full: str
    # What changed in git since the compared state; None when nobody knows.
    changes: Changes | None
    texts: Texts
    invocations: Sequence[Invocation]
    production_target: str | None
    notes: Sequence[str]
    read_text: Callable[[str], str | None]


def assemble(
    facts: Facts,
    outcome: Outcome,
    headline: str,
    nodes: list[NodeReport] | None = None,
    *,
    finished: bool = True,
    problem: Problem | None = None,
) -> Report:
    """The report; `nodes` are those of `node_reports`, and without them nothing was reached."""
    if nodes is None:
        nodes = node_reports(facts, None, finished=False)
    production = facts.found.production if facts.found else None
    production_results = production.run_results if production else None
    deferrals: list[Deferred] = []
    if facts.manifest and production:
        deferrals = findings.deferred(
            nodes, facts.manifest, production.relations, production_results, facts.compiled
        )
    nodes = _related(_with_reasons(nodes, facts), deferrals, facts)
    gone = _removed(facts)
    metadata = facts.manifest.metadata if facts.manifest else None
    useful = outcome in (Outcome.SUCCESS, Outcome.NO_CHANGES)
    return Report(
        outcome=outcome,
        headline=headline,
        project=facts.key,
        project_name=facts.project_name,
        project_dir=facts.project_dir,
        started_at=facts.started.isoformat(timespec="seconds"),
        seconds=round(facts.seconds, 1),
        ci_defer_version=__version__,
        dbt_version=metadata.dbt_version if metadata else "",
        adapter=(metadata.adapter_type or "") if metadata else "",
        target=facts.target,
        pr_schema=facts.pr_schema,
        head_commit=facts.head,
        base_commit=facts.base,
        repository_url=facts.event.repository_url,
        run_url=facts.event.run_url,
        problem=problem,
        state=_state(facts.found, facts.base) if facts.found else None,
        passed_over=list(facts.passed_over),
        selected_count=len(facts.planned),
        counts=findings.count(nodes),
        nodes=nodes,
        causes=findings.causes(nodes),
        deferred=deferrals,
        removed=gone,
        exposures=_exposures(nodes, deferrals, facts),
        warnings=[
            *facts.notes,
            *_warnings(facts),
            *_suspicions(nodes, facts),
            *_blind_spots(gone, facts),
            *findings.warnings(nodes, deferrals, finished=finished),
        ],
        commands=[
            Command(
                arguments=list(ran.arguments),
                exit_code=ran.exit_code,
                seconds=round(ran.seconds, 1),
            )
            for ran in facts.invocations
        ],
        parsed_in_full=facts.parsed_in_full,
        production_seconds=production_seconds(facts),
        seconds_saved=findings.seconds_saved(facts.planned, production_results) if useful else None,
    )


def planned_nodes(facts: Facts) -> list[NodeReport]:
    """The nodes that dbt selected and why, before any of them is built."""
    return _with_reasons(node_reports(facts, None, finished=False), facts)


def node_reports(facts: Facts, results: RunResults | None, *, finished: bool) -> list[NodeReport]:
    """What became of each node; `finished` says that dbt came to its end."""
    if facts.manifest is None:
        return []
    return findings.node_reports(
        facts.planned,
        facts.manifest,
        results,
        compiled=facts.compiled,
        finished=finished,
        project_dir=facts.directory,
    )


def production_seconds(facts: Facts) -> float | None:
    """What production's run spent on the planned nodes, as far as that is known."""
    results = facts.found.production.run_results if facts.found else None
    return findings.production_seconds(facts.planned, results)


def _removed(facts: Facts) -> list[Removed]:
    """What production has and the pull request has not."""
    if facts.manifest is None or facts.found is None:
        return []
    return impact.removed(facts.manifest, facts.found.compared.manifest)


def _with_reasons(nodes: Iterable[NodeReport], facts: Facts) -> list[NodeReport]:
    """The nodes with why they were selected."""
    manifest, explained = facts.manifest, facts.explained
    reasons_of: dict[str, list[Reason]] = {}
    if manifest and explained:
        known = (unique_id for unique_id in facts.planned if manifest.find(unique_id))
        reasons_of = {unique_id: explained.reasons(unique_id) for unique_id in known}
    found = []
    for node in nodes:
        reasons = reasons_of.get(node.unique_id, [])
        suspicion = facts.suspected.get(node.unique_id, "")
        change = _change_of(reasons)
        found.append(replace(node, reasons=reasons, change=change, suspicion=suspicion))
    return found


def _related(
    nodes: list[NodeReport], deferrals: Sequence[Deferred], facts: Facts
) -> list[NodeReport]:
    """The nodes with what takes more than dbt's results to know."""
    manifest = facts.manifest
    if manifest is None:
        return nodes
    visible = _visible(nodes, deferrals)
    failed = [node.unique_id for node in nodes if node.outcome in BAD]
    code = _code(failed[:MAX_NODES_WITH_CODE], facts.compiled)
    lines = _lines(worst_first(nodes)[:MAX_LOCATED], manifest, facts.read_text)
    related = []
    for report in nodes:
        node = manifest.find(report.unique_id)
        if node is None:
            related.append(report)
            continue
        related.append(
            replace(
                report,
                cloned=report.unique_id in facts.cloned,
                parents=impact.visible_parents(node, manifest, visible),
                line=lines.get(report.unique_id),
                compiled_code=code.get(report.unique_id, ""),
            )
        )
    return related


def _code(unique_ids: Iterable[str], compiled: Mapping[str, Compiled]) -> dict[str, str]:
    """The compiled SQL of nodes, as far as they have some."""
    return {
        unique_id: findings.cut((compiled[unique_id].compiled_code or "").strip(), MAX_CODE)
        for unique_id in unique_ids
        if unique_id in compiled
    }


def _change_of(reasons: Sequence[Reason]) -> Change | None:
    """The reasons in one word."""
    kinds = {reason.kind for reason in reasons}
    if ReasonKind.NEW in kinds:
        return Change.NEW
    if ReasonKind.DOWNSTREAM in kinds:
        return Change.DOWNSTREAM
    return Change.MODIFIED if kinds - {ReasonKind.CHOSEN} else None


def _exposures(
    nodes: Sequence[NodeReport], deferrals: Sequence[Deferred], facts: Facts
) -> list[Exposure]:
    if facts.manifest is None:
        return []
    return impact.exposures(facts.planned, facts.manifest, _visible(nodes, deferrals))


def _visible(nodes: Sequence[NodeReport], deferrals: Sequence[Deferred]) -> Callable[[str], bool]:
    """Whether this report speaks of a node, so that it can be drawn as somebody's parent."""
    shown = {node.unique_id for node in nodes} | {item.unique_id for item in deferrals}
    return shown.__contains__


def _lines(
    nodes: Iterable[NodeReport], manifest: Manifest, read_text: Callable[[str], str | None]
) -> dict[str, int]:
    """The lines that failures and warnings are about, by unique id."""
    declarations: dict[str, locations.Declarations] = {}
    lines = {}
    for report in nodes:
        node = manifest.find(report.unique_id)
        if node is None or report.outcome not in LOCATED:
            continue
        line = locations.error_line(node, report.message)
        if node.resource_type in TESTS and not report.path.endswith(".sql"):
            if report.path not in declarations:
                declarations[report.path] = locations.Declarations(read_text(report.path) or "")
            line = declarations[report.path].line(node)
        if line:
            lines[report.unique_id] = line
    return lines


def _warnings(facts: Facts) -> list[str]:
    if facts.found and facts.found.reparsed_because and not facts.production_target:
        return [NO_PRODUCTION_TARGET]
    return []


def _suspicions(nodes: Iterable[NodeReport], facts: Facts) -> Iterator[str]:
    """A warning for each reason to suspect that nodes only look modified."""
    by_reason: dict[str, list[str]] = {}
    for node in nodes:
        if node.suspicion:
            by_reason.setdefault(node.suspicion, []).append(node.name)
    commit = facts.changes.commit[:12] if facts.changes else ""
    for reason, names in by_reason.items():
        yield (
            f"Suspected false positive: {listing(names)}. Selected as modified, though nothing of "
            f"that changed in git since commit {commit}. It may be that {reason}."
        )


def _blind_spots(gone: Iterable[Removed], facts: Facts) -> Iterator[str]:
    if facts.manifest and facts.changes and facts.explained:
        spots = BlindSpots(
            facts.planned, facts.manifest, facts.explained, facts.changes, facts.texts
        )
        yield from spots.warnings(gone)


def _state(found: FoundState, base: str) -> State:
    provenance = found.production.provenance
    if provenance is not None:
        return State(
            location=found.location,
            has_provenance=True,
            commit=provenance.origin.commit,
            branch=provenance.origin.branch,
            created_at=provenance.created_at,
            dbt_version=provenance.dbt_version,
            is_compared_apart=found.is_compared_apart,
            compared_because=found.compared_because,
            age_commits=found.age_commits,
        )
    metadata = found.production.relations.metadata
    if found.reparsed_because:
        return State(
            location=found.location,
            has_provenance=True,
            reparsed=True,
            reason=found.reparsed_because,
            commit=base,
            dbt_version=metadata.dbt_version,
            age_commits=found.age_commits,
        )
    return State(
        location=found.location,
        has_provenance=False,
        is_compared_apart=found.is_compared_apart,
        compared_because=found.compared_because,
        # A manifest that onboard has parsed says of which commit it is.
        commit=metadata.env.get(COMMIT_IN_MANIFEST, ""),
        created_at=metadata.generated_at,
        dbt_version=metadata.dbt_version,
    )
