"""What goes wrong with GitHub: faults that a test queues, each for the next requests of a route.

`method` and `path` choose the requests; `path` is a regular expression for the whole path, without
the query. Faults apply in the order in which they were queued, one to a request, `times` times
each. The request is validated and counted as ever; what the client gets is not held against it.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus

from tests.harness.web import Request, Response

_RATE_LIMITS = "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api"
_SECONDARY = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. "
    "For more on scraping GitHub and how it may affect your rights, please review our Terms of "
    "Service (https://docs.github.com/en/site-policy/github-terms/github-terms-of-service) "
    "If you reach out to GitHub Support for help, please include the request ID 0400:1F42:2A."
)
_PRIMARY = (
    "API rate limit exceeded for installation ID 1. If you reach out to GitHub Support for help, "
    "please include the request ID 0400:1F42:2A."
)

Answer = Callable[[], Response]


@dataclass
class _Fault:
    method: str
    path: re.Pattern[str]
    left: int
    apply: Callable[[Answer], Response]


class Faults:
    """The queue."""

    def __init__(self) -> None:
        """Start with nothing going wrong."""
        self._queue: list[_Fault] = []

    @property
    def pending(self) -> list[str]:
        """The faults that no request has met yet, for a test to see that it tested something."""
        return [f"{fault.method} {fault.path.pattern} x{fault.left}" for fault in self._queue]

    def around(self, request: Request, answer: Answer) -> Response:
        """Answer a request, with the next fault that was queued for it."""
        for fault in self._queue:
            if fault.method == request.method and fault.path.fullmatch(request.path):
                fault.left -= 1
                if not fault.left:
                    self._queue.remove(fault)
                return fault.apply(answer)
        return answer()

    def fail_next(
        self,
        method: str,
        path: str,
        *,
        status: int = 500,
        times: int = 1,
        message: str | None = None,
        headers: Mapping[str, str] | None = None,
        done: bool = False,
    ) -> None:
        """Answer with an error, and do not do what was asked, or do it when `done` says so."""
        text = message or ("Server Error" if status >= 500 else HTTPStatus(status).phrase)
        response = _error(status, text, "https://docs.github.com/rest", headers or {})

        def fail(answer: Answer) -> Response:
            if done:
                answer()
            return response

        self._add(method, path, times, fail)

    def limit_next(
        self,
        method: str,
        path: str,
        *,
        status: int = 403,
        retry_after: int | str | None = None,
        reset_at: int | None = None,
        times: int = 1,
    ) -> None:
        """Answer that a rate limit is exceeded; `status` is 403 or 429.

        With `reset_at`, a Unix time, it is the primary limit; else a secondary one, which says
        when to come back with `retry_after` (`Retry-After`, seconds or a date) or not at all.
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        if reset_at is None:
            anchor = f"{_RATE_LIMITS}#about-secondary-rate-limits"
            response = _error(status, _SECONDARY, anchor, headers)
        else:
            limits = {
                "X-RateLimit-Limit": "1000",
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Used": "1000",
                "X-RateLimit-Reset": str(reset_at),
                "X-RateLimit-Resource": "core",
            }
            response = _error(status, _PRIMARY, _RATE_LIMITS, {**limits, **headers})
        self._add(method, path, times, lambda _: response)

    def cut_next(self, method: str, path: str, *, after: int = 0, times: int = 1) -> None:
        """Close the connection after so many bytes of the body, whose length was announced."""
        self._add(method, path, times, lambda answer: replace(answer(), stop_after=after))

    def drop_next(self, method: str, path: str, *, times: int = 1) -> None:
        """Do what was asked, and close the connection without an answer."""
        self._add(method, path, times, lambda answer: replace(answer(), stop_after=-1))

    def hold_next(
        self,
        method: str,
        path: str,
        *,
        until: threading.Event,
        after: int | None = None,
        times: int = 1,
    ) -> None:
        """Send nothing, or only `after` bytes of the body, until the test sets the event.

        Other requests are answered meanwhile.
        """
        stop = -1 if after is None else after
        self._add(
            method, path, times, lambda answer: replace(answer(), stop_after=stop, hold=until)
        )

    def corrupt_next(self, method: str, path: str, *, times: int = 1) -> None:
        """Change one byte in the middle of the body; its length stays."""

        def corrupt(answer: Answer) -> Response:
            response = answer()
            body = bytearray(response.body)
            body[len(body) // 2] ^= 0xFF
            return replace(response, body=bytes(body))

        self._add(method, path, times, corrupt)

    def replace_next(self, method: str, path: str, *, body: bytes, times: int = 1) -> None:
        """Send another body, with the status and the headers of the right one."""
        self._add(method, path, times, lambda answer: replace(answer(), body=body))

    def redirect_next(self, method: str, path: str, *, to: str, times: int = 1) -> None:
        """Answer 302 with this URL, whatever the right answer is."""
        response = Response(302, headers={"Location": to})
        self._add(method, path, times, lambda _: response)

    def on_next(
        self, method: str, path: str, action: Callable[[], object], *, times: int = 1
    ) -> None:
        """Call `action`, and then answer as ever: what somebody else does in between."""

        def act(answer: Answer) -> Response:
            action()
            return answer()

        self._add(method, path, times, act)

    def _add(self, method: str, path: str, times: int, apply: Callable[[Answer], Response]) -> None:
        if times < 1:
            raise ValueError(f"times is {times}")
        self._queue.append(_Fault(method, re.compile(path), times, apply))


def _error(status: int, message: str, url: str, headers: Mapping[str, str]) -> Response:
    body = {"message": message, "documentation_url": url, "status": str(status)}
    content_type = {"Content-Type": "application/json; charset=utf-8"}
    return Response(status, json.dumps(body).encode(), {**content_type, **headers})
