"""Programs that are servers: started in a folder, ready before anybody uses them, stopped after."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_STARTS_WITHIN = 120.0
"""Seconds; on a busy machine node, moto and Spark take their time."""
_STOPS_WITHIN = 10.0


class ServerNotReadyError(Exception):
    """A server did not start; what it said."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tied(end: signal.Signals, *options: str) -> list[str]:
    """What goes before a command that gets `end` when the process that started it dies.

    `options` are for setpriv, which is in every Linux. Elsewhere nothing ties.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        assert not options, "setpriv is not on the PATH: install util-linux"
        return []
    return [setpriv, "--pdeathsig", end.name.removeprefix("SIG"), *options, "--"]


@contextmanager
def running(
    command: Sequence[str],
    folder: Path,
    ready: str | int,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[re.Match[str]]:
    """Run a server in `folder`, from when it is ready.

    It is once the port `ready` takes connections, or else once its output has that regular
    expression in it, whose match it is then; for a port it is the match of nothing.
    """
    log = folder / "server.log"
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)}
    # A file: a pipe that nobody reads is full one day, and then the server stands still.
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _wait(process, log, ready)
    finally:
        process.send_signal(stop)
        try:
            process.wait(_STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], log: Path, ready: str | int) -> re.Match[str]:
    deadline = time.monotonic() + _STARTS_WITHIN
    while True:
        ended = process.poll() is not None
        said = log.read_text(encoding="utf-8", errors="replace")
        if isinstance(ready, str):
            match = re.search(ready, said)
        else:
            match = re.match("", said) if not ended and _listens(ready) else None
        if match is not None:
            return match
        if ended or time.monotonic() > deadline:
            raise ServerNotReadyError(f"{process.args!r} is not ready: {said[-2000:]}")
        time.sleep(0.02)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
