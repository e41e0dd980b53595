"""What `inside` does before it imports dbt, with small modules in the place of dbt's.

All else of it is tested with real dbt, in tests/e2e.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci_defer.dbt import inside

# Says which process imported it, and noises that must reach nobody.
MODULE = """\
import os, sys
from pathlib import Path
print("imported")
print("imported", file=sys.stderr)
with Path(__file__).with_suffix(".log").open("a") as file:
    file.write(f"{os.getpid()}\\n")
"""
PROGRAM = """\
import os, sys
from ci_defer.dbt import inside
if sys.argv[1:] == ["alone"]:
    os.fork = lambda: sys.exit("There is another process.")
inside.compile_beside()
print(os.getpid())
if sys.argv[1:] == ["wait"]:
    while not os.path.exists(sys.argv[0] + ".done"):
        pass
"""
FIRST, SECOND, LAST = (inside.COMPILED_BESIDE[number] for number in (0, 1, -2))


class Modules:
    """A folder of modules, and a program that has them compiled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / f"{FIRST}.py").write_text(MODULE)
        # One in between that cannot be imported holds up nothing.
        (folder / f"{SECOND}.py").write_text("raise ValueError('broken')")
        done = f"open({str(folder / 'program.py.done')!r}, 'w').close()\n"
        (folder / f"{LAST}.py").write_text(MODULE + done)
        (folder / "program.py").write_text(PROGRAM)

    def run(self, *arguments: str, **environ: str) -> int:
        """The id of the process that had them compiled."""
        own = str(Path(inside.__file__).parents[2])
        ran = subprocess.run(
            [sys.executable, str(self.folder / "program.py"), *arguments],
            env={"PYTHONPATH": own, **environ},
            check=True,
            capture_output=True,
            text=True,
        )
        assert ran.stderr == ""
        return int(ran.stdout)

    def imported(self, name: str) -> list[int]:
        """The ids of the processes that imported a module."""
        log = self.folder / f"{name}.log"
        return [int(line) for line in log.read_text().splitlines()] if log.exists() else []

    @property
    def compiled(self) -> set[str]:
        return {path.name.partition(".")[0] for path in self.folder.glob("__pycache__/*.pyc")}


@pytest.fixture
def modules(tmp_path: Path) -> Modules:
    return Modules(tmp_path)


needs_two_processors = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="nothing is beside")


@needs_two_processors
def test_compile_beside__is_done_by_another_process(modules: Modules) -> None:
    process = modules.run("wait")
    [first], [last] = modules.imported(FIRST), modules.imported(LAST)
    assert first == last != process
    assert {FIRST, LAST} <= modules.compiled


@needs_two_processors
def test_compile_beside__is_not_waited_for(modules: Modules) -> None:
    # It would end when somebody writes into this.
    os.mkfifo(modules.folder / "gate")
    gate = str(modules.folder / "gate")
    (modules.folder / f"{FIRST}.py").write_text(f"open({gate!r}).read()")
    # That this returns says it all: a pipe that the other process held would be waited for.
    modules.run()
    Path(gate).write_text("")


@needs_two_processors
def test_compile_beside__is_begun_by_the_installation(modules: Modules) -> None:
    # As action/install.sh does.
    command, path = [sys.executable, inside.__file__], {"PYTHONPATH": str(modules.folder)}
    ran = subprocess.run(command, env=path, capture_output=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    while not (modules.folder / "program.py.done").exists():
        pass
    assert {FIRST, LAST} <= modules.compiled


@needs_two_processors
def test_compile_beside__is_done_once(modules: Modules) -> None:
    modules.run("wait")
    modules.run("alone")


def test_compile_beside__leaves_alone_who_wants_no_compiled_files(modules: Modules) -> None:
    modules.run("alone", PYTHONDONTWRITEBYTECODE="1")
    assert modules.compiled == set()


def test_compile_beside__needs_none_of_the_modules(modules: Modules) -> None:
    (modules.folder / f"{FIRST}.py").unlink()
    modules.run("alone")
