from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.environments import CACHE
from tests.harness import postgres_server
from tests.harness.postgres_server import PostgresServer

# dbt on it: e2e/test_isolation.
pytestmark = pytest.mark.server


def test_database__is_new_each_time(postgres: PostgresServer) -> None:
    first, second = postgres.database(), postgres.database()
    postgres.sql(first, "create table here (id int)")
    assert postgres.sql(second, "select to_regclass('here') is null") == [("t",)]


def test_server__wants_the_password_and_leaves_nothing_behind() -> None:
    with postgres_server.running() as server:
        with pytest.raises(AssertionError, match="password authentication failed"):
            PostgresServer(server.port, "wrong", server.psql).sql("postgres", "select 1")
        [(folder, process)] = server.sql(
            "postgres",
            "select current_setting('data_directory'), split_part(pg_read_file('postmaster.pid'), "
            "chr(10), 1)",
        )
        assert Path("/proc", process).exists()
    assert not Path(folder).parent.exists()
    assert not Path("/proc", process).exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=1).close()


def test_server__starts_where_only_we_may_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a home of root: it is nobody then who runs it.
    tmp_path.chmod(0o700)
    (tmp_path / "dbt-postgres").symlink_to(CACHE / "dbt-postgres")
    monkeypatch.setattr(postgres_server, "CACHE", tmp_path)
    with postgres_server.running() as server:
        assert server.psql.startswith(str(tmp_path))
        assert server.sql("postgres", "select 1", "select 2") == [("2",)]
