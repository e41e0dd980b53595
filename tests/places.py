"""Places for named objects that the tests of the stores run on, and proxies that make them fail.

A server is added with a class that is a `Place`, and a line in PLACES.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
from _pytest.mark import ParameterSet

from ci_defer.bundle import Bundle
from ci_defer.stores.bucket import Bucket
from ci_defer.stores.bundles import BundleStore
from ci_defer.stores.directory import LOCK, Directory
from ci_defer.stores.objects import Content, Entry, Objects
from tests.harness.objects import ObjectServer
from tests.samples import COMMIT, PROJECT, Log


class Place(Protocol):
    """A place that starts empty. All but `objects` goes around our own code."""

    def objects(self) -> Objects:
        """The place, opened anew as another process would."""
        ...

    def names(self) -> set[str]:
        """The names of all objects."""
        ...

    def read(self, name: str) -> bytes: ...

    def write(self, name: str, data: bytes) -> None:
        """Put an object there, or replace it."""
        ...

    def delete(self, name: str) -> None: ...


class DirectoryPlace:
    """A directory that is not there yet."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def objects(self) -> Objects:
        return Directory(self.root)

    def names(self) -> set[str]:
        files = (path for path in self.root.rglob("*") if path.is_file() and path.name != LOCK)
        return {path.relative_to(self.root).as_posix() for path in files}

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_bytes(data)

    def delete(self, name: str) -> None:
        (self.root / name).unlink()


class BucketPlace:
    """A prefix of a new bucket of a server that runs."""

    PREFIX = "team a/états"

    def __init__(self, server: ObjectServer, environ: Mapping[str, str]) -> None:
        self.server = server
        self.bucket = server.create(f"bucket-{uuid.uuid4().hex[:12]}")
        self._environ = environ

    def objects(self) -> Objects:
        return Bucket(f"{self.server.uri(self.bucket)}/{self.PREFIX}/", self._environ)

    def names(self) -> set[str]:
        start = f"{self.PREFIX}/"
        found = self.server.names(self.bucket)
        assert all(name.startswith(start) for name in found)
        return {name.removeprefix(start) for name in found}

    def read(self, name: str) -> bytes:
        return self.server.read(self.bucket, f"{self.PREFIX}/{name}")

    def write(self, name: str, data: bytes) -> None:
        self.server.write(self.bucket, f"{self.PREFIX}/{name}", data)

    def delete(self, name: str) -> None:
        self.server.delete(self.bucket, f"{self.PREFIX}/{name}")


def _directory(request: pytest.FixtureRequest) -> Place:
    return DirectoryPlace(request.getfixturevalue("tmp_path") / "store")


def _bucket(kind: str) -> Callable[[pytest.FixtureRequest], Place]:
    def place(request: pytest.FixtureRequest) -> Place:
        server: ObjectServer = request.getfixturevalue(kind)
        # The library reads the environment of the process.
        environ = request.getfixturevalue("monkeypatch")
        for name, value in server.environ().items():
            environ.setenv(name, value)
        return BucketPlace(server, server.environ())

    return place


# Each one is asked for a new place. Azurite comes with the Node packages.
PLACES: Sequence[ParameterSet] = [
    pytest.param(_directory, id="directory"),
    pytest.param(_bucket("s3"), id="s3", marks=pytest.mark.server),
    pytest.param(_bucket("gcs"), id="gcs", marks=pytest.mark.server),
    pytest.param(_bucket("azure"), id="azure", marks=[pytest.mark.server, pytest.mark.action]),
]
# For what is the same in every place, and slow: a directory, and one server.
SOME_PLACES = [item for item in PLACES if item.id in ("directory", "s3")]


def store_in(objects: Objects, project: str = PROJECT, **more: Any) -> BundleStore:
    """A store in this place, as another run would open it."""
    return BundleStore(objects, project, **{"log": Log(), **more})


def models(store: BundleStore, to: Path, commit: str = COMMIT) -> list[str]:
    """What the store gives for `commit`: the names of the models, of one publication for sure.

    Raises InvalidBundle.
    """
    assert commit in set(store.commits(commit))
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    return whole(store.get(commit, to, project_name=PROJECT))


def whole(bundle: Bundle) -> list[str]:
    """The names of its models. Its files are of one publication for sure."""
    results = bundle.run_results
    assert results
    assert [item.unique_id for item in results.results] == list(bundle.manifest.nodes)
    return [node.name for node in bundle.manifest.resources()]


def latest(place: Place, target: str = "prod") -> str:
    """The commit that latest.json names."""
    return str(json.loads(place.read(f"{PROJECT}/{target}/latest.json"))["commit"])


class Killed(BaseException):
    """As when the process ends there."""


class Proxy:
    """Objects that does what another one does; subclasses come in between."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    @property
    def location(self) -> str:
        return self._objects.location

    def before(self, operation: str) -> None:
        """Called before each operation."""

    def after(self, operation: str) -> None:
        """Called when it is done."""

    def folders(self, folder: str) -> list[str]:
        self.before("folders")
        found = self._objects.folders(folder)
        self.after("folders")
        return found

    def entries(self, folder: str) -> Iterator[Entry]:
        self.before("entries")
        yield from list(self._objects.entries(folder))
        self.after("entries")

    def read(self, name: str, limit: int) -> Content:
        self.before("read")
        found = self._objects.read(name, limit)
        self.after("read")
        return found

    def chunks(self, name: str) -> Iterator[bytes]:
        self.before("chunks")
        yield from self._objects.chunks(name)
        self.after("chunks")

    def save(self, name: str, chunks: Iterable[bytes]) -> None:
        self.before("save")
        self._objects.save(name, chunks)
        self.after("save")

    def replace(self, name: str, data: bytes, old: Content | None) -> bool:
        self.before("replace")
        done = self._objects.replace(name, data, old)
        self.after("replace")
        return done

    def delete(self, names: Sequence[str]) -> None:
        # One by one: it may stop between any two.
        for name in names:
            self.before("delete")
            self._objects.delete([name])
            self.after("delete")


class Faulty(Proxy):
    """Raises `error` at the operation with this number, from 1 on: before, after or amid it.

    With `is_the_end` every later operation raises it too, as when the machine is gone.
    """

    def __init__(
        self, objects: Objects, number: int, when: str, error: BaseException, *, is_the_end: bool
    ) -> None:
        super().__init__(objects)
        self._number = number
        self._when = when
        self._error = error
        self._is_the_end = is_the_end
        self._lock = threading.Lock()
        self._started = 0
        self._mine = threading.local()
        self.has_failed = False

    def before(self, operation: str) -> None:
        with self._lock:
            self._started += 1
            self._mine.number = self._started
            if self.has_failed and self._is_the_end:
                raise self._error
        if self._when == "before":
            self._fail()

    def after(self, operation: str) -> None:
        if self._when == "after":
            self._fail()

    def save(self, name: str, chunks: Iterable[bytes]) -> None:
        super().save(name, self._cut(chunks) if self._when == "amid" else chunks)

    def _cut(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            yield chunk[:1]
            self._fail()
            yield chunk[1:]

    def _fail(self) -> None:
        if self._mine.number == self._number:
            self.has_failed = True
            raise self._error


class Meanwhile(Proxy):
    """Does something else once, before the operation of this kind with this number, from 1 on."""

    def __init__(
        self,
        objects: Objects,
        operation: str,
        something: Callable[[], object],
        *,
        number: int = 1,
    ) -> None:
        super().__init__(objects)
        self._operation = operation
        self._something = something
        self._lock = threading.Lock()
        self._left = number
        self.has_happened = False

    def before(self, operation: str) -> None:
        with self._lock:
            if operation == self._operation:
                self._left -= 1
                if self._left == 0:
                    self._something()
                    self.has_happened = True


class Aged(Proxy):
    """The same objects, and some of them look older than they are."""

    def __init__(
        self, objects: Objects, is_old: Callable[[Entry], bool], age: timedelta = timedelta(100)
    ) -> None:
        super().__init__(objects)
        self._is_old = is_old
        self._age = age

    def entries(self, folder: str) -> Iterator[Entry]:
        for entry in super().entries(folder):
            modified = entry.modified - (self._age if self._is_old(entry) else timedelta())
            yield dataclasses.replace(entry, modified=modified)
