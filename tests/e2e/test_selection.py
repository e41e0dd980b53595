"""ci-defer selects and answers what bare `dbt build` does, flag for flag.

The differential test: the same edit in two copies of the shop, `ci-defer defer` in one, `dbt ls`
and `dbt build` with the same flags in the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.shop import Shop, names, report_statuses, statuses

pytestmark = pytest.mark.dbt

Edit = Callable[[Shop], None]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One pull request.

    `flags` are those of ci-defer, `dbt_flags` the same in dbt's words. `prepare` is done before
    the branch. The rest is what must come out, so that two empty answers are not taken for equal:
    `statuses` by name are some of the results, `unselected` some names that are in no result,
    `orders_read` is in the compiled SQL of the model orders.
    """

    edit: Edit
    prepare: Edit = lambda shop: None
    flags: tuple[str, ...] = ()
    dbt_flags: tuple[str, ...] = ("--select", "state:modified+")
    outcome: str = "success"
    exit_code: int = 0
    statuses: Mapping[str, str] = field(default_factory=dict)
    unselected: frozenset[str] = frozenset()
    orders_read: str = ""


def replacing(path: str, old: str, new: str) -> Edit:
    return lambda shop: shop.replace(path, old, new)


def writing(path: str, text: str) -> Edit:
    return lambda shop: shop.write(path, text)


def moving(path: str, to: str) -> Edit:
    return lambda shop: shop.move(path, to)


def nothing(shop: Shop) -> None:
    del shop


def delete_customer_totals(shop: Shop) -> None:
    shop.remove("models/marts/customer_totals.sql")
    before, _, rest = shop.read("models/marts/marts.yml").partition("  - name: customer_totals\n")
    _, mark, after = rest.partition("  - name: all_days\n")
    shop.write("models/marts/marts.yml", before + mark + after)


def customers_in_target(shop: Shop) -> None:
    """An earlier run of the pull request has left a relation behind."""
    shop.sql(
        "create schema ci_pr",
        "create view ci_pr.stg_customers as select * from analytics.stg_customers",
    )


ORDERS = "models/marts/orders.sql"
TOTALS = "models/marts/customer_totals.sql"
MARTS = "models/marts/marts.yml"
STAGING = "models/staging/staging.yml"
CHANGED_ORDERS = replacing(ORDERS, "\njoin", "\nleft join")

CASES = {
    "changed-model": Case(
        edit=CHANGED_ORDERS,
        statuses={"orders": "success", "daily_sales": "success", "unique_orders_order_id": "pass"},
        unselected=frozenset({"stg_orders", "stg_customers"}),
    ),
    "changed-macro": Case(
        edit=replacing("macros/cents_to_euros.sql", "100.0", "100.00"),
        statuses={"stg_orders": "success", "orders": "success", "orders_are_in_euros": "pass"},
        unselected=frozenset({"stg_customers", "customer_history"}),
    ),
    "config-only": Case(
        edit=replacing(
            MARTS,
            "- name: customer_totals\n",
            "- name: customer_totals\n    config: {materialized: view}\n",
        ),
        statuses={"customer_totals": "success"},
        unselected=frozenset({"orders"}),
    ),
    "new-model": Case(
        edit=writing(
            "models/marts/big_spenders.sql",
            "select customer_id from {{ ref('customer_totals') }} where total > 20\n",
        ),
        statuses={"big_spenders": "success"},
        unselected=frozenset({"customer_totals"}),
    ),
    "deleted-model": Case(edit=delete_customer_totals, outcome="no-changes"),
    "renamed-model": Case(
        edit=moving("models/marts/punctuality.sql", "models/marts/on_time.sql"),
        statuses={"on_time": "success"},
        unselected=frozenset({"punctuality"}),
    ),
    "changed-seed": Case(
        edit=replacing("seeds/raw_customers.csv", "Leiden\n", "Leiden\n4,Dirk,Gouda\n"),
        statuses={"raw_customers": "success", "customer_history": "success", "orders": "success"},
        unselected=frozenset({"raw_orders"}),
    ),
    "changed-test-config": Case(
        edit=replacing(
            MARTS,
            "- name: order_id\n        data_tests: [unique]",
            "- name: order_id\n        data_tests: [unique: {config: {where: amount > 0}}]",
        ),
        statuses={"unique_orders_order_id": "pass"},
        unselected=frozenset({"orders"}),
    ),
    "changed-test-arguments": Case(
        edit=replacing(STAGING, "[paid, cancelled]", "[paid, cancelled, refunded]"),
        statuses={"accepted_values_stg_orders_state__paid__cancelled__refunded": "pass"},
        unselected=frozenset({"stg_orders"}),
    ),
    "docs-only": Case(
        edit=replacing(STAGING, "One row for each order.", "A row for each order, paid or not."),
        outcome="no-changes",
    ),
    "no-change": Case(edit=nothing, outcome="no-changes"),
    "failing-model": Case(
        edit=replacing(TOTALS, "sum(amount)", "sum(amuont)"),
        outcome="failure",
        exit_code=1,
        statuses={"customer_totals": "error", "unique_customer_totals_customer_id": "skipped"},
    ),
    "failing-test": Case(
        edit=writing(
            TOTALS, "select customer_id, 1 as orders, amount as total from {{ ref('orders') }}\n"
        ),
        outcome="failure",
        exit_code=1,
        statuses={"customer_totals": "success", "unique_customer_totals_customer_id": "fail"},
    ),
    "skipped-descendant": Case(
        edit=replacing(ORDERS, "paid.amount", "paid.amuont"),
        outcome="failure",
        exit_code=1,
        statuses={"orders": "error", "customer_totals": "skipped", "daily_sales": "skipped"},
    ),
    "warning": Case(
        edit=replacing("tests/no_large_orders.sql", "1000", "10"),
        statuses={"no_large_orders": "warn"},
        unselected=frozenset({"orders"}),
    ),
    "select-without-descendants": Case(
        edit=CHANGED_ORDERS,
        flags=("--select", "state:modified"),
        dbt_flags=("--select", "state:modified"),
        statuses={"orders": "success", "unique_orders_order_id": "pass"},
        unselected=frozenset({"customer_totals", "daily_sales"}),
    ),
    "indirect-selection-empty": Case(
        edit=CHANGED_ORDERS,
        flags=("--dbt-args", "--indirect-selection empty"),
        dbt_flags=("--select", "state:modified+", "--indirect-selection", "empty"),
        statuses={"orders": "success"},
    ),
    "exclude": Case(
        edit=CHANGED_ORDERS,
        flags=("--exclude", "daily_sales customer_totals"),
        dbt_flags=("--select", "state:modified+", "--exclude", "daily_sales", "customer_totals"),
        statuses={"orders": "success", "punctuality": "success"},
        unselected=frozenset({"daily_sales", "customer_totals"}),
    ),
    "relation-in-target": Case(
        prepare=customers_in_target,
        edit=CHANGED_ORDERS,
        statuses={"orders": "success"},
        unselected=frozenset({"stg_customers"}),
        orders_read='"ci_pr"."stg_customers"',
    ),
    "favor-state": Case(
        prepare=customers_in_target,
        edit=CHANGED_ORDERS,
        flags=("--favor-state",),
        dbt_flags=("--select", "state:modified+", "--favor-state"),
        statuses={"orders": "success"},
        unselected=frozenset({"stg_customers"}),
        orders_read='"analytics"."stg_customers"',
    ),
    "moved-folder": Case(
        edit=moving("models/staging/stg_customers.sql", "models/staging/crm/stg_customers.sql"),
        statuses={"stg_customers": "success", "orders": "success"},
        unselected=frozenset({"stg_orders"}),
    ),
    "changed-unit-test": Case(
        edit=replacing(STAGING, "amount_cents: 250", "amount_cents: 350"),
        unselected=frozenset({"orders_are_in_euros"}),
    ),
    "changed-source": Case(
        edit=replacing(
            "models/sources.yml",
            "- name: deliveries\n",
            "- name: deliveries\n        quoting: {identifier: true}\n",
        ),
        statuses={"punctuality": "success"},
        unselected=frozenset({"orders"}),
    ),
}


# The ordinary run has every case once, and every version of dbt in every second one.
@pytest.mark.parametrize("name", CASES)
def test_selection_and_statuses_are_those_of_bare_dbt(
    shop: Shop, tmp_path: Path, name: str
) -> None:
    case = CASES[name]
    case.prepare(shop)
    shop.pull_request(case.edit)
    bare = shop.copy(tmp_path / "bare")
    state = bare.plain_state(tmp_path / "state")
    flags = ("--target", "ci", *case.dbt_flags, "--defer", "--state", str(state))

    listed = bare.run_dbt("ls", "--quiet", *flags, *("--output", "json"))
    built = bare.run_dbt("build", "--quiet", *flags)
    ran = shop.defer(*case.flags)

    assert ran.exit_code == built.exit_code == case.exit_code, ran.output
    report = shop.report()
    assert report["outcome"] == case.outcome
    expected = statuses(bare.run_results())
    assert report_statuses(report) == expected
    planned = {
        json.loads(line)["unique_id"] for line in listed.stdout.splitlines() if line[:1] == "{"
    }
    # Hooks are not selected; they run when anything does.
    hooks = {unique_id for unique_id, _ in expected if unique_id.startswith("operation.")}
    assert bool(hooks) == bool(expected)
    assert {node["unique_id"] for node in report["nodes"]} == planned | hooks
    assert report["selected_count"] == len(planned)
    if planned:
        assert statuses(shop.run_results()) == expected
        assert compiled(shop.manifest()) == compiled(bare.manifest())
    else:
        assert not (shop.target / "run_results.json").exists()

    by_name = {node["name"]: node["status"] for node in report["nodes"] if node["status"]}
    assert case.statuses.items() <= by_name.items()
    assert not case.unselected & by_name.keys()
    if case.orders_read:
        assert case.orders_read in compiled(shop.manifest())["model.shop.orders"]
        is_deferred = "stg_customers" in names(report["deferred"])
        assert is_deferred == ("analytics" in case.orders_read)


def compiled(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The SQL of each node that was compiled: where dbt's decision to defer can be seen."""
    nodes = manifest["nodes"].values()
    return {node["unique_id"]: node["compiled_code"] for node in nodes if node.get("compiled_code")}
