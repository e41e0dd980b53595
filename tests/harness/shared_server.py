"""A server for all processes of a session: the first one starts it, and it ends with the last.

A process of its own holds it, so it does not matter which of them that is, nor how they end. What
is started is said by a module with `running`: a context manager with a dataclass of what clients
have to know. As a program, this file is that process.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.environments import ROOT
from tests.harness.fork_server import is_let_go, take


@contextmanager
def shared(folder: Path, module: str) -> Iterator[dict[str, Any]]:
    """The fields of what the `running` of `module` gives.

    All processes that name the same `folder` share one server.
    """
    folder.mkdir(exist_ok=True)
    leash = folder / "leash"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held = take(leash)
        if held is None:
            leash.unlink(missing_ok=True)
            os.mkfifo(leash)
            held = _start(leash, module)
    try:
        yield json.loads((folder / "fields.json").read_text(encoding="utf-8"))
    finally:
        os.close(held)


def _start(leash: Path, module: str) -> int:
    """Start a server, and return from where it is held when it is ready."""
    reading = os.open(leash, os.O_RDONLY | os.O_NONBLOCK)
    held = os.open(leash, os.O_WRONLY)
    # A file: what the server says when it ends is for nobody.
    with leash.with_name("log").open("w+b") as log:
        # This ends when the server is ready, and leaves that behind.
        started = subprocess.run(
            [sys.executable, "-m", __name__, str(leash.parent.absolute()), module],
            cwd=ROOT,
            stdin=reading,
            stdout=log,
            stderr=log,
            # Who ends the tests with ^C means them: this has to tidy up.
            start_new_session=True,
            check=False,
        )
        os.close(reading)
        if started.returncode:
            os.close(held)
            log.seek(0)
            raise AssertionError(log.read().decode())
    return held


def main(folder: str, module: str) -> None:
    """Leave a process behind that holds a server; end when that is ready."""
    ready, tell = os.pipe()
    # Before the server is started: it is tied to the process that does.
    if os.fork():
        os.close(tell)
        # Nothing comes when the other one has ended.
        os._exit(0 if os.read(ready, 1) else 1)
    os.close(ready)
    with import_module(module).running() as server:
        fields = json.dumps(dataclasses.asdict(server))
        Path(folder, "fields.json").write_text(fields, encoding="utf-8")
        os.write(tell, b"!")
        os.close(tell)
        while True:
            select.select((0,), (), ())
            if is_let_go(Path(folder)):
                return


if __name__ == "__main__":
    main(*sys.argv[1:])
