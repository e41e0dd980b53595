"""The false positives of the wild: a plain `--state` of production selects them, ci-defer does not.

Each one is shown twice: bare dbt with production's manifest selects more than the pull request
changed, `ci-defer defer` selects that and no more.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.shop import Shop, names
from tests.environments import DBT_VERSIONS

pytestmark = pytest.mark.dbt

CHANGED = "all_days"
# What production's manifest has otherwise because it was made with target prod and its variables.
IN_SQL = "models/marts/refunds.sql"
ENABLED = "models/marts/sample.sql"
SOURCE = "models/bank.yml"
USES_SOURCE = "models/marts/payouts.sql"
FILES = {
    IN_SQL: "{{ config(materialized='table' if target.name == 'prod' else 'view') }}\n"
    "select 1 as refund_id\n",
    ENABLED: "{{ config(enabled=target.name == 'ci') }}\nselect 1 as sample_id\n",
    SOURCE: "sources:\n  - name: bank\n    schema: \"{{ env_var('BANK', 'sandbox') }}\"\n"
    "    tables: [{name: transfers}]\n",
    USES_SOURCE: "{{ config(schema=env_var('BANK', 'sandbox')) }}\n"
    "select 1 as payout_id from {{ source('bank', 'transfers') }} where false\n",
}


def change_one_model(shop: Shop) -> None:
    path = "models/marts/all_days.sql"
    shop.write(path, shop.read(path) + "where range <> timestamp '2024-05-05'\n")


def forget_the_published(shop: Shop) -> None:
    shutil.rmtree(shop.store)
    shutil.rmtree(shop.target, ignore_errors=True)


def selected_by_dbt_alone(shop: Shop) -> set[str]:
    """What the workflow that everybody writes would build."""
    state = shop.plain_state(shop.root / "plain")
    ran = shop.run_dbt(
        *("ls", "--quiet", "--target", "ci", "--state", str(state), "--output", "name"),
        *("--select", "state:modified", "--indirect-selection", "empty"),
    )
    assert ran.exit_code == 0, ran.output
    return set(ran.stdout.split())


# Without a target for pull requests no version has anything to say of its own.
@pytest.mark.parametrize("pr_target", [pytest.param("ci", marks=pytest.mark.both_versions), ""])
def test_target_and_environment__make_nothing_look_modified(
    shop: Shop, dbt_version: str, pr_target: str
) -> None:
    for path, text in FILES.items():
        shop.write(path, text)
    shop.commit("What depends on the target and on the environment")
    forget_the_published(shop)
    main = shop.with_environ(BANK="vault")
    # On main the variable is production's, also when the project is parsed for pull requests.
    assert main.onboard("--pr-target", pr_target).exit_code == 0
    shop.pull_request(change_one_model)
    # dbt 1.12 compares what was written, and not what came of it.
    rendered = {"refunds", "payouts"} if dbt_version == "1.11" else set()
    assert selected_by_dbt_alone(shop) >= {CHANGED, "sample", *rendered}

    ran = shop.defer("--select", "state:modified", "--dbt-args", "--indirect-selection empty")
    assert ran.exit_code == 0, ran.output
    report = shop.report()
    assert names(report["nodes"]) - {"shop-on-run-end-0"} == {CHANGED}
    assert report["warnings"] == []
    assert report["state"]["is_compared_apart"]
    because = report["state"]["compared_because"]
    if not pr_target:
        assert because == "The state was made for target prod, and this run uses target ci."
    elif rendered:
        # The provenance is that of this run; what looks modified gives the variable away.
        assert "looked modified, though nothing of that changed in git" in because
    else:
        assert because == ""
    assert ("parsed again" in shop.summary()) == bool(because)


@pytest.mark.parametrize("ours", DBT_VERSIONS)
def test_other_version_of_dbt__makes_nothing_look_modified(
    one_shop: Shop, quick_dbt: Callable[[str], Path], ours: str
) -> None:
    # They also differ in what state_modified_compare_more_unrendered_values is by default: to
    # one of them a config is what was written, to the other what came of it.
    theirs = next(version for version in DBT_VERSIONS if version != ours)
    for path, text in FILES.items():
        one_shop.write(path, text)
    one_shop.commit("Configs that are written with Jinja")
    forget_the_published(one_shop)
    published = one_shop.with_dbt(quick_dbt(theirs)).onboard()
    assert published.exit_code == 0, published.output
    shop = one_shop.with_dbt(quick_dbt(ours))
    shop.pull_request(change_one_model)
    # What a macro of dbt's own reaches, too: tests, snapshots, incremental models.
    assert selected_by_dbt_alone(shop) > {CHANGED, "sample"}

    ran = shop.defer("--select", "state:modified", "--dbt-args", "--indirect-selection empty")
    assert ran.exit_code == 0, ran.output
    report = shop.report()
    assert names(report["nodes"]) - {"shop-on-run-end-0"} == {CHANGED}
    assert "made by dbt" in report["state"]["compared_because"]


def test_branch_behind_main__does_not_build_what_others_changed(one_shop: Shop) -> None:
    one_shop.pull_request(change_one_model)
    one_shop.git("switch", "--quiet", "main")
    one_shop.replace("models/marts/orders.sql", "\njoin", "\nleft join")
    one_shop.commit("Somebody else's change")
    assert one_shop.onboard().exit_code == 0
    latest = max(one_shop.store.rglob("state.json"), key=lambda path: path.stat().st_mtime)
    published = one_shop.root / "latest"
    published.mkdir()
    one_shop.git("switch", "--quiet", "pull-request")
    assert one_shop.run_dbt("parse", "--quiet", "--target", "prod").exit_code == 0
    shutil.copyfile(one_shop.target / "manifest.json", published / "ours.json")
    one_shop.git("switch", "--quiet", "main")
    assert one_shop.run_dbt("parse", "--quiet", "--target", "prod").exit_code == 0
    shutil.move(one_shop.target / "manifest.json", published / "manifest.json")
    assert latest.is_file()
    one_shop.git("switch", "--quiet", "pull-request")
    alone = one_shop.run_dbt(
        *("ls", "--quiet", "--target", "ci", "--state", str(published), "--output", "name"),
        *("--select", "state:modified"),
    )
    assert {"orders", CHANGED} <= set(alone.stdout.split())

    ran = one_shop.defer()
    assert ran.exit_code == 0, ran.output
    assert "orders" not in names(one_shop.report()["nodes"])
    assert CHANGED in names(one_shop.report()["nodes"])


# What is said when like cannot be compared with like ------------------------------------------


def test_commit_that_cannot_be_parsed_again__is_said_with_what_it_may_bring(
    one_shop: Shop,
) -> None:
    for path, text in FILES.items():
        one_shop.write(path, text)
    # It can be parsed for production alone.
    one_shop.write(
        "models/marts/ours.sql",
        "select * from {{ ref('orders' if target.name == 'prod' else 'no_such') }}\n",
    )
    one_shop.commit("What depends on the target")
    forget_the_published(one_shop)
    assert one_shop.onboard("--pr-target", "").exit_code == 0

    def edit(shop: Shop) -> None:
        change_one_model(shop)
        shop.remove("models/marts/ours.sql")

    one_shop.pull_request(edit)
    ran = one_shop.defer("--select", "state:modified")
    assert ran.exit_code == 0, ran.output
    report = one_shop.report()
    note, *others = report["warnings"]
    assert "made for target prod, and this run uses target ci" in note
    assert "nodes may be built that only look modified" in note
    (suspected,) = [said for said in others if "Suspected false positive" in said]
    assert "sample" in suspected
    by_name = {node["name"]: node["suspicion"] for node in report["nodes"]}
    assert by_name[CHANGED] == ""
    assert "made for target prod" in by_name["sample"]


# What changed and is not selected ---------------------------------------------------------------


def test_changes_that_dbt_does_not_compare__are_named(one_shop: Shop) -> None:
    shop = one_shop
    project = shop.read("dbt_project.yml")
    shop.write("dbt_project.yml", project + "vars: {first_day: '2024-05-01'}\n")
    shop.write("models/marts/recent.sql", "select '{{ var('first_day') }}' as first_day\n")
    shop.write("models/marts/branded.sql", "select '{{ env_var('BRAND', 'x') }}' as brand\n")
    shop.write(".github/workflows/dbt.yml", "env:\n  BRAND: leaves\n")
    shop.write("seeds/large.csv", "id\n" + "1000000\n" * 150_000)
    shop.write("macros/shout.sql", "{% macro shout() %}'TEA'{% endmacro %}\n")
    shop.write("macros/call.sql", "{% macro call_it(callee) %}{{ callee() }}{% endmacro %}\n")
    shop.write(
        "models/marts/shouted.sql", "select {{ call_it(context.get('shout')) }} as shouted\n"
    )
    shop.commit("What dbt does not compare")
    forget_the_published(shop)
    assert shop.onboard().exit_code == 0

    def edit(shop: Shop) -> None:
        shop.write("dbt_project.yml", project + "vars: {first_day: '2024-06-01'}\n")
        shop.write(".github/workflows/dbt.yml", "env:\n  BRAND: buds\n")
        shop.write("seeds/large.csv", "id\n" + "1000001\n" * 150_000)
        shop.write("macros/shout.sql", "{% macro shout() %}'MORE TEA'{% endmacro %}\n")

    shop.pull_request(edit)
    ran = shop.defer()
    assert ran.exit_code == 0, ran.output
    report = shop.report()
    assert report["outcome"] == "no-changes"
    said = " ".join(report["warnings"])
    for expected in (
        "The var first_day changed in dbt_project.yml",
        "recent",
        ".github/workflows/dbt.yml changed where it speaks of the environment variable BRAND",
        "branded",
        "The seed large changed, but is larger than dbt reads to compare",
        "The macro shout changed, and dbt does not see all of its uses",
        "named there: shouted.",
    ):
        assert expected in said
    assert len(report["warnings"]) == 4
    # No connection was made: DuckDB would have made the file.
    shop.warehouse.unlink()
    assert shop.defer().exit_code == 0
    assert not shop.warehouse.exists()


# The guard --------------------------------------------------------------------------------------


def test_target_that_is_production__is_refused_before_dbt_connects(one_shop: Shop) -> None:
    one_shop.pull_request(change_one_model)
    one_shop.warehouse.unlink()
    ran = one_shop.defer("--target", "prod")
    assert ran.exit_code == 2
    (error,) = ran.errors
    assert 'This run would build into production: "warehouse"."analytics"."all_days"' in error
    assert "Set target to one with a schema or database of its own." in error
    assert not one_shop.warehouse.exists()
    assert [command["arguments"][1] for command in one_shop.report()["commands"]] == ["ls"]


def test_snapshot_of_one_schema_for_all_targets__is_refused(one_shop: Shop) -> None:
    path = "snapshots/customers.yml"
    one_shop.write(path, one_shop.read(path) + "      schema: kept\n      database: warehouse\n")
    one_shop.write(
        "macros/names.sql",
        "{% macro generate_schema_name(name, node) %}{{ name or target.schema }}{% endmacro %}\n",
    )
    one_shop.commit("Snapshots of all targets in one schema")
    forget_the_published(one_shop)
    assert one_shop.onboard().exit_code == 0
    one_shop.pull_request(
        lambda shop: shop.replace("models/staging/stg_customers.sql", "trim(", "ltrim(")
    )
    ran = one_shop.defer()
    assert ran.exit_code == 2
    (error,) = ran.errors
    assert 'would build into production: "warehouse"."kept"."customer_history".' in error
    assert "or leave them out with exclude." in error
    assert one_shop.defer("--exclude", "customer_history").exit_code == 0


def test_allow_production__is_for_those_who_mean_it(one_shop: Shop) -> None:
    one_shop.pull_request(change_one_model)
    ran = one_shop.defer("--target", "prod", "--allow-production")
    assert ran.exit_code == 0, ran.output


# The plan ---------------------------------------------------------------------------------------


def test_plan__is_said_before_anything_is_built(one_shop: Shop) -> None:
    one_shop.pull_request(change_one_model)
    ran = one_shop.defer()
    assert ran.exit_code == 0, ran.output
    plan, _, build = ran.stdout.partition("+ dbt build")
    assert build
    assert "Plan     1 model\n" in plan
    assert "production spends" in plan
    assert f"{CHANGED} model        its code changed" in plan
