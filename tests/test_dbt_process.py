from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from ci_defer.dbt.process import Conversation, Ended, Interrupts, run

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


# A conversation -------------------------------------------------------------------------------

# Answers each line with what a script says to it.
ANSWERING = """
import os, signal, sys, time
requests, answers = map(int, sys.argv[1:])
def answer(text=b"done\\n"):
    os.write(answers, text)
{start}
for line in os.fdopen(requests):
    {reaction}
{end}
"""


@contextlib.contextmanager
def talking(
    tmp_path: Path,
    reaction: str = "answer()",
    *,
    start: str = "",
    end: str = "",
    interrupts: Interrupts | None = None,
) -> Iterator[Conversation]:
    conversation = Conversation(
        python(ANSWERING.format(start=start, reaction=reaction, end=end)),
        cwd=tmp_path,
        environ={"PATH": os.environ["PATH"]},
        interrupts=interrupts or Interrupts(),
    )
    yield conversation
    conversation.close()


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_ask__returns_the_answer_and_what_was_printed_before_it(tmp_path: Path) -> None:
    chunks: list[bytes] = []
    with talking(tmp_path, "print(line, end='', flush=True); answer(line.upper().encode())") as it:
        for word in ("one", "two"):
            ended, answer = it.ask(f"{word}\n".encode(), write=chunks.append)
            assert (ended.output, ended.exit_code, ended.interrupted) == ((word,), 0, False)
            assert answer == f"{word.upper()}\n".encode()
    assert b"".join(chunks) == b"one\ntwo\n"


def test_ask__without_a_request_waits_for_what_it_says_by_itself(tmp_path: Path) -> None:
    with talking(tmp_path, start="print('hello', flush=True); answer(b'ready\\n')") as it:
        ended, answer = it.ask(b"", write=None)
        assert (ended.output, answer) == (("hello",), b"ready\n")


def test_ask__passes_output_on_while_there_is_no_answer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")

    def write(chunk: bytes) -> None:
        if chunk == b"question":
            (tmp_path / "go").write_text("yes")

    reaction = "os.write(1, b'question'); os.write(1, open('go').read().encode()); answer()"
    with talking(tmp_path, reaction) as it:
        assert it.ask(b"go\n", write=write)[0].output == ("questionyes",)


def test_ask__takes_any_amount_of_output_and_long_requests_and_answers(tmp_path: Path) -> None:
    reaction = "os.write(2, b'x' * 3_000_000 + b'\\ny'); answer(line.encode())"
    with talking(tmp_path, reaction) as it:
        request = b"a" * 1_000_000 + b"\n"
        ended, answer = it.ask(request, write=None)
        assert [len(line) for line in ended.output] == [3_000_000, 1]
        assert answer == request
        assert it.ask(b"short\n", write=None, keep_lines=1)[0].output == ("y",)


def test_ask__takes_an_answer_that_comes_in_pieces(tmp_path: Path) -> None:
    reaction = "answer(b'do'); time.sleep(0.05); print('meanwhile', flush=True); answer(b'ne\\n')"
    with talking(tmp_path, reaction) as it:
        ended, answer = it.ask(b"go\n", write=None)
        assert (ended.output, answer) == (("meanwhile",), b"done\n")


@pytest.mark.parametrize(
    ("reaction", "exit_code"),
    [
        ("sys.exit(3)", 3),
        ("answer(b'half'); sys.exit(3)", 3),
        ("os.kill(os.getpid(), 9)", -9),
    ],
)
def test_ask__without_an_answer_the_process_has_ended(
    tmp_path: Path, reaction: str, exit_code: int
) -> None:
    with talking(tmp_path, f"print('last words', flush=True); {reaction}") as it:
        ended, answer = it.ask(b"go\n", write=None)
        assert (ended.output, ended.exit_code, answer) == (("last words",), exit_code, None)
        assert it.has_ended
        # Nobody reads what is asked any more.
        assert it.ask(b"more\n", write=None)[1] is None


def test_conversation__leaves_no_descriptors(tmp_path: Path) -> None:
    before = descriptors()
    with talking(tmp_path) as it:
        it.ask(b"go\n", write=None)
    assert descriptors() == before
    with pytest.raises(FileNotFoundError):
        Conversation(["/no/such/dbt"], cwd=tmp_path, environ={}, interrupts=Interrupts())
    assert descriptors() == before


def test_conversation__its_children_have_no_part_in_it(tmp_path: Path) -> None:
    start = "import subprocess; answer(subprocess.check_output(['ls', '/proc/self/fd'])[-2:])"
    with talking(tmp_path, start=start) as it:
        assert it.ask(b"", write=None)[1] == b"3\n"


def test_close__waits_for_what_it_still_does(tmp_path: Path) -> None:
    end = "time.sleep(0.3); print('x' * 200_000, flush=True); open('file', 'w').write('all')"
    with talking(tmp_path, end=end) as it:
        it.ask(b"go\n", write=None)
    assert (tmp_path / "file").read_text() == "all"


def test_close__returns_the_exit_code(tmp_path: Path) -> None:
    conversation = Conversation(
        python("import sys; sys.exit(5)"), cwd=tmp_path, environ={}, interrupts=Interrupts()
    )
    assert conversation.close() == 5


def test_close__waits_no_longer_than_a_moment_after_a_signal(tmp_path: Path) -> None:
    before = time.monotonic()
    with Interrupts().handled() as interrupts:
        with talking(tmp_path, end="time.sleep(60)", interrupts=interrupts) as it:
            it.ask(b"go\n", write=None)
            timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
        timer.join()
    assert time.monotonic() - before < 30


def test_close__after_a_signal_what_is_short_is_still_written(tmp_path: Path) -> None:
    end = "time.sleep(0.1); open('file', 'w').write('all')"
    with (
        Interrupts().handled() as interrupts,
        talking(tmp_path, end=end, interrupts=interrupts) as it,
    ):
        it.ask(b"go\n", write=None)
        os.kill(os.getpid(), signal.SIGINT)
    assert (tmp_path / "file").read_text() == "all"


def test_signals__reach_it_only_while_it_is_asked(tmp_path: Path) -> None:
    tell = "def tell(number, frame): answer(b'interrupted\\n')\nsignal.signal(signal.SIGINT, tell)"
    with (
        Interrupts().handled() as interrupts,
        talking(tmp_path, start=f"{tell}\nanswer()", interrupts=interrupts) as it,
    ):
        it.ask(b"", write=None)
        assert it.ask(b"go\n", write=None)[1] == b"done\n"
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        # Who asks all the same passes it on.
        ended, answer = it.ask(b"", write=None)
        assert (answer, ended.interrupted) == (b"interrupted\n", True)


def test_signals__the_second_one_kills_it(tmp_path: Path) -> None:
    reaction = "os.write(1, b'ready'); time.sleep(60)"
    tell = "signal.signal(signal.SIGINT, lambda *_: os.write(1, b'ready'))\n"
    tell += "signal.signal(signal.SIGTERM, lambda *_: None)"
    with (
        Interrupts().handled() as interrupts,
        talking(tmp_path, reaction, start=tell, interrupts=interrupts) as it,
    ):
        ended, answer = it.ask(b"go\n", write=when_ready(signal.SIGINT, signal.SIGTERM))
    assert (ended.exit_code, ended.interrupted, answer) == (-signal.SIGKILL, True, None)


def test_ask__a_log_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def write(chunk: bytes) -> None:
        raise BrokenPipeError

    with talking(tmp_path, "print('x', flush=True); time.sleep(60)") as it:
        with pytest.raises(BrokenPipeError):
            it.ask(b"go\n", write=write)
        assert it.has_ended
