"""The engine that runs several commands in one process, with a small program in the place of dbt's.

`inside` itself is tested with real dbt, in tests/e2e.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ci_defer.bundle import ParseTerms
from ci_defer.dbt import SavedParse, Selection, inside
from ci_defer.dbt.commands import DbtSettings
from ci_defer.dbt.driver import DriverEngine, interpreter_of
from ci_defer.dbt.process import Interrupts
from ci_defer.errors import Cancelled
from tests.samples import Log

BODY = """\
import sys
from dbt.cli.main import cli
if __name__ == "__main__":
    sys.exit(cli())
"""
PIP = """\
# -*- coding: utf-8 -*-
import re
import sys
from dbt.cli.main import cli
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit(cli())
"""
UV = """\
# -*- coding: utf-8 -*-
import sys
from dbt.cli.main import cli
if __name__ == "__main__":
    if sys.argv[0].endswith("-script.pyw"):
        sys.argv[0] = sys.argv[0][:-11]
    elif sys.argv[0].endswith(".exe"):
        sys.argv[0] = sys.argv[0][:-4]
    sys.exit(cli())
"""


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (f"#!/venv/bin/python\n{PIP}", ["/venv/bin/python"]),
        (f"#!/venv/bin/python3.12\n{UV}", ["/venv/bin/python3.12"]),
        (f"#!/usr/bin/env python3\n{BODY}", ["/usr/bin/env", "python3"]),
        (f"#!/usr/bin/python3 -sP\n{BODY}", ["/usr/bin/python3", "-sP"]),
        (f"#!/venv/bin/python\r\n{BODY}".replace("\n", "\r\n"), ["/venv/bin/python"]),
        (
            f"#!/bin/sh\n'''exec' /long/path/python \"$0\" \"$@\"\n' '''\n{PIP}",
            ["/long/path/python"],
        ),
        (
            f"#!/bin/sh\n'''exec' \"/my venv/bin/python\" \"$0\" \"$@\"\n' '''\n{UV}",
            ["/my venv/bin/python"],
        ),
    ],
)
def test_interpreter_of__what_installers_write(
    tmp_path: Path, script: str, expected: list[str]
) -> None:
    (tmp_path / "dbt").write_bytes(script.encode())
    assert interpreter_of(tmp_path / "dbt") == expected


@pytest.mark.parametrize(
    "script",
    [
        b"",
        b"\x7fELF" + bytes(4000),
        b'#!/bin/sh\nexec /venv/bin/dbt "$@"\n',
        b'#!/bin/bash\n. secrets.sh\n# from dbt.cli.main import cli\nexec dbt-real "$@"\n',
        # pyenv's.
        b'#!/usr/bin/env bash\nset -e\nexec "/root/.pyenv/libexec/pyenv" exec dbt "$@"\n',
        b"#!python\n" + BODY.encode(),
        BODY.encode(),
        b"#!/venv/bin/python\nfrom dbt.main import main\nmain()\n",
        # Somebody's own program: what it does besides would not be done.
        b"#!/venv/bin/python\nimport os\nos.environ['A'] = 'b'\n" + BODY.encode(),
        b"#!/venv/bin/python\nimport my_patches\n" + BODY.encode(),
        b"#!/venv/bin/python 'unclosed\n" + BODY.encode(),
        b"#!/v\xe9nv/bin/python\n" + BODY.encode(),
    ],
)
def test_interpreter_of__nothing_else(tmp_path: Path, script: bytes) -> None:
    (tmp_path / "dbt").write_bytes(script)
    assert interpreter_of(tmp_path / "dbt") is None


def test_interpreter_of__what_is_no_file(tmp_path: Path) -> None:
    assert interpreter_of(tmp_path / "dbt") is None
    assert interpreter_of(tmp_path) is None


# The engine -----------------------------------------------------------------------------------

# In the place of the interpreter: as a program it is dbt, and given `inside` it converses.
INTERPRETER = """\
import json, os, pathlib, sys, time
here = pathlib.Path(__file__).parent
def record(kind, words):
    with (here / "calls").open("a") as file:
        file.write(json.dumps([kind, *words]) + "\\n")
def script(name):
    path = here / (name + ".py")
    exec(path.read_text() if path.exists() else "", globals())
if sys.argv[1] != {inside!r}:
    record("command", sys.argv[2:3])
    script("command")
    sys.exit()
requests, answers = (int(word) for word in sys.argv[3:])
def answer(**said):
    os.write(answers, json.dumps(said).encode() + b"\\n")
record("start", [])
script("start")
answer(ready=True, version="1.0", notices=["write_later: no such place"])
for line in os.fdopen(requests):
    request = json.loads(line)
    command, to = request["arguments"][0], request["to"]
    record("request", [command])
    said = dict(exit_code=0)
    script(command)
    sys.stdout.flush()
    answer(**said)
record("end", [])
script("end")
"""
ANEW = "dbt is started anew for every command, which takes longer: "


class Dbt:
    """A `dbt` as an installer makes it, whose interpreter runs scripts of ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "main.py").write_text(INTERPRETER.format(inside=inside.__file__))
        python = f'exec {shlex.quote(sys.executable)} -I "{folder}/main.py" "$@"'
        self.program("python", f"#!/bin/sh\n{python}\n")
        self.program("dbt", f"#!{folder}/python\n{BODY}")

    def program(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def on(self, name: str, script: str) -> None:
        """What is run at the start, for a command, at the end, or as the program dbt."""
        (self.folder / f"{name}.py").write_text(script)

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [" ".join(json.loads(line)) for line in lines]


@pytest.fixture
def dbt(tmp_path: Path) -> Dbt:
    return Dbt(tmp_path / "bin")


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def make(tmp_path: Path, dbt: Dbt, log: Log) -> Iterator[Callable[..., DriverEngine]]:
    made: list[DriverEngine] = []

    def engine(interrupts: Interrupts | None = None, **settings: Any) -> DriverEngine:
        engine = DriverEngine(
            DbtSettings(
                project_dir=tmp_path,
                target_path=tmp_path / "target",
                working_directory=tmp_path,
                **settings,
            ),
            environ={"PATH": f"{dbt.folder}{os.pathsep}{os.environ['PATH']}"},
            console=log,
            interrupts=interrupts or Interrupts(),
        )
        made.append(engine)
        return engine

    yield engine
    for engine_made in made:
        engine_made.close()


@pytest.fixture
def engine(make: Callable[..., DriverEngine]) -> DriverEngine:
    return make()


def test_engine__asks_one_process(dbt: Dbt, log: Log, engine: DriverEngine) -> None:
    dbt.on("ls", """print('{"unique_id": "model.a"}')""")
    dbt.on("build", "print('PASS'); said = dict(exit_code=1)")
    assert engine.plan(Selection()).unique_ids == ("model.a",)
    built = engine.build(Selection()).invocation
    engine.close()
    assert dbt.calls == ["start", "request ls", "request build", "end"]
    assert (built.exit_code, built.tail, built.interrupted) == (1, "PASS", False)
    assert log.passed == b"PASS\n"
    # What is left out is said once.
    [notice] = [line for line in log.lines if not line.startswith("+ ")]
    assert notice == "dbt 1.0 takes longer than it could: write_later: no such place"


def test_engine__is_ended_when_there_was_nothing_to_ask(
    dbt: Dbt, log: Log, engine: DriverEngine
) -> None:
    dbt.on("start", "time.sleep(3600)")
    engine.start(Selection())
    while not dbt.calls:  # The file is there before its first line is.
        pass
    engine.close()
    assert dbt.calls == ["start"]
    assert log.lines == []


def test_engine__commands_of_other_projects_are_run_apart(dbt: Dbt, engine: DriverEngine) -> None:
    engine.plan(Selection())
    engine.deps()
    engine.run_operation("a_macro")
    assert dbt.calls == ["start", "request ls", "command deps", "command run-operation"]


def test_engine__hands_on_what_is_wanted_of_the_manifest(
    dbt: Dbt, engine: DriverEngine, tmp_path: Path
) -> None:
    wrote = "open(to, 'w').write('{}'); said = dict(exit_code=0, wrote=to, parsed='why')"
    dbt.on("ls", wrote)
    plan = engine.plan(Selection())
    assert (plan.is_difference, plan.parsed_in_full) == (True, "why")
    assert plan.manifest.read_text() == "{}"
    dbt.on("build", wrote)
    assert engine.build(Selection()).manifest != plan.manifest
    dbt.on("ls", "")
    assert engine.plan(Selection()).manifest == tmp_path / "target" / "manifest.json"
    engine.close()
    assert not plan.manifest.exists()


def test_engine__a_wrapper_is_run_as_a_command(dbt: Dbt, log: Log, engine: DriverEngine) -> None:
    dbt.program("dbt", f'#!/bin/sh\nexec "{dbt.folder}/python" "$0" "$@"\n')
    engine.plan(Selection())
    engine.build(Selection())
    assert dbt.calls == ["command ls", "command build"]
    # Somebody wanted it so.
    assert [line for line in log.lines if not line.startswith("+ ")] == []


@pytest.mark.parametrize(
    ("start", "why"),
    [
        ("answer(ready=False, why='ModuleNotFoundError: dbt'); sys.exit()", "ModuleNotFoundError"),
        ("raise ImportError('broken')", "ImportError: broken"),
        ("sys.exit(7)", "exit code 7"),
        ("os.kill(os.getpid(), 9)", "exit code -9"),
        ("os.write(answers, b'no JSON\\n'); time.sleep(0.1)", "it does not say whether it is"),
        ("answer(ready='perhaps')", "it does not say whether it is ready"),
    ],
)
def test_engine__not_ready_means_commands(
    dbt: Dbt, log: Log, engine: DriverEngine, start: str, why: str
) -> None:
    dbt.on("start", start)
    engine.plan(Selection())
    engine.build(Selection())
    assert [call for call in dbt.calls if call != "end"] == [
        *("start", "command ls", "command build")
    ]
    [notice] = [line for line in log.lines if not line.startswith("+ ")]
    assert notice.startswith(f"{ANEW}{why}")
    assert log.passed == b""


def test_engine__an_interpreter_that_cannot_be_started(
    dbt: Dbt, log: Log, engine: DriverEngine
) -> None:
    # As when the program is run by a shell: that finds one.
    dbt.program(
        "dbt",
        f"#!/bin/sh\n'''exec' {dbt.folder}/gone \"$0\" \"$@\"\n' '''\n{BODY}",
    )
    with pytest.raises(Exception, match="cannot run dbt"):
        engine.plan(Selection())
    [notice] = [line for line in log.lines if not line.startswith("+ ")]
    assert notice == f"{ANEW}{dbt.folder}/gone cannot be started: No such file or directory."


DYING = "print('so far', flush=True); os.kill(os.getpid(), {})"


@pytest.mark.parametrize("command", ["ls", "parse"])
def test_engine__dies_in_a_command_that_can_be_run_again(
    dbt: Dbt, log: Log, engine: DriverEngine, command: str
) -> None:
    dbt.on(command, DYING.format(signal.SIGSEGV))
    dbt.on("command", "print('{}')")
    made = engine.parse() if command == "parse" else engine.plan(Selection())
    assert made.invocation.exit_code == 0
    engine.build(Selection())
    assert dbt.calls == ["start", f"request {command}", f"command {command}", "command build"]
    assert f"{ANEW}it ended with -11 in dbt {command}." in log.lines


def test_engine__dies_in_build(dbt: Dbt, log: Log, engine: DriverEngine) -> None:
    dbt.on("build", DYING.format(signal.SIGKILL))
    built = engine.build(Selection()).invocation
    assert (built.exit_code, built.tail) == (-9, "so far")
    assert dbt.calls == ["start", "request build"]


def test_engine__dies_between_two_commands(dbt: Dbt, log: Log, engine: DriverEngine) -> None:
    dying = "answer(**said); os.kill(os.getpid(), 9)"
    dbt.on("ls", dying)
    engine.plan(Selection())
    # It is dead when the kernel says so.
    while not engine._driver.has_ended:  # type: ignore[union-attr]
        pass
    assert engine.build(Selection()).invocation.exit_code == 0
    assert dbt.calls == ["start", "request ls", "command build"]
    assert f"{ANEW}it ended with -9 while it had nothing to do." in log.lines


@pytest.mark.parametrize(
    "answer", [b"no JSON\n", b"[]\n", b'{"exit_code": "one"}\n', b"{}\n", b"\xff\n"]
)
def test_engine__an_answer_that_says_nothing(
    dbt: Dbt, log: Log, engine: DriverEngine, answer: bytes
) -> None:
    dbt.on("ls", f"os.write(answers, {answer!r}); sys.exit()")
    engine.plan(Selection())
    assert dbt.calls == ["start", "request ls", "command ls"]
    assert any(line.startswith(f"{ANEW}its answer to dbt ls") for line in log.lines)


def test_engine__an_answer_to_build_that_says_nothing(dbt: Dbt, engine: DriverEngine) -> None:
    dbt.on("build", "os.write(answers, b'no JSON\\n'); sys.exit()")
    assert engine.build(Selection()).invocation.exit_code == 2
    assert dbt.calls == ["start", "request build"]


def test_engine__a_surprise_is_run_again(
    dbt: Dbt, log: Log, engine: DriverEngine, tmp_path: Path
) -> None:
    dbt.on("ls", "print('odd'); said = dict(exit_code=2, distrusted='KeyError(1)')")
    dbt.on("command", """print('{"unique_id": "model.a"}')""")
    terms = ParseTerms(
        schema="a", database="b", carries_over=True, versions={}, salt="", variables_digest=""
    )
    plan = engine.plan(Selection(), SavedParse(tmp_path, tmp_path, tmp_path, terms))
    assert (plan.unique_ids, plan.parsed_in_full) == (("model.a",), "KeyError(1)")
    assert log.passed == b""
    assert dbt.calls == ["start", "request ls", "end", "command ls"]
    assert f"{ANEW}KeyError(1)." in log.lines


def test_engine__a_surprise_in_build_is_its_end(dbt: Dbt, engine: DriverEngine) -> None:
    dbt.on("build", "said = dict(exit_code=2, distrusted='KeyError(1)')")
    assert engine.build(Selection()).invocation.exit_code == 2
    assert dbt.calls == ["start", "request build"]


def test_close__says_what_could_not_be_written(dbt: Dbt, log: Log, engine: DriverEngine) -> None:
    dbt.on("end", "sys.exit(1)")
    engine.build(Selection())
    engine.close()
    engine.close()
    assert log.lines[-1] == "dbt could not write all of its artifacts."


# Signals --------------------------------------------------------------------------------------

TO_US = f"os.kill({{}}, {int(signal.SIGINT)})"


def test_signal__before_it_is_ready_starts_nothing_else(
    dbt: Dbt, log: Log, make: Callable[..., DriverEngine]
) -> None:
    dbt.on("start", f"{TO_US.format(os.getpid())}; time.sleep(60)")
    with Interrupts().handled() as interrupts, pytest.raises(Cancelled):
        make(interrupts).plan(Selection())
    assert dbt.calls == ["start"]
    assert [line for line in log.lines if not line.startswith("+ ")] == []


@pytest.mark.parametrize("command", ["ls", "build"])
def test_signal__in_a_command_is_its_end(
    dbt: Dbt, make: Callable[..., DriverEngine], command: str
) -> None:
    interrupted = f"""
try:
    {TO_US.format(os.getpid())}
    time.sleep(60)
except KeyboardInterrupt:
    said = dict(exit_code=1)
"""
    dbt.on(command, interrupted)
    with Interrupts().handled() as interrupts:
        engine = make(interrupts)
        made = engine.plan(Selection()) if command == "ls" else engine.build(Selection())
    assert (made.invocation.exit_code, made.invocation.interrupted) == (1, True)
    assert dbt.calls == ["start", f"request {command}"]


def test_signal__that_ends_it_in_plan_does_not_run_it_again(
    dbt: Dbt, make: Callable[..., DriverEngine]
) -> None:
    dbt.on("ls", f"{TO_US.format(os.getpid())}; time.sleep(60)")
    with Interrupts().handled() as interrupts:
        plan = make(interrupts).plan(Selection())
    assert plan.invocation.interrupted
    assert dbt.calls == ["start", "request ls"]


def test_signal__between_plan_and_build_starts_nothing(
    dbt: Dbt, make: Callable[..., DriverEngine]
) -> None:
    with Interrupts().handled() as interrupts:
        engine = make(interrupts)
        engine.plan(Selection())
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Cancelled):
            engine.build(Selection())
    assert dbt.calls == ["start", "request ls"]
