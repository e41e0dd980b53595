"""Running dbt, behind one small interface.

Owns how dbt is called. Knows nothing of stores, reports or GitHub, never imports dbt, and reads
its artifacts only as JSON. `Engine` is the interface, `commands` the implementation that works
with any `dbt`, `process` the only place that starts it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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
class Plan:
    """The unique ids that dbt selected, in dbt's order. Empty when dbt failed."""

    invocation: Invocation
    unique_ids: tuple[str, ...]


@dataclass(frozen=True)
class Operation:
    """One `dbt run-operation` that has ended, and every line that it printed."""

    invocation: Invocation
    output: tuple[str, ...]


class Engine(Protocol):
    """What ci-defer needs of dbt. Every method raises DbtNotFound when there is none to run."""

    def deps(self) -> Invocation:
        """Install the packages of the project."""
        ...

    def parse(self) -> Invocation:
        """Write manifest.json without touching the warehouse."""
        ...

    def plan(self, selection: Selection) -> Plan:
        """List the selected nodes, without touching the warehouse."""
        ...

    def clone(self, selection: Selection) -> Invocation:
        """Clone the selected nodes from the state's relations. Writes run_results.json."""
        ...

    def run_operation(self, macro: str) -> Operation:
        """Run a macro of the project; what it prints is kept, and shown only when it fails."""
        ...

    def build(self, selection: Selection) -> Invocation:
        """Build the selected nodes. Writes manifest.json and run_results.json."""
        ...
