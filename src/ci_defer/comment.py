"""The one comment of a project on a pull request: found, edited in place, or created.

Owns how the comment is recognized, when there is to be one, and that GitHub's failures are never
the run's. What is in it is decided by `markdown`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Protocol
from urllib.parse import quote

from ci_defer import markdown
from ci_defer.choices import CommentWhen
from ci_defer.errors import CiDeferError, RestError
from ci_defer.gfm import link
from ci_defer.log import Log
from ci_defer.pulls import Comment
from ci_defer.report import Outcome, Report

MARKER = re.compile(r"<!-- ci-defer: project=(?P<project>\S+) run=(?P<run>\d{1,19}) -->")
# GitHub may have done what it gave no answer to, so it is looked up before it is tried again.
ATTEMPTS = 3

# Statuses after which nothing was created for sure.
REFUSALS = range(HTTPStatus.MULTIPLE_CHOICES, HTTPStatus.INTERNAL_SERVER_ERROR)

FAILED = frozenset({Outcome.FAILURE, Outcome.ERROR})


class Comments(Protocol):
    """What this module needs of `pulls.Pulls`."""

    def login(self) -> str: ...

    def comments(self, number: int) -> list[Comment]: ...

    def create(self, number: int, body: str) -> Comment: ...

    def edit(self, comment_id: int, body: str) -> Comment: ...

    def delete(self, comment_id: int) -> None: ...


@dataclass(frozen=True)
class Commented:
    """Where the comment is. `is_pending` says that only a token with more rights can write it."""

    url: str = ""
    is_pending: bool = False


def comment(
    report: Report,
    number: int,
    comments: Comments,
    *,
    when: CommentWhen,
    run_id: int,
    log: Log,
) -> Commented:
    """Say the report on pull request `number`, in the comment of its project.

    Two jobs that create at the same time end with the older comment, and an older run never
    writes over the words of a newer one. Never raises CiDeferError: the log has a line instead.
    """
    if when is CommentWhen.OFF:
        return Commented()
    author = _Author(report, number, comments, run_id, log)
    try:
        return author.write(is_wanted=_is_wanted(report, when))
    except RestError as error:
        if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            log.info(
                f"The token cannot comment on pull request #{number}: {error.message} A pull "
                "request from a fork or of Dependabot has no other token, and a workflow_run "
                "workflow can comment for it. Any other job needs "
                "`permissions: pull-requests: write`."
            )
            return Commented(is_pending=True)
        log.warning(f"There is no comment on pull request #{number}: {error}")
    except CiDeferError as error:
        log.warning(f"There is no comment on pull request #{number}: {error}")
    return Commented()


@dataclass(frozen=True)
class _Author:
    report: Report
    number: int
    comments: Comments
    run_id: int
    log: Log

    def write(self, *, is_wanted: bool) -> Commented:
        login = self.comments.login()
        for attempt in range(ATTEMPTS):
            if ours := self._ours(login):
                return self._edit(ours[0])
            if not is_wanted:
                return Commented()
            try:
                made = self.comments.create(self.number, self._body())
            except RestError as error:
                if error.status in REFUSALS or attempt == ATTEMPTS - 1:
                    raise
                self.log.info(f"{error.message} Looking whether the comment is there.")
                continue
            try:
                return self._settle(made, self._ours(login))
            except CiDeferError as error:
                self.log.warning(f"There may be a second comment on #{self.number}: {error}")
                return Commented(made.html_url)
        raise AssertionError("the last attempt returns or raises")

    def _settle(self, made: Comment, ours: Sequence[Comment]) -> Commented:
        """Keep the older one when another job has created a comment at the same time."""
        oldest = min(ours, key=lambda item: item.id, default=made)
        if oldest.id >= made.id:
            return Commented(made.html_url)
        self.comments.delete(made.id)
        return self._edit(oldest)

    def _edit(self, existing: Comment) -> Commented:
        found = MARKER.match(existing.body or "")
        if found and int(found["run"]) > self.run_id:
            self.log.info(f"The comment is of a newer run already: {existing.html_url}")
            return Commented(existing.html_url)
        return Commented(self.comments.edit(existing.id, self._body()).html_url)

    def _ours(self, login: str) -> list[Comment]:
        """Our comments for this project: by the marker they start with, and by their author."""
        project = _project(self.report)
        return [
            item
            for item in self.comments.comments(self.number)
            if item.user
            and item.user.login == login
            and (found := MARKER.match(item.body or ""))
            and found["project"] == project
        ]

    def _body(self) -> str:
        marker = f"<!-- ci-defer: project={_project(self.report)} run={self.run_id} -->\n"
        summary = link("summary of the job", self.report.run_url)
        page = replace(markdown.COMMENT.without(marker), rest=f"in the {summary}")
        return marker + markdown.render(self.report, page)


def _is_wanted(report: Report, when: CommentWhen) -> bool:
    if when is CommentWhen.FAILURES:
        return report.outcome in FAILED
    if when is CommentWhen.CHANGES:
        return report.outcome is not Outcome.NO_CHANGES or bool(report.removed)
    return True


def marked_project(project: str, project_dir: str) -> str:
    """The project in the marker: two of one repository may have one name, but not one folder."""
    return quote(f"{project}@{project_dir}", safe="@")


def _project(report: Report) -> str:
    return marked_project(report.project, report.project_dir)
