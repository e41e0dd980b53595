"""Pull requests on GitHub: their comments, and which of them has a commit as its head.

Owns the paths of the REST API and the shape of its answers. What to say is decided elsewhere.
https://docs.github.com/en/rest/issues/comments
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

import msgspec

from ci_defer.errors import CiDeferError, WebError

# The author of what is written with the token of a job.
JOB_LOGIN = "github-actions[bot]"
MAY_NOT_ASK = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})


class Rest(Protocol):
    """What this module needs of the REST API; paths are below the repository."""

    def items(self, path: str, key: str | None, **parameters: str | int) -> Iterator[Any]: ...

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any: ...

    def query(self, query: str) -> Any: ...


Answer = TypeVar("Answer")


class _User(msgspec.Struct, frozen=True):
    login: str


class Comment(msgspec.Struct, frozen=True):
    """A comment of the conversation. The author is None when the account is gone."""

    id: int
    html_url: str
    body: str | None = None
    user: _User | None = None


class _Repository(msgspec.Struct, frozen=True):
    full_name: str


class _Ref(msgspec.Struct, frozen=True):
    ref: str
    sha: str
    repo: _Repository | None = None


class PullRequest(msgspec.Struct, frozen=True):
    """A pull request. The head's repository is None when the fork was deleted."""

    number: int
    head: _Ref
    base: _Ref


class Pulls:
    """The pull requests of the repository of `rest`. Every method raises CiDeferError."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    def login(self) -> str:
        """Who the author of our comments is."""
        # A token that may not ask is that of the job: people and apps may.
        try:
            answer = self._rest.query("query { viewer { login } }")
        except WebError as error:
            if error.status in MAY_NOT_ASK:
                return JOB_LOGIN
            raise
        try:
            return str(answer["data"]["viewer"]["login"])
        except (LookupError, TypeError):
            return JOB_LOGIN

    def comments(self, number: int) -> list[Comment]:
        """All comments of a pull request, the oldest first."""
        listed = self._rest.items(f"issues/{number}/comments", None)
        return [_convert(entry, Comment) for entry in listed]

    def create(self, number: int, body: str) -> Comment:
        made = self._rest.send("POST", f"issues/{number}/comments", {"body": body})
        return _convert(made, Comment)

    def edit(self, comment_id: int, body: str) -> Comment:
        made = self._rest.send("PATCH", f"issues/comments/{comment_id}", {"body": body})
        return _convert(made, Comment)

    def delete(self, comment_id: int) -> None:
        """Delete a comment; one that is gone by now is fine."""
        try:
            self._rest.send("DELETE", f"issues/comments/{comment_id}")
        except WebError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
                raise

    def with_head(self, owner: str, branch: str, commit: str) -> list[PullRequest]:
        """The open pull requests from `owner:branch` whose head is `commit`."""
        # GitHub takes no notice of half a name, and lists the pull requests of everybody.
        if not (owner and branch):
            return []
        # GitHub knows the pull requests of a commit only for branches of the repository itself.
        listed = self._rest.items("pulls", None, state="open", head=f"{owner}:{branch}")
        found = [_convert(entry, PullRequest) for entry in listed]
        return [
            pull
            for pull in found
            if pull.head.sha == commit
            and pull.head.repo
            and pull.head.repo.full_name.partition("/")[0] == owner
        ]


def _convert(entry: Any, kind: type[Answer]) -> Answer:
    try:
        return msgspec.convert(entry, kind)
    except msgspec.ValidationError as error:
        raise CiDeferError(
            f"GitHub answered with a {kind.__name__} that ci-defer does not know: {error}."
        ) from None
