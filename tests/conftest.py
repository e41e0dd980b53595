"""Fixtures that more than one test module uses."""

from __future__ import annotations

import pytest

from tests.environments import DBT_VERSIONS


@pytest.fixture(params=DBT_VERSIONS)
def dbt_version(request: pytest.FixtureRequest) -> str:
    """Each supported version of dbt Core, for tests that run a real one."""
    return str(request.param)
