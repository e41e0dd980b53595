"""The fake DataPilot registry, with all its state in memory.

It is made of the API (`registry_api`), the object store that presigned URLs lead to
(`registry_store`), and what goes wrong with them when a test wants it to (`faults`). The store is a
server of its own: as with the real one, it is another host, which must never see the API key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias

from tests.harness.faults import Faults
from tests.harness.registry_api import FILE_TYPES, Ingestion, RegistryApi
from tests.harness.registry_store import BUCKET, OBJECTS, ObjectStore
from tests.harness.web import Request, Response, Violation, WebServer, json_response

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["FILE_TYPES", "OBJECTS", "Call", "FakeRegistry", "Ingestion"]

_Respond: TypeAlias = Callable[[Request], Response]

_PAGE = b"<html><head><title>Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>\n"


@dataclass(frozen=True)
class Call:
    """One request of a client and what became of it, to be compared with another client's."""

    host: str
    """`api` or `store`."""
    method: str
    path: str
    query: Mapping[str, str]
    """Decoded, in the order in which it came."""
    headers: Mapping[str, str]
    """By name in lower case, in the order in which they came."""
    body: bytes
    status: int

    @property
    def what(self) -> str:
        """The method and the last part of the path, which is the same with each run."""
        return f"{self.method} {self.path.rstrip('/').rpartition('/')[2]}"


class FakeRegistry:
    """The registry on two free ports of 127.0.0.1; a context manager.

    `requests` has what both were asked, in order. `violations` has what no correct client asks, so
    each test asserts that it is empty. Faults are chosen by method and path, as in `faults`; the
    path of each presigned URL matches `OBJECTS`.
    """

    def __init__(self) -> None:
        """Bind the ports; requests are answered inside the `with` block."""
        self.requests: list[Call] = []
        self.violations: list[str] = []
        self._faults = faults = _RegistryFaults()
        self._turn = threading.Lock()
        self._store = store = ObjectStore()
        self._api_server = _Server(self._recorded("api", self._answer_api), self.violations)
        self._store_server = _Server(self._recorded("store", self._answer_store), self.violations)
        # The name differs too: some clients hold cookies and keys by host, whatever the port.
        self.store_url = f"http://localhost:{self._store_server.port}"
        self._api = api = RegistryApi(store, self.store_url)

        # What there is, documented in `registry_api` and `registry_store`.
        self.add_integration = api.add_integration
        self.add_token = api.add_token
        self.exhaust_credits = api.exhaust_credits
        self.upload = api.upload
        self.files = api.file
        self.ingestions = api.ingestions
        self.events = api.events
        self.expire_urls = store.expire
        # What goes wrong, documented in `faults` and below.
        self.fail_next = faults.fail_as_registry
        self.limit_next = faults.limit_as_registry
        self.gateway_next = faults.gateway_next
        self.cut_next = faults.cut_next
        self.drop_next = faults.drop_next
        self.hold_next = faults.hold_next
        self.corrupt_next = faults.corrupt_next
        self.replace_next = faults.replace_next
        self.redirect_next = faults.redirect_next
        self.on_next = faults.on_next

    @property
    def url(self) -> str:
        """The base URL of the API, without a slash at the end."""
        return f"http://127.0.0.1:{self._api_server.port}"

    @property
    def secrets(self) -> list[str]:
        """What no output may have in it: keys, and the signatures of presigned URLs."""
        return [*self._api.tokens, *self._store.secrets]

    @property
    def pending_faults(self) -> list[str]:
        """The faults that no request has met yet."""
        return self._faults.pending

    def __enter__(self) -> Self:
        self._api_server.__enter__()
        self._store_server.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._store_server.__exit__(kind, error, trace)
        self._api_server.__exit__(kind, error, trace)

    def _answer_api(self, request: Request) -> Response:
        answer = self._api.check(request)
        return self._faults.around(request, answer)

    def _answer_store(self, request: Request) -> Response:
        refusal = self._store.check(request)
        right: list[Response] = []

        def answer() -> Response:
            right.append(refusal or self._store.serve(request))
            return right[-1]

        response = self._faults.around(request, answer)
        # After any fault, asking again is the right thing to do.
        if refusal is None and right and response is right[0] and response.status == 200:
            self._store.spend(request)
        return response

    def _recorded(self, host: str, respond: _Respond) -> _Respond:
        def handle(request: Request) -> Response:
            with self._turn:  # The two servers share their state.
                try:
                    response = respond(request)
                except Violation as violation:
                    self._record(host, request, violation.response)
                    raise
                self._record(host, request, response)
                return response

        return handle

    def _record(self, host: str, request: Request, response: Response) -> None:
        self.requests.append(
            Call(
                host=host,
                method=request.method,
                path=request.path,
                query=request.query,
                headers=request.headers,
                body=request.body,
                status=response.status,
            )
        )


class _Server(WebServer):
    """Has no routes: the API and the store have statuses of their own for what they do not know."""

    def __init__(self, respond: _Respond, violations: list[str]) -> None:
        super().__init__([])
        self.violations = violations
        self._respond = respond

    def _dispatch(self, request: Request) -> Response:
        return self._respond(request)


class _RegistryFaults(Faults):
    """Faults whose documents are those of the registry and not of GitHub."""

    def fail_as_registry(
        self,
        method: str,
        path: str,
        *,
        status: int = 500,
        times: int = 1,
        detail: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer with an error, and do not do what was asked; a list is good for `detail` too.

        It is the store's kind of error if `path` starts like `OBJECTS`.
        """
        text = detail or HTTPStatus(status).phrase
        if path.startswith(BUCKET):
            body = f"<Error><Code>InternalError</Code><Message>{text}</Message></Error>".encode()
            content_type = {"Content-Type": "application/xml"}
            response = Response(status, body, {**content_type, **(headers or {})})
        else:
            response = json_response({"detail": text}, status, headers)
        self._add(method, path, times, lambda _: response)

    def limit_as_registry(
        self, method: str, path: str, *, retry_after: int | str | None = None, times: int = 1
    ) -> None:
        """Answer 429, with the seconds to wait or without."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self.fail_as_registry(method, path, status=429, times=times, headers=headers)

    def gateway_next(self, method: str, path: str, *, status: int = 502, times: int = 1) -> None:
        """Answer with the HTML page of a gateway, which happens with status 200 as well."""
        response = Response(status, _PAGE, {"Content-Type": "text/html"})
        self._add(method, path, times, lambda _: response)
