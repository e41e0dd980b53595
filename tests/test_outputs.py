from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from ci_defer.cleaned import Cleaned, Failure
from ci_defer.outputs import (
    OUTPUTS,
    cleanup_outputs,
    comment_outputs,
    failed_outputs,
    onboard_outputs,
    report_outputs,
)
from ci_defer.report import Report
from tests.test_report import FULL

NOTHING = {**dict.fromkeys(OUTPUTS, ""), "state-found": "false", "comment-pending": "false"}


URL = "https://github.com/acme/shop/pull/7#issuecomment-1"


def outputs_of(report: Report) -> dict[str, str]:
    return report_outputs(report, Path("/r/report.json"), comment_url=URL, comment_pending=False)


def test_report_outputs__say_what_the_report_says() -> None:
    assert outputs_of(FULL) == {
        **NOTHING,
        "outcome": "failure",
        "state-found": "true",
        "state-source": "/store",
        "state-commit": "a" * 40,
        "state-age-commits": "0",
        "selected-count": "1",
        "failed-count": "1",
        "deferred-count": "1",
        "seconds-saved": "2.5",
        "report": "/r/report.json",
        "comment-url": URL,
    }


def test_report_outputs__of_a_comment_that_another_run_has_to_write() -> None:
    made = report_outputs(FULL, Path("r"), comment_url="", comment_pending=True)
    assert (made["comment-url"], made["comment-pending"]) == ("", "true")


def test_report_outputs__without_a_state_leave_its_outputs_empty() -> None:
    made = outputs_of(replace(FULL, state=None, seconds_saved=None))
    names = ("state-found", "state-source", "state-commit", "state-age-commits", "seconds-saved")
    assert [made[name] for name in names] == ["false", "", "", "", ""]


def test_report_outputs__an_unknown_age_is_empty_and_not_none() -> None:
    assert FULL.state
    plain = replace(FULL, state=replace(FULL.state, age_commits=None))
    assert outputs_of(plain)["state-age-commits"] == ""


def test_onboard_outputs__say_what_was_published() -> None:
    assert onboard_outputs("a" * 40, "/store") == {
        **NOTHING,
        "outcome": "success",
        "state-found": "true",
        "state-source": "/store",
        "state-commit": "a" * 40,
    }


def test_failed_outputs__set_every_output() -> None:
    assert failed_outputs() == {**NOTHING, "outcome": "error"}


@pytest.mark.parametrize(
    ("cleaned", "outcome", "failed"),
    [
        (Cleaned(pull_request=7), "no-changes", "0"),
        (Cleaned(pull_request=7, relations=("a",)), "success", "0"),
        (Cleaned(pull_request=7, schemas=("a",), failures=(Failure("b", "c"),)), "error", "1"),
    ],
)
def test_cleanup_outputs__set_every_output(cleaned: Cleaned, outcome: str, failed: str) -> None:
    expected = {"outcome": outcome, "failed-count": failed, "comment-url": URL}
    assert cleanup_outputs(cleaned, URL) == {**NOTHING, **expected}


def test_comment_outputs__say_where_the_comment_is() -> None:
    assert comment_outputs(URL) == {**NOTHING, "outcome": "success", "comment-url": URL}
