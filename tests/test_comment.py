"""The comment on a pull request: the real client against the fake GitHub, and its faults."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from msgspec.structs import replace

from ci_defer.choices import CommentWhen
from ci_defer.comment import Commented, comment
from ci_defer.pulls import Pulls
from ci_defer.report import Change, NodeOutcome, NodeReport, Outcome, Report
from ci_defer.rest import GitHubRest
from tests.harness.github import BOT, LONGEST_COMMENT, FakeGitHub, PullRequest
from tests.samples import Log
from tests.test_report import FULL

TOKEN = "ghs_aVeryLongTokenThatMustNotLeakAnywhere"
NUMBER = 7
COMMENTS = f"/repos/acme/shop/issues/{NUMBER}/comments"
COMMENT = r"/repos/acme/shop/issues/comments/\d+"
GRAPHQL = "/graphql"
MARKER = "<!-- ci-defer: project=shop@. run={} -->\n"

RED = replace(FULL, problem=None, removed=[])
GREEN = replace(
    RED, outcome=Outcome.SUCCESS, headline="1 node built", nodes=FULL.nodes[1:], causes=[]
)
SAME = replace(GREEN, outcome=Outcome.NO_CHANGES, headline="Nothing to build", nodes=[])


class Place:
    """Pull request 7, and jobs that comment on it."""

    def __init__(self, github: FakeGitHub) -> None:
        self.github = github
        github.add_pull(PullRequest(NUMBER))
        self.log = Log()
        self.waited: list[float] = []

    def comment(
        self,
        report: Report = RED,
        *,
        run_id: int = 1,
        when: CommentWhen = CommentWhen.ALWAYS,
        number: int = NUMBER,
        token: str = TOKEN,
    ) -> Commented:
        """What a job does with its report."""
        rest = GitHubRest(
            self.github.url, "acme/shop", token, log=self.log, sleep=self.waited.append
        )
        return comment(report, number, Pulls(rest), when=when, run_id=run_id, log=self.log)

    @property
    def bodies(self) -> list[str]:
        return [one.body for one in self.github.comments(NUMBER)]

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.log.lines if line.startswith("warning: ")]

    def asked(self, method: str, path: str = "") -> int:
        return sum(
            record.method == method and path in record.path for record in self.github.requests
        )


@pytest.fixture
def place() -> Iterator[Place]:
    with FakeGitHub() as github:
        place = Place(github)
        yield place
        assert github.violations == []
        assert github.pending_faults == []
        assert TOKEN not in "\n".join([*place.log.lines, *place.bodies])


# One comment, created and then edited.


def test_comment__is_created_by_the_first_run_and_edited_by_the_next(place: Place) -> None:
    first = place.comment(RED, run_id=1)
    (made,) = place.github.comments(NUMBER)
    assert first.url == f"https://github.com/acme/shop/pull/7#issuecomment-{made.id}"
    assert made.user == BOT
    assert made.body.startswith(MARKER.format(1) + "## ❌ 1 node failed\n")
    second = place.comment(GREEN, run_id=2)
    (edited,) = place.github.comments(NUMBER)
    assert (edited.id, second) == (made.id, first)
    assert edited.body.startswith(MARKER.format(2) + "## ✅ 1 node built\n")
    assert (place.asked("POST", "comments"), place.asked("PATCH")) == (1, 1)
    assert (place.log.lines, place.waited) == ([], [])


def test_comment__is_found_on_the_third_page(place: Place) -> None:
    for number in range(205):
        place.github.add_comment(NUMBER, f"comment {number}", user="monalisa")
    place.comment(RED, run_id=1)
    place.comment(GREEN, run_id=2)
    assert len(place.bodies) == 206
    assert place.bodies[-1].startswith(MARKER.format(2))


@pytest.mark.parametrize(
    ("token", "login"), [({"app": "shop-ci"}, "shop-ci[bot]"), ({"user": "monalisa"}, "monalisa")]
)
def test_comment__with_the_token_of_an_app_or_a_person(
    place: Place, token: dict[str, Any], login: str
) -> None:
    place.github.add_token(TOKEN, **token)
    jobs = place.github.add_comment(NUMBER, MARKER.format(1) + "of a job", user=BOT)
    place.comment(RED, run_id=1)
    place.comment(GREEN, run_id=2)
    left_alone, ours = place.github.comments(NUMBER)
    assert left_alone == jobs
    assert ours.user == login
    assert ours.body.startswith(MARKER.format(2))


@pytest.mark.parametrize(
    ("user", "body"),
    [
        ("monalisa", MARKER.format(1) + "of a person"),
        ("github-actions", MARKER.format(1) + "of a person with our name"),
        ("other-app[bot]", MARKER.format(1) + "of another app"),
        ("monalisa", f"> {MARKER.format(1)}> quoted"),
        (BOT, f"Another workflow's words.\n{MARKER.format(1)}"),
        (BOT, f" {MARKER.format(1)}"),
        (BOT, "<!-- ci-defer: project=other@. run=1 -->\nof another project"),
        (BOT, "<!-- ci-defer: project=shop@nested run=1 -->\nof another folder"),
        (BOT, "<!-- ci-defer: project=shop run=1 -->\nof no folder"),
        (BOT, "<!-- ci-defer: project=shop@. run=x -->\nof no run"),
    ],
    ids=["person", "name", "app", "quoted", "in the middle", "space", "project", "folder", "old",
         "run"],
)  # fmt: skip
def test_comment__of_somebody_else_is_left_alone(place: Place, user: str, body: str) -> None:
    before = place.github.add_comment(NUMBER, body, user=user)
    for run_id, report in ((1, RED), (2, GREEN)):
        place.comment(report, run_id=run_id)
    other, ours = place.github.comments(NUMBER)
    assert other == before
    assert ours.body.startswith(MARKER.format(2))


def test_comment__of_an_account_that_is_gone_is_left_alone(place: Place) -> None:
    gone = [{"id": 1, "html_url": "x", "body": MARKER.format(1), "user": None}]
    place.github.replace_next("GET", COMMENTS, body=json.dumps(gone).encode())
    assert place.comment().url
    assert place.asked("PATCH") == 0


def test_comment__without_a_body_is_left_alone(place: Place) -> None:
    empty = [{"id": 1, "html_url": "x", "user": {"login": BOT}}]
    place.github.replace_next("GET", COMMENTS, body=json.dumps(empty).encode())
    assert place.comment().url
    assert place.asked("PATCH") == 0


@pytest.mark.parametrize(
    ("project", "folder"),
    [
        ("shop", "a b/--> <!--"),
        ("shop --> x", "."),
        ("shop\nrun=9 -->", "."),
        ("café", "naïve/☕"),
    ],
)
def test_comment__of_a_project_with_a_strange_name_is_found_again(
    place: Place, project: str, folder: str
) -> None:
    report = replace(RED, project=project, project_dir=folder)
    place.comment(report, run_id=1)
    place.comment(report, run_id=2)
    (body,) = place.bodies
    marker = body.splitlines()[0]
    # One comment of HTML, whatever the name is.
    assert (marker.count("<!--"), marker.count("-->"), marker[-3:]) == (1, 1, "-->")


def test_comment__of_each_project_is_one_of_its_own(place: Place) -> None:
    reports = [RED, replace(RED, project="other"), replace(RED, project_dir="nested")]
    for run_id in (1, 2):
        for report in reports:
            place.comment(report, run_id=run_id)
    assert [body.splitlines()[0] for body in place.bodies] == [
        "<!-- ci-defer: project=shop@. run=2 -->",
        "<!-- ci-defer: project=other@. run=2 -->",
        "<!-- ci-defer: project=shop@nested run=2 -->",
    ]


# When.

MATRIX = [
    (CommentWhen.ALWAYS, RED, True),
    (CommentWhen.ALWAYS, GREEN, True),
    (CommentWhen.ALWAYS, SAME, True),
    (CommentWhen.ALWAYS, replace(SAME, outcome=Outcome.NO_STATE), True),
    (CommentWhen.CHANGES, RED, True),
    (CommentWhen.CHANGES, GREEN, True),
    (CommentWhen.CHANGES, SAME, False),
    (CommentWhen.CHANGES, replace(SAME, removed=FULL.removed), True),
    (CommentWhen.FAILURES, RED, True),
    (CommentWhen.FAILURES, replace(RED, outcome=Outcome.ERROR), True),
    (CommentWhen.FAILURES, GREEN, False),
    (CommentWhen.FAILURES, SAME, False),
    (CommentWhen.FAILURES, replace(RED, outcome=Outcome.CANCELLED), False),
    (CommentWhen.OFF, RED, False),
    (CommentWhen.OFF, GREEN, False),
]


@pytest.mark.parametrize(("when", "report", "expected"), MATRIX)
def test_when__there_is_to_be_a_comment(
    place: Place, when: CommentWhen, report: Report, expected: bool
) -> None:
    commented = place.comment(report, when=when)
    assert len(place.bodies) == expected
    assert bool(commented.url) == expected
    assert not commented.is_pending
    assert place.log.lines == []


@pytest.mark.parametrize("when", [CommentWhen.CHANGES, CommentWhen.FAILURES])
@pytest.mark.parametrize("report", [GREEN, SAME])
def test_when__a_comment_that_is_there_is_kept_up_to_date(
    place: Place, when: CommentWhen, report: Report
) -> None:
    first = place.comment(RED, run_id=1, when=when)
    assert place.comment(report, run_id=2, when=when) == first
    (body,) = place.bodies
    assert body.startswith(MARKER.format(2))
    assert report.headline in body


def test_when__off_asks_nothing_and_leaves_a_comment_as_it_is(place: Place) -> None:
    place.comment(RED, run_id=1)
    before = (place.bodies, len(place.github.requests))
    assert place.comment(GREEN, run_id=2, when=CommentWhen.OFF) == Commented()
    assert (place.bodies, len(place.github.requests)) == before


# Runs at the same time.


def test_run__that_is_older_does_not_overwrite_a_newer_one(place: Place) -> None:
    newer = place.comment(GREEN, run_id=20)
    before = place.bodies
    assert place.comment(RED, run_id=3) == newer
    assert place.bodies == before
    assert "of a newer run already" in place.log.lines[-1]


def test_run__that_is_run_again_overwrites_its_own_words(place: Place) -> None:
    place.comment(RED, run_id=3)
    place.comment(GREEN, run_id=3)
    (body,) = place.bodies
    assert body.startswith(MARKER.format(3) + "## ✅")


@pytest.mark.parametrize("digits", ["20", "9" * 19, "9" * 20, "9" * 5000])
def test_run__in_a_marker_is_a_number_of_any_length(place: Place, digits: str) -> None:
    # Another workflow may repeat somebody's words as the same author.
    place.github.add_comment(NUMBER, MARKER.format(digits))
    assert place.comment(run_id=3).url or place.warnings


@pytest.mark.parametrize(("theirs", "ours"), [(1, 2), (2, 1)])
def test_race__of_a_comment_that_was_made_during_ours(place: Place, theirs: int, ours: int) -> None:
    made = MARKER.format(theirs) + "theirs"
    place.github.on_next("POST", COMMENTS, lambda: place.github.add_comment(NUMBER, made))
    commented = place.comment(RED, run_id=ours)
    (left,) = place.github.comments(NUMBER)
    assert commented.url.endswith(f"#issuecomment-{left.id}")
    # Theirs is the older comment; the words in it are those of the newer run.
    assert left.body.startswith(MARKER.format(2))
    assert (left.body == made) == (theirs > ours)
    assert place.asked("DELETE") == 1
    assert place.warnings == []


def test_race__of_a_comment_that_was_made_after_ours(place: Place) -> None:
    def make_theirs() -> None:
        place.github.add_comment(NUMBER, MARKER.format(2) + "theirs")

    place.github.on_next("GET", COMMENTS, lambda: None)
    place.github.on_next("GET", COMMENTS, make_theirs)
    commented = place.comment(RED, run_id=1)
    ours, theirs = place.github.comments(NUMBER)
    # The other job sees both, and takes its own away.
    assert commented.url.endswith(f"#issuecomment-{ours.id}")
    assert theirs.body == MARKER.format(2) + "theirs"
    assert (place.asked("DELETE"), place.asked("PATCH")) == (0, 0)


class Held(threading.Event):
    """Tells when an answer begins to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.reached.set()
        return super().wait(timeout)


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1)])
def test_race__of_two_jobs_one_of_which_has_ended(place: Place, first: int, second: int) -> None:
    listed = Held()
    place.github.hold_next("GET", COMMENTS, until=listed)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(place.comment, GREEN, run_id=second)
        assert listed.reached.wait(10)
        quick = place.comment(RED, run_id=first)
        listed.set()
        assert slow.result(10) == quick
    (body,) = place.bodies
    assert body.startswith(MARKER.format(2))


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1)])
def test_race__of_two_jobs_that_create_before_either_looks(
    place: Place, first: int, second: int
) -> None:
    listed, created = Held(), Held()
    place.github.hold_next("GET", COMMENTS, until=listed)
    place.github.hold_next("POST", COMMENTS, until=created)
    with ThreadPoolExecutor(2) as pool:
        giving_way = pool.submit(place.comment, GREEN, run_id=second)
        assert listed.reached.wait(10)
        older = pool.submit(place.comment, RED, run_id=first)
        assert created.reached.wait(10)
        listed.set()
        kept = giving_way.result(10)
        created.set()
        assert older.result(10) == kept
    (left,) = place.github.comments(NUMBER)
    assert kept.url.endswith(f"#issuecomment-{left.id}")
    assert left.body.startswith(MARKER.format(2))
    assert place.warnings == []


@pytest.mark.parametrize("status", [500, 502, 504])
def test_create__that_failed_though_it_was_done_makes_one_comment(
    place: Place, status: int
) -> None:
    place.github.fail_next("POST", COMMENTS, status=status, done=True)
    commented = place.comment()
    (made,) = place.github.comments(NUMBER)
    assert commented.url.endswith(f"#issuecomment-{made.id}")
    assert place.warnings == []


def test_create__without_an_answer_makes_one_comment(place: Place) -> None:
    place.github.drop_next("POST", COMMENTS)
    assert place.comment().url
    assert len(place.bodies) == 1
    assert place.warnings == []


def test_create__whose_answer_is_not_json_makes_one_comment(place: Place) -> None:
    place.github.replace_next("POST", COMMENTS, body=b"<html>")
    assert place.comment().url
    assert len(place.bodies) == 1
    assert place.warnings == []


def test_create__is_tried_again_when_it_was_not_done(place: Place) -> None:
    place.github.fail_next("POST", COMMENTS, status=502, times=2)
    assert place.comment().url
    assert len(place.bodies) == 1


def test_create__waits_as_long_as_github_asks(place: Place) -> None:
    place.github.limit_next("POST", COMMENTS, status=403, retry_after=7)
    assert place.comment().url
    assert (place.waited, len(place.bodies)) == ([7], 1)


# What GitHub refuses is never the run's failure.


def test_refused__a_token_that_can_only_read_leaves_it_to_another_run(place: Place) -> None:
    place.github.add_token(TOKEN, read_only=True)
    assert place.comment() == Commented(is_pending=True)
    assert (place.bodies, place.warnings) == ([], [])
    (line,) = place.log.lines
    assert "cannot comment on pull request #7" in line
    assert "pull-requests: write" in line


def test_refused__to_edit_leaves_it_to_another_run(place: Place) -> None:
    place.comment(RED, run_id=1)
    before = place.bodies
    place.github.add_token(TOKEN, read_only=True)
    assert place.comment(GREEN, run_id=2) == Commented(is_pending=True)
    assert (place.bodies, place.warnings) == (before, [])


def test_refused__a_token_that_can_only_read_with_nothing_to_say(place: Place) -> None:
    place.github.add_token(TOKEN, read_only=True)
    assert place.comment(SAME, when=CommentWhen.CHANGES) == Commented()


def test_refused__a_token_that_is_none(place: Place) -> None:
    place.github.add_token(TOKEN, revoked=True)
    assert place.comment() == Commented(is_pending=True)
    assert place.warnings == []


@pytest.mark.parametrize("status", [404, 410, 422, 418])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_refused__is_one_warning(place: Place, method: str, status: int) -> None:
    place.github.fail_next(method, COMMENTS, status=status, message="No.")
    assert place.comment() == Commented()
    (warning,) = place.warnings
    assert f"There is no comment on pull request #7: GitHub answered {COMMENTS}" in warning
    assert f"with {status}: No." in warning
    assert place.bodies == []


@pytest.mark.parametrize("status", [404, 410, 422])
def test_refused__to_edit_is_one_warning(place: Place, status: int) -> None:
    place.comment(RED, run_id=1)
    place.github.fail_next("PATCH", COMMENT, status=status)
    assert place.comment(GREEN, run_id=2) == Commented()
    assert len(place.warnings) == 1


def test_refused__to_delete_what_somebody_else_has_deleted(place: Place) -> None:
    other = MARKER.format(1) + "theirs"
    place.github.on_next("POST", COMMENTS, lambda: place.github.add_comment(NUMBER, other))
    place.github.fail_next("DELETE", COMMENT, status=404)
    assert isinstance(place.comment(), Commented)
    assert len(place.warnings) <= 1


def test_refused__a_pull_request_that_is_not_there(place: Place) -> None:
    assert place.comment(number=8) == Commented()
    assert len(place.warnings) == 1


Fault = Callable[[FakeGitHub], None]
AN_HOUR = 3600


def limited(method: str, path: str) -> Fault:
    return lambda github: github.limit_next(
        method, path, status=403, reset_at=int(time.time()) + AN_HOUR
    )


@pytest.mark.parametrize(
    "fault",
    [
        lambda github: github.fail_next("GET", COMMENTS, status=500, times=5),
        lambda github: github.fail_next("POST", COMMENTS, status=502, times=3),
        lambda github: github.drop_next("GET", COMMENTS, times=5),
        lambda github: github.replace_next("GET", COMMENTS, body=b"<html>"),
        lambda github: github.replace_next("GET", COMMENTS, body=b"{}"),
        lambda github: github.replace_next("GET", COMMENTS, body=b'[{"id": "x"}]'),
        lambda github: github.replace_next("GET", COMMENTS, body=b"[1]"),
        lambda github: github.replace_next("POST", COMMENTS, body=b"{}"),
        lambda github: github.replace_next("POST", COMMENTS, body=b"null"),
        lambda github: github.redirect_next("POST", COMMENTS, to="http://evil.invalid/"),
        lambda github: github.limit_next("POST", COMMENTS, status=429, retry_after=1, times=5),
    ],
    ids=["500s", "502s", "no answer", "html", "no list", "no comments", "numbers", "no comment",
         "null", "redirect", "429s"],
)  # fmt: skip
def test_fault__is_one_warning(place: Place, fault: Fault) -> None:
    fault(place.github)
    assert place.comment() == Commented()
    (warning,) = place.warnings
    assert "There is no comment on pull request #7" in warning


@pytest.mark.parametrize(
    "fault",
    [
        limited("GET", COMMENTS),
        limited("POST", COMMENTS),
        lambda github: github.limit_next("GET", COMMENTS, status=403, retry_after=1, times=5),
    ],
    ids=["GET", "POST", "five times"],
)
def test_fault__a_rate_limit_is_one_warning_and_waits_for_nobody(
    place: Place, fault: Fault
) -> None:
    fault(place.github)
    assert place.comment() == Commented()
    assert len(place.warnings) == 1


@pytest.mark.parametrize(("method", "path"), [("GET", COMMENTS), ("POST", COMMENTS)])
def test_fault__an_answer_that_breaks_off_is_tried_or_looked_for_again(
    place: Place, method: str, path: str
) -> None:
    place.github.cut_next(method, path, after=1)
    assert place.comment().url
    assert len(place.bodies) == 1


def test_fault__after_the_comment_was_made_keeps_its_address(place: Place) -> None:
    place.github.on_next("GET", COMMENTS, lambda: None)
    place.github.fail_next("GET", COMMENTS, status=500, times=5)
    commented = place.comment()
    (made,) = place.github.comments(NUMBER)
    assert commented.url.endswith(f"#issuecomment-{made.id}")


def test_login__that_cannot_be_asked_is_that_of_the_job(place: Place) -> None:
    place.comment(RED, run_id=1)
    place.github.fail_next("POST", GRAPHQL, status=403)
    place.comment(GREEN, run_id=2)
    (body,) = place.bodies
    assert body.startswith(MARKER.format(2))


def test_login__of_an_app_that_cannot_be_asked_for_now_makes_no_second_comment(
    place: Place,
) -> None:
    place.github.add_token(TOKEN, app="shop-ci")
    place.comment(RED, run_id=1)
    place.github.fail_next("POST", GRAPHQL, status=502, times=5)
    place.comment(GREEN, run_id=2)
    assert len(place.bodies) == 1


# Never more than GitHub takes.


def huge(*, name: str, message: str) -> Report:
    nodes = [
        NodeReport(
            unique_id=f"model.shop.{name}_{number}",
            name=f"{name}_{number}",
            resource_type="model",
            outcome=NodeOutcome.ERRORED,
            status="error",
            change=Change.MODIFIED,
            path=f"models/{name}_{number}.sql",
            message=f"{number} {message}",
            compiled_code=message,
        )
        for number in range(2_000)
    ]
    return replace(RED, nodes=nodes, causes=[], headline="2,000 nodes failed with an error")


@pytest.mark.parametrize(
    ("name", "message"),
    [("stg_rides", "x" * 30_000), ("\N{BAR CHART}" * 50, "\N{BAR CHART}" * 5_000), ("a", "`<&\n")],
    ids=["long", "wide", "short"],
)
@pytest.mark.parametrize("project", ["shop", "p" * 100, "ü" * 2_000])
def test_body__is_as_long_as_a_comment_may_be(
    place: Place, name: str, message: str, project: str
) -> None:
    report = replace(huge(name=name, message=message), project=project)
    place.comment(report, run_id=10**15)
    place.comment(report, run_id=10**15 + 1)
    (body,) = place.bodies
    assert len(body) <= LONGEST_COMMENT
    assert "2,000 nodes failed with an error" in body
    assert (place.asked("PATCH"), place.warnings) == (1, [])


def test_body__of_a_project_whose_name_alone_is_too_long_is_no_crash(place: Place) -> None:
    assert isinstance(place.comment(replace(RED, project="p" * 70_000)), Commented)
    assert all(len(body) <= LONGEST_COMMENT for body in place.bodies)
