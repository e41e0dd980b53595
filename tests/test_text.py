from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from ci_defer.report import (
    Cause,
    Deferred,
    NodeOutcome,
    NodeReport,
    Outcome,
    Problem,
    Removed,
    Report,
    State,
)
from ci_defer.text import MARKS, MAX_NODES, render

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
