"""A state that others have put somewhere: a directory or a file, or a manifest in a bucket.

A directory is as `dbt --state` takes it. There is one state in it and no commit to choose by. One
that ci-defer made (an unpacked artifact) still has its state.json, which is verified; anything else
comes without provenance.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ci_defer.bundle import FILES, MANIFEST, MAX_SIZE, STATE, Bundle, unpack
from ci_defer.errors import InvalidBundle, StateNotFound
from ci_defer.stores.objects import Missing, Objects

# Stores that are named by a word: a folder of that name is ./artifact.
RESERVED = frozenset({"artifact", "altimate"})


class PlainState:
    """The artifacts in the directory, or the manifest in the file, at `path`."""

    # Whoever names it wants to be compared with it.
    is_comparable = True

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def location(self) -> str:
        return str(self._path)

    def get(self, to: Path, *, project_name: str) -> Bundle:
        """Copy the artifacts into the empty directory `to`, and check them.

        The copy is what makes a state safe that lies where dbt is about to write: in `target/`.
        Raises InvalidBundle.
        """
        try:
            if self._path.is_file():
                shutil.copyfile(self._path, to / MANIFEST)
            else:
                for name in (*FILES, STATE):
                    if (self._path / name).is_file():
                        (to / name).parent.mkdir(exist_ok=True)
                        shutil.copyfile(self._path / name, to / name)
        except OSError as error:
            raise InvalidBundle(f"{self._path} cannot be read: {error.strerror}.") from error
        return unpack(to, project_name=project_name)


class PlainObject:
    """The manifest in one object, such as `s3://bucket/path/manifest.json`."""

    is_comparable = True

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects = objects
        self._name = name

    @property
    def location(self) -> str:
        return f"{self._objects.location}/{self._name}"

    def get(self, to: Path, *, project_name: str) -> Bundle:
        """Copy the manifest into the empty directory `to`, and check it.

        Raises StateNotFound when there is none, InvalidBundle.
        """
        left = MAX_SIZE
        try:
            with (to / MANIFEST).open("wb") as file:
                for block in self._objects.chunks(self._name):
                    left -= len(block)
                    if left < 0:
                        raise InvalidBundle(f"{self.location} has over {MAX_SIZE:,} bytes.")
                    file.write(block)
        except Missing:
            raise StateNotFound(
                f"There is no object {self.location}.",
                "Correct the setting state, or let production's job put its manifest there.",
            ) from None
        return unpack(to, project_name=project_name)


def find_plain_state(uri: str) -> PlainState | None:
    """The plain state at `uri`, or None when there is none and `uri` must be a store."""
    if uri in RESERVED:
        return None
    path = Path(uri).resolve()
    if path.is_file() or (path / MANIFEST).is_file():
        return PlainState(path)
    return None
