"""Fixtures of the tests on real dbt, and of those that run the action with act."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.e2e import warm_dbt
from tests.e2e.action_shop import Provision
from tests.e2e.action_shop import Shop as ActionShop
from tests.e2e.shop import Shop, production
from tests.environments import CACHE, DBT_VERSIONS, ROOT, dbt_bin
from tests.harness.act import export_action
from tests.harness.fork_server import forked
from tests.harness.github import FakeGitHub
from tests.harness.standin import build_standin

# For tests of what is ours alone, where a second version of dbt would show nothing new.
ONE_VERSION = DBT_VERSIONS[-1]


@pytest.fixture(scope="session")
def quick_dbt(shared_folder: Path) -> Iterator[Callable[[str], Path]]:
    """The folder of a `dbt` of a version that starts quickly: see warm_dbt."""
    recipe = Path(warm_dbt.__file__)
    folders: dict[str, Path] = {}
    with ExitStack() as servers:

        def quick(version: str) -> Path:
            if version not in folders:
                made = Shop(production(shared_folder, version), dbt_bin(version))

                def words() -> tuple[str, str]:
                    temporary = servers.enter_context(TemporaryDirectory())
                    return str(made.project), str(made.plain_state(Path(temporary) / "state"))

                folder = shared_folder / f"dbt-{version}"
                python = made.dbt / "python"
                server = forked(folder, "dbt", python, recipe, words, script=warm_dbt.SCRIPT)
                folders[version] = servers.enter_context(server)
            return folders[version]

        yield quick


@pytest.fixture
def shop_of(
    shared_folder: Path, tmp_path: Path, quick_dbt: Callable[[str], Path]
) -> Callable[[str], Shop]:
    """A shop with the version of dbt that is asked for."""

    def shop_of(version: str) -> Shop:
        made = production(shared_folder, version)
        return Shop(made, quick_dbt(version)).copy(tmp_path / "shop")

    return shop_of


@pytest.fixture
def shop(dbt_version: str, shop_of: Callable[[str], Shop]) -> Shop:
    """A shop for each supported version of dbt."""
    return shop_of(dbt_version)


@pytest.fixture
def one_shop(shop_of: Callable[[str], Shop]) -> Shop:
    """A shop with one version of dbt."""
    return shop_of(ONE_VERSION)


@pytest.fixture
def plain_shop(shared_folder: Path, tmp_path: Path) -> Shop:
    """A shop with one version of dbt, started as everybody starts it: for tests of processes."""
    return Shop(production(shared_folder, ONE_VERSION), dbt_bin(ONE_VERSION)).copy(
        tmp_path / "shop"
    )


@pytest.fixture(scope="session")
def standin() -> Path:
    """The upload action for tests, bundled once."""
    return build_standin(ROOT / "node_modules", CACHE / "standin")


@pytest.fixture(scope="session")
def action(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a release of the action would hold."""
    return export_action(ROOT, tmp_path_factory.mktemp("action") / "export")


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    """GitHub's services, which must have been used as the real ones want to be."""
    with FakeGitHub() as fake:
        yield fake
        assert fake.violations == []


@pytest.fixture(scope="session")
def provision(
    action: Path, standin: Path, quick_dbt: Callable[[str], Path], shared_folder: Path
) -> Provision:
    """What the runs with act have in common."""
    return Provision(action, standin, quick_dbt, shared_folder)


@pytest.fixture
def action_shop(tmp_path: Path, github: FakeGitHub, provision: Provision) -> ActionShop:
    """A repository whose workflows are run with act."""
    return ActionShop(tmp_path, github, provision)
