"""What a place has to do to keep bundles: a handful of operations on named objects.

A bucket of an object store has them, and a directory of a disk. Pure: the interface, and the words
in it. A name is parts with slashes between them, as a key of an object store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

# What a provider of credentials says through the library of a bucket, which shows only the text.
NO_FEDERATION = "Google does not exchange the token of this workflow run"


class Missing(Exception):
    """There is no object of that name."""


@dataclass(frozen=True)
class Entry:
    """An object that a place lists; `modified` is in UTC, by the clock of the place."""

    name: str
    modified: datetime


@dataclass(frozen=True)
class Content:
    """The bytes of a small object, and what the place calls this version of them."""

    data: bytes
    version: str


class Objects(Protocol):
    """Named objects in one place. Every method raises CiDeferError when the place cannot do it."""

    @property
    def location(self) -> str:
        """The place, as a person would write it."""
        ...

    def folders(self, folder: str) -> list[str]:
        """The first parts of the names below `folder`, for those that have further parts."""
        ...

    def entries(self, folder: str) -> Iterator[Entry]:
        """Every object whose name starts with `folder/`, in no order."""
        ...

    def read(self, name: str, limit: int) -> Content:
        """A small object: at most `limit` bytes of it and one more. Raises Missing."""
        ...

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of an object of any size, block by block. Raises Missing."""
        ...

    def save(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write an object of any size.

        A reader finds all of it, or what was there before: also when `chunks` raises, or when
        this process dies half-way.
        """
        ...

    def replace(self, name: str, data: bytes, old: Content | None) -> bool:
        """Write a small object if it is still `old` (None: not there); say whether it holds `data`.

        Where the place has no conditional writes, the last writer wins.
        """
        ...

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects in this order; those that are not there are fine."""
        ...
