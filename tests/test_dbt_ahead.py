"""The engine that starts a build with the plan, with a small program in the place of dbt v2's.

With dbt v2 itself: tests/e2e/test_dbt_v2.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ci_defer.dbt import Selection, ahead
from ci_defer.dbt.ahead import AheadEngine, Gate
from ci_defer.dbt.commands import DbtSettings
from ci_defer.dbt.process import READ_SIZE, Interrupts
from tests.samples import Log

METADATA = {"dbt_version": "2.0.0"}
# More than a pipe takes at once.
MODEL = {"relation_name": "x" * 5 * READ_SIZE}
NODES = {"model.a": MODEL, "seed.b": {}, "snapshot.c": {}, "test.d": {}, "operation.e": {}}
# What dbt cannot do without: each field.
OTHERS = {"macros": {"macro.f": {}}, "disabled": {}, "list": [1, 2], "number": 1, "none": None}
FUNCTIONS = {"function.g": {"name": "g"}}
MANIFEST = {"metadata": METADATA, **OTHERS, "functions": FUNCTIONS, "nodes": NODES}
DEFERRED_TO = {
    "metadata": METADATA,
    "macros": {},
    "disabled": {},
    "list": [],
    "number": 1,
    "none": None,
    "functions": FUNCTIONS,
    "nodes": {"model.a": MODEL, "seed.b": {}, "snapshot.c": {}},
}

# What every command begins with. `record` is one write, so lines of two processes stay whole.
COMMON = """\
import hashlib, json, os, pathlib, signal, sys
word = dict(zip(sys.argv, sys.argv[1:]))
target = pathlib.Path(word["--target-path"])
def record(text):
    descriptor = os.open("calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (text + "\\n").encode())
    os.close(descriptor)
def digest(text):
    try:
        text = json.dumps(json.loads(text), sort_keys=True).encode()
    except ValueError:
        pass
    return hashlib.sha256(text).hexdigest()
def state(option):
    return pathlib.Path(word[option], "manifest.json").read_bytes()
"""
LS = """\
record("ls")
target.mkdir(parents=True, exist_ok=True)
(target / "manifest.json").write_text("of ls")
print(json.dumps({"unique_id": "model.a"}))
"""
BUILD = """\
record("build starts")
print("parsing", flush=True)
text = state("--state")
record("build compares with " + digest(text))
assert text == state("--state")
deferred = "--defer-state" if "--defer-state" in word else "--state"
record("build defers to " + digest(state(deferred)))
for option in ("--state", deferred):
    assert pathlib.Path(word[option], "run_results.json").read_text() == "results"
target.mkdir(exist_ok=True)
(target / "manifest.json").write_text("of build")
print("done")
"""


def digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


COMPARES = f"build compares with {digest(MANIFEST)}"
# One that has waited, and one by itself.
DEFERS, DEFERS_TO_ALL = (f"build defers to {digest(each)}" for each in (DEFERRED_TO, MANIFEST))


class DbtV2:
    """A program `dbt` that is no script: Python, which takes the command for the name of a file."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.target = self.project / "target"
        self.bin = folder / "bin"
        for made in (self.project, self.bin):
            made.mkdir()
        (self.bin / "dbt").symlink_to(Path(sys.executable).resolve())
        self.on("ls", LS)
        self.on("build", BUILD)

    def on(self, command: str, script: str) -> None:
        """What `dbt <command>` does from now on, in Python."""
        (self.project / command).write_text(COMMON + script, encoding="utf-8")

    @property
    def calls(self) -> list[str]:
        path = self.project / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, call: str) -> None:
        while call not in self.calls:
            pass


@pytest.fixture
def dbt(tmp_path: Path) -> DbtV2:
    return DbtV2(tmp_path)


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder whose files are kept in memory."""
    folder = tmp_path / "memory"
    folder.mkdir()
    monkeypatch.setattr(ahead, "IN_MEMORY", folder)
    return folder


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    with Interrupts().handled() as handled:
        yield handled


@pytest.fixture
def engine(dbt: DbtV2, log: Log, interrupts: Interrupts) -> Iterator[AheadEngine]:
    engine = AheadEngine(
        DbtSettings(project_dir=dbt.project, target_path=dbt.target, working_directory=dbt.project),
        environ={"PATH": str(dbt.bin)},
        console=log,
        interrupts=interrupts,
    )
    yield engine
    engine.close()


@pytest.fixture
def selection(tmp_path: Path) -> Selection:
    state = tmp_path / "state"
    state.mkdir()
    (state / "manifest.json").write_text(json.dumps(MANIFEST))
    (state / "run_results.json").write_text("results")
    return Selection(select=("state:modified+",), state=state)


def commands(log: Log) -> list[str]:
    return [line.split()[2] for line in log.lines if line.startswith("+ dbt ")]


def test_build__runs_since_the_plan_and_reads_the_state_when_it_is_asked_for(
    dbt: DbtV2, log: Log, engine: AheadEngine, selection: Selection
) -> None:
    # The plan ends when the build has begun: neither waits for the other one.
    dbt.on("ls", "while not pathlib.Path('calls').exists(): pass\n" + LS)
    plan = engine.plan(selection)
    assert (plan.invocation.exit_code, plan.unique_ids) == (0, ("model.a",))
    assert plan.manifest.read_text() == "of ls"
    assert dbt.calls == ["build starts", "ls"]
    assert (commands(log), log.passed) == (["ls"], b"")
    built = engine.build(selection)
    assert (built.invocation.exit_code, built.invocation.tail) == (0, "parsing\ndone")
    assert (commands(log), log.passed) == (["ls", "build"], b"parsing\ndone\n")
    assert dbt.calls == ["build starts", "ls", COMPARES, DEFERS]
    engine.close()
    assert built.manifest.read_text() == "of build"
    assert not plan.manifest.exists()


def test_build__is_told_what_the_plan_was_told(
    log: Log, dbt: DbtV2, engine: AheadEngine, selection: Selection, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "manifest.json").write_text("{}")
    (other / "run_results.json").write_text("results")
    wanted = Selection(
        select=("state:modified+", "b"),
        exclude=("c",),
        state=other,
        defer_state=selection.state,
        favor_state=True,
    )
    engine.plan(wanted)
    built = engine.build(wanted)
    assert built.invocation.exit_code == 0, log.passed
    words = list(built.invocation.arguments)
    assert words[1:3] == ["build", "--project-dir"]
    for flags in (
        ["--target-path", str(dbt.target)],
        ["--select", "state:modified+", "b", "--exclude", "c", "--state"],
        ["--defer", "--defer-state"],
        ["--favor-state", "--write-json"],
    ):
        start = words.index(flags[0])
        assert words[start : start + len(flags)] == flags


def words_of(selection: Selection) -> Selection:
    return replace(selection, state=None, defer_state=None)


def test_start__begins_the_build_before_anybody_knows_the_state(
    dbt: DbtV2, log: Log, engine: AheadEngine, selection: Selection
) -> None:
    engine.start(words_of(selection))
    dbt.wait_for("build starts")
    engine.start(words_of(selection))
    engine.plan(selection)
    assert dbt.calls == ["build starts", "ls"]
    assert engine.build(selection).invocation.exit_code == 0, log.passed
    assert dbt.calls == ["build starts", "ls", COMPARES, DEFERS]


@pytest.mark.parametrize(
    "other",
    [{"select": ("state:new",)}, {"exclude": ("x",)}, {"favor_state": True}],
    ids=lambda other: next(iter(other)),
)
def test_start__for_other_words_than_are_planned(
    dbt: DbtV2, engine: AheadEngine, selection: Selection, other: dict[str, Any]
) -> None:
    engine.start(replace(words_of(selection), **other))
    dbt.wait_for("build starts")
    engine.plan(selection)
    assert engine.build(selection).invocation.exit_code == 0
    assert dbt.calls.count("build starts") == 2
    assert dbt.calls.count(COMPARES) == 1


def test_start__begins_nothing_as_long_as_the_project_cannot_be_parsed(
    dbt: DbtV2, engine: AheadEngine, selection: Selection
) -> None:
    engine.start(None)
    assert engine._ahead is None
    engine.plan(selection)
    assert engine.build(selection).invocation.exit_code == 0
    assert dbt.calls.count("build starts") == 1


@pytest.mark.parametrize("is_planned", [False, True])
def test_start__leaves_nothing_running_without_a_state(
    dbt: DbtV2, engine: AheadEngine, selection: Selection, is_planned: bool
) -> None:
    dbt.on("build", f"record(str(os.getpid()))\n{BUILD}")
    engine.start(words_of(selection))
    dbt.wait_for("build starts")
    if is_planned:
        engine.plan(Selection())
    else:
        engine.close()
    [process] = [int(call) for call in dbt.calls if call.isdigit()]
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_no_build__leaves_the_manifest_of_the_plan_and_nothing_running(
    dbt: DbtV2, engine: AheadEngine, selection: Selection
) -> None:
    dbt.on("build", f"record(str(os.getpid()))\n{BUILD}")
    plan = engine.plan(selection)
    dbt.wait_for("build starts")
    engine.close()
    assert (dbt.target / "manifest.json").read_text() == "of ls"
    assert not plan.manifest.exists()
    [process] = [int(call) for call in dbt.calls if call.isdigit()]
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert COMPARES not in dbt.calls


def test_plan__is_written_to_memory(
    memory: Path, engine: AheadEngine, selection: Selection
) -> None:
    plan = engine.plan(selection)
    assert plan.manifest.read_text() == "of ls"
    assert plan.manifest.is_relative_to(memory)
    engine.close()
    assert not list(memory.iterdir())


@pytest.mark.parametrize("lacking", [{"ROOM": 2**60}, {"IN_MEMORY": Path("nowhere")}])
def test_plan__does_without_memory(
    monkeypatch: pytest.MonkeyPatch,
    memory: Path,
    engine: AheadEngine,
    selection: Selection,
    lacking: dict[str, Any],
) -> None:
    for name, value in lacking.items():
        monkeypatch.setattr(ahead, name, value)
    plan = engine.plan(selection)
    assert plan.manifest.read_text() == "of ls"
    assert not plan.manifest.is_relative_to(memory)


def test_build__of_something_else_is_started_by_itself(
    dbt: DbtV2, log: Log, engine: AheadEngine, selection: Selection
) -> None:
    engine.plan(selection)
    dbt.wait_for("build starts")
    built = engine.build(replace(selection, select=("b",)))
    assert built.invocation.exit_code == 0, log.passed
    assert dbt.calls.count("build starts") == 2
    assert dbt.calls[-2:] == [COMPARES, DEFERS_TO_ALL]


def test_clone__ends_what_waits(dbt: DbtV2, engine: AheadEngine, selection: Selection) -> None:
    wanted = replace(selection, select=("a", "state:new"))
    dbt.on("clone", "record('clone')")
    engine.plan(wanted)
    dbt.wait_for("build starts")
    engine.clone(wanted)
    assert engine.build(wanted).invocation.exit_code == 0
    assert [call for call in dbt.calls if call != "ls"] == [
        "build starts",
        "clone",
        "build starts",
        COMPARES,
        DEFERS_TO_ALL,
    ]


def test_plan__made_anew_ends_what_waits(
    dbt: DbtV2, engine: AheadEngine, selection: Selection
) -> None:
    wanted = replace(selection, select=("a", "state:new"))
    engine.plan(selection)
    dbt.wait_for("build starts")
    engine.plan(wanted)
    assert engine.build(wanted).invocation.exit_code == 0
    assert dbt.calls.count(COMPARES) == 1


def test_plan__that_fails_ends_what_waits(
    dbt: DbtV2, log: Log, engine: AheadEngine, selection: Selection
) -> None:
    dbt.on("ls", "print('no such model')\nsys.exit(2)")
    plan = engine.plan(selection)
    assert (plan.invocation.exit_code, plan.invocation.tail) == (2, "no such model")
    engine.close()
    assert COMPARES not in dbt.calls
    assert log.passed == b"no such model\n"
    assert not (dbt.target / "manifest.json").exists()


def test_build__that_did_not_wait_is_started_again(
    dbt: DbtV2, log: Log, engine: AheadEngine, selection: Selection
) -> None:
    # As a dbt would that takes nothing but a plain file.
    dbt.on(
        "build",
        "import stat\nrecord('build')\n"
        "mode = pathlib.Path(word['--state'], 'manifest.json').stat().st_mode\n"
        "sys.exit(0 if stat.S_ISREG(mode) else 'no manifest')",
    )
    engine.plan(selection)
    ahead = engine._ahead
    assert ahead is not None
    while not ahead.started.has_ended:
        pass
    assert engine.build(selection).invocation.exit_code == 0
    assert dbt.calls.count("build") == 2
    assert b"no manifest" not in log.passed


def test_signal__while_the_plan_is_made_ends_both(
    dbt: DbtV2, engine: AheadEngine, selection: Selection, interrupts: Interrupts
) -> None:
    dbt.on(
        "ls",
        "while not pathlib.Path('calls').exists(): pass\n"
        f"os.kill({os.getpid()}, signal.SIGTERM)\nsignal.pause()",
    )
    plan = engine.plan(selection)
    assert plan.invocation.interrupted
    engine.close()
    assert dbt.calls == ["build starts"]


def test_signal__during_the_build_reaches_it(
    dbt: DbtV2, engine: AheadEngine, selection: Selection, interrupts: Interrupts
) -> None:
    dbt.on(
        "build",
        f"{BUILD}\ntry:\n    os.kill({os.getpid()}, signal.SIGTERM)\n    signal.pause()\n"
        "except KeyboardInterrupt:\n    print('cancelled')\n    sys.exit(2)",
    )
    engine.plan(selection)
    built = engine.build(selection).invocation
    assert (built.exit_code, built.interrupted) == (2, True)
    assert built.tail == "parsing\ndone\ncancelled"


def test_build__that_dies_before_it_reads_the_state(
    dbt: DbtV2, engine: AheadEngine, selection: Selection
) -> None:
    """Nobody waits for somebody to take what the pipe cannot hold."""
    dbt.on(
        "build",
        "record('build')\nmanifest = pathlib.Path(word['--state'], 'manifest.json')\n"
        "while manifest.is_fifo():\n    pass\nos.kill(os.getpid(), signal.SIGKILL)",
    )
    engine.plan(selection)
    assert engine.build(selection).invocation.exit_code == -signal.SIGKILL


def test_script__is_run_as_a_command(dbt: DbtV2, engine: AheadEngine, selection: Selection) -> None:
    (dbt.bin / "dbt").unlink()
    (dbt.bin / "dbt").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (dbt.bin / "dbt").chmod(0o755)
    plan = engine.plan(selection)
    assert plan.manifest == dbt.target / "manifest.json"
    assert dbt.calls == ["ls"]


@pytest.mark.parametrize("select", [(), ("tag:ci",)])
def test_selection_that_needs_no_state__does_not_wait_and_is_not_begun(
    dbt: DbtV2, engine: AheadEngine, selection: Selection, select: tuple[str, ...]
) -> None:
    engine.plan(replace(selection, select=select))
    engine.plan(Selection(select=("state:modified+",)))
    assert dbt.calls == ["ls", "ls"]


def test_manifest_that_is_something_else__is_read_as_it_is(
    dbt: DbtV2, engine: AheadEngine, selection: Selection
) -> None:
    assert selection.state
    (selection.state / "manifest.json").write_text("no JSON")
    engine.plan(selection)
    assert engine.build(selection).invocation.exit_code == 0
    assert f"build defers to {hashlib.sha256(b'no JSON').hexdigest()}" in dbt.calls


def test_gate__whoever_waits_sees_the_end_when_it_is_gone(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    with (tmp_path / "gate" / "manifest.json").open("rb", buffering=0) as file:
        ready, _, _ = select.select([file], [], [], 0)
        assert not ready
        gate.close()
        assert file.read() == b""
