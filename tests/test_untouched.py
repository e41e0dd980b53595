from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ci_defer.comparison import Changes
from ci_defer.untouched import is_untouched

PROJECT = "name: shop\nprofile: shop\nmodel-paths: [models]\non-run-end: ['select 1 - 2']\n"


def untouched(
    *,
    files: tuple[str, ...] = ("README.md", "transform-notes/a.md"),
    new: tuple[str, ...] = (),
    tracked: tuple[str, ...] = (),
    select: tuple[str, ...] = ("state:modified+",),
    texts: Mapping[str, str] | None = None,
    **others: Any,
) -> bool:
    changes = Changes(
        commit="c" * 40,
        prefix="transform/",
        files=frozenset(files),
        new=frozenset(new),
        tracked=frozenset(tracked),
    )
    found = {"dbt_project.yml": PROJECT, **(texts or {})}
    known: dict[str, Any] = {"has_links": False, "profiles": "", **others}
    return is_untouched(changes, select, read_text=found.get, **known)


def test_untouched__when_only_other_folders_changed() -> None:
    assert untouched()


@pytest.mark.parametrize(
    "differently",
    [
        {"files": ("transform/models/a.sql",)},
        {"files": ("transform/dbt_project.yml",)},
        {"new": ("transform/profiles.yml",)},
        {"has_links": True},
        {"files": ("ci/dbt/profiles.yml",), "profiles": "ci/dbt"},
        {"new": ("ci/dbt/profiles.yml",), "profiles": "ci/dbt"},
    ],
)
def test_touched__by_what_is_of_the_project(differently: dict[str, Any]) -> None:
    assert not untouched(**differently)


@pytest.mark.parametrize(
    "line",
    [
        'model-paths: ["models", "../shared/models"]',
        "macro-paths: ['..']",
        "seed-paths: [..]",
        'model-paths: ["/opt/models"]',
        "seed-paths:\n  - /opt/seeds",
        "docs-paths: C:\\docs",
    ],
)
def test_touched__for_all_we_know_when_the_project_reaches_out_of_its_folder(line: str) -> None:
    assert not untouched(texts={"dbt_project.yml": f"{PROJECT}{line}\n"})


@pytest.mark.parametrize("name", ["packages.yml", "dependencies.yml"])
def test_packages__of_another_folder_may_have_changed(name: str) -> None:
    lock = ("transform/package-lock.yml",)
    assert not untouched(texts={name: "packages:\n  - local: ../tools\n"}, tracked=lock)
    from_git = "packages:\n  - git: https://git.example/tools.git\n    revision: 1.0.0\n"
    assert untouched(texts={name: from_git}, tracked=lock)


def test_packages__without_a_committed_lock_may_be_others_today() -> None:
    texts = {"packages.yml": "packages:\n  - package: dbt-labs/dbt_utils\n    version: '>=1.0'\n"}
    assert not untouched(texts=texts)
    assert untouched(texts=texts, tracked=("transform/package-lock.yml",))


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        (("state:modified",), True),
        (("state:modified.body+1", "1+state:new"), True),
        (("@state:modified",), True),
        (("state:modified+,tag:nightly",), True),
        (("state:modified+", "tag:nightly"), False),
        (("state:old",), False),
        (("state:unmodified",), False),
        (("source_status:fresher+",), False),
        ((), False),
    ],
)
def test_selections__that_are_empty_without_changes(
    select: tuple[str, ...], expected: bool
) -> None:
    assert untouched(select=select) is expected
