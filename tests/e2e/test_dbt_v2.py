"""The tea shop with dbt v2: one Rust program with adapters of its own, and artifacts as dbt Core's.

It has its own rules of what is modified (test_reasons), words for errors, and results.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ci_defer.dbt import Selection
from ci_defer.dbt.ahead import AheadEngine
from ci_defer.dbt.commands import DbtSettings
from ci_defer.dbt.process import Interrupts, Started
from tests.e2e.alike import differences, in_target_path, normal_text
from tests.e2e.once import made_once
from tests.e2e.shop import WAREHOUSE, Shop, names, node, python_with_duckdb, report_statuses
from tests.e2e.shop_files import FILES
from tests.e2e.test_errors import program
from tests.environments import DBT_V2, DBT_VERSIONS, dbt_bin
from tests.samples import Log

pytestmark = pytest.mark.dbt

ORDERS = "models/marts/orders.sql"
STAGED = "model.shop.stg_customers"

# The DuckDB of dbt v2 is older than that of dbt-duckdb, and reads no files of the newer one.
MAKE_WAREHOUSE = f"""
import duckdb
connection = duckdb.connect()
connection.execute("attach '{WAREHOUSE}' as warehouse (storage_version 'v1.2.0')")
connection.execute("create schema warehouse.erp")
connection.execute(
    "create table warehouse.erp.deliveries as select * "
    "from (values (1, true), (2, false), (3, true)) as delivery(order_id, is_on_time)"
)
connection.close()
"""


def make_production(shop: Shop) -> None:
    (shop.root / "home").mkdir()
    for path, text in FILES.items():
        shop.write(path, text)
    # dbt v2 would write this line itself, into the checkout.
    shop.write(".gitignore", FILES[".gitignore"] + "dbt_internal_packages/\n")
    shop.git("init", "--quiet", "--initial-branch", "main")
    shop.commit("The tea shop")
    shop._run(str(python_with_duckdb()), "-c", MAKE_WAREHOUSE, check=True)
    built = shop.build_production()
    assert built.exit_code == 0, built.output
    published = shop.onboard()
    assert published.exit_code == 0, published.output
    shutil.rmtree(shop.target)


def v2_shop(shared: Path) -> Shop:
    """The shop as production left it with dbt v2. To be copied."""
    v2 = dbt_bin(DBT_V2)
    return Shop(made_once(shared / "shop-v2", lambda folder: make_production(Shop(folder, v2))), v2)


@pytest.fixture
def shop(shared_folder: Path, tmp_path: Path) -> Shop:
    return v2_shop(shared_folder).copy(tmp_path / "shop")


def change_orders(shop: Shop) -> None:
    shop.replace(ORDERS, "paid.amount", "paid.amount * 1 as amount")


def test_changed_model__is_built_with_what_reads_it_and_the_rest_is_deferred(shop: Shop) -> None:
    shop.pull_request(change_orders)
    ran = shop.defer()
    assert ran.exit_code == 0, ran.output
    report = shop.report()
    assert report["outcome"] == "success"
    assert {(item["name"], item["outcome"]) for item in report["nodes"]} == {
        *((name, "built") for name in ("orders", "customer_totals", "daily_sales", "punctuality")),
        *((name, "passed") for name in ("no_large_orders", "unique_orders_order_id")),
        ("relationships_customer_totals_customer_id__customer_id__ref_stg_customers_", "passed"),
        ("unique_customer_totals_customer_id", "passed"),
        # It is selected; dbt v2 has a result of the ephemeral model too, which nobody asked for.
        ("sales_report", "not-run"),
    }
    assert names(report["deferred"]) == {"stg_customers", "stg_orders"}
    assert node(report, "orders")["reasons"] == [{"kind": "body", "text": "its code changed"}]
    assert shop.sql("select count(*) from ci_pr.orders") == [(3,)]


def test_nothing_changed__nothing_is_built(shop: Shop) -> None:
    shop.pull_request(lambda shop: shop.write("README.md", "Tea."))
    ran = shop.defer()
    assert ran.exit_code == 0, ran.output
    assert shop.report()["outcome"] == "no-changes"
    assert shop.report()["selected_count"] == 0


def test_failing_test__is_named_with_its_rows_and_what_it_held_up(shop: Shop) -> None:
    path = "models/staging/stg_customers.sql"
    shop.pull_request(lambda shop: shop.replace(path, "select customer_id", "select 1 customer_id"))
    ran = shop.defer()
    assert ran.exit_code == 1, ran.output
    report = shop.report()
    failed = node(report, "unique_stg_customers_customer_id")
    assert (failed["outcome"], failed["failures"]) == ("failed", 1)
    assert failed["message"] == "Got 1 result"
    assert report["counts"]["skipped"] == len(report_statuses(report)) - 4
    assert node(report, "orders")["outcome"] == "skipped"
    # Nobody sees this model skipped: an ephemeral one is never run.
    assert "int_paid_orders" not in names(report["nodes"])


def test_failing_model__is_red_with_what_the_database_said(shop: Shop) -> None:
    shop.pull_request(lambda shop: shop.replace(ORDERS, "paid.amount", "paid.amountx"))
    ran = shop.defer()
    assert ran.exit_code == 1, ran.output
    report = shop.report()
    assert node(report, "orders")["outcome"] == "errored"
    [cause] = report["causes"]
    assert cause["unique_ids"] == ["model.shop.orders"]
    assert cause["message"].startswith('Binder Error: Values list "paid" does not have a column')


def more_space(shop: Shop) -> None:
    """What dbt v2 does not take for a change."""
    shop.replace(ORDERS, "select", "select ")


@pytest.mark.parametrize("edit", [change_orders, more_space])
def test_build_that_begins_with_the_plan__is_as_one_by_itself(
    shop: Shop, edit: Callable[[Shop], None], tmp_path: Path
) -> None:
    # A script may do anything, so with one the build begins when it is asked for.
    script = program(tmp_path / "script", f'exec {shlex.quote(str(shop.dbt / "dbt"))} "$@"')
    shop.pull_request(edit)
    apart, together = shop.copy(tmp_path / "apart").with_dbt(script), shop.copy(tmp_path / "v2")
    theirs, ours = log_and_artifacts(apart), log_and_artifacts(together)
    assert not (found := "\n".join(differences(theirs, ours))), found
    assert ("run_results.json" in ours) == (edit is change_orders)


def test_build_that_waits_before_there_is_a_state__reads_all_of_it(
    shop: Shop, tmp_path: Path
) -> None:
    shop.pull_request(change_orders)
    state = shop.plain_state(tmp_path / "state")
    results = json.loads(shop.bundle()["run_results.json"].read_text())
    [failed] = [item for item in results["results"] if item["unique_id"] == STAGED]
    failed["status"] = "error"
    (state / "run_results.json").write_text(json.dumps(results))
    settings = DbtSettings(
        project_dir=shop.project,
        target_path=shop.target,
        working_directory=shop.project,
        target="ci",
    )
    words = Selection(select=("state:modified", "result:error"))
    selection = replace(words, state=state)
    with Interrupts().handled() as interrupts:
        environ = shop.full_environ()
        engine = AheadEngine(settings, environ=environ, console=Log(), interrupts=interrupts)
        with contextlib.closing(engine):
            engine.start(words)
            assert engine._ahead
            manifest = engine._ahead.gate.directory / "manifest.json"
            while manifest not in open_files(engine._ahead.started):
                assert not engine._ahead.started.has_ended
            plan = engine.plan(selection)
            assert {"model.shop.orders", STAGED} <= set(plan.unique_ids)
            assert engine._ahead.is_of(selection)
            assert engine.build(selection).invocation.exit_code == 0
    built = {item["unique_id"] for item in shop.run_results()["results"]}
    # dbt v2 has a result of the ephemeral model too, which nobody asked for.
    assert built == {*plan.unique_ids, "model.shop.int_paid_orders"}


def open_files(started: Started) -> set[Path]:
    found = set()
    for link in Path("/proc", str(started._process.pid), "fd").iterdir():
        # It may be closed by now.
        with contextlib.suppress(OSError):
            found.add(link.readlink())
    return found


def log_and_artifacts(shop: Shop) -> dict[str, Any]:
    """All that a run leaves, but for the folders that dbt is told to work in."""
    log = normal_text(shop.defer().output, shop.root).splitlines()
    found = in_target_path(shop)
    del found["ci-defer/report.json"]["commands"]
    commands = [line.split()[2] for line in log if line.startswith("+ dbt ")]
    # Nodes come in the order in which they end.
    rest = "\n".join(sorted(line for line in log if not line.startswith("+ dbt ")))
    return {**found, "commands": commands, "log": rest}


def unknown_ref(shop: Shop) -> None:
    shop.write(ORDERS, "select * from {{ ref('nowhere') }}")


def broken_yml(shop: Shop) -> None:
    shop.write("models/marts/broken.yml", "models: [a: b: c")


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (unknown_ref, "[DependencyNotFound (dbt1048)]: Ref 'nowhere' not found in project."),
        (broken_yml, "[SerializationError (dbt1013)]: YAML error:"),
    ],
)
def test_project_that_cannot_be_parsed__says_why_without_the_warnings(
    shop: Shop, edit: Callable[[Shop], None], expected: str
) -> None:
    shop.pull_request(edit)
    ran = shop.defer()
    assert ran.exit_code == 2, ran.output
    message = shop.report()["problem"]["message"]
    assert message.startswith(f"dbt cannot read the project: {expected}")
    assert "[warning]" not in message


def test_unknown_flag__is_what_the_error_is_about(shop: Shop) -> None:
    shop.pull_request(change_orders)
    ran = shop.defer("--dbt-args", "--no-such-flag")
    assert ran.exit_code == 2, ran.output
    assert "unexpected argument '--no-such-flag'" in shop.report()["headline"]


def test_state_of_dbt_core__is_deferred_to_and_parsed_again_to_compare(shop: Shop) -> None:
    # It writes other things into the same version of the manifest, and dbt v2 evens that out but
    # for a test whose name dbt Core cuts short. Of the semantic layer it reads another form.
    shutil.rmtree(shop.store)
    core = shop.with_dbt(dbt_bin(DBT_VERSIONS[-1]))
    parsed = core.run_dbt("parse", "--target", "prod", "--quiet")
    assert parsed.exit_code == 0, parsed.output
    published = core.onboard()
    assert published.exit_code == 0, published.output
    shutil.rmtree(shop.target)
    shop.pull_request(lambda shop: shop.write("README.md", "Tea."))
    ran = shop.defer()
    assert ran.exit_code == 0, ran.output
    report = shop.report()
    assert report["state"]["dbt_version"].startswith(f"{DBT_VERSIONS[-1]}.")
    assert report["dbt_version"].startswith("2.")
    assert (report["outcome"], report["removed"]) == ("no-changes", [])
    because = report["state"]["compared_because"]
    assert because.startswith(f"The state was made by dbt {DBT_VERSIONS[-1]}.")


def test_no_state__the_base_commit_is_parsed_again(shop: Shop) -> None:
    shutil.rmtree(shop.store)
    shop.pull_request(change_orders)
    ran = shop.defer("--production-target", "prod")
    assert ran.exit_code == 0, ran.output
    report = shop.report()
    assert report["state"]["reparsed"]
    assert node(report, "orders")["outcome"] == "built"
    assert [item["relation"] for item in report["deferred"]] == [
        f'"warehouse"."analytics"."{name}"' for name in ("stg_customers", "stg_orders")
    ]
