"""Fixtures that more than one test module uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

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
