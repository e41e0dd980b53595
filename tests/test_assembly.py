from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace as changed

from ci_defer.assembly import MAX_CODE, MAX_LOCATED, MAX_NODES_WITH_CODE, Facts, assemble
from ci_defer.blind_spots import Texts
from ci_defer.event import Event
from ci_defer.manifest import Compiled, Manifest
from ci_defer.report import NodeOutcome, NodeReport, Outcome, Report
from tests.samples import manifest, node

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def facts(
    nodes: list[dict[str, Any]], read_text: Callable[[str], str | None] = lambda _: None
) -> Facts:
    return Facts(
        key="shop",
        project_name="shop",
        directory=Path("/srv/shop"),
        project_dir=".",
        target="",
        event=Event(),
        head="",
        base="",
        started=STARTED,
        seconds=1.0,
        found=None,
        passed_over=[],
        manifest=msgspec.json.decode(json.dumps(manifest(nodes)), type=Manifest),
        explained=None,
        compiled={made["unique_id"]: msgspec.convert(made, Compiled) for made in nodes},
        planned=[],
        pr_schema="",
        cloned=frozenset(),
        suspected={},
        parsed_in_full="",
        changes=None,
        texts=Texts(before=lambda _: None, now=lambda _: None),
        invocations=[],
        production_target=None,
        notes=[],
        read_text=read_text,
    )


def errored(
    made: dict[str, Any], outcome: NodeOutcome = NodeOutcome.ERRORED, **more: Any
) -> NodeReport:
    return NodeReport(
        unique_id=made["unique_id"],
        name=made["name"],
        resource_type=made["resource_type"],
        path=made["original_file_path"],
        outcome=outcome,
        status="said",
        **more,
    )


def assembled(given: Facts, nodes: list[NodeReport]) -> Report:
    return assemble(given, Outcome.FAILURE, "It failed", nodes)


def models(count: int, **more: Any) -> list[dict[str, Any]]:
    return [node(f"model.shop.m{index}", **more) for index in range(count)]


# The SQL ----------------------------------------------------------------------------------------


def test_compiled_code__is_that_of_the_first_failed_nodes() -> None:
    made = models(MAX_NODES_WITH_CODE + 2, compiled_code="\n\nselect 1\n")
    fine = errored(made[0], NodeOutcome.BUILT)
    nodes = assembled(facts(made), [fine, *map(errored, made[1:])]).nodes
    codes = [item.compiled_code for item in nodes]
    assert codes == ["", *["select 1"] * MAX_NODES_WITH_CODE, ""]


def test_compiled_code__is_cut_with_a_note() -> None:
    made = models(1, compiled_code="x" * (MAX_CODE + 1234))
    [found] = assembled(facts(made), [errored(made[0])]).nodes
    assert found.compiled_code == "x" * MAX_CODE + "\n… 1,234 more characters"


def test_compiled_code__of_what_was_not_compiled_is_empty() -> None:
    made = models(1)
    [found] = assembled(facts(made), [errored(made[0])]).nodes
    assert found.compiled_code == ""


# Lines ------------------------------------------------------------------------------------------

YAML = "models:\n  - name: m0\n    columns:\n      - name: id\n        data_tests: [not_null]\n"
MESSAGE = "Runtime Error in model m0 (models/m0.sql)\n  no\n  LINE 9: select b"
TEST = node(
    "test.shop.not_null_m0_id",
    original_file_path="models/m.yml",
    attached_node="model.shop.m0",
    test_metadata={"name": "not_null"},
    column_name="id",
)


class Files:
    """The files of a project; keeps which were read."""

    def __init__(self) -> None:
        self.texts = {"models/m.yml": YAML}
        self.read: list[str] = []

    def __call__(self, path: str) -> str | None:
        self.read.append(path)
        return self.texts.get(path)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (NodeOutcome.ERRORED, 2),
        (NodeOutcome.WARNED, 2),
        (NodeOutcome.BUILT, None),
        (NodeOutcome.SKIPPED, None),
    ],
)
def test_line__is_that_of_a_failure_or_a_warning(
    outcome: NodeOutcome, expected: int | None
) -> None:
    made = models(1, raw_code="select a,\nselect b")
    [found] = assembled(facts(made), [errored(made[0], outcome, message=MESSAGE)]).nodes
    assert found.line == expected


def test_line__of_generic_tests_is_where_they_are_declared_and_files_are_read_once() -> None:
    files = Files()
    tests = [{**TEST, "unique_id": f"test.shop.t{index}"} for index in range(3)]
    failed = [errored(item, NodeOutcome.FAILED) for item in tests]
    found = assembled(facts(tests, files), failed).nodes
    assert [item.line for item in found] == [5, 5, 5]
    assert files.read == ["models/m.yml"]


def test_line__of_a_singular_test_is_in_its_own_file() -> None:
    files = Files()
    made = node(
        "test.shop.sums",
        original_file_path="tests/sums.sql",
        raw_code="select a,\nselect b",
    )
    [found] = assembled(facts([made], files), [errored(made, message=MESSAGE)]).nodes
    assert (found.line, files.read) == (2, [])


def test_line__of_a_file_that_cannot_be_read_is_unknown() -> None:
    [found] = assembled(facts([TEST]), [errored(TEST, NodeOutcome.FAILED)]).nodes
    assert found.line is None


def test_line__is_looked_for_so_many_times_the_worst_first() -> None:
    made = models(MAX_LOCATED + 2, raw_code="select b")
    nodes = [
        errored(made[0], NodeOutcome.WARNED, message=MESSAGE),
        *(errored(item, message=MESSAGE) for item in made[1:]),
    ]
    lines = [item.line for item in assembled(facts(made), nodes).nodes]
    assert lines == [None, *[1] * MAX_LOCATED, None]


# The rest ---------------------------------------------------------------------------------------


def test_assemble__without_a_manifest_says_what_is_known() -> None:
    known = facts([])
    known = Facts(**{**known.__dict__, "manifest": None, "planned": ["model.shop.a"]})
    made = assemble(known, Outcome.ERROR, "It broke")
    assert (made.nodes, made.removed, made.exposures) == ([], [], [])
    assert (made.started_at, made.selected_count) == ("2026-01-02T03:04:05+00:00", 1)


def test_assemble__keeps_results_of_what_the_manifest_does_not_hold() -> None:
    made = models(1)
    unknown = changed(errored(made[0]), unique_id="test.shop.x.1a2b")
    [found] = assembled(facts(made), [unknown]).nodes
    assert found == unknown


def test_assemble__parents_are_those_that_the_report_speaks_of() -> None:
    made = models(3)
    made[2]["depends_on"] = {"nodes": ["model.shop.m0", "model.shop.m1"]}
    nodes = assembled(facts(made), [errored(made[0]), errored(made[2])]).nodes
    assert [item.parents for item in nodes] == [[], ["model.shop.m0"]]
