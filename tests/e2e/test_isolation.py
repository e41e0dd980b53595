"""A schema for every pull request, on real warehouses: from production's build to the clean-up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.ledger import LOG, Ledger
from tests.e2e.shop import node
from tests.e2e.warehouses import DuckDb, Postgres, Spark
from tests.environments import DBT_V2, DBT_VERSIONS, dbt_bin
from tests.harness.postgres_server import PostgresServer
from tests.harness.spark_server import SparkServer

pytestmark = pytest.mark.dbt

CHANGE = (LOG, "select id, amount,", "select id, 2 * amount / 2 as amount,")
# What production's table had when it was cloned, and what came to be after that.
CLONED = [(1, 10, "full"), (2, 20, "full"), (3, 30, "full")]
NEW = [(4, 40, "increment"), (5, 50, "increment")]
IN_FULL = [(number, 10 * number, "full") for number in range(1, 6)]


def play(ledger: Ledger, *, clone: str, log: list[tuple[int, int, str]]) -> None:
    """The life of a pull request; `log` is what the incremental model holds after the build."""
    production = ledger.warehouse.production
    ledger.build_production()
    ledger.warehouse.execute(
        f"insert into {production}.raw_payments values (4, 'ada', 40), (5, 'cleo', 50)"
    )
    before = ledger.production()
    assert len(before) == 5
    pull_request = ledger.pull_request(7, *CHANGE)

    built = pull_request.defer("--clone-incremental", clone)
    assert built.exit_code == 0, built.output
    assert ledger.others() == {
        ("ci_pr_7_marts", "payments_log"): ("table", log),
        ("ci_pr_7_marts", "report"): ("table", [(len(log),)]),
    }
    report = pull_request.report()
    assert report["pr_schema"] == "ci_pr_7"
    assert node(report, "payments_log")["cloned"] == (log != IN_FULL)
    [deferred] = report["deferred"]
    assert deferred["name"] == "stg_payments"
    assert production in deferred["relation"]
    assert ledger.production() == before
    assert pull_request.left_on_disk() == []

    closed = pull_request.close(7)
    assert closed.exit_code == 0, closed.output
    assert ledger.others() == {}
    assert ledger.other_schemas() == set()
    assert ledger.production() == before
    assert pull_request.left_on_disk() == []

    again = pull_request.close(7)
    assert again.exit_code == 0, again.output
    assert ledger.production() == before


@pytest.mark.parametrize("version", [*DBT_VERSIONS, DBT_V2])
def test_duckdb(version: str, tmp_path: Path, quick_dbt: Callable[[str], Path]) -> None:
    dbt = dbt_bin(version) if version == DBT_V2 else quick_dbt(version)
    ledger = Ledger(tmp_path / "main", DuckDb(tmp_path / "ledger.duckdb", dbt))
    play(ledger, clone="copy", log=[*CLONED, *NEW])


@pytest.mark.server
def test_postgresql(tmp_path: Path, postgres: PostgresServer) -> None:
    ledger = Ledger(tmp_path / "main", Postgres(postgres, postgres.database()))
    play(ledger, clone="copy", log=[*CLONED, *NEW])
    assert_nowhere(postgres.password, tmp_path)


@pytest.mark.server
def test_spark(tmp_path: Path, spark: SparkServer) -> None:
    ledger = Ledger(tmp_path / "main", Spark(spark, spark.schema()))
    play(ledger, clone="true", log=IN_FULL)
    report = ledger.root.parent / "pull-request-7" / "repository" / "target" / "ci-defer"
    text = (report / "report.json").read_text(encoding="utf-8")
    assert "spark clones only tables of the file_format delta. So 1 incremental node" in text


def assert_nowhere(secret: str, folder: Path) -> None:
    """No file below the folder holds it."""
    holders = [
        path
        for path in folder.rglob("*")
        if path.is_file() and secret.encode() in path.read_bytes()
    ]
    assert holders == []
