"""The report as GitHub-flavoured Markdown: the job summary.

Pure. Text that comes from dbt, git or the user goes through `text`, `code` or `block`, which make
it inert: nothing in it can end a table, open HTML, mention a person or link an issue.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ci_defer.bundle import Bundle
from ci_defer.characters import clean
from ci_defer.report import (
    BAD,
    NodeOutcome,
    NodeReport,
    Outcome,
    PassedOver,
    Problem,
    Report,
    State,
    worst_first,
)
from ci_defer.wording import duration, number

MAX_ROWS = 200
MAX_CAUSES = 20
MAX_PASSED_OVER = 3
MAX_NODES_OF_CAUSE = 20
MAX_MESSAGE = 3_000

ICONS = {
    Outcome.SUCCESS: "✅",
    Outcome.FAILURE: "❌",
    Outcome.NO_CHANGES: "⚪",
    Outcome.NO_STATE: "⚪",
    Outcome.ERROR: "❌",
    Outcome.CANCELLED: "🚫",
}
NODE_ICONS = {
    NodeOutcome.FAILED: "❌",
    NodeOutcome.ERRORED: "❌",
    NodeOutcome.WARNED: "⚠️",
    NodeOutcome.SKIPPED: "⏭️",
    NodeOutcome.BUILT: "✅",
    NodeOutcome.PASSED: "✅",
}

PUNCTUATION = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&$:])")


def render(report: Report) -> str:
    """The report as Markdown, ending in a line feed."""
    sections = [
        f"## {ICONS[report.outcome]} {text(report.headline)}",
        _totals(report),
        _problem(report.problem, report.headline) if report.problem else "",
        *(f"> ⚠️ {text(warning)}" for warning in report.warnings),
        *(f"> {_passed_over(item)}" for item in report.passed_over[:MAX_PASSED_OVER]),
        _causes(report),
        _nodes(report.nodes),
        _removed(report),
        _deferred(report),
        _footer(report),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def render_published(bundle: Bundle, location: str) -> str:
    """What onboard did, as Markdown."""
    metadata = bundle.manifest.metadata
    nodes = sum(1 for _ in bundle.manifest.resources())
    commit = bundle.provenance.origin.commit[:12] if bundle.provenance else "unknown"
    return (
        f"## 📦 Production state published\n\n"
        f"Commit {code(commit)}, {nodes:,} resources, {code(location)}\n\n"
        f"<sub>dbt {text(metadata.dbt_version)} ({text(metadata.adapter_type or '')})</sub>\n"
    )


def text(value: str) -> str:
    """`value` as inert inline text, on one line."""
    line = " ".join(clean(value).split())
    escaped = PUNCTUATION.sub(r"\\\1", line)
    # Mentions are found after Markdown is rendered, so an escape would not stop them.
    unlinked = escaped.replace("@", "@\u200b").replace("\\#", "\\#\u200b")
    return re.sub(r"(GH\\-)", "\\1\u200b", unlinked, flags=re.IGNORECASE)


def code(value: str) -> str:
    """`value` as an inline code span, on one line, also inside a table."""
    line = " ".join(clean(value).split()) or " "
    fence = "`" * (_longest_run(line) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    # A pipe ends a table cell even inside a code span, unless it is escaped.
    escaped = line.replace("|", "\\|")
    return f"{fence}{pad}{escaped}{pad}{fence}"


def block(value: str, language: str = "") -> str:
    """`value` as a fenced code block, cut to MAX_MESSAGE characters."""
    content = clean(value)
    if len(content) > MAX_MESSAGE:
        content = f"{content[:MAX_MESSAGE]}\n… {len(content) - MAX_MESSAGE:,} more characters"
    fence = "`" * max(3, _longest_run(content) + 1)
    return f"{fence}{language}\n{content}\n{fence}"


def _totals(report: Report) -> str:
    counts = report.counts
    cells = [
        ("built", counts.built),
        ("tests passed", counts.passed),
        ("warned", counts.warned),
        ("tests failed", counts.failed),
        ("errors", counts.errored),
        ("skipped", counts.skipped),
        ("deferred to production", len(report.deferred)),
        ("removed", len(report.removed)),
    ]
    if not report.nodes and not report.removed:
        return ""
    shown = [(name, number) for name, number in cells if number]
    if not shown:
        return ""
    values = [f"**{number}**" for _, number in shown]
    return _table([*(name for name, _ in shown), "time"], [[*values, duration(report.seconds)]])


def _problem(problem: Problem, headline: str) -> str:
    what, _, details = problem.message.partition("\n")
    parts = [f"**{text(what)}**"] if what != headline else []
    if details:
        parts.append(block(details))
    if problem.hint:
        parts.append(text(problem.hint))
    return "\n\n".join(parts)


def _causes(report: Report) -> str:
    by_id = {node.unique_id: node for node in report.nodes}
    sections = []
    for cause in report.causes[:MAX_CAUSES]:
        nodes = [by_id[unique_id] for unique_id in cause.unique_ids if unique_id in by_id]
        if len(nodes) > 1:
            sections.append(f"#### ❌ {len(nodes)} nodes failed for one reason")
        sections.append("\n".join(_failed_node(node) for node in nodes[:MAX_NODES_OF_CAUSE]))
        if len(nodes) > MAX_NODES_OF_CAUSE:
            sections.append(f"and {len(nodes) - MAX_NODES_OF_CAUSE} more")
        sections.append(block(cause.message))
    if len(report.causes) > MAX_CAUSES:
        left = len(report.causes) - MAX_CAUSES
        sections.append(f"{left} more reasons are in the report (JSON) and in the log.")
    return "\n\n".join(sections)


def _failed_node(node: NodeReport) -> str:
    parts = [f"- ❌ {code(node.name)} ({text(node.resource_type)})"]
    if node.failures:
        parts.append(f"{node.failures:,} failing rows")
    if node.path:
        parts.append(f"in {code(node.path)}")
    if node.compiled_path:
        parts.append(f"compiled SQL: {code(node.compiled_path)}")
    return ", ".join(parts)


def _nodes(nodes: Sequence[NodeReport]) -> str:
    if not nodes:
        return ""
    rows = [_row(node) for node in worst_first(nodes)[:MAX_ROWS]]
    table = _table(("", "node", "type", "result", "time"), rows)
    if len(nodes) > MAX_ROWS:
        table += f"\n\n{len(nodes) - MAX_ROWS} more nodes are in the report (JSON)."
    return _folded(f"{number(len(nodes), 'node')} selected or run", table)


def _row(node: NodeReport) -> tuple[str, ...]:
    kind = node.materialized if node.resource_type == "model" else node.resource_type
    result = node.status or node.outcome.value
    if node.outcome in BAD and node.failures:
        result = f"{result} ({node.failures:,} rows)"
    if node.outcome is NodeOutcome.NOT_RUN:
        result = f"{node.outcome.value}: {node.message}"
    seconds = duration(node.seconds) if node.seconds else ""
    return (
        NODE_ICONS.get(node.outcome, "▫️"),
        code(node.name),
        text(kind or node.resource_type),
        text(result),
        seconds,
    )


def _removed(report: Report) -> str:
    if not report.removed:
        return ""
    rows = [
        (
            code(item.name),
            text(item.resource_type),
            "disabled for this target" if item.disabled else "removed",
            code(item.path) if item.path else "",
        )
        for item in report.removed[:MAX_ROWS]
    ]
    table = _table(("node", "type", "", "was in"), rows)
    if len(report.removed) > MAX_ROWS:
        table += f"\n\n{len(report.removed) - MAX_ROWS} more are in the report (JSON)."
    note = "dbt selects nothing for these, and production keeps their relations."
    verb = "is" if len(report.removed) == 1 else "are"
    return _folded(
        f"{number(len(report.removed), 'node')} of production {verb} gone", f"{note}\n\n{table}"
    )


def _deferred(report: Report) -> str:
    if not report.deferred:
        return ""
    rows = [
        (code(item.name), code(item.relation), text(item.production_status))
        for item in report.deferred[:MAX_ROWS]
    ]
    table = _table(("node", "relation of production", "in production's run"), rows)
    if len(report.deferred) > MAX_ROWS:
        table += f"\n\n{len(report.deferred) - MAX_ROWS} more are in the report (JSON)."
    return _folded(f"{number(len(report.deferred), 'node')} read from production", table)


def _footer(report: Report) -> str:
    parts = [f"project {code(report.project)}"]
    if report.state:
        parts.append(_state(report.state))
    if report.dbt_version:
        parts.append(f"dbt {text(report.dbt_version)} ({text(report.adapter)})")
    if report.target:
        parts.append(f"target {code(report.target)}")
    parts.append(duration(report.seconds))
    if report.seconds_saved:
        parts.append(f"about {duration(report.seconds_saved)} of warehouse work saved")
    return f"<sub>{' · '.join(parts)}</sub>"


def _state(state: State) -> str:
    if not state.has_provenance:
        return f"compared with the manifest in {code(state.location)}, of an unknown commit"
    said = f"compared with commit {code(state.commit[:12])}"
    if state.reparsed:
        return f"{said}, which was parsed again: {text(state.reason)}"
    if state.age_commits:
        said += f", {number(state.age_commits, 'commit')} before the base commit"
    return f"{said}, published {text(state.created_at)}"


def _passed_over(item: PassedOver) -> str:
    return f"The state of commit {code(item.commit[:12])} was not used. {text(item.reason)}"


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = tuple(header)
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"


def _longest_run(value: str) -> int:
    return max((len(run) for run in re.findall(r"`+", value)), default=0)
