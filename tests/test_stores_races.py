"""Several at once in one store, and writers that die: a reader finds one publication, whole.

`place` is each kind of place in turn (places.py).
"""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from ci_defer.bundle import Bundle
from ci_defer.errors import CiDeferError, InvalidBundle
from ci_defer.prune import prune
from ci_defer.stores.objects import Content, Entry, Missing
from ci_defer.stores.pointer import POINTER_SIZE_LIMIT
from tests.places import (
    PLACES,
    SOME_PLACES,
    Aged,
    DirectoryPlace,
    Faulty,
    Killed,
    Meanwhile,
    Place,
    latest,
    models,
    store_in,
    whole,
)
from tests.samples import COMMIT, PROJECT, Log, packed

COMMITS = [f"{number:040x}" for number in range(1, 9)]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    made: Place = request.param(request)
    return made


IN_SOME_PLACES = pytest.mark.parametrize("place", SOME_PLACES, indirect=True)


def rounds(place: Place, number: int) -> int:
    """So often in a directory; the servers of the tests take ten times as long."""
    return number if isinstance(place, DirectoryPlace) else max(1, number // 3)


def at_once(*works: Callable[[], object]) -> None:
    """Run these in threads that start together; the first error is raised when all have ended."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        try:
            start.wait()
            work()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@contextmanager
def all_the_time(work: Callable[[], None], count: int = 2) -> Iterator[None]:
    """Do it over and over in threads, at least once, until the end of the block."""
    is_over = threading.Event()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
            while not is_over.is_set():
                work()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


class Readers:
    """Reads commits over and over: `work` is for `all_the_time`."""

    def __init__(self, place: Place, to: Path, commits: Sequence[str] = (COMMIT,)) -> None:
        self.seen: set[str] = set()
        self.refused: list[str] = []
        self._place = place
        self._to = to
        self._commits = commits

    def work(self) -> None:
        """Read every commit that is listed; what was listed may be gone, but never be mixed."""
        store = store_in(self._place.objects())
        for commit in set(store.commits(self._commits[0])):
            to = self._to / str(threading.get_ident())
            shutil.rmtree(to, ignore_errors=True)
            to.mkdir(parents=True)
            with self._refusing():
                self.seen.update(whole(store.get(commit, to, project_name=PROJECT)))

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except InvalidBundle as error:
            self.refused.append(error.message)


# Of the same commit ---------------------------------------------------------------------------


def test_put__of_one_commit_by_several_at_once_is_never_mixed(place: Place, tmp_path: Path) -> None:
    # Different manifests and different results: a mixture fails in `models`.
    names = ("one", "two", "three")
    bundles = [packed(tmp_path, name) for name in names]
    store_in(place.objects()).put(bundles[0])
    readers = Readers(place, tmp_path / "to")

    def writer(bundle: Bundle) -> Callable[[], None]:
        def write() -> None:
            for _ in range(rounds(place, 30)):
                store_in(place.objects()).put(bundle)

        return write

    with all_the_time(readers.work):
        at_once(*(writer(bundle) for bundle in bundles))
    assert readers.refused == []
    assert readers.seen <= {*names}
    [found] = models(store_in(place.objects()), tmp_path / "to")
    assert found in names
    assert latest(place) == COMMIT


def test_put__of_the_very_same_bundle_by_several_at_once(place: Place, tmp_path: Path) -> None:
    bundle = packed(tmp_path, "a")
    often = range(rounds(place, 20))
    at_once(*[lambda: [store_in(place.objects()).put(bundle) for _ in often]] * 3)
    assert models(store_in(place.objects()), tmp_path / "to") == ["a"]
    assert len(place.names()) == 4


# Of different commits -------------------------------------------------------------------------


def by_number(one: str, other: str) -> bool:
    """Whether a commit of COMMITS is in the history of another one."""
    return int(one, 16) <= int(other, 16)


def unknown(_one: str, _other: str) -> bool:
    return False


@pytest.mark.parametrize("is_ancestor", [by_number, unknown], ids=["ancestry", "dates"])
def test_put__of_different_commits_at_once_names_the_newest_and_never_goes_back(
    place: Place, tmp_path: Path, is_ancestor: Callable[[str, str], bool]
) -> None:
    def dated(number: int) -> str:
        # Where ancestry is known the dates lie.
        day = number + 1 if is_ancestor is unknown else 9 - number
        return f"2026-01-0{day}T00:00:00+00:00"

    bundles = [
        packed(tmp_path, f"m{number}", commit=commit, committed_at=dated(number))
        for number, commit in enumerate(COMMITS)
    ]
    name = f"{PROJECT}/prod/latest.json"
    for seed in range(rounds(place, 8)):
        for thing in place.names():
            place.delete(thing)
        store_in(place.objects()).put(bundles[0])
        pointers = [latest(place)]

        def watch() -> None:
            pointers.append(latest(place))  # noqa: B023 - of this round

        shuffled = random.Random(seed).sample(bundles, len(bundles))

        def writer(mine: Sequence[Bundle]) -> Callable[[], None]:
            def write() -> None:
                for bundle in mine:
                    store_in(place.objects(), is_ancestor=is_ancestor).put(bundle)

            return write

        with all_the_time(watch, 1):
            at_once(*(writer(shuffled[start::4]) for start in range(4)))
        assert latest(place) == COMMITS[-1]
        assert pointers == sorted(pointers)
        assert set(store_in(place.objects()).commits()) == {*COMMITS}
    assert len(place.objects().read(name, POINTER_SIZE_LIMIT).data) < POINTER_SIZE_LIMIT
    for number, commit in enumerate(COMMITS):
        assert models(store_in(place.objects()), tmp_path / "to", commit) == [f"m{number}"]


def test_replace__by_several_at_once_loses_nothing(place: Place) -> None:
    often = rounds(place, 60)

    def count(who: int) -> None:
        objects = place.objects()
        for _ in range(often):
            while True:
                old: Content | None = None
                with suppress(Missing):
                    old = objects.read("a/count", 100)
                number = int(old.data.split()[0]) if old else 0
                # Told apart by who wrote it: one that is there already is taken for one's own.
                if objects.replace("a/count", b"%d by %d" % (number + 1, who), old):
                    break

    at_once(*(partial(count, who) for who in range(3)))
    assert int(place.read("a/count").split()[0]) == 3 * often


# A bucket has no folders that could vanish.
@pytest.mark.parametrize("place", PLACES[:1], indirect=True)
def test_save__where_others_delete_the_last_object_at_once(place: Place) -> None:
    def write() -> None:
        for _ in range(100):
            place.objects().save("a/b/c/d/e", [b"x"])

    def delete() -> None:
        for _ in range(1000):
            place.objects().delete(["a/b/c/d/e"])

    at_once(write, write, delete, delete)
    place.objects().save("a/b/c/d/e", [b"x"])
    assert place.names() == {"a/b/c/d/e"}


# With prune -----------------------------------------------------------------------------------


@IN_SOME_PLACES
def test_prune__beside_writers_and_readers_takes_only_what_is_old(
    place: Place, tmp_path: Path
) -> None:
    old = [packed(tmp_path, f"old{n}", commit=commit) for n, commit in enumerate(COMMITS[:4])]
    new = [packed(tmp_path, f"new{n}", commit=commit) for n, commit in enumerate(COMMITS[4:])]

    def is_old(entry: Entry) -> bool:
        return entry.name.split("/")[2] in COMMITS[:4]

    readers = Readers(place, tmp_path / "to", COMMITS)

    def run_prune() -> None:
        store = store_in(Aged(place.objects(), is_old))
        prune(store, keep=1, older_than=timedelta(days=90), is_dry_run=False, log=Log())

    def writer(bundle: Bundle) -> Callable[[], object]:
        return lambda: store_in(place.objects(), is_ancestor=by_number).put(bundle)

    with all_the_time(readers.work):
        for _ in range(rounds(place, 8)):
            for bundle in (new[0], *old):
                store_in(place.objects(), is_ancestor=by_number).put(bundle)
            at_once(*(writer(bundle) for bundle in new), run_prune)
    run_prune()
    assert set(store_in(place.objects()).commits()) == {*COMMITS[4:]}
    assert latest(place) == COMMITS[-1]
    for number, commit in enumerate(COMMITS[4:]):
        assert models(store_in(place.objects()), tmp_path / "to", commit) == [f"new{number}"]
    assert all("is not whole" in said or "any more" in said for said in readers.refused)


@IN_SOME_PLACES
def test_prune__by_two_at_once(place: Place, tmp_path: Path) -> None:
    def is_old(entry: Entry) -> bool:
        return True

    bundles = [packed(tmp_path, "a", commit=commit) for commit in COMMITS]
    again = [packed(tmp_path, "b", commit=commit) for commit in COMMITS]

    def run_prune() -> None:
        store = store_in(Aged(place.objects(), is_old))
        prune(store, keep=2, older_than=timedelta(days=90), is_dry_run=False, log=Log())

    for _ in range(rounds(place, 5)):
        for bundle in (*bundles, *again):
            store_in(place.objects(), is_ancestor=by_number).put(bundle)
        at_once(run_prune, run_prune, run_prune)
        left = set(store_in(place.objects()).commits())
        assert COMMITS[-1] in left
        assert 2 <= len(left) <= 3
        for commit in left:
            assert models(store_in(place.objects()), tmp_path / "to", commit) == ["b"]


# A writer that dies ---------------------------------------------------------------------------

ERRORS = {
    "fails once": (CiDeferError("The service is down."), False),
    "fails from then on": (CiDeferError("The service is down."), True),
    "is killed": (Killed(), True),
}


STOPS = [
    pytest.param(*place.values, when, *error, marks=place.marks, id=f"{place.id}-{when}-{name}")
    for place in SOME_PLACES
    for when in ("before", "amid", "after")
    for name, error in ERRORS.items()
    # Who passes an error on, and who goes on after one, is above all places.
    if place.id == "directory" or name == "is killed"
]


@pytest.mark.parametrize(("place", "when", "error", "is_the_end"), STOPS, indirect=["place"])
def test_put__that_stops_at_any_operation_leaves_the_old_bundle_or_the_new_one(
    place: Place, tmp_path: Path, when: str, error: BaseException, is_the_end: bool
) -> None:
    old, new = packed(tmp_path, "old"), packed(tmp_path, "new")
    number, outcomes = 0, []
    while True:
        number += 1
        assert number < 30
        for name in place.names():
            place.delete(name)
        store_in(place.objects()).put(old)
        faulty = Faulty(place.objects(), number, when, error, is_the_end=is_the_end)
        raised = False
        try:
            store_in(faulty).put(new)
        except (CiDeferError, Killed):
            raised = True
        assert faulty.has_failed or not raised
        [found] = models(store_in(place.objects()), tmp_path / "to")
        assert found in ("old", "new")
        assert raised or found == "new"
        assert latest(place) == COMMIT
        outcomes.append(found)
        # The next writer finds nothing in its way, and readers what it wrote.
        store_in(place.objects()).put(new)
        assert models(store_in(place.objects()), tmp_path / "to") == ["new"]
        if not faulty.has_failed and number > 6:
            break
    # The first one fails before the bundle is there.
    assert outcomes[0] == "old"
    assert outcomes[-1] == "new"


@IN_SOME_PLACES
@pytest.mark.parametrize("when", ["before", "amid", "after"])
def test_put__of_a_first_bundle_that_stops_shows_none_or_all_of_it(
    place: Place, tmp_path: Path, when: str
) -> None:
    bundle = packed(tmp_path, "a")
    for number in range(1, 8):
        for name in place.names():
            place.delete(name)
        faulty = Faulty(place.objects(), number, when, Killed(), is_the_end=True)
        with suppress(Killed):
            store_in(faulty).put(bundle)
        if set(store_in(place.objects()).commits(COMMIT)):
            assert models(store_in(place.objects()), tmp_path / "to") == ["a"]
        else:
            assert faulty.has_failed
            assert f"{PROJECT}/prod/latest.json" not in place.names()


@IN_SOME_PLACES
@pytest.mark.parametrize("when", ["before", "after"])
def test_prune__that_stops_at_any_operation_leaves_whole_bundles(
    place: Place, tmp_path: Path, when: str
) -> None:
    bundles = [packed(tmp_path, "a", commit=commit) for commit in COMMITS[:3]]
    again = packed(tmp_path, "b", commit=COMMITS[2])

    def is_old(entry: Entry) -> bool:
        return True

    def run_prune(number: int) -> bool:
        faulty = Faulty(place.objects(), number, when, Killed(), is_the_end=True)
        with suppress(Killed):
            prune(
                store_in(Aged(faulty, is_old)),
                keep=1,
                older_than=timedelta(days=90),
                is_dry_run=False,
                log=Log(),
            )
        return faulty.has_failed

    number, has_failed = 0, True
    while has_failed:
        number += 1
        assert number < 60
        for name in place.names():
            place.delete(name)
        for bundle in (*bundles, again):
            store_in(place.objects(), is_ancestor=by_number).put(bundle)
        has_failed = run_prune(number)
        store = store_in(place.objects())
        left = set(store.commits())
        assert COMMITS[2] in left
        for commit in left:
            [found] = models(store, tmp_path / "to", commit)
            assert found == ("b" if commit == COMMITS[2] else "a")
        # Another run ends what this one has begun.
        run_prune(0)
        assert set(store_in(place.objects()).commits()) == {COMMITS[2]}
        assert len(place.names()) == 4
    assert number > 10


# Between two operations -----------------------------------------------------------------------


@IN_SOME_PLACES
@pytest.mark.parametrize(
    ("operation", "number"), [("save", 1), ("save", 2), ("save", 3), ("read", 1)]
)
def test_put__of_a_commit_whose_old_state_is_pruned_just_then_still_publishes(
    place: Place, tmp_path: Path, operation: str, number: int
) -> None:
    newest = packed(tmp_path, "newest", commit=COMMITS[-1])
    for bundle in (packed(tmp_path, "old"), newest):
        store_in(place.objects(), is_ancestor=newest_is_last).put(bundle)
    old = set(place.objects().entries(PROJECT))

    def run_prune() -> None:
        store = store_in(Aged(place.objects(), old.__contains__))
        prune(store, keep=1, older_than=timedelta(days=90), is_dry_run=False, log=Log())

    meanwhile = Meanwhile(place.objects(), operation, run_prune, number=number)
    store_in(meanwhile, is_ancestor=newest_is_last).put(packed(tmp_path, "new"))
    assert meanwhile.has_happened
    assert models(store_in(place.objects()), tmp_path / "to") == ["new"]


def newest_is_last(_one: str, other: str) -> bool:
    """All commits are in the history of the newest one."""
    return other == COMMITS[-1]


@IN_SOME_PLACES
def test_prune__of_a_commit_that_is_published_again_just_then_leaves_no_half_of_it(
    place: Place, tmp_path: Path
) -> None:
    newest = packed(tmp_path, "newest", commit=COMMITS[-1])
    for bundle in (packed(tmp_path, "old"), newest):
        store_in(place.objects(), is_ancestor=newest_is_last).put(bundle)
    old = set(place.objects().entries(PROJECT))
    new = packed(tmp_path, "new")
    # After the last look at what is there, and before the first object is deleted.
    meanwhile = Meanwhile(
        place.objects(),
        "delete",
        lambda: store_in(place.objects(), is_ancestor=newest_is_last).put(new),
    )
    store = store_in(Aged(meanwhile, old.__contains__))
    prune(store, keep=1, older_than=timedelta(days=90), is_dry_run=False, log=Log())
    assert meanwhile.has_happened
    # No place can look and delete in one, so it may be gone.
    if COMMIT in set(store_in(place.objects()).commits()):
        assert models(store_in(place.objects()), tmp_path / "to") == ["new"]
    assert models(store_in(place.objects()), tmp_path / "to", COMMITS[-1]) == ["newest"]
