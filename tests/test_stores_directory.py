from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_defer.bundle import Bundle
from ci_defer.errors import CiDeferError, ConfigurationError, InvalidBundle
from ci_defer.stores.directory import DirectoryStore
from tests.samples import COMMIT, PROJECT, content, manifest, packed, write_artifacts

OTHER = "b" * 64


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store", PROJECT)


def models(store: DirectoryStore, to: Path, commit: str = COMMIT) -> list[str]:
    """What the store gives for `commit`: the names of the models, everything verified."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    bundle = store.get(commit, to, project_name=PROJECT)
    results = bundle.run_results
    assert results
    assert [item.unique_id for item in results.results] == list(bundle.manifest.nodes)
    return [node.name for node in bundle.manifest.resources()]


def test_put_and_get__give_the_same_bundle(store: DirectoryStore, tmp_path: Path) -> None:
    bundle = packed(tmp_path, "a")
    folder = store.put(bundle)
    (tmp_path / "to").mkdir()
    assert folder == f"{store.location}/{COMMIT}"
    assert set(store.commits()) == {COMMIT}
    assert store.get(COMMIT, tmp_path / "to", project_name=PROJECT).provenance == bundle.provenance
    assert content(tmp_path / "to") == content(bundle.directory)


def test_put__keeps_the_commits_apart(store: DirectoryStore, tmp_path: Path) -> None:
    store.put(packed(tmp_path, "a"))
    store.put(packed(tmp_path, "b", commit=OTHER))
    assert set(store.commits()) == {COMMIT, OTHER}
    assert models(store, tmp_path / "to") == ["a"]
    assert models(store, tmp_path / "to", OTHER) == ["b"]


def test_put__keeps_the_projects_apart(tmp_path: Path) -> None:
    one, two = (DirectoryStore(tmp_path / "store", name) for name in ("one", "two"))
    one.put(packed(tmp_path, "a"))
    assert set(one.commits()) == {COMMIT}
    assert set(two.commits()) == frozenset()


def test_put__replaces_the_bundle_of_the_same_commit(store: DirectoryStore, tmp_path: Path) -> None:
    store.put(packed(tmp_path, "a"))
    store.put(packed(tmp_path, "b"))
    assert models(store, tmp_path / "to") == ["b"]


def test_put__again_writes_only_what_is_not_there(store: DirectoryStore, tmp_path: Path) -> None:
    folder = Path(store.put(packed(tmp_path, "a")))
    before = {path.name: path.stat().st_ino for path in folder.glob("*-*.json")}
    store.put(packed(tmp_path, "a"))
    assert {path.name: path.stat().st_ino for path in folder.glob("*-*.json")} == before


def test_put__mends_a_damaged_bundle(store: DirectoryStore, tmp_path: Path) -> None:
    folder = Path(store.put(packed(tmp_path, "a")))
    next(folder.glob("manifest-*")).write_text("{}")
    store.put(packed(tmp_path, "a"))
    assert models(store, tmp_path / "to") == ["a"]


def test_put__makes_files_that_other_users_can_read(store: DirectoryStore, tmp_path: Path) -> None:
    folder = Path(store.put(packed(tmp_path, "a")))
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_put__into_a_file_says_why(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    store = DirectoryStore(tmp_path / "store", PROJECT)
    with pytest.raises(ConfigurationError, match="so it is no store"):
        store.put(packed(tmp_path, "a"))
    with pytest.raises(ConfigurationError, match="is not a directory"):
        set(store.commits())


def test_put__into_a_plain_state_is_refused(store: DirectoryStore, tmp_path: Path) -> None:
    write_artifacts(tmp_path / "store", manifest=manifest())
    with pytest.raises(ConfigurationError, match=r"holds, a manifest\.json itself"):
        store.put(packed(tmp_path, "a"))
    assert list(content(tmp_path / "store")) == ["manifest.json"]


def test_put__that_cannot_write_says_why(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / PROJECT).write_text("a file")
    with pytest.raises(CiDeferError, match=r"cannot be saved to .*: (File exists|Not a directory)"):
        store.put(packed(tmp_path, "a"))
    with pytest.raises(CiDeferError, match="cannot be read: Not a directory"):
        set(store.commits())


def test_commits__of_a_store_that_is_not_there_are_none(store: DirectoryStore) -> None:
    assert set(store.commits()) == frozenset()


def test_commits__are_only_whole_ones(store: DirectoryStore, tmp_path: Path) -> None:
    store.put(packed(tmp_path, "a"))
    project = Path(store.location)
    for name in ("main", COMMIT[:7], COMMIT.upper(), OTHER + "b", f"{COMMIT}\n"):
        (project / name).mkdir()
        (project / name / "state.json").write_text("{}")
    (project / ("c" * 40)).mkdir()
    (project / ("d" * 40)).write_text("a file")
    assert set(store.commits()) == {COMMIT}


def test_get__of_a_bundle_that_is_not_whole_says_what_is_missing(
    store: DirectoryStore, tmp_path: Path
) -> None:
    folder = Path(store.put(packed(tmp_path, "a")))
    next(folder.glob("run_results-*")).unlink()
    with pytest.raises(InvalidBundle, match=r"not whole: No such file.*run_results-"):
        models(store, tmp_path / "to")


def test_get__refuses_the_state_of_another_commit(store: DirectoryStore, tmp_path: Path) -> None:
    folder = Path(store.put(packed(tmp_path, "a")))
    folder.rename(folder.with_name(OTHER))
    with pytest.raises(InvalidBundle, match="says that it is of commit"):
        models(store, tmp_path / "to", OTHER)


@pytest.mark.parametrize("digest", ["../../../secret", "x" * 5000, "\0", "", "."])
def test_get__of_a_hostile_digest_copies_nothing(
    store: DirectoryStore, tmp_path: Path, digest: str
) -> None:
    folder = Path(store.put(packed(tmp_path, "a")))
    (folder / "manifest-..").mkdir()
    (tmp_path / "secret.json").write_text("secret")
    state = json.loads((folder / "state.json").read_bytes())
    state["files"]["manifest.json"]["sha256"] = digest
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(InvalidBundle):
        models(store, tmp_path / "to")
    assert b"secret" not in content(tmp_path / "to").values()


NAMES = st.text(st.sampled_from("ab_1"), min_size=1, max_size=3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sets(NAMES, max_size=3), min_size=1, max_size=3))
def test_get__is_always_the_last_put(
    tmp_path_factory: pytest.TempPathFactory, versions: list[set[str]]
) -> None:
    tmp_path = tmp_path_factory.mktemp("put")
    store = DirectoryStore(tmp_path / "store", PROJECT)
    for names in versions:
        store.put(packed(tmp_path, *sorted(names)))
    assert models(store, tmp_path / "to") == sorted(versions[-1])


# A writer that dies ---------------------------------------------------------------------------


def failing_at(number: int, real: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    """`real`, but the call with this number (from 1 on) raises."""
    calls = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise error
        return real(*args, **kwargs)

    return call


class Killed(BaseException):
    """As when the process ends there."""


STEPS = [(Path, "replace"), (os, "fsync"), (os, "fchmod"), (shutil, "copyfileobj")]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), Killed()])
@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[name for _, name in STEPS])
def test_put__that_dies_at_any_step_leaves_the_old_bundle(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    error: BaseException,
) -> None:
    died, number = True, 0
    while died:
        number += 1
        assert number < 30
        place = tmp_path / str(number)
        place.mkdir()
        store = DirectoryStore(place / "store", PROJECT)
        store.put(packed(place, "old"))
        new = packed(place, "new")
        died = False
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, failing_at(number, getattr(owner, name), error))
            try:
                store.put(new)
            except (CiDeferError, Killed):
                died = True
        # An error says that nothing changed; after a kill it is the old one or the new one. The
        # next writer finds nothing in its way.
        found = models(store, place / "to")
        if isinstance(error, Killed):
            assert found in (["old"], ["new"])
        else:
            assert found == (["old"] if died else ["new"])
        assert not list(Path(store.location).rglob("*.partial"))
        store.put(new)
        assert models(store, place / "to") == ["new"]
    assert number > 1


def test_put__where_a_directory_cannot_be_synced_still_publishes(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Network file systems refuse it; by then the rename is done.
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store.put(packed(tmp_path, "a"))
    assert models(store, tmp_path / "to") == ["a"]


# Several at once ------------------------------------------------------------------------------

ROUNDS = 8


def put_often(root: Path, bundle: Bundle) -> None:
    """For a process of its own."""
    for _ in range(ROUNDS):
        DirectoryStore(root, PROJECT).put(bundle)


def test_get__while_others_publish_the_same_commit_is_never_mixed(
    store: DirectoryStore, tmp_path: Path
) -> None:
    # Different manifests and different results: a mixture fails in `models`.
    bundles = [packed(tmp_path, name) for name in ("one", "two", "three")]
    store.put(bundles[0])
    seen: set[str] = set()
    failures: list[BaseException] = []
    writing = threading.Event()
    writing.set()

    def read(to: Path) -> None:
        try:
            while writing.is_set():
                seen.update(models(store, to))
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    readers = [threading.Thread(target=read, args=(tmp_path / f"to-{n}",)) for n in range(2)]
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        for reader in readers:
            reader.start()
        try:
            for done in [pool.submit(put_often, tmp_path / "store", item) for item in bundles]:
                done.result()
        finally:
            writing.clear()
            for reader in readers:
                reader.join()
    assert failures == []
    assert seen <= {"one", "two", "three"}
    assert seen
    assert models(store, tmp_path / "to")[0] in {"one", "two", "three"}
    assert not list(Path(store.location).rglob("*.partial"))
