from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ci_defer.annotations import Annotation
from ci_defer.errors import ConfigurationError
from ci_defer.runner import SUMMARY_LIMIT, Runner, environment

ACTIONS = {"GITHUB_ACTIONS": "true"}
PIECES = [*":%\n\r#[]\x0b\x85\u2028 \ta0AD", "::", "##[", "error", "%0A", "::error::"]
HOSTILE = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def printed(runner: Runner, level: str, text: str | Annotation) -> tuple[str, str]:
    """What a method of the runner writes to stdout and stderr."""
    outputs = (io.StringIO(newline=""), io.StringIO(newline=""))
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = outputs
    try:
        getattr(runner, level)(text)
    finally:
        sys.stdout, sys.stderr = before
    return outputs[0].getvalue(), outputs[1].getvalue()


def commands(log: str) -> list[str]:
    """The lines that the runner of GitHub Actions takes for a command."""
    lines = re.split("\r\n|\r|\n", log)
    return [line for line in lines if line.strip().startswith("::") or "##[" in line]


@given(HOSTILE)
@example("::error::x")
@example("a\r\t ::add-mask::x")
@example("\u2028::stop-commands::x")
@example("  ##[error]x")
def test_info__on_actions_is_never_a_command(text: str) -> None:
    log, errors = printed(Runner(ACTIONS), "info", text)
    assert commands(log) == []
    assert errors == ""
    assert log.endswith("\n")


def test_info__keeps_the_words() -> None:
    text = "one\n two: three %0A"
    assert printed(Runner(ACTIONS), "info", text) == (f"{text}\n", "")
    assert printed(Runner({}), "info", "::error::x") == ("::error::x\n", "")


@given(HOSTILE, st.sampled_from(["notice", "warning", "error"]))
def test_annotations__are_one_command_with_the_whole_text(text: str, level: str) -> None:
    log, errors = printed(Runner(ACTIONS), level, text)
    prefix = f"::{level} title=ci-defer::"
    assert errors == ""
    assert log.startswith(prefix)
    assert re.split("\r\n|\r|\n", log)[1:] == [""]
    data = log.removeprefix(prefix).removesuffix("\n")
    # As the runner reads it back.
    read = data.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
    assert read == text


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("notice", ("Notice: x::\ny\n", "")),
        ("warning", ("Warning: x::\ny\n", "")),
        ("error", ("", "Error: x::\ny\n")),
    ],
)
def test_annotations__on_a_terminal_are_plain(level: str, expected: tuple[str, str]) -> None:
    assert printed(Runner({}), level, "x::\ny") == expected


def test_info__on_a_terminal_without_utf_8_does_not_end_the_run() -> None:
    raw = io.BytesIO()
    terminal = io.TextIOWrapper(raw, "ascii", newline="")
    before, sys.stdout = sys.stdout, terminal
    try:
        Runner({}).info("\u2705 \udcff")
    finally:
        sys.stdout = before
    assert raw.getvalue() == b"\\u2705 \\udcff\n"


def outputs(file: Path) -> dict[str, str]:
    """GITHUB_OUTPUT as the runner reads it."""
    found = {}
    lines = iter(file.read_bytes().decode().split("\n"))
    for line in lines:
        if not line:
            continue
        name, delimiter = line.split("<<", 1)
        value = []
        while (line := next(lines)) != delimiter:
            value.append(line)
        found[name] = "\n".join(value)
    return found


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "state-found", "report"]), HOSTILE))
@example({"a": "x\na<<EOF\nevil\nEOF", "report": "ci_defer_\n\n"})
def test_set_outputs__are_read_back_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, str]
) -> None:
    file = tmp_path_factory.mktemp("output") / "output"
    file.write_text("")
    Runner({"GITHUB_OUTPUT": str(file)}).set_outputs(values)
    assert outputs(file) == values


def test_set_outputs__a_value_cannot_set_another_output(tmp_path: Path) -> None:
    file = tmp_path / "output"
    runner = Runner({"GITHUB_OUTPUT": str(file)})
    runner.set_outputs({"a": "x"})
    delimiter = file.read_text().splitlines()[0].partition("<<")[2]
    # The delimiter of the last time is of no use the next time.
    runner.set_outputs({"b": f"x\n{delimiter}\nevil=1"})
    assert outputs(file) == {"a": "x", "b": f"x\n{delimiter}\nevil=1"}


def test_files__a_lone_surrogate_does_not_end_the_run(tmp_path: Path) -> None:
    # A path that is not UTF-8 holds them.
    files = {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    runner = Runner(files)
    runner.set_outputs({"report": "/tmp/\udcff"})
    runner.add_summary("/tmp/\udcff")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


def test_add_summary__appends(tmp_path: Path) -> None:
    runner = Runner({"GITHUB_STEP_SUMMARY": str(tmp_path / "summary")})
    runner.add_summary("# one\n\n")
    runner.add_summary("# two")
    assert (tmp_path / "summary").read_text() == "# one\n# two\n"


def test_add_summary__never_grows_to_what_github_drops(tmp_path: Path) -> None:
    runner = Runner({"GITHUB_STEP_SUMMARY": str(tmp_path / "summary")})
    runner.add_summary("é" * SUMMARY_LIMIT)
    assert 0 < (tmp_path / "summary").stat().st_size <= SUMMARY_LIMIT


def test_outside_of_actions__nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runner = Runner({"GITHUB_OUTPUT": "", "GITHUB_STEP_SUMMARY": ""})
    runner.set_outputs({"a": "b"})
    runner.add_summary("x")
    assert not runner.on_actions
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "expected"), [('{"action": "opened"}', {"action": "opened"}), ("[]", {})]
)
def test_payload__is_the_events(tmp_path: Path, content: str, expected: dict[str, str]) -> None:
    (tmp_path / "event.json").write_text(content)
    assert Runner({"GITHUB_EVENT_PATH": str(tmp_path / "event.json")}).payload() == expected


def test_payload__outside_of_actions_is_empty() -> None:
    assert Runner({}).payload() == {}


@pytest.mark.parametrize("content", [b"{", b"\xff", None])
def test_payload__that_cannot_be_read_says_so(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "event.json").write_bytes(content)
    with pytest.raises(ConfigurationError, match="payload of the event cannot be read"):
        Runner({"GITHUB_EVENT_PATH": str(tmp_path / "event.json")}).payload()


def test_temporary_directory__is_that_of_the_job(tmp_path: Path) -> None:
    assert Runner({"RUNNER_TEMP": str(tmp_path)}).temporary_directory() == tmp_path
    assert Runner({}).temporary_directory().is_dir()


def test_passthrough__writes_bytes_as_they_are(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with Runner({}).passthrough() as write:
        write(b"\xff\x1b[31mred\r\n")
        write(b"::error::x")
    assert capfdbinary.readouterr().out == b"\xff\x1b[31mred\r\n::error::x\n"


def test_passthrough__on_actions_switches_commands_off_and_on_again(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    failing = contextlib.suppress(RuntimeError)
    with failing, Runner(ACTIONS).passthrough() as write:
        write(b"::add-mask::x")
        raise RuntimeError
    first, *lines, last = capfdbinary.readouterr().out.decode().splitlines()
    token = first.removeprefix("::stop-commands::")
    assert len(token) == 32
    assert (lines, last) == (["::add-mask::x"], f"::{token}::")


def test_passthrough__takes_another_token_each_time(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    for _ in range(2):
        with Runner(ACTIONS).passthrough():
            pass
    first, _, second, _ = capfdbinary.readouterr().out.splitlines()
    assert first != second


def test_passthrough__of_nothing_adds_no_line(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with Runner({}).passthrough() as write:
        write(b"")
    assert capfdbinary.readouterr().out == b""


def test_environment__is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_DEFER_TEST", "1")
    copy = environment()
    copy["CI_DEFER_TEST"] = "2"
    assert environment()["CI_DEFER_TEST"] == "1"


# Progress -------------------------------------------------------------------------------------


class Clock:
    """The time that `ci_defer.runner` reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("ci_defer.runner.time", self)

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize("environ", [ACTIONS, {}], ids=["on actions", "into a file"])
def test_progress__in_a_log_is_a_line_now_and_then(
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock(monkeypatch)
    with Runner(environ).progress("Saving the state", 30_000_000) as advance:
        for seconds in (0, 9.9, 0.1, 5, 4.9, 25, 0):
            clock.now += seconds
            advance(1_500_000)
        clock.now += 3
    assert capsys.readouterr().out.splitlines() == [
        "Saving the state: 30.0 MB.",
        "Saving the state: 4.5 MB of 30.0 MB.",
        "Saving the state: 9.0 MB of 30.0 MB.",
        "Saving the state: done in 48 s.",
    ]


def test_progress__of_something_short_is_two_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Clock(monkeypatch)
    with Runner(ACTIONS).progress("Fetching", 12) as advance:
        advance(12)
    assert capsys.readouterr().out == "Fetching: 12 bytes.\nFetching: done in 0.0 s.\n"


def test_progress__of_what_fails_does_not_say_that_it_is_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with contextlib.suppress(RuntimeError), Runner(ACTIONS).progress("Fetching", 12) as advance:
        advance(5)
        raise RuntimeError
    assert capsys.readouterr().out == "Fetching: 12 bytes.\n"


def test_progress__cannot_become_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with Runner(ACTIONS).progress("::error::x", 1) as advance:
        advance(1)
    assert commands(capsys.readouterr().out) == []


def test_progress__from_several_threads_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    workers, each = 8, 5000
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with Runner(ACTIONS).progress("Saving", workers * each + 1) as advance:

            def work() -> None:
                for _ in range(each):
                    advance(1)

            threads = [threading.Thread(target=work) for _ in range(workers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            clock.now += 10
            advance(1)
    finally:
        sys.setswitchinterval(before)
    assert capsys.readouterr().out.splitlines() == [
        "Saving: 40.0 kB.",
        "Saving: 40.0 kB of 40.0 kB.",
        "Saving: done in 10 s.",
    ]


BAR = """
import sys, threading
from ci_defer.runner import Runner, environment
with Runner(environment()).progress("Saving the state", 4000) as advance:
    def work():
        for _ in range(10):
            advance(100)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print("after")
"""


def on_a_terminal(**environ: str) -> str:
    """What BAR shows on a terminal."""
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name != "GITHUB_ACTIONS"}
    with subprocess.Popen(
        [sys.executable, "-c", BAR],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**kept, "TERM": "xterm", **environ},
    ) as process:
        os.close(theirs)
        shown = b""
        # At the end Linux says EIO, others nothing.
        with contextlib.suppress(OSError):
            while block := os.read(ours, 10_000):
                shown += block
        os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


def test_progress__on_a_terminal_is_a_bar_that_comes_to_its_end() -> None:
    shown = on_a_terminal()
    assert "Saving the state" in shown
    assert "100%" in shown
    # One line that is drawn again and again.
    assert "\r" in shown.replace("\r\n", "")
    assert "after" in shown.splitlines()[-1]
    assert "done in" not in shown


def test_progress__on_actions_is_never_a_bar() -> None:
    shown = on_a_terminal(GITHUB_ACTIONS="true")
    first, last, after = shown.splitlines()
    assert first == "Saving the state: 4.0 kB."
    assert last.startswith("Saving the state: done in ")
    assert after == "after"
