"""Fixtures that more than one test module uses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.environments import DBT_VERSIONS
from tests.harness.objects import (
    AzureServer,
    GcsServer,
    S3Server,
    azure_server,
    gcs_server,
    s3_server,
)

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
