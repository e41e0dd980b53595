"""dbt Core's commands in one process: all that anybody sees is as with a process for each.

Each scenario is run twice from the same start: with the `dbt` that an installer has made, and with
a wrapper around it, for which ci-defer starts dbt anew for every command. Compared are the exit
code, the log, the outputs, the report, and what is in the target path and in dbt's own log.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ci_defer.dbt import Selection
from ci_defer.dbt.commands import DbtSettings
from ci_defer.dbt.driver import DriverEngine
from ci_defer.dbt.process import Interrupts
from tests.e2e.alike import differences, in_target_path, normal_text
from tests.e2e.shop import Shop
from tests.e2e.test_errors import program
from tests.samples import Log

pytestmark = pytest.mark.dbt

ORDERS = "models/marts/orders.sql"
TOTALS = "models/marts/customer_totals.sql"
STAGING = "models/staging/staging.yml"
MARTS = "models/marts/marts.yml"

# Said where there is a saved parse that cannot be used: without a driver nobody tries.
IN_FULL = "dbt parsed the whole project: "

# The saved parse is not the one in the target path, which may fit otherwise.
OF_PARSING = "UnableToPartialParse"

# How many idle connections dbt cancels depends on the numbers that the system gives to threads: dbt
# has one for each, and who comes second under a number takes the place of the first.
CANCEL, OF_CANCEL = "CANCEL query ", "LogCancelLine"

OF_NODE = r"\d+ of \d+"


def change_totals(shop: Shop) -> None:
    shop.replace(TOTALS, "count(*)", "count(order_id)")


def left_join(shop: Shop) -> None:
    shop.replace(ORDERS, "\njoin", "\nleft join")


def broken_hook(shop: Shop) -> None:
    change_totals(shop)
    shop.replace("dbt_project.yml", "select 'closing time'", '"{{ no_such_macro() }}"')


def failing_hook(shop: Shop) -> None:
    change_totals(shop)
    shop.replace("dbt_project.yml", "select 'closing time'", "select no_such_column")


def failing_test(shop: Shop) -> None:
    left_join(shop)
    shop.write("tests/no_orders.sql", "select * from {{ ref('orders') }}\n")


def unused_path(shop: Shop) -> None:
    change_totals(shop)
    shop.write("dbt_project.yml", shop.read("dbt_project.yml") + "    nowhere:\n      +tags: [a]\n")


def deprecated(shop: Shop) -> None:
    """What dbt warns of whenever it reads the project, and what only when it parses a file."""
    change_totals(shop)
    shop.replace(
        MARTS,
        "  - name: orders\n",
        "  - name: orders\n    deprecation_date: 2001-01-01\n    no_such_property: 1\n",
    )


def versioned(shop: Shop) -> None:
    shop.write("models/marts/prices.sql", "select 1 as price\n")
    shop.write(
        "models/marts/prices.yml",
        "models:\n  - name: prices\n    latest_version: 1\n    config: {contract: {enforced: true}}"
        "\n    columns: [{name: price, data_type: integer}]\n    versions: [{v: 1}]\n",
    )
    shop.move("models/marts/prices.sql", "models/marts/prices_v1.sql")


def break_contract(shop: Shop) -> None:
    shop.write("models/marts/prices_v1.sql", "select 'one' as price\n")
    shop.replace("models/marts/prices.yml", "data_type: integer", "data_type: varchar")


def with_variables(shop: Shop) -> None:
    shop.replace(
        TOTALS,
        "count(*) as orders",
        "count(*) + {{ var('more') }} as orders, '{{ env_var('TEA') }}' as tea",
    )


def unit_test_only(shop: Shop) -> None:
    shop.replace(STAGING, "amount_cents: 250", "amount_cents: 350")


def only_looks_modified(shop: Shop) -> None:
    """Its SQL depends on the time, so the commit is parsed again and dbt selects once more."""
    change_totals(shop)


@dataclass(frozen=True)
class Scenario:
    """A pull request, after `main` has been changed in some way; `exit_code` is ci-defer's.

    `apart` is not compared: where dbt tells of parsing, which the driver does only once.
    """

    edit: Callable[[Shop], None] = change_totals
    arguments: tuple[str, ...] = ()
    exit_code: int = 0
    environ: dict[str, str] = field(default_factory=dict)
    main: Callable[[Shop], None] | None = None
    apart: tuple[str, ...] = ()


def dbt_args(words: str, edit: Callable[[Shop], None] = change_totals, code: int = 0) -> Scenario:
    return Scenario(edit, ("--dbt-args", words), code)


SCENARIOS = {
    "success": Scenario(left_join),
    "failing-test": Scenario(failing_test, exit_code=1),
    "failing-model": Scenario(lambda shop: shop.replace(TOTALS, "count(*)", "nope"), exit_code=1),
    "nothing": Scenario(lambda shop: shop.write("notes.md", "Nothing of dbt's.\n")),
    "broken-jinja": Scenario(lambda shop: shop.write(TOTALS, "select {{ ref( }}"), exit_code=2),
    "broken-yaml": Scenario(lambda shop: shop.write(MARTS, "models:\n - name: [\n"), exit_code=2),
    "broken-hook": Scenario(broken_hook, exit_code=1),
    "failing-hook": Scenario(failing_hook, exit_code=1),
    "unit-test": Scenario(unit_test_only),
    "deleted-model": Scenario(lambda shop: shop.remove("models/marts/punctuality.sql")),
    "seed": Scenario(
        lambda shop: shop.write(
            "seeds/raw_customers.csv", shop.read("seeds/raw_customers.csv") + "4,Dirk,Gouda\n"
        )
    ),
    "snapshot": Scenario(
        lambda shop: shop.replace("snapshots/customers.yml", "[city]", "[city, customer_name]")
    ),
    "ephemeral": Scenario(
        lambda shop: shop.replace("models/marts/int_paid_orders.sql", "= 'paid'", "<> 'cancelled'")
    ),
    "clone": Scenario(
        lambda shop: shop.replace(
            "models/marts/daily_sales.sql", "sum(amount)", "round(sum(amount), 2)"
        ),
        ("--clone-incremental", "copy"),
    ),
    "unknown-flag": dbt_args("--no-such-flag", code=2),
    "store-failures": dbt_args("--store-failures", failing_test, 1),
    "full-refresh": dbt_args("--full-refresh", left_join),
    "threads": dbt_args("--threads 1"),
    "fail-fast": dbt_args("--fail-fast", failing_test, 1),
    "warn-error": dbt_args("--warn-error", unused_path, 2),
    "json": dbt_args("--log-format json", left_join),
    "quiet": dbt_args("--quiet", failing_test, 1),
    "debug": Scenario(arguments=("--dbt-args", "--debug"), apart=("log", "names of events")),
    "no-partial-parse": dbt_args("--no-partial-parse"),
    "unused-path": Scenario(unused_path),
    "deprecated": Scenario(deprecated),
    "contract": Scenario(break_contract, main=versioned, exit_code=2),
    "variables": Scenario(
        with_variables, ("--dbt-args", "--vars '{more: 1}'"), environ={"TEA": "earl grey"}
    ),
    "pr-schema": Scenario(left_join, ("--pr-schema", "pr_{branch}")),
    "no-state": Scenario(arguments=("--if-no-state", "full", "--state", "../nowhere")),
    "reparse": Scenario(arguments=("--state", "../nowhere", "--production-target", "prod")),
    "other-target": Scenario(arguments=("--target", "prod", "--allow-production")),
}


# The others are for CI_DEFER_LONG.
ORDINARY = (
    *("success", "failing-test", "failing-model", "broken-jinja", "broken-hook", "clone"),
    *("unused-path", "reparse"),
)


@pytest.mark.parametrize("name", SCENARIOS if os.environ.get("CI_DEFER_LONG") else ORDINARY)
def test_one_process__is_as_one_for_each_command(shop: Shop, name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    shop = shop.with_environ(**scenario.environ)
    # In one order, whichever node ends first.
    shop.write("profiles.yml", shop.read("profiles.yml").replace("threads: 2", "threads: 1"))
    if scenario.main:
        scenario.main(shop)
        shop.commit()
        assert shop.build_production().exit_code == 0
        assert shop.onboard().exit_code == 0
        shutil.rmtree(shop.project / "logs")
    shop.pull_request(scenario.edit)
    wrapper = program(tmp_path / "wrapper", f'exec {shlex.quote(str(shop.dbt / "dbt"))} "$@"')
    with_commands = shop.copy(tmp_path / "commands").with_dbt(wrapper)
    with_driver = shop.copy(tmp_path / "driver")

    theirs, ours = made(with_commands, scenario), made(with_driver, scenario)

    for part in scenario.apart:
        del theirs[part], ours[part]
    found = "\n".join(differences(theirs, ours))
    assert not found, found
    assert theirs["exit code"] == scenario.exit_code, theirs.get("log")


def made(shop: Shop, scenario: Scenario) -> dict[str, Any]:
    """All that a run leaves, without what differs between any two."""
    outputs = shop.root / "outputs"
    told = {"GITHUB_OUTPUT": str(outputs), "DBT_LOG_FORMAT_FILE": "json"}
    ran = shop.with_environ(DBT_LOG_LEVEL_FILE="info", **told).defer(*scenario.arguments)

    def text(value: str) -> str:
        return normal_text(value, shop.root)

    return {
        "exit code": ran.exit_code,
        "log": in_order(text(ran.output)),
        "outputs": text(outputs.read_text(encoding="utf-8")),
        "names of events": events(shop.project / "logs" / "dbt.log"),
        **in_target_path(shop),
    }


def events(log: Path) -> str:
    """The names of dbt's own events, from both commands."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    names = (json.loads(line)["info"]["name"] for line in lines)
    return "\n".join(sorted(name for name in names if name not in (OF_PARSING, OF_CANCEL)))


def in_order(log: str) -> str:
    """The lines of a log, where they come: but those of nodes have no order that means anything."""
    whole = log.splitlines()
    lines = [line for line in whole if not line.startswith(IN_FULL) and CANCEL not in line]
    of_nodes = (re.sub(OF_NODE, "n of m", line) for line in lines if re.search(OF_NODE, line))
    rest = iter(sorted(of_nodes))
    return "\n".join(next(rest) if re.search(OF_NODE, line) else line for line in lines)


@pytest.fixture
def engine(shop: Shop) -> Iterator[DriverEngine]:
    settings = DbtSettings(
        project_dir=shop.project,
        target_path=shop.target,
        working_directory=shop.project,
        target="ci",
    )
    engine = DriverEngine(
        settings, environ=shop.full_environ(), console=Log(), interrupts=Interrupts()
    )
    with closing(engine):
        yield engine


def test_process__keeps_no_hold_of_the_warehouse(shop: Shop, engine: DriverEngine) -> None:
    """Others may open the file of a DuckDB as soon as a command has ended."""
    selection = Selection(select=("raw_orders",))
    shop.write("macros/more.sql", "{% macro more() %}1{% endmacro %}")
    assert engine.plan(selection).unique_ids == ("seed.shop.raw_orders",)
    shop.sql("create schema between_two_commands")
    assert engine.build(selection).invocation.exit_code == 0
    assert shop.sql("select count(*) from ci_pr.raw_orders") == [(4,)]


def test_process__lists_once_more(shop: Shop, engine: DriverEngine) -> None:
    """Whoever needs a second listing has removed the manifest of the first."""
    selection = Selection(select=("raw_orders",))
    first = engine.plan(selection)
    written = json.loads(first.manifest.read_bytes())
    first.manifest.unlink()
    second = engine.plan(selection)
    assert second.unique_ids == first.unique_ids
    assert json.loads(second.manifest.read_bytes())["nodes"] == written["nodes"]


def test_process__its_results_and_its_manifest_have_one_id(
    shop: Shop, engine: DriverEngine
) -> None:
    selection = Selection(select=("raw_orders",))
    engine.plan(selection)
    engine.build(selection)
    engine.close()
    ids = {
        document["metadata"]["invocation_id"] for document in (shop.manifest(), shop.run_results())
    }
    assert len(ids) == 1
    assert shop.run_results()["args"]["invocation_command"].startswith("dbt build --project-dir")
