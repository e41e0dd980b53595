from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci_defer import __version__, report
from ci_defer.outputs import OUTPUTS
from tests.harness.github import FakeGitHub
from tests.samples import (
    PROJECT,
    FakeDbt,
    Repository,
    content,
    manifest,
    node,
    quick_ci_defer,
    run_results,
    write_artifacts,
)
from tests.test_dbt_commands import option
from tests.test_runner import outputs

A = "model.shop.a"
NODES = [node(A)]
IN_CI = [node(A, relation_name='"db"."ci"."a"')]


class Place:
    """A repository with a dbt project, a program dbt, and the files of a job."""

    def __init__(self, tmp_path: Path) -> None:
        self.repository = Repository(tmp_path / "repository")
        (self.repository.path / ".gitignore").write_text("target/\n")
        (self.repository.path / "dbt_project.yml").write_text(f"name: {PROJECT}\n")
        self.commit = self.repository.commit("first")
        self.target = self.repository.path / "target"
        self.dbt = FakeDbt(tmp_path / "bin")
        self.dbt.lists(A, nodes=IN_CI)
        self.dbt.builds({A: "success"}, nodes=IN_CI)
        self.store = tmp_path / "store"
        self.job = tmp_path / "job"
        self.job.mkdir()
        # Production's, so that nothing has to be parsed again.
        self.environ = {
            **self.repository.environ,
            "PATH": self.dbt.path,
            "CI_DEFER_TARGET": "prod",
        }

    def on_actions(self, name: str, payload: dict[str, Any], **variables: str) -> None:
        """From now on this is a step of a workflow run."""
        (self.job / "event.json").write_text(json.dumps(payload))
        files = {
            f"GITHUB_{name}": str(self.job / file)
            for name, file in {
                "OUTPUT": "output",
                "STEP_SUMMARY": "summary",
                "EVENT_PATH": "event.json",
            }.items()
        }
        basic = {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": name, "RUNNER_TEMP": str(self.job)}
        self.environ |= {**basic, **files, **variables}

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [quick_ci_defer(), *arguments],
            cwd=self.repository.path,
            env={**self.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def publish(self) -> None:
        write_artifacts(self.target, manifest=manifest(NODES), run_results=run_results())
        assert self.run("onboard", "--state", str(self.store)).returncode == 0
        # What the pull request changes: otherwise dbt would have nothing to do.
        (self.repository.path / "a.sql").write_text("select 1\n")

    @property
    def outputs(self) -> dict[str, str]:
        return outputs(self.job / "output")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    with FakeGitHub() as fake:
        yield fake
        assert fake.violations == []


PUSH = {"repository": {"default_branch": "main"}}


def test_onboard__to_a_directory(place: Place) -> None:
    write_artifacts(place.target, manifest=manifest(NODES))
    done = place.run("onboard", "--state", str(place.store), CI_DEFER_TARGET="")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        f"Published the state of commit {place.commit[:12]} to {place.store}/shop." in done.stdout
    )
    assert (place.store / PROJECT / "_default" / place.commit / "state.json").is_file()


def test_onboard__to_artifacts_tells_the_upload_step(place: Place) -> None:
    write_artifacts(place.target, manifest=manifest(NODES))
    place.on_actions("push", PUSH, GITHUB_REF="refs/heads/main", GITHUB_REF_NAME="main")
    done = place.run("auto", CI_DEFER_RETENTION_DAYS="7")
    assert done.returncode == 0, done.stdout + done.stderr
    made = place.outputs
    assert set(made) == {*OUTPUTS, "artifact-name", "artifact-path", "artifact-retention-days"}
    assert (made["outcome"], made["state-commit"]) == ("success", place.commit)
    assert (made["artifact-name"], made["artifact-retention-days"]) == ("ci-defer-state-shop", "7")
    assert set(content(Path(made["artifact-path"]))) == {"manifest.json", "state.json"}
    assert "Production state published" in (place.job / "summary").read_text()


def test_onboard__refuses_a_plain_state_as_its_store(place: Place) -> None:
    write_artifacts(place.target, manifest=manifest(NODES))
    before = content(place.target)
    done = place.run("onboard", "--state", "target")
    assert done.returncode == 2
    assert "so it is no store" in done.stderr
    assert content(place.target) == before


def test_onboard__takes_the_target_path_of_dbt(place: Place) -> None:
    write_artifacts(place.repository.path / "elsewhere", manifest=manifest(NODES))
    done = place.run("onboard", "--state", str(place.store), DBT_TARGET_PATH="elsewhere")
    assert done.returncode == 0, done.stderr
    assert place.dbt.calls == []


def test_onboard__keeps_projects_apart_by_their_key(place: Place) -> None:
    write_artifacts(place.target, manifest=manifest(NODES))
    place.run("onboard", "--state", str(place.store), "--project", "eu")
    assert [path.name for path in place.store.iterdir()] == ["eu"]


def test_defer__writes_report_summary_and_outputs(place: Place) -> None:
    place.publish()
    place.on_actions(
        "pull_request",
        {"action": "opened", "pull_request": {"number": 7, "base": {"sha": place.commit}}},
        GITHUB_REF="refs/pull/7/merge",
        GITHUB_BASE_REF="main",
    )
    done = place.run("auto", CI_DEFER_STATE=str(place.store))
    assert done.returncode == 0, done.stdout + done.stderr
    made = place.outputs
    assert set(made) == set(OUTPUTS)
    assert (made["outcome"], made["selected-count"], made["state-age-commits"]) == (
        "success",
        "1",
        "0",
    )
    written = report.decode(Path(made["report"]).read_bytes())
    assert [item.unique_id for item in written.nodes] == [A]
    assert (place.job / "summary").read_text().startswith("## ✅ 1 node built")
    assert "ci-defer · shop · SUCCESS" in done.stdout


def test_defer__of_a_failure_exits_1(place: Place) -> None:
    place.publish()
    place.dbt.builds({A: "error"}, nodes=IN_CI, exit_code=1)
    done = place.run("defer", "--state", str(place.store))
    assert done.returncode == 1
    assert "ci-defer · shop · FAILURE" in done.stdout


def test_defer__in_local_mode_takes_the_production_target_folder(
    place: Place, tmp_path: Path
) -> None:
    write_artifacts(tmp_path / "prod", manifest=manifest(NODES))
    done = place.run("defer", "--state", str(tmp_path / "prod"), "--select", "a b")
    assert done.returncode == 0, done.stderr
    assert "a manifest without provenance" in done.stdout
    assert option(place.dbt.calls[1], "--select", 3) == ["a", "b", "--state"]


def test_defer__from_another_folder_reports_paths_from_the_top(place: Place) -> None:
    folder = place.repository.path / "nested" / "dbt"
    folder.mkdir(parents=True)
    (folder / "dbt_project.yml").write_text(f"name: {PROJECT}\n")
    write_artifacts(folder / "target", manifest=manifest(NODES), run_results=run_results())
    here = ("--state", str(place.store), "--project-dir", "nested/dbt")
    assert place.run("onboard", *here).returncode == 0
    done = place.run("defer", *here)
    assert done.returncode == 0, done.stderr
    made = report.decode((folder / "target" / "ci-defer" / "report.json").read_bytes())
    assert made.project_dir == "nested/dbt"


def test_settings__never_reach_the_programs_that_we_run(place: Place) -> None:
    place.publish()
    done = place.run(
        "defer", CI_DEFER_STATE=str(place.store), CI_DEFER_GITHUB_TOKEN="ghs_secret", OTHER="x"
    )
    assert done.returncode == 0, done.stderr
    assert {environ["OTHER"] for environ in place.dbt.environs} == {"x"}
    for environ in place.dbt.environs:
        assert [name for name in environ if name.startswith("CI_DEFER_")] == []
    assert "ghs_secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [
        # Without a schema of its own nothing is asked of GitHub.
        ("auto", "pr-schema is not set."),
        ("cleanup", "this pull request has built nothing into a schema of its own."),
    ],
)
def test_cleanup__of_a_closed_pull_request_sets_every_output(
    place: Place, github: FakeGitHub, command: str, said: str
) -> None:
    place.on_actions(
        "pull_request",
        {"action": "closed", "pull_request": {"number": 7}},
        GITHUB_API_URL=github.url,
        GITHUB_REPOSITORY="acme/shop",
        CI_DEFER_GITHUB_TOKEN="ghs_token",
    )
    done = place.run(command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Nothing to clean up: {said}" in done.stdout
    assert set(place.outputs) == set(OUTPUTS)
    assert place.outputs["outcome"] == "no-changes"
    assert place.dbt.calls == []


@pytest.mark.parametrize(
    ("arguments", "variables", "exit_code", "expected"),
    [
        (["auto"], {}, 2, "nothing to do for a run outside of GitHub Actions"),
        (["comment"], {}, 2, "Only a workflow run with a token can comment"),
        (["cleanup"], {}, 2, "There is no pull request to clean up after. Run it on"),
        (["cleanup", "--pull-request", "0"], {}, 2, "pull-request"),
        (["nonsense"], {}, 2, "No such command 'nonsense'"),
        (["defer", "--nonsense"], {}, 2, "No such option"),
        (["defer", "--select", "--x"], {}, 2, "--x"),
        (["defer"], {"CI_DEFER_RETENTION_DAYS": "x"}, 2, "state: artifact"),
        (["defer", "--state", "s3://b"], {}, 2, "state: s3://b names no bucket"),
        (["defer", "--state", "ftp://b"], {}, 2, "not a kind of store"),
        (["defer", "--pr-schema", "x"], {}, 2, "the same for several pull requests"),
        (["defer", "--pr-schema", "x;{number}"], {}, 2, "may only hold letters"),
        (["defer", "--project-dir", "nowhere"], {}, 2, "Set project-dir"),
        (["defer", "--dbt-args", "--state x"], {}, 2, "dbt-args may not hold --state"),
        (["onboard"], {}, 3, "There is no"),
        (["onboard", "--state", "store"], {"PATH": "/usr/bin:/bin"}, 2, "no dbt on the PATH"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors__are_one_line_and_an_exit_code(
    place: Place, arguments: list[str], variables: dict[str, str], exit_code: int, expected: str
) -> None:
    done = place.run(*arguments, **variables)
    assert done.returncode == exit_code, done.stdout + done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert expected in line
    assert "Traceback" not in done.stdout


def test_errors__on_actions_are_an_annotation_and_every_output(place: Place) -> None:
    place.on_actions("push", PUSH, GITHUB_REF="refs/heads/dev", GITHUB_REF_NAME="dev")
    done = place.run("auto")
    assert done.returncode == 2
    assert "\n::error title=ci-defer::Mode auto publishes" in f"\n{done.stdout}"
    assert set(place.outputs) == set(OUTPUTS)
    assert place.outputs["outcome"] == "error"


def test_cancelled__reports_and_exits_130(place: Place) -> None:
    place.publish()
    place.dbt.on(
        "build",
        "import signal, time\nsignal.signal(signal.SIGINT, lambda *_: sys.exit(1))\n"
        "print('building', flush=True)\nwhile True: time.sleep(0.01)\n",
    )
    with subprocess.Popen(
        [sys.executable, "-m", "ci_defer", "defer", "--state", str(place.store)],
        cwd=place.repository.path,
        env=place.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        before: list[str] = []
        while (line := process.stdout.readline()) != "building\n":
            assert line, before
            before.append(line)
        process.send_signal(signal.SIGTERM)
        after, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "ci-defer · shop · CANCELLED" in after
    made = report.decode((place.target / "ci-defer" / "report.json").read_bytes())
    assert made.outcome is report.Outcome.CANCELLED


def test_isolated_interpreter__ignores_modules_of_the_workspace(place: Place) -> None:
    # As the action runs it: neither PYTHONPATH nor a file in the checkout may be imported.
    (place.repository.path / "click.py").write_text("raise SystemExit(99)")
    done = subprocess.run(
        [sys.executable, "-I", "-m", "ci_defer", "--version"],
        cwd=place.repository.path,
        env={**place.environ, "PYTHONPATH": os.fspath(place.repository.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"ci-defer, version {__version__}\n")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["defer", "--help"], ["demo", "-h"]])
def test_help__is_fine(place: Place, arguments: list[str]) -> None:
    done = place.run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: ")
