"""The engine for dbt Core: all commands of a run in one process of the user's own dbt.

Starting dbt and parsing a project is most of what a run takes, so both are done once. `inside` is
the program that does it; this module finds the interpreter it needs, talks to it, and runs commands
one by one, as `commands` does, where that is not to be had. What the process is asked and what it
answers is declared here.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from ci_defer.dbt import Built, Connection, Parsed, Plan, SavedParse, Selection, inside
from ci_defer.dbt.ahead import AheadEngine
from ci_defer.dbt.process import Conversation, Ended
from ci_defer.errors import Cancelled

# The lines of the script that an installer makes of dbt Core's entry point. One with any other line
# has a reason of its own: a version manager's shim, a wrapper that sets variables, dbt v2.
ENTRY_POINT = b"from dbt.cli.main import cli"
LINE = re.compile(
    rb"\s*(?:#.*|' '''|import (?:re|sys)|from dbt\.cli\.main import cli|"
    rb"if __name__ == ['\"]__main__['\"]:|(?:el)?if sys\.argv\[0\]\.endswith\(.*\):|"
    rb"sys\.argv\[0\] = .*|(?:sys\.exit|raise SystemExit)\(cli\(\)\))?\s*"
)
SHEBANG = re.compile(rb"\A#!(?P<command>/[^\r\n]+)")
# Where the path of an interpreter is too long or holds a space, installers let a shell start it.
LONG_SHEBANG = re.compile(rb"\A#!/bin/sh\r?\n'''exec' (?P<command>[^\r\n]+?) \"\$0\" \"\$@\"\r?\n")
SCRIPT_LIMIT = 16 * 1024

# Commands that are of another project, or of none.
APART = frozenset({"deps", "run-operation"})
# Commands that can be run once more by another engine, because they change nothing.
HARMLESS = frozenset({"ls", "parse"})

# dbt's own code for what it has no other one for.
UNKNOWN = 2


class Ready(msgspec.Struct, frozen=True):
    """What the process says first. `why` says why it is not ready; `notices`, what is left out."""

    ready: bool
    version: str = ""
    why: str = ""
    notices: list[str] = []


class Ran(msgspec.Struct, frozen=True):
    """How a command ended. `parsed` says why the project was parsed in full, if it was.

    `distrusted` says why a saved parse must not have been used, `wrote` is the file with what is
    wanted of the manifest, when it was not written as a whole.
    """

    exit_code: int
    parsed: str = ""
    distrusted: str = ""
    wrote: str = ""
    connection: Connection | None = None


class Driver:
    """One process of dbt Core. Raises OSError when it cannot be started."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def ready(self) -> Ready:
        """Wait until it has imported dbt."""
        ended, answer = self._conversation.ask(b"", write=None)
        if answer is None:
            last = ended.output[-1] if ended.output else f"exit code {ended.exit_code}"
            return Ready(ready=False, why=last)
        try:
            return msgspec.json.decode(answer, type=Ready)
        except msgspec.MsgspecError as error:
            return Ready(ready=False, why=f"it does not say whether it is ready: {error}")

    @property
    def has_ended(self) -> bool:
        """Whether it has ended by itself, as when the system has no memory left."""
        return self._conversation.has_ended

    def run(
        self,
        arguments: list[str],
        saved: SavedParse | None,
        to: Path,
        *,
        write: Callable[[bytes], None] | None,
        keep_lines: int | None,
    ) -> tuple[Ended, Ran | None]:
        """Run a command; None instead of how it ended when the process ended with it.

        What is wanted of the manifest may be written to the file `to`.
        """
        request = {
            "arguments": arguments,
            "restore": _restore(saved) if saved else None,
            "to": str(to),
        }
        line = json.dumps(request).encode() + b"\n"
        ended, answer = self._conversation.ask(line, write=write, keep_lines=keep_lines)
        if answer is None:
            return ended, None
        try:
            ran = msgspec.json.decode(answer, type=Ran)
        except msgspec.MsgspecError as error:
            ran = Ran(exit_code=UNKNOWN, distrusted=f"its answer to dbt {arguments[0]}: {error}")
        return Ended(ran.exit_code, ended.seconds, ended.output, ended.interrupted), ran

    def abandon(self) -> None:
        """End it before it has run anything."""
        self._conversation.abandon()

    def close(self) -> int:
        """Let it write what it has put off; its exit code is not 0 when that failed."""
        return self._conversation.close()


def _restore(saved: SavedParse) -> dict[str, Any]:
    """What `inside.SavedParse` is told."""
    terms: dict[str, Any] = msgspec.to_builtins(saved.terms)
    paths = {"file": saved.file, "texts": saved.texts, "stands_for": saved.stands_for}
    return {**terms, **{name: str(path) for name, path in paths.items()}}


class DriverEngine(AheadEngine):
    """Runs the commands of dbt Core in one process, others as a child process each.

    To be closed: only then are all artifacts written.
    """

    _driver: Driver | None = None
    _folder: TemporaryDirectory[str] | None = None
    _is_launched = False
    _saved: SavedParse | None = None
    _ran = Ran(exit_code=0)

    def start(self, selection: Selection | None) -> None:
        self._launch(self._find_program())
        super().start(selection)

    def saves_parses(self) -> bool:
        return interpreter_of(Path(self._find_program())) is not None

    def parse(self, saved: SavedParse | None = None) -> Parsed:
        self._saved = saved
        made = super().parse()
        return Parsed(made.invocation, self._ran.parsed, self._ran.connection)

    def plan(self, selection: Selection, saved: SavedParse | None = None) -> Plan:
        self._saved = saved
        made = super().plan(selection)
        return replace(
            made,
            manifest=self._wrote or made.manifest,
            is_difference=self._wrote is not None,
            parsed_in_full=self._ran.parsed,
        )

    def build(self, selection: Selection) -> Built:
        made = super().build(selection)
        return replace(made, manifest=self._wrote or made.manifest)

    def close(self) -> None:
        if self._driver and not self._folder:
            self._driver.abandon()
        elif self._driver and self._driver.close() and not self._interrupts.received:
            self._console.info("dbt could not write all of its artifacts.")
        self._forget()
        super().close()

    def _forget(self) -> None:
        if self._folder:
            self._folder.cleanup()
        self._driver = self._folder = None

    @property
    def _wrote(self) -> Path | None:
        return Path(self._ran.wrote) if self._ran.wrote else None

    def _start(
        self,
        program: str,
        arguments: list[str],
        *,
        write: Callable[[bytes], None] | None,
        keep_lines: int | None,
    ) -> Ended:
        self._ran = Ran(exit_code=0)
        command = arguments[0]
        started = time.monotonic()
        driver = None if command in APART else self._open(program)
        if driver is None or self._folder is None:
            return super()._start(program, arguments, write=write, keep_lines=keep_lines)
        to = Path(self._folder.name, f"{command}.json")
        ended, ran = driver.run(arguments, self._saved, to, write=write, keep_lines=keep_lines)
        # With the time that was spent waiting for dbt to be imported.
        ended = replace(ended, seconds=time.monotonic() - started)
        can_repeat = command in HARMLESS and not ended.interrupted
        if ran and not (ran.distrusted and can_repeat):
            self._ran = ran
            return ended
        # Without an answer, the process has ended with the command.
        driver.close()
        self._forget()
        if not can_repeat:
            return ended
        why = ran.distrusted if ran else f"it ended with {ended.exit_code} in dbt {command}"
        self._notice(why)
        self._ran = Ran(exit_code=0, parsed=why if self._saved else "")
        return super()._start(program, arguments, write=write, keep_lines=keep_lines)

    def _open(self, program: str) -> Driver | None:
        """The process of dbt; None where there is none of this kind."""
        if self._driver and self._driver.has_ended:
            code = self._driver.close()
            self._notice(f"it ended with {code} while it had nothing to do")
            self._forget()
        self._launch(program)
        if self._driver is None or self._folder:
            return self._driver
        ready = self._driver.ready()
        if not ready.ready:
            self._driver.close()
            self._forget()
            if self._interrupts.received:
                raise Cancelled("Cancelled while dbt was started.")
            self._notice(ready.why)
            return None
        for notice in ready.notices:
            self._console.info(f"dbt {ready.version} takes longer than it could: {notice}")
        self._folder = TemporaryDirectory(prefix="ci-defer-")
        return self._driver

    def _launch(self, program: str) -> None:
        """Start the process, unless that was tried before."""
        if self._is_launched:
            return
        self._is_launched = True
        interpreter = interpreter_of(Path(program))
        if interpreter is None:
            return
        try:
            self._driver = Driver(
                Conversation(
                    [*interpreter, str(Path(inside.__file__)), program],
                    cwd=self._settings.working_directory,
                    environ=self._environ,
                    interrupts=self._interrupts,
                )
            )
        except OSError as error:
            self._notice(f"{interpreter[0]} cannot be started: {error.strerror}")

    def _notice(self, why: str) -> None:
        self._console.info(f"dbt is started anew for every command, which takes longer: {why}.")


def interpreter_of(program: Path) -> list[str] | None:
    """The command of the Python that an installed script of dbt Core is for; None for all else."""
    try:
        with program.open("rb") as file:
            script = file.read(SCRIPT_LIMIT)
    except OSError:
        return None
    found = LONG_SHEBANG.match(script) or SHEBANG.match(script)
    body = script[found.end() :].splitlines() if found else []
    if not found or ENTRY_POINT not in body or not all(map(LINE.fullmatch, body)):
        return None
    try:
        return shlex.split(found["command"].decode())
    except (ValueError, UnicodeDecodeError):
        return None
