"""How test_reasons asks dbt: the server of a version of dbt Core, or the program of dbt v2.

Both know the same calls, which `reasons_dbt.Answers` describes.
"""

from __future__ import annotations

import fcntl
import json
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tests.e2e.reasons_project import Edit, NotApplicable, Project
from tests.environments import DBT_V2, clean_environ, dbt_bin

TIMEOUT = 120


class Refused(Exception):
    """dbt ended with an error."""


class Engine(Protocol):
    """Whatever answers for dbt."""

    def call(self, name: str, **arguments: Any) -> Any:
        """Raise Refused when dbt ends with an error."""
        ...


class Server:
    """A connection to the one process that answers for a version of dbt Core: see reasons_dbt."""

    def __init__(self, connection: socket.socket) -> None:
        self._stream = connection.makefile("rw", encoding="utf-8")

    def call(self, name: str, **arguments: Any) -> Any:
        self._stream.write(json.dumps({"call": name, **arguments}) + "\n")
        self._stream.flush()
        line = self._stream.readline()
        assert line, "dbt's process has ended"
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    def close(self) -> None:
        self._stream.close()


class Servers:
    """The servers of dbt Core, each started once for all workers of pytest-xdist.

    Starting one takes 15 seconds of CPU. The first worker that asks for a version starts it, and it
    ends when nobody is connected any more: see `reasons_dbt.serve`.
    """

    def __init__(self, shared: Path) -> None:
        self._shared = shared
        self._connections: dict[str, tuple[socket.socket, Server]] = {}
        self._started: list[subprocess.Popen[bytes]] = []

    def connect(self, version: str) -> Server:
        if version not in self._connections:
            address = self._shared / f"reasons-{version}"
            with address.with_suffix(".lock").open("w") as lock:
                # The last one to go ends the server under the same lock.
                fcntl.flock(lock, fcntl.LOCK_EX)
                connection = socket.socket(socket.AF_UNIX)
                try:
                    connection.connect(str(address))
                except OSError:
                    self._start(version, address)
                    connection.connect(str(address))
            self._connections[version] = (connection, Server(connection))
        return self._connections[version][1]

    def _start(self, version: str, address: Path) -> None:
        address.unlink(missing_ok=True)
        # Made here, so that it takes connections before the server is warm.
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(address))
            listener.listen()
            program = Path(__file__).with_name("reasons_dbt.py")
            process = subprocess.Popen(
                [dbt_bin(version) / "python", program, address, address.with_suffix(".lock")],
                cwd=self._shared,
                env=clean_environ(self._shared),
                stdin=listener.fileno(),
            )
        self._started.append(process)

    def close(self) -> None:
        # All connections first: two workers may each have started a server that the other uses.
        for connection, server in self._connections.values():
            server.close()
            connection.close()
        for process in self._started:
            process.wait()


class Program:
    """dbt v2: a process for each command, which takes two tenths of a second of CPU."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def call(self, name: str, **arguments: Any) -> Any:
        return getattr(self, f"_{name}")(**arguments)

    def _parse(
        self, *, project: str, target: str, environ: Mapping[str, str], flags: list[str]
    ) -> None:
        self._run("parse", project, target, environ, *flags)

    def _select(
        self,
        *,
        project: str,
        target: str,
        environ: Mapping[str, str],
        state: str,
        flags: list[str],
        arguments: list[str],
    ) -> list[str]:
        keys = ("--output", "json", "--output-keys", "unique_id", "--no-write-json")
        listed = self._run(
            "ls", project, target, environ, *keys, "--state", state, *arguments, *flags
        )
        lines = [line for line in listed.splitlines() if line.startswith("{")]
        return [json.loads(line)["unique_id"] for line in lines]

    def _forget(self, *, target: str) -> None:
        """It keeps nothing."""

    def _run(
        self, command: str, project: str, target: str, environ: Mapping[str, str], *more: str
    ) -> str:
        places = ("--project-dir", project, "--profiles-dir", project, "--target-path", target)
        done = subprocess.run(
            [dbt_bin(DBT_V2) / "dbt", command, "--quiet", *places, "--log-path", target, *more],
            cwd=self._home,
            env={**clean_environ(self._home), **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if done.returncode:
            raise Refused(f"dbt ends with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout


@contextmanager
def servers(shared: Path) -> Iterator[Servers]:
    """Servers that end with the last session that uses them. `shared` is of all workers."""
    started = Servers(shared)
    try:
        yield started
    finally:
        started.close()


Made = TypeVar("Made")


def going_together(
    project: Project, edits: Iterable[tuple[str, Edit]], attempt: Callable[[Project], Made]
) -> tuple[Made, list[str]]:
    """What `attempt` makes of the project with as many of the edits as dbt takes, and their names.

    Which of them dbt does not take is not told: it is looked for by halves.
    """
    made: Made | None = None
    applied: list[str] = []
    waiting = deque([list(edits)])
    while waiting:
        group = waiting.popleft()
        changed, names = project.copy(), []
        for name, edit in group:
            tried = changed.copy()
            try:
                edit(tried)
            except NotApplicable:
                continue
            changed = tried
            names.append(name)
        try:
            if names:
                made = attempt(changed)
        except Refused:
            if len(group) > 1:
                middle = len(group) // 2
                waiting.extendleft([group[middle:], group[:middle]])
            continue
        project = changed
        applied += names
    return made or attempt(project), applied
