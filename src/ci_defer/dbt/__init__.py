"""Running dbt, behind one small interface.

Owns how dbt is called. Knows nothing of stores, reports or GitHub, never imports dbt, and reads
its artifacts only as JSON. `Engine` is the interface, `commands` the implementation that works
with any `dbt`, `process` the only place that starts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from ci_defer.bundle import ParseTerms
from ci_defer.dbt.output import error_message
from ci_defer.errors import Cancelled, DbtError, ProjectError


@dataclass(frozen=True)
class Selection:
    """What dbt is to select, and what it compares with and defers to.

    `select` and `exclude` are in dbt's selection syntax. `state` is a directory with the manifest
    to compare with, `defer_state` one with production's relations; None of both: no deferral.
    """

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    state: Path | None = None
    defer_state: Path | None = None
    favor_state: bool = False


@dataclass(frozen=True)
class Invocation:
    """One dbt command that has ended.

    `arguments` is the command line, `exit_code` is dbt's own (negative: killed by that signal),
    `seconds` is wall time, `tail` the last of what dbt printed, without colours. `interrupted`
    says that we passed a signal on to it.
    """

    arguments: tuple[str, ...]
    exit_code: int
    seconds: float
    tail: str
    interrupted: bool

    def check(self, doing: str, hint: str) -> None:
        """Raise unless dbt has done it: Cancelled, DbtError when killed, else ProjectError.

        `doing` completes the sentence "dbt cannot …".
        """
        if self.interrupted:
            raise Cancelled(f"Cancelled while dbt was to {doing}.")
        if self.exit_code < 0:
            raise DbtError(
                f"dbt was killed by signal {-self.exit_code}.",
                "Signal 9 is most often a lack of memory: try fewer threads or a larger runner.",
            )
        if self.exit_code:
            raise ProjectError(f"dbt cannot {doing}: {error_message(self.tail)}", hint)


@dataclass(frozen=True)
class SavedParse:
    """A partial parse of another checkout, from which dbt may go on instead of parsing in full.

    `texts` is a file with the digests of what it was made from, `stands_for` the folder with the
    manifest.json of the same parse.
    """

    file: Path
    texts: Path
    stands_for: Path
    terms: ParseTerms


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """What a command of dbt was connected to, and the versions of what it ran."""

    schema: str
    database: str | None = None
    versions: Mapping[str, str] = {}


@dataclass(frozen=True)
class Parsed:
    """A `dbt parse`. `in_full` says why it did not go on from a saved parse that it was given.

    `connection` is None where the engine cannot tell it.
    """

    invocation: Invocation
    in_full: str = ""
    connection: Connection | None = None


@dataclass(frozen=True)
class Plan:
    """The unique ids that dbt selected, in dbt's order. Empty when dbt failed.

    `manifest` is the file with dbt's manifest; `is_difference` says that it has only what is other
    than in the manifest that a saved parse stands for. `parsed_in_full` says why dbt did not go on
    from a saved parse that it was given.
    """

    invocation: Invocation
    unique_ids: tuple[str, ...]
    manifest: Path
    is_difference: bool = False
    parsed_in_full: str = ""


@dataclass(frozen=True)
class Built:
    """A `dbt build`. `manifest` is the file with what was compiled, if dbt came that far."""

    invocation: Invocation
    manifest: Path


@dataclass(frozen=True)
class Operation:
    """One `dbt run-operation` that has ended, and every line that it printed."""

    invocation: Invocation
    output: tuple[str, ...]


class Engine(Protocol):
    """What ci-defer needs of dbt. Every method raises DbtNotFound when there is none to run."""

    def start(self, selection: Selection | None) -> None:
        """Begin with what takes long before the plan, while others work.

        `selection` is what is going to be planned, without the state: that may not be known yet.
        It is None as long as the project cannot be parsed. Nothing is built, no connection opened.
        """
        ...

    def saves_parses(self) -> bool:
        """Whether dbt can go on from a saved parse here, as far as can be told without it."""
        ...

    def deps(self) -> Invocation:
        """Install the packages of the project."""
        ...

    def parse(self, saved: SavedParse | None = None) -> Parsed:
        """Write manifest.json without touching the warehouse, if it can be from a saved parse."""
        ...

    def plan(self, selection: Selection, saved: SavedParse | None = None) -> Plan:
        """List the selected nodes, without touching the warehouse. Writes manifest.json."""
        ...

    def clone(self, selection: Selection) -> Invocation:
        """Clone the selected nodes from the state's relations. Writes run_results.json."""
        ...

    def run_operation(self, macro: str) -> Operation:
        """Run a macro of the project; what it prints is kept, and shown only when it fails."""
        ...

    def build(self, selection: Selection) -> Built:
        """Build the selected nodes. Writes run_results.json, and until `close` manifest.json."""
        ...

    def close(self) -> None:
        """End what is left running. To be called when an engine is not needed any more."""
        ...
