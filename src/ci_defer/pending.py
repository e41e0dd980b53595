"""Comments for runs that had no right to comment: those of forks and of Dependabot.

Such a run leaves its report as an artifact, and a later `workflow_run` workflow of this repository
says it. The report is the word of a stranger: it is data of a strict shape and a limited size, and
which pull request it is about, which commit and which run, is asked of GitHub.
https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows#workflow_run
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import msgspec

from ci_defer.archive import extract
from ci_defer.choices import CommentWhen
from ci_defer.comment import Commented, Comments, comment
from ci_defer.errors import CiDeferError, ConfigurationError, InvalidBundle
from ci_defer.event import Event, FinishedRun
from ci_defer.log import Log
from ci_defer.pulls import PullRequest
from ci_defer.report import Report, decode
from ci_defer.wording import FROM_A_STRANGER

ARTIFACT_PREFIX = "ci-defer-report-"
REPORT = "report.json"
# A repository has some dbt projects; a stranger may upload as many artifacts as they like.
MAX_REPORTS = 20
MAX_ARCHIVE = 20 * 1024**2
MAX_REPORT = 50 * 1024**2


class Rest(Protocol):
    """What this module needs of the REST API; paths are below the repository."""

    def items(self, path: str, key: str | None, **parameters: str | int) -> Iterator[Any]: ...

    def download(self, path: str, to: Path, *, limit: int) -> str: ...


class Pulls(Comments, Protocol):
    """What this module needs of `pulls.Pulls`."""

    def with_head(self, owner: str, branch: str, commit: str) -> list[PullRequest]: ...


class _Waiting(msgspec.Struct, frozen=True):
    """An artifact as the REST API lists it."""

    id: int
    name: str
    digest: str | None = None


def artifact_name(project: str) -> str:
    """The artifact in which the report of a project waits."""
    return f"{ARTIFACT_PREFIX}{project}"


def comment_pending(
    event: Event, run: FinishedRun, rest: Rest, pulls: Pulls, *, when: CommentWhen, log: Log
) -> Commented:
    """Comment with the reports that the finished run has left.

    A report that is not one of ours is passed over, and the log says why. Raises CiDeferError
    when GitHub cannot be asked, ConfigurationError when this is no workflow_run event.
    """
    if not run.id:
        raise ConfigurationError(
            "There is no finished workflow run to comment for.",
            "Use mode: comment in a workflow with `on: workflow_run`.",
        )
    if run.event != "pull_request":
        log.info(f"Run {run.id} was started by {run.event}: there is nothing to comment on.")
        return Commented()
    listed = rest.items(f"actions/runs/{run.id}/artifacts", "artifacts")
    artifacts = (msgspec.convert(entry, _Waiting) for entry in listed)
    ours = (artifact for artifact in artifacts if artifact.name.startswith(ARTIFACT_PREFIX))
    waiting = list(islice(ours, MAX_REPORTS))
    if not waiting:
        log.info(
            f"Run {run.id} has left no report: it could comment itself, or had nothing to say."
        )
        return Commented()
    found = pulls.with_head(run.owner, run.head_branch, run.head_sha)
    if not found:
        log.info(
            f"No open pull request has the head {run.head_sha[:12]}: a newer run will comment."
        )
        return Commented()
    commented = Commented()
    for artifact in waiting:
        try:
            report = _about(_fetch(artifact, rest), event, run)
        except CiDeferError as error:
            log.warning(f"A report of run {run.id} is passed over: {error.message}")
            continue
        for pull in found:
            commented = comment(report, pull.number, pulls, when=when, run_id=run.id, log=log)
    return commented


def _fetch(artifact: _Waiting, rest: Rest) -> Report:
    """Download, unpack and decode a report."""
    with TemporaryDirectory(prefix="ci-defer-") as directory:
        folder = Path(directory)
        archive = folder / "archive.zip"
        sha256 = rest.download(f"actions/artifacts/{artifact.id}/zip", archive, limit=MAX_ARCHIVE)
        if artifact.digest and artifact.digest != f"sha256:{sha256}":
            raise InvalidBundle("Its digest is not the one that GitHub lists.")
        extract(archive, folder, names={REPORT}, limit=MAX_REPORT)
        try:
            return decode((folder / REPORT).read_bytes())
        except FileNotFoundError:
            raise InvalidBundle(f"There is no {REPORT} in it.") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidBundle(f"It does not have the shape of a report: {error}.") from None


def _about(report: Report, event: Event, run: FinishedRun) -> Report:
    """The report with everything that GitHub knows better in place of what it says itself."""
    return msgspec.structs.replace(
        report,
        head_commit=run.head_sha,
        repository_url=event.repository_url,
        run_url=f"{event.repository_url}/actions/runs/{run.id}",
        warnings=[FROM_A_STRANGER, *report.warnings] if run.is_of_a_fork else report.warnings,
    )
