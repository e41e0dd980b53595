"""Bundles as workflow artifacts of GitHub Actions.

Only the runner can upload an artifact, by an action: put leaves the bundle where the last step of
action.yml finds it. Reading goes through the REST API. Owns the name of the artifact, which
artifacts are trusted, and their limits.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ci_defer.archive import extract
from ci_defer.bundle import FILES, MAX_SIZE, STATE, Bundle, unpack
from ci_defer.errors import CiDeferError, ConfigurationError, InvalidBundle
from ci_defer.log import Log

# Only production's own runs: an artifact that a pull request's run made is its author's word.
TRUSTED_EVENTS = frozenset({"push", "schedule", "workflow_dispatch"})

# Manifests of 50,000 models have 500 MB and compress to a tenth.
MAX_ARCHIVE = 1024**3


class Rest(Protocol):
    """What this store needs of the REST API; paths are below the repository."""

    def get(self, path: str, **parameters: str | int) -> Any: ...

    def items(self, path: str, key: str, **parameters: str | int) -> Iterator[Any]: ...

    def download(self, path: str, to: Path, *, limit: int) -> str:
        """Save a file and return its SHA-256 in hex."""
        ...


class _Run(msgspec.Struct, frozen=True):
    """`workflow_run` of an artifact. A run of a fork has another head repository."""

    id: int
    repository_id: int
    head_repository_id: int
    head_branch: str
    head_sha: str


class _Artifact(msgspec.Struct, frozen=True):
    """An artifact as the REST API lists it, newest first."""

    id: int
    name: str
    expired: bool
    size_in_bytes: int
    workflow_run: _Run | None = None
    digest: str | None = None
    created_at: str | None = None


class ArtifactStore:
    """The artifacts of `project` that runs on `branch` have published.

    `outbox` is where a bundle waits for its upload, `rest` reads; each is None where there is no
    workflow run.
    """

    def __init__(
        self, project: str, *, branch: str, outbox: Path | None, rest: Rest | None, log: Log
    ) -> None:
        self.artifact_name = f"ci-defer-state-{project}"
        self._branch = branch
        self._outbox = outbox
        self._rest = rest
        self._log = log
        self._by_commit: dict[str, list[_Artifact]] = {}
        self._refused: dict[str, str] = {}

    @property
    def location(self) -> str:
        return f"artifact {self.artifact_name}"

    def commits(self, _sought: str = "") -> Iterator[str]:
        """The commits with a trusted artifact, newest first; a page is read when it is reached."""
        listing = self._reader().items("actions/artifacts", "artifacts", name=self.artifact_name)
        for entry in listing:
            artifact = self._trusted(entry)
            if artifact and artifact.workflow_run:
                commit = artifact.workflow_run.head_sha
                self._by_commit.setdefault(commit, []).append(artifact)
                yield commit

    def newest(self) -> Iterator[str]:
        return self.commits()

    def absence(self, commit: str) -> str:
        """An artifact that does not count, or a run that may still upload one."""
        if reason := self._refused.get(commit):
            return f"Its artifact does not count: {reason}."
        try:
            unfinished = self._unfinished_runs(commit)
        except CiDeferError as error:
            # It would only have been an explanation.
            self._log.info(f"The runs of commit {commit[:12]} cannot be listed: {error.message}")
            return ""
        if unfinished:
            return f"Workflow runs of it have not finished yet: {', '.join(sorted(unfinished))}."
        return ""

    def get(self, commit: str, to: Path, *, project_name: str) -> Bundle:
        """The newest sound artifact of the commit. Raises InvalidBundle when none is."""
        reasons = []
        for artifact in self._by_commit.get(commit, []):
            with tempfile.TemporaryDirectory(prefix="ci-defer-") as directory:
                folder = Path(directory)
                try:
                    self._fetch(artifact, folder / "archive.zip", folder)
                    bundle = unpack(folder, project_name=project_name)
                    _check_commit(bundle, commit)
                except CiDeferError as error:
                    reasons.append(self._passed_over(artifact.id, error.message))
                    continue
                # Moved into place only when all is well; verified once, as nobody else has `to`.
                (folder / "archive.zip").unlink()
                shutil.copytree(folder, to, dirs_exist_ok=True)
                return dataclasses.replace(bundle, directory=to)
        raise InvalidBundle(f"No artifact of commit {commit[:12]} can be used: {reasons[-1]}")

    def put(self, bundle: Bundle) -> str:
        """Copy the bundle for the upload step, and return the path of the copy."""
        if self._outbox is None:
            raise ConfigurationError(
                "Only a workflow run can publish to artifacts (state: artifact).", LOCAL_HINT
            )
        folder = tempfile.mkdtemp(prefix=f"{self.artifact_name}-", dir=self._outbox)
        shutil.copytree(bundle.directory, folder, dirs_exist_ok=True)
        return folder

    def _reader(self) -> Rest:
        if self._rest is None:
            raise ConfigurationError(
                "Artifacts (state: artifact) can only be read in a workflow run.", LOCAL_HINT
            )
        return self._rest

    def _trusted(self, entry: Any) -> _Artifact | None:
        """The artifact, unless it cannot be one of production; then the log says why."""
        try:
            artifact = msgspec.convert(entry, _Artifact)
        except msgspec.ValidationError as error:
            self._log.info(f"An artifact that GitHub lists is passed over: {error}.")
            return None
        if artifact.name != self.artifact_name:
            return None
        run = artifact.workflow_run
        reason = ""
        if artifact.expired:
            reason = "it has expired"
        elif run is None:
            reason = "its workflow run is gone"
        elif run.head_repository_id != run.repository_id:
            reason = "its run belongs to a fork"
        elif run.head_branch != self._branch:
            reason = f"its run is of branch {run.head_branch!r}, not of {self._branch!r}"
        if not reason:
            return artifact
        self._passed_over(artifact.id, reason)
        if run:
            self._refused.setdefault(run.head_sha, reason)
        return None

    def _unfinished_runs(self, commit: str) -> set[str]:
        """The names of production's workflow runs of the commit that may still upload."""
        listing = self._reader().items("actions/runs", "workflow_runs", head_sha=commit)
        return {
            str(run.get("name"))
            for run in listing
            if run.get("event") in TRUSTED_EVENTS
            and run.get("head_branch") == self._branch
            and run.get("status") != "completed"
        }

    def _passed_over(self, artifact_id: int, reason: str) -> str:
        self._log.info(f"Artifact {artifact_id} is passed over: {reason}.")
        return reason

    def _fetch(self, artifact: _Artifact, archive: Path, to: Path) -> None:
        """Download and unpack; the event of its run is asked for here, once for each candidate."""
        rest = self._reader()
        if artifact.workflow_run is None or artifact.size_in_bytes > MAX_ARCHIVE:
            raise InvalidBundle(f"it has {artifact.size_in_bytes:,} bytes")
        event = rest.get(f"actions/runs/{artifact.workflow_run.id}").get("event")
        if event not in TRUSTED_EVENTS:
            raise InvalidBundle(f"its run was started by {event!r}")
        sha256 = rest.download(f"actions/artifacts/{artifact.id}/zip", archive, limit=MAX_ARCHIVE)
        # Absent on artifacts of older upload actions.
        if artifact.digest and artifact.digest != f"sha256:{sha256}":
            raise InvalidBundle("its digest is not the one that GitHub lists")
        extract(archive, to, names={*FILES, STATE}, limit=MAX_SIZE)


LOCAL_HINT = "Set state to a directory, for example --state ../production-state."


def _check_commit(bundle: Bundle, commit: str) -> None:
    if bundle.provenance is None:
        raise InvalidBundle(f"it has no {STATE}")
    if bundle.provenance.origin.commit != commit:
        raise InvalidBundle(
            f"it says that it is of commit {bundle.provenance.origin.commit[:12]!r}"
        )
