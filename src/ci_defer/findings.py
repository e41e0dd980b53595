"""What dbt's artifacts say about a run: nodes, causes, deferral, warnings.

Pure functions from manifests, results and the plan to parts of the report. Everything that a
wrapper around `dbt build` can get wrong about dbt's results is decided here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import dedent

import msgspec

from ci_defer.impact import visible_parents
from ci_defer.manifest import REFABLE, Compiled, Manifest, Node, Result, RunResults
from ci_defer.report import (
    BAD,
    Cause,
    Counts,
    Deferred,
    NodeOutcome,
    NodeReport,
)
from ci_defer.wording import NOT_REACHED, listing

# RunStatus, TestStatus, NodeStatus and FreshnessStatus of dbt's artifacts.
OUTCOMES: Mapping[str, NodeOutcome] = {
    "success": NodeOutcome.BUILT,
    "pass": NodeOutcome.PASSED,
    "warn": NodeOutcome.WARNED,
    "fail": NodeOutcome.FAILED,
    "error": NodeOutcome.ERRORED,
    "runtime error": NodeOutcome.ERRORED,
    # Some batches of a microbatch model failed; dbt exits 1.
    "partial success": NodeOutcome.ERRORED,
    "skipped": NodeOutcome.SKIPPED,
    "no-op": NodeOutcome.NO_OP,
    "reused": NodeOutcome.NO_OP,
}

# `dbt ls` lists these, `dbt build` has no result for them.
NEVER_RUN: Mapping[str, str] = {
    "source": "a source is read, not built",
    "metric": "dbt build does not run metrics",
    "semantic_model": "dbt build does not run semantic models",
    "exposure": "dbt build does not run exposures",
    "saved_query": "dbt build does not run saved queries",
}
EPHEMERAL = "ephemeral: compiled into the models that use it"

# Production's own run has no usable relation after one of these.
NOT_BUILT = frozenset({"error", "skipped", "runtime error", "partial success"})

# More than any database says; a model can raise anything.
MAX_MESSAGE = 20_000
MAX_SIGNATURE = 2_000

ERROR_HEADING = re.compile(r"^\w[\w ]* Error in [\w ]+ \S+ \(.*\)$")
COMPILED_AT = re.compile(r"^\s*compiled code at \S+$")


def node_reports(
    planned: Sequence[str],
    manifest: Manifest,
    results: RunResults | None,
    *,
    compiled: Mapping[str, Compiled],
    finished: bool,
    project_dir: Path,
) -> list[NodeReport]:
    """A report for each planned node and each result, in the order of the run, then of the plan.

    `finished` says that dbt came to its end; otherwise a node without a result was not reached.
    Paths below `project_dir`, which is absolute, become relative to it.
    """
    reports = [_from_result(result, manifest) for result in (results.results if results else [])]
    # dbt v2 has a result of every ephemeral model that is read, though none of them is run.
    reports = [node for node in reports if node.materialized != "ephemeral" or node.outcome in BAD]
    done = {report.unique_id for report in reports}
    reports += [
        _without_result(unique_id, manifest, finished=finished)
        for unique_id in planned
        if unique_id not in done
    ]
    # dbt writes an absolute path where it was given an absolute target path.
    root = f"{project_dir}/"
    for index, node in enumerate(reports):
        found = compiled.get(node.unique_id)
        if found and found.compiled_path:
            path = found.compiled_path.removeprefix(root)
            reports[index] = msgspec.structs.replace(node, compiled_path=path)
    return reports


def cut(text: str, limit: int) -> str:
    """The first `limit` characters, and how many more there were."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n… {len(text) - limit:,} more characters"


def count(nodes: Iterable[NodeReport]) -> Counts:
    """Count the outcomes."""
    tally = Counter(node.outcome.value.replace("-", "_") for node in nodes)
    return Counts(**tally)


def causes(nodes: Iterable[NodeReport]) -> list[Cause]:
    """Failed nodes grouped by what the database said, the largest group first.

    A profile that points to a database which does not exist fails dozens of nodes: that is one
    cause. Names of the node itself do not make two messages different.
    """
    groups: list[list[NodeReport]] = []
    by_message: dict[str, list[NodeReport]] = {}
    for node in nodes:
        if node.outcome not in BAD:
            continue
        # The same words are the same cause, whatever of them is also the name of a node.
        same = essence(node)
        alike = _signature(node, same)
        group = by_message.get(same) or by_message.get(alike)
        if group is None:
            group = []
            groups.append(group)
        group.append(node)
        by_message.setdefault(same, group)
        by_message.setdefault(alike, group)
    ordered = sorted(groups, key=len, reverse=True)
    return [
        Cause(message=essence(group[0]), unique_ids=[node.unique_id for node in group])
        for group in ordered
    ]


def essence(node: NodeReport) -> str:
    """The message of a failed node without the lines that repeat what the report shows anyway."""
    lines = [line for line in node.message.splitlines() if not COMPILED_AT.match(line)]
    if len(lines) > 1 and ERROR_HEADING.match(lines[0].strip()):
        lines = lines[1:]
    # dbt indents what the database says; what is indented beyond that points at a column.
    return dedent("\n".join(line.rstrip() for line in lines)).strip() or node.status


def deferred(
    nodes: Iterable[NodeReport],
    manifest: Manifest,
    production: Manifest,
    production_results: RunResults | None,
    compiled: Mapping[str, Compiled],
) -> list[Deferred]:
    """The relations of production that the run really read, by the SQL that dbt compiled.

    dbt decides for each ref() whether to defer: only when the relation is missing in the target,
    or always with --favor-state. The compiled SQL is where its decision can be seen.
    """
    ran = {node.unique_id for node in nodes if node.status}
    statuses = _statuses(production_results)
    found: dict[str, Deferred] = {}
    for unique_id in ran:
        node = manifest.find(unique_id)
        sql = compiled[unique_id].compiled_code if unique_id in compiled else None
        if node is None or not sql:
            continue
        for parent in _relations_read(node, manifest):
            theirs = production.nodes.get(parent)
            if parent in ran or parent in found or theirs is None or not theirs.relation_name:
                continue
            if _mentions(sql, theirs.relation_name):
                found[parent] = Deferred(
                    unique_id=parent,
                    name=theirs.name,
                    relation=theirs.relation_name,
                    production_status=statuses.get(parent, ""),
                )
    return sorted(found.values(), key=lambda item: item.unique_id)


def warnings(
    nodes: Sequence[NodeReport], deferrals: Iterable[Deferred], *, finished: bool
) -> list[str]:
    """What a person has to know before they trust the result."""
    found = []
    if finished and (idle := [node.name for node in nodes if _is_idle_unit_test(node)]):
        found.append(
            f"dbt selected {listing(idle)} but ran none of it: dbt build runs a unit test only "
            "together with its model. A green result proves nothing about it."
        )
    broken = [item.name for item in deferrals if item.production_status in NOT_BUILT]
    if broken:
        found.append(
            f"Production's own run did not build {listing(broken)}, which this run reads from "
            "production. An error about a missing or old relation there is not of this pull "
            "request."
        )
    return found


def seconds_saved(planned: Iterable[str], production_results: RunResults | None) -> float | None:
    """What production's run spent on the nodes that were not selected here."""
    selected = frozenset(planned)
    return _seconds(production_results, lambda unique_id: unique_id not in selected)


def production_seconds(
    planned: Iterable[str], production_results: RunResults | None
) -> float | None:
    """What production's run spent on the nodes that were selected here."""
    return _seconds(production_results, frozenset(planned).__contains__)


def _seconds(results: RunResults | None, counts: Callable[[str], bool]) -> float | None:
    if results is None:
        return None
    return round(sum(item.execution_time for item in results.results if counts(item.unique_id)), 1)


def _from_result(result: Result, manifest: Manifest) -> NodeReport:
    node = manifest.find(result.unique_id) or _unknown_node(result.unique_id)
    outcome = OUTCOMES.get(result.status.lower(), NodeOutcome.OTHER)
    if node.resource_type == "operation" and outcome is NodeOutcome.BUILT:
        outcome = NodeOutcome.HOOK
    return _report(
        node,
        outcome,
        status=result.status,
        seconds=round(result.execution_time, 3),
        message=cut(_message(result), MAX_MESSAGE),
        failures=result.failures,
    )


def _message(result: Result) -> str:
    """What dbt says of a node; of a failed test v2 says no more than that it is one."""
    if result.message == "Error" and result.failures:
        return f"Got {result.failures:,} {'result' if result.failures == 1 else 'results'}"
    return result.message or ""


def _without_result(unique_id: str, manifest: Manifest, *, finished: bool) -> NodeReport:
    node = manifest.find(unique_id) or _unknown_node(unique_id)
    if not finished:
        message = NOT_REACHED
    elif node.materialized == "ephemeral":
        message = EPHEMERAL
    else:
        message = NEVER_RUN.get(node.resource_type, "dbt build did not run it")
    return _report(node, NodeOutcome.NOT_RUN, message=message)


def _report(
    node: Node,
    outcome: NodeOutcome,
    *,
    message: str,
    status: str = "",
    seconds: float = 0.0,
    failures: int | None = None,
) -> NodeReport:
    return NodeReport(
        unique_id=node.unique_id,
        name=node.name,
        resource_type=node.resource_type,
        outcome=outcome,
        status=status,
        package=node.package_name,
        path=node.original_file_path,
        materialized=node.materialized,
        relation=node.relation_name or "",
        seconds=seconds,
        message=message,
        failures=failures,
    )


def _unknown_node(unique_id: str) -> Node:
    """A result of something that the manifest does not hold: the id says type and name."""
    resource_type, _, rest = unique_id.partition(".")
    return Node(
        unique_id=unique_id,
        name=rest.rpartition(".")[2] or unique_id,
        resource_type=resource_type,
    )


def _signature(node: NodeReport, message: str) -> str:
    """The message with everything that is of this node alone taken out."""
    # What a message is about is said in its first lines; a huge one may take long to search.
    message = message[:MAX_SIGNATURE]
    for own in (node.relation, node.unique_id, node.path, node.name):
        # Each pattern is another one, and compiling it takes longer than looking first.
        if own and own in message:
            message = re.sub(rf"(?<!\w){re.escape(own)}(?!\w)", "…", message)
    return message


def _relations_read(node: Node, manifest: Manifest) -> list[str]:
    """The parents that are relations of a ref(), those of ephemeral parents in their place."""

    def is_relation(unique_id: str) -> bool:
        parent = manifest.nodes.get(unique_id)
        return (
            parent is not None
            and parent.resource_type in REFABLE
            and parent.materialized != "ephemeral"
        )

    return visible_parents(node, manifest, is_relation)


def _mentions(sql: str, relation: str) -> bool:
    """Whether `relation` stands in `sql` as a whole name: db.s.orders is not in db.s.orders_v2."""
    return re.search(rf"(?<![\w$.]){re.escape(relation)}(?![\w$])", sql) is not None


def _statuses(results: RunResults | None) -> dict[str, str]:
    return {result.unique_id: result.status for result in results.results} if results else {}


def _is_idle_unit_test(node: NodeReport) -> bool:
    return node.resource_type == "unit_test" and node.outcome is NodeOutcome.NOT_RUN
