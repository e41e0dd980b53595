"""GitHub's API: the JSON, pages, archives and history of one repository.

Owns the addresses of the API and how GitHub refuses for now. Knows nothing of what the answers
mean; the token and the retries are those of `web`.

Source: https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from ci_defer.errors import RestError
from ci_defer.log import Log
from ci_defer.web import LONGEST_WAIT, Refusal, Service, Web, retry_after

API_VERSION = "2022-11-28"
PAGE_SIZE = 100
# Busy branches have many commits for each first parent; 2,000 of them are enough of an effort.
MAX_PAGES_OF_HISTORY = 20


class GoneError(RestError):
    """What was asked for is not there any more: 404 or 410."""


class GitHubRest:
    """The API at `api_url`, for one repository (`owner/name`)."""

    def __init__(
        self,
        api_url: str,
        repository: str,
        token: str,
        *,
        log: Log,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        api = api_url.rstrip("/")
        self._base = f"{api}/repos/{repository}"
        # The one of GitHub Enterprise Server is not below the REST API, at /api/v3.
        self._graphql = f"{api.removesuffix('/v3')}/graphql"
        self._web = Web(GITHUB, token, log=log, sleep=sleep)

    def get(self, path: str, **parameters: str | int) -> Any:
        """The JSON at `path`, which is below the repository. Raises RestError."""
        return self._web.json("GET", f"{self._base}/{path}", parameters=parameters)

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Change something below the repository, and return the JSON of the answer, if any.

        A POST may have been done when it raises. Raises RestError.
        """
        url = f"{self._base}/{path}"
        return self._web.json(method, url, body=body, is_repeatable=method != "POST")

    def query(self, query: str) -> Any:
        """The answer of the GraphQL API to a query that changes nothing. Raises RestError."""
        return self._web.json("POST", self._graphql, body={"query": query})

    def items(self, path: str, key: str | None, **parameters: str | int) -> Iterator[Any]:
        """The entries of a list, or of the list under `key`, each page when it is reached."""
        page = 1
        while True:
            found = self.get(path, per_page=PAGE_SIZE, page=page, **parameters)
            entries, total = found, None
            if key is not None:
                entries = found.get(key) if isinstance(found, dict) else None
                total = found.get("total_count") if isinstance(found, dict) else None
            if not isinstance(entries, list):
                raise RestError(f"GitHub answered {path} without a list.", "Run the job again.")
            yield from entries
            done = isinstance(total, int) and page * PAGE_SIZE >= total
            if done or len(entries) < PAGE_SIZE:
                return
            page += 1

    def download(self, path: str, to: Path, *, limit: int) -> str:
        """Save the file that `path` redirects to, and return its SHA-256 in hex.

        Raises RestError, or InvalidBundle when it has more than `limit` bytes.
        """
        url = f"{self._base}/{path}"
        return self._web.download(lambda: self._web.location(url), to, name=path, limit=limit)

    def merge_base(self, base: str, head: str) -> str | None:
        """The best common ancestor of two commits, or None when GitHub knows of none."""
        try:
            # One commit a page: the list of commits between them is not wanted.
            found = self.get(f"compare/{base}...{head}", per_page=1)
        except GoneError:
            return None
        return _sha(found.get("merge_base_commit"))

    def first_parents(self, commit: str, limit: int) -> list[str]:
        """`commit` and its first-parent ancestors, nearest first, at most `limit` of them."""
        parents: dict[str, str] = {}
        chain = [commit]
        page = 1
        while len(chain) < limit and page <= MAX_PAGES_OF_HISTORY:
            listed = self.get("commits", sha=commit, per_page=PAGE_SIZE, page=page)
            for entry in listed:
                above = entry.get("parents") or []
                parents[str(entry.get("sha"))] = str(_sha(above[0])) if above else ""
            while len(chain) < limit and (above := parents.get(chain[-1])):
                chain.append(above)
            if len(listed) < PAGE_SIZE or parents.get(chain[-1]) == "":
                break
            page += 1
        return chain


def _error(message: str, hint: str, status: int) -> RestError:
    gone = status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
    return (GoneError if gone else RestError)(message, hint, status=status)


def _asked_wait(refusal: Refusal) -> float | None:
    """How long GitHub asks to wait; None when it refuses for another reason than a rate limit."""
    after = retry_after(refusal)
    if refusal.headers.get("X-RateLimit-Remaining") == "0" and "Retry-After" not in refusal.headers:
        reset = refusal.headers.get("X-RateLimit-Reset", "")
        return max(0.0, int(reset) - time.time()) if reset.isdigit() else LONGEST_WAIT
    # GitHub's own advice for a secondary limit without a header: at least a minute.
    return 60.0 if after is None and "rate limit" in refusal.said.lower() else after


def _hint(status: int) -> str:
    if status == HTTPStatus.UNAUTHORIZED:
        return "Check the input github-token."
    if status == HTTPStatus.FORBIDDEN:
        return "Give the job `permissions: actions: read, contents: read`."
    return "Run the job again."


def _sha(entry: Any) -> str | None:
    sha = entry.get("sha") if isinstance(entry, dict) else None
    return sha if isinstance(sha, str) else None


GITHUB = Service(
    name="GitHub",
    said="message",
    error=_error,
    hint=_hint,
    headers={"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": API_VERSION},
    limits=frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS}),
    asked_wait=_asked_wait,
)
