"""Where bundles live: the Store protocol, and `open_store`, which finds the store of a URI.

A store is one file beside this one. It differs from the others only in how it lists commits,
gets and puts a bundle; which commit to take is decided by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from ci_defer.account import Account
from ci_defer.bundle import Bundle
from ci_defer.errors import ConfigurationError, NotAvailableYet
from ci_defer.log import Log
from ci_defer.stores.altimate import Registry, service
from ci_defer.stores.artifact import ArtifactStore, Rest
from ci_defer.stores.directory import DirectoryStore
from ci_defer.web import Web

ARTIFACT = "artifact"
ALTIMATE = "altimate"
OBJECT_STORES = ("s3://", "gs://", "az://")


class Store(Protocol):
    """Bundles of one dbt project, keyed by the full object id of their commit."""

    @property
    def location(self) -> str:
        """Where the bundles are, as a person would write it."""
        ...

    def commits(self) -> Iterator[str]:
        """The commits that have a bundle, listed as they are asked for, maybe more than once.

        Raises CiDeferError when the store cannot be read.
        """
        ...

    def absence(self, commit: str) -> str:
        """Why `commits` did not list `commit`, as a sentence; empty when nothing is known of it."""
        ...

    def get(self, commit: str, to: Path, *, project_name: str) -> Bundle:
        """Copy the bundle of `commit` into the empty directory `to`, and verify it.

        `commit` is one that `commits` has listed. Raises InvalidBundle when the bundle is
        damaged, gone, or not of this project.
        """
        ...

    def put(self, bundle: Bundle) -> str:
        """Save a bundle with provenance, replacing the one of the same commit; say where.

        A reader sees the old bundle or the new one, never a mixture. When it raises, the store
        holds what it held.
        """
        ...


@runtime_checkable
class Latest(Protocol):
    """A place with one state in it, of whatever commit that is.

    `is_comparable` says whether a pull request may be compared with it; production's relations are
    read from it in any case.
    """

    is_comparable: bool

    @property
    def location(self) -> str:
        """Where the state is, as a person would write it."""
        ...

    def get(self, to: Path, *, project_name: str) -> Bundle:
        """Copy the state into the empty directory `to`, and check it.

        Raises StateNotFound when there is none, InvalidBundle when it is damaged or not of this
        project.
        """
        ...


class Destination(Protocol):
    """Where onboard publishes to."""

    @property
    def location(self) -> str:
        """Where the states are, as a person would write it."""
        ...

    def put(self, bundle: Bundle) -> str:
        """Save a bundle, and say where. Raises CiDeferError."""
        ...


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a store may need of the run it is in.

    `branch` is the one whose states count, `outbox` a directory that outlives this process on a
    runner, `rest` the REST API; the last two are None outside of a workflow run. `account` finds
    the one at the Altimate registry, and is asked only for that.
    """

    branch: str
    is_on_enterprise_server: bool
    outbox: Path | None
    rest: Rest | None
    log: Log
    account: Callable[[], Account]


def open_store(uri: str, project: str, around: Surroundings) -> Store | Registry:
    """The store at `uri` for the bundles of `project`, the value of the setting `state`.

    Raises ConfigurationError when the URI is of no store, NotAvailableYet when it is of one that
    this version does not have.
    """
    if uri == ARTIFACT and around.is_on_enterprise_server:
        raise ConfigurationError(
            "Workflow artifacts (state: artifact) do not work on GitHub Enterprise Server: the "
            "current artifact actions do not support it.",
            "Set state to an object store, such as s3://bucket/prefix, or to a directory.",
        )
    if uri == ARTIFACT:
        return ArtifactStore(
            project, branch=around.branch, outbox=around.outbox, rest=around.rest, log=around.log
        )
    if uri == ALTIMATE:
        return open_registry(around.account(), around.log)
    if uri.startswith(OBJECT_STORES):
        raise NotAvailableYet(f"state: {uri}", "Use state: artifact or a directory.")
    if "://" in uri:
        raise ConfigurationError(
            f"state: {uri} is not a kind of store that ci-defer knows.",
            f"Use {ARTIFACT}, {ALTIMATE}, s3://…, gs://…, az://… or a directory.",
        )
    return DirectoryStore(Path(uri).resolve(), project)


def open_registry(account: Account, log: Log) -> Registry:
    """The Altimate registry, for one account."""
    return Registry(account, Web(service(account.instance), account.token, log=log), log)
