"""A proxy in front of an object store, with faults that a test injects.

What it forwards stays as it is, headers, Host and the encoding of the path too, so signatures hold.
`objects_faults` has the faults by name, with what real services answer.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from tests.harness.objects_http import PIECE, Served, StreamHandler

_LONGEST_HOLD = 60.0
"""Seconds that an answer waits for an event that a test forgot to set."""
_PATIENCE = 60.0
"""Seconds for the server behind the proxy to say something."""
# What concerns one connection and is not passed on. Of `Expect` the proxy has taken care.
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "proxy-connection", "expect", "te", "upgrade"})


@dataclass(frozen=True)
class Answer:
    """Answer this, whatever the server would; it sees the request only if `done` says so."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    done: bool = False


@dataclass(frozen=True)
class CutResponse:
    """Break the connection after so many bytes of the body of the answer.

    Its length was announced. Without `reset` the connection is closed in good order.
    """

    after: int
    reset: bool = True


@dataclass(frozen=True)
class CutRequest:
    """Break both connections after so many bytes of the body of the request."""

    after: int
    reset: bool = True


@dataclass(frozen=True)
class DropAnswer:
    """Have the request done, and break the connection without an answer: so nobody knows."""

    reset: bool = False


@dataclass(frozen=True)
class Slow:
    """Wait for `seconds` before each `piece` bytes of the request and of the answer."""

    seconds: float
    piece: int = PIECE


@dataclass(frozen=True)
class Hang:
    """Wait for the event before forwarding the request, or with `done` before the answer."""

    until: threading.Event = field(default_factory=threading.Event)
    done: bool = False


@dataclass(frozen=True)
class Meanwhile:
    """Call `action`, then forward the request as ever: what somebody else does just before."""

    action: Callable[[], object]


Fault: TypeAlias = Answer | CutResponse | CutRequest | DropAnswer | Slow | Hang | Meanwhile


@dataclass(frozen=True)
class Seen:
    """One request, in the order in which they came in."""

    method: str
    path: str
    """Decoded."""
    query: str
    """As it came."""
    fault: Fault | None
    """What became of it."""


@dataclass
class _Injected:
    fault: Fault
    method: re.Pattern[str]
    path: re.Pattern[str]
    query: re.Pattern[str]
    left: int | None


class FaultProxy(Served):
    """Forwards to the server at `upstream`, from a free port of 127.0.0.1; a context manager."""

    def __init__(self, upstream: str) -> None:
        """Bind the port; requests are answered inside the `with` block."""
        parts = urlsplit(upstream)
        if parts.hostname is None or parts.port is None:
            raise ValueError(f"{upstream} has no port")
        self._upstream = (parts.hostname, parts.port)
        self._path = parts.path
        super().__init__(self._serve)
        self._injected: list[_Injected] = []
        self._guard = threading.Lock()
        self.requests: list[Seen] = []

    @property
    def url(self) -> str:
        """As `upstream`, with the port of the proxy."""
        return f"{self._server.url}{self._path}"

    @property
    def pending(self) -> list[Fault]:
        """The faults that were to come a number of times and have not yet."""
        return [injected.fault for injected in self._injected if injected.left is not None]

    def inject(
        self,
        fault: Fault,
        *,
        method: str = ".*",
        path: str = ".*",
        query: str = "",
        times: int | None = 1,
    ) -> None:
        """Let this happen to the next requests that match, or with no `times` to all of them.

        The regular expressions `method` and `path` match the whole, the path decoded and without
        the query; `query` is one that is found in it, as it comes. The fault that was injected
        first goes first, one to a request.
        """
        if times is not None and times < 1:
            raise ValueError(f"times is {times}")
        pattern = _Injected(
            fault, re.compile(method), re.compile(path, re.DOTALL), re.compile(query), times
        )
        with self._guard:
            self._injected.append(pattern)

    def clear(self) -> None:
        """Let nothing go wrong from now on, and forget the requests."""
        with self._guard:
            self._injected.clear()
            self.requests.clear()

    def count(self, method: str = ".*", path: str = ".*", query: str = "") -> int:
        """How many requests there were that match, as in `inject`."""
        wanted = _Injected(
            DropAnswer(), re.compile(method), re.compile(path, re.DOTALL), re.compile(query), None
        )
        return sum(_matches(wanted, seen) for seen in list(self.requests))

    def _serve(self, request: StreamHandler) -> None:
        fault = self._next(request)
        if isinstance(fault, Answer) and not fault.done:
            for _ in request.pieces():  # So that the connection can go on.
                pass
            request.answer(fault.status, fault.body, fault.headers)
            return
        if isinstance(fault, Meanwhile):
            fault.action()
        if isinstance(fault, Hang) and not fault.done:
            self._wait(fault.until)
        upstream = HTTPConnection(*self._upstream, timeout=_PATIENCE)
        try:
            if not self._ask(request, upstream, fault):
                request.hang_up(reset=isinstance(fault, CutRequest) and fault.reset)
                return
            response = upstream.getresponse()
            self._respond(request, response, fault)
        except (HTTPException, TimeoutError, ConnectionError):
            # The server has gone away, or the client has: either way this is the end of it.
            request.hang_up(reset=True)
        finally:
            upstream.close()

    def _next(self, request: StreamHandler) -> Fault | None:
        target = urlsplit(f"//host{request.path}")
        path = unquote(target.path)
        with self._guard:
            seen = Seen(request.command, path, target.query, None)
            for injected in self._injected:
                if _matches(injected, seen):
                    if injected.left is not None:
                        injected.left -= 1
                        if not injected.left:
                            self._injected.remove(injected)
                    seen = Seen(request.command, path, target.query, injected.fault)
                    break
            self.requests.append(seen)
        return seen.fault

    def _wait(self, until: threading.Event) -> None:
        deadline = time.monotonic() + _LONGEST_HOLD
        while time.monotonic() < deadline and not self._server.closing.is_set():
            if until.wait(0.02):
                return

    def _ask(self, request: StreamHandler, upstream: HTTPConnection, fault: Fault | None) -> bool:
        """Forward the request; say whether the whole of it went."""
        upstream.putrequest(
            request.command, request.path, skip_host=True, skip_accept_encoding=True
        )
        for name, value in request.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                upstream.putheader(name, value)
        upstream.endheaders()
        chunked = request.chunked
        left = fault.after if isinstance(fault, CutRequest) else None
        for piece in _paced(request.pieces(), fault):
            data = piece if left is None else piece[:left]
            try:
                upstream.send(_framed(data, chunked=chunked))
            except ConnectionError:
                # It may answer before it has read all, and close: that answer still counts.
                for _ in request.pieces():
                    pass
                return True
            if left is not None:
                left -= len(data)
                if not left:
                    return False
        if chunked:
            upstream.send(b"0\r\n\r\n")
        return True

    def _respond(self, request: StreamHandler, response: HTTPResponse, fault: Fault | None) -> None:
        if isinstance(fault, Hang) and fault.done:
            self._wait(fault.until)
        if isinstance(fault, DropAnswer):
            response.read()
            request.hang_up(reset=fault.reset)
        elif isinstance(fault, Answer):
            response.read()
            request.answer(fault.status, fault.body, fault.headers)
        else:
            _forward_head(request, response)
            if not _forward_body(request, response, fault):
                request.hang_up(reset=not isinstance(fault, CutResponse) or fault.reset)


def _forward_head(request: StreamHandler, response: HTTPResponse) -> None:
    request.send_response_only(response.status, response.reason)
    for name, value in response.getheaders():
        if name.lower() not in _HOP_BY_HOP:
            request.send_header(name, value)
    if not response.chunked and response.length is None:
        # Only its end says how long the body is.
        request.send_header("Connection", "close")
        request.close_connection = True
    request.end_headers()


def _forward_body(request: StreamHandler, response: HTTPResponse, fault: Fault | None) -> bool:
    """Say whether the whole of it went."""
    left = fault.after if isinstance(fault, CutResponse) else None
    for piece in _paced(_read(response), fault):
        data = piece if left is None else piece[:left]
        request.wfile.write(_framed(data, chunked=response.chunked))
        if left is not None:
            left -= len(data)
            if not left:
                return False
    if response.chunked:
        request.wfile.write(b"0\r\n\r\n")
    # What is left of the announced length: the server has gone away.
    return not response.length and not isinstance(fault, CutResponse)


def _framed(data: bytes, *, chunked: bool) -> bytes:
    # An empty chunk would be the end.
    return b"%x\r\n%b\r\n" % (len(data), data) if chunked and data else data


def _matches(injected: _Injected, seen: Seen) -> bool:
    return bool(
        injected.method.fullmatch(seen.method)
        and injected.path.fullmatch(seen.path)
        and injected.query.search(seen.query)
    )


def _read(response: HTTPResponse) -> Iterator[bytes]:
    while data := response.read1(PIECE):
        yield data


def _paced(pieces: Iterator[bytes], fault: Fault | None) -> Iterator[bytes]:
    if not isinstance(fault, Slow):
        yield from pieces
        return
    for data in pieces:
        for start in range(0, len(data), fault.piece):
            # It is the fault itself, and nothing that a test waits for to be over.
            time.sleep(fault.seconds)
            yield data[start : start + fault.piece]
