"""Starting dbt, passing its output through as it comes, and passing signals on to it.

The only place beside `git` that starts a process. Knows nothing of dbt but two things: SIGINT
makes it cancel its queries and write its results, SIGTERM kills it with the queries left running.
So both reach dbt as SIGINT.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, cast

SIGNALS = (signal.SIGINT, signal.SIGTERM)

# The runner of GitHub Actions sends SIGINT, after 7.5 s SIGTERM and after 2.5 s more SIGKILL:
# from the second signal on there is hardly time left to write the report.
GRACE_SECONDS = 1.0

# What dbt gets to cancel its queries when nobody is in a hurry.
PATIENCE_SECONDS = 10.0

TAIL_LINES = 400
READ_SIZE = 64 * 1024


@dataclass(frozen=True)
class Ended:
    """How a process ended. `output` holds its last lines, `interrupted` that we signalled it."""

    exit_code: int
    seconds: float
    output: tuple[str, ...]
    interrupted: bool


class Interrupts:
    """SIGINT and SIGTERM while a process of ours may be running.

    Used as a context manager around everything that must be tidied up: while it is active, a
    signal does not raise anywhere; it is remembered, and reaches the process that runs.
    """

    def __init__(self) -> None:
        self.received = 0
        self._passed_on = 0
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def handled(self) -> Iterator[Interrupts]:
        previous = {number: signal.signal(number, self._receive) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def attach(self, process: subprocess.Popen[bytes]) -> None:
        """From now on signals go to `process`; one that came while it started goes at once."""
        self._process = process
        if self.received > self._passed_on:
            self._forward()

    def detach(self) -> None:
        self._process = None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.received += 1
        self._forward()

    def _forward(self) -> None:
        if self._process is None:
            return
        self._passed_on = self.received
        if self.received == 1:
            _signal_group(self._process, signal.SIGINT)
        else:
            self._kill_after_grace()

    def _kill_after_grace(self) -> None:
        process = self._process
        if process is None:
            return
        _signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
        _signal_group(process, signal.SIGKILL)


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    environ: Mapping[str, str],
    interrupts: Interrupts,
    write: Callable[[bytes], None] | None,
    keep_lines: int | None = TAIL_LINES,
) -> Ended:
    """Run `command` to its end.

    Each chunk of its standard output and error goes to `write` as it comes, when there is one.
    The last `keep_lines` lines are kept, or all of them.
    Raises OSError when the program cannot be started.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # In a group of its own it gets Ctrl-C once, from us, and not from the terminal as well.
        start_new_session=True,
    )
    interrupts.attach(process)
    try:
        # stdout=PIPE makes it one.
        with cast("IO[bytes]", process.stdout) as output:
            lines = _pass_through(output, write, keep_lines)
        exit_code = process.wait()
    finally:
        interrupts.detach()
        _end(process)
    return Ended(exit_code, time.monotonic() - started, lines, interrupts.received > 0)


def _pass_through(
    output: IO[bytes], write: Callable[[bytes], None] | None, keep: int | None
) -> tuple[str, ...]:
    lines: deque[str] = deque(maxlen=keep)
    rest = b""
    # os.read returns what is there: output is shown when it comes, not when a buffer is full.
    while chunk := os.read(output.fileno(), READ_SIZE):
        if write:
            write(chunk)
        *whole, rest = (rest + chunk).split(b"\n")
        lines.extend(line.decode("utf-8", "replace") for line in whole)
    if rest:
        lines.append(rest.decode("utf-8", "replace"))
    return tuple(lines)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing behind when we fail ourselves, for example because the log was closed."""
    if process.poll() is None:
        _signal_group(process, signal.SIGINT)
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            _signal_group(process, signal.SIGKILL)
            process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    # The group is the process's own (start_new_session), so its id is the process's.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
