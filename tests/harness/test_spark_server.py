from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.harness import spark_server

# dbt on it: e2e/test_isolation.
pytestmark = pytest.mark.server


def test_server__leaves_nothing_behind() -> None:
    with spark_server.running() as server:
        [(_, warehouse)] = server.sql("set spark.sql.warehouse.dir")
        folder = Path(str(warehouse).removeprefix("file:")).parent
        assert folder.is_dir()
    assert not folder.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
