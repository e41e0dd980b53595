"""Fixtures of the tests on real dbt. Each test gets its own copy of the tea shop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.e2e.dbt_server import forked_dbt
from tests.e2e.shop import Shop, production
from tests.environments import DBT_VERSIONS, dbt_bin

# For tests of what is ours alone, where a second version of dbt would show nothing new.
ONE_VERSION = DBT_VERSIONS[-1]


@pytest.fixture(scope="session")
def quick_dbt(shared_folder: Path) -> Iterator[Callable[[str], Path]]:
    """The folder of a `dbt` of a version that starts quickly: see dbt_server."""
    folders: dict[str, Path] = {}
    with ExitStack() as servers:

        def quick(version: str) -> Path:
            if version not in folders:
                made = Shop(production(shared_folder, version), dbt_bin(version))
                state = Path(servers.enter_context(TemporaryDirectory())) / "state"
                server = forked_dbt(made.dbt, made.project, made.plain_state(state))
                folders[version] = servers.enter_context(server)
            return folders[version]

        yield quick


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all workers of pytest-xdist."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture
def shop(
    dbt_version: str, shared_folder: Path, tmp_path: Path, quick_dbt: Callable[[str], Path]
) -> Shop:
    """A shop for each supported version of dbt."""
    made = production(shared_folder, dbt_version)
    return Shop(made, quick_dbt(dbt_version)).copy(tmp_path / "shop")


@pytest.fixture
def one_shop(shared_folder: Path, tmp_path: Path, quick_dbt: Callable[[str], Path]) -> Shop:
    """A shop with one version of dbt."""
    return Shop(production(shared_folder, ONE_VERSION), quick_dbt(ONE_VERSION)).copy(
        tmp_path / "shop"
    )


@pytest.fixture
def plain_shop(shared_folder: Path, tmp_path: Path) -> Shop:
    """A shop with one version of dbt, started as everybody starts it: for tests of processes."""
    return Shop(production(shared_folder, ONE_VERSION), dbt_bin(ONE_VERSION)).copy(
        tmp_path / "shop"
    )
