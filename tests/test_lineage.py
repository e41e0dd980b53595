from __future__ import annotations

import random
import re
from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace

from ci_defer.characters import clean
from ci_defer.lineage import DIRECTIVE, MAX_EDGES, MAX_LABEL, MAX_NODES, draw, label
from ci_defer.report import (
    Change,
    Deferred,
    Exposure,
    NodeOutcome,
    NodeReport,
    Outcome,
    Report,
    State,
)
from ci_defer.wording import NOT_REACHED
from tests.golden_reports import GOLDEN, mermaid_blocks
from tests.harness import mermaid
from tests.hostile import TEXT, WORDS, written

REPORT = Report(
    outcome=Outcome.SUCCESS,
    headline="",
    project="shop",
    project_dir=".",
    started_at="",
    seconds=1.0,
    state=State(location="/s", has_provenance=False),
)
A, B, C = (f"model.shop.{name}" for name in "abc")


def node(
    name: str,
    *parents: str,
    outcome: NodeOutcome = NodeOutcome.BUILT,
    change: Change | None = Change.MODIFIED,
    **more: Any,
) -> NodeReport:
    basic = {"unique_id": f"model.shop.{name}", "resource_type": "model"}
    fields = {**basic, "name": name, "parents": list(parents), **more}
    return NodeReport(**fields, outcome=outcome, change=change)


def failing_test(of: str, *others: str, outcome: NodeOutcome = NodeOutcome.FAILED) -> NodeReport:
    return node("t", of, *others, outcome=outcome, unique_id="test.shop.t", resource_type="test")


def source(*nodes: NodeReport, **more: Any) -> str:
    drawn = draw(replace(REPORT, nodes=list(nodes), **more))
    assert drawn
    return drawn.source


def vertices(made: str) -> list[str]:
    """The lines of the vertices without their identifiers."""
    return [
        line[2:] for line in made.splitlines() if re.match(r"n\d\W", line) and "-->" not in line
    ]


def edges(made: str) -> list[str]:
    return [line for line in made.splitlines() if "-->" in line]


# What is drawn ----------------------------------------------------------------------------------

EXPOSURE = Exposure(unique_id="exposure.shop.e", name="e", type="dashboard", parents=[A])
DEFERRED = Deferred(unique_id=A, name="a", relation="a")


@pytest.mark.parametrize(
    ("outcome", "change", "expected"),
    [
        (NodeOutcome.BUILT, Change.NEW, '["b<br/>new"]:::changed'),
        (NodeOutcome.BUILT, Change.MODIFIED, '["b<br/>modified"]:::changed'),
        (NodeOutcome.BUILT, Change.DOWNSTREAM, '("b<br/>downstream"):::downstream'),
        (NodeOutcome.BUILT, None, '("b<br/>selected"):::downstream'),
        (NodeOutcome.SKIPPED, Change.DOWNSTREAM, '("b<br/>skipped"):::downstream'),
        (NodeOutcome.ERRORED, Change.DOWNSTREAM, '{{"b<br/>failed"}}:::failed'),
        (NodeOutcome.FAILED, None, '{{"b<br/>failed"}}:::failed'),
    ],
)
def test_draw__tells_kinds_apart_by_shape_and_word(
    outcome: NodeOutcome, change: Change | None, expected: str
) -> None:
    made = source(node("b", A, outcome=outcome, change=change), deferred=[DEFERRED])
    assert sorted(vertices(made)) == sorted([expected, '[("a<br/>from production")]:::deferred'])


def test_draw__a_changed_node_that_fails_is_both() -> None:
    made = source(node("b", A, outcome=NodeOutcome.ERRORED), deferred=[DEFERRED])
    assert '{{"b<br/>modified#44; failed"}}:::failed' in vertices(made)


def test_draw__exposures_are_flags_with_their_type() -> None:
    made = source(node("a"), exposures=[EXPOSURE])
    assert '>"e<br/>dashboard"]:::exposure' in vertices(made)
    assert '>"e<br/>exposure"]:::exposure' in vertices(
        source(node("a"), exposures=[replace(EXPOSURE, type="")])
    )


def test_draw__the_legend_is_of_the_shapes_that_are_there() -> None:
    nodes = [node("a"), node("b", A)]
    drawn = draw(replace(REPORT, nodes=nodes))
    assert drawn
    assert drawn.legend == "Box: new or modified."
    nodes = [
        node("b", A, outcome=NodeOutcome.ERRORED),
        node("c", A, change=Change.NEW),
        node("d", A, change=Change.DOWNSTREAM),
    ]
    drawn = draw(replace(REPORT, nodes=nodes, exposures=[EXPOSURE], deferred=[DEFERRED]))
    assert drawn
    shapes = ("Hexagon: f", "Box: n", "Rounded: d", "Flag: e", "Cylinder: r")
    assert [shape in drawn.legend for shape in shapes] == [True] * 5


def test_draw__what_was_not_reached_says_so() -> None:
    stopped = node("b", A, outcome=NodeOutcome.NOT_RUN, message=NOT_REACHED)
    assert '("b<br/>not reached"):::downstream' in vertices(source(node("a"), stopped))


@pytest.mark.parametrize(
    ("count", "note"), [(1, "modified#44; 1 failed test"), (3, "modified#44; 3 failed tests")]
)
def test_draw__failed_tests_are_those_of_their_model(count: int, note: str) -> None:
    # The second one of a relationship test is not what it is a test of.
    tests = [failing_test(B, A) for _ in range(count)]
    made = source(node("a"), node("b", A), *tests)
    assert sorted(vertices(made)) == [
        '["a<br/>modified"]:::changed',
        f'{{{{"b<br/>{note}"}}}}:::failed',
    ]


def test_draw__failed_tests_of_a_model_that_was_not_built_are_seen() -> None:
    made = source(node("b", A), failing_test(A), deferred=[DEFERRED])
    assert "1 failed test" in made


@pytest.mark.parametrize("outcome", [NodeOutcome.PASSED, NodeOutcome.SKIPPED, NodeOutcome.WARNED])
def test_draw__tests_that_did_not_fail_are_not_there(outcome: NodeOutcome) -> None:
    with_test = source(node("a"), node("b", A), failing_test(B, outcome=outcome))
    assert with_test == source(node("a"), node("b", A))


@pytest.mark.parametrize("kind", ["test", "unit_test", "operation"])
def test_draw__what_is_no_part_of_the_lineage_is_not_there(kind: str) -> None:
    other = node("x", A, resource_type=kind)
    assert len(vertices(source(node("a"), node("b", A), other))) == 2


def test_draw__an_exposure_that_was_selected_is_there_once() -> None:
    selected = node("e", A, unique_id=EXPOSURE.unique_id, resource_type="exposure")
    assert len(vertices(source(node("a"), selected, exposures=[EXPOSURE]))) == 2


def test_draw__lines_go_from_the_parent() -> None:
    made = source(node("a", outcome=NodeOutcome.ERRORED), node("b", A, C, "model.shop.unknown"))
    assert edges(made) == ["n0 --> n1"]


def test_draw__nothing_without_a_state() -> None:
    nodes = [node("a"), node("b", A)]
    assert draw(replace(REPORT, nodes=nodes)) is not None
    assert draw(replace(REPORT, nodes=nodes, state=None)) is None


@pytest.mark.parametrize("nodes", [[], [node("a")], [node("a"), node("b", C)]])
def test_draw__nothing_without_lines(nodes: list[NodeReport]) -> None:
    assert draw(replace(REPORT, nodes=nodes)) is None


# Caps -------------------------------------------------------------------------------------------


def test_draw__of_many_keeps_the_failed_and_the_changed_ones() -> None:
    below = [node(f"d{index}", A, change=Change.DOWNSTREAM) for index in range(2 * MAX_NODES)]
    changed = [node("a"), node("new", A, change=Change.NEW)]
    failed = node("bad", A, outcome=NodeOutcome.ERRORED, change=Change.DOWNSTREAM)
    report = replace(
        REPORT,
        nodes=[*below, *changed, failed],
        deferred=[replace(DEFERRED, name="z", unique_id=C)],
    )
    drawn = draw(report)
    assert drawn
    assert drawn.shown == MAX_NODES == drawn.source.count(":::")
    assert drawn.left_out == len(below) + len(changed) + 1 + 1 - MAX_NODES
    for name in ("bad", "new", "a"):
        assert f'"{name}<br/>' in drawn.source
    assert "from production" not in drawn.source
    # Every line has both of its ends.
    named = {f"n{index}" for index in range(MAX_NODES)}
    assert {end for line in edges(drawn.source) for end in line.split(" --> ")} <= named


def test_draw__of_many_lines_keeps_so_many() -> None:
    nodes = [
        node(f"x{index}", *(f"model.shop.x{above}" for above in range(index)))
        for index in range(30)
    ]
    made = source(*nodes)
    assert len(edges(made)) == MAX_EDGES
    assert source(*nodes[:10]).count("-->") == 45


def test_draw__of_a_wide_change_shows_what_hangs_together() -> None:
    # The ones that matter most may have nothing to do with each other.
    changed = [node(f"c{index}") for index in range(2 * MAX_NODES)]
    below = node("d", *(item.unique_id for item in changed), change=Change.DOWNSTREAM)
    drawn = draw(replace(REPORT, nodes=[*changed, below]))
    assert drawn
    assert (drawn.shown, drawn.left_out) == (MAX_NODES, len(changed) + 1 - MAX_NODES)
    assert len(edges(drawn.source)) == MAX_NODES - 1


def test_draw__what_hangs_on_no_line_is_left_out() -> None:
    alone = Deferred(unique_id=C, name="alone", relation="c")
    drawn = draw(replace(REPORT, nodes=[node("a"), node("b", A)], deferred=[alone]))
    assert drawn
    assert (drawn.shown, drawn.left_out) == (2, 1)
    assert "alone" not in drawn.source


def test_draw__does_not_depend_on_how_many_there_are_when_all_are_shown() -> None:
    drawn = draw(replace(REPORT, nodes=[node("a"), node("b", A)], exposures=[EXPOSURE]))
    assert drawn
    assert (drawn.shown, drawn.left_out) == (3, 0)


# Labels -----------------------------------------------------------------------------------------


@given(TEXT)
def test_label__holds_nothing_but_words_and_numbers(value: str) -> None:
    made = label(value)
    assert re.fullmatch(r"(?:[A-Za-z0-9 ]|[_.-]|#\d+;)+", made)
    assert "www." not in made.lower()


def test_label__keeps_names_readable() -> None:
    assert label("stg_orders.v2") == "stg_orders.v2"
    assert label("") == " "
    assert label("x" * 100) == "x" * (MAX_LABEL - 1) + "#8230;"


# Mermaid itself ---------------------------------------------------------------------------------


def hostile_reports(count: int) -> list[Report]:
    """Small graphs of every kind of node, whose names are what Mermaid reacts to."""
    chance = random.Random(20260310)
    words = [
        *(*WORDS, "end", "graph", "subgraph", "click n0", "style", "classDef", "%%", "-->", ":::"),
        *('"]', '"}}', "fa:fa-ban", "#35;", "#quot;", "&quot;", "<br/>", "`", "1. a", "- a"),
        *("javascript:alert(1)", "{", "}", ";", "o", "x", "\u00e9", "\u4e2d\u6587", "a b", "_a_"),
    ]

    def name() -> str:
        # What cannot be written is no name.
        return written("".join(chance.choices(words, k=chance.randint(1, 5))))

    made = []
    for _ in range(count):
        nodes = [
            node(
                name(),
                f"model.shop.{chance.randrange(index)}" if index else "model.shop.d",
                unique_id=f"model.shop.{index}",
                message=chance.choice(["", NOT_REACHED]),
                outcome=chance.choice(list(NodeOutcome)),
                change=chance.choice([None, *Change]),
            )
            for index in range(chance.randint(2, 6))
        ]
        exposures = [
            Exposure(unique_id="e", name=name(), type="dashboard", parents=["model.shop.1"])
        ]
        deferred = [Deferred(unique_id="model.shop.d", name=name(), relation="d")]
        made.append(replace(REPORT, nodes=nodes, exposures=exposures, deferred=deferred))
    return made


NOTE = re.compile(
    r"(?:(?:new|modified), )?"
    r"(?:new|modified|downstream|selected|skipped|not reached|failed|dashboard|from production)$"
)


def as_label(value: str) -> str:
    """What is to be seen of a name."""
    line = " ".join(clean(value).split())
    return line if len(line) <= MAX_LABEL else f"{line[: MAX_LABEL - 1]}…"


@pytest.mark.action
def test_mermaid__shows_every_name_as_it_is() -> None:
    reports = hostile_reports(100)
    drawn = [draw(report) for report in reports]
    made = mermaid.graphs([item.source for item in drawn if item])
    assert len(made) == 100
    for report, graph in zip(reports, made, strict=True):
        # The line break between a name and the word below it is no text.
        labels = [NOTE.sub("", item).strip() for item in graph.labels.values()]
        names = [item.name for item in report.nodes]
        names += [item.name for item in report.exposures]
        names += [item.name for item in report.deferred]
        assert sorted(labels) == sorted(map(as_label, names))
        assert {vertex.link for vertex in graph.vertices.values()} == {""}
        assert not any(vertex.markdown for vertex in graph.vertices.values())
        assert graph.subgraphs == ()
        assert len(graph.edges) == len(report.nodes) + 1


@pytest.mark.action
def test_mermaid__knows_shapes_and_classes() -> None:
    exposure = replace(EXPOSURE, parents=[B])
    graph = mermaid.graph(
        source(
            node("b", A),
            node("c", B, change=Change.DOWNSTREAM),
            node("d", B, outcome=NodeOutcome.ERRORED),
            exposures=[exposure],
            deferred=[DEFERRED],
        )
    )
    assert graph.type == "flowchart-v2"
    shapes = {vertex.label[0]: vertex.shape for vertex in graph.vertices.values()}
    assert shapes == {"a": "cylinder", "b": "square", "c": "round", "d": "hexagon", "e": "odd"}
    used = {name for vertex in graph.vertices.values() for name in vertex.classes}
    assert used <= set(graph.classes)
    # A colour for the text goes with every colour behind it, whatever the theme is.
    for styles in graph.classes.values():
        assert {style.partition(":")[0] for style in styles} >= {"fill", "stroke", "color"}


@pytest.mark.action
def test_mermaid__draws_all_golden_pages() -> None:
    blocks = [
        block
        for path in sorted(GOLDEN.glob("*.md"))
        for block in mermaid_blocks(path.read_text(encoding="utf-8"))
    ]
    assert len(blocks) > 5
    assert all(block.startswith(DIRECTIVE) for block in blocks)
    assert mermaid.problems(blocks) == [None] * len(blocks)
