"""A small threaded HTTP server with a table of routes, and a record of what it was asked."""

from __future__ import annotations

import json
import re
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from typing_extensions import Self

_LONGEST_HOLD = 60.0
"""Seconds that an answer waits for an event that a test forgot to set."""


@dataclass(frozen=True)
class Request:
    """One request, read to its end."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes
    base_url: str
    """The scheme, host and port that the client used."""


@dataclass(frozen=True)
class Response:
    """What to answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    stop_after: int | None = None
    """After so many bytes of the body, stop; below zero, before the status."""
    hold: threading.Event | None = None
    """Where it stops, wait for this before sending the rest; without, close the connection."""


@dataclass(frozen=True)
class Record:
    """What is kept of a request and its answer."""

    method: str
    path: str
    query: Mapping[str, str]
    header_names: frozenset[str]
    """In lower case."""
    status: int

    @property
    def authorized(self) -> bool:
        """Whether it had an Authorization header."""
        return "authorization" in self.header_names


class Violation(Exception):
    """A request that no correct client makes, whatever the state of the server."""

    def __init__(self, why: str, response: Response) -> None:
        """`why` is for the reader of a failed test; `response` is what the client gets."""
        super().__init__(why)
        self.response = response


Handler = Callable[[Request, re.Match[str]], Response]


@dataclass(frozen=True)
class Route:
    """`path` has to match the whole path of the request."""

    method: str
    path: re.Pattern[str]
    handler: Handler


def json_response(
    document: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with a JSON document."""
    content_type = {"Content-Type": "application/json; charset=utf-8"}
    return Response(status, json.dumps(document).encode(), {**content_type, **(headers or {})})


class WebServer:
    """Serves `routes` on a free port of 127.0.0.1; a context manager."""

    def __init__(self, routes: Sequence[Route]) -> None:
        """Bind the port; requests are answered inside the `with` block."""
        self.requests: list[Record] = []
        self.violations: list[str] = []
        self._routes = tuple(routes)
        # Handlers run one at a time: the state they share needs no locks of its own.
        self._turn = threading.Lock()
        self._server = _Server(self._answer)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def port(self) -> int:
        """The port."""
        return self._server.server_port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request: Request) -> Response:
        with self._turn:
            name = f"{request.method} {request.path}"
            try:
                response = self._dispatch(request)
            except Violation as violation:
                self.violations.append(f"{name}: {violation}")
                response = violation.response
            except Exception:  # noqa: BLE001 - a test has to see it, whatever it is
                # A bug of ours, or a body we did not expect. Not 500: clients would try again.
                self.violations.append(f"{name}: {traceback.format_exc()}")
                response = json_response({"msg": "the fake server failed"}, 400)
            self.requests.append(
                Record(
                    method=request.method,
                    path=request.path,
                    query=request.query,
                    header_names=frozenset(request.headers),
                    status=response.status,
                )
            )
            return response

    def _dispatch(self, request: Request) -> Response:
        if "transfer-encoding" in request.headers:
            answer = json_response({"message": "Length Required"}, 411)
            raise Violation("a body without a Content-Length", answer)
        for route in self._routes:
            match = route.path.fullmatch(request.path)
            if match and route.method == request.method:
                return route.handler(request, match)
        raise Violation("no such route", json_response({"message": "Not Found"}, 404))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Clients keep connections open, and a test has ended before they close them.
    block_on_close = False

    def __init__(self, answer: Callable[[Request], Response]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two writes: without this the second waits 40 ms for the client to answer.
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        url = urlsplit(self.path)
        request = Request(
            method=self.command,
            path=url.path,
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(int(self.headers.get("Content-Length", "0"))),
            base_url=f"http://{self.headers['Host']}",
        )
        # A body without a length was not read, so what follows on the connection is no request.
        self.close_connection = self.close_connection or "transfer-encoding" in request.headers
        response = self.server.answer(request)
        try:
            self._send(response)
        except ConnectionError:  # The client has given up, for instance while we held it.
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

    def _send(self, response: Response) -> None:
        stop = response.stop_after
        if stop is not None and stop < 0 and not self._may_go_on(response):
            return
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.status != 204:
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if response.status == 204:
            return
        if stop is None or stop < 0:
            self.wfile.write(response.body)
            return
        self.wfile.write(response.body[:stop])
        if self._may_go_on(response):
            self.wfile.write(response.body[stop:])

    def _may_go_on(self, response: Response) -> bool:
        if response.hold is not None and response.hold.wait(_LONGEST_HOLD):
            return True
        self.close_connection = True
        return False

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Write nothing: `WebServer.requests` has it."""
