from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.harness import spark_server
from tests.harness.small_dbt import MODELS, SmallDbt
from tests.harness.spark_server import SparkServer

pytestmark = [pytest.mark.dbt, pytest.mark.server]


def test_dbt__builds_a_view_a_table_and_what_grows(spark: SparkServer, tmp_path: Path) -> None:
    schema = spark.schema()
    dbt = SmallDbt.make(tmp_path / "project", "spark", spark.output(schema))
    for _ in range(2):
        dbt.run("build")
        assert dbt.results() == dict.fromkeys(MODELS, "success")
    assert spark.sql(f"select count(*) from {schema}.grown") == [(2,)]
    assert {row[1] for row in spark.sql(f"show views in {schema}")} == {"looked_at"}
    assert {row[1] for row in spark.sql(f"show tables in {schema}")} == set(MODELS)


def test_server__leaves_nothing_behind() -> None:
    with spark_server.running() as server:
        [(_, warehouse)] = server.sql("set spark.sql.warehouse.dir")
        folder = Path(str(warehouse).removeprefix("file:")).parent
        assert folder.is_dir()
    assert not folder.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
