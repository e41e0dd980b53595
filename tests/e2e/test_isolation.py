"""A schema for every pull request, on real warehouses: from production's build to the clean-up."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.ledger import LOG, Ledger
from tests.e2e.once import made_once
from tests.e2e.shop import Ran, node
from tests.e2e.warehouses import DuckDb, Postgres, Spark
from tests.environments import DBT_V2, DBT_VERSIONS, dbt_bin
from tests.harness.postgres_server import PostgresServer
from tests.harness.spark_server import SparkServer

pytestmark = pytest.mark.dbt

ONE_VERSION = DBT_VERSIONS[-1]
CHANGE = (LOG, "select id, amount,", "select id, 2 * amount / 2 as amount,")
# What production's table had when it was cloned, and what came to be after that.
CLONED = [(1, 10, "full"), (2, 20, "full"), (3, 30, "full")]
NEW = [(4, 40, "increment"), (5, 50, "increment")]
IN_FULL = [(number, 10 * number, "full") for number in range(1, 6)]

# Far beyond what is waited for.
SECONDS = 120


def start(ledger: Ledger) -> None:
    """Production is built and published, and two payments have come in since."""
    ledger.build_production()
    ledger.warehouse.execute(
        f"insert into {ledger.warehouse.production}.raw_payments "
        "values (4, 'ada', 40), (5, 'cleo', 50)"
    )


def built(number: int, log: list[tuple[int, int, str]]) -> dict[tuple[str, str], object]:
    """What a pull request with the change builds; `log` is in its incremental model."""
    return {
        (f"ci_pr_{number}_marts", "payments_log"): ("table", log),
        (f"ci_pr_{number}_marts", "report"): ("table", [(len(log),)]),
    }


def is_fine(ran: Ran) -> None:
    assert ran.exit_code == 0, ran.output


def play(ledger: Ledger, *, clone: str, log: list[tuple[int, int, str]]) -> None:
    """The life of a pull request; `log` is what the incremental model holds after the build."""
    start(ledger)
    before = ledger.production()
    assert len(before) == 5
    pull_request = ledger.pull_request(7, *CHANGE)

    is_fine(pull_request.defer("--clone-incremental", clone))
    assert ledger.others() == built(7, log)
    report = pull_request.report()
    assert report["pr_schema"] == "ci_pr_7"
    assert node(report, "payments_log")["cloned"] == (log != IN_FULL)
    [deferred] = report["deferred"]
    assert deferred["name"] == "stg_payments"
    assert ledger.warehouse.production in deferred["relation"]
    assert ledger.production() == before

    is_fine(pull_request.close(7))
    assert ledger.others() == {}
    assert ledger.other_schemas() == set()
    assert ledger.production() == before
    assert pull_request.left_on_disk() == []


@pytest.mark.parametrize("version", [ONE_VERSION, DBT_V2])
def test_duckdb(version: str, tmp_path: Path, quick_dbt: Callable[[str], Path]) -> None:
    dbt = dbt_bin(version) if version == DBT_V2 else quick_dbt(version)
    ledger = Ledger(tmp_path / "main", DuckDb(tmp_path / "ledger.duckdb", dbt))
    play(ledger, clone="copy", log=[*CLONED, *NEW])


@pytest.mark.server
def test_spark(tmp_path: Path, spark: SparkServer) -> None:
    ledger = Ledger(tmp_path / "main", Spark(spark, spark.schema()))
    play(ledger, clone="true", log=IN_FULL)
    report = tmp_path / "pull-request-7" / "repository" / "target" / "ci-defer" / "report.json"
    said = "spark clones only tables of the file_format delta. So 1 incremental node"
    assert said in report.read_text(encoding="utf-8")


@pytest.mark.server
def test_postgresql__two_pull_requests_at_once_and_one_is_cancelled(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    warehouse = Postgres(postgres, postgres.database())
    ledger = Ledger(tmp_path / "main", warehouse)
    start(ledger)
    before = ledger.production()
    one = ledger.pull_request(7, *CHANGE)
    slow = "case when pg_advisory_lock(8)::text = '' then amount end as amount,"
    other = ledger.pull_request(8, LOG, "amount,", slow)
    copy = ("--clone-incremental", "copy")

    with other.deferring(*copy) as process, warehouse.holding(8):
        # In the meantime.
        is_fine(one.defer(*copy))
        wait_until(lambda: warehouse.is_waited_for(8))
        # The clone is there, and what is built upon it is not.
        half = {("ci_pr_8_marts", "payments_log"): ("table", CLONED)}
        assert ledger.others() == {**built(7, [*CLONED, *NEW]), **half}
        # As a runner does that loses its patience: to each process of the action.
        for pid in tree(process.pid):
            signal.pidfd_send_signal(pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, output
    assert other.report()["outcome"] == "cancelled"
    assert other.left_on_disk() == []

    is_fine(other.close(8))
    # Nothing of it is left, and the other one's is untouched.
    assert ledger.others() == built(7, [*CLONED, *NEW])
    assert ledger.other_schemas() == {"ci_pr_7_marts"}
    # What somebody has put upon it is not dropped along, least of all in production's schema.
    warehouse.execute("create view analytics_marts.board as select * from ci_pr_7_marts.report")
    refused = one.close(7)
    assert refused.exit_code == 3
    [error] = refused.errors
    assert "ci_pr_7_marts.report" in error
    assert "depends on" in refused.output
    assert ("analytics_marts", "board") in ledger.production()
    warehouse.execute("drop view analytics_marts.board")
    is_fine(one.close(7))
    assert ledger.other_schemas() == set()
    assert ledger.production() == before
    holders = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and postgres.password.encode() in path.read_bytes()
    ]
    assert holders == []


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def tree(pid: int) -> list[int]:
    """File descriptors of a process and of all that it has started."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may hold anything.
            after = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        except OSError:
            continue
        parents[int(path.parent.name)] = int(after.split()[1])
    found = [pid]
    for parent in found:
        found += [child for child, of in parents.items() if of == parent]
    return [os.pidfd_open(one) for one in found]


# On DuckDB alone: what does not depend on the warehouse ------------------------------------------


@pytest.fixture
def ledger(
    tmp_path: Path, shared_folder: Path, quick_dbt: Callable[[str], Path]
) -> Iterator[Ledger]:
    """Production is there; at the end nothing of it has changed."""

    def make(folder: Path) -> None:
        start(Ledger(folder / "main", DuckDb(folder / "ledger.duckdb", quick_dbt(ONE_VERSION))))

    once = made_once(shared_folder / "ledger", make)
    shutil.copytree(once, tmp_path / "ledger", symlinks=True)
    file = tmp_path / "ledger" / "ledger.duckdb"
    made = Ledger(tmp_path / "ledger" / "main", DuckDb(file, quick_dbt(ONE_VERSION)))
    before = made.production()
    yield made
    assert made.production() == before


MACROS = """\
{% macro duckdb__can_clone_table() %}{{ return(True) }}{% endmacro %}
{% macro duckdb__create_or_replace_clone(this_relation, defer_relation) %}
  {% call statement('clone') %}
    create or replace table {{ this_relation }} as select * from {{ defer_relation }}
  {% endcall %}
  {% do adapter.commit() %}
  select 1
{% endmacro %}
"""
HISTORY = """\
snapshots:
  - name: history
    relation: ref('stg_payments')
    config: {unique_key: id, strategy: check, check_cols: [amount], schema: marts}
"""


def test_clone__by_dbt_itself_where_a_clone_is_a_table(ledger: Ledger) -> None:
    """As on Snowflake or BigQuery, which no test can have: the project says how to clone."""
    pull_request = ledger.pull_request(7, *CHANGE)
    pull_request.write("macros/clone.sql", MACROS)
    # New, so that production has nothing to clone it from.
    pull_request.write("snapshots/history.yml", HISTORY)
    is_fine(pull_request.defer("--clone-incremental", "true", "--clone-snapshots"))
    found = ledger.others()
    assert found["ci_pr_7_marts", "payments_log"] == ("table", [*CLONED, *NEW])
    assert len(found["ci_pr_7_marts", "history"][1]) == 5
    report = pull_request.report()
    assert [item["name"] for item in report["nodes"] if item["cloned"]] == ["payments_log"]
    commands = [command["arguments"][1] for command in report["commands"]]
    assert commands == ["ls", "clone", "build"]
    assert not [text for text in report["warnings"] if "clone" in text]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "dbt cannot clone tables on duckdb: it would make views, which are built anew."),
        (("--dbt-args", "--full-refresh"), "Nothing is cloned, because dbt-args have"),
    ],
)
def test_clone__is_explained_where_it_is_not_done(
    ledger: Ledger, arguments: tuple[str, ...], said: str
) -> None:
    pull_request = ledger.pull_request(7, *CHANGE)
    ran = pull_request.defer("--clone-incremental", "true", *arguments)
    is_fine(ran)
    assert said in ran.ours
    assert ledger.others() == built(7, IN_FULL)


def test_clone__that_fails_is_a_full_build(ledger: Ledger) -> None:
    pull_request = ledger.pull_request(7, *CHANGE)
    # Production has lost its table: the manifest does not know that.
    production = ledger.warehouse.production
    lost = f"{production}_marts.payments_log"
    ledger.warehouse.execute(f"alter table {lost} rename to kept")
    is_fine(pull_request.defer("--clone-incremental", "copy"))
    assert ledger.others() == built(7, IN_FULL)
    [warning] = [text for text in pull_request.report()["warnings"] if "Not cloned" in text]
    assert "payments_log" in warning
    ledger.warehouse.execute(f"alter table {production}_marts.kept rename to payments_log")


@pytest.mark.parametrize(
    ("macro", "said"),
    [
        # A schema that is the same for everybody: two pull requests would write into it.
        ("{{ custom_schema_name or target.schema }}", "outside of the pull request's schema"),
        ("shared", "outside of the pull request's schema"),
        # Production's own, however it is called.
        ("analytics{{ '_' ~ custom_schema_name if custom_schema_name }}", "build into production"),
    ],
)
def test_macro__that_leaves_the_schema_is_refused_before_anything_is_built(
    ledger: Ledger, macro: str, said: str
) -> None:
    pull_request = ledger.pull_request(7, *CHANGE)
    text = "{% macro generate_schema_name(custom_schema_name, node) %}" + macro + "{% endmacro %}"
    pull_request.write("macros/schema.sql", text)
    schemas = ledger.warehouse.schemas()
    ran = pull_request.defer()
    assert ran.exit_code == 2
    [error] = ran.errors
    assert said in error
    assert "payments_log" in error
    assert ledger.warehouse.schemas() == schemas


def test_macro__that_puts_the_schema_behind_is_cleaned_up_too(ledger: Ledger) -> None:
    pull_request = ledger.pull_request(7, *CHANGE)
    text = "{{ custom_schema_name ~ '_' if custom_schema_name }}{{ target.schema }}"
    pull_request.write(
        "macros/schema.sql",
        "{% macro generate_schema_name(custom_schema_name, node) -%}" + text + "{%- endmacro %}",
    )
    is_fine(pull_request.defer())
    assert ("marts_ci_pr_7", "payments_log") in ledger.others()
    is_fine(pull_request.close(7))
    assert ledger.other_schemas() == set()


@pytest.mark.parametrize(
    "branch", ["feature/Büro-日本", f'\'; drop table "orders"; --{"../" * 80}UPPER']
)
def test_branch__of_any_name_gets_a_safe_schema(ledger: Ledger, branch: str) -> None:
    pull_request = ledger.pull_request(7, *CHANGE).on_event(7, "synchronize", branch)
    is_fine(pull_request.defer("--pr-schema", "ci_{branch}"))
    [schema] = ledger.other_schemas()
    assert re.fullmatch(r"ci_[a-z0-9_]{1,60}_marts", schema)
    is_fine(pull_request.close(7))
    assert ledger.other_schemas() == set()


def test_close__without_a_record_parses_what_would_have_been_built(ledger: Ledger) -> None:
    pull_request = ledger.pull_request(7, *CHANGE)
    is_fine(pull_request.defer())
    assert ledger.others() == built(7, IN_FULL)
    shutil.rmtree(ledger.store / ".pull-requests")
    # Without the setting nobody knows of a schema.
    ran = pull_request.close(7)
    is_fine(ran)
    assert "Nothing to clean up" in ran.ours
    is_fine(pull_request.close(7, "--pr-schema", "ci_pr_{number}"))
    assert ledger.other_schemas() == set()


def test_skipped_node__leaves_what_somebody_has_put_there(ledger: Ledger) -> None:
    table = "create table ci_pr_7_marts.report as select 1 as mine"
    ledger.warehouse.execute("create schema ci_pr_7_marts", table)
    pull_request = ledger.pull_request(7, LOG, "select id, amount,", "select no_such_column,")
    assert pull_request.defer().exit_code == 1
    assert node(pull_request.report(), "report")["outcome"] == "skipped"
    ran = pull_request.close(7)
    is_fine(ran)
    assert ledger.others() == {("ci_pr_7_marts", "report"): ("table", [(1,)])}
    assert "ci_pr_7_marts.report" in ran.ours


def test_second_push__reads_nothing_that_the_first_one_took_back(ledger: Ledger) -> None:
    staging, balances = "models/staging/stg_payments.sql", "models/marts/balances.sql"
    first = ledger.pull_request(7, staging, "amount from", "1000 * amount as amount from")
    first.write("models/marts/idea.sql", "select 1 as one\n")
    copy = ("--clone-incremental", "copy")
    is_fine(first.defer(*copy))
    found = ledger.others()
    assert ("ci_pr_7_marts", "idea") in found
    assert found["ci_pr_7_marts", "payments_log"] == (
        "table",
        [*CLONED, (4, 40_000, "increment"), (5, 50_000, "increment")],
    )

    second = replace(first, more={**first.more, "GITHUB_RUN_ID": "2"})
    (second.project / "models/marts/idea.sql").unlink()
    second.repository.run("checkout", "--quiet", "main", staging)
    for path in (balances, LOG):
        text = (second.project / path).read_text(encoding="utf-8")
        second.write(path, text.replace("amount", "amount /* the same */", 1))
    is_fine(second.defer(*copy))
    found = ledger.others()
    # Of production's payments, though the first push has left a view of its own.
    assert found["ci_pr_7_marts", "balances"] == (
        "table",
        [("ada", 80), ("bram", 20), ("cleo", 50)],
    )
    # And upon production's rows, not upon those of the first push.
    assert found["ci_pr_7_marts", "payments_log"] == ("table", [*CLONED, *NEW])

    is_fine(second.close(7))
    assert ledger.others() == {}
    assert ledger.other_schemas() == set()
