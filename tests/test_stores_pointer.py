from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ci_defer.stores.pointer import POINTER_SIZE_LIMIT, Pointer, decode_pointer, encode_pointer
from tests.samples import COMMIT, packed

OTHER = "b" * 40
EARLY, LATE = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"


def pointer(commit: str, committed_at: str = "", run_id: str = "") -> Pointer:
    return Pointer(commit=commit, committed_at=committed_at, run_id=run_id)


def unknown(_one: str, _other: str) -> bool:
    return False


def test_of__a_bundle_is_its_commit_date_and_run(tmp_path: Path) -> None:
    provenance = packed(tmp_path, "a", committed_at=EARLY, run_id="7").provenance
    assert provenance
    assert Pointer.of(provenance) == pointer(COMMIT, EARLY, "7")
    assert json.loads(encode_pointer(Pointer.of(provenance))) == {
        "schema_version": 1,
        "commit": COMMIT,
        "committed_at": EARLY,
        "run_id": "7",
    }


def test_is_newer_than__what_git_knows_wins_over_dates() -> None:
    def first_is_older(one: str, other: str) -> bool:
        return (one, other) == (COMMIT, OTHER)

    first, second = pointer(COMMIT, LATE, "9"), pointer(OTHER, EARLY, "1")
    assert second.is_newer_than(first, first_is_older)
    assert not first.is_newer_than(second, first_is_older)
    assert first.is_newer_than(second, unknown)


def test_is_newer_than__of_the_same_commit_is_never_so() -> None:
    old, new = pointer(COMMIT, EARLY, "1"), pointer(COMMIT, LATE, "2")
    for is_ancestor in (unknown, lambda _one, _other: True):
        assert not new.is_newer_than(old, is_ancestor)
        assert not old.is_newer_than(new, is_ancestor)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ((EARLY, "2"), (LATE, "1")),
        (("2026-01-01T00:00:00+00:00", ""), ("2026-01-01T00:00:01+00:00", "")),
        # The same instant, and then an hour apart, written in other zones.
        (("2026-01-01T02:00:00+02:00", "1"), ("2026-01-01T00:00:00+00:00", "2")),
        (("2026-01-01T02:00:00+03:00", "2"), ("2026-01-01T00:00:00+00:00", "1")),
        # The ids of runs are numbers.
        ((EARLY, "9"), (EARLY, "10")),
        ((EARLY, "9999999999"), (EARLY, "10000000000")),
        ((EARLY, ""), (EARLY, "1")),
        ((EARLY, "x"), (EARLY, "1")),
        ((EARLY, "-5"), (EARLY, "1")),
        # What is no date is older than all that is one.
        (("", "9"), (EARLY, "")),
        (("yesterday", "9"), (EARLY, "")),
        (("0001-01-01T00:00:00+23:59", "9"), (EARLY, "")),
        (("", "1"), ("", "2")),
    ],
)
def test_is_newer_than__by_date_and_then_by_run(
    older: tuple[str, str], newer: tuple[str, str]
) -> None:
    for one, other in ((COMMIT, OTHER), (OTHER, COMMIT)):
        assert pointer(one, *newer).is_newer_than(pointer(other, *older), unknown)
        assert not pointer(other, *older).is_newer_than(pointer(one, *newer), unknown)


def test_is_newer_than__of_two_that_nothing_tells_apart_stays_with_the_first() -> None:
    one, other = pointer(COMMIT, EARLY, "1"), pointer(OTHER, EARLY, "1")
    assert not one.is_newer_than(other, unknown)
    assert not other.is_newer_than(one, unknown)


DATES = st.sampled_from([EARLY, LATE, "", "x", "2026-01-01T01:00:00+01:00"])
RUNS = st.sampled_from(["", "1", "9", "10", "x"])
POINTERS = st.builds(pointer, st.text("abc", min_size=1, max_size=1), DATES, RUNS)


@given(st.lists(POINTERS, min_size=3, max_size=3, unique_by=lambda item: item.commit))
def test_is_newer_than__by_dates_has_no_circles(pointers: list[Pointer]) -> None:
    for one, two, three in permutations(pointers):
        assert not (one.is_newer_than(two, unknown) and two.is_newer_than(one, unknown))
        if one.is_newer_than(two, unknown) and two.is_newer_than(three, unknown):
            assert one.is_newer_than(three, unknown)


@given(POINTERS)
def test_decode_pointer__reads_what_was_written(item: Pointer) -> None:
    data = encode_pointer(Pointer(commit=COMMIT, committed_at=item.committed_at))
    assert decode_pointer(data) == Pointer(commit=COMMIT, committed_at=item.committed_at)
    assert len(data) < POINTER_SIZE_LIMIT


def test_decode_pointer__skips_fields_of_a_newer_ci_defer() -> None:
    assert decode_pointer(b'{"commit": "%s", "more": [1]}' % COMMIT.encode()) == pointer(COMMIT)


@given(st.binary(max_size=200))
@example(b"")
@example(b"null")
@example(b"[]")
@example(b"{}")
@example(b'{"commit": 7}')
@example(b'{"commit": "\xff"}')
@example(b'{"commit": "\\ud800"}')
@example(b'{"commit": "x", "run_id": 7}')
def test_decode_pointer__of_garbage_is_none(data: bytes) -> None:
    assert decode_pointer(data) is None


@pytest.mark.parametrize(
    "data",
    [
        b'{"schema_version": 1, "commit": "\\u0000"}',
        b'{"schema_version": 1, "commit": "HEAD"}',
        b'{"schema_version": 1, "commit": ""}',
        b'{"commit": "x", "more": ' + b"[" * 4000,
        b'{"schema_version": 2, "commit": "%s"}' % COMMIT.encode(),
    ],
    ids=["a zero", "a name", "nothing", "nested", "another schema"],
)
def test_decode_pointer__of_what_names_no_commit_is_none(data: bytes) -> None:
    assert decode_pointer(data) is None
