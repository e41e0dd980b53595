from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.environments import ROOT
from tests.harness.shared_server import shared

# A server that is a file, and the process that it is tied to.
MODULE = """
import dataclasses, os, pathlib
from contextlib import contextmanager

@dataclasses.dataclass
class Fields:
    process: int
    file: str

@contextmanager
def running():
    file = pathlib.Path(__file__).with_name("runs")
    file.touch(exist_ok=False)
    yield Fields(os.getpid(), str(file))
    file.unlink()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "some_server.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "some_server"


def wait_until_gone(file: Path) -> None:
    deadline = time.monotonic() + 30
    while file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_shared__is_one_server_until_the_last_leaves(tmp_path: Path, module: str) -> None:
    first, second = ExitStack(), ExitStack()
    fields = first.enter_context(shared(tmp_path / "shared", module))
    assert second.enter_context(shared(tmp_path / "shared", module)) == fields
    first.close()
    with shared(tmp_path / "shared", module) as again:
        assert again == fields
    second.close()
    wait_until_gone(Path(fields["file"]))
    with shared(tmp_path / "shared", module) as another:
        assert another["process"] != fields["process"]
    wait_until_gone(Path(fields["file"]))


def test_shared__ends_with_processes_that_are_killed(tmp_path: Path, module: str) -> None:
    program = (
        "import pathlib, sys, time\n"
        "from tests.harness.shared_server import shared\n"
        "with shared(pathlib.Path(sys.argv[1]), sys.argv[2]) as fields:\n"
        "    print(fields['file'], flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "shared"), module]
    paths = os.pathsep.join([str(ROOT), str(tmp_path)])
    environ = {**os.environ, "PYTHONPATH": paths}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        file = Path(user.stdout.readline().strip())
        assert file.exists()
        user.send_signal(signal.SIGKILL)
    wait_until_gone(file)


def test_shared__says_why_it_cannot_start(tmp_path: Path, module: str) -> None:
    (tmp_path / "runs").touch()
    with (
        pytest.raises(AssertionError, match="FileExistsError"),
        shared(tmp_path / "shared", module),
    ):
        pass
