from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.fork_server import forked

RECIPE = """
import os, sys
warm = []
def warm_up(*words):
    warm.extend(words)
def run():
    command = sys.argv[1]
    if command == "show":
        print(*warm, os.getcwd(), os.environ["NAME"], sys.stdin.read(), sep="|")
        print("aside", file=sys.stderr)
    elif command == "exit":
        sys.exit(int(sys.argv[2]))
    elif command == "say":
        sys.exit(sys.argv[2])
    elif command == "raise":
        raise ValueError(sys.argv[2])
    elif command == "wait":
        # Until another one of the same server has opened the other end.
        open(sys.argv[2]).read()
    elif command == "release":
        open(sys.argv[2], "w").close()
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.py"
    file.write_text(RECIPE)
    return file


def serving(recipe: Path) -> ExitStack:
    """Holds the server until it is closed; the program is `held` of the folder of the recipe."""
    stack = ExitStack()
    python = Path(sys.executable)
    words = ("some", "words")
    stack.enter_context(forked(recipe.with_name("held"), "program", python, recipe, lambda: words))
    return stack


def program(recipe: Path) -> str:
    return str(recipe.with_name("held") / "bin" / "program")


def ran(recipe: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program(recipe), *arguments],
        cwd=recipe.parent,
        env={"NAME": "é"},
        input="stdin",
        capture_output=True,
        text=True,
        check=False,
    )


def test_forked__is_as_if_the_program_had_been_started(recipe: Path) -> None:
    with serving(recipe):
        done = ran(recipe, "show")
        assert (done.returncode, done.stderr) == (0, "aside\n")
        expected = ["some", "words", str(recipe.parent), "é", "stdin"]
        assert done.stdout.strip().split("|") == expected
        assert ran(recipe, "exit", "7").returncode == 7
        assert ran(recipe, "exit", "0").returncode == 0
        said_so = ran(recipe, "say", "what went wrong")
        assert (said_so.returncode, said_so.stderr) == (1, "what went wrong\n")
        raised = ran(recipe, "raise", "what went wrong")
        assert raised.returncode == 1
        assert raised.stderr.endswith("ValueError: what went wrong\n")


def test_forked__serves_several_at_once(recipe: Path) -> None:
    pipe = recipe.with_name("pipe")
    os.mkfifo(pipe)
    with serving(recipe), subprocess.Popen([program(recipe), "wait", str(pipe)]) as waiting:
        assert ran(recipe, "release", str(pipe)).returncode == 0
        assert waiting.wait() == 0


def test_forked__outlives_programs_that_are_killed_while_they_start(recipe: Path) -> None:
    with serving(recipe):
        address = str(Path(program(recipe)).resolve().parents[1] / "socket")
        for said in (b"", b"!", b'!{"arguments": ["ex'):
            with socket.socket(socket.AF_UNIX) as killed:
                killed.connect(address)
                killed.sendall(said)
        assert ran(recipe, "exit", "7").returncode == 7


def test_forked__ends_with_the_last_who_holds_it_and_starts_again(recipe: Path) -> None:
    first, second = serving(recipe), serving(recipe)
    directory = Path(program(recipe)).resolve().parents[1]
    first.close()
    assert ran(recipe, "exit", "0").returncode == 0
    second.close()
    # Whoever comes while it ends has one that runs: it, or another one.
    with serving(recipe):
        assert ran(recipe, "exit", "0").returncode == 0
    while directory.exists():
        time.sleep(0.01)
    with serving(recipe):
        assert not directory.exists()
        assert ran(recipe, "exit", "0").returncode == 0


def test_forked__says_why_it_cannot_start(recipe: Path) -> None:
    recipe.write_text("def warm_up(*words): raise ValueError('not ready')\n")
    with pytest.raises(AssertionError, match="ValueError: not ready"):
        serving(recipe)
