from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from ci_defer.choices import CloneIncremental
from ci_defer.clones import Clones, can_clone
from ci_defer.clones import clones as clones_of
from ci_defer.manifest import Manifest
from tests import samples

YES = "{% macro x() %}{{ return(True) }}{% endmacro %}"
NO = "{% macro x() %}{{ return(False) }}{% endmacro %}"


def node(name: str, materialized: str = "incremental", **config: Any) -> dict[str, Any]:
    kind = "snapshot" if materialized == "snapshot" else "model"
    return samples.node(
        f"{kind}.shop.{name}",
        fqn=["shop", "marts", name],
        config={"materialized": materialized, **config},
    )


def manifest(*nodes: dict[str, Any], adapter: str = "snowflake", **macros: str) -> Manifest:
    """`macros` goes from `<package>__<adapter>` to the SQL of can_clone_table of that package."""
    document = samples.manifest(nodes)
    document["metadata"]["adapter_type"] = adapter
    for key, sql in macros.items():
        package, _, prefix = key.partition("__")
        name = f"{prefix}__can_clone_table"
        unique_id = f"macro.{package}.{name}"
        document.setdefault("macros", {})[unique_id] = {
            "unique_id": unique_id,
            "name": name,
            "package_name": package,
            "macro_sql": sql,
        }
    return msgspec.convert(document, Manifest)


SNOWFLAKE = {"dbt_snowflake__snowflake": YES, "dbt__default": NO}


def clones(
    here: Manifest,
    there: Manifest,
    *,
    how: CloneIncremental = CloneIncremental.TRUE,
    with_snapshots: bool = False,
) -> Clones:
    planned = list(here.nodes)
    return clones_of(planned, here, elsewhere(there), how=how, with_snapshots=with_snapshots)


def elsewhere(production: Manifest) -> Manifest:
    """The same in another schema."""
    nodes = {
        key: replace(item, relation_name=item.relation_name and f"{item.relation_name}_of_prod")
        for key, item in production.nodes.items()
    }
    return replace(production, nodes=nodes)


@pytest.mark.parametrize("how", [CloneIncremental.TRUE, CloneIncremental.COPY])
def test_production__is_never_cloned_upon_itself(how: CloneIncremental) -> None:
    """As with allow-production, and a target that is production's: a copy drops what is there."""
    for macros in (SNOWFLAKE, {}):
        here = manifest(node("a"), **macros)
        made = clones_of(list(here.nodes), here, here, how=how, with_snapshots=False)
        assert made == Clones()


def cloned(ours: dict[str, Any], theirs: dict[str, Any] | None, **more: bool) -> bool:
    """Whether a planned node is cloned from that of production."""
    here = manifest(ours, **SNOWFLAKE)
    there = manifest(*([theirs] if theirs else []))
    made = clones(here, there, with_snapshots=more.get("with_snapshots", False))
    assert made.notes == ()
    return [item.name for item in made.nodes] == [ours["name"]]


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (node("a"), node("a"), True),
        # It becomes incremental: what production has is a table as well.
        (node("a"), node("a", "table"), True),
        (node("a"), node("a", "view"), False),
        (node("a"), node("a", "ephemeral") | {"relation_name": None}, False),
        (node("a"), node("b"), False),
        (node("a"), None, False),
        (node("a", "table"), node("a"), False),
        (node("a", full_refresh=True), node("a"), False),
        (node("a", full_refresh=False), node("a"), True),
    ],
)
def test_cloned__is_what_runs_in_increments_and_is_a_table_in_production(
    ours: dict[str, Any], theirs: dict[str, Any] | None, expected: bool
) -> None:
    assert cloned(ours, theirs) == expected


@pytest.mark.parametrize("asked", [False, True])
def test_snapshots__are_cloned_when_asked(asked: bool) -> None:
    snapshot = node("history", "snapshot")
    assert cloned(snapshot, snapshot, with_snapshots=asked) == asked


def test_select__names_each_node_and_how_it_comes_to_be() -> None:
    here = manifest(node("a"), node("b", "snapshot"), **SNOWFLAKE)
    made = clones(here, here, with_snapshots=True)
    assert made.select == (
        "fqn:shop.marts.a,config.materialized:incremental",
        "fqn:shop.marts.b,config.materialized:snapshot",
    )


@pytest.mark.parametrize(
    ("adapter", "macros", "expected"),
    [
        ("snowflake", SNOWFLAKE, True),
        ("postgres", {"dbt__default": NO}, False),
        ("postgres", {}, False),
        ("", {"dbt__default": YES}, False),
        # The project's own answer goes before that of the adapter, in both directions.
        ("postgres", {"dbt__default": NO, "shop__postgres": YES}, True),
        ("snowflake", {**SNOWFLAKE, "shop__snowflake": NO}, False),
        ("snowflake", {**SNOWFLAKE, "shop__postgres": NO}, True),
        # An adapter that is built on another one.
        ("redshift", {"shop__postgres": YES}, True),
        ("redshift", {"shop__postgres": YES, "dbt_redshift__redshift": NO}, False),
        ("postgres", {"shop__redshift": YES}, False),
        ("snowflake", {"dbt_snowflake__snowflake": "{{return( true )}}"}, True),
        ("snowflake", {"dbt_snowflake__snowflake": "{{ return(x) }}"}, False),
    ],
)
def test_can_clone__is_what_dbt_would_be_told(
    adapter: str, macros: dict[str, str], expected: bool
) -> None:
    assert can_clone(manifest(adapter=adapter, **macros)) == expected


def test_a_warehouse_that_cannot_clone__is_explained() -> None:
    here = manifest(node("a"), node("b"), adapter="postgres")
    made = clones(here, here)
    assert made.nodes == ()
    [note] = made.notes
    assert note == (
        "dbt cannot clone tables on postgres: it would make views, which are built anew. So 2 "
        "incremental nodes (a, b) are built in full. Where a copy is cheap enough, set "
        "clone-incremental: copy."
    )
    assert clones(here, manifest()).notes == ()


def test_copied__is_only_what_cannot_be_cloned() -> None:
    for macros, expected in ((SNOWFLAKE, "clone"), ({}, "copy")):
        here = manifest(node("a"), **macros)
        made = clones(here, here, how=CloneIncremental.COPY)
        found = {"clone": made.nodes, "copy": made.copies}
        assert {key: len(value) for key, value in found.items() if value} == {expected: 1}
        assert made.notes == ()


def test_nothing__is_cloned_unless_asked() -> None:
    here = manifest(node("a"), **SNOWFLAKE)
    assert clones(here, here, how=CloneIncremental.FALSE) == Clones()


@pytest.mark.parametrize(
    ("adapter", "formats", "expected"),
    [
        ("spark", {"a": "delta", "b": "parquet"}, ["a"]),
        ("spark", {"a": None, "b": "Delta"}, ["b"]),
        ("databricks", {"a": None, "b": "parquet"}, ["a"]),
        ("spark", {"a": "parquet", "b": "hudi"}, []),
    ],
)
def test_spark__clones_delta_tables_alone(
    adapter: str, formats: dict[str, str | None], expected: list[str]
) -> None:
    nodes = [node(name, file_format=value) for name, value in formats.items()]
    here = manifest(*nodes, adapter=adapter, dbt_spark__spark=YES)
    made = clones(here, here)
    assert [item.name for item in made.nodes] == expected
    [note] = made.notes
    assert note.startswith(f"{adapter} clones only tables of the file_format delta. So ")
