"""A report takes time in proportion to its nodes: shown by the calls that are made, not by time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ci_defer import markdown, report, text
from ci_defer.annotations import annotate
from ci_defer.assembly import Facts, assemble, node_reports
from ci_defer.bundle import Bundle
from ci_defer.comparison import Changes
from ci_defer.manifest import Compiled, Manifest, RunResults
from ci_defer.report import Outcome, Report
from ci_defer.selection import Explained
from ci_defer.state import FoundState
from tests.samples import manifest, node, run_results
from tests.test_assembly import facts as plain_facts

FEW = 300
# Sorting and a few things that are there once leave it near four.
AT_MOST = 4.5


def shop(count: int, schema: str, **changed: Any) -> list[dict[str, Any]]:
    """Models that read the two before them, each with a test; `changed` is of every tenth."""
    nodes = []
    for index in range(count // 2):
        name = f"model.shop.m{index}"
        parents = [f"model.shop.m{before}" for before in (index - 1, index - 2) if before % 20 > 2]
        more = changed if index % 10 == 0 else {}
        relation = f'"db"."{schema}"."m{index}"'
        depends_on = {"nodes": parents, "macros": []}
        nodes.append(node(name, relation_name=relation, depends_on=depends_on, **more))
        tested = {"nodes": [name], "macros": []}
        nodes.append(node(f"test.shop.t{index}", resource_type="test", depends_on=tested))
    return nodes


def decoded(nodes: list[dict[str, Any]]) -> Manifest:
    return msgspec.json.decode(json.dumps(manifest(nodes)), type=Manifest)


def facts(count: int) -> tuple[Facts, RunResults]:
    ours = shop(count, "ci", raw_code="select 2")
    theirs = shop(count, "prod", raw_code="select 1")
    compared = Bundle(Path("/nowhere"), None)
    compared.__dict__.update(manifest=decoded(theirs), results=None)
    now = decoded(ours)
    ids = [made["unique_id"] for made in ours]
    results = run_results({name: "error" if name.endswith("7") else "success" for name in ids})
    for entry in results["results"]:
        entry["message"] = f"Database Error\n  no column in {entry['unique_id']}"
    known = replace(
        plain_facts(ours),
        found=FoundState(compared, compared, "here", 0),
        manifest=now,
        explained=Explained(now, compared.manifest),
        compiled={name: Compiled(compiled_code='from "db"."prod"."m1"') for name in ids},
        planned=ids,
        changes=Changes(commit="c" * 40, prefix="", files=frozenset(), tracked=frozenset()),
    )
    return known, msgspec.json.decode(json.dumps(results), type=RunResults)


def assembled(known: Facts, results: RunResults) -> Report:
    nodes = node_reports(known, results, finished=True)
    return assemble(known, Outcome.FAILURE, "It failed", nodes)


def calls_of(work: Callable[[], object]) -> int:
    """How many functions are called, those written in C among them."""
    count = 0

    def called(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def made_of(count: int) -> Report:
    return assembled(*facts(count))


SHOWN: dict[str, Callable[[Report], object]] = {
    "summary": markdown.render,
    "comment": lambda made: markdown.render(made, markdown.COMMENT),
    "log": text.render,
    "json": report.encode,
    "annotations": annotate,
}


def test_assemble__grows_with_the_nodes() -> None:
    made_of(20)  # Patterns are compiled at their first use.
    of_few, of_many = (calls_of(partial(assembled, *facts(count))) for count in (FEW, 4 * FEW))
    assert of_many <= AT_MOST * of_few


@pytest.mark.parametrize("name", SHOWN)
def test_show__grows_with_the_nodes(name: str) -> None:
    few, many = made_of(FEW), made_of(4 * FEW)
    assert len(many.nodes) == 4 * len(few.nodes)
    SHOWN[name](few)
    of_few, of_many = (calls_of(partial(SHOWN[name], made)) for made in (few, many))
    assert of_many <= AT_MOST * of_few
