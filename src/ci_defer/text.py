"""The report as plain text: the last thing in the log, and what the terminal shows.

Pure. Made for a reader who has scrolled past dbt's own output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ci_defer.characters import clean
from ci_defer.report import TESTS, Change, NodeOutcome, NodeReport, Report, worst_first
from ci_defer.wording import duration, number

MAX_NODES = 60
MAX_CAUSES = 10
NAME_WIDTH = 58
PLURALS = {"analysis": "analyses", "saved query": "saved queries"}
WHY_WIDTH = 70

MARKS = {
    NodeOutcome.FAILED: "FAIL",
    NodeOutcome.ERRORED: "ERROR",
    NodeOutcome.WARNED: "warn",
    NodeOutcome.SKIPPED: "skip",
    NodeOutcome.BUILT: "built",
    NodeOutcome.PASSED: "pass",
    NodeOutcome.NO_OP: "no-op",
    NodeOutcome.HOOK: "hook",
    NodeOutcome.NOT_RUN: "-",
    NodeOutcome.OTHER: "?",
}


def render(report: Report) -> str:
    """The report as lines of text."""
    lines = ["", f"ci-defer · {report.project} · {report.outcome.value.upper()}"]
    lines += [report.headline, ""]
    if report.problem:
        # The headline has the first line of it already, unless dbt's nodes were all fine.
        message = report.problem.message.splitlines()
        lines += message[1:] if message[:1] == [report.headline] else message
        lines += [report.problem.hint, ""]
    lines += _causes(report)
    lines += _nodes(report.nodes)
    if report.removed:
        names = ", ".join(item.name for item in report.removed[:MAX_CAUSES])
        more = len(report.removed) - MAX_CAUSES
        lines += [f"Gone     {names}{f' and {more} more' if more > 0 else ''}"]
    if report.deferred:
        lines += ["Read from production instead of built:"]
        lines += [f"  {item.name:<{NAME_WIDTH}} {item.relation}" for item in report.deferred]
    lines += [f"Warning  {warning}" for warning in report.warnings]
    lines += ["", *_footer(report)]
    return clean("\n".join(lines))


def render_plan(nodes: Sequence[NodeReport], production_seconds: float | None = None) -> str:
    """What dbt is about to build and why, before it does: lines of text."""
    kinds = Counter(node.resource_type for node in nodes)
    counted = ", ".join(_counted(count, kind) for kind, count in kinds.most_common())
    lines = ["", f"Plan     {counted}"]
    if production_seconds is not None:
        lines.append(f"         production spends {duration(production_seconds)} on them")
    changed = [node for node in nodes if node.change in (Change.NEW, Change.MODIFIED)]
    width = min(NAME_WIDTH, max((len(node.name) for node in changed), default=0))
    for node in changed[:MAX_NODES]:
        why = node.why + (f" (suspected: {node.suspicion})" if node.suspicion else "")
        lines.append(f"  {_cut(node.name, width):<{width}} {node.resource_type:<12} {why}")
    if len(changed) > MAX_NODES:
        lines.append(f"  and {len(changed) - MAX_NODES} more that changed")
    others = len(nodes) - len(changed)
    if changed and others:
        lines.append(f"  and {number(others, 'node')} downstream of these, or chosen")
    return clean("\n".join([*lines, ""]))


def _counted(count: int, resource_type: str) -> str:
    noun = "data test" if resource_type == "test" else resource_type.replace("_", " ")
    plural = PLURALS.get(noun)
    return f"{count:,} {plural}" if plural and count != 1 else number(count, noun)


def _causes(report: Report) -> list[str]:
    by_id = {node.unique_id: node for node in report.nodes}
    lines: list[str] = []
    for cause in report.causes[:MAX_CAUSES]:
        for unique_id in cause.unique_ids[:MAX_CAUSES]:
            node = by_id[unique_id]
            rows = f", {node.failures:,} failing rows" if node.failures else ""
            lines.append(f"{MARKS[node.outcome]}  {node.name}  ({node.path}{rows})")
            if node.compiled_path:
                lines.append(f"       compiled SQL: {node.compiled_path}")
        if len(cause.unique_ids) > MAX_CAUSES:
            lines.append(f"       and {len(cause.unique_ids) - MAX_CAUSES} more for this reason")
        lines += [f"       {line}" for line in cause.message.splitlines()]
        lines.append("")
    return lines


def _nodes(nodes: list[NodeReport]) -> list[str]:
    """A line for each node but the tests that passed or were skipped: the headline counts them."""
    shown = [
        node
        for node in nodes
        if node.outcome is not NodeOutcome.PASSED
        and not (node.outcome is NodeOutcome.SKIPPED and node.resource_type in TESTS)
    ]
    listed = worst_first(shown)[:MAX_NODES]
    width = min(NAME_WIDTH, max((len(node.name) for node in listed), default=0))
    lines = [_node(node, width) for node in listed]
    if len(shown) > MAX_NODES:
        lines.append(f"  and {len(shown) - MAX_NODES} more nodes, in the report")
    return [*lines, ""] if lines else []


def _node(node: NodeReport, width: int) -> str:
    kind = node.materialized if node.resource_type == "model" else node.resource_type
    name, why = _cut(node.name, width), _cut(node.why, WHY_WIDTH)
    seconds = duration(node.seconds) if node.seconds else ""
    return f"  {MARKS[node.outcome]:<6} {name:<{width}} {kind:<12} {seconds:<8} {why}".rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _footer(report: Report) -> list[str]:
    lines = []
    if report.state:
        state = report.state
        what = f"commit {state.commit[:12]}" if state.commit else "a manifest of unknown commit"
        age = (
            f", {number(state.age_commits, 'commit')} before the base" if state.age_commits else ""
        )
        lines.append(f"State    {what}{age}, from {state.location}")
    times = [f"Time     {duration(report.seconds)}"]
    if report.seconds_saved:
        times.append(f"about {duration(report.seconds_saved)} of warehouse work saved")
    if report.dbt_version:
        times.append(f"dbt {report.dbt_version} ({report.adapter})")
    return [*lines, " · ".join(times)]
