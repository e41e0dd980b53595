"""Starting dbt, passing its output through as it comes, and passing signals on to it.

The only place beside `git` that starts a process. Knows nothing of dbt but two things: SIGINT
makes it cancel its queries and write its results, SIGTERM kills it with the queries left running.
So both reach dbt as SIGINT.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Protocol, cast

SIGNALS = (signal.SIGINT, signal.SIGTERM)

# The runner of GitHub Actions sends SIGINT, after 7.5 s SIGTERM and after 2.5 s more SIGKILL:
# from the second signal on there is hardly time left to write the report.
GRACE_SECONDS = 1.0

# What dbt gets to cancel its queries when nobody is in a hurry.
PATIENCE_SECONDS = 10.0

# How soon a signal is seen where nothing else comes.
POLL_SECONDS = 0.1

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
    return Started(command, cwd=cwd, environ=environ, interrupts=interrupts).wait(write, keep_lines)


class Feed(Protocol):
    """Something that a process reads while it runs, in pieces as it takes them."""

    def fileno(self) -> int:
        """The descriptor to which it is written."""
        ...

    def give(self) -> bool:
        """Write what can be written without waiting; False when there was nothing left."""
        ...

    def close(self) -> None:
        """Let the process see that this was all."""
        ...


class Started:
    """A process that runs, and whose output is held back until somebody waits for its end.

    Raises OSError when it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        environ: Mapping[str, str],
        interrupts: Interrupts,
    ) -> None:
        self._interrupts = interrupts
        self._process = _spawn(command, cwd, environ)

    def wait(
        self,
        write: Callable[[bytes], None] | None,
        keep_lines: int | None = TAIL_LINES,
        feed: Feed | None = None,
    ) -> Ended:
        """Pass its output through until it ends, as `run` does. The seconds are those of this."""
        started = time.monotonic()
        self._interrupts.attach(self._process)
        try:
            # stdout=PIPE makes it one.
            with cast("IO[bytes]", self._process.stdout) as output:
                lines = _pass_through(output, write, keep_lines, feed)
            exit_code = self._process.wait()
        finally:
            self._interrupts.detach()
            _end(self._process)
        seconds = time.monotonic() - started
        return Ended(exit_code, seconds, lines, self._interrupts.received > 0)

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        """End it at once, before anybody has waited for it."""
        _signal_group(self._process, signal.SIGKILL)
        self._process.communicate()


class Conversation:
    """A process that answers requests, a line each, while its output is passed through.

    The program is told the descriptors of both as its last two arguments: it reads requests from
    the first and writes answers to the second. Raises OSError when it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        environ: Mapping[str, str],
        interrupts: Interrupts,
    ) -> None:
        self._interrupts = interrupts
        theirs_in, requests = os.pipe()
        answers, theirs_out = os.pipe()
        try:
            theirs = (theirs_in, theirs_out)
            self._process = _spawn([*command, *map(str, theirs)], cwd, environ, pass_fds=theirs)
        except OSError:
            os.close(requests)
            os.close(answers)
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self._requests = requests
        self._answers = os.fdopen(answers, "rb", buffering=0)
        # stdout=PIPE makes it one.
        self._output = cast("IO[bytes]", self._process.stdout)

    def ask(
        self,
        request: bytes,
        *,
        write: Callable[[bytes], None] | None,
        keep_lines: int | None = TAIL_LINES,
    ) -> tuple[Ended, bytes | None]:
        """Send a request, and pass the output through until it is answered.

        Without an answer the process has ended, and the exit code is its own; with one it is 0.
        An empty request asks for what the process says by itself.
        """
        started = time.monotonic()
        self._interrupts.attach(self._process)
        lines = Lines(keep_lines)
        try:
            with contextlib.suppress(BrokenPipeError):
                self._send(request)
            answer = self._listen(lines, write)
            exit_code = self._process.wait() if answer is None else 0
        except BaseException:
            _end(self._process)
            raise
        finally:
            self._interrupts.detach()
        seconds = time.monotonic() - started
        return Ended(exit_code, seconds, lines.end(), self._interrupts.received > 0), answer

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def close(self) -> int:
        """Let it end by itself, and return its exit code; what it still prints is not shown.

        It may have much to write, and is waited for as long as nobody is in a hurry.
        """
        os.close(self._requests)
        patience = None
        with self._answers, self._output, selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            while selector.get_map() and (patience is None or time.monotonic() < patience):
                if patience is None and self._interrupts.received:
                    patience = time.monotonic() + GRACE_SECONDS
                # A signal does not end this wait.
                if selector.select(POLL_SECONDS) and not os.read(self._output.fileno(), READ_SIZE):
                    selector.unregister(self._output)
            if selector.get_map():
                _signal_group(self._process, signal.SIGKILL)
            return self._process.wait()

    def abandon(self) -> None:
        """End it now: it was asked for nothing yet."""
        os.close(self._requests)
        with self._answers, self._output:
            _end(self._process)

    def _send(self, request: bytes) -> None:
        # A signal may cut a write short.
        while request:
            request = request[os.write(self._requests, request) :]

    def _listen(self, lines: Lines, write: Callable[[bytes], None] | None) -> bytes | None:
        answer = b""
        with selectors.DefaultSelector() as selector:
            for stream in (self._output, self._answers):
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                # An answer comes after the output that belongs to it: what is left of that is read.
                is_answered = answer.endswith(b"\n")
                ready = selector.select(0 if is_answered else None)
                if is_answered and all(key.fileobj is self._answers for key, _ in ready):
                    return answer
                for key, _ in ready:
                    chunk = os.read(key.fd, READ_SIZE)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is self._answers:
                        answer += chunk
                    else:
                        lines.add(chunk)
                        if write:
                            write(chunk)
        return answer if answer.endswith(b"\n") else None


class Lines:
    """Output as it comes, cut into lines, of which the last `keep` stay, or all."""

    def __init__(self, keep: int | None) -> None:
        self._lines: deque[str] = deque(maxlen=keep)
        self._rest = b""

    def add(self, chunk: bytes) -> None:
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        self._lines.extend(line.decode("utf-8", "replace") for line in whole)

    def end(self) -> tuple[str, ...]:
        if self._rest:
            self._lines.append(self._rest.decode("utf-8", "replace"))
            self._rest = b""
        return tuple(self._lines)


def _spawn(
    command: Sequence[str], cwd: Path, environ: Mapping[str, str], *, pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # In a group of its own it gets Ctrl-C once, from us, and not from the terminal as well.
        start_new_session=True,
        pass_fds=pass_fds,
    )


def _pass_through(
    output: IO[bytes],
    write: Callable[[bytes], None] | None,
    keep: int | None,
    feed: Feed | None,
) -> tuple[str, ...]:
    lines = Lines(keep)
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        if feed:
            selector.register(feed, selectors.EVENT_WRITE)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if feed and feed in ready and not feed.give():
                selector.unregister(feed)
                feed.close()
            if output not in ready:
                continue
            # It returns what is there: output is shown when it comes, not when a buffer is full.
            chunk = os.read(output.fileno(), READ_SIZE)
            if not chunk:
                return lines.end()
            lines.add(chunk)
            if write:
                write(chunk)


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
