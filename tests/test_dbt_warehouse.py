"""Telling dbt what to look for and reading what it says; real ones are in e2e/test_cleanup."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ci_defer.clearance import Found, Order
from ci_defer.dbt import Invocation, Operation
from ci_defer.dbt.warehouse import VARIABLE, Warehouse, without_braces
from ci_defer.errors import Cancelled, DbtError, ProjectError
from ci_defer.footprint import Schema

ONE, OTHER = Schema(database="db", schema="ci_pr_7"), Schema(schema="x")
ORDERS = [Order(place=ONE, spelled="ci_pr_7", identifiers=("a", "b"), is_whole=True)]


class Dbt:
    """Stands for `dbt run-operation`: prints these steps, and whatever else it likes."""

    def __init__(
        self, *steps: list[Any], exit_code: int = 0, tail: str = "", interrupted: bool = False
    ) -> None:
        self.steps = steps
        self.ended = Invocation(("dbt",), exit_code, 1.0, tail, interrupted)
        self.documents: list[dict[str, Any]] = []
        self.macros: list[str] = []

    def __call__(self, folder: Path, macro: str) -> Operation:
        document = yaml.safe_load((folder / "dbt_project.yml").read_text())
        self.documents.append(document)
        self.macros.append(macro)
        assert list((folder / "macros").glob("*.sql"))
        token, _ = json.loads(document["vars"][VARIABLE])
        lines = [f"{token}{json.dumps(step)}" for step in self.steps]
        noise = ["Running with dbt", 'ci-defer 0 ["dropped", "db", "ci_pr_7", "a"]', ""]
        return Operation(self.ended, (*noise, *lines, "Done."))


def test_look__is_what_dbt_says_of_each_place() -> None:
    dbt = Dbt(
        ["relation", "db", "ci_pr_7", "CI_PR_7", "A"],
        ["schema", "db", "ci_pr_7", True, True, False],
        ["schema", None, "x", False, False, False],
        ["end"],
    )
    found = Warehouse({}, dbt).look([ONE, OTHER])
    assert found == {
        ONE: Found(exists=True, relations=(("CI_PR_7", "A"),), folds_schema=True),
        OTHER: Found(exists=False),
    }
    assert dbt.macros == ["ci_defer_look"]


def test_project__is_connected_as_the_users() -> None:
    connection = {"profile": "{{ env_var('P', 'shop') }}", "quoting": {"schema": True}}
    dbt = Dbt(["end"])
    Warehouse(connection, dbt).drop(ORDERS)
    (document,) = dbt.documents
    assert {name: document[name] for name in connection} == connection
    assert document["flags"] == {"send_anonymous_usage_stats": False}
    _, (order,) = json.loads(document["vars"][VARIABLE])
    assert order == ["db", "ci_pr_7", [None, True, None], "ci_pr_7", ["a", "b"], True, []]


@given(st.text())
def test_names__hold_no_brace_and_come_back_as_they_were(name: str) -> None:
    text = without_braces([name])
    assert not set(text) & set("{}")
    assert json.loads(text) == [name]
    assert yaml.safe_load(json.dumps({"vars": text})) == {"vars": text}


def test_drop__says_which_one_failed_and_what_was_done_before() -> None:
    dbt = Dbt(
        ["dropping", "db", "ci_pr_7", "a"],
        ["dropped", "db", "ci_pr_7", "a"],
        ["dropping", "db", "ci_pr_7", "b"],
        exit_code=1,
        tail="02:52:31  Encountered an error:\nDatabase Error\n  b is used",
    )
    dropped = Warehouse({}, dbt).drop(ORDERS)
    assert dropped.done == {(ONE, "a")}
    assert dropped.failed == (ONE, "b")
    assert dropped.why == "Database Error: b is used"


def test_drop__says_what_became_of_the_rest() -> None:
    dbt = Dbt(
        ["dropping", "db", "ci_pr_7", "a"],
        ["gone", "db", "ci_pr_7", "a"],
        ["dropping", "db", "ci_pr_7", None],
        ["left", "db", "ci_pr_7", "new"],
        ["dropping", None, "x", None],
        ["kept", None, "x", None],
        ["end"],
    )
    dropped = Warehouse({}, dbt).drop(ORDERS)
    assert dropped.gone == {(ONE, "a")}
    assert dropped.left == ((ONE, "new"),)
    assert dropped.kept == {(OTHER, None)}
    assert dropped.failed is None


FAILED: dict[str, Any] = {"exit_code": 2, "tail": "Encountered an error:\nno connection"}


@pytest.mark.parametrize("call", [lambda w: w.look([ONE]), lambda w: w.drop(ORDERS)])
@pytest.mark.parametrize(
    ("dbt", "kind", "message"),
    [
        (Dbt(**FAILED), (ProjectError, DbtError), "no connection"),
        (Dbt(), DbtError, "without an answer"),
        (Dbt(["end"], interrupted=True), Cancelled, "Cancelled"),
    ],
)
def test_dbt__that_did_not_get_so_far(
    call: Callable[[Warehouse], Any], dbt: Dbt, kind: Any, message: str
) -> None:
    with pytest.raises(kind, match=message):
        call(Warehouse({}, dbt))


def test_drop__that_fails_after_the_last_step_is_no_fault_of_a_relation() -> None:
    steps = (["dropping", "db", "ci_pr_7", "a"], ["dropped", "db", "ci_pr_7", "a"])
    with pytest.raises(DbtError, match="no connection"):
        Warehouse({}, Dbt(*steps, **FAILED)).drop(ORDERS)
