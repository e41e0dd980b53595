"""GitHub's REST API over HTTP: reading JSON, pages and archives, with the retries it asks for.

Owns the token on the wire: it goes to the host of the API and to no other. Knows nothing of what
the answers mean.

Source: https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import tenacity

from ci_defer import __version__
from ci_defer.errors import CiDeferError, InvalidBundle
from ci_defer.log import Log

API_VERSION = "2022-11-28"
PAGE_SIZE = 100
# Busy branches have many commits for each first parent; 2,000 of them are enough of an effort.
MAX_PAGES_OF_HISTORY = 20
# Seconds to connect, and between two pieces of an answer.
TIMEOUT = (10, 60)
ATTEMPTS = 5
# A job that waits longer than this costs more than one that says so.
LONGEST_WAIT = 120
CHUNK = 1024 * 1024
Answer = TypeVar("Answer")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class RestError(CiDeferError):
    """GitHub refused, or could not answer. `status` is the HTTP status, 0 without an answer."""

    def __init__(self, message: str, hint: str = "", *, status: int = 0) -> None:
        super().__init__(message, hint)
        self.status = status


class GoneError(RestError):
    """What was asked for is not there any more: 404 or 410."""


class _Retry(Exception):
    """Try again, after `wait` seconds if GitHub said how long."""

    def __init__(self, error: RestError, wait: float | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait = wait


class _Bearer(requests.auth.AuthBase):
    """Sets the token itself: requests would prefer an entry of ~/.netrc to a header of ours."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class GitHubRest:
    """The REST API at `api_url`, for one repository (`owner/name`)."""

    def __init__(
        self,
        api_url: str,
        repository: str,
        token: str,
        *,
        log: Log,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._base = f"{api_url.rstrip('/')}/repos/{repository}"
        self._auth = _Bearer(token)
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"ci-defer/{__version__}"
        self._log = log
        self._sleep = sleep

    def get(self, path: str, **parameters: str | int) -> Any:
        """The JSON at `path`, which is below the repository. Raises RestError."""
        with self._retrying(lambda: self._ask(f"{self._base}/{path}", parameters)) as response:
            try:
                return response.json()
            except ValueError:
                raise RestError(
                    f"GitHub answered {path} with something that is not JSON.",
                    "Run the job again.",
                    status=response.status_code,
                ) from None

    def items(self, path: str, key: str, **parameters: str | int) -> Iterator[Any]:
        """The entries under `key`, page after page, each page asked for when it is reached."""
        page = 1
        while True:
            found = self.get(path, per_page=PAGE_SIZE, page=page, **parameters)
            entries = found.get(key) if isinstance(found, dict) else None
            if not isinstance(entries, list):
                raise RestError(f"GitHub answered {path} without {key}.", "Run the job again.")
            yield from entries
            total = found.get("total_count")
            done = isinstance(total, int) and page * PAGE_SIZE >= total
            if done or len(entries) < PAGE_SIZE:
                return
            page += 1

    def download(self, path: str, to: Path, *, limit: int) -> str:
        """Save the file that `path` redirects to, and return its SHA-256 in hex.

        The token is not sent to the host of the file. Raises RestError, or InvalidBundle when it
        has more than `limit` bytes.
        """
        return self._retrying(lambda: self._download(path, to, limit))

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

    def _download(self, path: str, to: Path, limit: int) -> str:
        with self._ask(f"{self._base}/{path}", {}, follow=False) as response:
            location = response.headers.get("Location", "")
            if not response.is_redirect or not _is_safe(location, self._base):
                raise RestError(
                    f"GitHub did not say where {path} can be downloaded.",
                    "Run the job again.",
                    status=response.status_code,
                )
        digest = hashlib.sha256()
        # `auth` that adds nothing: neither the token nor ~/.netrc goes to that host.
        with self._send(location, {}, auth=_Bearer(""), follow=False) as response:
            _raise_for(response, path)
            size = 0
            try:
                with to.open("wb") as file:
                    for chunk in response.iter_content(CHUNK):
                        size += len(chunk)
                        if size > limit:
                            raise InvalidBundle(f"{path} has more than {limit:,} bytes.")
                        digest.update(chunk)
                        file.write(chunk)
            except requests.RequestException as error:
                raise _Retry(_no_answer(path, error), None) from None
            expected = response.headers.get("Content-Length")
            if expected and expected.isdigit() and int(expected) != size:
                broken = RestError(f"The download of {path} broke off after {size:,} bytes.")
                raise _Retry(broken, None)
        return digest.hexdigest()

    def _ask(
        self, url: str, parameters: dict[str, str | int], *, follow: bool = True
    ) -> requests.Response:
        response = self._send(url, parameters, auth=self._auth, follow=follow)
        _raise_for(response, urlsplit(url).path)
        return response

    def _send(
        self,
        url: str,
        parameters: dict[str, str | int],
        *,
        auth: requests.auth.AuthBase,
        follow: bool,
    ) -> requests.Response:
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": API_VERSION}
        try:
            return self._session.get(
                url,
                params=parameters,
                headers=headers,
                auth=auth,
                timeout=TIMEOUT,
                stream=True,
                allow_redirects=follow,
            )
        except requests.RequestException as error:
            raise _Retry(_no_answer(urlsplit(url).path, error), None) from None

    def _retrying(self, action: Callable[[], Answer]) -> Answer:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Retry),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=_wait,
            sleep=self._sleep,
            before_sleep=self._say,
            reraise=True,
        )
        try:
            return retrying(action)
        except _Retry as last:
            raise last.error from None

    def _say(self, state: tenacity.RetryCallState) -> None:
        failed = state.outcome.exception() if state.outcome else None
        seconds = state.next_action.sleep if state.next_action else 0
        self._log.info(f"{failed} Trying again in {seconds:.0f} s.")


_backoff = tenacity.wait_exponential_jitter(initial=1, max=30)


def _wait(state: tenacity.RetryCallState) -> float:
    failed = state.outcome.exception() if state.outcome else None
    if isinstance(failed, _Retry) and failed.wait is not None:
        return failed.wait
    return _backoff(state)


def _raise_for(response: requests.Response, path: str) -> None:
    status = response.status_code
    if status < HTTPStatus.BAD_REQUEST:
        return
    with response:
        said = _message(response)
    error = RestError(
        f"GitHub answered {path} with {status}: {said}.", _hint(status), status=status
    )
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        raise GoneError(error.message, status=status)
    limited = status in (HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
    if limited and (wait := _asked_wait(response, said)) is not None:
        if wait > LONGEST_WAIT:
            raise RestError(
                f"GitHub's rate limit is reached; it asks to wait {wait:.0f} s.",
                "Run the job again later.",
                status=status,
            )
        raise _Retry(error, wait)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        raise _Retry(error, None)
    raise error


def _asked_wait(response: requests.Response, said: str) -> float | None:
    """How long GitHub asks to wait; None when it refuses for another reason than a rate limit."""
    after = response.headers.get("Retry-After", "")
    if after.isdigit():
        return float(after)
    if response.headers.get("X-RateLimit-Remaining") == "0":
        reset = response.headers.get("X-RateLimit-Reset", "")
        return max(0.0, int(reset) - time.time()) if reset.isdigit() else LONGEST_WAIT
    if "rate limit" in said.lower() or response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        # GitHub's own advice for a secondary limit without a header: at least a minute.
        return 60.0
    return None


def _message(response: requests.Response) -> str:
    try:
        body = response.json()
    except (ValueError, requests.RequestException):
        body = None
    said = body.get("message") if isinstance(body, dict) else None
    return " ".join(str(said or response.reason or "no reason given").split())[:300].rstrip(".")


def _hint(status: int) -> str:
    if status == HTTPStatus.UNAUTHORIZED:
        return "Check the input github-token."
    if status == HTTPStatus.FORBIDDEN:
        return "Give the job `permissions: actions: read, contents: read`."
    return "Run the job again."


def _no_answer(path: str, error: requests.RequestException) -> RestError:
    # The error's own text may hold the address of the file, which is signed: only its kind is said.
    return RestError(
        f"GitHub gave no answer for {path} ({type(error).__name__}).", "Run the job again."
    )


def _is_safe(location: str, base: str) -> bool:
    """Whether a redirect may be followed: https, or plain http where the API itself is local."""
    target, api = urlsplit(location), urlsplit(base)
    if target.scheme == "https":
        return True
    return target.scheme == api.scheme == "http" and target.hostname in LOOPBACK


def _sha(entry: Any) -> str | None:
    sha = entry.get("sha") if isinstance(entry, dict) else None
    return sha if isinstance(sha, str) else None
