"""Opening an archive that somebody else made: member by member, by name, and never more than asked.

Pure but for the files it is told to write. Knows nothing of what the members mean.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import IO

from ci_defer.errors import InvalidBundle

CHUNK = 1024 * 1024
MAX_MEMBERS = 100
# The others have no bound on what one read may unpack.
METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
# What zipfile raises for archives that nobody's program writes.
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError),
    *(NotImplementedError, RuntimeError, UnicodeDecodeError),
)


def extract(archive: Path, to: Path, *, names: Collection[str], limit: int) -> None:
    """Extract the members in `names` into the directory `to`; others are passed over.

    `limit` is for the bytes of all of them together, counted as they come: what the archive says
    of their size is not believed. Raises InvalidBundle for anything that no archive of ours
    holds: an absolute path, `..`, a link, a device, a name twice, encryption, damage.
    """
    try:
        with _open(archive) as opened:
            members = opened.infolist()
            _check(members)
            left = limit
            for member in members:
                if member.filename in names:
                    left -= _extract_member(opened, member, to / member.filename, left)
    except DAMAGE as error:
        raise InvalidBundle(f"The archive is damaged: {error}.") from error


def _open(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except OSError as error:
        raise _misplaced(error) from error


def _check(members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_MEMBERS:
        raise InvalidBundle(f"The archive has {len(members):,} members.")
    seen = set()
    for member in members:
        name = member.filename
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or "\\" in name or ":" in name:
            raise InvalidBundle(f"The archive holds a path that leads out of it: {name[:100]!r}.")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InvalidBundle(f"The archive holds a link or a device: {name[:100]!r}.")
        if member.compress_type not in METHODS:
            raise InvalidBundle(f"The archive is compressed in an unusual way: {name[:100]!r}.")
        if name in seen:
            raise InvalidBundle(f"The archive holds {name[:100]!r} twice.")
        seen.add(name)


def _extract_member(
    opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, limit: int
) -> int:
    size = 0
    target.parent.mkdir(exist_ok=True)
    with _open_member(opened, member) as source, target.open("xb") as file:
        while chunk := source.read(CHUNK):
            size += len(chunk)
            if size > limit:
                raise InvalidBundle(
                    f"The archive unpacks to more than it may: {member.filename} is too large."
                )
            file.write(chunk)
    return size


def _open_member(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    try:
        return opened.open(member)
    except OSError as error:
        raise _misplaced(error) from error


def _misplaced(error: OSError) -> InvalidBundle:
    """An offset outside of the file; an error of the disk would come with the data."""
    return InvalidBundle(f"The archive is damaged: {error.strerror or error}.")
