from __future__ import annotations

from datetime import timedelta

import pytest

from ci_defer.report import Counts, NodeOutcome, NodeReport, Removed
from ci_defer.wording import age, days, duration, failure, nothing_selected, number, size, success


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (42.4, "42 s"),
        (59.7, "1 min 0 s"),
        (185, "3 min 5 s"),
    ],
)
def test_duration__for_people(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (345_600, "345.6 kB"),
        (999_949, "999.9 kB"),
        # Never 1,000.0 of what has a larger unit.
        (999_950, "1.0 MB"),
        (999_999, "1.0 MB"),
        (1_000_000, "1.0 MB"),
        (204_800_000, "204.8 MB"),
        (4 * 1024**3, "4,295.0 MB"),
    ],
)
def test_size__for_people(count: int, expected: str) -> None:
    assert size(count) == expected


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (timedelta(), "0 hours"),
        (timedelta(minutes=59), "0 hours"),
        (timedelta(hours=1), "1 hour"),
        (timedelta(hours=12, minutes=59), "12 hours"),
        (timedelta(days=1) - timedelta(microseconds=1), "23 hours"),
        (timedelta(days=1), "1 day"),
        (timedelta(hours=47), "1 day"),
        (timedelta(weeks=8), "56 days"),
        (timedelta(days=12_345), "12,345 days"),
    ],
)
def test_days__for_people(length: timedelta, expected: str) -> None:
    assert days(length) == expected


def test_number__has_its_noun() -> None:
    assert [number(count, "node") for count in (0, 1, 2, 1234)] == [
        "0 nodes",
        "1 node",
        "2 nodes",
        "1,234 nodes",
    ]


@pytest.mark.parametrize(
    ("created_at", "expected"),
    [
        ("2026-03-10T11:59:01+00:00", "just now"),
        ("2026-03-10T11:59:00+00:00", "1 minute ago"),
        ("2026-03-10T11:00:01+00:00", "59 minutes ago"),
        ("2026-03-10T11:00:00+00:00", "1 hour ago"),
        ("2026-03-09T12:00:01+00:00", "23 hours ago"),
        ("2026-03-09T12:00:00+00:00", "1 day ago"),
        ("2026-03-10T12:00:00+02:00", "2 hours ago"),
        ("2023-06-14T12:00:00+00:00", "1,000 days ago"),
        # The clocks of two machines differ.
        ("2026-03-10T12:00:05+00:00", "just now"),
    ],
)
def test_age__says_how_long_ago(created_at: str, expected: str) -> None:
    said = age(created_at, "2026-03-10T12:00:00+00:00")
    assert said.startswith(f"{expected} (")


@pytest.mark.parametrize("created_at", ["", "yesterday", "2026-03-10T12:00:00"])
def test_age__of_what_is_no_instant_is_what_it_was_given(created_at: str) -> None:
    assert age(created_at, "2026-03-10T12:00:00+00:00") == created_at
    assert age("2026-03-10T12:00:00+00:00", created_at) == "2026-03-10T12:00:00+00:00"


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (Counts(built=1, passed=2), "1 node built, 2 tests passed"),
        (Counts(passed=1, warned=2), "0 nodes built, 1 test passed, 2 with a warning"),
        (Counts(no_op=3, not_run=2), "dbt ran nothing of what it selected"),
    ],
)
def test_success__counts(counts: Counts, expected: str) -> None:
    assert success(counts) == expected


def bad(name: str, outcome: NodeOutcome) -> NodeReport:
    return NodeReport(unique_id=name, name=name, resource_type="model", outcome=outcome)


def test_failure__names_one_and_counts_more() -> None:
    error, test = bad("a", NodeOutcome.ERRORED), bad("t", NodeOutcome.FAILED)
    assert failure([error], Counts(errored=1, skipped=2)) == (
        "a failed with an error, 2 nodes skipped because of that"
    )
    assert failure([test], Counts(failed=1)) == "test t failed"
    assert failure([error, test], Counts(errored=1, failed=1)) == (
        "1 node failed with an error, 1 test failed"
    )


def test_nothing_selected__says_what_is_gone() -> None:
    gone = Removed(unique_id="a", name="a", resource_type="model")
    assert nothing_selected([]) == "Nothing to build: no node of the dbt project changed"
    assert nothing_selected([gone]) == "Nothing to build: 1 node removed, none changed"
