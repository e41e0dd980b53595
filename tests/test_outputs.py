from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from ci_defer.outputs import OUTPUTS, failed_outputs, onboard_outputs, report_outputs
from tests.test_report import FULL

NOTHING = {**dict.fromkeys(OUTPUTS, ""), "state-found": "false", "comment-pending": "false"}


def test_report_outputs__say_what_the_report_says() -> None:
    assert report_outputs(FULL, Path("/r/report.json")) == {
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
    }


def test_report_outputs__without_a_state_leave_its_outputs_empty() -> None:
    made = report_outputs(replace(FULL, state=None, seconds_saved=None), Path("r"))
    names = ("state-found", "state-source", "state-commit", "state-age-commits", "seconds-saved")
    assert [made[name] for name in names] == ["false", "", "", "", ""]


def test_report_outputs__an_unknown_age_is_empty_and_not_none() -> None:
    assert FULL.state
    plain = replace(FULL, state=replace(FULL.state, age_commits=None))
    assert report_outputs(plain, Path("r"))["state-age-commits"] == ""


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
