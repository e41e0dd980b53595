"""What only a directory does; the rest of it is in test_stores_contract.py and _races.py."""

from __future__ import annotations

import errno
import os
import random
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_defer.bundle import Bundle, Origin, pack
from ci_defer.errors import CiDeferError, ConfigurationError
from ci_defer.stores.bundles import BundleStore
from ci_defer.stores.directory import Directory
from tests.places import DirectoryPlace, Killed, latest, models, store_in
from tests.samples import (
    COMMIT,
    CREATED_AT,
    PROJECT,
    content,
    manifest,
    packed,
    run_results,
    write_artifacts,
)

COMMITS = [f"{number:040x}" for number in range(1, 7)]


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    return store_in(Directory(tmp_path / "store"))


def test_put__makes_files_that_other_users_can_read(store: BundleStore, tmp_path: Path) -> None:
    store.put(packed(tmp_path, "a"))
    files = [path for path in (tmp_path / "store").rglob("*.*") if path.name != ".lock"]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}
    assert len(files) == 4


def test_get__leaves_out_what_no_pull_request_reads(store: BundleStore, tmp_path: Path) -> None:
    artifacts = write_artifacts(
        tmp_path / "artifacts",
        manifest=manifest(),
        run_results=run_results(),
        sources={},
        catalog={"nodes": "many"},
        semantic_manifest={},
    )
    for folder in ("bundle", "to"):
        (tmp_path / folder).mkdir()
    store.put(
        pack(
            artifacts,
            tmp_path / "bundle",
            project=PROJECT,
            project_name=PROJECT,
            origin=Origin(commit=COMMIT),
            created_at=CREATED_AT,
            target=None,
        )
    )
    list(store.commits())
    bundle = store.get(COMMIT, tmp_path / "to", project_name=PROJECT)
    files = {"manifest.json", "run_results.json", "sources.json"}
    assert content(tmp_path / "to").keys() == {"state.json", *files}
    assert bundle.provenance
    assert set(bundle.provenance.files) == files
    # For those who look into the store, all of it is there.
    assert list((tmp_path / "store").rglob("catalog.json*"))


def test_put__into_a_file_says_why(store: BundleStore, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(ConfigurationError, match="so it is no store"):
        store.put(packed(tmp_path, "a"))
    with pytest.raises(ConfigurationError, match="is not a directory"):
        set(store.commits())


def test_put__into_a_plain_state_is_refused(store: BundleStore, tmp_path: Path) -> None:
    write_artifacts(tmp_path / "store", manifest=manifest())
    with pytest.raises(ConfigurationError, match=r"holds, a manifest\.json itself"):
        store.put(packed(tmp_path, "a"))
    assert list(content(tmp_path / "store")) == ["manifest.json"]


def test_put__that_cannot_write_says_why(store: BundleStore, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / PROJECT).write_text("a file")
    with pytest.raises(CiDeferError, match=r"cannot be saved to .*: (File exists|Not a directory)"):
        store.put(packed(tmp_path, "a"))
    assert set(store.commits()) == set()
    assert (tmp_path / "store" / PROJECT).read_text() == "a file"


def test_put__of_a_target_whose_name_no_disk_takes_says_why(
    store: BundleStore, tmp_path: Path
) -> None:
    with pytest.raises(CiDeferError, match=r"cannot be saved to .*: File name too long"):
        store.put(packed(tmp_path, "a", target="…" * 200))


def test_opening_and_reading__make_nothing(store: BundleStore, tmp_path: Path) -> None:
    assert list(store.commits(COMMIT)) == []
    assert store.absence(COMMIT) == ""
    assert store.stored() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("operation", ["read", "chunks", "delete"])
def test_a_name_below_an_object__is_of_no_object(tmp_path: Path, operation: str) -> None:
    # As in a bucket, where a/b and a/b/c have nothing to do with each other.
    objects = Directory(tmp_path)
    objects.save("a/b", [b"x"])
    if operation == "delete":
        objects.delete(["a/b/c"])
    else:
        with pytest.raises(Exception, match="a/b/c") as caught:
            list(objects.chunks("a/b/c")) if operation == "chunks" else objects.read("a/b/c", 9)
        assert type(caught.value).__name__ == "Missing"


NAMES = st.text(st.sampled_from("ab_1"), min_size=1, max_size=3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sets(NAMES, max_size=3), min_size=1, max_size=3))
def test_get__is_always_the_last_put(
    tmp_path_factory: pytest.TempPathFactory, versions: list[set[str]]
) -> None:
    tmp_path = tmp_path_factory.mktemp("put")
    store = store_in(Directory(tmp_path / "store"))
    for names in versions:
        store.put(packed(tmp_path, *sorted(names)))
    assert models(store, tmp_path / "to") == sorted(versions[-1])


# Others delete folders meanwhile: who deletes the last object of a folder takes it away ----------


BEHIND_OS_MKDIR = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="pathlib of Python 3.10 has an os.mkdir of its own"
)


@BEHIND_OS_MKDIR
def test_save__where_the_folder_above_is_deleted_just_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.mkdir
    taken: list[Any] = []

    def mkdir(path: Any, *args: Any) -> None:
        real(path, *args)
        if Path(path).name == "b" and not taken:
            taken.append(path)
            Path(path).rmdir()

    monkeypatch.setattr(os, "mkdir", mkdir)
    Directory(tmp_path).save("a/b/c/d", [b"x"])
    assert taken
    assert (tmp_path / "a/b/c/d").read_bytes() == b"x"


@BEHIND_OS_MKDIR
def test_save__where_the_folder_is_deleted_when_it_has_been_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    real = os.mkdir
    taken: list[Any] = []

    def mkdir(path: Any, *args: Any) -> None:
        try:
            real(path, *args)
        except FileExistsError:
            if not taken:
                taken.append(path)
                Path(path).rmdir()
            raise

    monkeypatch.setattr(os, "mkdir", mkdir)
    Directory(tmp_path).save("a/b", [b"x"])
    assert taken
    assert (tmp_path / "a/b").read_bytes() == b"x"


def test_save__where_the_folder_is_deleted_before_the_file_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tempfile.mkstemp
    taken: list[Any] = []

    def mkstemp(**options: Any) -> tuple[int, str]:
        if not taken:
            taken.append(options)
            Path(options["dir"]).rmdir()
        return real(**options)

    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)
    Directory(tmp_path).save("a/b/c", [b"x"])
    assert taken
    assert (tmp_path / "a/b/c").read_bytes() == b"x"


# A writer that dies ---------------------------------------------------------------------------


class FailingAt:
    """`real`, but the call with this number (from 1 on) raises."""

    def __init__(self, number: int, real: Callable[..., Any], error: BaseException) -> None:
        self._lock = threading.Lock()
        self._left = number
        self._real = real
        self._error = error
        self.has_failed = False

    def call(self, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            self._left -= 1
            is_it = self._left == 0
        if is_it:
            self.has_failed = True
            raise self._error
        return self._real(*args, **kwargs)


STEPS = [(Path, "replace"), (os, "fsync"), (os, "fchmod"), (tempfile, "mkstemp"), (Path, "mkdir")]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), Killed()])
@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[name for _, name in STEPS])
def test_put__that_dies_at_any_step_leaves_the_old_bundle_or_the_new_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    error: BaseException,
) -> None:
    found, number, has_failed = "", 0, True
    while has_failed:
        number += 1
        assert number < 40
        place = tmp_path / str(number)
        place.mkdir()
        store = store_in(Directory(place / "store"))
        store.put(packed(place, "old"))
        new = packed(place, "new")
        died = False
        failing = FailingAt(number, getattr(owner, name), error)
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, lambda *args, _it=failing, **more: _it.call(*args, **more))
            try:
                store.put(new)
            except (CiDeferError, Killed):
                died = True
        has_failed = failing.has_failed
        [found] = models(store, place / "to")
        assert found in ("old", "new")
        assert died or found == "new"
        assert not list((place / "store").rglob("*.partial"))
        # The next writer finds nothing in its way.
        store.put(new)
        assert models(store, place / "to") == ["new"]
    assert number > 3


def test_put__where_a_directory_cannot_be_synced_still_publishes(
    store: BundleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_put__where_there_are_no_locks_still_publishes(
    store: BundleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    store.put(packed(tmp_path, "a"))
    store.put(packed(tmp_path, "b", commit=COMMITS[0], run_id="1"))
    assert latest(DirectoryPlace(tmp_path / "store")) == COMMITS[0]


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Makes processes that have imported all of it when they start."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def put_for_ever(root: Path, bundles: list[Bundle], started: Any) -> None:
    """For a process of its own."""
    while True:
        for bundle in bundles:
            store_in(Directory(root)).put(bundle)
            started.set()


def test_put__by_a_process_that_is_killed_leaves_a_whole_bundle(
    tmp_path: Path, processes: ForkServerContext
) -> None:
    place = DirectoryPlace(tmp_path / "store")
    bundles = [packed(tmp_path, name) for name in ("one", "two", "three")]
    moments = random.Random(0)
    for _ in range(25):
        started = processes.Event()
        process = processes.Process(target=put_for_ever, args=(place.root, bundles, started))
        process.start()
        assert started.wait(60)
        # It is killed anywhere in its third of a second or so.
        process.join(moments.uniform(0, 0.03))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        [found] = models(store_in(place.objects()), tmp_path / "to")
        assert found in ("one", "two", "three")
        assert latest(place) == COMMIT
    # What is left of it is in nobody's way.
    store_in(place.objects()).put(bundles[0])
    assert models(store_in(place.objects()), tmp_path / "to") == ["one"]


# Several processes at once --------------------------------------------------------------------

ROUNDS = 25


def put_often(root: Path, bundle: Bundle, rounds: int) -> None:
    """For a process of its own."""
    for _ in range(rounds):
        store_in(Directory(root), is_ancestor=by_number).put(bundle)


def by_number(one: str, other: str) -> bool:
    """Whether a commit of COMMITS is in the history of another one."""
    return int(one, 16) <= int(other, 16)


def test_get__while_processes_publish_the_same_commit_is_never_mixed(
    store: BundleStore, tmp_path: Path, processes: ForkServerContext
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
                seen.update(models(store_in(Directory(tmp_path / "store")), to))
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    readers = [threading.Thread(target=read, args=(tmp_path / f"to-{n}",)) for n in range(2)]
    with ProcessPoolExecutor(3, mp_context=processes) as pool:
        for reader in readers:
            reader.start()
        try:
            root = tmp_path / "store"
            for done in [pool.submit(put_often, root, item, ROUNDS) for item in bundles]:
                done.result()
        finally:
            writing.clear()
            for reader in readers:
                reader.join()
    assert failures == []
    assert seen
    assert seen <= {"one", "two", "three"}
    assert models(store, tmp_path / "to")[0] in {"one", "two", "three"}
    assert not list((tmp_path / "store").rglob("*.partial"))


def test_put__of_different_commits_by_processes_names_the_newest(
    tmp_path: Path, processes: ForkServerContext
) -> None:
    bundles = [
        # The dates lie: only the history knows.
        packed(tmp_path, "a", commit=commit, committed_at=f"2026-01-0{9 - number}T00:00:00+00:00")
        for number, commit in enumerate(COMMITS)
    ]
    with ProcessPoolExecutor(4, mp_context=processes) as pool:
        for number in range(5):
            place = DirectoryPlace(tmp_path / f"store-{number}")
            shuffled = random.Random(number).sample(bundles, len(bundles))
            for done in [pool.submit(put_often, place.root, item, 1) for item in shuffled]:
                done.result()
            assert latest(place) == COMMITS[-1]
            assert set(store_in(place.objects()).commits()) == {*COMMITS}
