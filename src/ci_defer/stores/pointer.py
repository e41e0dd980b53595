"""The pointer: a small file that names the newest commit with a state. Pure.

Owns what is newer: first what git knows of the two commits, then their own dates.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from ci_defer.bundle import COMMIT, Provenance

SCHEMA_VERSION = 1
# A real one has 200 bytes.
POINTER_SIZE_LIMIT = 4096


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """latest.json. `committed_at` is ISO 8601 in UTC; what is unknown is empty."""

    schema_version: int = SCHEMA_VERSION
    commit: str
    committed_at: str = ""
    run_id: str = ""

    @classmethod
    def of(cls, provenance: Provenance) -> Pointer:
        """The pointer to a bundle."""
        origin = provenance.origin
        return cls(commit=origin.commit, committed_at=origin.committed_at, run_id=origin.run_id)

    def is_newer_than(self, other: Pointer, is_ancestor: Callable[[str, str], bool]) -> bool:
        """Whether our commit came after the other one.

        `is_ancestor(a, b)` says whether a is known to be in the history of b. Two commits of which
        that is not known, as in a shallow clone, are told apart by their dates, and those of the
        same second by their workflow runs, whose ids grow.
        """
        if self.commit == other.commit:
            return False
        if is_ancestor(other.commit, self.commit):
            return True
        if is_ancestor(self.commit, other.commit):
            return False
        return self._age() > other._age()

    def _age(self) -> tuple[float, int]:
        try:
            second = datetime.fromisoformat(self.committed_at).timestamp()
        except (ValueError, OverflowError):
            second = 0.0
        return second, int(self.run_id) if self.run_id.isdecimal() else 0


def encode_pointer(pointer: Pointer) -> bytes:
    """The bytes of latest.json."""
    return msgspec.json.format(msgspec.json.encode(pointer), indent=2) + b"\n"


def decode_pointer(data: bytes) -> Pointer | None:
    """Read latest.json; None for one that this version cannot read, which may be written over."""
    try:
        pointer = msgspec.json.decode(data, type=Pointer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # The commit goes to git: nothing but an object id may.
    is_ours = pointer.schema_version == SCHEMA_VERSION and COMMIT.fullmatch(pointer.commit)
    return pointer if is_ours else None
