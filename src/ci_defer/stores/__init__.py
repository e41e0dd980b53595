"""Where bundles live: the Store protocol, and `open_store`, which finds the store of a URI.

A store is one file beside this one, and a line in `open_store` or `open_objects`. It differs from
the others only in how it lists commits, gets and puts a bundle; which commit to take is decided by
the caller. A place for named objects needs even less: `bundles` makes a store of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ci_defer.account import Account
from ci_defer.bundle import Bundle
from ci_defer.errors import ConfigurationError
from ci_defer.footprint import Footprint
from ci_defer.log import TransferLog
from ci_defer.stores.artifact import ArtifactStore, Rest
from ci_defer.stores.bundles import BundleStore
from ci_defer.stores.directory import Directory
from ci_defer.stores.footprints import ArtifactFootprints, NoFootprints, ObjectFootprints
from ci_defer.stores.objects import Objects
from ci_defer.stores.plain import PlainObject, find_plain_state

if TYPE_CHECKING:
    from ci_defer.stores.altimate import Registry

ARTIFACT = "artifact"
ALTIMATE = "altimate"
BUCKETS = ("s3", "gs", "az")


class Store(Protocol):
    """Bundles of one dbt project, keyed by the full object id of their commit."""

    @property
    def location(self) -> str:
        """Where the bundles are, as a person would write it."""
        ...

    def commits(self, sought: str = "", /) -> Iterator[str]:
        """The commits that have a bundle, listed as they are asked for, maybe more than once.

        `sought` comes early when the store can tell quickly that it has it. Raises CiDeferError
        when the store cannot be read.
        """
        ...

    def newest(self) -> Iterator[str]:
        """The commits that have a bundle, the newest first. Raises CiDeferError as `commits`."""
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


def is_comparable(place: Store | Latest | Destination) -> bool:
    """Whether pull requests are compared with what is there."""
    return not isinstance(place, Latest) or place.is_comparable


class Footprints(Protocol):
    """What the runs of pull requests have built, of one dbt project. All raise CiDeferError."""

    def save(self, footprint: Footprint) -> None:
        """Keep what a run is about to build, replacing what the same run has saved before."""
        ...

    def of(self, pull_request: int, /) -> list[Footprint]:
        """All that is kept of a pull request; what is damaged is passed over with a warning."""
        ...

    def forget(self, pull_request: int, /) -> None:
        """Remove what is kept of a pull request, where that does not go by itself."""
        ...


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a store may need of the run it is in.

    `branch` is the one whose states count, `target` production's, None when nobody said it.
    `outbox` is a directory that outlives this process on a runner, `rest` the REST API; both are
    None outside of a workflow run. `account` finds the one at the Altimate registry, and is asked
    only for that. `is_ancestor(a, b)` says whether commit a is known to be in the history of b.
    `environ` has the credentials for buckets.
    """

    branch: str
    target: str | None
    is_on_enterprise_server: bool
    outbox: Path | None
    rest: Rest | None
    log: TransferLog
    account: Callable[[], Account]
    is_ancestor: Callable[[str, str], bool]
    environ: Mapping[str, str]


def open_source(uri: str, project: str, around: Surroundings) -> Store | Latest:
    """What defer reads at `uri`: a state that is there by other means, or a store.

    Raises ConfigurationError.
    """
    if _is_plain_object(uri):
        folder, _, name = uri.rpartition("/")
        return PlainObject(open_objects(folder, around.environ), name)
    return find_plain_state(uri) or open_store(uri, project, around)


def open_store(uri: str, project: str, around: Surroundings) -> Store | Registry:
    """The store at `uri` for the bundles of `project`, the value of the setting `state`.

    Raises ConfigurationError when the URI is of no store, or of one that cannot be opened here.
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
    if _is_plain_object(uri):
        raise ConfigurationError(
            f"state: {uri} is one manifest, so it is no store to publish to.",
            "Name a prefix: ci-defer keeps a state for every commit below it.",
        )
    return BundleStore(
        open_objects(uri, around.environ),
        project,
        target=around.target,
        branch=around.branch,
        is_ancestor=around.is_ancestor,
        log=around.log,
    )


def open_footprints(
    uri: str,
    project: str,
    around: Surroundings,
    announce: Callable[[Mapping[str, str]], None],
) -> Footprints:
    """Where the footprints of pull requests are kept, with the setting `state` at `uri`.

    `announce` sets outputs of this step, for the one that uploads artifacts. Raises
    ConfigurationError.
    """
    if around.outbox and not around.is_on_enterprise_server:
        return ArtifactFootprints(
            project, outbox=around.outbox, rest=around.rest, announce=announce, log=around.log
        )
    if uri in (ARTIFACT, ALTIMATE) or _is_plain_object(uri) or find_plain_state(uri):
        return NoFootprints(around.log)
    return ObjectFootprints(open_objects(uri, around.environ), project, around.log)


def open_objects(uri: str, environ: Mapping[str, str]) -> Objects:
    """The place at `uri` that keeps named objects. Raises ConfigurationError."""
    scheme, separator, _ = uri.partition("://")
    if not separator:
        return Directory(Path(uri).resolve())
    if scheme in BUCKETS:
        # Its library is 15 MB, which a run without a bucket never loads.
        from ci_defer.stores.bucket import Bucket  # noqa: PLC0415

        return Bucket(uri, environ)
    raise ConfigurationError(
        f"state: {uri} is not a kind of store that ci-defer knows.",
        f"Use {ARTIFACT}, {ALTIMATE}, s3://…, gs://…, az://… or a directory.",
    )


def _is_plain_object(uri: str) -> bool:
    return uri.startswith(tuple(f"{scheme}://" for scheme in BUCKETS)) and uri.endswith(".json")


def open_registry(account: Account, log: TransferLog) -> Registry:
    """The Altimate registry, for one account."""
    # The libraries that speak HTTP take longer to load than all of ours.
    from ci_defer.stores.altimate import Registry, service  # noqa: PLC0415
    from ci_defer.web import Web  # noqa: PLC0415

    return Registry(account, Web(service(account.instance), account.token, log=log), log)
