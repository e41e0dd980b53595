"""A directory as a place for bundles: a shared disk, or a folder for trying things out.

Files are written beside their place, forced to the disk, and renamed: a reader finds all of a file
or none of it, also after a crash of the machine. Owns how that is done, and knows nothing of the
layout.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from ci_defer.bundle import MANIFEST
from ci_defer.errors import CiDeferError, ConfigurationError
from ci_defer.stores.objects import Content, Entry, Missing

BLOCK = 1024 * 1024
LOCK = ".lock"
ATTEMPTS = 100

Made = TypeVar("Made")


class Directory:
    """The objects below `root`, one file each. The directory is created by the first write."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def location(self) -> str:
        return str(self._root)

    def folders(self, folder: str) -> list[str]:
        self._check_root()
        with self._reading(), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            names = [path.name for path in self._path(folder).iterdir() if path.is_dir()]
            # A folder is made before the first file in it is whole.
            return [name for name in names if any(self.entries(f"{folder}/{name}"))]
        return []

    def entries(self, folder: str) -> Iterator[Entry]:
        self._check_root()
        with self._reading():
            for directory, _, names in os.walk(self._path(folder), onerror=_raise):
                for name in names:
                    path = Path(directory) / name
                    # Deleted since it was listed, most likely.
                    with contextlib.suppress(FileNotFoundError):
                        if name != LOCK:
                            yield self._entry(path)

    def read(self, name: str, limit: int) -> Content:
        with self._reading():
            try:
                with self._path(name).open("rb") as file:
                    data = file.read(limit + 1)
                    version = _version(os.fstat(file.fileno()))
            except (FileNotFoundError, NotADirectoryError):
                raise Missing(name) from None
        return Content(data, version)

    def chunks(self, name: str) -> Iterator[bytes]:
        with self._reading():
            try:
                file = self._path(name).open("rb")
            except (FileNotFoundError, NotADirectoryError):
                raise Missing(name) from None
            with file:
                while block := file.read(BLOCK):
                    yield block

    def save(self, name: str, chunks: Iterable[bytes]) -> None:
        path = self._path(name)
        with self._writing():
            handle, temporary = _new_file(path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.writelines(chunks)
                    file.flush()
                    os.fsync(file.fileno())
                    # mkstemp makes it 0600, but the readers of a shared disk are other users.
                    os.fchmod(file.fileno(), 0o644)
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        for directory in (path.parent, *path.parent.parents):
            _sync(directory)
            if directory == self._root:
                break

    def replace(self, name: str, data: bytes, old: Content | None) -> bool:
        path = self._path(name)
        with self._locked(path.parent):
            now = _version(path.stat()) if path.exists() else None
            if now != (old and old.version):
                return False
            self.save(name, [data])
            return True

    def delete(self, names: Sequence[str]) -> None:
        with self._writing():
            for name in names:
                path = self._path(name)
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    path.unlink()
                self._tidy(path.parent)

    def _tidy(self, folder: Path) -> None:
        """Remove a folder and those above it, as far as there is no file in them."""
        with contextlib.suppress(OSError):
            while folder != self._root:
                for empty in folder.iterdir():
                    empty.rmdir()
                folder.rmdir()
                folder = folder.parent

    def _path(self, name: str) -> Path:
        return self._root.joinpath(*name.split("/"))

    def _entry(self, path: Path) -> Entry:
        modified = datetime.fromtimestamp(path.lstat().st_mtime, timezone.utc)
        return Entry(path.relative_to(self._root).as_posix(), modified)

    def _check_root(self) -> None:
        if self._root.exists() and not self._root.is_dir():
            raise ConfigurationError(f"state: {self._root} is not a directory.")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CiDeferError(
                f"The store {self._root} cannot be read: {error.strerror}.",
                "Check the permissions of the directory.",
            ) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        if self._root.is_file() or (self._root / MANIFEST).is_file():
            # Defer would take it for a plain state, and never look for ours.
            raise ConfigurationError(
                f"state: {self._root} is, or holds, a {MANIFEST} itself, so it is no store.",
                "Name an empty or a new directory.",
            )
        try:
            yield
        except OSError as error:
            raise CiDeferError(
                f"The state cannot be saved to {self._root}: {error.strerror}.",
                "What the store held before is untouched. "
                "Check the permissions and the free space of the directory.",
            ) from error

    @contextlib.contextmanager
    def _locked(self, folder: Path) -> Iterator[None]:
        """Hold the lock of a folder. A process that dies lets go of it."""
        with self._writing():
            handle = _lock_file(folder)
        try:
            # A network share may have no locks: there the last writer wins.
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _version(found: os.stat_result) -> str:
    """Every write makes a new file; the times tell two apart that got the same number."""
    return f"{found.st_ino}-{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_size}"


def _new_file(folder: Path) -> tuple[int, str]:
    return _inside(folder, lambda: tempfile.mkstemp(dir=folder, prefix=".", suffix=".partial"))


def _lock_file(folder: Path) -> int:
    return _inside(folder, lambda: os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666))


def _inside(folder: Path, make: Callable[[], Made]) -> Made:
    """Make something in a folder, and the folder first.

    Who deletes the last file of a folder deletes the folder too, perhaps just now: then again.
    """
    for _ in range(ATTEMPTS):
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            folder.mkdir(parents=True, exist_ok=True)
            return make()
    folder.mkdir(parents=True, exist_ok=True)
    return make()


def _raise(error: OSError) -> None:
    # A folder that is not there, or is a file, has no entries.
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _sync(directory: Path) -> None:
    """Make a rename survive a crash of the machine, where the file system can do that.

    It has happened by now, so a file system that cannot is no reason to report a failure.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
