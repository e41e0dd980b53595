"""The comment on a pull request, with act and the README's three workflows."""

from __future__ import annotations

import io
import zipfile

import pytest

from ci_defer.report import Outcome, decode
from tests.e2e.action_shop import (
    DEMO,
    PULL_REQUEST,
    Shop,
    outputs_of,
    pull_request_files,
    summary_of,
)
from tests.harness.act import TOKEN, ActRun
from tests.harness.consumer import git
from tests.harness.github import BOT, Artifact, FakeGitHub

pytestmark = [pytest.mark.action, pytest.mark.dbt]

MODEL = "models/marts/bike_wear.sql"
BROKEN = "select no_such_column from {{ ref('stg_bikes') }}\n"
ORIGINAL = (DEMO / "main" / MODEL).read_text(encoding="utf-8")
TWICE = {
    "models/marts/twice.sql": "select 1 as id union all select 1 as id\n",
    "models/marts/twice.yml": (
        "models:\n  - name: twice\n    columns:\n      - name: id\n        data_tests:\n"
        "          - not_null\n          - unique\n"
    ),
}
FIX = {**pull_request_files(), MODEL: ORIGINAL}
FORK = "mallory/shop"
FORKS_TOKEN = "ghs_forkForkForkForkForkForkForkForkFork"
MARKER = "<!-- ci-defer: project=bike_rental@. run={} -->\n"
REPORT = "ci-defer-report-bike_rental"
COMMENTS = f"/repos/acme/shop/issues/{PULL_REQUEST}/comments"


def levels(run: ActRun) -> list[str]:
    return [note.level for note in run.annotations]


def warnings_of_comments(run: ActRun) -> list[str]:
    messages = [note.message for note in run.annotations if note.level == "warning"]
    return [message for message in messages if "comment" in message]


def test_comment__is_one_from_the_first_push_to_the_fix(
    action_shop: Shop, github: FakeGitHub
) -> None:
    shop = action_shop
    shop.use_dbt("1.12")
    shop.build_production()
    shop.use_workflows(install="")
    assert shop.push().returncode == 0
    assert github.comments(PULL_REQUEST) == []

    first = shop.pull_request({MODEL: BROKEN})
    assert (first.returncode, first.job_result) == (1, "failure"), first.log
    (made,) = github.comments(PULL_REQUEST)
    url = f"https://github.com/acme/shop/pull/{PULL_REQUEST}#issuecomment-{made.id}"
    assert (made.user, outputs_of(first)["comment-url"]) == (BOT, url)
    assert outputs_of(first)["comment-pending"] == "false"
    assert made.body.startswith(
        f"{MARKER.format(shop.run_id)}## ❌ bike\\_wear failed with an error"
    )
    assert "no_such_column" in made.body
    head = git(shop.repository, "rev-parse", "change")
    assert f"https://github.com/acme/shop/blob/{head}/{MODEL}" in made.body
    assert f"https://github.com/acme/shop/actions/runs/{shop.run_id}" in made.body
    (error,) = [note for note in first.annotations if note.level == "error"]
    assert (error.file, error.title) == (MODEL, "bike_wear: error")
    assert "no_such_column" in error.message

    second = shop.run_pull_request(shop.update_pull_request({MODEL: ORIGINAL, **TWICE}))
    assert second.job_result == "failure"
    (edited,) = github.comments(PULL_REQUEST)
    assert (edited.id, outputs_of(second)["comment-url"]) == (made.id, url)
    assert edited.body.startswith(f"{MARKER.format(shop.run_id)}## ❌ test unique")
    assert "no_such_column" not in edited.body
    (error,) = [note for note in second.annotations if note.level == "error"]
    # Where the test is declared.
    assert (error.file, error.line) == ("models/marts/twice.yml", 7)
    assert error.title == "unique_twice_id: fail, 1 row"

    third = shop.run_pull_request(
        shop.update_pull_request({**FIX, "models/marts/twice.sql": "select 1 as id\n"})
    )
    assert (third.returncode, third.job_result) == (0, "success"), third.log
    (green,) = github.comments(PULL_REQUEST)
    assert (green.id, outputs_of(third)["comment-url"]) == (made.id, url)
    assert green.body.startswith(f"{MARKER.format(shop.run_id)}## ✅ ")
    assert "❌" not in green.body
    assert "error" not in levels(third)
    # Nothing waits for anybody: the one artifact is the state of production.
    names = [artifact.name for artifact in github.artifacts]
    assert [name for name in names if "report" in name] == []
    logs = "".join(run.log + summary_of(run) for run in (first, second, third))
    assert TOKEN not in logs + green.body


def unzipped(artifact: Artifact) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(artifact.zip)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_comment__for_a_fork_is_written_by_the_third_workflow(
    action_shop: Shop, github: FakeGitHub
) -> None:
    shop = action_shop
    github.add_token(FORKS_TOKEN, read_only=True)
    shop.use_dbt("1.12")
    shop.use_workflows(install="", if_no_state="full")

    def push(payload: dict[str, object]) -> tuple[ActRun, Artifact]:
        """The run of the fork's commit, which only leaves a report."""
        before = github.comments(PULL_REQUEST)
        ran = shop.run_pull_request(payload, token=FORKS_TOKEN)
        assert github.comments(PULL_REQUEST) == before
        outputs = outputs_of(ran)
        assert (outputs["comment-url"], outputs["comment-pending"]) == ("", "true"), ran.log
        # That the comment has to wait is no warning.
        assert warnings_of_comments(ran) == []
        assert FORKS_TOKEN not in ran.log
        ours = [one for one in github.artifacts if one.run_id == shop.run_id]
        (left,) = [one for one in ours if "report" in one.name]
        assert left.name == REPORT
        assert set(unzipped(left)) == {"report.json"}
        return ran, left

    def comment(run_id: int) -> str:
        """What the third workflow makes of it."""
        finished = github.run(run_id)
        ran = shop.comment_for(finished)
        assert (ran.returncode, levels(ran)) == (0, []), ran.log
        (made,) = github.comments(PULL_REQUEST)
        url = dict(ran.step_outputs("0"))["comment-url"]
        assert url.endswith(f"/pull/{PULL_REQUEST}#issuecomment-{made.id}")
        assert made.body.startswith(MARKER.format(run_id))
        assert "from the run of a fork" in made.body
        assert f"https://github.com/acme/shop/actions/runs/{run_id}" in made.body
        return made.body

    ran, left = push(shop.open_pull_request({MODEL: BROKEN}, head_repository=FORK))
    assert (ran.returncode, ran.job_result) == (1, "failure")
    assert outputs_of(ran)["outcome"] == "failure"
    report = decode(unzipped(left)["report.json"])
    assert (report.outcome, report.head_commit) == (
        Outcome.FAILURE,
        git(shop.repository, "rev-parse", "change"),
    )
    red = comment(shop.run_id)
    assert "## ❌ " in red

    # The second round.
    ran, _ = push(shop.update_pull_request(FIX, head_repository=FORK))
    assert (ran.returncode, ran.job_result) == (0, "success"), ran.log
    green = comment(shop.run_id)
    assert "## ✅ " in green
    assert "no_such_column" not in green


def test_comment__that_github_cannot_take_changes_nothing_else(
    action_shop: Shop, github: FakeGitHub
) -> None:
    shop = action_shop
    shop.use_dbt("1.12")
    shop.use_workflows(install="", if_no_state="full")
    # As often as it is tried.
    github.fail_next("POST", COMMENTS, status=502, times=3)
    ran = shop.pull_request(FIX)
    assert (ran.returncode, ran.job_result) == (0, "success"), ran.log
    outputs = outputs_of(ran)
    assert outputs["outcome"] == "success"
    assert (outputs["comment-url"], outputs["comment-pending"]) == ("", "false")
    (warning,) = warnings_of_comments(ran)
    assert warning.startswith("There is no comment on pull request #7: GitHub answered")
    assert github.comments(PULL_REQUEST) == []
    assert [one for one in github.artifacts if "report" in one.name] == []
    assert github.pending_faults == []
    assert "nodes built" in summary_of(ran)
