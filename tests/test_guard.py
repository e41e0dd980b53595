from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_defer.errors import ConfigurationError
from ci_defer.guard import built_of, keep_to_schema, production_relations
from tests.test_selection import FUNCTION, SEED, SOURCE, TEST, UNIT_TEST, A, B, C, project, reads

SNAPSHOT = "snapshot.shop.orders"


def at(unique_id: str, relation: str | None, **more: Any) -> Any:
    return reads(unique_id, relation_name=relation, **more)


def taken(ours: Any, theirs: Any) -> bool:
    """Whether the one planned node would replace the one of production."""
    found = production_relations(built_of([ours["unique_id"]], project(ours)), project(theirs))
    assert [node.unique_id for node in found] in ([], [ours["unique_id"]])
    return bool(found)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ('"db"."prod"."a"', '"db"."prod"."a"', True),
        ('"db"."prod"."a"', "db.prod.a", True),
        ("`db`.`prod`.`a`", '"db"."prod"."a"', True),
        ("[db].[prod].[a]", "db.prod.a", True),
        ("DB.PROD.A", '"db"."prod"."a"', True),
        ('"db"."Prod"."ä"', '"DB"."pROD"."Ä"', True),
        ('"db"."ci"."a"', '"db"."prod"."a"', False),
        ('"db_ci"."prod"."a"', '"db"."prod"."a"', False),
        ('"db"."prod"."a"', '"db"."prod"."ab"', False),
        # One part of a name is not another's.
        ('"db"."prod"."a"', '"prod"."a"', False),
        (None, '"db"."prod"."a"', False),
        ('"db"."prod"."a"', None, False),
        (None, None, False),
        ("", "", False),
    ],
)
def test_relations__are_alike_without_regard_to_quotes_and_case(
    ours: str | None, theirs: str | None, expected: bool
) -> None:
    assert taken(at(A, ours), at(A, theirs)) == expected
    assert taken(at(A, theirs), at(A, ours)) == expected


NAME = st.text(st.sampled_from("aBcÄ_1"), min_size=1, max_size=4)


@given(st.lists(NAME, min_size=1, max_size=3), st.sampled_from(['"{}"', "`{}`", "[{}]", "{}"]))
def test_relations__are_alike_however_a_database_writes_them(parts: list[str], quoted: str) -> None:
    written = ".".join(quoted.format(part) for part in parts)
    assert taken(at(A, written.upper()), at(A, ".".join(parts)))
    assert not taken(at(A, f"{written}x"), at(A, ".".join(parts)))


def test_relations__count_whatever_node_has_them() -> None:
    # A model that took the name of a seed, or was renamed with an alias, replaces the same table.
    assert taken(at(A, "db.prod.x"), at(SEED, "db.prod.x"))
    assert taken(at(SNAPSHOT, "db.prod.x"), at(B, "db.prod.x"))
    assert taken(at("model.util.dates", "db.prod.x"), at(A, "db.prod.x"))


@pytest.mark.parametrize("unique_id", [A, SEED, SNAPSHOT, TEST])
def test_kinds__that_dbt_builds_are_guarded(unique_id: str) -> None:
    assert taken(at(unique_id, "db.prod.x"), at(unique_id, "db.prod.x"))


@pytest.mark.parametrize("unique_id", [SOURCE, UNIT_TEST, "analysis.shop.x", "operation.shop.x"])
def test_kinds__that_dbt_only_reads_are_not(unique_id: str) -> None:
    node = at(unique_id, "db.prod.x")
    assert not taken(node, node)
    # Nor is what production only reads.
    assert not taken(at(A, "db.prod.x"), node)


def test_tests__matter_where_their_failures_are_stored() -> None:
    # dbt gives a test no relation without store_failures.
    stored, not_stored = at(TEST, "db.dbt_test__audit.x"), at(TEST, None)
    assert taken(stored, stored)
    assert not taken(stored, not_stored)
    assert not taken(not_stored, stored)
    assert not taken(not_stored, not_stored)


def test_functions__are_known_by_where_they_are() -> None:
    # dbt Core names no relation of a function.
    def function(schema: str) -> Any:
        place = {"database": "db", "schema": schema, "alias": "area"}
        return at(FUNCTION, None, **place)

    assert taken(function("prod"), function("PROD"))
    assert not taken(function("ci"), function("prod"))


def test_ephemeral__models_are_nobody_s_relation() -> None:
    ephemeral = at(A, "db.prod.a", config={"materialized": "ephemeral"})
    assert not taken(ephemeral, at(A, "db.prod.a"))
    assert not taken(at(A, "db.prod.a"), ephemeral)


def test_only_what_is_planned_counts_in_the_order_of_the_plan() -> None:
    nodes = [at(unique_id, f"db.prod.{unique_id[-1]}") for unique_id in (A, B, C)]
    production = project(nodes[0], nodes[1], at("model.shop.d", "db.prod.d"))
    planned = [C, B, "model.shop.unknown", A]
    plan = built_of(planned, project(*nodes))
    assert [node.unique_id for node in production_relations(plan, production)] == [B, A]
    assert production_relations([], production) == []
    assert production_relations(plan, project()) == []
    assert built_of([SOURCE], project(at(SOURCE, "db.prod.a"))) == []


def placed(unique_id: str, schema: str, **more: Any) -> Any:
    name = unique_id.rpartition(".")[2]
    relation = f'"db"."{schema}"."{name}"'
    return reads(
        unique_id, **{"relation_name": relation, "database": "db", "schema": schema, **more}
    )


def keep(
    *ours: Any, theirs: tuple[Any, ...] = (), adapter: str = "", stores_failures: bool = False
) -> None:
    planned = [item["unique_id"] for item in ours]
    plan = built_of(planned, project(*ours), stores_failures=stores_failures)
    keep_to_schema(plan, project(*theirs), "ci_pr_7", adapter=adapter)


def test_own_schema__is_where_everything_is_built() -> None:
    keep(placed(A, "ci_pr_7"), placed(B, "ci_pr_7_marts"), placed(C, "X_CI_PR_7"))
    # What makes no relation is nowhere.
    keep(at(TEST, None, schema="dbt_test__audit"), at(UNIT_TEST, None), at(SOURCE, '"a"."b"'))
    plan = built_of([A], project(placed(A, "ci_pr_7")))
    keep_to_schema(plan, None, "ci_pr_7", adapter="")


@pytest.mark.parametrize("schema", ["ci", "ci_pr_71", "analytics", "pr_7", ""])
def test_own_schema__that_a_node_does_not_carry_is_refused(schema: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        keep(placed(A, "ci_pr_7"), placed(B, schema))
    assert caught.value.message == (
        "This run would build outside of the pull request's schema ci_pr_7: "
        f'"db"."{schema}"."b". Nothing was built.'
    )
    assert "generate_schema_name" in caught.value.hint


@pytest.mark.parametrize("schema", ["ci_pr_7", "CI_PR_7", "ci_pr_7_marts"])
def test_own_schema__is_none_that_production_has_built_into(schema: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Production is in db.{schema}, where"):
        keep(placed(A, schema), theirs=(placed(C, schema),))
    # Of the same name in another database.
    keep(placed(A, schema), theirs=(placed(C, schema, database="other"),))
    # What it only reads is not ours either.
    with pytest.raises(ConfigurationError, match="Production is in"):
        keep(placed(A, schema), theirs=(placed(SOURCE, schema),))
    # What tests find may be there, whatever production's manifest says.
    with pytest.raises(ConfigurationError, match="Production is in"):
        keep(placed(A, schema), theirs=(placed(TEST, schema, relation_name=None),))


STORED = {"relation_name": None, "config": {"materialized": "test"}}


def test_failures_of_tests__are_built_where_dbt_is_asked_to_keep_them() -> None:
    test = placed(TEST, "dbt_test__audit", **STORED)
    keep(test)
    with pytest.raises(ConfigurationError, match="outside of the pull request's schema"):
        keep(test, stores_failures=True)
    # What its own config says goes before the flag.
    keep(
        {**test, "config": {"materialized": "test", "store_failures": False}}, stores_failures=True
    )
    keep(placed(TEST, "ci_pr_7_dbt_test__audit", **STORED), stores_failures=True)
    plan = built_of([TEST], project(test), stores_failures=True)
    assert production_relations(plan, project(test)) == plan


@pytest.mark.parametrize(("length", "adapter"), [(63, "postgres"), (200, "snowflake")])
def test_own_schema__that_postgresql_would_cut_is_refused(length: int, adapter: str) -> None:
    keep(placed(A, "ci_pr_7_".ljust(length, "x")), adapter=adapter)
    with pytest.raises(ConfigurationError, match="has 64 characters, and PostgreSQL would cut it"):
        keep(placed(A, "ci_pr_7_".ljust(64, "x")), adapter="postgres")
