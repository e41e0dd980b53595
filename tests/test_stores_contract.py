"""What every store of named objects has to do: the operations on objects, and bundles on them.

`place` is each kind of place in turn (places.py). Races and writers that die: test_stores_races.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ci_defer.bundle import STATE_SIZE_LIMIT
from ci_defer.errors import ConfigurationError, InvalidBundle
from ci_defer.prune import prune
from ci_defer.stores.objects import Missing, Objects
from tests.places import (
    PLACES,
    SOME_PLACES,
    Meanwhile,
    Place,
    Proxy,
    latest,
    models,
    store_in,
)
from tests.samples import COMMIT, PROJECT, Log, Repository, content, packed
from tests.test_bundle import compared

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

OTHER = "b" * 40
LONG = "c" * 64
LIMIT = 1000
# For what is made of the bytes that a place keeps: that it keeps any, of any name, is shown of all.
IN_SOME_PLACES = pytest.mark.parametrize("place", SOME_PLACES, indirect=True)


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    made: Place = request.param(request)
    return made


@pytest.fixture
def objects(place: Place) -> Objects:
    return place.objects()


def names(objects: Objects, folder: str) -> list[str]:
    return sorted(entry.name for entry in objects.entries(folder))


# Objects --------------------------------------------------------------------------------------


def test_an_empty_place__holds_nothing_and_can_be_asked(place: Place, objects: Objects) -> None:
    assert (objects.folders("a"), names(objects, "a")) == ([], [])
    with pytest.raises(Missing):
        objects.read("a/b", LIMIT)
    with pytest.raises(Missing):
        next(objects.chunks("a/b"))
    objects.delete(["a/b", "c"])
    objects.delete([])
    assert place.names() == set()
    assert objects.location


def in_pieces(body: bytes, *sizes: int) -> Iterator[bytes]:
    """The body in pieces of these sizes, over and over."""
    start = 0
    while start < len(body):
        for length in sizes:
            yield body[start : start + length]
            start += length


BIG = os.urandom(13 * 1000 * 1000)
BODIES = {
    "empty": b"",
    "one byte": b"\0",
    "text": "…\r\n".encode(),
    "8 MiB": BIG[: 8 * 1024 * 1024],
    "8 MiB and 1": BIG[: 8 * 1024 * 1024 + 1],
    "13 MB": BIG,
}
PIECES = {"at once": (len(BIG),), "odd": (1, 0, 999_999, 17), "even": (1024 * 1024,)}


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_save__keeps_the_bytes_however_they_come(
    place: Place, objects: Objects, body: bytes, pieces: tuple[int, ...]
) -> None:
    objects.save("a/b", in_pieces(body, *pieces))
    assert b"".join(place.objects().chunks("a/b")) == body
    assert place.read("a/b") == body
    assert names(objects, "a") == ["a/b"]


def test_save__replaces_what_was_there(place: Place, objects: Objects) -> None:
    for body in (BIG, b"small", b"", BIG[:-1]):
        objects.save("a/b", [body])
        assert b"".join(objects.chunks("a/b")) == body
    assert place.names() == {"a/b"}


class Half(Exception):
    """The source of the bytes fails."""


@pytest.mark.parametrize("size", [0, 1, len(BIG)])
@pytest.mark.parametrize("old", [None, b"old"])
def test_save__of_bytes_that_stop_half_way_changes_nothing(
    place: Place, objects: Objects, size: int, old: bytes | None
) -> None:
    if old is not None:
        objects.save("a/x/y", [old])

    def half() -> Iterator[bytes]:
        yield from in_pieces(BIG[:size], 1024 * 1024)
        raise Half

    with pytest.raises(Half):
        objects.save("a/x/y", half())
    expected = {"a/x/y"} if old is not None else set()
    assert place.names() == set(names(objects, "a")) == expected
    assert objects.folders("a") == (["x"] if old is not None else [])
    if old is not None:
        assert place.read("a/x/y") == old


@pytest.mark.parametrize("size", [1, len(BIG)])
def test_save__shows_nothing_before_it_is_done(place: Place, objects: Objects, size: int) -> None:
    objects.save("a/old", [b"old"])
    seen = []

    def look(name: str) -> bytes:
        try:
            return objects.read(name, LIMIT).data
        except Missing:
            return b"missing"

    def looking(name: str) -> Iterator[bytes]:
        yield from in_pieces(BIG[:size], 1024 * 1024)
        # Another thread, as obstore cannot be asked again from within.
        with ThreadPoolExecutor(1) as other:
            seen.append(other.submit(look, name).result())

    for name in ("a/old", "a/new"):
        objects.save(name, looking(name))
    assert seen == [b"old", b"missing"]
    assert place.read("a/old") == place.read("a/new") == BIG[:size]


def test_entries__are_those_below_the_folder_with_their_times(objects: Objects) -> None:
    before = datetime.now(timezone.utc)
    for name in ("a/b", "a/bc", "a/b.c", "a/b-c/d", "ab/c", "a/c/d/e", "a/c/d/f"):
        objects.save(name, [b"x"])
    assert names(objects, "a") == ["a/b", "a/b-c/d", "a/b.c", "a/bc", "a/c/d/e", "a/c/d/f"]
    assert names(objects, "a/c") == names(objects, "a/c/d") == ["a/c/d/e", "a/c/d/f"]
    assert names(objects, "a/b-c") == ["a/b-c/d"]
    assert names(objects, "ab") == ["ab/c"]
    for entry in objects.entries("a"):
        assert entry.modified.utcoffset() == timedelta()
        assert abs(entry.modified - before) < timedelta(minutes=1)


def test_entries__below_an_object_are_none(objects: Objects) -> None:
    objects.save("a/b", [b"x"])
    assert names(objects, "a/b") == []


# The others page as well (tests/harness/test_objects.py), and their servers need a minute for this.
@IN_SOME_PLACES
def test_entries__of_more_than_a_page_are_all_of_them(place: Place, objects: Objects) -> None:
    made = [f"a/{number:04}/x" for number in range(1001)]
    for name in made:
        place.write(name, b"")
    assert names(objects, "a") == made
    assert sorted(objects.folders("a")) == [name.split("/")[1] for name in made]


def test_folders__are_the_first_parts_that_go_on(objects: Objects) -> None:
    for name in ("a/b/c", "a/b/d", "a/bc/d/e", "a/file", "ab/x/y"):
        objects.save(name, [b"x"])
    assert sorted(objects.folders("a")) == ["b", "bc"]
    assert objects.folders("a/bc") == ["d"]
    assert objects.folders("a/b") == objects.folders("ab/x") == []


def test_folders__are_gone_with_their_last_object(objects: Objects) -> None:
    objects.save("a/b/c/d", [b"x"])
    objects.save("a/e/f", [b"x"])
    objects.delete(["a/b/c/d"])
    assert objects.folders("a") == ["e"]


@pytest.mark.parametrize(
    ("size", "limit", "expected"), [(0, 0, 0), (5, 5, 5), (6, 5, 6), (7, 5, 6), (13_000_000, 9, 10)]
)
def test_read__gives_at_most_one_byte_over_the_limit(
    objects: Objects, size: int, limit: int, expected: int
) -> None:
    objects.save("a/b", [BIG[:size]])
    assert objects.read("a/b", limit).data == BIG[:expected]


def test_read__tells_versions_apart(objects: Objects) -> None:
    objects.save("a", [b"1"])
    first = objects.read("a", LIMIT)
    assert objects.read("a", LIMIT) == first
    objects.save("a", [b"2"])
    second = objects.read("a", LIMIT)
    assert second.data == b"2"
    assert second.version != first.version


def test_replace__creates_what_is_not_there_and_only_that(place: Place, objects: Objects) -> None:
    assert objects.replace("a/b", b"1", None) is True
    assert objects.replace("a/b", b"2", None) is False
    assert place.read("a/b") == b"1"


def test_replace__takes_the_place_of_what_was_read_and_of_nothing_else(
    place: Place, objects: Objects
) -> None:
    objects.save("a/b", [b"1"])
    old = objects.read("a/b", LIMIT)
    assert objects.replace("a/b", b"longer than it was", old) is True
    assert objects.replace("a/b", b"3", old) is False
    assert place.read("a/b") == b"longer than it was"
    new = objects.read("a/b", LIMIT)
    objects.delete(["a/b"])
    assert objects.replace("a/b", b"4", new) is False
    assert place.names() == set()
    assert objects.replace("a/b", b"", None) is True
    assert objects.replace("a/b", b"5", objects.read("a/b", LIMIT)) is True
    assert place.read("a/b") == b"5"


def test_replace__of_what_is_larger_than_was_read_is_fine(place: Place, objects: Objects) -> None:
    objects.save("a/b", [b"x" * 5000])
    assert objects.replace("a/b", b"1", objects.read("a/b", 100)) is True
    assert place.read("a/b") == b"1"


def test_delete__takes_those_that_are_there(place: Place, objects: Objects) -> None:
    for name in ("a/b", "a/bc", "a/c/d", "e"):
        objects.save(name, [b"x"])
    objects.delete(["a/none", "a/b", "a/b", "none/at/all", "a/c/d"])
    assert place.names() == {"a/bc", "e"}
    objects.delete(["a/b"])
    assert names(objects, "a") == ["a/bc"]


ODD = [
    "a b",
    "%20",
    "a%2Fb",
    "%",
    "100%",
    "…é",
    "a=b",
    "a+b",
    "a&b",
    "#",
    "?x",
    "~'()!*",
    "x" * 200,
]


@pytest.mark.parametrize("odd", [*ODD, "%2E%2E", "%252E", "a:b", "-rf", "_", "a@b,c;d$"])
def test_names__are_taken_as_they_are(place: Place, objects: Objects, odd: str) -> None:
    name = f"{odd}/{odd}/x{odd}"
    objects.save(name, [b"x"])
    assert place.names() == {name}
    assert names(objects, odd) == names(objects, f"{odd}/{odd}") == [name]
    assert objects.folders(odd) == [odd]
    assert objects.read(name, LIMIT).data == b"".join(objects.chunks(name)) == b"x"
    assert objects.replace(name, b"y", objects.read(name, LIMIT))
    assert place.read(name) == b"y"
    objects.delete([name])
    assert place.names() == set()


# Bundles: what comes back ---------------------------------------------------------------------


def test_put_and_get__give_the_same_bundle(place: Place, tmp_path: Path) -> None:
    bundle = packed(tmp_path, "a", "b")
    where = store_in(place.objects()).put(bundle)
    store = store_in(place.objects())
    assert where == f"{store.location}/prod/{COMMIT}"
    assert set(store.commits()) == {COMMIT}
    to = tmp_path / "to"
    to.mkdir()
    found = store.get(COMMIT, to, project_name=PROJECT)
    assert (found.directory, found.provenance) == (to, bundle.provenance)
    assert content(to) == content(bundle.directory)


def test_put__has_the_documented_layout(place: Place, tmp_path: Path) -> None:
    store_in(place.objects()).put(packed(tmp_path, "a"))
    found = sorted(name.removeprefix("shop/prod/") for name in place.names())
    (publication,) = {name.split("/")[1] for name in found if name.endswith(".zst")}
    assert found == [
        f"{COMMIT}/{publication}/manifest.json.zst",
        f"{COMMIT}/{publication}/run_results.json.zst",
        f"{COMMIT}/state.json",
        "latest.json",
    ]
    assert latest(place) == COMMIT


def test_put__of_a_large_manifest(place: Place, tmp_path: Path) -> None:
    # Over what goes in one request: names that do not compress.
    bundle = packed(tmp_path, *(os.urandom(2000).hex() for _ in range(2500)))
    assert (bundle.directory / "manifest.json").stat().st_size > 20_000_000
    store_in(place.objects()).put(bundle)
    store, to = store_in(place.objects()), tmp_path / "to"
    to.mkdir()
    list(store.commits())
    store.get(COMMIT, to, project_name=PROJECT)
    assert content(to) == content(bundle.directory)


def test_put__keeps_the_commits_apart(place: Place, tmp_path: Path) -> None:
    store = store_in(place.objects())
    for name, commit in (("a", COMMIT), ("b", OTHER), ("c", LONG)):
        store.put(packed(tmp_path, name, commit=commit))
    assert set(store.commits()) == {COMMIT, OTHER, LONG}
    for name, commit in (("a", COMMIT), ("b", OTHER), ("c", LONG)):
        assert models(store, tmp_path / "to", commit) == [name]


def test_put__keeps_the_projects_apart(place: Place, tmp_path: Path) -> None:
    one, two, longer = (store_in(place.objects(), name) for name in ("one", "two", "one-more"))
    one.put(packed(tmp_path, "a"))
    longer.put(packed(tmp_path, "b", commit=OTHER))
    assert set(one.commits()) == {COMMIT}
    assert set(longer.commits()) == {OTHER}
    assert set(two.commits()) == set()
    two.put(packed(tmp_path, "c"))
    assert (models(one, tmp_path / "to"), models(two, tmp_path / "to")) == (["a"], ["c"])


def test_put__again_replaces_the_bundle_of_the_same_commit(place: Place, tmp_path: Path) -> None:
    store = store_in(place.objects())
    for name in ("a", "b", "a", "c"):
        store.put(packed(tmp_path, name))
        assert models(store, tmp_path / "to") == [name]
        assert models(store_in(place.objects()), tmp_path / "to") == [name]
    assert latest(place) == COMMIT


def test_put__again_leaves_the_files_of_a_reader_who_has_begun(
    place: Place, tmp_path: Path
) -> None:
    store_in(place.objects()).put(packed(tmp_path, "old"))
    new = packed(tmp_path, "new")
    reader = Meanwhile(place.objects(), "chunks", lambda: store_in(place.objects()).put(new))
    assert models(store_in(reader), tmp_path / "to") == ["old"]
    assert models(store_in(place.objects()), tmp_path / "to") == ["new"]


def test_put__mends_a_damaged_bundle(place: Place, tmp_path: Path) -> None:
    store_in(place.objects()).put(packed(tmp_path, "a"))
    for name in place.names():
        place.write(name, b"damaged")
    store_in(place.objects()).put(packed(tmp_path, "a"))
    assert models(store_in(place.objects()), tmp_path / "to") == ["a"]
    assert latest(place) == COMMIT


def test_put__without_provenance_is_no_use_of_it(place: Place, tmp_path: Path) -> None:
    bundle = packed(tmp_path, "a")
    plain = type(bundle)(bundle.directory, None)
    with pytest.raises(ValueError, match="without provenance"):
        store_in(place.objects()).put(plain)
    assert place.names() == set()


# Targets --------------------------------------------------------------------------------------

TARGETS = [
    "",
    "prod",
    "prod/x",
    "prod/../prod/x",
    "..",
    ".",
    "…",
    "A b",
    "%2F",
    "%2E%2E",
    "x" * 200,
]


@IN_SOME_PLACES
@pytest.mark.parametrize("target", [*TARGETS, "latest.json", "a:b?*", "\n", "\\"])
def test_targets__of_any_name_have_a_folder_of_their_own(
    place: Place, tmp_path: Path, target: str
) -> None:
    store_in(place.objects()).put(packed(tmp_path, "a", target=target))
    store_in(place.objects()).put(packed(tmp_path, "other", target="other"))
    store_in(place.objects(), "beside").put(packed(tmp_path, "beside"))
    store = store_in(place.objects(), target=target)
    assert models(store, tmp_path / "to") == ["a"]
    folders = {name.split("/")[1] for name in place.names() if name.startswith("shop/")}
    assert len(folders) == 2
    assert {name.count("/") for name in place.names() if name.startswith("shop/")} == {2, 3, 4}


@IN_SOME_PLACES
def test_targets__of_one_place_are_kept_apart(place: Place, tmp_path: Path) -> None:
    for number, target in enumerate(TARGETS):
        store_in(place.objects()).put(packed(tmp_path, f"m{number}", target=target))
    for number, target in enumerate(TARGETS):
        found = models(store_in(place.objects(), target=target), tmp_path / "to")
        assert found == [f"m{number}"]


def test_targets__several_are_refused_unless_one_is_named(place: Place, tmp_path: Path) -> None:
    for target in ("prod", "A b"):
        store_in(place.objects()).put(packed(tmp_path, "a", target=target))
    for ask in (
        lambda store: list(store.commits()),
        lambda store: list(store.commits(COMMIT)),
        lambda store: store.absence(COMMIT),
    ):
        with pytest.raises(ConfigurationError, match=r"several targets: A%20b, prod") as caught:
            ask(store_in(place.objects()))
        assert caught.value.hint == "Set production-target to the one of production."


def test_targets__the_only_one_needs_no_name(place: Place, tmp_path: Path) -> None:
    store_in(place.objects()).put(packed(tmp_path, "a", target="whatever"))
    assert models(store_in(place.objects()), tmp_path / "to") == ["a"]


def test_targets__a_state_of_an_unknown_one_is_for_any(place: Place, tmp_path: Path) -> None:
    store_in(place.objects()).put(packed(tmp_path, "unknown", target=""))
    store_in(place.objects()).put(packed(tmp_path, "known", target="prod", commit=OTHER))
    store = store_in(place.objects(), target="prod")
    assert set(store.commits()) == {COMMIT, OTHER}
    assert models(store, tmp_path / "to") == ["unknown"]
    assert models(store, tmp_path / "to", OTHER) == ["known"]
    # Where both are, the one that is known to be production's wins.
    store_in(place.objects()).put(packed(tmp_path, "better", target="prod"))
    assert models(store_in(place.objects(), target="prod"), tmp_path / "to") == ["better"]


def test_targets__one_that_has_the_name_of_the_unknown_one_is_kept_apart_from_it(
    place: Place, tmp_path: Path
) -> None:
    store_in(place.objects()).put(packed(tmp_path, "named", target="_default"))
    assert list(store_in(place.objects(), target="prod").commits(COMMIT)) == []
    store_in(place.objects()).put(packed(tmp_path, "unknown", target=""))
    assert models(store_in(place.objects(), target="_default"), tmp_path / "to") == ["named"]


def test_absence__names_the_targets_there_are(place: Place, tmp_path: Path) -> None:
    store_in(place.objects()).put(packed(tmp_path, "a", target="live"))
    store = store_in(place.objects(), target="prod")
    assert list(store.commits(COMMIT)) == []
    assert store.absence(COMMIT) == "There are only states of other targets: live."
    assert store_in(place.objects(), target="live").absence(OTHER) == ""


def test_absence__knows_a_bundle_that_is_being_written(place: Place, tmp_path: Path) -> None:
    store_in(place.objects()).put(packed(tmp_path, "a"))
    store_in(place.objects()).put(packed(tmp_path, "a", commit=OTHER))
    place.delete(f"shop/prod/{COMMIT}/state.json")
    store = store_in(place.objects())
    assert set(store.commits(COMMIT)) == {OTHER}
    assert store.absence(COMMIT) == "It has no state.json: it is being written, or its writer died."
    assert store.absence(LONG) == ""


def test_absence__of_an_empty_place_says_nothing(place: Place) -> None:
    assert list(store_in(place.objects()).commits(COMMIT)) == []
    assert store_in(place.objects()).absence(COMMIT) == ""
    assert store_in(place.objects(), target="prod").absence(COMMIT) == ""


def test_a_writer_of_another_target_that_died__does_not_stop_the_readers_of_this_one(
    place: Place, tmp_path: Path
) -> None:
    store_in(place.objects()).put(packed(tmp_path, "a"))
    store_in(place.objects()).put(packed(tmp_path, "b", target="dev"))
    # All but its state.json, without which there is no bundle.
    place.delete(f"shop/dev/{COMMIT}/state.json")
    place.delete("shop/dev/latest.json")
    assert models(store_in(place.objects()), tmp_path / "to") == ["a"]


# Listing --------------------------------------------------------------------------------------


class Counting(Proxy):
    """Keeps the names of the operations."""

    def __init__(self, objects: Objects) -> None:
        super().__init__(objects)
        self.done: list[str] = []

    def before(self, operation: str) -> None:
        self.done.append(operation)


def test_commits__asks_for_the_sought_one_before_it_lists(place: Place, tmp_path: Path) -> None:
    for commit in (COMMIT, OTHER, LONG):
        store_in(place.objects()).put(packed(tmp_path, "a", commit=commit))
    for sought in (COMMIT, OTHER, LONG):
        counting = Counting(place.objects())
        listing = store_in(counting).commits(sought)
        assert next(listing) == sought
        assert "entries" not in counting.done
        assert {sought, *listing} == {COMMIT, OTHER, LONG}
    assert set(store_in(place.objects()).commits("d" * 40)) == {COMMIT, OTHER, LONG}


def test_commits__names_the_sought_one_once(place: Place, tmp_path: Path) -> None:
    # A caller takes a second mention for another bundle of it, and tries that one too.
    store_in(place.objects()).put(packed(tmp_path, "a"))
    assert list(store_in(place.objects()).commits(COMMIT)) == [COMMIT]


def test_commits__are_only_whole_ones(place: Place, tmp_path: Path) -> None:
    store_in(place.objects()).put(packed(tmp_path, "a"))
    for name in ("main", COMMIT[:7], COMMIT.upper(), OTHER + "b", "state.json"):
        place.write(f"shop/prod/{name}/state.json", b"{}")
    place.write(f"shop/prod/{'d' * 40}/0123456789abcdef/manifest.json.zst", b"")
    place.write(f"shop/prod/{'e' * 40}/0123456789abcdef/state.json", b"{}")
    place.write(f"shop/prod/{'f' * 40}", b"")
    place.write("shop/README", b"hello")
    assert set(store_in(place.objects()).commits()) == {COMMIT}


# Damage ---------------------------------------------------------------------------------------


class Damaged:
    """A published bundle of COMMIT, to be damaged, and how reading it ends."""

    def __init__(self, place: Place, tmp_path: Path) -> None:
        self.place = place
        self.tmp_path = tmp_path
        self.bundle = packed(tmp_path, "a")
        store_in(place.objects()).put(self.bundle)
        self.state = f"shop/prod/{COMMIT}/state.json"

    def name(self, file: str) -> str:
        (name,) = (name for name in self.place.names() if name.endswith(f"/{file}.zst"))
        return name

    def refused(self) -> str:
        """Why the bundle is refused. Nothing may be written but into the folder for it."""
        before = set(self.tmp_path.rglob("*"))
        to = self.tmp_path / "inner" / "to"
        to.mkdir(parents=True)
        store = store_in(self.place.objects())
        list(store.commits(COMMIT))
        with pytest.raises(InvalidBundle) as caught:
            store.get(COMMIT, to, project_name=PROJECT)
        made = set(self.tmp_path.rglob("*")) - before - {to.parent, to}
        known = {"state.json", "manifest.json", "run_results.json", "catalog.json"}
        assert {path.relative_to(to).as_posix() for path in made} <= known
        assert "\n" not in str(caught.value)
        return caught.value.message

    def publish(self, state: bytes) -> None:
        """Another state.json, with the same files as its publication."""
        for file in ("manifest.json", "run_results.json"):
            data = self.place.read(self.name(file))
            digest = hashlib.sha256(state).hexdigest()[:16]
            self.place.delete(self.name(file))
            self.place.write(f"shop/prod/{COMMIT}/{digest}/{file}.zst", data)
        self.place.write(self.state, state)

    def changed(self, **changes: Any) -> bytes:
        """state.json with other values."""
        state = json.loads(self.place.read(self.state))
        return json.dumps({**state, **changes}).encode()


@pytest.fixture
def damaged(place: Place, tmp_path: Path) -> Damaged:
    return Damaged(place, tmp_path)


@pytest.mark.parametrize("file", ["manifest.json", "run_results.json"])
def test_get__of_a_bundle_that_is_not_whole_says_what_is_gone(damaged: Damaged, file: str) -> None:
    damaged.place.delete(damaged.name(file))
    assert damaged.refused() == f"The bundle in shop/prod/{COMMIT} is not whole: {file} is gone."


def test_get__of_a_state_that_is_gone_since_it_was_listed(damaged: Damaged, tmp_path: Path) -> None:
    store = store_in(damaged.place.objects())
    list(store.commits())
    damaged.place.delete(damaged.state)
    with pytest.raises(InvalidBundle, match=r"has no state\.json any more"):
        store.get(COMMIT, tmp_path, project_name=PROJECT)


def frame(data: bytes, **options: int) -> bytes:
    """A frame of Zstandard with other parameters than ours."""
    known = {getattr(zstd.CompressionParameter, name): value for name, value in options.items()}
    return bytes(zstd.compress(data, options=known))


FILE_DAMAGE = {
    "empty": lambda whole, _: b"",
    "cut": lambda whole, _: whole[:-1],
    "half": lambda whole, _: whole[: len(whole) // 2],
    "only the start": lambda whole, _: whole[:4],
    "a flipped bit": lambda whole, _: whole[:30] + bytes([whole[30] ^ 1]) + whole[31:],
    "not compressed": lambda _, raw: raw,
    "gzip": lambda *_: b"\x1f\x8b" + b"\0" * 100,
    "a longer one": lambda _, raw: frame(raw + b" "),
    "a shorter one": lambda _, raw: frame(raw[:-1]),
    "another of the same size": lambda _, raw: frame(raw.replace(b"1.11.0", b"9.99.9")),
    "nothing": lambda *_: frame(b""),
    "a bomb": lambda *_: frame(b"\0" * 100_000_000),
    "two frames": lambda whole, _: whole + frame(b"x"),
    "a window of 128 MB": lambda _, raw: frame(raw * 30_000, window_log=27),
}


@IN_SOME_PLACES
@pytest.mark.parametrize("file", ["manifest.json", "run_results.json"])
@pytest.mark.parametrize("damage", FILE_DAMAGE.values(), ids=FILE_DAMAGE)
def test_get__of_a_damaged_file_is_refused(damaged: Damaged, file: str, damage: Any) -> None:
    name = damaged.name(file)
    raw = (damaged.bundle.directory / file).read_bytes()
    damaged.place.write(name, damage(damaged.place.read(name), raw))
    assert file in damaged.refused()


@IN_SOME_PLACES
def test_get__of_a_bomb_stops_at_the_size_that_was_published(
    damaged: Damaged, tmp_path: Path
) -> None:
    damaged.place.write(damaged.name("manifest.json"), frame(b"\0" * 100_000_000))
    damaged.refused()
    size = (damaged.bundle.directory / "manifest.json").stat().st_size
    assert (tmp_path / "inner" / "to" / "manifest.json").stat().st_size <= size


STATE_DAMAGE = {
    "empty": b"",
    "not JSON": b"<html>",
    "a list": b"[]",
    "not UTF-8": b"\xff\xfe",
    "too large": b" " * (STATE_SIZE_LIMIT + 1),
    "far too large": b" " * 10_000_000,
    "nested": b'{"schema_version": 1, "flags": ' + b"[" * 60_000,
}


@IN_SOME_PLACES
@pytest.mark.parametrize("state", STATE_DAMAGE.values(), ids=STATE_DAMAGE)
def test_get__of_a_state_that_is_none_is_refused(damaged: Damaged, state: bytes) -> None:
    damaged.publish(state)
    assert "state.json" in damaged.refused()


RECORD = {"sha256": "0" * 64, "size": 1}
HOSTILE = {
    "another commit": {"origin": {"commit": OTHER}},
    "a newer schema": {"schema_version": 2},
    "no files": {"files": {}},
    "a path up": {"files": {"manifest.json": RECORD, "../../evil": RECORD}},
    "a whole path": {"files": {"manifest.json": RECORD, "/tmp/evil": RECORD}},
    "itself": {"files": {"manifest.json": RECORD, "state.json": RECORD}},
    "a digest that is a path": {"files": {"manifest.json": {"sha256": "../../x", "size": 1}}},
    "more than fits": {"files": {"manifest.json": {**RECORD, "size": 2**60}}},
    "more than fits, with less": {
        "files": {
            "manifest.json": {**RECORD, "size": 2**60},
            "catalog.json": {**RECORD, "size": -(2**60)},
        }
    },
    "less than nothing": {"files": {"manifest.json": {**RECORD, "size": -2}}},
    "another project": {"project_name": "other"},
}


@IN_SOME_PLACES
@pytest.mark.parametrize("changes", HOSTILE.values(), ids=HOSTILE)
def test_get__of_a_hostile_state_is_refused(damaged: Damaged, changes: dict[str, Any]) -> None:
    damaged.publish(damaged.changed(**changes))
    assert damaged.refused()


@IN_SOME_PLACES
@pytest.mark.parametrize("size", [-1, -2, -(2**40)])
def test_get__of_a_negative_size_unpacks_nothing(damaged: Damaged, size: int) -> None:
    # zstd takes it for "no limit".
    damaged.publish(damaged.changed(files={"manifest.json": {**RECORD, "size": size}}))
    damaged.place.write(damaged.name("manifest.json"), frame(b"\0" * 100_000_000))
    tracemalloc.start()
    try:
        damaged.refused()
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_get__of_one_publication_never_takes_files_of_another(place: Place, tmp_path: Path) -> None:
    store_in(place.objects()).put(packed(tmp_path, "old"))
    old = place.read(f"shop/prod/{COMMIT}/state.json")
    before = place.names()
    store_in(place.objects()).put(packed(tmp_path, "new"))
    assert len(place.names() - before) == 2
    place.write(f"shop/prod/{COMMIT}/state.json", old)
    assert models(store_in(place.objects()), tmp_path / "to") == ["old"]


# The pointer ----------------------------------------------------------------------------------


class History:
    """A repository, and a store of which every put knows what git knows. main: first - second."""

    def __init__(self, place: Place, tmp_path: Path) -> None:
        self.place = place
        self.tmp_path = tmp_path
        self.repository = Repository(tmp_path / "repository")
        self.git = self.repository.git
        self.first, self.second = (self.repository.commit(name) for name in ("first", "second"))

    def put(self, commit: str, **origin: str) -> None:
        """Publish a state of main, as far as `origin` does not say otherwise."""
        store = store_in(self.place.objects(), branch="main", is_ancestor=self.git.is_ancestor)
        store.put(packed(self.tmp_path, "a", commit=commit, **{"branch": "main", **origin}))


@pytest.fixture
def history(place: Place, tmp_path: Path) -> History:
    return History(place, tmp_path)


EARLY, LATE = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"


def test_pointer__follows_the_history_whatever_the_clocks_say(history: History) -> None:
    history.put(history.first, committed_at=LATE, run_id="9")
    history.put(history.second, committed_at=EARLY, run_id="1")
    assert latest(history.place) == history.second
    history.put(history.first, committed_at=LATE, run_id="10")
    assert latest(history.place) == history.second


@pytest.mark.parametrize("order", [("left", "right"), ("right", "left")])
def test_pointer__of_commits_on_two_lines_goes_by_their_dates(
    history: History, order: tuple[str, str]
) -> None:
    left = history.repository.commit("left")
    history.repository.branch("other", history.second)
    right = history.repository.commit("right")
    commits = {"left": (left, EARLY), "right": (right, LATE)}
    for name in order:
        history.put(commits[name][0], committed_at=commits[name][1])
    assert latest(history.place) == right


def test_pointer__in_a_shallow_clone_goes_by_the_dates(history: History, tmp_path: Path) -> None:
    clone = history.repository.checked_out(tmp_path / "clone", "main")
    history.put(history.second, committed_at=LATE)
    history.git = clone.git
    history.put(history.first, committed_at=EARLY)
    assert latest(history.place) == history.second


NOW = "2026-01-01T00:00:00"
NEWER = {
    "later": ((EARLY, "9"), (LATE, "1")),
    "same second": ((EARLY, "99"), (EARLY, "100")),
    "same second, no run": ((EARLY, ""), (EARLY, "1")),
    "in another zone": ((f"{NOW}+02:00", "9"), (f"{NOW}+01:00", "1")),
    "unknown date": (("", "9"), (EARLY, "1")),
    "no date": (("yesterday", "1"), ("", "2")),
}


@IN_SOME_PLACES
@pytest.mark.parametrize(("older", "newer"), NEWER.values(), ids=NEWER)
def test_pointer__of_unknown_commits_never_goes_back(
    history: History, older: tuple[str, str], newer: tuple[str, str]
) -> None:
    for first, second in ((COMMIT, OTHER), (OTHER, COMMIT)):
        commits = {first: older, second: newer}
        for order in ((first, second), (second, first)):
            for name in history.place.names():
                history.place.delete(name)
            for commit in order:
                history.put(commit, committed_at=commits[commit][0], run_id=commits[commit][1])
            assert latest(history.place) == second


GARBAGE = {
    "empty": b"",
    "not JSON": b"{",
    "a list": b"[]",
    "no commit": b"{}",
    "not UTF-8": b'{"commit": "\xff"}',
    "too large": b" " * 5000,
    "far too large": b" " * 1_000_000,
    "nested": b'{"commit": "x", "more": ' + b"[" * 4000,
    "no name": b'{"schema_version": 1, "commit": ""}',
    "an option": b'{"schema_version": 1, "commit": "--help"}',
    "a zero": b'{"schema_version": 1, "commit": "\\u0000"}',
    "odd ones": b'{"commit": "x", "committed_at": "9999-99-99", "run_id": "-1"}',
}


@IN_SOME_PLACES
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_pointer__that_is_garbage_is_written_over(history: History, garbage: bytes) -> None:
    history.place.write("shop/prod/latest.json", garbage)
    history.put(history.first, committed_at=EARLY)
    assert latest(history.place) == history.first


def test_pointer__of_another_branch_is_not_moved(history: History) -> None:
    history.put(history.first)
    log = Log()
    store = store_in(
        history.place.objects(), branch="main", is_ancestor=history.git.is_ancestor, log=log
    )
    store.put(packed(history.tmp_path, "a", commit=history.second, branch="feature"))
    assert latest(history.place) == history.first
    assert log.lines == ["latest.json is for main, and this state is of feature."]
    assert set(store.commits()) == {history.first, history.second}


def test_pointer__is_one_for_each_target(place: Place, tmp_path: Path) -> None:
    for target, commit in (("prod", COMMIT), ("dev", OTHER)):
        store_in(place.objects()).put(packed(tmp_path, "a", target=target, commit=commit))
    assert (latest(place), latest(place, "dev")) == (COMMIT, OTHER)


def test_pointer__that_was_moved_meanwhile_is_read_again(place: Place, tmp_path: Path) -> None:
    new = packed(tmp_path, "new", commit=OTHER, committed_at=LATE)
    meanwhile = Meanwhile(place.objects(), "replace", lambda: store_in(place.objects()).put(new))
    store_in(meanwhile).put(packed(tmp_path, "old", committed_at=EARLY))
    assert latest(place) == OTHER
    assert set(store_in(place.objects()).commits()) == {COMMIT, OTHER}


# Prune (the policy is in test_prune.py) -------------------------------------------------------


def test_prune__removes_old_states_and_what_is_left_of_others(place: Place, tmp_path: Path) -> None:
    commits = [f"{number:040x}" for number in range(4)]
    for number, commit in enumerate(commits):
        date = f"2026-01-0{number + 1}T00:00:00+00:00"
        store_in(place.objects()).put(packed(tmp_path, "a", commit=commit, committed_at=date))
    store_in(place.objects()).put(packed(tmp_path, "new", commit=commits[3], committed_at=LATE))
    place.write(f"shop/prod/{LONG}/0123456789abcdef/manifest.json.zst", b"half")
    later = datetime.now(timezone.utc) + timedelta(days=100)

    def run(*, is_dry_run: bool) -> tuple[int, int, int]:
        done = prune(
            store_in(place.objects()),
            keep=1,
            older_than=timedelta(days=90),
            is_dry_run=is_dry_run,
            log=Log(),
            now=later,
        )
        return done.kept, done.removed, done.leftovers

    before = place.names()
    assert run(is_dry_run=True) == (1, 3, 3)
    assert place.names() == before
    assert run(is_dry_run=False) == (1, 3, 3)
    assert {name.split("/")[2] for name in place.names()} == {commits[3], "latest.json"}
    assert models(store_in(place.objects()), tmp_path / "to", commits[3]) == ["new"]
    assert run(is_dry_run=False) == (1, 0, 0)
    # Who comes back finds the place as usable as before.
    store_in(place.objects()).put(packed(tmp_path, "again", commit=commits[0]))
    assert models(store_in(place.objects()), tmp_path / "to", commits[0]) == ["again"]


# What pull requests are compared with ---------------------------------------------------------


def test_compare__goes_through_every_place_and_comes_back_verified(
    place: Place, tmp_path: Path
) -> None:
    bundle = compared(tmp_path)
    store_in(place.objects()).put(bundle)
    (publication,) = {name.split("/")[3] for name in place.names() if name.endswith(".zst")}
    name = f"shop/prod/{COMMIT}/{publication}/compare/manifest.json.zst"
    assert name in place.names()
    store, to = store_in(place.objects()), tmp_path / "to"
    to.mkdir()
    assert set(store.commits()) == {COMMIT}
    found = store.get(COMMIT, to, project_name=PROJECT)
    assert content(to) == content(bundle.directory)
    assert found.compare
    assert [*found.compare.manifest.nodes] == ["model.shop.a", "model.shop.b"]
    # It is no leftover of an earlier publication.
    [stored] = store.stored()
    assert store.leftovers(stored) == []
    place.write(name, b"damaged")
    with pytest.raises(InvalidBundle):
        models(store_in(place.objects()), tmp_path / "damaged")
    # And goes with the rest.
    [stored] = store.stored()
    assert store.remove(stored)
    assert not any(COMMIT in name for name in place.names())
