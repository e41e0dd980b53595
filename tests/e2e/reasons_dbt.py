"""dbt's own answers, for test_reasons: parses projects, and lists what selectors choose of them.

Run by dbt's own interpreter, so it may import dbt and not ci-defer. On each connection it reads one
JSON request a line and writes one JSON answer a line. dbt takes 5 seconds to be imported and half a
second to parse a small project, and a listing from a parsed manifest takes a tenth: so one process
serves all requests of all test processes, one after the other, and keeps the manifests.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib
import json
import os
import select
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock


class Answers:
    """What dbt says of projects, each named by the folder that its artifacts are written to."""

    def __init__(self) -> None:
        self._runner = importlib.import_module("dbt.cli.main").dbtRunner
        self._parsed: dict[str, Any] = {}
        # dbt's own switch for its own tests: it parses the Jinja of its macros once.
        importlib.import_module("dbt_common.tests").enable_test_caching()
        # It reads the state for each listing anew, which takes most of the time of a listing.
        manifest = importlib.import_module("dbt.artifacts.schemas.manifest").WritableManifest
        manifest.read_and_check_versions = functools.lru_cache(maxsize=8)(
            manifest.read_and_check_versions
        )

    def parse(self, *, project: str, target: str, flags: list[str]) -> None:
        """Write the manifest.json of a project, and keep what dbt has made of it."""
        # A partial parse would depend on what was parsed before.
        ran = self._runner().invoke(
            ["--quiet", "--no-partial-parse", "parse", *_where(project, target), *flags]
        )
        if not ran.success:
            raise ValueError(f"dbt does not parse it: {ran.exception}")
        self._parsed[target] = ran.result

    def select(
        self, *, project: str, target: str, state: str, flags: list[str], arguments: list[str]
    ) -> list[str]:
        """List the unique ids that `dbt ls` with these arguments chooses."""
        resources = ("--resource-type", "all", "--output", "json", "--output-keys", "unique_id")
        where = ("ls", *_where(project, target), *resources, "--state", state)
        ran = self._runner(manifest=self._parsed[target]).invoke(
            ["--quiet", *where, *arguments, *flags]
        )
        if not ran.success:
            raise ValueError(f"dbt does not list it: {ran.exception}")
        return [json.loads(line)["unique_id"] for line in ran.result]

    def forget(self, *, target: str) -> None:
        """Drop what is kept of a project."""
        self._parsed.pop(target, None)


def _where(project: str, target: str) -> list[str]:
    places = ("--project-dir", project, "--profiles-dir", project, "--target-path", target)
    return [*places, "--log-path", target]


def serve(listener: socket.socket, address: Path, lock: Path) -> None:
    """Answer whoever connects, and end when the last one has gone.

    Whoever connects holds the lock. So nobody can while we look whether somebody has, and from then
    on the address leads nowhere.
    """
    answers = Answers()
    streams: dict[socket.socket, Any] = {}
    while True:
        (ready, *_), _, _ = select.select([*streams, listener], [], [])
        if ready is listener:
            connection, _ = listener.accept()
            streams[connection] = connection.makefile("rw", encoding="utf-8")
        elif request := streams[ready].readline():
            with contextlib.suppress(BrokenPipeError):
                streams[ready].write(json.dumps(answered(answers, json.loads(request))) + "\n")
                streams[ready].flush()
        else:
            del streams[ready]
            with nobody_connects(lock):
                if not streams and not select.select([listener], [], [], 0)[0]:
                    address.unlink(missing_ok=True)
                    return


def answered(answers: Answers, request: dict[str, Any]) -> dict[str, Any]:
    # Of this request alone: dbt writes down what each variable was.
    with mock.patch.dict(os.environ, request.pop("environ", {})):
        try:
            return {"result": getattr(answers, request.pop("call"))(**request)}
        except ValueError as error:
            return {"error": str(error)}


@contextlib.contextmanager
def nobody_connects(lock: Path) -> Iterator[None]:
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    # dbt prints what it lists.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    serve(socket.socket(fileno=0), *map(Path, sys.argv[1:]))
