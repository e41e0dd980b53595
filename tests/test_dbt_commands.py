from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from ci_defer.dbt import Selection
from ci_defer.dbt.commands import CommandEngine, DbtSettings
from ci_defer.dbt.process import Interrupts
from ci_defer.errors import Cancelled, DbtNotFound
from tests.samples import FakeDbt, Log, write_program


@pytest.fixture
def dbt(tmp_path: Path) -> FakeDbt:
    return FakeDbt(tmp_path / "bin")


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def project_dir(tmp_path: Path) -> Path:
    (tmp_path / "a project").mkdir()
    return tmp_path / "a project"


def engine_of(
    project_dir: Path, path: str, log: Log, interrupts: Interrupts | None = None, **settings: Any
) -> CommandEngine:
    return CommandEngine(
        DbtSettings(
            project_dir=project_dir,
            target_path=project_dir / "target",
            working_directory=project_dir,
            **settings,
        ),
        environ={"PATH": path, "WORD": "told"},
        console=log,
        interrupts=interrupts or Interrupts(),
    )


def option(argv: list[str], name: str, count: int = 1) -> list[str]:
    """The values after an option."""
    start = argv.index(name) + 1
    return argv[start : start + count]


def test_every_command__says_where_the_project_is(
    project_dir: Path, dbt: FakeDbt, log: Log
) -> None:
    engine = engine_of(
        project_dir, dbt.path, log, target="pr", profiles_dir=project_dir / "profiles"
    )
    engine.parse()
    engine.plan(Selection())
    engine.build(Selection())
    common = [
        *("--project-dir", str(project_dir)),
        *("--profiles-dir", str(project_dir / "profiles")),
        *("--target", "pr"),
        *("--target-path", str(project_dir / "target")),
    ]
    assert [argv[0] for argv in dbt.calls] == ["parse", "ls", "build"]
    assert [argv[1:9] for argv in dbt.calls] == [common] * 3
    assert {environ["WORD"] for environ in dbt.environs} == {"told"}


def test_every_command__leaves_out_what_is_not_set(
    project_dir: Path, dbt: FakeDbt, log: Log
) -> None:
    engine_of(project_dir, dbt.path, log).build(Selection())
    [argv] = dbt.calls
    names = ("--target", "--profiles-dir", "--select", "--exclude", "--state", "--defer")
    assert [name for name in names if name in argv] == []


def test_every_command__writes_its_artifacts_whatever_the_environment_says(
    project_dir: Path, dbt: FakeDbt, log: Log
) -> None:
    # DBT_WRITE_JSON=false, or write_json: false in dbt_project.yml: we read manifest.json.
    engine = engine_of(project_dir, dbt.path, log)
    engine.parse()
    engine.plan(Selection())
    engine.build(Selection())
    assert ["--write-json" in argv for argv in dbt.calls] == [True, True, True]


def test_selection__is_given_to_plan_and_build_alike(
    project_dir: Path, dbt: FakeDbt, log: Log
) -> None:
    selection = Selection(
        select=("state:modified+", "tag:x"),
        exclude=("a", "b"),
        state=project_dir / "state",
        defer_state=project_dir / "defer state",
        favor_state=True,
    )
    engine = engine_of(project_dir, dbt.path, log)
    engine.plan(selection)
    engine.build(selection)
    for argv in dbt.calls:
        assert option(argv, "--select", 3) == ["state:modified+", "tag:x", "--exclude"]
        assert option(argv, "--exclude", 3) == ["a", "b", "--state"]
        assert option(argv, "--state", 2) == [str(project_dir / "state"), "--defer"]
        assert option(argv, "--defer-state") == [str(project_dir / "defer state")]
        assert "--favor-state" in argv


def test_selection__without_a_state_does_not_defer(
    project_dir: Path, dbt: FakeDbt, log: Log
) -> None:
    engine_of(project_dir, dbt.path, log).build(
        Selection(select=("a",), defer_state=project_dir, favor_state=True)
    )
    [argv] = dbt.calls
    assert not {"--state", "--defer", "--defer-state", "--favor-state"} & set(argv)


def test_own_arguments__go_where_dbt_knows_them(project_dir: Path, dbt: FakeDbt, log: Log) -> None:
    words = ("--full-refresh", "--threads", "8", "--vars", "{a: 1}")
    engine = engine_of(project_dir, dbt.path, log, arguments=words)
    engine.parse()
    engine.plan(Selection())
    engine.build(Selection())
    parse, plan, build = dbt.calls
    assert [word for word in words if word in parse] == ["--threads", "8", "--vars", "{a: 1}"]
    assert [word for word in words if word in plan] == ["--vars", "{a: 1}"]
    assert [word for word in words if word in build] == list(words)


def test_full_refresh__never_unless_asked(project_dir: Path, dbt: FakeDbt, log: Log) -> None:
    engine_of(project_dir, dbt.path, log).build(Selection(state=project_dir))
    assert "--full-refresh" not in dbt.calls[0]


def test_command_line__is_printed_as_a_shell_takes_it(
    project_dir: Path, dbt: FakeDbt, log: Log
) -> None:
    engine_of(project_dir, dbt.path, log).build(Selection(select=("tag:a b",)))
    [line] = log.lines
    assert line.startswith(f"+ dbt build --project-dir '{project_dir}' ")
    assert "--select 'tag:a b'" in line


def test_plan__is_what_dbt_lists(project_dir: Path, dbt: FakeDbt, log: Log) -> None:
    dbt.on("ls", """print('warning\\n{"unique_id": "model.a"}\\n{"unique_id": "seed.b"}')""")
    plan = engine_of(project_dir, dbt.path, log).plan(Selection())
    assert plan.unique_ids == ("model.a", "seed.b")
    assert plan.invocation.exit_code == 0
    assert log.passed == b""


def test_plan__asks_for_a_listing_whatever_the_user_asks_for(
    project_dir: Path, dbt: FakeDbt, log: Log
) -> None:
    words = ("--log-format", "json", "--no-quiet")
    engine_of(project_dir, dbt.path, log, arguments=words).plan(Selection())
    [argv] = dbt.calls
    assert argv.index("--quiet") > argv.index("--no-quiet")
    assert argv[len(argv) - argv[::-1].index("--log-format") :][0] == "text"
    assert option(argv, "--output", 3) == ["json", "--output-keys", "unique_id"]


def test_plan__that_fails_shows_what_dbt_said_and_lists_nothing(
    project_dir: Path, dbt: FakeDbt, log: Log
) -> None:
    dbt.on("ls", """print('{"unique_id": "model.a"}\\n\\x1b[31mno profile'); sys.exit(2)""")
    plan = engine_of(project_dir, dbt.path, log).plan(Selection())
    assert (plan.unique_ids, plan.invocation.exit_code) == ((), 2)
    assert log.passed.endswith(b"\x1b[31mno profile\n")
    assert plan.invocation.tail.endswith("\nno profile")


def test_build__passes_output_on_and_keeps_its_end(
    project_dir: Path, dbt: FakeDbt, log: Log
) -> None:
    dbt.on("build", "print('\\x1b[32mPASS'); print('late', file=sys.stderr); sys.exit(1)")
    ran = engine_of(project_dir, dbt.path, log).build(Selection()).invocation
    assert sorted(log.passed.splitlines()) == [b"\x1b[32mPASS", b"late"]
    assert sorted(ran.tail.splitlines()) == ["PASS", "late"]
    assert (ran.exit_code, ran.arguments[:2], ran.interrupted) == (1, ("dbt", "build"), False)


def test_without_dbt__says_how_to_get_one(project_dir: Path, log: Log, tmp_path: Path) -> None:
    with pytest.raises(DbtNotFound, match=r"no dbt on the PATH\. Set the input install"):
        engine_of(project_dir, str(tmp_path), log).parse()
    assert log.lines == []


@pytest.mark.parametrize("path", ["", "/nowhere"])
def test_without_a_path__dbt_is_not_found(project_dir: Path, log: Log, path: str) -> None:
    with pytest.raises(DbtNotFound):
        engine_of(project_dir, path, log).parse()


@pytest.mark.parametrize("exit_code", [126, 127])
def test_a_shim_of_a_version_manager__is_no_dbt(
    project_dir: Path, dbt: FakeDbt, log: Log, exit_code: int
) -> None:
    write_program(dbt.folder / "dbt", f"echo 'dbt: command not found'; exit {exit_code}")
    with pytest.raises(DbtNotFound, match="cannot run dbt"):
        engine_of(project_dir, dbt.path, log).build(Selection())
    assert log.passed == b"dbt: command not found\n"


@pytest.mark.parametrize(
    "content", ["#!/no/such/python\n", "", "\x7fELF"], ids=["moved venv", "empty", "other machine"]
)
def test_a_dbt_that_cannot_be_started__is_no_dbt(
    project_dir: Path, dbt: FakeDbt, log: Log, content: str
) -> None:
    (dbt.folder / "dbt").write_text(content)
    with pytest.raises(DbtNotFound):
        engine_of(project_dir, dbt.path, log).build(Selection())


def test_a_relative_path__is_seen_from_where_we_are(
    project_dir: Path, dbt: FakeDbt, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    # PATH=.venv/bin:$PATH, and a project in a folder below.
    monkeypatch.chdir(dbt.folder.parent)
    engine_of(project_dir, f"bin{os.pathsep}{os.environ['PATH']}", log).build(Selection())
    assert len(dbt.calls) == 1


def test_after_a_signal__nothing_is_started(project_dir: Path, dbt: FakeDbt, log: Log) -> None:
    with Interrupts().handled() as interrupts:
        engine = engine_of(project_dir, dbt.path, log, interrupts)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Cancelled):
            engine.build(Selection())
    assert dbt.calls == []
