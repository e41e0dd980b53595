"""HTTP with the patience that a service asks for: JSON, downloads and uploads, with retries.

Owns the token on the wire: it goes to the service and to no other host, neither with a redirect
nor to where files are. Addresses of files are signed, so they are secrets and in no message. Knows
nothing of what the answers mean; each service says what is special about it (`Service`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import tenacity

from ci_defer import __version__
from ci_defer.addresses import is_safe_url
from ci_defer.errors import ConfigurationError, InvalidBundle, WebError
from ci_defer.log import Log

# Seconds to connect, and between two pieces of an answer.
TIMEOUT = (10, 60)
ATTEMPTS = 5
# A job that waits longer than this costs more than one that says so.
LONGEST_WAIT = 120
CHUNK = 1024 * 1024
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Refusal:
    """An answer that refuses: its status, its headers, and what the service said."""

    status: int
    headers: Mapping[str, str]
    said: str


def retry_after(refusal: Refusal) -> float | None:
    """The seconds of the header Retry-After; a minute where a limit comes without it."""
    after = refusal.headers.get("Retry-After", "")
    if after.isdigit():
        return float(after)
    return 60.0 if refusal.status == HTTPStatus.TOO_MANY_REQUESTS else None


@dataclass(frozen=True, kw_only=True)
class Service:
    """What is special about a service.

    `error` makes the exception for a status from message and hint, `hint` says what to do about a
    status. `asked_wait` gives the seconds that a refusal with `limits` asks to wait, or None when
    it is a refusal for good. `said` is the field of its JSON that says why. `has_gateway` says that
    something in front of it may answer with a page of its own, also with status 200.
    """

    name: str
    said: str
    error: Callable[[str, str, int], WebError]
    hint: Callable[[int], str]
    headers: Mapping[str, str] = field(default_factory=dict)
    has_gateway: bool = False
    limits: frozenset[int] = frozenset({HTTPStatus.TOO_MANY_REQUESTS})
    asked_wait: Callable[[Refusal], float | None] = retry_after


class Web:
    """Requests to one service, with its token."""

    def __init__(
        self,
        service: Service,
        token: str,
        *,
        log: Log,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._service = service
        self._token = _Bearer(header_value(token, "token"))
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"ci-defer/{__version__}"
        self._log = log
        self._sleep = sleep
        self._is_retrying = False

    def json(
        self,
        method: str,
        url: str,
        *,
        parameters: Mapping[str, str | int] | None = None,
        body: Any = None,
        is_repeatable: bool = True,
    ) -> Any:
        """The JSON of the answer, None when that is empty. Raises WebError.

        What is not repeatable is tried again only when the service has refused to do it for now:
        an answer that does not come may be one to something done.
        """

        def ask() -> Any:
            options = {"params": parameters, "json": body, "headers": self._service.headers}
            response = self._checked(self._send(method, url, **options), _path(url))
            if response.is_redirect:
                with response:
                    moved = self._moved(response, method, url)
                response = self._checked(
                    self._send(method, moved, headers=self._service.headers), _path(url)
                )
                self._refuse_redirect(response, _path(url))
            return self._json(response, _path(url))

        return self._retrying(ask, only_refused=not is_repeatable)

    def location(self, url: str) -> str:
        """Where the service redirects to. Raises WebError when it is no safe place."""

        def ask() -> str:
            response = self._send("GET", url, headers=self._service.headers)
            with self._checked(response, _path(url)):
                location = response.headers.get("Location", "")
                if not response.is_redirect or not is_safe(location, url):
                    raise self._error(
                        f"{self._service.name} did not say where {_path(url)} can be downloaded.",
                        "Run the job again.",
                        response.status_code,
                    )
                return location

        return self._retrying(ask)

    def download(self, address: Callable[[], str], to: Path, *, name: str, limit: int) -> str:
        """Save a file and return its SHA-256 in hex.

        `address` gives its URL, a new one for each attempt, as they are good for a short time;
        `name` is what it is called in messages. Raises WebError, or InvalidBundle when it has more
        than `limit` bytes.
        """
        return self._retrying(lambda: self._download(address(), to, name, limit))

    def upload(self, address: Callable[[], str], file: Path, *, name: str) -> None:
        """PUT a file to the presigned URL that `address` gives. Raises WebError."""

        def put() -> None:
            with file.open("rb") as data:
                # An empty body must not become a chunked one.
                content: Any = data if file.stat().st_size else b""
                with self._file("PUT", address(), name, data=content):
                    return

        self._retrying(put)

    def _download(self, url: str, to: Path, name: str, limit: int) -> str:
        digest = hashlib.sha256()
        # As it is: a compressed answer would have another length than the file.
        headers = {"Accept-Encoding": "identity"}
        with self._file("GET", url, name, headers=headers) as response:
            size = 0
            try:
                with to.open("wb") as file:
                    for chunk in response.iter_content(CHUNK):
                        size += len(chunk)
                        if size > limit:
                            raise InvalidBundle(f"{name} has more than {limit:,} bytes.")
                        digest.update(chunk)
                        file.write(chunk)
            except requests.RequestException as error:
                raise _Retry(self._no_answer(name, error), None) from None
            expected = response.headers.get("Content-Length")
            if expected and expected.isdigit() and int(expected) != size:
                message = f"The download of {name} broke off after {size:,} bytes."
                raise _Retry(self._error(message, "Run the job again.", 0), None)
        return digest.hexdigest()

    def _file(self, method: str, url: str, name: str, **options: Any) -> requests.Response:
        """The good answer of the place where files are, which gets no token."""
        response = self._send(method, url, token=NO_TOKEN, **options)
        # What to do about a refusal of the service is no cure for one of that place.
        self._checked(response, name, hint=lambda _: "Run the job again.")
        self._refuse_redirect(response, name)
        return response

    def _refuse_redirect(self, response: requests.Response, name: str) -> None:
        if response.is_redirect:
            with response:
                raise self._error(
                    f"{self._service.name} redirects {name} once more, which is not followed.",
                    "Run the job again.",
                    response.status_code,
                )

    def _send(
        self, method: str, url: str, *, token: _Bearer | None = None, **options: Any
    ) -> requests.Response:
        """The answer, not read yet. A redirect is an answer: it is never followed with a token."""
        try:
            return self._session.request(
                method,
                url,
                auth=token or self._token,
                timeout=TIMEOUT,
                stream=True,
                allow_redirects=False,
                **options,
            )
        # requests lets some ValueErrors out: of a place that is no URL, of a header that is none.
        except (requests.RequestException, ValueError) as error:
            name = _path(url) if token is None else "a file"
            raise _Retry(self._no_answer(name, error), None) from None

    def hidden_in(self, text: str) -> str:
        """The text without the token: a service may repeat what it was sent."""
        return self._token.hidden_in(text)

    def _checked(
        self, response: requests.Response, name: str, hint: Callable[[int], str] | None = None
    ) -> requests.Response:
        """The answer when it is good. Raises WebError, or _Retry when it may become so."""
        status = response.status_code
        if status < HTTPStatus.BAD_REQUEST:
            return response
        service = self._service
        with response:
            said = self._reason(response)
        message = f"{service.name} answered {name} with {status}: {said}."
        refusal = Refusal(status, response.headers, said)
        if status in service.limits and (wait := service.asked_wait(refusal)) is not None:
            # Whatever status GitHub refuses with for now, nobody has to change a permission.
            limited = HTTPStatus.TOO_MANY_REQUESTS
            if wait > LONGEST_WAIT:
                message = f"{service.name}'s rate limit is reached; it asks to wait {wait:.0f} s."
                raise self._error(message, "Run the job again later.", limited)
            raise _Retry(self._error(message, "Run the job again later.", limited), wait)
        error = self._error(message, (hint or service.hint)(status), status)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
            raise _Retry(error, None)
        raise error

    def _moved(self, response: requests.Response, method: str, url: str) -> str:
        """Where to read again what has moved: on the same host, as the token goes along."""
        try:
            target = urljoin(url, response.headers.get("Location", ""))
            is_here = urlsplit(target)[:2] == urlsplit(url)[:2]
        except ValueError:
            target, is_here = "", False
        if method != "GET" or not is_here:
            raise self._error(
                f"{self._service.name} redirects {_path(url)} to another place, which is not "
                "followed.",
                self._service.hint(response.status_code),
                response.status_code,
            )
        return target

    def _json(self, response: requests.Response, name: str) -> Any:
        """The JSON of an answer, which may break off while it is read."""
        try:
            with response:
                return response.json() if response.content else None
        # Before RequestException, which it is too.
        except requests.JSONDecodeError:
            message = f"{self._service.name} answered {name} with something that is not JSON."
            error = self._error(message, "Run the job again.", response.status_code)
            if self._service.has_gateway:
                raise _Retry(error, None) from None
            raise error from None
        except requests.RequestException as error:
            raise _Retry(self._no_answer(name, error), None) from None

    def _reason(self, response: requests.Response) -> str:
        try:
            body = response.json()
        except (ValueError, requests.RequestException):
            body = None
        said = body.get(self._service.said) if isinstance(body, dict) else None
        shown = self.hidden_in(str(said or response.reason or "no reason given"))
        words = shown.split()
        return " ".join(words)[:300].rstrip(".")

    def _error(self, message: str, hint: str, status: int) -> WebError:
        return self._service.error(message, hint, status)

    def _no_answer(self, name: str, error: Exception) -> WebError:
        # The error's own text may hold a signed address: only its kind is said.
        message = f"{self._service.name} gave no answer for {name} ({type(error).__name__})."
        return self._error(message, "Run the job again.", 0)

    def _retrying(self, action: Callable[[], Answer], *, only_refused: bool = False) -> Answer:
        # An attempt inside of another one is a part of it: the outer one is tried again.
        if self._is_retrying:
            return action()

        def is_worth_it(error: BaseException) -> bool:
            return isinstance(error, _Retry) and (error.wait is not None or not only_refused)

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_worth_it),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=_wait,
            sleep=self._sleep,
            before_sleep=self._say,
            reraise=True,
        )
        self._is_retrying = True
        try:
            return retrying(action)
        except _Retry as last:
            raise last.error from None
        finally:
            self._is_retrying = False

    def _say(self, state: tenacity.RetryCallState) -> None:
        failed = state.outcome.exception() if state.outcome else None
        seconds = state.next_action.sleep if state.next_action else 0
        self._log.info(f"{failed} Trying again in {seconds:.0f} s.")


def header_value(value: str, name: str) -> str:
    """A value for a header: a secret often ends in a line feed, and never holds one."""
    stripped = value.strip()
    if not (stripped.isascii() and stripped.isprintable()):
        raise ConfigurationError(
            f"The {name} holds characters that none has.", "Copy it anew into the secret."
        )
    return stripped


class _Bearer(requests.auth.AuthBase):
    """Sets the token itself: requests would prefer an entry of ~/.netrc to a header of ours."""

    def __init__(self, token: str) -> None:
        self._token = token

    def hidden_in(self, text: str) -> str:
        """The text without the token."""
        return text.replace(self._token, "***") if self._token else text

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


# For the hosts of files: neither the token nor ~/.netrc goes there.
NO_TOKEN = _Bearer("")


class _Retry(Exception):
    """Try again: after `wait` seconds when the service has refused for now and said how long."""

    def __init__(self, error: WebError, wait: float | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait = wait


_backoff = tenacity.wait_exponential_jitter(initial=1, max=30)


def _wait(state: tenacity.RetryCallState) -> float:
    failed = state.outcome.exception() if state.outcome else None
    if isinstance(failed, _Retry) and failed.wait is not None:
        return failed.wait
    return _backoff(state)


def is_safe(address: str, service: str) -> bool:
    """Whether a file may be there: at https, or at plain http where the service itself is local."""
    if not is_safe_url(address):
        return False
    return urlsplit(address).scheme == "https" or urlsplit(service).scheme == "http"


def _path(url: str) -> str:
    """What a request of ours is called in messages: without host and query."""
    return urlsplit(url).path
