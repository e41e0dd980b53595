"""The outputs of the action, for each way a run can end. Pure.

Every command sets every output, so that a workflow never reads one that does not exist.
"""

from __future__ import annotations

from pathlib import Path

from ci_defer.cleaned import Cleaned
from ci_defer.report import Outcome, Report

OUTPUTS = (
    "outcome",
    "state-found",
    "state-source",
    "state-commit",
    "state-age-commits",
    "selected-count",
    "failed-count",
    "deferred-count",
    "seconds-saved",
    "pr-schema",
    "report",
    "comment-url",
    "comment-pending",
)


def report_outputs(
    report: Report, path: Path, *, comment_url: str, comment_pending: bool
) -> dict[str, str]:
    """The outputs of defer; `path` is where report.json is."""
    state = report.state
    age = state.age_commits if state else None
    return _all(
        {
            "outcome": report.outcome.value,
            "state-found": _boolean(value=state is not None),
            "state-source": state.location if state else "",
            "state-commit": state.commit if state else "",
            "state-age-commits": "" if age is None else str(age),
            "selected-count": str(report.selected_count),
            "failed-count": str(len(report.failed)),
            "deferred-count": str(len(report.deferred)),
            "seconds-saved": "" if report.seconds_saved is None else str(report.seconds_saved),
            "pr-schema": report.pr_schema,
            "report": str(path),
            "comment-url": comment_url,
            "comment-pending": _boolean(value=comment_pending),
        }
    )


def onboard_outputs(commit: str, source: str) -> dict[str, str]:
    """The outputs of onboard: the state that was published."""
    return _all(
        {
            "outcome": Outcome.SUCCESS.value,
            "state-found": _boolean(value=True),
            "state-source": source,
            "state-commit": commit,
        }
    )


def failed_outputs() -> dict[str, str]:
    """The outputs of a run that ended before there was anything to report."""
    return _all({"outcome": Outcome.ERROR.value})


def cleanup_outputs(cleaned: Cleaned, url: str) -> dict[str, str]:
    """The outputs of cleanup; the URL is that of the comment which says what was dropped."""
    outcome = Outcome.ERROR if cleaned.failures else Outcome.SUCCESS
    if not (cleaned.schemas or cleaned.relations or cleaned.failures):
        outcome = Outcome.NO_CHANGES
    return _all(
        {
            "outcome": outcome.value,
            "failed-count": str(len(cleaned.failures)),
            "comment-url": url,
        }
    )


def comment_outputs(url: str) -> dict[str, str]:
    """The outputs of a run that comments for another one; the URL is empty without a comment."""
    return _all({"outcome": Outcome.SUCCESS.value, "comment-url": url})


def _all(known: dict[str, str]) -> dict[str, str]:
    defaults = dict.fromkeys(OUTPUTS, "")
    return {**defaults, "state-found": "false", "comment-pending": "false", **known}


def _boolean(*, value: bool) -> str:
    return str(value).lower()
