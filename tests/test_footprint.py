from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_defer import footprint as subject
from ci_defer.errors import InvalidFootprint
from ci_defer.event import Event
from ci_defer.footprint import Footprint, Relation, Schema, footprint_of, what_to_drop
from ci_defer.guard import built_of
from ci_defer.manifest import Manifest
from tests import samples
from tests.hostile import WORDS

EVENT = Event(pull_request=7, run_id="11", run_attempt="2")


def node(unique_id: str, schema: str, **more: Any) -> dict[str, Any]:
    name = unique_id.rpartition(".")[2]
    made = {"database": "db", "schema": schema, "alias": name, **more}
    relation = f'"{made["database"]}"."{schema}"."{made["alias"]}"'
    return samples.node(unique_id, **{"relation_name": relation, **made})


def manifest(*nodes: dict[str, Any]) -> Manifest:
    return msgspec.convert(samples.manifest(nodes), Manifest)


def made(
    *relations: tuple[str, str], production: tuple[str, ...] = (), pr_schema: str = "ci_pr_7"
) -> Footprint:
    """A footprint with relations of (schema, identifier) in one database."""
    built = [
        Relation(unique_id=f"model.shop.{name}", database="db", schema=schema, identifier=name)
        for schema, name in relations
    ]
    return Footprint(
        project="shop",
        pull_request=7,
        run_id="1",
        run_attempt="1",
        pr_schema=pr_schema,
        target="ci",
        adapter="duckdb",
        created_at=samples.CREATED_AT,
        relations=built,
        schemas=[Schema(database="db", schema=name) for name in dict.fromkeys(dict(relations))],
        production_schemas=[Schema(database="db", schema=name) for name in production],
    )


def dropped(*footprints: Footprint, production: Manifest | None = None) -> list[str]:
    drops = what_to_drop(footprints, production)
    return [*map(str, drops.relations), *map(str, drops.schemas)]


# footprint_of -----------------------------------------------------------------------------------


def recorded(
    planned: list[str], ours: Manifest, theirs: Manifest | None, event: Event = EVENT
) -> Footprint:
    return footprint_of(
        built_of(planned, ours),
        theirs,
        key="shop",
        event=event,
        pr_schema="ci_pr_7",
        target="ci",
        adapter="duckdb",
        created_at=samples.CREATED_AT,
    )


def test_footprint__is_of_what_makes_a_relation() -> None:
    nodes = manifest(
        node("model.shop.orders", "ci_pr_7_marts", alias="Orders v2"),
        node("seed.shop.raw", "ci_pr_7", config={"materialized": "seed"}),
        node("snapshot.shop.kept", "snap_ci_pr_7", config={"materialized": "snapshot"}),
        node("test.shop.quiet", "ci_pr_7_dbt_test__audit", relation_name=None),
        node("test.shop.stored", "ci_pr_7_dbt_test__audit", config={"materialized": "test"}),
        node("model.shop.inline", "ci_pr_7", config={"materialized": "ephemeral"}),
        node("analysis.shop.look", "ci_pr_7", config={"materialized": "view"}),
        node("model.shop.unplanned", "ci_pr_7_other"),
    )
    planned = [name for name in nodes.nodes if not name.endswith("unplanned")]
    theirs = manifest(node("model.shop.orders", "marts"), node("model.shop.more", "MARTS"))
    made = recorded([*planned, "exposure.shop.board"], nodes, theirs)
    assert [(str(item), item.kind) for item in made.relations] == [
        ("db.ci_pr_7_marts.Orders v2", "table"),
        ("db.ci_pr_7.raw", "seed"),
        ("db.snap_ci_pr_7.kept", "snapshot"),
        ("db.ci_pr_7_dbt_test__audit.stored", "test"),
    ]
    schemas = ["ci_pr_7_marts", "ci_pr_7", "snap_ci_pr_7", "ci_pr_7_dbt_test__audit"]
    assert [item.schema for item in made.schemas] == schemas
    assert len(made.production_schemas) == 1
    assert (made.pull_request, made.run_id, made.run_attempt) == (7, "11", "2")
    assert made.adapter == "duckdb"


def test_footprint__of_a_function_that_has_no_relation_name() -> None:
    function = node("function.shop.area", "ci_pr_7", relation_name=None, alias=None)
    nodes = msgspec.convert(
        {**samples.manifest(), "functions": {"function.shop.area": function}}, Manifest
    )
    made = recorded(["function.shop.area"], nodes, None)
    assert [str(item) for item in made.relations] == ["db.ci_pr_7.area"]
    assert made.production_schemas == []


def test_footprint__needs_a_pull_request() -> None:
    with pytest.raises(ValueError, match="pull request"):
        recorded([], manifest(), None, Event())


# its JSON ---------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.text(), st.text()), max_size=4), st.text())
def test_json__comes_back_as_it_was(relations: list[tuple[str, str]], name: str) -> None:
    whole = made(*relations, pr_schema=name, production=(name,))
    assert subject.decode(subject.encode(whole)) == whole


@pytest.mark.parametrize("text", [word for word in WORDS if word != "\ud800"])
def test_json__keeps_hostile_names(text: str) -> None:
    assert subject.decode(subject.encode(made((text, text)))).relations[0].identifier == text


GOOD = json.loads(subject.encode(made(("ci_pr_7", "orders"))))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 2}, "schema version 2"),
        ({"pull_request": "7"}, "pull_request"),
        ({"pull_request": 0}, "pull_request"),
        ({"relations": [{"schema": "x"}]}, "unique_id"),
        ({"relations": None}, "relations"),
        ({"more": 1}, "more"),
        ({"target": None}, "target"),
    ],
)
def test_json__of_another_shape_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidFootprint, match=reason):
        subject.decode(json.dumps({**GOOD, **change}).encode())


@pytest.mark.parametrize("raw", [b"", b"{", b"null", b"\xff", b"[" * 10_000, b"PK\x03\x04"])
def test_json__damaged(raw: bytes) -> None:
    with pytest.raises(InvalidFootprint, match="shape"):
        subject.decode(raw)


def test_json__larger_than_any_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "MAX_SIZE", 10)
    with pytest.raises(InvalidFootprint, match="bytes"):
        subject.decode(subject.encode(made()))


# what_to_drop -----------------------------------------------------------------------------------


def test_drops__what_any_run_has_built() -> None:
    early = made(("ci_pr_7", "orders"), ("ci_pr_7_marts", "gone_since"))
    late = made(("ci_pr_7", "orders"), ("ci_pr_7", "added"))
    assert dropped(early, late) == [
        *("db.ci_pr_7.orders", "db.ci_pr_7_marts.gone_since", "db.ci_pr_7.added"),
        *("db.ci_pr_7", "db.ci_pr_7_marts"),
    ]


def test_drops__no_schema_that_is_not_the_pull_requests_own() -> None:
    """Whatever a run says that it has built there: it may be somebody else's by now."""
    mine = made(("shared", "one"), ("ci_pr_71", "two"), ("ci_pr_7", "three"))
    assert dropped(mine) == ["db.ci_pr_7.three", "db.ci_pr_7"]
    assert list(map(str, what_to_drop([mine], None).kept)) == ["db.shared.one", "db.ci_pr_71.two"]


def test_drops__nothing_of_productions_schemas_as_they_were_at_any_run() -> None:
    early = made(("ci_pr_7", "a"), ("marts", "b"), production=("marts",))
    late = made(("MARTS", "c"), ("ci_pr_7", "d"))
    drops = what_to_drop([early, late], None)
    assert [str(item) for item in drops.relations] == ["db.ci_pr_7.a", "db.ci_pr_7.d"]
    assert [str(item) for item in drops.kept] == ["db.marts.b", "db.MARTS.c"]


def test_drops__nothing_of_productions_schemas_as_they_are_now() -> None:
    # Somebody has named a schema of production like that of a pull request.
    now = manifest(node("model.shop.orders", '"CI_PR_7"'))
    drops = what_to_drop([made(("ci_pr_7", "orders"), ("ci_pr_7_marts", "x"))], now)
    assert [str(item) for item in drops.schemas] == ["db.ci_pr_7_marts"]
    assert [str(item) for item in drops.kept] == ["db.ci_pr_7.orders"]


@pytest.mark.parametrize(
    ("ours", "theirs", "is_kept"),
    [
        ("db", "db", True),
        ("db", "DB", True),
        ("ci", "prod", False),
        ("", "db", True),
        ("db", "", True),
    ],
)
def test_drops__tell_databases_apart_where_there_are_any(
    ours: str, theirs: str, is_kept: bool
) -> None:
    mine = msgspec.structs.replace(
        made(),
        relations=[Relation(unique_id="x", database=ours, schema="ci_pr_7", identifier="i")],
        production_schemas=[Schema(database=theirs, schema="ci_pr_7")],
    )
    assert bool(what_to_drop([mine], None).kept) == is_kept


def test_drops__of_no_footprint_are_none() -> None:
    assert not what_to_drop([], None)


NAMES = st.sampled_from(["ci_pr_7", "ci_pr_7_marts", "ci_pr_71", "prod", "PROD", "Marts", "marts"])


@given(
    st.lists(st.lists(st.tuples(NAMES, st.sampled_from("abC")), max_size=5), max_size=3),
    st.lists(NAMES, max_size=2),
)
def test_drops__whatever_was_built_is_dropped_or_kept_and_never_productions(
    runs: list[list[tuple[str, str]]], theirs: list[str]
) -> None:
    footprints = [made(*run) for run in runs] + [made(production=tuple(theirs))]
    drops = what_to_drop(footprints, None)
    built = {str(relation) for item in footprints for relation in item.relations}
    assert {str(item) for item in (*drops.relations, *drops.kept)} == built
    guarded = {name.casefold() for name in theirs}
    assert not guarded & {item.schema.casefold() for item in drops.relations}
    assert not guarded & {item.schema.casefold() for item in drops.schemas}
    assert {item.schema for item in drops.schemas} <= {"ci_pr_7", "ci_pr_7_marts"}
