"""Annotations: which ones, in which order, where, and that none of them breaks out of its line."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from msgspec.structs import replace

from ci_defer.annotations import MAX_MESSAGE, MAX_TITLE, Annotation, annotate
from ci_defer.report import Cause, NodeOutcome, NodeReport, Outcome, Problem, Report
from ci_defer.runner import Runner
from tests.harness.commands import Command, parse_command
from tests.hostile import TEXT
from tests.test_runner import ACTIONS, HOSTILE, printed

WHERE = {
    NodeOutcome.ERRORED: "error",
    NodeOutcome.FAILED: "fail",
    NodeOutcome.WARNED: "warn",
    NodeOutcome.SKIPPED: "skipped",
    NodeOutcome.BUILT: "success",
    NodeOutcome.PASSED: "pass",
}


def node(name: str, outcome: NodeOutcome = NodeOutcome.ERRORED, **more: object) -> NodeReport:
    basic = NodeReport(
        unique_id=f"model.shop.{name}",
        name=name,
        resource_type="model",
        outcome=outcome,
        status=WHERE[outcome],
        path=f"models/{name}.sql",
        line=1,
        message=f"{name} is broken",
    )
    return replace(basic, **more)


def report(*nodes: NodeReport, causes: list[Cause] | None = None, folder: str = ".") -> Report:
    return Report(
        outcome=Outcome.FAILURE,
        headline="x",
        project="shop",
        project_dir=folder,
        started_at="2026-01-02T03:04:05+00:00",
        seconds=1,
        nodes=list(nodes),
        causes=causes or [],
    )


def test_annotate__says_what_and_where() -> None:
    found = annotate(report(node("a", line=7)))
    assert found == [Annotation("error", "a: error", "a is broken", "models/a.sql", 7)]


def test_annotate__takes_a_cause_once_then_other_failures_then_warnings() -> None:
    nodes = [
        node("w", NodeOutcome.WARNED, failures=3),
        node("b", NodeOutcome.FAILED, failures=1),
        node("fine", NodeOutcome.BUILT),
        node("c"),
        node("s", NodeOutcome.SKIPPED),
        node("d"),
        node("e"),
        node("p", NodeOutcome.PASSED),
    ]
    causes = [
        Cause(message="no such column", unique_ids=["model.shop.d", "model.shop.e"]),
        Cause(message="no such table", unique_ids=["model.shop.c"]),
    ]
    found = annotate(report(*nodes, causes=causes))
    assert [(one.level, one.title, one.message) for one in found] == [
        ("error", "d: error", "no such column\n1 more node failed for this reason."),
        ("error", "c: error", "no such table"),
        ("error", "b: fail, 1 row", "b is broken"),
        # The first of a cause speaks for the others, and none of them is lost.
        ("error", "e: error", "e is broken"),
        ("warning", "w: warn, 3 rows", "w is broken"),
    ]


def test_annotate__of_a_cause_of_nodes_that_are_not_there() -> None:
    causes = [Cause(message="x", unique_ids=["model.shop.gone"]), Cause(message="y", unique_ids=[])]
    assert [one.title for one in annotate(report(node("a"), causes=causes))] == ["a: error"]


@pytest.mark.parametrize("has_problem", [False, True])
def test_annotate__takes_ten_of_a_level_and_leaves_room_for_the_problem(has_problem: bool) -> None:
    failed = [node(f"f{number}") for number in range(15)]
    warned = [node(f"w{number}", NodeOutcome.WARNED) for number in range(15)]
    made = report(*warned, *failed)
    if has_problem:
        made = replace(made, problem=Problem(message="dbt was killed"))
    levels = [one.level for one in annotate(made)]
    errors = 9 if has_problem else 10
    assert levels == ["error"] * errors + ["warning"] * 10


def test_annotate__nothing_of_what_is_fine() -> None:
    assert annotate(report(*(node("a", one) for one in WHERE if WHERE[one] == "success"))) == []
    assert annotate(report()) == []


def test_annotate__cuts_what_is_long() -> None:
    (found,) = annotate(report(node("n" * 1_000, message="m" * 10_000)))
    assert (len(found.title), len(found.message)) == (MAX_TITLE, MAX_MESSAGE)


def test_annotate__keeps_how_many_more_failed_though_the_message_is_cut() -> None:
    nodes = [node("a"), node("b")]
    causes = [Cause(message="m" * 10_000, unique_ids=[one.unique_id for one in nodes])]
    first = annotate(report(*nodes, causes=causes))[0]
    assert first.message.endswith("m\n1 more node failed for this reason.")


def test_annotate__without_a_message_says_its_title() -> None:
    (found,) = annotate(report(node("a", message=" \n")))
    assert found.message == found.title == "a: error"


def test_annotate__without_a_status_says_our_word() -> None:
    (found,) = annotate(report(node("a", status="")))
    assert found.title == "a: errored"


@pytest.mark.parametrize(
    ("package", "folder", "expected"),
    [
        ("shop", ".", "models/a.sql"),
        ("shop", "", "models/a.sql"),
        ("shop", "nested/dbt", "nested/dbt/models/a.sql"),
        ("", "nested/dbt", "nested/dbt/models/a.sql"),
        ("utils", ".", ""),
        ("utils", "nested/dbt", ""),
    ],
)
def test_annotate__has_the_path_from_the_top_of_the_repository(
    package: str, folder: str, expected: str
) -> None:
    made = replace(report(node("a", package=package, line=3), folder=folder), project_name="shop")
    (found,) = annotate(made)
    # Without a file, GitHub would take the line for one of the workflow's.
    assert (found.path, found.line) == (expected, 3 if expected else None)


def test_annotate__of_no_file_has_no_path() -> None:
    (found,) = annotate(report(node("a", path=""), folder="nested/dbt"))
    assert (found.path, found.line) == ("", None)


# What the runner makes of it.


def command(annotation: Annotation) -> Command:
    """The one command that is printed for it, read by the rules of GitHub's runner."""
    log, errors = printed(Runner(ACTIONS), "annotate", annotation)
    assert errors == ""
    # CR and LF end a line for it, nothing else.
    line, end, rest = log.partition("\n")
    assert (end, rest, line.count("\r")) == ("\n", "", 0)
    found = parse_command(line)
    assert found
    return found


def test_command__of_an_annotation() -> None:
    found = command(Annotation("warning", "a: warn", "two\nlines", "models/a.sql", 7))
    assert found == Command(
        "warning", "two\nlines", {"file": "models/a.sql", "line": "7", "title": "a: warn"}
    )


def test_command__of_no_file() -> None:
    found = command(Annotation("error", "a: error", "x"))
    assert found.properties == {"title": "a: error"}


def test_command__is_none_outside_of_github_actions(capsys: pytest.CaptureFixture[str]) -> None:
    Runner({}).annotate(Annotation("error", "a", "b", "c", 1))
    assert capsys.readouterr() == ("", "")


@given(title=HOSTILE, message=HOSTILE, path=HOSTILE)
@example(title="::error::x", message="::error::x", path="::error::x")
@example(title="a,file=b", message="%0A::add-mask::x", path="a,line=9::x")
@example(title="\r\n::error::x", message="\r\n::error::x", path="a\r\n##[error]x")
@settings(deadline=None)
def test_command__is_one_whatever_the_names_are(title: str, message: str, path: str) -> None:
    found = command(Annotation("error", title, message, path, 3))
    assert (found.name, found.data) == ("error", message)
    # White space at the end of the last property is lost.
    expected = (
        {"file": path, "line": "3", "title": title} if path else {"line": "3", "title": title}
    )
    properties = {name: value.rstrip() for name, value in found.properties.items()}
    assert properties == {name: value.rstrip() for name, value in expected.items()}


@given(name=TEXT, message=TEXT, path=TEXT, folder=TEXT, status=TEXT)
@settings(deadline=None)
def test_command__of_hostile_nodes_is_one(
    name: str, message: str, path: str, folder: str, status: str
) -> None:
    named = replace(node("a"), name=name, message=message, path=path, status=status)
    nodes = [named, replace(named, unique_id="b", outcome=NodeOutcome.WARNED)]
    causes = [Cause(message=message, unique_ids=["model.shop.a"])]
    for annotation in annotate(report(*nodes, causes=causes, folder=folder)):
        found = command(annotation)
        assert found.name == annotation.level
        assert set(found.properties) <= {"file", "line", "title"}


def test_command__cannot_be_made_by_a_file_in_the_repository() -> None:
    hostile = "models/a,line=1::x\n::add-mask::secret\r\n::error file=b::.sql"
    found = command(Annotation("error", "x", "y", hostile, 1))
    assert found.properties["file"] == hostile
