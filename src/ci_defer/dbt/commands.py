"""The engine that works with any dbt: one process for each command.

Knows the flags that dbt Core 1.8+ and dbt v2 share, and nothing of their versions.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ci_defer.bundle import MANIFEST
from ci_defer.characters import strip_ansi
from ci_defer.dbt import (
    Built,
    Invocation,
    Operation,
    Parsed,
    Plan,
    SavedParse,
    Selection,
    arguments,
    process,
)
from ci_defer.dbt.output import listed_ids
from ci_defer.errors import Cancelled, DbtNotFound
from ci_defer.log import Console

# What a shell answers when there is no such program, or none that can be run: a version
# manager's shim is on the PATH for tools that are not installed, and exits with this.
NOT_FOUND = frozenset({126, 127})


@dataclass(frozen=True, kw_only=True)
class DbtSettings:
    """How every dbt command of a run is called. All paths are absolute.

    dbt looks for profiles.yml in `working_directory`, unless it is told where it is.
    """

    project_dir: Path
    target_path: Path
    working_directory: Path
    profiles_dir: Path | None = None
    target: str | None = None
    arguments: tuple[str, ...] = ()


class CommandEngine:
    """Runs `dbt` as a child process. `search_path` is a PATH; the environment's when None.

    --write-json goes with every command: we read the artifacts, whatever the environment says.
    """

    def __init__(
        self,
        settings: DbtSettings,
        *,
        environ: Mapping[str, str],
        console: Console,
        interrupts: process.Interrupts,
        search_path: str | None = None,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._console = console
        self._interrupts = interrupts
        self._search_path = search_path or environ.get("PATH", "")

    def start(self, selection: Selection | None) -> None:
        """There is nothing to begin with: each command starts by itself."""

    def saves_parses(self) -> bool:
        return False

    def deps(self) -> Invocation:
        return self._run("deps").invocation

    def close(self) -> None:
        """There is nothing left to be done: every command has ended."""

    def parse(self, saved: SavedParse | None = None) -> Parsed:
        del saved  # Only `driver` can make use of it.
        own = arguments.for_parse(self._settings.arguments)
        return Parsed(self._run("parse", *own, "--write-json").invocation)

    def plan(self, selection: Selection, saved: SavedParse | None = None) -> Plan:
        del saved
        ran = self._run(
            "ls",
            *_selecting(selection),
            *("--output", "json", "--output-keys", "unique_id"),
            *arguments.for_plan(self._settings.arguments),
            # Last, so that they win: the listing is read by us, a line of JSON for each node.
            *("--quiet", "--log-format", "text", "--write-json"),
            keep_output=True,
        )
        selected = () if ran.invocation.exit_code else listed_ids(ran.output)
        return Plan(ran.invocation, selected, self._manifest)

    def clone(self, selection: Selection) -> Invocation:
        # Without the last one dbt leaves what is there: the clone of an earlier run, changed since.
        flags = ["--select", *selection.select, "--state", str(selection.state), "--full-refresh"]
        # What is cloned was selected before, so no flag that selects belongs here either.
        own = arguments.for_parse(self._settings.arguments)
        return self._run("clone", *flags, *own, "--write-json").invocation

    def build(self, selection: Selection) -> Built:
        ran = self._run("build", *self._flags_of_build(selection))
        return Built(ran.invocation, self._manifest)

    def run_operation(self, macro: str) -> Operation:
        """Run a macro of the project; what it prints is for us, and shown only when it fails."""
        own = arguments.for_operation(self._settings.arguments)
        ran = self._run("run-operation", macro, *own, "--log-format", "text", keep_output=True)
        return Operation(ran.invocation, ran.output)

    def _run(self, command: str, *flags: str, keep_output: bool = False) -> _Ran:
        if self._interrupts.received:
            raise Cancelled("Cancelled before dbt was started.")
        command_line = ["dbt", *self._arguments(command, *flags)]
        program = self._find_program()
        self._console.info(f"+ {shlex.join(command_line)}")
        with self._console.passthrough() as write:
            try:
                ended = self._start(
                    program,
                    command_line[1:],
                    write=None if keep_output else write,
                    keep_lines=None if keep_output else process.TAIL_LINES,
                )
            except OSError as error:
                # A moved environment, a script without its interpreter, another architecture.
                raise DbtNotFound(
                    f"{program} cannot be started: {error.strerror}.", INSTALL_HINT
                ) from error
            if keep_output and ended.exit_code and not ended.interrupted:
                write("".join(f"{line}\n" for line in ended.output).encode())
        if ended.exit_code in NOT_FOUND:
            raise DbtNotFound(f"{program} cannot run dbt.", INSTALL_HINT)
        tail = strip_ansi("\n".join(ended.output[-process.TAIL_LINES :]))
        invocation = Invocation(
            tuple(command_line), ended.exit_code, ended.seconds, tail, ended.interrupted
        )
        return _Ran(invocation, ended.output)

    def _arguments(self, command: str, *flags: str) -> list[str]:
        settings = self._settings
        made = [command, "--project-dir", str(settings.project_dir)]
        if settings.profiles_dir:
            made += ["--profiles-dir", str(settings.profiles_dir)]
        if settings.target:
            made += ["--target", settings.target]
        if command != "deps":
            made += ["--target-path", str(settings.target_path)]
        return [*made, *flags]

    def _flags_of_build(self, selection: Selection) -> tuple[str, ...]:
        return (*_selecting(selection), *self._settings.arguments, "--write-json")

    @property
    def _manifest(self) -> Path:
        return self._settings.target_path / MANIFEST

    def _start(
        self,
        program: str,
        arguments: list[str],
        *,
        write: Callable[[bytes], None] | None,
        keep_lines: int | None,
    ) -> process.Ended:
        """Run one command to its end. Raises OSError when it cannot be started."""
        return process.run(
            [program, *arguments],
            cwd=self._settings.working_directory,
            environ=self._environ,
            interrupts=self._interrupts,
            write=write,
            keep_lines=keep_lines,
        )

    def _find_program(self) -> str:
        program = shutil.which("dbt", path=self._search_path)
        if program is None:
            raise DbtNotFound("There is no dbt on the PATH.", INSTALL_HINT)
        # The PATH may be relative, and dbt runs in another directory.
        return str(Path(program).absolute())


INSTALL_HINT = (
    "Set the input install, for example to `dbt-core~=1.11.0 dbt-duckdb`, or install dbt in a "
    "step before this one."
)


@dataclass(frozen=True)
class _Ran:
    invocation: Invocation
    output: tuple[str, ...]


def _selecting(selection: Selection) -> list[str]:
    flags: list[str] = []
    # dbt takes several values after one flag, each an alternative (union).
    if selection.select:
        flags += ["--select", *selection.select]
    if selection.exclude:
        flags += ["--exclude", *selection.exclude]
    if selection.state:
        flags += ["--state", str(selection.state), "--defer"]
        if selection.defer_state:
            flags += ["--defer-state", str(selection.defer_state)]
        if selection.favor_state:
            flags += ["--favor-state"]
    return flags
