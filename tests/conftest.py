"""Fixtures that more than one test module uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import settings

from tests.environments import DBT_VERSIONS
from tests.harness import postgres_server, spark_server
from tests.harness.objects import (
    AzureServer,
    GcsServer,
    S3Server,
    azure_server,
    gcs_server,
    s3_server,
)
from tests.harness.postgres_server import PostgresServer
from tests.harness.shared_server import shared
from tests.harness.spark_server import SparkServer

# Without a deadline for each example: there are more workers than processors.
settings.register_profile("usual", deadline=None)
# For the other Pythons: what they may do otherwise shows in a few examples.
settings.register_profile("quick", max_examples=10, deadline=None)
settings.load_profile("usual")


# Most of those take seconds, and the others hardly any time.
LONG = ("dbt", "action")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each test run with one version of dbt, which is another one for every second test.

    Those about what differs between versions (marker both_versions) run with each, and all of them
    do with CI_DEFER_LONG.
    """
    if not os.environ.get("CI_DEFER_LONG"):
        left = [item for item in items if not _is_of_this_run(item)]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
    items[:] = _long_ones_first(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def _long_ones_first(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """An order in which no worker has only long tests left when the others are done.

    xdist cuts the list into a piece for each worker: the long tests are dealt out to all of them,
    to their beginnings.
    """
    long = [item for item in items if any(map(item.get_closest_marker, LONG))]
    short = [item for item in items if not any(map(item.get_closest_marker, LONG))]
    # Those of one module stay together: they have fixtures in common.
    size = -(-len(short) // workers)
    return [
        item
        for worker in range(workers)
        for item in (*long[worker::workers], *short[worker * size : (worker + 1) * size])
    ]


def _is_of_this_run(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    version = callspec.params.get("dbt_version") if callspec else None
    if version is None or item.get_closest_marker("both_versions"):
        return True
    case = item.nodeid.replace(version, "")
    return bool(version == DBT_VERSIONS[crc32(case.encode()) % len(DBT_VERSIONS)])


@pytest.fixture(params=DBT_VERSIONS)
def dbt_version(request: pytest.FixtureRequest) -> str:
    """Each supported version of dbt Core, for tests that run a real one."""
    return str(request.param)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def azure() -> Iterator[AzureServer]:
    with azure_server() as server:
        yield server


@pytest.fixture(scope="session")
def gcs() -> Iterator[GcsServer]:
    with gcs_server() as server:
        yield server


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all workers of pytest-xdist."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def postgres(shared_folder: Path) -> Iterator[PostgresServer]:
    """One for all workers: a test takes a database of its own."""
    with shared(shared_folder / "postgres", postgres_server.__name__) as fields:
        yield PostgresServer(**fields)


@pytest.fixture(scope="session")
def spark(shared_folder: Path) -> Iterator[SparkServer]:
    """One for all workers: a test takes schemas of its own."""
    with shared(shared_folder / "spark", spark_server.__name__) as fields:
        yield SparkServer(**fields)
