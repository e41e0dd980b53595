"""`ci-defer demo`: the whole story on the project that ships inside of the package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.shop import Ran, Shop

pytestmark = pytest.mark.dbt


def demo(shop: Shop, *arguments: str) -> Ran:
    temporary = shop.root / "tmp"
    temporary.mkdir()
    return shop.with_environ(TMPDIR=str(temporary)).ci_defer("demo", *arguments)


def assert_tells_the_story(ran: Ran) -> None:
    assert ran.exit_code == 0, ran.output
    _, _, summary = ran.stdout.partition("ci-defer · bike_rental · SUCCESS\n")
    headline = summary.partition("\n")[0]
    assert "nodes built" in headline
    assert "tests passed" in headline
    _, _, deferred = summary.partition("Read from production instead of built:\n")
    assert '"analytics"."' in deferred
    assert "Traceback" not in ran.output


def empty(root: Path, dbt: Path) -> Shop:
    """No shop at all: a working directory and a home."""
    shop = Shop(root, dbt)
    shop.project.mkdir(parents=True)
    (root / "home").mkdir()
    return shop


def test_demo__shows_the_summary_and_removes_its_folder(
    tmp_path: Path, dbt_version: str, quick_dbt: Callable[[str], Path]
) -> None:
    shop = empty(tmp_path / "nowhere", quick_dbt(dbt_version))

    ran = demo(shop)

    assert_tells_the_story(ran)
    assert list((shop.root / "tmp").iterdir()) == []
    assert list(shop.project.iterdir()) == []


def test_demo__keeps_a_folder_that_is_named(one_shop: Shop, tmp_path: Path) -> None:
    # One version: what is kept is ours.
    kept = tmp_path / "kept"

    ran = demo(one_shop, "--directory", str(kept))

    assert_tells_the_story(ran)
    assert (kept / "repository" / "dbt_project.yml").is_file()
    assert (kept / "repository" / "target" / "run_results.json").is_file()
    assert any((kept / "state").iterdir())


def test_demo__refuses_a_folder_that_is_not_empty(one_shop: Shop) -> None:
    before = sorted(one_shop.project.rglob("*"))

    ran = demo(one_shop, "--directory", str(one_shop.project))

    assert ran.exit_code == 2
    assert ran.errors == [f"Error: {one_shop.project} is not empty. Name a new folder."]
    assert sorted(one_shop.project.rglob("*")) == before
