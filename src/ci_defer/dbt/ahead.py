"""The engine for dbt v2: its build parses the project while the plan is made, and waits for it.

dbt v2 parses anew with every command, and a plan and a build are two. It reads what it compares
with when it has parsed, and before that it can select nothing. So the build is started before the
plan, as soon as it is likely that there will be one, and told to compare with a manifest.json that
is a pipe: it goes on when something is written to that. Where nothing is, it has done nothing yet
and can be killed. It opens manifest.json before all else of a state (2.0.0-preview.196, by strace),
so the rest of it may come later.

Knows of dbt v2 only that it is no script, and what it takes of a state that is deferred to. Another
program that reads the state earlier waits earlier, and one that does not wait is started again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import msgspec

from ci_defer.bundle import MANIFEST
from ci_defer.dbt import Built, Invocation, Plan, SavedParse, Selection, process
from ci_defer.dbt.commands import CommandEngine

SCRIPT = b"#!"
# What dbt defers to. What else there is in a manifest takes time and memory to read.
IS_DEFERRED_TO = ("model.", "seed.", "snapshot.")
KEPT = frozenset({"metadata", "functions"})
EMPTY = {b"{": b"{}", b"[": b"[]"}
# Where Linux keeps files in memory. dbt v2 writes a file for each data test, and to create so many
# on a disk can take half as long as all the rest of a plan.
IN_MEMORY = Path("/dev/shm")  # noqa: S108 - tempfile makes the folder in it, for us alone.
# What a plan may take there, by the size of the manifest that it is compared with: its manifest and
# a page for each data test took 1.8 times that.
ROOM = 4

# The folder of what is deferred to, beside the one of the gate.
DEFERRED_TO = "deferred-to"

# The selectors that dbt cannot resolve without a state: with these it has to wait.
OF_STATE = "state:"


class Gate:
    """The folder `to` of a state whose manifest.json cannot be read before it is opened."""

    def __init__(self, to: Path) -> None:
        self.directory = to
        self._manifest: Path | None = None
        self._file: IO[bytes] | None = None
        self._rest = b""
        to.mkdir()
        os.mkfifo(to / MANIFEST)
        # Held open for both, by one process: nobody waits for the other side, and who reads sees
        # the end when this process is gone.
        self._pipe = os.open(to / MANIFEST, os.O_RDWR | os.O_NONBLOCK)

    def lead_to(self, state: Path) -> None:
        """Have it open to that state: all else that is in its folder can be read from now on."""
        self._manifest = state / MANIFEST
        _link_others(state, self.directory)

    def open(self) -> None:
        """From now on who opens the file gets it as it is, and who waits gets what is given."""
        if self._manifest is None:
            raise RuntimeError("A gate has to lead somewhere before it is opened.")
        self._file = self._manifest.open("rb")
        link = self.directory / f"{MANIFEST}.new"
        link.symlink_to(self._manifest)
        link.replace(self.directory / MANIFEST)

    def fileno(self) -> int:
        return self._pipe

    def give(self) -> bool:
        if not self._rest and self._file:
            self._rest = self._file.read(process.READ_SIZE)
        if not self._rest:
            return False
        with contextlib.suppress(BlockingIOError):
            self._rest = self._rest[os.write(self._pipe, self._rest) :]
        return True

    def close(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
        if self._file:
            self._file.close()
        self._pipe, self._file = -1, None


@dataclass
class _Ahead:
    """A build that waits. `gated` is what it was told, `planned` what that stands for.

    It was started for the words of a selection, before anybody knew the state.
    """

    folder: TemporaryDirectory[str]
    gate: Gate
    gated: Selection
    arguments: list[str]
    started: process.Started
    planned: Selection | None = None

    def can_be(self, selection: Selection) -> bool:
        """Whether it can become the build of this selection: its words are that, and it waits."""
        words = replace(selection, state=self.gated.state, defer_state=self.gated.defer_state)
        return words == self.gated and self.planned is None and not self.started.has_ended

    def is_of(self, selection: Selection) -> bool:
        """Whether it has become the build of this selection, and waits."""
        return self.planned == selection and not self.started.has_ended

    def lead_to(self, state: Path, selection: Selection) -> None:
        """Have it compare with that state when the gate is opened, and defer as it should."""
        self.gate.lead_to(state)
        deferred_to = Path(self.folder.name, DEFERRED_TO)
        _copy_for_deferral(selection.defer_state or state, deferred_to)
        self.planned = selection

    def end(self) -> None:
        self.started.kill()
        self.close()

    def close(self) -> None:
        self.gate.close()
        self.folder.cleanup()


class AheadEngine(CommandEngine):
    """Commands, of which a build of dbt v2 begins before its plan. To be closed."""

    _ahead: _Ahead | None = None
    _folder_of_plan: TemporaryDirectory[str] | None = None

    def start(self, selection: Selection | None) -> None:
        if selection:
            self._start_ahead(selection)

    def plan(self, selection: Selection, saved: SavedParse | None = None) -> Plan:
        self._forget_plan()
        state = selection.state
        if not (state and self._ahead and self._ahead.can_be(selection)):
            self._stop()
        ahead = self._start_ahead(selection) if state else None
        if state is None or ahead is None:
            return super().plan(selection, saved)
        ahead.lead_to(state, selection)
        room = ROOM * (state / MANIFEST).stat().st_size
        self._folder_of_plan = TemporaryDirectory(prefix="ci-defer-", dir=_in_memory(room))
        # The two of them would write the same files.
        settings = replace(self._settings, target_path=Path(self._folder_of_plan.name, "target"))
        return CommandEngine(
            settings,
            environ=self._environ,
            console=self._console,
            interrupts=self._interrupts,
            search_path=self._search_path,
        ).plan(selection)

    def clone(self, selection: Selection) -> Invocation:
        # It writes where the build does, and into what that may have looked at.
        self._stop()
        return super().clone(selection)

    def build(self, selection: Selection) -> Built:
        ahead = self._ahead
        if ahead and ahead.is_of(selection):
            selection = ahead.gated
        else:
            self._stop()
        return super().build(selection)

    def close(self) -> None:
        self._stop()
        if self._folder_of_plan:
            # Without a build, the manifest of the plan is what dbt has to show.
            made_in = Path(self._folder_of_plan.name, "target")
            if (made_in / MANIFEST).is_file() and not self._manifest.exists():
                self._move_manifest(made_in)
        self._forget_plan()

    def _move_manifest(self, made_in: Path) -> None:
        """Bring the manifest to where it would have been made, with paths as it would have then."""
        old, new = (
            f'"{os.path.relpath(folder, self._settings.project_dir)}/'.encode()
            for folder in (made_in, self._settings.target_path)
        )
        self._manifest.parent.mkdir(parents=True, exist_ok=True)
        self._manifest.write_bytes((made_in / MANIFEST).read_bytes().replace(old, new))

    def _start_ahead(self, selection: Selection) -> _Ahead | None:
        """The build that waits: the one that does, or a new one where it would wait."""
        if self._ahead:
            return self._ahead
        program = self._find_program()
        waits = any(OF_STATE in word for word in selection.select)
        if not (waits and _is_binary(Path(program))):
            return None
        folder = TemporaryDirectory(prefix="ci-defer-")
        gate = Gate(Path(folder.name, "state"))
        deferred_to = Path(folder.name, DEFERRED_TO)
        gated = replace(selection, state=gate.directory, defer_state=deferred_to)
        arguments = self._arguments("build", *self._flags_of_build(gated))
        try:
            started = process.Started(
                [program, *arguments],
                cwd=self._settings.working_directory,
                environ=self._environ,
                interrupts=self._interrupts,
            )
        except OSError:
            # The plan will say so.
            gate.close()
            folder.cleanup()
            return None
        self._ahead = _Ahead(folder, gate, gated, arguments, started)
        return self._ahead

    def _start(
        self,
        program: str,
        arguments: list[str],
        *,
        write: Callable[[bytes], None] | None,
        keep_lines: int | None,
    ) -> process.Ended:
        ahead = self._ahead
        if ahead is None or arguments != ahead.arguments:
            return super()._start(program, arguments, write=write, keep_lines=keep_lines)
        self._ahead = None
        with contextlib.closing(ahead):
            ahead.gate.open()
            return ahead.started.wait(write, keep_lines, ahead.gate)

    def _forget_plan(self) -> None:
        if self._folder_of_plan:
            self._folder_of_plan.cleanup()
            self._folder_of_plan = None

    def _stop(self) -> None:
        """End a build that was started and not asked for."""
        if self._ahead:
            self._ahead.end()
            self._ahead = None


def _link_others(state: Path, to: Path) -> None:
    """Put all that is in a folder into another one, but for its manifest.json."""
    for path in state.iterdir():
        if path.name != MANIFEST:
            (to / path.name).symlink_to(path)


def _copy_for_deferral(state: Path, to: Path) -> None:
    to.mkdir()
    _link_others(state, to)
    (to / MANIFEST).write_bytes(_for_deferral((state / MANIFEST).read_bytes()))


def _for_deferral(manifest: bytes) -> bytes:
    """Of a manifest.json, what can be deferred to; all of it when it is not what we take it for."""
    try:
        document = msgspec.json.decode(manifest, type=dict[str, msgspec.Raw])
        nodes = msgspec.json.decode(document["nodes"], type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, KeyError):
        return manifest
    # It wants every field of the document to be there.
    kept = {name: raw if name in KEPT else _empty(raw) for name, raw in document.items()}
    deferred = {name: node for name, node in nodes.items() if name.startswith(IS_DEFERRED_TO)}
    return msgspec.json.encode({**kept, "nodes": deferred})


def _empty(value: msgspec.Raw) -> msgspec.Raw:
    """An object or an array without what is in it; anything else as it is."""
    return msgspec.Raw(EMPTY.get(bytes(value)[:1], bytes(value)))


def _in_memory(room: int) -> Path | None:
    """A folder whose files are kept in memory, with `room` for that many bytes; None without."""
    try:
        free = os.statvfs(IN_MEMORY)
    except OSError:
        return None
    has_room = free.f_bavail * free.f_frsize >= room
    return IN_MEMORY if has_room and os.access(IN_MEMORY, os.W_OK) else None


def _is_binary(program: Path) -> bool:
    try:
        with program.open("rb") as file:
            return file.read(len(SCRIPT)) != SCRIPT
    except OSError:
        # One that may be run and not be read.
        return False
