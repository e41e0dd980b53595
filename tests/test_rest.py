"""Changing things on GitHub, asking GraphQL and reading lists: what is tried again, and what not.

How archives and the history are read is tested with the store of artifacts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ci_defer.errors import ConfigurationError, RestError
from ci_defer.rest import GitHubRest, GoneError
from tests.harness.github import BOT, FakeGitHub, PullRequest
from tests.samples import Log

TOKEN = "ghs_aVeryLongTokenThatMustNotLeakAnywhere"
COMMENTS = "/repos/acme/shop/issues/7/comments"
COMMENT = r"/repos/acme/shop/issues/comments/\d+"
GRAPHQL = "/graphql"
VIEWER = "query { viewer { login } }"


class Place:
    """A pull request, and the real client of its repository; it waits for nothing."""

    def __init__(self, github: FakeGitHub, *, prefix: str = "") -> None:
        self.github = github
        github.add_pull(PullRequest(7))
        self.log = Log()
        self.waited: list[float] = []
        self.rest = GitHubRest(
            github.url + prefix, "acme/shop", TOKEN, log=self.log, sleep=self.waited.append
        )

    def post(self) -> Any:
        return self.rest.send("POST", "issues/7/comments", {"body": "Hello"})

    def patch(self) -> Any:
        existing = self.github.comments(7)[0].id
        return self.rest.send("PATCH", f"issues/comments/{existing}", {"body": "Bye"})

    def delete(self) -> Any:
        existing = self.github.comments(7)[0].id
        return self.rest.send("DELETE", f"issues/comments/{existing}")

    def ask(self) -> Any:
        return self.rest.query(VIEWER)

    def read(self) -> Any:
        return list(self.rest.items("issues/7/comments", None))

    @property
    def bodies(self) -> list[str]:
        return [comment.body for comment in self.github.comments(7)]

    @property
    def methods(self) -> list[str]:
        return [record.method for record in self.github.requests]


@pytest.fixture
def place() -> Iterator[Place]:
    with FakeGitHub() as github:
        place = Place(github)
        yield place
        assert github.violations == []
        assert github.pending_faults == []
        assert TOKEN not in "\n".join(place.log.lines)


def test_send__posts_edits_and_deletes(place: Place) -> None:
    made = place.post()
    assert (made["body"], place.bodies) == ("Hello", ["Hello"])
    assert place.patch()["id"] == made["id"]
    assert place.bodies == ["Bye"]
    assert place.delete() is None
    assert place.bodies == []
    assert place.waited == []


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_send__a_post_is_not_repeated_after_an_error_of_the_server(
    place: Place, status: int
) -> None:
    place.github.fail_next("POST", COMMENTS, status=status)
    with pytest.raises(RestError, match=f"with {status}") as raised:
        place.post()
    assert raised.value.status == status
    assert (place.methods, place.waited) == (["POST"], [])


def test_send__a_post_without_an_answer_is_not_repeated(place: Place) -> None:
    place.github.drop_next("POST", COMMENTS)
    with pytest.raises(RestError, match="gave no answer") as raised:
        place.post()
    assert raised.value.status == 0
    # It was done all the same: that is why.
    assert (place.methods, place.waited, place.bodies) == (["POST"], [], ["Hello"])


@pytest.mark.parametrize("status", [403, 429])
def test_send__a_post_that_was_refused_for_now_is_repeated(place: Place, status: int) -> None:
    place.github.limit_next("POST", COMMENTS, status=status, retry_after=7, times=2)
    assert place.post()["body"] == "Hello"
    assert (place.waited, place.bodies) == ([7, 7], ["Hello"])


def test_send__a_post_after_a_limit_without_a_time_waits_a_minute(place: Place) -> None:
    place.github.limit_next("POST", COMMENTS, status=403)
    place.post()
    assert (place.waited, place.bodies) == ([60], ["Hello"])


def test_send__a_post_is_refused_for_good_after_five_times(place: Place) -> None:
    place.github.limit_next("POST", COMMENTS, status=429, retry_after=1, times=5)
    with pytest.raises(RestError, match="with 429"):
        place.post()
    assert (len(place.methods), len(place.waited), place.bodies) == (5, 4, [])


def test_send__a_limit_of_an_hour_is_an_error_at_once(place: Place) -> None:
    reset = int(time.time()) + 3600
    place.github.limit_next("POST", COMMENTS, status=403, reset_at=reset)
    with pytest.raises(RestError, match="rate limit is reached"):
        place.post()
    assert (place.methods, place.waited) == (["POST"], [])


def repeats(method: str) -> tuple[str, Callable[[Place], Any]]:
    return {
        "PATCH": (COMMENT, Place.patch),
        "DELETE": (COMMENT, Place.delete),
        "POST": (GRAPHQL, Place.ask),
        "GET": (COMMENTS, Place.read),
    }[method]


# The one POST that changes nothing is that of a query.
@pytest.mark.parametrize("method", ["PATCH", "DELETE", "POST", "GET"])
@pytest.mark.parametrize("status", [500, 502])
def test_send__what_may_be_done_twice_is_repeated(place: Place, method: str, status: int) -> None:
    place.github.add_comment(7, "Hello")
    path, action = repeats(method)
    place.github.fail_next(method, path, status=status, times=2)
    action(place)
    assert place.methods == [method] * 3
    assert len(place.waited) == 2
    assert "Trying again in" in place.log.lines[0]


@pytest.mark.parametrize("method", ["PATCH", "POST", "GET"])
def test_send__what_may_be_done_twice_is_repeated_when_no_answer_comes(
    place: Place, method: str
) -> None:
    place.github.add_comment(7, "Hello")
    path, action = repeats(method)
    place.github.drop_next(method, path)
    action(place)
    assert (place.methods, len(place.waited)) == ([method] * 2, 1)


def test_send__what_was_deleted_though_no_answer_came_is_gone(place: Place) -> None:
    place.github.add_comment(7, "Hello")
    place.github.drop_next("DELETE", COMMENT)
    with pytest.raises(GoneError):
        place.delete()
    assert (place.methods, place.bodies) == (["DELETE"] * 2, [])


def test_send__gives_up_after_five_times(place: Place) -> None:
    place.github.add_comment(7, "Hello")
    place.github.fail_next("PATCH", COMMENT, status=500, times=5)
    with pytest.raises(RestError, match="with 500: Server Error"):
        place.patch()
    assert (len(place.waited), place.bodies) == (4, ["Hello"])
    assert place.waited == sorted(place.waited)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
@pytest.mark.parametrize("method", ["PATCH", "DELETE", "POST", "GET"])
def test_send__a_refusal_for_good_is_not_repeated(place: Place, method: str, status: int) -> None:
    place.github.add_comment(7, "Hello")
    path, action = repeats(method)
    place.github.fail_next(method, path, status=status)
    with pytest.raises(RestError) as raised:
        action(place)
    assert raised.value.status == status
    assert isinstance(raised.value, GoneError) == (status in (404, 410))
    assert (place.methods, place.waited) == ([method], [])


@pytest.mark.parametrize("method", ["PATCH", "POST", "GET"])
def test_send__an_answer_that_is_not_json(place: Place, method: str) -> None:
    place.github.add_comment(7, "Hello")
    path, action = repeats(method)
    place.github.replace_next(method, path, body=b"<html>")
    with pytest.raises(RestError, match="not JSON"):
        action(place)


@pytest.mark.parametrize("method", ["PATCH", "POST", "GET"])
def test_send__what_may_be_done_twice_is_repeated_when_the_answer_breaks_off(
    place: Place, method: str
) -> None:
    place.github.add_comment(7, "Hello")
    path, action = repeats(method)
    place.github.cut_next(method, path, after=5)
    action(place)
    assert (place.methods, len(place.waited)) == ([method] * 2, 1)


def test_send__a_post_whose_answer_breaks_off_is_not_repeated(place: Place) -> None:
    place.github.cut_next("POST", COMMENTS, after=5)
    with pytest.raises(RestError):
        place.post()
    assert (place.methods, place.bodies) == (["POST"], ["Hello"])


def test_query__says_who_we_are(place: Place) -> None:
    assert place.ask() == {"data": {"viewer": {"login": BOT}}}


def test_query__of_an_enterprise_server_is_beside_its_rest_api() -> None:
    with FakeGitHub() as github:
        place = Place(github, prefix="/api/v3")
        assert place.ask() == {"data": {"viewer": {"login": BOT}}}
        assert place.post()["body"] == "Hello"
        assert github.requests[0].path == "/api/graphql"
        assert github.violations == []


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (99, 1), (100, 2), (101, 2), (250, 3)])
def test_items__of_a_list_without_a_total(place: Place, count: int, pages: int) -> None:
    for number in range(count):
        place.github.add_comment(7, f"comment {number}")
    assert [entry["body"] for entry in place.read()] == [f"comment {n}" for n in range(count)]
    assert len(place.methods) == pages


def test_items__ask_for_the_next_page_when_it_is_reached(place: Place) -> None:
    for number in range(150):
        place.github.add_comment(7, f"comment {number}")
    entries = place.rest.items("issues/7/comments", None)
    assert next(entries)["body"] == "comment 0"
    assert len(place.methods) == 1


@pytest.mark.parametrize("body", [b"{}", b'{"message": "x"}', b"null", b'"x"', b"1"])
def test_items__of_something_that_is_no_list(place: Place, body: bytes) -> None:
    place.github.replace_next("GET", COMMENTS, body=body)
    with pytest.raises(RestError, match="without a list"):
        place.read()


FAULTS: dict[str, Callable[[FakeGitHub, str, str], None]] = {
    "500": lambda github, method, path: github.fail_next(method, path, times=5),
    "401": lambda github, method, path: github.fail_next(method, path, status=401),
    "no answer": lambda github, method, path: github.drop_next(method, path, times=5),
    "not JSON": lambda github, method, path: github.replace_next(method, path, body=TOKEN.encode()),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("method", ["PATCH", "POST", "GET"])
def test_errors__never_hold_the_token(
    place: Place, method: str, fault: Callable[[FakeGitHub, str, str], None]
) -> None:
    place.github.add_comment(7, "Hello")
    path, action = repeats(method)
    fault(place.github, method, path)
    with pytest.raises(RestError) as raised:
        action(place)
    error: BaseException | None = raised.value
    while error is not None:
        assert TOKEN not in f"{error} {error.args}"
        error = error.__cause__


def test_token__with_a_line_feed_at_its_end_is_the_token() -> None:
    with FakeGitHub() as github:
        github.add_token(TOKEN)
        rest = GitHubRest(github.url, "acme/shop", f"{TOKEN}\n", log=Log())
        assert rest.get("pulls") == []
        assert github.violations == []


def test_token__that_no_header_can_hold_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigurationError, match="holds characters that none has") as caught:
        GitHubRest("http://127.0.0.1", "acme/shop", f"{TOKEN}\r\nX-Evil: 1", log=Log())
    assert TOKEN not in str(caught.value)
