"""A real dbt without the price of warming it up: a process that is warm, and forks per command.

dbt takes 4 seconds of CPU to be imported, and 2 more to generate the code that reads and writes
its artifacts, before it does anything for a small project. Tests that ask what dbt selects and
answers put `forked_dbt`'s folder on the PATH: its `dbt` hands arguments, environment, working
directory and standard streams to the server, which forks, runs dbt's own entry point in the
child, and returns its exit code. The server itself has run one `dbt ls` through dbt's `dbtRunner`,
which is made for several commands in one process; every command gets a fork of that state.
Tests that are about processes (signals, missing programs, the action's installation) use the
ordinary `dbt`, and `make demo` does.

As a program, run by dbt's own interpreter, this file is the server.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

READY = b"ready\n"
MESSAGE_SIZE = 256 * 1024
# What `dbt build` imports when it is called. Not every version has all of them.
MODULES = ("dbt.task.build", "dbt.adapters.duckdb")

# What dbt validates the files of a project with: it generates a schema for the first of each kind.
SCHEMAS = {
    "dbt.artifacts.resources": ("ExposureConfig", "ModelConfig", "SeedConfig", "TestConfig"),
    "dbt.contracts.graph.nodes": ("GenericTestNode", "ModelNode", "SeedNode", "SingularTestNode"),
    "dbt.contracts.graph.unparsed": (
        "UnparsedExposure",
        "UnparsedMacroUpdate",
        "UnparsedModelUpdate",
        "UnparsedNodeUpdate",
        "UnparsedSingularTestUpdate",
        "UnparsedUnitTest",
    ),
}

CLIENT = """\
#!{python} -IS
import json, os, socket, sys
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect({address!r})
request = {{"arguments": sys.argv[1:], "cwd": os.getcwd(), "environ": dict(os.environ)}}
socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
sys.exit(int(connection.recv(16)))
"""


@contextlib.contextmanager
def forked_dbt(folder: Path, project: Path, state: Path) -> Iterator[Path]:
    """Serve the `dbt` in `folder`, and yield a folder with a `dbt` that is quick to start.

    For the warm-up, `project` is a dbt project with the partial parse of target ci, and `state`
    the folder of a manifest.json.
    """
    with tempfile.TemporaryDirectory(prefix="dbt-") as directory:
        address = Path(directory) / "socket"
        client = Path(directory) / "bin" / "dbt"
        client.parent.mkdir()
        client.write_text(CLIENT.format(python=folder / "python", address=str(address)))
        client.chmod(0o755)
        server = subprocess.Popen(
            [folder / "python", __file__, folder / "dbt", address, project, state],
            cwd=directory,
            # Its end tells the server that we are gone, however we went.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert server.stdout is not None
        assert READY in server.stdout, "dbt's warm-up failed"
        try:
            yield client.parent
        finally:
            server.communicate()


def warm_up(project: str, state: str) -> None:
    """Import dbt, and let it list what differs from a state."""
    for module in MODULES:
        importlib.import_module(module)
    for module, names in SCHEMAS.items():
        for name in names:
            getattr(importlib.import_module(module), name).json_schema()
    # A partial parse is written again only where a file has changed, as in most tests.
    encode = importlib.import_module("dbt.parser.manifest").extended_mashumaro_encoder
    manifest = importlib.import_module("dbt.contracts.graph.manifest").Manifest
    parsed = Path(project, "target", "partial_parse.msgpack").read_bytes()
    manifest.from_msgpack(parsed).to_msgpack(encode)
    runner = importlib.import_module("dbt.cli.main").dbtRunner()
    # With a partial parse: a whole one connects to DuckDB, whose threads do not survive a fork.
    shutil.copytree(Path(project, "target"), "target")
    paths = ("--project-dir", project, "--profiles-dir", project, "--target", "ci")
    here = ("--target-path", str(Path("target").absolute()), "--log-path", str(Path.cwd()))
    comparing = ("--select", "state:modified+", "--state", state)
    listed = runner.invoke(["--quiet", "ls", *comparing, *paths, *here])
    assert listed.success, listed.exception
    threads = list(Path("/proc/self/task").iterdir())
    assert len(threads) == 1, "a fork would lose the other threads"


def serve(program: str, address: str) -> None:
    """Run `program` in a fork for each connection, until standard input ends."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen()
    os.write(1, READY)
    while listener in select.select((listener, sys.stdin), (), ())[0]:
        connection, _ = listener.accept()
        message, streams, _, _ = socket.recv_fds(connection, MESSAGE_SIZE, 3)
        child = os.fork()
        if child == 0:
            listener.close()
            connection.close()
            _become(program, json.loads(message), streams)
            return
        for stream in streams:
            os.close(stream)
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(BrokenPipeError):
            connection.send(str(os.waitstatus_to_exitcode(status)).encode())
        connection.close()


def _become(program: str, request: dict[str, object], streams: list[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    environ, arguments = request["environ"], request["arguments"]
    assert isinstance(environ, dict)
    assert isinstance(arguments, list)
    os.chdir(str(request["cwd"]))
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    warm_up(sys.argv[3], sys.argv[4])
    serve(sys.argv[1], sys.argv[2])
