"""The programs that the steps of a run find on their PATH, and how act gets to start them.

act gives each step a terminal, and what a failing step printed last is lost, or shows up under the
next step: act closes the terminal as soon as the process has ended, read or not. GitHub's runner
gives pipes, and reads them to their end. So what act takes for bash, sh and node are small scripts
here. Each starts the real program with pipes, and once that has ended prints a mark and waits for
an answer; whoever reads act's log gives it on reading the mark, so nothing printed before is lost.
A program that steps start themselves has no terminal, and there the scripts step aside.

Not covered: steps with another shell (`shell: python`), and a step that leaves a process behind
which still has the step's output, as it ends only when that process does.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_ENTRY = ("bash", "sh", "node")
_NEEDED = ("bash", "sh", "node", "git", "python3")
_SYSTEM = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")

# The step's process writes its id down before it becomes the real program, for signals (`entries`).
# Reading and writing the pipe at once does not block, so it is there before the mark is printed.
# It is bash, as dash drops variables with a hyphen, like INPUT_RETENTION-DAYS; with -p it does not
# read the file that a step may name in BASH_ENV. act asks node where it is before the first step,
# and starts it by that name.
_SCRIPT = """\
#!{bash} -p
[ -t 1 ] || exec {real} "$@"
[ -n "${{GITHUB_ACTION-}}" ] || {{ echo "$0"; exit; }}
at={directory}/$$
{bash} -p -c 'echo "$$" >"$0.entry"; exec "$@"' "$at" {real} "$@" </dev/null 2>&1 | {cat}
code=${{PIPESTATUS[0]}}
{rm} -f "$at.entry"
{mkfifo} "$at.pipe"
exec 3<>"$at.pipe"
printf '\\n%s%s\\n' {mark} "$$"
read -r answer <&3
{rm} -f "$at.pipe"
exit "$code"
"""


class MissingProgramError(Exception):
    """A program that the harness needs is not on this machine."""


@dataclass(frozen=True)
class Toolbox:
    """The programs of one run."""

    path: str
    """What PATH must be in the run."""
    mark: str
    """Begins the line that says: this step has printed all it will."""
    _directory: Path

    def answer(self, step: str) -> None:
        """Let the step end; `step` is what follows `mark` in the line that it printed."""
        # Without a reader the step was killed while it waited: there is nothing to let go.
        with suppress(OSError):
            pipe = os.open(self._directory / f"{step}.pipe", _WRITE)
            try:
                os.write(pipe, b"\n")
            finally:
                os.close(pipe)

    def entries(self) -> dict[str, int]:
        """Each step's process that now runs, which GitHub's runner would signal.

        The keys are what follows `mark` in the line which the step will print.
        """
        entries: dict[str, int] = {}
        for file in self._directory.glob("*.entry"):
            with suppress(FileNotFoundError):  # that step has just ended
                text = file.read_text()
                if text.endswith("\n"):
                    entries[file.stem] = int(text)
        return entries


_WRITE = os.O_WRONLY | os.O_NONBLOCK


def make_toolbox(to: Path, *, mark: str, path_prepend: Sequence[Path] = ()) -> Toolbox:
    """Make the directories `to`/bin and `to`/steps; `mark` must be unlike any line of a step."""
    programs, state = to / "bin", to / "steps"
    programs.mkdir(parents=True)
    state.mkdir()
    for name in _NEEDED:
        real = _find(name)
        if name in _ENTRY:
            script = _SCRIPT.format(
                real=shlex.quote(str(real)),
                directory=shlex.quote(str(state)),
                mark=shlex.quote(mark),
                **{tool: shlex.quote(str(_find(tool))) for tool in ("bash", "cat", "rm", "mkfifo")},
            )
            (programs / name).write_text(script)
            (programs / name).chmod(0o755)
        elif shutil.which(name, path=os.pathsep.join(_SYSTEM)) is None:
            # The link, not the directory the program is in: that has others which tests must
            # not come to need.
            (programs / name).symlink_to(real)
    path = os.pathsep.join([str(programs), *map(str, path_prepend), *_SYSTEM])
    return Toolbox(path, mark, state)


@cache
def _find(name: str) -> Path:
    """Find a program outside the environment that the tests run in."""
    if name == "python3":
        # On PATH there may be a script that looks for the real one below the home directory.
        return Path(sys.base_prefix, "bin", "python3")
    own = Path(sys.executable).parent
    directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
    outside = [directory for directory in directories if directory and Path(directory) != own]
    found = shutil.which(name, path=os.pathsep.join([*outside, *_SYSTEM]))
    if found is None:
        raise MissingProgramError(f"{name} is not on PATH: the harness needs it to run steps")
    if name == "node":  # as with Python
        command = [found, "-p", "process.execPath"]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Path(found.strip()).absolute()
