"""Sentences and figures that more than one view of the report shows. Pure.

Plain text: whoever puts a sentence into Markdown escapes it, as it may name a node.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from ci_defer.report import BAD, Counts, NodeReport, Removed

CANCELLED = "Cancelled before the build was finished"
NO_STATE = "Nothing was built: there is no production state yet"
OUTSIDE_OF_NODES = "dbt failed outside of the nodes, which are all fine"
NOT_REACHED = "dbt stopped before it"
REPARSED = "the base commit, parsed again"
NO_COMMITS = "The state is production's latest, of whatever commit and target that is."
OF_ANY_COMMIT = "made of whatever commit was the latest, and for production's target"
NO_PRODUCTION_TARGET = (
    "Nothing was published for the base commit, and production-target is not set: relations that "
    "were not built are looked for where this run's own target would have them. Set "
    "production-target, or run `ci-defer onboard` on the base branch."
)

FROM_A_STRANGER = (
    "This report comes from the run of a fork, whose code could have written anything into it."
)

TENTHS_BELOW = 10
KILO = 1000
UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))


def number(count: int, noun: str) -> str:
    """1 node, 2 nodes, 1,234 nodes."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listing(names: Sequence[str], limit: int = 3) -> str:
    """The first names, and how many more: a, b, c and 4 more."""
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit:,} more" if len(names) > limit else shown


def size(count: int) -> str:
    """Bytes for people: 12 bytes, 345.6 kB, 204.8 MB."""
    if count < KILO:
        return number(count, "byte")
    if round(count / KILO, 1) < KILO:
        return f"{count / KILO:,.1f} kB"
    return f"{count / KILO**2:,.1f} MB"


def duration(seconds: float) -> str:
    """Wall time for people: 0.4 s, 42 s, 3 min 5 s."""
    if round(seconds, 1) < TENTHS_BELOW:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def days(length: timedelta) -> str:
    """A length of time of hours or more: 12 hours, 90 days."""
    if length < timedelta(days=1):
        return number(int(length.total_seconds() // 3600), "hour")
    return number(length.days, "day")


def age(created_at: str, now: str) -> str:
    """How long before `now` something was made, and when: both are ISO 8601."""
    try:
        seconds = (datetime.fromisoformat(now) - datetime.fromisoformat(created_at)).total_seconds()
    except (ValueError, TypeError):
        return created_at
    for unit, length in UNITS:
        if seconds >= length:
            return f"{number(int(seconds // length), unit)} ago ({instant(created_at)})"
    return f"just now ({instant(created_at)})"


def instant(value: str) -> str:
    """An ISO 8601 instant in UTC to the minute, for people."""
    try:
        moment = datetime.fromisoformat(value).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return value
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def nothing_selected(removed: Sequence[Removed]) -> str:
    """The headline when dbt selects no node."""
    if removed:
        return f"Nothing to build: {number(len(removed), 'node')} removed, none changed"
    return "Nothing to build: no node of the dbt project changed"


def success(counts: Counts) -> str:
    """The headline of a green build."""
    tests = counts.passed + counts.warned
    if not counts.built and not tests:
        return "dbt ran nothing of what it selected"
    parts = [f"{number(counts.built, 'node')} built"]
    if tests:
        parts.append(f"{number(counts.passed, 'test')} passed")
    if counts.warned:
        parts.append(f"{counts.warned:,} with a warning")
    return ", ".join(parts)


def failure(nodes: Sequence[NodeReport], counts: Counts) -> str:
    """The headline of a red build: one failure is named, more are counted."""
    bad = [node.name for node in nodes if node.outcome in BAD]
    only = bad[0] if len(bad) == 1 else None
    parts = []
    if counts.errored:
        parts.append(f"{only or number(counts.errored, 'node')} failed with an error")
    if counts.failed:
        parts.append(f"{f'test {only}' if only else number(counts.failed, 'test')} failed")
    if counts.skipped:
        parts.append(f"{number(counts.skipped, 'node')} skipped because of that")
    return ", ".join(parts)
