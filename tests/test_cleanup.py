"""The order of a clean-up, with a warehouse in memory; real ones are in e2e/test_cleanup."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest

from ci_defer.cleaned import Cleaned
from ci_defer.cleanup import ATTEMPTS, cleanup
from ci_defer.clearance import Found, Item, Order
from ci_defer.dbt.warehouse import Dropped
from ci_defer.errors import CiDeferError, ProjectError
from ci_defer.footprint import Footprint, Schema
from ci_defer.manifest import Manifest
from tests.samples import Log
from tests.test_footprint import made, manifest, node

Relations = set[tuple[str, str]]
OWN = Schema(database="db", schema="ci_pr_7")


class Kept:
    def __init__(self, *footprints: Footprint) -> None:
        self.footprints = list(footprints)
        self.forgotten: list[int] = []

    def save(self, footprint: Footprint) -> None:
        raise AssertionError("a clean-up builds nothing")

    def of(self, pull_request: int, /) -> list[Footprint]:
        assert pull_request == 7
        return self.footprints

    def forget(self, pull_request: int, /) -> None:
        self.forgotten.append(pull_request)


class Warehouse:
    """One database. What is in `stuck` cannot be dropped: None stands for every schema."""

    def __init__(self, *relations: tuple[str, str], stuck: Sequence[str | None] = ()) -> None:
        self.relations = set(relations)
        self.schemas = {schema for schema, _ in relations}
        self.stuck = stuck
        self.drops = 0

    def look(self, places: Sequence[Schema]) -> dict[Schema, Found]:
        return {
            place: Found(
                place.schema in self.schemas,
                tuple(sorted(one for one in self.relations if one[0] == place.schema)),
            )
            for place in places
        }

    def drop(self, orders: Sequence[Order]) -> Dropped:
        self.drops += 1
        done: set[Item] = set()
        for item in (item for order in orders for item in order.items()):
            if item[1] in self.stuck:
                return Dropped(frozenset(done), frozenset(), (), frozenset(), item, "it is used")
            self._drop(item)
            done.add(item)
        return Dropped(frozenset(done), frozenset(), (), frozenset())

    def _drop(self, item: Item) -> None:
        place, identifier = item
        if identifier is None:
            self.schemas.discard(place.schema)
            self.relations = {one for one in self.relations if one[0] != place.schema}
        else:
            self.relations.discard((place.schema, identifier))


def clean(
    kept: Kept,
    warehouse: Warehouse,
    *,
    production: Manifest | None = None,
    parsed: Footprint | None = None,
    parse: Callable[[], Footprint] | None = None,
    is_dry_run: bool = False,
) -> Cleaned:
    return cleanup(
        7,
        footprints=kept,
        parse_checkout=(lambda: parsed) if parsed else parse,
        production=lambda: production,
        warehouse_for=lambda _target: warehouse,
        is_dry_run=is_dry_run,
        log=Log(),
    )


BUILT = [("ci_pr_7", "a"), ("ci_pr_7", "b")]


def test_cleanup__of_a_pull_request_that_built_nothing() -> None:
    kept = Kept()
    cleaned = clean(kept, Warehouse())
    assert (cleaned.has_built, kept.forgotten) == (False, [])
    assert cleaned.headline == (
        "Nothing to clean up: this pull request has built nothing into a schema of its own."
    )


def test_cleanup__of_what_no_run_has_recorded_goes_by_what_the_checkout_would_build() -> None:
    warehouse = Warehouse(*BUILT, ("other", "a"))
    cleaned = clean(Kept(), warehouse, parsed=made(*BUILT))
    assert cleaned.schemas == ("db.ci_pr_7",)
    assert warehouse.relations == {("other", "a")}


NEVER_BUILT = ("ci_pr_7", "never_built")


def test_cleanup__of_what_could_have_been_built_does_not_say_that_it_is_gone() -> None:
    cleaned = clean(Kept(), Warehouse(*BUILT), parsed=made(*BUILT, NEVER_BUILT))
    assert (len(cleaned.relations), cleaned.gone) == (2, ())


@pytest.mark.parametrize("is_dry_run", [False, True])
def test_cleanup__of_more_than_is_on_record_asks_what_the_checkout_would_build(
    is_dry_run: bool,
) -> None:
    """The runner was gone before the last run could leave its record."""
    kept, warehouse = Kept(made(BUILT[0])), Warehouse(*BUILT)
    cleaned = clean(kept, warehouse, parsed=made(*BUILT, NEVER_BUILT), is_dry_run=is_dry_run)
    assert cleaned.schemas == ("db.ci_pr_7",)
    assert cleaned.relations == ("db.ci_pr_7.a", "db.ci_pr_7.b")
    assert (cleaned.left, cleaned.failures) == ((), ())
    assert warehouse.relations == ({*BUILT} if is_dry_run else set())
    assert kept.forgotten == ([] if is_dry_run else [7])


def test_cleanup__of_more_than_anybody_knows_leaves_it_and_says_so() -> None:
    warehouse = Warehouse(*BUILT, ("ci_pr_7", "mine"))
    cleaned = clean(Kept(made(BUILT[0])), warehouse, parsed=made(*BUILT))
    assert cleaned.relations == ("db.ci_pr_7.a", "db.ci_pr_7.b")
    assert cleaned.left == ("db.ci_pr_7.mine",)
    assert warehouse.relations == {("ci_pr_7", "mine")}


def test_cleanup__goes_on_without_a_checkout_that_cannot_be_parsed() -> None:
    def broken() -> Footprint:
        raise ProjectError("dbt cannot parse the pull request: x.")

    cleaned = clean(Kept(made(BUILT[0])), Warehouse(*BUILT), parse=broken)
    assert (cleaned.relations, cleaned.left) == (("db.ci_pr_7.a",), ("db.ci_pr_7.b",))


def test_cleanup__that_is_dry_changes_nothing_and_forgets_nothing() -> None:
    kept, warehouse = Kept(made(*BUILT)), Warehouse(*BUILT)
    cleaned = clean(kept, warehouse, is_dry_run=True)
    assert (cleaned.schemas, len(cleaned.relations)) == (("db.ci_pr_7",), 2)
    assert (warehouse.relations, warehouse.drops, kept.forgotten) == ({*BUILT}, 0, [])


def test_cleanup__of_several_targets_heeds_what_any_of_them_knew_of_production() -> None:
    first = made(("marts", "a"))
    second = msgspec.structs.replace(made(production=("marts",)), target="other")
    warehouse = Warehouse(("marts", "a"))
    cleaned = clean(Kept(first, second), warehouse)
    assert (cleaned.kept, warehouse.relations) == (("db.marts.a",), {("marts", "a")})


def test_cleanup__of_a_schema_that_production_has_by_now_drops_nothing_of_it() -> None:
    warehouse = Warehouse(*BUILT)
    cleaned = clean(
        Kept(made(*BUILT)), warehouse, production=manifest(node("model.shop.x", "CI_PR_7"))
    )
    assert cleaned.kept == ("db.ci_pr_7.a", "db.ci_pr_7.b")
    assert warehouse.relations == {*BUILT}


def test_cleanup__that_cannot_read_production_drops_nothing() -> None:
    def production() -> Manifest | None:
        raise CiDeferError("The store is down.")

    warehouse = Warehouse(*BUILT)
    with pytest.raises(CiDeferError, match="down"):
        cleanup(
            7,
            footprints=Kept(made(*BUILT)),
            parse_checkout=None,
            production=production,
            warehouse_for=lambda _: warehouse,
            is_dry_run=False,
            log=Log(),
        )
    assert warehouse.relations == {*BUILT}


def test_cleanup__of_a_relation_that_is_stuck_takes_it_with_the_schema() -> None:
    kept, warehouse = Kept(made(*BUILT)), Warehouse(*BUILT, stuck=["a"])
    cleaned = clean(kept, warehouse)
    assert (cleaned.failures, cleaned.relations) == ((), ("db.ci_pr_7.a", "db.ci_pr_7.b"))
    assert (warehouse.relations, kept.forgotten) == (set(), [7])


def test_cleanup__goes_on_behind_what_is_stuck_as_often_as_it_may() -> None:
    names = [f"n{number}" for number in range(9)]
    built = [("ci_pr_7", name) for name in names]
    kept, warehouse = Kept(made(*built)), Warehouse(*built, stuck=[*names[:-1], None])
    cleaned = clean(kept, warehouse)
    assert warehouse.drops == ATTEMPTS
    relations = [f"db.ci_pr_7.{name}" for name in names]
    assert [item.name for item in cleaned.failures] == [*relations, "db.ci_pr_7"]
    reasons = [item.why.partition(":")[0] for item in cleaned.failures]
    assert reasons == ["it is used"] * ATTEMPTS + ["not tried"] * 4
    assert (cleaned.is_done, kept.forgotten) == (False, [])


def test_cleanup__of_a_schema_that_is_stuck_says_so() -> None:
    kept, warehouse = Kept(made(*BUILT)), Warehouse(*BUILT, stuck=[None])
    cleaned = clean(kept, warehouse)
    assert [(item.name, item.why) for item in cleaned.failures] == [("db.ci_pr_7", "it is used")]
    assert (len(cleaned.relations), cleaned.schemas, kept.forgotten) == (2, (), [])
