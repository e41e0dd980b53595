"""What a wrapper around `dbt build` gets wrong: what a person sees of each trap.

The numbers are those of the list in the design notes; selection itself is in test_selection.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest

from tests.e2e.shop import Ran, Shop, names, node

pytestmark = pytest.mark.dbt

ORDERS = "models/marts/orders.sql"
MARTS = "models/marts/marts.yml"
STAGING = "models/staging/staging.yml"
HOOK = "on-run-end: select 'closing time'"


def change_orders(shop: Shop) -> None:
    shop.replace(ORDERS, "\njoin", "\nleft join")


def commands(shop: Shop) -> list[str]:
    return [command["arguments"][1] for command in shop.report()["commands"]]


# 1. Nothing selected


def test_trap_1__nothing_selected_does_not_touch_the_warehouse(shop: Shop) -> None:
    shop.pull_request(lambda shop: shop.replace(STAGING, "One row for each order.", "Orders."))
    shop.warehouse.unlink()
    # As in a fresh checkout: the whole project is parsed.
    shutil.rmtree(shop.target)

    ran = shop.defer()

    assert ran.exit_code == 0, ran.output
    report = shop.report()
    assert report["outcome"] == "no-changes"
    assert report["selected_count"] == 0
    assert commands(shop) == ["ls"]
    assert "Nothing to build" in shop.summary()
    assert "Nothing to build" in ran.stdout
    assert not shop.warehouse.exists()


def test_trap_1__a_unit_test_alone_proves_nothing(shop: Shop) -> None:
    # It would fail, if dbt ran it.
    shop.pull_request(lambda shop: shop.replace(STAGING, "amount: 2.5", "amount: 3.5"))

    ran = shop.defer()

    assert ran.exit_code == 0, ran.output
    report = shop.report()
    assert report["selected_count"] == 1
    assert node(report, "orders_are_in_euros")["outcome"] == "not-run"
    (warning,) = report["warnings"]
    assert "orders_are_in_euros" in warning
    assert "proves nothing" in warning
    assert "proves nothing" in shop.summary()
    assert warning in ran.stdout
    assert "1 test passed" not in shop.summary()


# 2. Deletions are invisible


def test_trap_2__removed_nodes_are_listed(shop: Shop) -> None:
    shop.pull_request(lambda shop: shop.remove("models/marts/punctuality.sql"))

    ran = shop.defer()

    assert ran.exit_code == 0, ran.output
    report = shop.report()
    assert report["outcome"] == "no-changes"
    (removed,) = report["removed"]
    assert removed["unique_id"] == "model.shop.punctuality"
    assert removed["path"] == "models/marts/punctuality.sql"
    assert not removed["disabled"]
    assert "1 node removed" in report["headline"]
    assert "`punctuality`" in shop.summary()
    assert "punctuality" in ran.stdout


def test_trap_2__a_disabled_node_is_not_said_to_be_deleted(shop: Shop) -> None:
    model = "models/marts/punctuality.sql"
    shop.pull_request(
        lambda shop: shop.write(model, "{{ config(enabled=false) }}\n" + shop.read(model))
    )

    assert shop.defer().exit_code == 0

    (removed,) = shop.report()["removed"]
    assert removed["unique_id"] == "model.shop.punctuality"
    assert removed["disabled"]
    assert "disabled for this target" in shop.summary()


# 3. The plan and the results differ both ways


def test_trap_3__what_dbt_does_not_run_is_in_the_report(shop: Shop) -> None:
    def edit(shop: Shop) -> None:
        shop.replace("macros/cents_to_euros.sql", "100.0", "100.00")
        quoted = "- name: deliveries\n        quoting: {identifier: true}\n"
        shop.replace("models/sources.yml", "- name: deliveries\n", quoted)

    shop.pull_request(edit)

    ran = shop.defer()

    assert ran.exit_code == 0, ran.output
    report = shop.report()
    outcomes = {node["unique_id"]: node["outcome"] for node in report["nodes"]}
    assert outcomes["source.shop.erp.deliveries"] == "not-run"
    assert outcomes["metric.shop.revenue"] == "not-run"
    assert outcomes["semantic_model.shop.sales"] == "not-run"
    assert outcomes["model.shop.int_paid_orders"] == "not-run"
    assert outcomes["exposure.shop.sales_report"] == "no-op"
    assert outcomes["saved_query.shop.revenue_by_day"] == "no-op"
    assert outcomes["operation.shop.shop-on-run-end-0"] == "hook"
    assert outcomes["model.shop.stg_orders"] == "built"
    # The hook is not selected, and everything else in the report is.
    assert report["selected_count"] == len(report["nodes"]) - 1
    assert "ephemeral" in node(report, "int_paid_orders")["message"]
    assert "int_paid_orders" in shop.summary()
    assert report["warnings"] == []


# 4. Hooks


def test_trap_4__a_hook_that_breaks_in_jinja_is_red(shop: Shop) -> None:
    def edit(shop: Shop) -> None:
        change_orders(shop)
        hook = "on-run-end: \"{{ run_query('select * from till_roll') }}\""
        shop.replace("dbt_project.yml", HOOK, hook)

    shop.pull_request(edit)

    ran = shop.defer()

    assert ran.exit_code == 1, ran.output
    report = shop.report()
    assert report["outcome"] == "failure"
    assert node(report, "orders")["outcome"] == "built"
    shown = json.dumps([report["problem"], report["causes"]])
    assert "Table with name till_roll does not exist" in shown
    assert "Table with name till_roll does not exist" in shop.summary().replace("\\", "")
    assert "hook" in shop.summary()
    assert len(ran.errors) == 1
    assert "Traceback" not in ran.stderr


def test_trap_4__a_hook_that_breaks_in_sql_is_red(shop: Shop) -> None:
    def edit(shop: Shop) -> None:
        change_orders(shop)
        shop.replace("dbt_project.yml", HOOK, "on-run-end: select * from till_roll")

    shop.pull_request(edit)

    ran = shop.defer()

    assert ran.exit_code == 1, ran.output
    report = shop.report()
    assert report["outcome"] == "failure"
    assert report["counts"]["errored"] == 1
    hook = node(report, "shop-on-run-end-0")
    assert hook["unique_id"].startswith("operation.")
    assert hook["outcome"] == "errored"
    assert "Table with name till_roll does not exist" in hook["message"]
    (cause,) = report["causes"]
    assert cause["unique_ids"] == [hook["unique_id"]]
    assert "Table with name till_roll does not exist" in shop.summary()
    assert node(report, "orders")["outcome"] == "built"


# 7. Production's own run is red


def test_trap_7__production_is_red_and_the_pull_request_is_the_fix(shop: Shop) -> None:
    broken = "select loyalty from {{ ref('orders') }}\n"
    shop.write("models/marts/loyal.sql", broken)
    shop.write("models/marts/loyal_count.sql", "select count(*) as n from {{ ref('loyal') }}\n")
    shop.commit("Loyal customers")
    assert shop.run_dbt("build", "--target", "prod", "--select", "loyal+").exit_code == 1
    published = shop.onboard()
    assert published.exit_code == 0, published.output

    # Somebody else's pull request reads what production never built.
    shop.branch("unrelated")
    shop.replace("models/marts/loyal_count.sql", "count(*)", "count(distinct loyalty)")
    shop.commit()
    unrelated = shop.defer()

    assert unrelated.exit_code == 1, unrelated.output
    report = shop.report()
    assert node(report, "loyal_count")["outcome"] == "errored"
    (deferred,) = report["deferred"]
    assert deferred["name"] == "loyal"
    assert deferred["production_status"] == "error"
    (warning,) = report["warnings"]
    assert "loyal" in warning
    assert "Production's own run did not build" in warning
    assert warning in unrelated.stdout

    # This one fixes it.
    shop.branch("fix", "main")
    shop.write("models/marts/loyal.sql", broken.replace("loyalty", "customer_id"))
    shop.commit()
    fixed = shop.defer()

    assert fixed.exit_code == 0, fixed.output
    report = shop.report()
    assert node(report, "loyal")["outcome"] == "built"
    assert node(report, "loyal_count")["outcome"] == "built"
    assert report["warnings"] == []


# 8. Many errors with one cause


def test_trap_8__a_renamed_profile_says_what_to_do(shop: Shop) -> None:
    shop.pull_request(
        lambda shop: shop.replace("dbt_project.yml", "profile: shop", "profile: tea_shop")
    )

    ran = shop.defer()

    assert ran.exit_code == 2, ran.output
    report = shop.report()
    assert report["outcome"] == "error"
    assert "tea_shop" in report["problem"]["message"]
    assert report["problem"]["hint"]
    assert report["problem"]["exit_code"] == 2
    assert len(ran.errors) == 1
    assert "tea_shop" in ran.errors[0]
    assert "Traceback" not in ran.stderr


def test_trap_8__a_database_that_does_not_exist_is_one_cause(shop: Shop) -> None:
    def edit(shop: Shop) -> None:
        for number in range(6):
            shop.write(
                f"models/lake/visits_{number}.sql",
                f"select {number} as part, visitor\nfrom {{{{ source('lake', 'visits') }}}}\n",
            )
        shop.write(
            "models/lake/lake.yml",
            "sources:\n  - {name: lake, database: lake, schema: raw, tables: [{name: visits}]}\n",
        )

    shop.pull_request(edit)

    ran = shop.defer()

    assert ran.exit_code == 1, ran.output
    report = shop.report()
    (cause,) = report["causes"]
    assert set(cause["unique_ids"]) == {f"model.shop.visits_{number}" for number in range(6)}
    assert cause["message"]
    first_line = cause["message"].partition("\n")[0]
    assert shop.summary().count(first_line) == 1
    assert "6 nodes failed for one reason" in shop.summary()


def test_trap_8__a_database_of_the_project_that_does_not_exist(shop: Shop) -> None:
    """dbt creates schemas first, and stops there: no node has a result."""
    shop.pull_request(
        lambda shop: shop.replace(
            "dbt_project.yml", "    marts:\n", "    marts:\n      +database: lake\n"
        )
    )

    ran = shop.defer()

    assert ran.exit_code == 3, ran.output
    report = shop.report()
    assert report["outcome"] == "error"
    assert "lake" in report["problem"]["message"]
    assert "profiles.yml" in report["problem"]["hint"]
    assert len(ran.errors) == 1
    assert "Traceback" not in report["problem"]["message"]


# 9. dbt ends without any artifact


BROKEN: dict[str, tuple[Callable[[Shop], None], str]] = {
    "jinja": (lambda shop: shop.replace(ORDERS, "{{ ref('stg_customers') }}", "{{ ref("), "orders"),
    "ref": (lambda shop: shop.replace(ORDERS, "stg_customers", "stg_clients"), "stg_clients"),
    "yml": (lambda shop: shop.replace(MARTS, "models:\n", "models:\n - name: [\n"), "marts.yml"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_trap_9__a_broken_project_is_one_error_and_no_stale_results(shop: Shop, kind: str) -> None:
    edit, said = BROKEN[kind]
    shop.pull_request(edit)
    leave_old_results(shop)

    ran = shop.defer()

    assert ran.exit_code == 2, ran.output
    assert len(ran.errors) == 1
    assert "Traceback" not in ran.stderr
    report = shop.report()
    assert report["outcome"] == "error"
    assert said in report["problem"]["message"]
    assert report["nodes"] == []
    assert report["causes"] == []
    assert report["removed"] == []
    assert not any(report["counts"].values())
    assert said in shop.summary().replace("\\", "")


def leave_old_results(shop: Shop) -> None:
    """What an earlier run left in the target path: an error that is not of this pull request."""
    bundle = shop.bundle()
    (shop.target / "manifest.json").write_bytes(bundle["manifest.json"].read_bytes())
    results = json.loads(bundle["run_results.json"].read_bytes())
    results["results"][0] |= {"status": "error", "message": "stale"}
    (shop.target / "run_results.json").write_text(json.dumps(results), encoding="utf-8")


# 12. fqn and names


def test_trap_12__a_moved_folder_and_a_renamed_generic_test(shop: Shop) -> None:
    def edit(shop: Shop) -> None:
        shop.move("models/marts/punctuality.sql", "models/marts/delivery/punctuality.sql")
        renamed = "data_tests: [unique: {name: one_row_per_order}]"
        before = "- name: order_id\n        "
        shop.replace(MARTS, f"{before}data_tests: [unique]", f"{before}{renamed}")

    shop.pull_request(edit)

    ran = shop.defer()

    assert ran.exit_code == 0, ran.output
    report = shop.report()
    moved = node(report, "punctuality")
    assert moved["outcome"] == "built"
    assert moved["path"] == "models/marts/delivery/punctuality.sql"
    assert node(report, "one_row_per_order")["outcome"] == "passed"
    assert names(report["removed"]) == {"unique_orders_order_id"}


# 13. What `state:modified` holds without `+`


def test_trap_13__without_plus_the_tests_of_a_modified_model_are_selected(shop: Shop) -> None:
    shop.pull_request(change_orders)

    assert shop.defer("--select", "state:modified").exit_code == 0

    selected = names(shop.report()["nodes"]) - {"shop-on-run-end-0"}
    assert selected == {"orders", "unique_orders_order_id", "no_large_orders"}


def test_trap_13__indirect_selection_empty_leaves_the_causes(shop: Shop) -> None:
    shop.pull_request(change_orders)

    ran = shop.defer("--select", "state:modified", "--dbt-args", "--indirect-selection empty")

    assert ran.exit_code == 0, ran.output
    assert names(shop.report()["nodes"]) - {"shop-on-run-end-0"} == {"orders"}


def test_trap_13__a_new_node_matches_every_kind_of_modified(shop: Shop) -> None:
    def edit(shop: Shop) -> None:
        change_orders(shop)
        shop.write("models/marts/regulars.sql", "select 1 as customer_id\n")

    shop.pull_request(edit)

    assert shop.defer("--select", "state:modified.configs").exit_code == 0

    assert names(shop.report()["nodes"]) - {"shop-on-run-end-0"} == {"regulars"}


def test_the_log_ends_with_the_summary_of_the_failure(shop: Shop) -> None:
    """Not a trap of dbt, but of logs: what failed, where, and why, without scrolling up."""
    shop.pull_request(lambda shop: shop.replace(ORDERS, "paid.amount", "paid.amuont"))

    ran = shop.defer()

    assert ran.exit_code == 1
    assert_shows_the_failure(ran, shop)


def assert_shows_the_failure(ran: Ran, shop: Shop) -> None:
    _, _, tail = ran.stdout.partition("ci-defer · shop · FAILURE")
    for text in (tail, shop.summary()):
        assert "amuont" in text
        assert ORDERS in text
        assert "target/compiled/shop/models/marts/orders.sql" in text
    failed = node(shop.report(), "orders")
    assert failed["compiled_path"] == "target/compiled/shop/models/marts/orders.sql"
    assert failed["path"] == ORDERS
    assert (shop.project / failed["compiled_path"]).is_file()
