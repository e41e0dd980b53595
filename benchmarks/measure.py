"""What a program takes, measured from outside: time, processor time, memory of its whole tree.

Linux only: memory is read from /proc.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS_BETWEEN_SAMPLES = 0.05
# A sample holds up the process that it looks at: at most a twentieth of the time is spent on them.
PAUSE_PER_COST = 20
KIB = 1024
# What is shown of the log of a program that failed.
LAST_LINES = 30


class Failed(Exception):
    """A program failed, or what it did is wrong: then no number of it is of use."""


@dataclass(frozen=True)
class Usage:
    """What one run took.

    `wall`, `cpu` and `own` are seconds: `cpu` of processor time of the program and of all that it
    has waited for, and not of what goes on beside it; `own` of the program alone, as far as samples
    show it. `process` is the peak of the largest process in bytes of resident memory, as the kernel
    recorded it. `tree` is the peak of all processes together in bytes, with shared pages counted
    once, as far as samples show it: a peak of less than 50 ms may be between two of them.
    """

    wall: float
    cpu: float
    own: float
    process: int
    tree: int

    def __add__(self, other: Usage) -> Usage:
        """The two, one after the other."""
        return Usage(
            self.wall + other.wall,
            self.cpu + other.cpu,
            self.own + other.own,
            max(self.process, other.process),
            max(self.tree, other.tree),
        )


def measure(
    command: Sequence[str],
    folder: Path,
    environ: Mapping[str, str],
    log: Path,
    *,
    is_alone: bool = False,
) -> Usage:
    """Run a program in `folder`, with what it says in the file `log`. Raises Failed.

    What it has left running goes on for the next one, unless it `is_alone`.
    """
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        sampler = _Sampler(process.pid)
        try:
            with sampler:
                _, status, used = os.wait4(process.pid, 0)
                wall = time.perf_counter() - started
                process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            # Interrupted: nothing of it goes on.
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            elif is_alone:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        raise Failed(f"{command} ended with {process.returncode}:\n" + "\n".join(lines))
    # What the kernel says at the end begins with the memory of who starts the program: with ours.
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    recorded = used.ru_maxrss * KIB if used.ru_maxrss > ours else 0
    process_peak = max(recorded, sampler.process)
    return Usage(wall, used.ru_utime + used.ru_stime, sampler.own, process_peak, sampler.tree)


class _Sampler:
    """Looks at a process and its descendants, as long as the context lasts."""

    def __init__(self, pid: int) -> None:
        self.own = 0.0
        self.process = 0
        self.tree = 0
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        pause = 0.0
        while not self._ended.wait(pause):
            started = time.perf_counter()
            pids = [*_tree(self._pid)]
            self.own = max(self.own, _cpu(self._pid))
            self.process = max(self.process, *(_kib(pid, "status", "VmHWM:") for pid in pids))
            self.tree = max(self.tree, sum(_kib(pid, "smaps_rollup", "Pss:") for pid in pids))
            cost = time.perf_counter() - started
            pause = max(SECONDS_BETWEEN_SAMPLES, PAUSE_PER_COST * cost)


def _tree(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    # Any thread may have started a process.
    for thread in _listed(Path(f"/proc/{pid}/task")):
        with contextlib.suppress(OSError):
            for child in (thread / "children").read_text(encoding="ascii").split():
                yield from _tree(int(child))


def _cpu(pid: int) -> float:
    """The seconds of processor time of a process without its children; 0 when it has ended."""
    with contextlib.suppress(OSError):
        # The name of the program, in parentheses, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        # It has ended.
        return []


def _kib(pid: int, file: str, field: str) -> int:
    """A size in a file of /proc, in bytes; 0 when the process has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8").splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * KIB
    return 0
