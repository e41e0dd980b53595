from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from ci_defer.impact import downstream, exposures, removed, visible_parents
from ci_defer.manifest import Manifest
from ci_defer.report import Exposure, Removed
from tests.samples import manifest, node

A, B, C, D = (f"model.shop.{name}" for name in "abcd")
TEST = "test.shop.not_null_a_id.1a2b"
REVENUE = "exposure.shop.revenue"


def read(*nodes: Mapping[str, Any], **more: Any) -> Manifest:
    return msgspec.json.decode(json.dumps({**manifest(nodes), **more}), type=Manifest)


def refers(unique_id: str, *parents: str, checksum: str = "same", **more: Any) -> dict[str, Any]:
    """A node that reads others, as its file is or as it was."""
    return node(
        unique_id,
        depends_on={"nodes": list(parents)},
        checksum={"name": "sha256", "checksum": checksum},
        **more,
    )


def ephemeral(unique_id: str, *parents: str) -> dict[str, Any]:
    return refers(unique_id, *parents, config={"materialized": "ephemeral"})


def exposure(unique_id: str, *parents: str, **more: Any) -> dict[str, Any]:
    made = refers(unique_id, *parents, original_file_path="models/exposures.yml", **more)
    return {unique_id: made}


# Parents ----------------------------------------------------------------------------------------


def parents_of(unique_id: str, project: Manifest, *visible: str) -> list[str]:
    found = project.find(unique_id)
    assert found
    return visible_parents(found, project, visible.__contains__)


def test_visible_parents__are_those_that_are_visible() -> None:
    assert parents_of(C, read(refers(C, A, B)), B) == [B]


def test_visible_parents__ephemeral_ones_are_passed_through() -> None:
    project = read(refers(A), ephemeral(B, A), ephemeral(C, B, A), refers(D, C))
    assert parents_of(D, project, A, D) == [A]
    # One that the report speaks of stays.
    assert sorted(parents_of(D, project, A, B)) == [A, B]


def test_visible_parents__tables_that_are_hidden_end_the_way() -> None:
    assert parents_of(C, read(refers(A), refers(B, A), refers(C, B)), A) == []


def test_visible_parents__of_a_test_begin_with_what_it_is_attached_to() -> None:
    project = read(refers(A), refers(B), refers(TEST, B, A, attached_node=A))
    assert parents_of(TEST, project, A, B) == [A, B]


def test_visible_parents__survive_a_circle_and_what_is_missing() -> None:
    assert parents_of(C, read(ephemeral(A, B), ephemeral(B, A), refers(C, A, "model.x.y"))) == []


# Downstream and exposures -----------------------------------------------------------------------


def test_downstream__is_everything_that_reads_it() -> None:
    project = read(refers(A), refers(B, A), ephemeral(C, B), refers(D), refers(TEST, A))
    assert downstream([A], project) == {A, B, C, TEST}
    assert downstream([], project) == set()
    assert downstream(["model.other.x"], project) == {"model.other.x"}


def test_exposures__are_found_beyond_the_selection() -> None:
    ours = exposure(REVENUE, C, type="dashboard", owner={"name": "Finance", "email": "f@x.io"})
    project = read(refers(A), refers(B, A), refers(C, B), exposures=ours)
    assert exposures([A], project, {A}.__contains__) == [
        Exposure(
            unique_id=REVENUE,
            name="revenue",
            type="dashboard",
            owner="Finance",
            path="models/exposures.yml",
            parents=[],
        )
    ]
    [found] = exposures([C], project, {C}.__contains__)
    assert found.parents == [C]


def test_exposures__of_something_else_are_not_there() -> None:
    project = read(refers(A), refers(B), exposures=exposure(REVENUE, B))
    assert exposures([A], project, {A}.__contains__) == []


@pytest.mark.parametrize("owner", [None, {"email": "f@x.io"}, {"email": ["a@x.io", "b@x.io"]}])
def test_exposures__without_a_name_of_their_owner(owner: Any) -> None:
    project = read(refers(A), exposures=exposure(REVENUE, A, owner=owner))
    [found] = exposures([A], project, {A}.__contains__)
    assert found.owner == ""


def test_exposures__are_in_the_order_of_their_ids() -> None:
    made = exposure("exposure.shop.z", A) | exposure("exposure.shop.b", A)
    found = exposures([A], read(refers(A), exposures=made), {A}.__contains__)
    assert [item.name for item in found] == ["b", "z"]


# Removed ----------------------------------------------------------------------------------------


def test_removed__is_what_production_has_and_we_have_not() -> None:
    production = read(node(A), node(B), node(C), node("operation.shop.hook", name="hook"))
    assert removed(read(node(A), disabled={C: [node(C)]}), production) == [
        Removed(unique_id=B, name="b", resource_type="model", path="models/b.sql"),
        Removed(unique_id=C, name="c", resource_type="model", path="models/c.sql", disabled=True),
    ]


def test_removed__is_read_by_what_is_still_here_but_no_test() -> None:
    production = read(
        refers(A),
        refers(B, A),
        refers(C, A),
        refers(TEST, A),
        exposures=exposure(REVENUE, A),
    )
    # B reads something else by now, or its build would fail; C is gone as well.
    ours = read(refers(B), refers(TEST), exposures=exposure(REVENUE))
    found = {item.unique_id: item.read_by for item in removed(ours, production)}
    assert found == {A: [REVENUE, B], C: []}


def test_removed__names_a_reader_once() -> None:
    production = read(refers(A), refers(B, A, A))
    [found] = removed(read(refers(B)), production)
    assert found.read_by == [B]


def test_removed__nothing_is_where_all_is_left() -> None:
    project = read(refers(A), refers(B, A))
    assert removed(project, project) == []
