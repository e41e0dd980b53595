"""Pull requests as GitHub tells of them: the real client against the fake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ci_defer.errors import CiDeferError
from ci_defer.pulls import JOB_LOGIN, Pulls
from ci_defer.rest import GitHubRest
from tests.harness.github import BOT, FakeGitHub, PullRequest
from tests.samples import Log

TOKEN = "ghs_aVeryLongTokenThatMustNotLeakAnywhere"
PULLS = "/repos/acme/shop/pulls"
COMMENTS = "/repos/acme/shop/issues/7/comments"
SHA = "5" * 40


class Place:
    def __init__(self, github: FakeGitHub) -> None:
        self.github = github
        self.waited: list[float] = []
        self.pulls = Pulls(
            GitHubRest(github.url, "acme/shop", TOKEN, log=Log(), sleep=self.waited.append)
        )

    def numbers(self, owner: str, branch: str, commit: str = SHA) -> list[int]:
        return [pull.number for pull in self.pulls.with_head(owner, branch, commit)]


@pytest.fixture
def place() -> Iterator[Place]:
    with FakeGitHub() as github:
        yield Place(github)
        assert github.violations == []
        assert github.pending_faults == []


@pytest.mark.parametrize(
    ("token", "expected"),
    [({}, BOT), ({"app": "shop-ci"}, "shop-ci[bot]"), ({"user": "monalisa"}, "monalisa")],
)
def test_login__is_that_of_the_token(place: Place, token: dict[str, Any], expected: str) -> None:
    place.github.add_token(TOKEN, **token)
    assert place.pulls.login() == expected


@pytest.mark.parametrize(
    "answer",
    [
        {"errors": [{"message": "Resource not accessible by integration", "type": "FORBIDDEN"}]},
        {"data": {"viewer": None}, "errors": [{"message": "No"}]},
        {"data": None},
        [],
        None,
    ],
    ids=["errors", "nobody", "no data", "list", "null"],
)
def test_login__that_is_not_told_is_that_of_a_job(place: Place, answer: object) -> None:
    place.github.replace_next("POST", "/graphql", body=json.dumps(answer).encode())
    assert place.pulls.login() == JOB_LOGIN == BOT
    assert place.waited == []


def test_login__of_a_token_that_may_not_ask_is_that_of_a_job(place: Place) -> None:
    place.github.fail_next("POST", "/graphql", status=403)
    assert place.pulls.login() == BOT
    assert place.waited == []


def test_login__is_asked_again_after_a_fault(place: Place) -> None:
    place.github.add_token(TOKEN, app="shop-ci")
    place.github.fail_next("POST", "/graphql", status=502)
    assert place.pulls.login() == "shop-ci[bot]"
    assert len(place.waited) == 1


def test_comments__are_all_of_them_the_oldest_first(place: Place) -> None:
    place.github.add_pull(PullRequest(7))
    made = [place.github.add_comment(7, f"comment {n}", user="monalisa") for n in range(101)]
    found = place.pulls.comments(7)
    assert [one.id for one in found] == [one.id for one in made]
    assert found[-1].body == "comment 100"
    assert found[-1].user
    assert found[-1].user.login == "monalisa"


@pytest.mark.parametrize("entry", [1, {}, {"id": "x", "html_url": "x"}, {"id": 1, "html_url": 2}])
def test_comments__of_another_shape_are_an_error_of_ours(place: Place, entry: object) -> None:
    place.github.add_pull(PullRequest(7))
    place.github.replace_next("GET", COMMENTS, body=json.dumps([entry]).encode())
    with pytest.raises(CiDeferError, match="a Comment that ci-defer does not know"):
        place.pulls.comments(7)


def test_with_head__finds_the_open_ones_of_a_branch_whose_head_is_the_commit(
    place: Place,
) -> None:
    for pull in (
        PullRequest(1, head_sha=SHA),
        PullRequest(2, head_sha=SHA, head_repository="mallory/shop"),
        PullRequest(3, head_sha=SHA, head_repository="mallory/shop", base_ref="release"),
        PullRequest(4, head_sha="6" * 40, head_repository="mallory/shop"),
        PullRequest(5, head_sha=SHA, head_repository="mallory/shop", state="closed"),
        PullRequest(6, head_sha=SHA, head_ref="other", head_repository="mallory/shop"),
    ):
        place.github.add_pull(pull)
    assert place.numbers("mallory", "feature") == [3, 2]
    assert place.numbers("acme", "feature") == [1]
    assert place.numbers("mallory", "other") == [6]
    assert place.numbers("mallory", "feature", "7" * 40) == []
    assert place.numbers("nobody", "feature") == []


@pytest.mark.parametrize("branch", ["a/b", "a&state=all", "a#b", "a+b", "ü ☕", "a%2Fb", "x:y"])
def test_with_head__of_a_branch_with_a_strange_name(place: Place, branch: str) -> None:
    place.github.add_pull(PullRequest(1, head_sha=SHA, head_ref=branch))
    place.github.add_pull(PullRequest(2, head_sha=SHA, head_ref="a", state="closed"))
    assert place.numbers("acme", branch) == [1]


def test_with_head__looks_at_all_pages(place: Place) -> None:
    # A branch has as many pull requests as there are branches to merge it into.
    for number in range(1, 102):
        place.github.add_pull(PullRequest(number, head_sha=SHA, base_ref=f"release-{number}"))
    assert len(place.numbers("acme", "feature")) == 101


@pytest.mark.parametrize(("owner", "branch"), [("", "feature"), ("", ""), ("mallory", "")])
def test_with_head__of_a_fork_that_is_gone_asks_for_nothing(
    place: Place, owner: str, branch: str
) -> None:
    """A stranger can push the commit of another pull request, and delete the fork."""
    place.github.add_pull(PullRequest(1, head_sha=SHA))
    assert place.numbers(owner, branch) == []
    assert place.github.requests == []


@pytest.mark.parametrize("entry", [{}, {"number": 1}, {"number": "1", "head": {}, "base": {}}])
def test_with_head__of_another_shape_is_an_error_of_ours(place: Place, entry: object) -> None:
    place.github.replace_next("GET", PULLS, body=json.dumps([entry]).encode())
    with pytest.raises(CiDeferError, match="a PullRequest that ci-defer does not know"):
        place.pulls.with_head("acme", "feature", SHA)
