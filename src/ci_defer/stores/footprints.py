"""Footprints of pull requests, kept until each one is closed: as workflow artifacts, or as objects.

Owns their names in either place, and which of them count. What is in a footprint, and what follows
from it, is decided in `ci_defer.footprint`.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from ci_defer.archive import extract
from ci_defer.errors import CiDeferError, ConfigurationError, InvalidFootprint
from ci_defer.footprint import MAX_SIZE, Footprint, decode, encode
from ci_defer.log import Log
from ci_defer.stores.objects import Missing, Objects

FOOTPRINT = "footprint.json"
# Beside the folders of projects, none of which may start with a dot.
FOLDER = ".pull-requests"
# JSON of names compresses to a tenth.
MAX_ARCHIVE = 20 * 1024**2
# The outputs that the upload step of action.yml reads.
ARTIFACT_NAME = "footprint-artifact-name"
ARTIFACT_PATH = "footprint-path"


class Rest(Protocol):
    """What this module needs of the REST API; paths are below the repository."""

    def items(self, path: str, key: str, **parameters: str | int) -> Iterator[Any]: ...

    def download(self, path: str, to: Path, *, limit: int) -> str: ...


class _Run(msgspec.Struct, frozen=True):
    """`workflow_run` of an artifact. A run of a fork has another head repository."""

    id: int
    repository_id: int
    head_repository_id: int


class _Artifact(msgspec.Struct, frozen=True):
    """An artifact as the REST API lists it."""

    id: int
    name: str
    expired: bool
    size_in_bytes: int
    workflow_run: _Run | None = None
    digest: str | None = None


class ArtifactFootprints:
    """An artifact of each run, named after the project and the pull request.

    `outbox` outlives this process on the runner, where a later step uploads what `announce` tells
    it. `rest` reads.
    """

    def __init__(
        self,
        project: str,
        *,
        outbox: Path,
        rest: Rest | None,
        announce: Callable[[Mapping[str, str]], None],
        log: Log,
    ) -> None:
        self._project = project
        self._outbox = outbox
        self._rest = rest
        self._announce = announce
        self._log = log

    def save(self, footprint: Footprint) -> None:
        name = self._name(footprint.pull_request)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._outbox))
        (folder / FOOTPRINT).write_bytes(encode(footprint))
        self._announce({ARTIFACT_NAME: name, ARTIFACT_PATH: str(folder / FOOTPRINT)})

    def of(self, pull_request: int) -> list[Footprint]:
        if self._rest is None:
            raise ConfigurationError(
                "What the runs of a pull request have built is in artifacts, which only a workflow "
                "run with a token can read.",
                "Check the input github-token.",
            )
        name = self._name(pull_request)
        found = []
        for entry in self._rest.items("actions/artifacts", "artifacts", name=name):
            try:
                artifact = msgspec.convert(entry, _Artifact)
            except msgspec.ValidationError as error:
                self._log.warning(f"An artifact that GitHub lists is passed over: {error}.")
                continue
            if artifact.name != name:
                continue
            try:
                footprint = _fetch(artifact, self._rest)
                _check(footprint, self._project, pull_request)
            except CiDeferError as error:
                self._log.warning(f"Artifact {artifact.id} is passed over: {error.message}")
                continue
            found.append(footprint)
        return found

    def forget(self, pull_request: int) -> None:
        """Artifacts expire by themselves: a job needs more rights to delete them."""

    def _name(self, pull_request: int) -> str:
        return f"ci-defer-footprint-{self._project}-{pull_request}"


class ObjectFootprints:
    """An object for each run of a pull request, beside the states in a bucket or a directory."""

    def __init__(self, objects: Objects, project: str, log: Log) -> None:
        self._objects = objects
        self._project = project
        self._log = log

    def save(self, footprint: Footprint) -> None:
        # On somebody's machine runs have no number. The second record of a run replaces the first.
        started = hashlib.sha256(footprint.created_at.encode()).hexdigest()[:16]
        run = quote(footprint.run_id, safe="") or f"local-{started}"
        attempt = quote(footprint.run_attempt, safe="") or "1"
        folder = self._folder(footprint.pull_request)
        self._objects.save(f"{folder}/{run}-{attempt}.json", [encode(footprint)])

    def of(self, pull_request: int) -> list[Footprint]:
        found = []
        for name in self._names(pull_request):
            try:
                footprint = decode(self._objects.read(name, MAX_SIZE).data)
                _check(footprint, self._project, pull_request)
            except Missing:
                # Somebody else has cleaned up meanwhile.
                continue
            except InvalidFootprint as error:
                self._log.warning(f"{name} is passed over: {error.message}")
                continue
            found.append(footprint)
        return found

    def forget(self, pull_request: int) -> None:
        self._objects.delete(self._names(pull_request))

    def _names(self, pull_request: int) -> list[str]:
        entries = self._objects.entries(self._folder(pull_request))
        # What a writer that died has left in a directory has another ending.
        return sorted(entry.name for entry in entries if entry.name.endswith(".json"))

    def _folder(self, pull_request: int) -> str:
        return f"{FOLDER}/{self._project}/{pull_request}"


class NoFootprints:
    """Where nothing can be kept: a pull request that is closed has to be parsed again."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def save(self, footprint: Footprint) -> None:
        self._log.info(
            f"What this run of pull request #{footprint.pull_request} builds is recorded nowhere: "
            "outside of a workflow run only where state is a bucket or a directory. `ci-defer "
            "cleanup` will have to parse the pull request again."
        )

    def of(self, _pull_request: int) -> list[Footprint]:
        return []

    def forget(self, pull_request: int) -> None:
        """There is nothing to forget."""


def _fetch(artifact: _Artifact, rest: Rest) -> Footprint:
    """Download, unpack and decode a footprint."""
    run = artifact.workflow_run
    if artifact.expired:
        raise InvalidFootprint("It has expired.")
    if run is None or run.head_repository_id != run.repository_id:
        raise InvalidFootprint("Its run belongs to a fork, or is gone.")
    if artifact.size_in_bytes > MAX_ARCHIVE:
        raise InvalidFootprint(f"It has {artifact.size_in_bytes:,} bytes.")
    with TemporaryDirectory(prefix="ci-defer-") as directory:
        folder = Path(directory)
        archive = folder / "archive.zip"
        sha256 = rest.download(f"actions/artifacts/{artifact.id}/zip", archive, limit=MAX_ARCHIVE)
        if artifact.digest and artifact.digest != f"sha256:{sha256}":
            raise InvalidFootprint("Its digest is not the one that GitHub lists.")
        extract(archive, folder, names={FOOTPRINT}, limit=MAX_SIZE)
        try:
            return decode((folder / FOOTPRINT).read_bytes())
        except FileNotFoundError:
            raise InvalidFootprint(f"There is no {FOOTPRINT} in it.") from None


def _check(footprint: Footprint, project: str, pull_request: int) -> None:
    if (footprint.project, footprint.pull_request) != (project, pull_request):
        raise InvalidFootprint(
            f"It says that it is of #{footprint.pull_request} in project {footprint.project!r}."
        )
