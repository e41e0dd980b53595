"""Bundles in a directory, for a shared disk and for trying things out.

Layout: `<root>/<project>/<commit>/state.json`, and beside it each file of the bundle under a
name that holds its SHA-256. The data files are written first and never change; state.json comes
last, by an atomic rename. So a reader finds no bundle, the old one or the new one, also when
the same commit is published twice at the same time or a writer dies half-way.

Owns that layout. Knows nothing of git, and nothing of what a bundle means.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ci_defer.bundle import (
    MANIFEST,
    STATE,
    Bundle,
    FileRecord,
    decode_state,
    encode_state,
    unpack,
    verify,
)
from ci_defer.errors import CiDeferError, ConfigurationError, InvalidBundle

COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class DirectoryStore:
    """The bundles of one project below `root`. The directory is created by the first put."""

    def __init__(self, root: Path, project: str) -> None:
        self._root = root
        self._project = root / project

    @property
    def location(self) -> str:
        return str(self._project)

    def commits(self) -> Iterator[str]:
        """The commits whose state.json exists, in no order."""
        if self._root.exists() and not self._root.is_dir():
            raise ConfigurationError(f"state: {self._root} is not a directory.")
        try:
            for entry in self._project.iterdir():
                if COMMIT.fullmatch(entry.name) and (entry / STATE).is_file():
                    yield entry.name
        except FileNotFoundError:
            return
        except OSError as error:
            raise CiDeferError(
                f"The store {self._project} cannot be read: {error.strerror}.",
                "Check the permissions of the directory.",
            ) from error

    def absence(self, commit: str) -> str:
        if (self._project / commit).is_dir():
            return f"It has no {STATE}: it is being written, or its writer died."
        return ""

    def get(self, commit: str, to: Path, *, project_name: str) -> Bundle:
        folder = self._project / commit
        provenance = decode_state(folder / STATE)
        if provenance.origin.commit != commit:
            raise InvalidBundle(
                f"{folder / STATE} says that it is of commit {provenance.origin.commit[:12]!r}."
            )
        try:
            for name, record in provenance.files.items():
                shutil.copyfile(folder / _stored_name(name, record), to / name)
        except OSError as error:
            raise InvalidBundle(
                f"The bundle in {folder} is not whole: {error.strerror}: {error.filename}.",
                "Run onboard again on the base branch.",
            ) from error
        (to / STATE).write_bytes(encode_state(provenance))
        return unpack(to, project_name=project_name)

    def put(self, bundle: Bundle) -> str:
        provenance = bundle.provenance
        if provenance is None:
            raise ValueError("a bundle without provenance has no commit to be kept under")
        if self._root.is_file() or (self._root / MANIFEST).is_file():
            # Defer would take it for a plain state, and never look for ours.
            raise ConfigurationError(
                f"state: {self._root} is, or holds, a {MANIFEST} itself, so it is no store.",
                "Name an empty or a new directory.",
            )
        folder = self._project / provenance.origin.commit
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, record in provenance.files.items():
                stored = folder / _stored_name(name, record)
                if not _is_sound(stored, record):
                    _write_atomically(stored, bundle.directory / name)
            _write_atomically(folder / STATE, bundle.directory / STATE)
        except OSError as error:
            raise CiDeferError(
                f"The state cannot be saved to {folder}: {error.strerror}.",
                "What the store held before is untouched. "
                "Check the permissions and the free space of the directory.",
            ) from error
        return str(folder)


def _is_sound(path: Path, record: FileRecord) -> bool:
    try:
        verify(path, record)
    except InvalidBundle:
        return False
    return True


def _stored_name(name: str, record: FileRecord) -> str:
    """manifest.json -> manifest-<sha256>.json."""
    path = Path(name)
    return f"{path.stem}-{record.sha256}{path.suffix}"


def _write_atomically(target: Path, source: Path) -> None:
    """Copy `source` to `target` so that `target` is absent, or old, or complete and on disk."""
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as copy, source.open("rb") as original:
            shutil.copyfileobj(original, copy)
            copy.flush()
            os.fsync(copy.fileno())
            # mkstemp makes it 0600, but the readers of a shared disk are other users.
            os.fchmod(copy.fileno(), 0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def _sync_directory(directory: Path) -> None:
    """Make a rename survive a crash of the machine, where the file system can do that.

    It has happened by now, so a file system that cannot is no reason to report a failure.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
