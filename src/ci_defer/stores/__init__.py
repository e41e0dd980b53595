"""Where bundles live: the Store protocol, and `open_store`, which finds the store of a URI.

A store is one file beside this one. It differs from the others only in how it lists commits,
gets and puts a bundle; which commit to take is decided by the caller.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ci_defer.bundle import Bundle
from ci_defer.errors import ConfigurationError, NotAvailableYet
from ci_defer.stores.artifact import ArtifactStore
from ci_defer.stores.directory import DirectoryStore

ARTIFACT = "artifact"
ALTIMATE = "altimate"
OBJECT_STORES = ("s3://", "gs://", "az://")


class Store(Protocol):
    """Bundles of one dbt project, keyed by the full object id of their commit."""

    @property
    def location(self) -> str:
        """Where the bundles are, as a person would write it."""
        ...

    def commits(self) -> frozenset[str]:
        """The commits that have a bundle. Raises CiDeferError when the store cannot be read."""
        ...

    def get(self, commit: str, to: Path, *, project_name: str) -> Bundle:
        """Copy the bundle of `commit` into the empty directory `to`, and verify it.

        Raises InvalidBundle when it is damaged or not of this project.
        """
        ...

    def put(self, bundle: Bundle) -> str:
        """Save a bundle with provenance, replacing the one of the same commit; say where.

        A reader sees the old bundle or the new one, never a mixture. When it raises, the store
        holds what it held.
        """
        ...


def open_store(uri: str, project: str, *, outbox: Path | None) -> Store:
    """The store at `uri` for the bundles of `project`, the value of the setting `state`.

    `outbox` is a directory that outlives this process, on a runner of GitHub Actions.
    Raises ConfigurationError when the URI is of no store, NotAvailableYet when it is of one that
    this version does not have.
    """
    if uri == ARTIFACT:
        return ArtifactStore(project, outbox)
    if uri == ALTIMATE or uri.startswith(OBJECT_STORES):
        raise NotAvailableYet(
            f"state: {uri}", "Set state to a directory that both workflows can reach."
        )
    if "://" in uri:
        raise ConfigurationError(
            f"state: {uri} is not a kind of store that ci-defer knows.",
            f"Use {ARTIFACT}, {ALTIMATE}, s3://…, gs://…, az://… or a directory.",
        )
    return DirectoryStore(Path(uri).resolve(), project)
