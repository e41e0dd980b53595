from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ci_defer.dbt.process import Ended, Interrupts, run

SH = "/bin/sh"


def ran(
    directory: Path,
    command: Sequence[str],
    *,
    interrupts: Interrupts | None = None,
    write: Callable[[bytes], None] | None = None,
    keep_lines: int | None = None,
) -> Ended:
    return run(
        command,
        cwd=directory,
        environ={"PATH": os.environ["PATH"], "WORD": "told"},
        interrupts=interrupts or Interrupts(),
        write=write,
        keep_lines=keep_lines,
    )


def python(script: str) -> list[str]:
    return [sys.executable, "-I", "-c", script]


def test_run__gives_folder_and_environment_and_no_input(tmp_path: Path) -> None:
    ended = ran(tmp_path, [SH, "-c", 'pwd; echo "$WORD"; cat; echo "$HOME"; exit 7'])
    assert (ended.output, ended.exit_code, ended.interrupted) == (
        (str(tmp_path), "told", ""),
        7,
        False,
    )
    assert ended.seconds > 0


def test_run__keeps_standard_output_and_error_in_order(tmp_path: Path) -> None:
    chunks: list[bytes] = []
    ended = ran(tmp_path, [SH, "-c", "echo 1; echo 2 >&2; printf 3"], write=chunks.append)
    assert ended.output == ("1", "2", "3")
    assert b"".join(chunks) == b"1\n2\n3"


def test_run__passes_bytes_through_as_they_are(tmp_path: Path) -> None:
    chunks: list[bytes] = []
    ended = ran(tmp_path, [SH, "-c", r"printf '\377\033[31mx\r\n\0'"], write=chunks.append)
    assert b"".join(chunks) == b"\xff\x1b[31mx\r\n\0"
    assert ended.output == ("\ufffd\x1b[31mx\r", "\0")


def test_run__passes_output_on_while_the_program_still_runs(tmp_path: Path) -> None:
    # The program waits for an answer, which is given only when its question has arrived.
    os.mkfifo(tmp_path / "answer")

    def write(chunk: bytes) -> None:
        if chunk == b"question":
            (tmp_path / "answer").write_text("yes\n")

    ended = ran(tmp_path, [SH, "-c", "printf question; read x <answer; echo $x"], write=write)
    assert ended.output == ("questionyes",)


def test_run__decodes_letters_that_come_in_two_pieces(tmp_path: Path) -> None:
    script = "import os\nfor b in 'é\\n'.encode(): os.write(1, bytes([b]))"
    assert ran(tmp_path, python(script)).output == ("é",)


def test_run__keeps_the_last_lines(tmp_path: Path) -> None:
    script = "for n in range(10_000): print(n)"
    assert ran(tmp_path, python(script), keep_lines=2).output == ("9998", "9999")
    assert len(ran(tmp_path, python(script)).output) == 10_000


def test_run__of_what_is_not_there_raises(tmp_path: Path) -> None:
    interrupts = Interrupts()
    with pytest.raises(FileNotFoundError):
        ran(tmp_path, [str(tmp_path / "dbt")], interrupts=interrupts)


def test_run__of_a_killed_program_has_a_negative_exit_code(tmp_path: Path) -> None:
    ended = ran(tmp_path, [SH, "-c", "kill -9 $$"])
    assert (ended.exit_code, ended.interrupted) == (-9, False)


# Signals --------------------------------------------------------------------------------------

# Says that it is ready, and then waits for a signal.
WAITING = """
import os, signal, sys, time
def tell(number, frame):
    with open("signals", "a") as file:
        file.write(signal.Signals(number).name + "\\n")
    {reaction}
signal.signal(signal.SIGINT, tell)
signal.signal(signal.SIGTERM, tell)
os.write(1, b"ready")
while True:
    time.sleep(0.01)
"""


def when_ready(*signals: int) -> Callable[[bytes], None]:
    """Send signals to this process, one for each message of the program."""
    left = list(signals)

    def write(chunk: bytes) -> None:
        if left and b"ready" in chunk:
            os.kill(os.getpid(), left.pop(0))

    return write


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals__both_reach_the_program_as_sigint(tmp_path: Path, number: int) -> None:
    script = WAITING.format(reaction="print('tidied up'); sys.exit(1)")
    with Interrupts().handled() as interrupts:
        ended = ran(tmp_path, python(script), interrupts=interrupts, write=when_ready(number))
    assert (tmp_path / "signals").read_text() == "SIGINT\n"
    assert (ended.exit_code, ended.interrupted) == (1, True)
    assert ended.output == ("readytidied up",)


def test_signals__a_shell_trap_runs(tmp_path: Path) -> None:
    script = "trap 'echo caught >file; exit 3' INT; printf ready; while :; do sleep 0.01; done"
    with Interrupts().handled() as interrupts:
        write = when_ready(signal.SIGINT)
        ended = ran(tmp_path, [SH, "-c", script], interrupts=interrupts, write=write)
    assert (tmp_path / "file").read_text() == "caught\n"
    assert ended.exit_code == 3


def test_signals__the_second_one_kills_what_does_not_end(tmp_path: Path) -> None:
    script = WAITING.format(reaction='os.write(1, b"ready")')
    with Interrupts().handled() as interrupts:
        write = when_ready(signal.SIGINT, signal.SIGTERM)
        ended = ran(tmp_path, python(script), interrupts=interrupts, write=write)
    assert (ended.exit_code, ended.interrupted, interrupts.received) == (-signal.SIGKILL, True, 2)
    assert (tmp_path / "signals").read_text() == "SIGINT\nSIGTERM\n"


def test_signals__the_second_one_kills_the_children_of_the_program_too(tmp_path: Path) -> None:
    # The child holds the output open, so that `run` ends only when it is gone as well.
    child = "import os\nif os.fork() == 0:\n    import time\n    time.sleep(600)\n"
    body = WAITING.format(reaction='os.write(1, b"ready")')
    with Interrupts().handled() as interrupts:
        write = when_ready(signal.SIGINT, signal.SIGINT)
        ended = ran(tmp_path, python(child + body), interrupts=interrupts, write=write)
    assert ended.exit_code == -signal.SIGKILL


def test_signals__one_that_came_before_the_start_ends_the_program_at_once(tmp_path: Path) -> None:
    with Interrupts().handled() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        ended = ran(tmp_path, ["/bin/sleep", "60"], interrupts=interrupts)
    assert (ended.exit_code, ended.interrupted) == (-signal.SIGINT, True)


def test_signals__raise_nothing_here_and_are_counted() -> None:
    with Interrupts().handled() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert interrupts.received == 2


def test_handled__puts_back_what_was_there() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(RuntimeError), Interrupts().handled():
        raise RuntimeError
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_run__the_program_is_in_a_session_of_its_own(tmp_path: Path) -> None:
    # Otherwise Ctrl-C would reach it twice: from the terminal, and from us.
    ended = ran(tmp_path, python("import os; print(os.getsid(0) == os.getpid())"))
    assert ended.output == ("True",)


def test_run__the_program_does_not_ignore_sigint_when_we_were_started_so(tmp_path: Path) -> None:
    # `ci-defer defer &` in a script: the shell starts it with SIGINT ignored.
    script = f"""
import os, sys
from pathlib import Path
from ci_defer.dbt.process import Interrupts, run
ask = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
with Interrupts().handled() as interrupts:
    ended = run([sys.executable, "-I", "-c", ask], cwd=Path({str(tmp_path)!r}),
        environ=dict(os.environ), interrupts=interrupts, write=None)
print(ended.output)
"""
    program = [sys.executable, "-c", script]
    shell = [SH, "-c", "trap '' INT; exec \"$@\"", "sh", *program]
    done = subprocess.run(shell, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "('False',)"


def test_run__a_log_that_fails_leaves_no_program_behind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gone")
    script = WAITING.format(reaction='open("gone", "w").close(); sys.exit(0)')

    def write(chunk: bytes) -> None:
        raise BrokenPipeError

    # Opening a pipe for reading waits until the other side is opened: by the program's handler.
    reader = threading.Thread(target=(tmp_path / "gone").read_bytes)
    reader.start()
    with pytest.raises(BrokenPipeError):
        ran(tmp_path, python(script), write=write)
    reader.join(timeout=30)
    alive = reader.is_alive()
    if alive:
        with contextlib.suppress(OSError):
            os.close(os.open(tmp_path / "gone", os.O_WRONLY | os.O_NONBLOCK))
    assert not alive
    assert (tmp_path / "signals").read_text() == "SIGINT\n"
