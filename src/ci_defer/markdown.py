"""The report as a page of GitHub-flavoured Markdown: the comment and the summary of the job.

Pure. Owns what is said, in which order, and what goes first when the page is full. How a text is
made harmless is known by `gfm`; what is drawn, by `lineage`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from ci_defer import lineage
from ci_defer.bundle import COMMIT, Bundle
from ci_defer.gfm import (
    block,
    code,
    code_cell,
    folded,
    link,
    path_in_url,
    prose,
    table,
    table_row,
    text,
)
from ci_defer.page import SEPARATOR, Page, Room, characters, octets
from ci_defer.report import (
    BAD,
    TESTS,
    Exposure,
    NodeOutcome,
    NodeReport,
    Outcome,
    PassedOver,
    Problem,
    Removed,
    Report,
    State,
    worst_first,
)
from ci_defer.wording import NOT_REACHED, age, duration, number

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

# What is above the failures is short whatever happens.
MAX_WARNINGS = 10
MAX_PASSED_OVER = 3
MAX_SENTENCE = 600
# Failed nodes of one cause; the table has them all.
MAX_NODES_OF_CAUSE = 20
# A reason that selected more nodes than this is said once, above the table.
MAX_REPEATED = 3
MAX_REASONS = 10
# A graph of more nodes is opened by those who want to see it.
MAX_NODES_OF_OPEN_GRAPH = 15

# What a message may take and whether its SQL is shown, from a full account to the first lines.
DETAILS = ((3_000, True), (3_000, False), (500, False))
MAX_SQL = 6_000
SHORT_NAME = 100
SHORT_MESSAGE = 200
MAX_NODES_IN_SIGHT = 5
ONLY_ROWS = re.compile(r"Got \d+ results?, configured to \w+ if [^\n]*")


COMMENT = Page(65_536, characters, 100, "in the summary of the job")
# GitHub drops a summary of more than 1,024 KiB; some of it may be another step's.
SUMMARY = Page(1_000_000, octets, 1_000_000, "in report.json")


def render(report: Report, page: Page = SUMMARY) -> str:
    """The report as Markdown, ending in a line feed, and never more than the page holds.

    The outcome, the counts and the first failures are always there. Lists lose rows, and say how
    many; nothing is cut in the middle.
    """
    links = _Links(report)
    top = [
        f"## {ICONS[report.outcome]} {text(report.headline)}",
        _totals(report),
        _problem(report.problem, report.headline) if report.problem else "",
        *_remarks(report),
    ]
    bottom = [*_about_the_state(report, links), _footer(report, links)]
    room = page.room([*top, *bottom])
    # In the order in which they get their room, which is not the one in which they are read.
    failures = room.part(0.7, lambda share: _failures(report, links, share))
    graph = room.part(0.5, lambda share: _graph(report, share))
    removed = room.part(0.3, lambda share: _removed(report, share))
    exposures = room.part(0.3, lambda share: _exposures(report, links, share))
    nodes = room.part(0.8, lambda share: _nodes(report, share))
    deferred = room.part(1.0, lambda share: _deferred(report, share))
    parts = [*top, failures, nodes, removed, exposures, graph, deferred, *bottom]
    return SEPARATOR.join(part for part in parts if part) + "\n"


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


class _Links:
    """Links into the repository, where this report knows it."""

    def __init__(self, report: Report) -> None:
        self._repository = report.repository_url
        self._head = report.head_commit
        self._is_own = report.is_own
        self._in_repository = report.path_in_repository

    def file(self, path: str, line: int | None = None, shown: Callable[[str], str] = code) -> str:
        """A file of the project at the head commit."""
        label = shown(f"{path}:{line}" if line else path)
        where = self._in_repository(path)
        # A browser follows `..` out of the repository.
        is_inside = ".." not in where.split("/")
        if not (self._repository and COMMIT.fullmatch(self._head) and is_inside):
            return label
        place = f"#L{line}" if line else ""
        return link(label, f"{self._repository}/blob/{self._head}/{path_in_url(where)}{place}")

    def node(self, node: NodeReport) -> str:
        """The file of a node; that of a package is in no commit of ours."""
        return self.file(node.path, node.line) if self._is_own(node) else code(node.path)

    def commit(self, commit: str) -> str:
        label = code(commit[:12])
        if not (self._repository and COMMIT.fullmatch(commit)):
            return label
        return link(label, f"{self._repository}/commit/{commit}")


def _totals(report: Report) -> str:
    counts = report.counts
    cells = [
        ("built", counts.built),
        ("tests passed", counts.passed),
        ("warned", counts.warned),
        ("tests failed", counts.failed),
        ("errors", counts.errored),
        ("skipped", counts.skipped),
        ("not reached", sum(node.message == NOT_REACHED for node in report.nodes)),
        ("read from production", len(report.deferred)),
        ("removed", len(report.removed)),
    ]
    shown = [(name, count) for name, count in cells if count]
    if not shown:
        return ""
    values = [f"**{count:,}**" for _, count in shown]
    return table([*(name for name, _ in shown), "time"], [[*values, duration(report.seconds)]])


def _problem(problem: Problem, headline: str) -> str:
    what, _, details = problem.message.partition("\n")
    parts = [f"**{text(what, MAX_SENTENCE)}**"] if what != headline else []
    if details:
        parts.append(block(details))
    if problem.hint:
        parts.append(prose(problem.hint, MAX_SENTENCE))
    return SEPARATOR.join(parts)


def _remarks(report: Report) -> Iterator[str]:
    for warning in report.warnings[:MAX_WARNINGS]:
        yield f"> ⚠️ {prose(warning, MAX_SENTENCE)}"
    if len(report.warnings) > MAX_WARNINGS:
        yield f"> ⚠️ {number(len(report.warnings) - MAX_WARNINGS, 'more warning')} in report.json"


def _about_the_state(report: Report, links: _Links) -> Iterator[str]:
    """What a person should know when the state is not that of the base commit itself."""
    for item in report.passed_over[:MAX_PASSED_OVER]:
        yield f"> {_passed_over(item, links)}"
    state = report.state
    if state and state.age_commits and not state.reparsed:
        yield (
            f"> What {number(state.age_commits, 'commit')} changed before the base commit may be "
            "built here too: their state is not published, or cannot be used."
        )


def _passed_over(item: PassedOver, links: _Links) -> str:
    commit = links.commit(item.commit)
    return f"The state of commit {commit} was not used. {text(item.reason, MAX_SENTENCE)}"


def _failures(report: Report, links: _Links, room: Room) -> str:
    """Each cause with its nodes; the first ones in full, then shorter, then counted."""
    causes = report.failures()
    parts: list[str] = []
    for cause, nodes in causes:
        versions = _ever_shorter(cause.message, nodes, links, room.page)
        taken = next((part for part in versions if room.take(part)), None)
        if taken is None:
            break
        parts.append(taken)
    if left := len(causes) - len(parts):
        parts.append(f"❌ {number(left, 'more reason')} for failures {room.page.rest}.")
    return SEPARATOR.join(parts)


def _ever_shorter(
    message: str, nodes: Sequence[NodeReport], links: _Links, page: Page
) -> Iterator[str]:
    """One cause: with the SQL, without it, with a short message, and with one name alone."""
    failed = [_failed_node(node, links) for node in nodes[:MAX_NODES_OF_CAUSE]]
    sql = _compiled(nodes)
    # "Got 3 results, configured to fail if != 0": the number of rows is said beside the name.
    has_message = not (nodes[0].failures and ONLY_ROWS.fullmatch(message))
    if len(nodes) == 1:
        name, where = failed[0]
        above, below = [f"### ❌ {name}", where], []
    else:
        above = [f"### ❌ {number(len(nodes), 'node')} failed for one reason"]
        names = [f"{name} · {where}" if where else name for name, where in failed]
        below = _listed(names, len(nodes), page)
    for limit, with_sql in DETAILS:
        said = block(message, limit=limit) if has_message else ""
        parts = [*above, said, *below, sql if with_sql else ""]
        yield SEPARATOR.join(part for part in parts if part)
    name = code(nodes[0].name, SHORT_NAME)
    others = f" and {number(len(nodes) - 1, 'more node')}" if len(nodes) > 1 else ""
    yield SEPARATOR.join([f"### ❌ {name}{others}", block(message, limit=SHORT_MESSAGE)])


def _failed_node(node: NodeReport, links: _Links) -> tuple[str, str]:
    """What failed, and where that is."""
    rows = f", {number(node.failures, 'failing row')}" if node.failures else ""
    where = links.node(node) if node.path else ""
    return f"{code(node.name)} ({text(_kind(node))}{rows})", where


def _listed(names: Sequence[str], total: int, page: Page) -> list[str]:
    """The nodes of one cause as a list, whose tail is folded."""
    items = [f"- {name}" for name in names]
    if total > len(items):
        items.append(f"- and {total - len(items):,} more {page.rest}")
    first, rest = items[:MAX_NODES_IN_SIGHT], items[MAX_NODES_IN_SIGHT:]
    if not rest:
        return ["\n".join(first)]
    return ["\n".join(first), folded(f"{total - len(first):,} more of them", "\n".join(rest))]


def _compiled(nodes: Sequence[NodeReport]) -> str:
    """The SQL of the first node that has some."""
    node = next((node for node in nodes if node.compiled_code), None)
    if node is None:
        return ""
    title = "Compiled SQL" if len(nodes) == 1 else "Compiled SQL of the first of them"
    where = f"{code(node.compiled_path)}{SEPARATOR}" if node.compiled_path else ""
    return folded(title, f"{where}{block(node.compiled_code, 'sql', limit=MAX_SQL)}")


def _nodes(report: Report, room: Room) -> str:
    if not report.nodes:
        return ""
    notes = _common_reasons(report.nodes)
    note = SEPARATOR.join(
        f"({index}) {number(count, 'node')}: {text(reason)}"
        for reason, (index, count) in notes.items()
    )
    has_reasons = any(_why(node, {}) for node in report.nodes)
    columns = ("", "node", "type", "result", "time", *(("selected as",) if has_reasons else ()))
    rows = (_row(node, notes, has_reasons=has_reasons) for node in worst_first(report.nodes))
    tests = sum(1 for node in report.nodes if node.resource_type in TESTS)
    kinds = [(len(report.nodes) - tests, "node"), (tests, "test")]
    title = " and ".join(number(count, noun) for count, noun in kinds if count)
    title += " selected or run"
    # In sight: why a pull request builds so much is asked before what it builds.
    above = [note] if note and room.take(note) else []
    return SEPARATOR.join([*above, room.table(title, columns, rows, len(report.nodes))]).strip()


def _row(node: NodeReport, notes: dict[str, tuple[int, int]], *, has_reasons: bool) -> str:
    result = node.status or node.outcome.value
    if node.outcome in BAD and node.failures:
        result = f"{result} ({number(node.failures, 'row')})"
    if node.outcome is NodeOutcome.NOT_RUN:
        result = f"{node.outcome.value}: {node.message}"
    cells = [
        NODE_ICONS.get(node.outcome, "▫️"),
        code_cell(node.name),
        text(_kind(node)),
        text(result),
        duration(node.seconds) if node.seconds else "",
    ]
    return table_row([*cells, _why(node, notes)] if has_reasons else cells)


def _why(node: NodeReport, notes: dict[str, tuple[int, int]]) -> str:
    """Why a node was selected: in words, or as the number of a note above the table."""
    if node.why in notes:
        return f"({notes[node.why][0]})"
    return text(node.why, MAX_SENTENCE) if node.why else (node.change.value if node.change else "")


def _common_reasons(nodes: Iterable[NodeReport]) -> dict[str, tuple[int, int]]:
    """Reasons of many nodes: the number of their note, and how many nodes."""
    counted = Counter(node.why for node in nodes if node.why)
    most = counted.most_common(MAX_REASONS)
    common = [(reason, count) for reason, count in most if count > MAX_REPEATED]
    return {reason: (index, count) for index, (reason, count) in enumerate(common, 1)}


def _removed(report: Report, room: Room) -> str:
    if not report.removed:
        return ""
    total, read = len(report.removed), sum(1 for item in report.removed if item.read_by)
    title = f"{number(total, 'node')} of production {'is' if total == 1 else 'are'} gone"
    if read:
        title += (
            f", and {read:,} of them {'was' if read == 1 else 'were'} read by what is still here"
        )
    note = "dbt selects nothing for these, and production keeps their relations."
    columns = ("node", "type", "how", "was in", "read in production by")
    # What was read by something is what a person has to look at.
    ordered = sorted(report.removed, key=lambda item: not item.read_by)
    rows = (_removed_row(item) for item in ordered)
    return room.table(title, columns, rows, total, note=note, is_open=bool(read))


def _removed_row(item: Removed) -> str:
    names = [code_cell(unique_id.split(".", 2)[-1]) for unique_id in item.read_by[:MAX_REPEATED]]
    more = len(item.read_by) - MAX_REPEATED
    readers = ", ".join(names) + (f" and {more:,} more" if more > 0 else "")
    return table_row(
        (
            code_cell(item.name),
            text(item.resource_type),
            "disabled for this target" if item.disabled else "removed",
            code_cell(item.path) if item.path else "",
            readers,
        )
    )


def _exposures(report: Report, links: _Links, room: Room) -> str:
    if not report.exposures:
        return ""
    total = len(report.exposures)
    rows = (_exposure_row(item, links) for item in report.exposures)
    columns = ("exposure", "type", "owner", "declared in")
    return room.table(
        f"{number(total, 'exposure')} downstream of this change", columns, rows, total
    )


def _exposure_row(item: Exposure, links: _Links) -> str:
    where = links.file(item.path, shown=code_cell) if item.path else ""
    return table_row((code_cell(item.name), text(item.type), text(item.owner), where))


def _graph(report: Report, room: Room) -> str:
    drawn = lineage.draw(report)
    if drawn is None:
        return ""
    legend = text(drawn.legend, MAX_SENTENCE)
    if drawn.left_out:
        legend = f"{legend} {number(drawn.left_out, 'more node')} not drawn."
    content = f"```mermaid\n{drawn.source}\n```\n\n<sub>{legend}</sub>"
    title = f"Lineage of {number(drawn.shown, 'node')}"
    made = folded(title, content, is_open=drawn.shown <= MAX_NODES_OF_OPEN_GRAPH)
    return made if room.fits(made) else ""


def _deferred(report: Report, room: Room) -> str:
    if not report.deferred:
        return ""
    total = len(report.deferred)
    rows = (
        table_row((code_cell(item.name), code_cell(item.relation), text(item.production_status)))
        for item in report.deferred
    )
    columns = ("node", "relation of production", "in production's run")
    return room.table(f"{number(total, 'node')} read from production", columns, rows, total)


def _footer(report: Report, links: _Links) -> str:
    parts = [f"project {code(report.project)}"]
    if report.state:
        parts.append(_state(report.state, links, report.started_at))
    if report.dbt_version:
        parts.append(f"dbt {text(report.dbt_version)} ({text(report.adapter)})")
    if report.parsed_in_full:
        parts.append(f"parsed in full ({text(report.parsed_in_full, MAX_SENTENCE)})")
    if report.target:
        parts.append(f"target {code(report.target)}")
    if report.pr_schema:
        parts.append(f"schema {code(report.pr_schema)}")
    parts.append(link("run", report.run_url) if report.run_url else "")
    if not _totals(report):
        parts.append(duration(report.seconds))
    if report.seconds_saved:
        parts.append(f"about {duration(report.seconds_saved)} of warehouse work saved")
    return f"<sub>{' · '.join(part for part in parts if part)}</sub>"


def _state(state: State, links: _Links, now: str) -> str:
    if state.is_compared_apart and not state.has_provenance:
        of = f"commit {links.commit(state.commit)}" if state.commit else "an unknown commit"
        made = text(age(state.created_at, now))
        return (
            "compared with the base commit, parsed again · production is the latest manifest in "
            f"{code(state.location)}, of {of}, made {made}"
        )
    if not state.has_provenance:
        return f"compared with the manifest in {code(state.location)}, of an unknown commit"
    said = f"compared with commit {links.commit(state.commit)}"
    if state.compared_because:
        said += f", parsed again ({text(state.compared_because, MAX_SENTENCE)})"
    if state.reparsed:
        return f"{said}, which was parsed again: {text(state.reason, MAX_SENTENCE)}"
    if state.age_commits:
        said += f", {number(state.age_commits, 'commit')} before the base commit"
    return f"{said}, published {text(age(state.created_at, now))}"


def _kind(node: NodeReport) -> str:
    kind = node.materialized if node.resource_type == "model" else node.resource_type
    return f"{kind or node.resource_type}, cloned" if node.cloned else kind or node.resource_type
