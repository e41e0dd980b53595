"""Prune: delete production states that no open pull request can need any more.

Owns which ones those are. What is kept: the newest states of every target, everything that is
younger than an age, and what `latest.json` names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import groupby

from ci_defer.log import Log
from ci_defer.stores.bundles import BundleStore, Stored
from ci_defer.stores.objects import Entry
from ci_defer.wording import days

# What is not part of a bundle yet may be about to become one.
MIN_AGE_OF_LEFTOVERS = timedelta(days=1)


@dataclass(frozen=True)
class Pruned:
    """How many states were kept and removed, and how many objects that belonged to none.

    In a dry run the latter two say what would have been removed.
    """

    kept: int
    removed: int
    leftovers: int


def prune(
    store: BundleStore,
    *,
    keep: int,
    older_than: timedelta,
    is_dry_run: bool,
    log: Log,
    now: datetime | None = None,
) -> Pruned:
    """Delete the states that are older than `older_than` and not among the newest `keep`.

    Leftovers of writers that died, and of states that were published again, go when they are as
    old. A state that changes meanwhile stays. Raises CiDeferError.
    """
    now = now or datetime.now(timezone.utc)
    stored = store.stored()
    old = now - max(older_than, MIN_AGE_OF_LEFTOVERS)
    # Its newest file as well: somebody may be publishing that commit again.
    removable = [
        item
        for item in _beyond(stored, keep)
        if _age(item, now) > older_than and item.modified < old
    ]
    removed = 0
    for item in removable:
        log.info(
            f"{'Would remove' if is_dry_run else 'Removing'} the state of commit "
            f"{item.commit[:12]} (target {item.target}), saved {days(_age(item, now))} ago."
        )
        if is_dry_run or store.remove(item):
            removed += 1
        else:
            log.info(f"It changed meanwhile, so it stays: {item.commit[:12]}.")
    gone = {*removable}
    leftovers = [
        entry for item in stored if item not in gone for entry in _older(store.leftovers(item), old)
    ]
    if not is_dry_run:
        store.remove_leftovers(leftovers)
    kept = sum(1 for item in stored if item.saved_at) - removed
    return Pruned(kept, removed, len(leftovers))


def _beyond(stored: Iterable[Stored], keep: int) -> list[Stored]:
    """The whole states that are not among the newest `keep` of their target."""
    whole = [item for item in stored if item.saved_at]
    # Buckets tell seconds.
    whole.sort(key=lambda item: (item.target, item.saved_at, item.is_latest), reverse=True)
    beyond: list[Stored] = []
    for _, group in groupby(whole, key=lambda item: item.target):
        beyond += [item for item in list(group)[keep:] if not item.is_latest]
    return beyond


def _age(stored: Stored, now: datetime) -> timedelta:
    return now - (stored.saved_at or stored.modified)


def _older(entries: Sequence[Entry], than: datetime) -> list[Entry]:
    return [entry for entry in entries if entry.modified < than]
