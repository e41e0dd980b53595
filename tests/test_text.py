from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from ci_defer.report import (
    Cause,
    Change,
    Deferred,
    NodeOutcome,
    NodeReport,
    Outcome,
    Problem,
    Reason,
    ReasonKind,
    Removed,
    Report,
    State,
)
from ci_defer.text import MARKS, MAX_NODES, render, render_plan

REPORT = Report(
    outcome=Outcome.NO_CHANGES,
    headline="Nothing to build",
    project="shop",
    project_dir=".",
    started_at="",
    seconds=1.0,
)


def node(name: str, outcome: NodeOutcome, **more: Any) -> NodeReport:
    basic = {"unique_id": f"model.shop.{name}", "resource_type": "model", "materialized": "view"}
    return NodeReport(**{**basic, "name": name, "status": "said", **more}, outcome=outcome)


def test_marks__there_is_one_for_every_outcome() -> None:
    assert set(MARKS) == set(NodeOutcome)


def test_render__of_nothing_is_short() -> None:
    assert render(REPORT).splitlines() == [
        "",
        "ci-defer · shop · NO-CHANGES",
        "Nothing to build",
        "",
        "",
        "Time     1.0 s",
    ]


def test_render__of_a_failure_names_node_file_rows_and_message() -> None:
    failed = node(
        "a", NodeOutcome.FAILED, path="tests/a.sql", failures=1234, compiled_path="target/a.sql"
    )
    cause = Cause(message="Got 1234 results\nsee there", unique_ids=[failed.unique_id])
    lines = render(replace(REPORT, nodes=[failed], causes=[cause])).splitlines()
    start = lines.index("FAIL  a  (tests/a.sql, 1,234 failing rows)")
    assert lines[start + 1 : start + 4] == [
        "       compiled SQL: target/a.sql",
        "       Got 1234 results",
        "       see there",
    ]


def test_render__lists_nodes_worst_first_without_the_passed_tests() -> None:
    outcomes = [NodeOutcome.PASSED, NodeOutcome.BUILT, NodeOutcome.ERRORED]
    nodes = [node(outcome.name.lower(), outcome) for outcome in outcomes]
    words = [line.split()[:2] for line in render(replace(REPORT, nodes=nodes)).splitlines() if line]
    assert words[2:4] == [["ERROR", "errored"], ["built", "built"]]
    assert ["pass", "passed"] not in words


def test_render__counts_the_nodes_that_it_leaves_out() -> None:
    nodes = [node(f"n{number}", NodeOutcome.BUILT) for number in range(MAX_NODES + 2)]
    assert "  and 2 more nodes, in the report" in render(replace(REPORT, nodes=nodes)).splitlines()


def test_render__says_what_is_gone_read_and_warned() -> None:
    made = render(
        replace(
            REPORT,
            removed=[Removed(unique_id="x", name="old", resource_type="model")],
            deferred=[Deferred(unique_id="y", name="orders", relation="prod.orders")],
            warnings=["careful"],
            problem=Problem(message="It broke\nhere", hint="Mend it"),
        )
    )
    for expected in ("Gone     old", "  orders ", " prod.orders", "Warning  careful", "Mend it"):
        assert expected in made


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (
            State(location="/s", has_provenance=True, commit="a" * 40, age_commits=2),
            "State    commit aaaaaaaaaaaa, 2 commits before the base, from /s",
        ),
        (
            State(location="/s", has_provenance=True, commit="a" * 40, age_commits=1),
            "State    commit aaaaaaaaaaaa, 1 commit before the base, from /s",
        ),
        (
            State(location="/s", has_provenance=True, commit="a" * 40, age_commits=0),
            "State    commit aaaaaaaaaaaa, from /s",
        ),
        (
            State(location="/s", has_provenance=False),
            "State    a manifest of unknown commit, from /s",
        ),
    ],
)
def test_render__says_which_state(state: State, expected: str) -> None:
    assert expected in render(replace(REPORT, state=state)).splitlines()


def test_render__says_what_was_saved() -> None:
    made = render(replace(REPORT, seconds_saved=75.0, dbt_version="1.11.0", adapter="duckdb"))
    assert made.splitlines()[-1] == (
        "Time     1.0 s · about 1 min 15 s of warehouse work saved · dbt 1.11.0 (duckdb)"
    )


def test_render__is_not_wider_than_a_terminal() -> None:
    nodes = [node("x" * 200, NodeOutcome.BUILT, materialized="incremental", seconds=6000.0)]
    assert max(map(len, render(replace(REPORT, nodes=nodes)).splitlines())) <= 100


@pytest.mark.parametrize(
    "control", ["\x1b[2J", "\x1b]0;title\x07", "\x1b", "\x07", "\x08", "\x9b2J"]
)
def test_render__sends_no_control_to_the_terminal(control: str) -> None:
    failed = node("a", NodeOutcome.ERRORED, path=f"a{control}.sql")
    cause = Cause(message=f"no{control} table", unique_ids=[failed.unique_id])
    made = render(replace(REPORT, headline=f"x{control}y", nodes=[failed], causes=[cause]))
    assert [char for char in made if char != "\n" and (char < " " or "\x7f" <= char < "\xa0")] == []


# The plan -------------------------------------------------------------------------------------


def planned(name: str, change: Change | None, *said: str, **more: Any) -> NodeReport:
    reasons = [Reason(kind=ReasonKind.BODY, text=text) for text in said]
    return node(name, NodeOutcome.NOT_RUN, change=change, reasons=reasons, **more)


def plan_of(*nodes: NodeReport, **more: Any) -> list[str]:
    return render_plan(nodes, **more).splitlines()


def test_render_plan__says_what_is_about_to_be_built_and_why() -> None:
    assert plan_of(
        planned("orders", Change.MODIFIED, "its code changed", "moved: a → b"),
        planned("x", Change.NEW, "new", resource_type="seed"),
        planned("customers", Change.DOWNSTREAM, "downstream of orders"),
        planned("customers_2", Change.DOWNSTREAM, "downstream of orders"),
        planned("not_null", Change.DOWNSTREAM, "tests orders", resource_type="test"),
        planned("adds_up", Change.DOWNSTREAM, "tests orders", resource_type="unit_test"),
        production_seconds=185.0,
    ) == [
        "",
        "Plan     3 models, 1 seed, 1 data test, 1 unit test",
        "         production spends 3 min 5 s on them",
        "  orders model        its code changed; moved: a → b",
        "  x      seed         new",
        "  and 4 nodes downstream of these, or chosen",
    ]


def test_render_plan__of_one_node_counts_no_others() -> None:
    assert plan_of(planned("orders", Change.MODIFIED, "its code changed")) == [
        "",
        "Plan     1 model",
        "  orders model        its code changed",
    ]


def test_render_plan__ends_with_a_line_of_its_own() -> None:
    # dbt's own output comes right after it.
    assert render_plan([planned("a", Change.NEW, "new")]).endswith("new\n")


@pytest.mark.parametrize(("seconds", "expected"), [(None, False), (0.0, True), (4.25, True)])
def test_render_plan__says_what_production_spends_when_that_is_known(
    seconds: float | None, expected: bool
) -> None:
    lines = plan_of(planned("a", Change.NEW, "new"), production_seconds=seconds)
    assert any("production spends" in line for line in lines) == expected


def test_render_plan__says_what_is_suspected() -> None:
    suspicion = "only white space or line ends differ"
    lines = plan_of(planned("a", Change.MODIFIED, "its code changed", suspicion=suspicion))
    assert lines[-1] == f"  a model        its code changed (suspected: {suspicion})"


@pytest.mark.parametrize("more", [0, 1, 12])
def test_render_plan__of_many_changes_counts_those_that_it_leaves_out(more: int) -> None:
    nodes = [planned(f"n{number}", Change.NEW, "new") for number in range(MAX_NODES + more)]
    lines = plan_of(*nodes)
    assert len([line for line in lines if line.endswith("new")]) == MAX_NODES
    assert (lines[-1] == f"  and {more} more that changed") == bool(more)


def test_render_plan__cuts_long_names_and_no_others() -> None:
    lines = plan_of(
        planned("x" * 200, Change.NEW, "new"),
        planned("short", Change.NEW, "new"),
        # The width is for what is listed.
        planned("y" * 300, Change.DOWNSTREAM, "downstream of short"),
    )
    first, second = lines[2:4]
    assert "…" in first
    assert first.index("model") == second.index("model") < 80


@pytest.mark.parametrize("control", ["\x1b[2J", "\x1b]0;title\x07", "\x07", "\x9b2J", "\r"])
def test_render_plan__sends_no_control_to_the_terminal(control: str) -> None:
    made = plan_of(
        planned(f"a{control}b", Change.NEW, f"x{control}y", suspicion=f"z{control}"),
        planned("c", Change.NEW, "new", resource_type=f"mo{control}del"),
    )
    text = "\n".join(made)
    assert [char for char in text if char != "\n" and (char < " " or "\x7f" <= char < "\xa0")] == []


@pytest.mark.parametrize(
    ("resource_type", "expected"),
    [("analysis", "2 analyses"), ("saved_query", "2 saved queries")],
)
def test_render_plan__knows_the_plural(resource_type: str, expected: str) -> None:
    nodes = [planned(name, Change.NEW, "new", resource_type=resource_type) for name in "ab"]
    assert plan_of(*nodes)[1] == f"Plan     {expected}"


def test_render_plan__without_anything_to_compare_with_has_no_these() -> None:
    assert "downstream" not in "\n".join(plan_of(planned("a", None), planned("b", None)))
