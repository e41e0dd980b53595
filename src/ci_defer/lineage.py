"""The affected part of the lineage as a Mermaid flowchart.

Pure. Owns which nodes are drawn when there are too many, and how they are told apart: by shape and
by word, so that it needs no colour. https://mermaid.js.org/syntax/flowchart.html
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from ci_defer.characters import clean
from ci_defer.report import BAD, TESTS, Change, NodeOutcome, NodeReport, Report
from ci_defer.wording import NOT_REACHED, number

# More than this is not read on a pull request, and Mermaid is slow with it.
MAX_NODES = 25
MAX_EDGES = 100
MAX_LABEL = 60

CHANGED = frozenset({Change.NEW, Change.MODIFIED})
NOT_DRAWN = TESTS | {"operation"}
# Everything else becomes an entity code, which Mermaid shows as the character: Markdown, icons and
# directives are found in labels too. Punctuation inside of a word is none of these.
PLAIN = re.compile(r"[A-Za-z0-9 ]|(?<=[A-Za-z0-9])[_.-](?=[A-Za-z0-9])")
WEB_ADDRESS = re.compile(r"(www)\.", re.IGNORECASE)
# Entity codes are shown as such where labels are not HTML, so that it must not depend on defaults.
DIRECTIVE = '%%{init: {"htmlLabels": true, "flowchart": {"htmlLabels": true}}}%%'


class Kind(Enum):
    """How a node is drawn: the word beside its name, the shape around it, the class of its colour.

    In the order in which they matter when not all can be drawn.
    """

    FAILED = ("failed", '{{"', '"}}', "failed")
    NEW = ("new", '["', '"]', "changed")
    MODIFIED = ("modified", '["', '"]', "changed")
    EXPOSURE = ("exposure", '>"', '"]', "exposure")
    SELECTED = ("selected", '("', '")', "downstream")
    DOWNSTREAM = ("downstream", '("', '")', "downstream")
    SKIPPED = ("skipped", '("', '")', "downstream")
    NOT_REACHED = ("not reached", '("', '")', "downstream")
    DEFERRED = ("from production", '[("', '")]', "deferred")


# Dark text on light colours reads well on either background of GitHub.
CLASSES = """\
classDef failed fill:#ffebe9,stroke:#cf222e,stroke-width:3px,color:#1f2328
classDef changed fill:#ddf4ff,stroke:#0969da,stroke-width:2px,color:#1f2328
classDef downstream fill:#f6f8fa,stroke:#59636e,color:#1f2328
classDef exposure fill:#fbefff,stroke:#8250df,color:#1f2328
classDef deferred fill:#f6f8fa,stroke:#59636e,stroke-dasharray:4 3,color:#1f2328"""

LEGEND = {
    "failed": "Hexagon: failed.",
    "changed": "Box: new or modified.",
    "downstream": "Rounded: downstream.",
    "exposure": "Flag: exposure.",
    "deferred": "Cylinder: read from production.",
}


@dataclass(frozen=True)
class Drawing:
    """The source of a flowchart, and how many nodes are in it and were left out of it."""

    source: str
    shown: int
    left_out: int
    legend: str


@dataclass(frozen=True)
class _Drawn:
    unique_id: str
    name: str
    kind: Kind
    note: str
    parents: tuple[str, ...]


def draw(report: Report) -> Drawing | None:
    """The flowchart; None when there is nothing to compare with, or no line to draw."""
    if report.state is None:
        return None
    nodes = {node.unique_id: node for node in _nodes(report)}
    chosen = _chosen(nodes)
    edges = [
        (parent, unique_id)
        for unique_id in chosen
        for parent in dict.fromkeys(nodes[unique_id].parents)
        if parent in chosen
    ][:MAX_EDGES]
    # What hangs on no line says no more than the table.
    joined = {end for edge in edges for end in edge}
    shown = {
        unique_id: f"n{index}" for index, unique_id in enumerate(chosen) if unique_id in joined
    }
    if not shown:
        return None
    lines = [
        DIRECTIVE,
        "flowchart LR",
        *(_vertex(shown[unique_id], nodes[unique_id]) for unique_id in shown),
        *(f"{shown[parent]} --> {shown[child]}" for parent, child in edges),
        CLASSES,
    ]
    styles = {nodes[unique_id].kind.value[3] for unique_id in shown}
    legend = " ".join(said for style, said in LEGEND.items() if style in styles)
    return Drawing("\n".join(lines), len(shown), len(nodes) - len(shown), legend)


def _chosen(nodes: Mapping[str, _Drawn]) -> list[str]:
    """At most MAX_NODES that hang together: the ones that matter, and what is next to them."""
    neighbours: dict[str, list[str]] = {unique_id: [] for unique_id in nodes}
    for node in nodes.values():
        for parent in node.parents:
            if parent in nodes:
                neighbours[parent].append(node.unique_id)
                neighbours[node.unique_id].append(parent)
    rank = {kind: index for index, kind in enumerate(Kind)}

    def by_rank(unique_ids: Iterable[str]) -> list[str]:
        return sorted(unique_ids, key=lambda unique_id: rank[nodes[unique_id].kind])

    chosen: dict[str, None] = {}
    for seed in by_rank(unique_id for unique_id in nodes if neighbours[unique_id]):
        queue = deque([seed])
        while queue and len(chosen) < MAX_NODES:
            unique_id = queue.popleft()
            if unique_id not in chosen:
                chosen[unique_id] = None
                queue.extend(by_rank(neighbours[unique_id]))
    return list(chosen)


def label(value: str) -> str:
    """`value` as text inside the quotes of a Mermaid label."""
    line = " ".join(clean(value[: 4 * MAX_LABEL]).split())
    if len(line) > MAX_LABEL:
        line = f"{line[: MAX_LABEL - 1]}…"
    coded = "".join(
        character if PLAIN.match(line, index) else f"#{ord(character)};"
        for index, character in enumerate(line)
    )
    return WEB_ADDRESS.sub(r"\1#46;", coded) or " "


def _nodes(report: Report) -> Iterable[_Drawn]:
    failed_tests = Counter(
        parent
        for node in report.nodes
        if node.resource_type in NOT_DRAWN and node.outcome in BAD
        for parent in node.parents[:1]
    )
    for node in report.nodes:
        if node.resource_type in NOT_DRAWN or node.resource_type == "exposure":
            continue
        tests = failed_tests.get(node.unique_id, 0)
        kind = Kind.FAILED if tests else _kind(node)
        said = [node.change.value] if node.change in CHANGED and kind is Kind.FAILED else []
        said += [number(tests, "failed test")] if tests else [kind.value[0]]
        note = ", ".join(said)
        yield _Drawn(node.unique_id, node.name, kind, note, tuple(node.parents))
    for item in report.exposures:
        parents = tuple(item.parents)
        yield _Drawn(item.unique_id, item.name, Kind.EXPOSURE, item.type, parents)
    for read in report.deferred:
        # The model is as it was, but a test of it is new.
        tests = failed_tests.get(read.unique_id, 0)
        note = f"{number(tests, 'failed test')}, from production" if tests else ""
        kind = Kind.FAILED if tests else Kind.DEFERRED
        yield _Drawn(read.unique_id, read.name, kind, note, ())


def _kind(node: NodeReport) -> Kind:
    if node.outcome in BAD:
        return Kind.FAILED
    if node.outcome is NodeOutcome.SKIPPED:
        return Kind.SKIPPED
    if node.message == NOT_REACHED:
        return Kind.NOT_REACHED
    return Kind.SELECTED if node.change is None else Kind[node.change.name]


def _vertex(identifier: str, node: _Drawn) -> str:
    word, opening, closing, style = node.kind.value
    said = f"{label(node.name)}<br/>{label(node.note or word)}"
    return f"{identifier}{opening}{said}{closing}:::{style}"
