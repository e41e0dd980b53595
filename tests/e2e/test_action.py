"""The composite action, run for real with act: the README's two workflows on the demo's project."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ci_defer.bundle import unpack
from ci_defer.outputs import OUTPUTS
from tests.e2e.action_shop import Shop, outputs_of, pull_request_files, summary_of
from tests.harness.act import TOKEN, start_act
from tests.harness.consumer import commit, git
from tests.harness.github import FakeGitHub

pytestmark = [pytest.mark.action, pytest.mark.dbt]

BROKEN_MODEL = "select no_such_column from {{ ref('stg_bikes') }}\n"


@pytest.fixture
def shop(action_shop: Shop) -> Shop:
    return action_shop


def test_push_then_pull_request__with_the_readmes_workflows(shop: Shop, github: FakeGitHub) -> None:
    """As they stand, `install` included: uv comes from the lock, dbt from the package index.

    Both in one place, as if they were two steps of a job: the second one uses what is there.
    """
    (shop.programs / "uv").unlink()
    shop.use_empty_runner()
    shop.build_production()
    shop.use_workflows()
    pushed = shop.push()
    assert (pushed.returncode, pushed.job_result) == (0, "success"), pushed.log
    main = git(shop.repository, "rev-parse", "HEAD")
    published = outputs_of(pushed)
    assert (published["outcome"], published["state-commit"]) == ("success", main)
    assert "There is no manifest.json" in pushed.log
    assert "Production state published" in summary_of(pushed)
    assert [artifact.name for artifact in github.artifacts] == ["ci-defer-state-bike_rental"]
    assert "dbt-duckdb" in pushed.log

    ran = shop.pull_request(pull_request_files())
    assert (ran.returncode, ran.job_result) == (0, "success"), ran.log
    outputs = outputs_of(ran)
    assert set(outputs) >= set(OUTPUTS)
    assert outputs["outcome"] == "success"
    assert outputs["state-found"] == "true"
    assert (outputs["state-commit"], outputs["state-age-commits"]) == (main, "0")
    assert outputs["selected-count"] == "23"
    assert outputs["deferred-count"] == "3"
    assert outputs["failed-count"] == "0"
    assert outputs["pr-schema"] == "ci_pr_7"
    assert github.artifacts[-1].name == "ci-defer-footprint-bike_rental-7"
    assert "4 nodes built, 18 tests passed" in summary_of(ran)
    assert [note for note in ran.annotations if note.level == "error"] == []
    assert TOKEN not in ran.log + summary_of(ran)


def test_pull_request__is_compared_with_its_base_though_main_has_moved_on(
    shop: Shop, github: FakeGitHub
) -> None:
    shop.use_dbt("1.12")
    shop.build_production()
    shop.use_workflows(install="")
    base = git(shop.repository, "rev-parse", "HEAD")
    assert shop.push().returncode == 0
    payload = shop.open_pull_request(pull_request_files())
    merge = git(shop.repository, "rev-parse", "HEAD")
    # Main moves on: two more commits, both of them published.
    git(shop.repository, "switch", "--quiet", "main")
    for model in ("models/staging/stg_bikes.sql", "models/marts/dim_stations.sql"):
        text = (shop.repository / model).read_text(encoding="utf-8")
        commit(shop.repository, {model: f"-- reviewed\n{text}"}, f"Change {model}")
        assert shop.push().returncode == 0
    assert len(github.artifacts) == 3

    git(shop.repository, "checkout", "--quiet", "--detach", merge)
    ours = outputs_of(shop.run_pull_request(payload))
    assert (ours["state-commit"], ours["selected-count"]) == (base, "23")

    # What everybody else does with the same history: the latest state.
    latest = shop.directory / "latest"
    states = [artifact for artifact in github.artifacts if "state" in artifact.name]
    newest = max(states, key=lambda artifact: artifact.created_at)
    shutil.unpack_archive(_file(shop.directory / "latest.zip", newest.zip), latest)
    shop.use_workflows(install="", state=str(latest))
    others = outputs_of(shop.run_pull_request(payload))
    assert others["outcome"] == "success"
    # Both changes of others, and all that depends on them.
    assert others["selected-count"] == "40"


def test_pull_request__of_a_repository_that_never_onboarded(shop: Shop) -> None:
    """The base commit is parsed again, and production's relations come from its target."""
    shop.use_dbt("1.11")
    shop.build_production()
    shop.use_workflows(install="")
    ran = shop.pull_request(pull_request_files())
    assert (ran.returncode, ran.job_result) == (0, "success"), ran.log
    outputs = outputs_of(ran)
    assert (outputs["outcome"], outputs["selected-count"]) == ("success", "23")
    assert outputs["deferred-count"] == "3"
    assert outputs["state-source"] == "the base commit, parsed again"
    assert "parsed again" in summary_of(ran)


def test_pull_request__a_failing_model_fails_the_job_and_says_why(shop: Shop) -> None:
    shop.use_dbt("1.11")
    shop.build_production()
    shop.use_workflows(install="", favor_state="true")
    assert shop.push().returncode == 0
    ran = shop.pull_request({"models/marts/bike_wear.sql": BROKEN_MODEL})
    assert (ran.returncode, ran.job_result) == (1, "failure")
    outputs = outputs_of(ran)
    assert outputs["outcome"] == "failure"
    assert outputs["failed-count"] == "1"
    summary = summary_of(ran)
    assert "no_such_column" in summary
    assert "models/marts/bike_wear.sql" in summary
    assert "--favor-state" in ran.log


def test_pull_request__nothing_changed(shop: Shop) -> None:
    shop.use_dbt("1.12")
    shop.use_workflows(install="", state=str(shop.directory / "state"))
    assert shop.push().returncode == 0
    ran = shop.pull_request({"notes.md": "Nothing of dbt's.\n"})
    assert (ran.returncode, outputs_of(ran)["outcome"]) == (0, "no-changes"), ran.log
    assert "Nothing to build" in summary_of(ran)
    assert not (shop.directory / "warehouse.duckdb").exists()


def test_push__uploads_the_bundle(shop: Shop, github: FakeGitHub) -> None:
    shop.use_plain_dbt("1.12")
    shop.use_workflows(install="", retention_days="5")
    ran = shop.push()
    assert (ran.returncode, outputs_of(ran)["outcome"]) == (0, "success"), ran.log
    (uploaded,) = github.artifacts
    assert uploaded.name == "ci-defer-state-bike_rental"
    assert (uploaded.expires_at - uploaded.created_at).days in (4, 5)
    unpacked = shop.directory / "unpacked"
    shutil.unpack_archive(_file(shop.directory / "bundle.zip", uploaded.zip), unpacked)
    bundle = unpack(unpacked, project_name="bike_rental")
    assert bundle.provenance is not None
    assert bundle.provenance.origin.commit == git(shop.repository, "rev-parse", "HEAD")
    assert bundle.provenance.origin.repository == "acme/shop"
    assert bundle.provenance.origin.run_id == str(shop.run_id)


def test_pull_request__dbt_cannot_be_installed(shop: Shop) -> None:
    shop.use_empty_runner()
    shop.use_workflows(install="dbt-core==0.0.0.dev0")
    ran = shop.pull_request(pull_request_files())
    assert ran.returncode == 1
    assert "dbt cannot be installed. Check the input install" in ran.annotations[-1].message


def test_pull_request__nothing_in_the_workspace_runs_as_ours(shop: Shop) -> None:
    """Modules and settings of a pull request must not get into ci-defer's own interpreter."""
    shop.use_empty_runner()
    shop.use_plain_dbt("1.12")
    shop.use_workflows(install="", if_no_state="full")
    ran = shop.pull_request(
        {
            "click.py": "raise SystemExit('taken over')\n",
            "ci_defer/__init__.py": "raise SystemExit('taken over')\n",
            "sitecustomize.py": "print('taken over')\n",
            "uv.toml": 'exclude-newer = "2001-01-01"\n',
            "models/marts/bike_wear.sql": "select * from {{ ref('no_such_model') }}\n",
        }
    )
    assert outputs_of(ran)["outcome"] == "error"
    assert "no_such_model" in ran.annotations[-1].message
    assert "taken over" not in ran.log


def test_pull_request__hostile_output_is_no_workflow_command(shop: Shop) -> None:
    shop.use_dbt("1.12")
    shop.use_workflows(install="", if_no_state="full")
    hostile = (
        "{{ print('::error file=x::taken over') }}{{ print('::set-output name=outcome::x') }}"
        "select * from {{ ref('stg_rides') }}\n"
    )
    ran = shop.pull_request({"models/marts/hostile.sql": hostile})
    assert ran.returncode == 0, ran.log
    assert outputs_of(ran)["outcome"] == "success"
    assert "taken over" in ran.log
    assert [note for note in ran.annotations if "taken over" in note.message] == []


def test_pull_request__cancelled(shop: Shop) -> None:
    """GitHub's signals reach dbt through ci-defer, and the summary is still written."""
    shop.use_plain_dbt("1.12")
    shop.use_workflows(install="", if_no_state="full")
    slow = (
        "{{ config(materialized='table') }} select count(*) as rows_counted from "
        "range(10000000000) t1(x), range(1000) t2(y) where (x * y) % 7 = 3\n"
    )
    payload = shop.open_pull_request({"models/marts/slow.sql": slow})
    shop.start_run(payload)
    with start_act("pull_request", payload, **shop.arguments("dbt-pull-request.yml")) as process:
        process.wait_for_log("START sql table model ci_pr_7.slow")
        process.cancel()
        ran = process.wait()
    assert ran.returncode != 0
    assert outputs_of(ran)["outcome"] == "cancelled", ran.log
    assert "Cancelled before the build was finished" in summary_of(ran)
    # Said before the build: the upload of it is a step that act, other than GitHub, leaves out.
    assert outputs_of(ran)["pr-schema"] == "ci_pr_7"


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
