from __future__ import annotations

from pathlib import Path

import pytest

from ci_defer.errors import InvalidBundle
from ci_defer.newest import newest_manifest
from ci_defer.stores.directory import Directory
from ci_defer.stores.plain import PlainState
from tests.places import store_in
from tests.samples import PROJECT, Log, manifest, node, packed, write_artifacts

TIME = "2026-01-0{}T00:00:00+00:00"


def publish(tmp_path: Path, name: str, day: int, **more: str) -> Path:
    bundle = packed(tmp_path, name, commit=name[0] * 40, committed_at=TIME.format(day), **more)
    store_in(Directory(tmp_path / "store")).put(bundle)
    return tmp_path / "store" / PROJECT


def newest(tmp_path: Path, log: Log | None = None) -> list[str] | None:
    store = store_in(Directory(tmp_path / "store"))
    found = newest_manifest(store, project_name=PROJECT, log=log or Log())
    return None if found is None else [item.name for item in found.nodes.values()]


def test_newest__of_a_store_that_holds_nothing(tmp_path: Path) -> None:
    assert newest(tmp_path) is None


def test_newest__is_the_one_that_the_pointer_names_in_whatever_order_they_came(
    tmp_path: Path,
) -> None:
    publish(tmp_path, "a", 1)
    publish(tmp_path, "c", 3)
    publish(tmp_path, "b", 2)
    assert newest(tmp_path) == ["c"]


def test_newest__passes_a_damaged_one_over_and_raises_when_all_are(tmp_path: Path) -> None:
    publish(tmp_path, "a", 1)
    folder = publish(tmp_path, "b", 2)
    log = Log()
    for name, expected in (("b", ["a"]), ("a", None)):
        (state,) = folder.glob(f"*/{name * 40}/state.json")
        state.write_bytes(b"{")
        if expected:
            assert newest(tmp_path, log) == expected
    assert len(log.warnings) == 1
    with pytest.raises(InvalidBundle):
        newest(tmp_path)


def test_newest__of_a_plain_state_is_that(tmp_path: Path) -> None:
    write_artifacts(tmp_path, manifest=manifest([node("model.shop.x")]))
    found = newest_manifest(PlainState(tmp_path), project_name=PROJECT, log=Log())
    assert found
    assert list(found.nodes) == ["model.shop.x"]
