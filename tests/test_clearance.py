from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_defer.clearance import Clearance, Found, Item, Order, clearance, places_of, without
from ci_defer.footprint import Drops, Relation, Schema

OWN = Schema(database="db", schema="ci_pr_7")
SHARED = Schema(database="db", schema="shared")


def relation(identifier: str, place: Schema = OWN) -> Relation:
    return Relation(
        unique_id="x", database=place.database, schema=place.schema, identifier=identifier
    )


def cleared(
    recorded: list[str],
    there: list[str],
    *,
    place: Schema = OWN,
    spelled: str = "",
    folds: bool = True,
) -> Clearance:
    """With these names recorded in a place, and those found there."""
    drops = Drops(
        relations=tuple(relation(name, place) for name in recorded),
        schemas=(place,) if place != SHARED else (),
    )
    pairs = tuple((spelled or place.schema, name) for name in there)
    found = Found(exists=True, relations=pairs, folds_schema=folds, folds_identifier=folds)
    return clearance(drops, {place: found})


def only(plan: Clearance) -> Order:
    (order,) = plan.orders
    return order


def test_all_that_is_recorded_is_dropped_and_the_schema_with_it() -> None:
    order = only(cleared(["a", "b"], ["b", "a"]))
    assert (sorted(order.identifiers), order.is_whole) == (["a", "b"], True)


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        ("orders", True),
        ("ORDERS", True),
        ("Orders", False),
        ("orders__dbt_tmp", True),
        ("orders__dbt_backup", True),
        ("orders__dbt_tmp__dbt_backup", True),
        ("orders__dbt_tmp_0a1b2c3d", True),
        ("orders__dbt_tmp20260102030405678901", True),
        ("orders__dbt_notes_of_ann", False),
        ("orders__dbt_tmp_notes", False),
        ("orders__dbt_tmp__dbt_notes", False),
        ("orders__dbt_", False),
        ("ORDERS__DBT_TMP_1", True),
        ("orders__dbt", False),
        ("orders_dbt_tmp", False),
        ("more_orders__dbt_tmp", False),
        ("orders2", False),
        ("", False),
    ],
)
def test_leftovers_of_dbt_and_folded_names_are_ours(name: str, is_ours: bool) -> None:
    plan = cleared(["orders"], [name])
    assert (name in [one for order in plan.orders for one in order.identifiers]) == is_ours
    assert plan.left == (() if is_ours else ((OWN, name),))
    assert any(order.is_whole for order in plan.orders) == is_ours


def test_a_name_that_is_there_as_it_was_recorded_is_no_other() -> None:
    plan = cleared(["orders"], ["orders", "ORDERS"])
    assert only(plan).identifiers == ("orders",)
    assert plan.left == ((OWN, "ORDERS"),)


def test_a_quoted_name_in_another_case_is_another_name() -> None:
    plan = cleared(["a"], ["A", "A__DBT_TMP"], folds=False)
    assert (plan.orders, plan.gone) == ((), ((OWN, "a"),))
    assert plan.left == ((OWN, "A"), (OWN, "A__DBT_TMP"))


def test_a_quoted_schema_in_another_case_is_another_schema() -> None:
    # PostgreSQL lists both.
    plan = cleared(["a"], ["a"], spelled="CI_PR_7", folds=False)
    assert (only(plan).identifiers, only(plan).spelled) == ((), "ci_pr_7")
    assert plan.gone == ((OWN, "a"),)


def test_what_is_gone_is_said_once() -> None:
    assert cleared(["a", "b"], ["A"]).gone == ((OWN, "b"),)


def test_a_schema_that_is_gone_is_not_dropped() -> None:
    plan = clearance(Drops(relations=(relation("a"),), schemas=(OWN,)), {OWN: Found(exists=False)})
    assert plan == Clearance(orders=(), gone=((OWN, "a"), (OWN, None)), left=(), refused={})


def test_a_schema_of_others_stays_and_so_does_what_they_have_in_it() -> None:
    plan = cleared(["a"], ["a", "theirs"], place=SHARED)
    assert (only(plan).identifiers, only(plan).is_whole, plan.left) == (("a",), False, ())


def test_relations_of_another_schema_that_an_adapter_lists_are_not_looked_at() -> None:
    # PostgreSQL takes the underscore of ci_pr_7 for any character.
    found = Found(exists=True, relations=(("ci_pr_7", "a"), ("ciXpr_7", "a"), ("ciXpr_7", "b")))
    plan = clearance(Drops(relations=(relation("a"),), schemas=(OWN,)), {OWN: found})
    assert (only(plan).identifiers, only(plan).spelled, plan.left) == (("a",), "ci_pr_7", ())
    assert only(plan).is_whole


def test_the_schema_is_spelled_as_in_the_warehouse() -> None:
    order = only(cleared(["orders"], ["ORDERS"], spelled="CI_PR_7"))
    assert (order.spelled, order.identifiers) == ("CI_PR_7", ("ORDERS",))


@pytest.mark.parametrize("name", ['a"b', "a`b", "a[b", "a]b", "a\\b"])
def test_a_name_with_quotes_goes_only_with_its_schema(name: str) -> None:
    plan = cleared([name, "x"], [name, "x"])
    assert (only(plan).identifiers, only(plan).is_whole) == (("x",), True)
    assert name in only(plan).expected
    assert list(plan.refused) == [(OWN, name)]


@pytest.mark.parametrize(
    "place",
    [
        Schema(database="db", schema=name)
        for name in ("a;b", "a'b", 'a"b', "a`b", "a.b", "a--b", "a/*b", "a,b", "a(b", "a\nb", "")
    ]
    + [Schema(database=name, schema="ci_pr_7") for name in ("a;b", "a'b", "a--b")],
    ids=str,
)
def test_a_schema_whose_name_is_not_safe_is_not_even_looked_into(place: Schema) -> None:
    drops = Drops(relations=(relation("a", place),), schemas=(place,))
    assert places_of(drops) == []
    plan = clearance(drops, {})
    assert (plan.orders, set(plan.refused)) == ((), {(place, "a"), (place, None)})


@pytest.mark.parametrize(
    "place",
    [
        Schema(schema="ci_pr_7"),
        Schema(database="my-project", schema="ci_pr_7"),
        Schema(database="example.com:project", schema="ci_pr_7"),
        Schema(database="db", schema="größe_ci-pr-7"),
        Schema(database="db", schema="DOMAIN ci_pr_7$"),
    ],
    ids=str,
)
def test_a_schema_with_a_usual_name_is_looked_into(place: Schema) -> None:
    assert places_of(Drops(schemas=(place,))) == [place]


@pytest.mark.parametrize(("place", "is_whole"), [(OWN, True), (SHARED, False)])
def test_a_function_that_no_adapter_lists_goes_only_with_its_schema(
    place: Schema, is_whole: bool
) -> None:
    function = msgspec.structs.replace(relation("area", place), unique_id="function.shop.area")
    drops = Drops(relations=(function,), schemas=(OWN,))
    plan = clearance(drops, {place: Found(exists=True)})
    assert (list(plan.refused), plan.gone) == ([(place, "area")], ())
    assert any(order.is_whole for order in plan.orders) == is_whole
    listed = clearance(drops, {place: Found(exists=True, relations=((place.schema, "area"),))})
    assert (only(listed).identifiers, listed.refused) == (("area",), {})
    gone = clearance(drops, {place: Found(exists=False)})
    assert ((place, "area") in gone.gone, gone.refused) == (True, {})


NAMES = st.sampled_from(["a", "A", "b", "c__dbt_tmp", "a__dbt_tmp", 'q"', "d"])


@given(st.lists(NAMES, unique=True), st.lists(NAMES, unique=True), st.booleans())
def test_everything_there_is_dropped_refused_or_left(
    recorded: list[str], there: list[str], is_own: bool
) -> None:
    plan = cleared(recorded, there, place=OWN if is_own else SHARED)
    dropped = [name for order in plan.orders for name in order.identifiers]
    refused = [name for _, name in plan.refused]
    left = [name for _, name in plan.left]
    assert len({*dropped, *refused, *left}) == len([*dropped, *refused, *left])
    assert {*dropped, *refused} <= {*there}
    if is_own:
        assert {*dropped, *refused, *left} == {*there}
        assert any(order.is_whole for order in plan.orders) == (not left)
    else:
        assert not left
        assert not any(order.is_whole for order in plan.orders)
    # Nothing goes that is not a recorded name, folded or with dbt's ending.
    stems = {name.lower() for name in recorded}
    for name in (*dropped, *refused):
        assert str(name).lower().partition("__dbt_")[0] in stems or str(name).lower() in stems


@given(st.sets(st.sampled_from([None, "a", "b"])))
def test_orders_without_what_is_settled(settled: set[str | None]) -> None:
    order = Order(
        place=OWN, spelled="x", identifiers=("a", "b"), is_whole=True, expected=("a", "b")
    )
    items: set[Item] = {(OWN, name) for name in settled}
    rest = [item for one in without([order], items) for item in one.items()]
    assert {*rest} == {(OWN, "a"), (OWN, "b"), (OWN, None)} - items
