"""HTTP servers that stream: what the gateway to Google's emulator and the proxy with faults share.

`web.WebServer` reads a whole request, answers one at a time and turns chunked bodies down, which is
right for an API of small documents. Here are hundreds of megabytes, tens of clients at once, and
connections that break where a test says.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

PIECE = 256 * 1024
"""The most bytes of a body that are held at a time."""
_STOPS_WITHIN = 10.0
"""Seconds in which a handler has to end once its connection is gone."""


class StreamServer(ThreadingHTTPServer):
    """Runs `handler` for each request, on a free port of 127.0.0.1; a context manager.

    At the end of the `with` block all connections are closed and all threads have ended.
    """

    # A thread that does hang must not keep the tests from ending; `__exit__` reports it.
    daemon_threads = True
    block_on_close = False
    # Tens of clients connect at once; beyond this the system lets them wait for a second.
    request_queue_size = 128

    def __init__(self, handler: Callable[[StreamHandler], None]) -> None:
        """Bind the port; requests are answered inside the `with` block."""
        super().__init__(("127.0.0.1", 0), StreamHandler)
        self.handler = handler
        self.failures: list[str] = []
        """What went wrong in handlers, as tracebacks; a test asserts that there is nothing."""
        self.closing = threading.Event()
        """Set when the block ends: what handlers wait for beside the events of tests."""
        self._guard = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        """The address, without a slash at the end."""
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
        with self._guard:
            connections = dict(self._connections)
        for connection in connections:
            with suppress(OSError):  # The other side was faster, or the handler.
                connection.shutdown(socket.SHUT_RDWR)
        for thread in connections.values():
            thread.join(_STOPS_WITHIN)
            if thread.is_alive():
                raise AssertionError("a handler does not end")

    def server_bind(self) -> None:
        # Without HTTPServer's look-up of the name of the machine, which can take seconds.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._connections[request] = threading.current_thread()
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._guard:
                del self._connections[request]

    def shutdown_request(self, request: Any) -> None:
        # No orderly end first: one that shall be reset would not be.
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients may go away whenever they like.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            self.failures.append(traceback.format_exc())


class Served:
    """Answers requests on a free port of 127.0.0.1 by a method of its own; a context manager.

    The port is bound at once; requests are answered inside the `with` block.
    """

    def __init__(self, handler: Callable[[StreamHandler], None]) -> None:
        self._server = StreamServer(handler)

    @property
    def url(self) -> str:
        """The address, without a slash at the end."""
        return self._server.url

    @property
    def failures(self) -> list[str]:
        """Tracebacks of what it did wrong itself."""
        return self._server.failures

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.__exit__(kind, error, trace)


class StreamHandler(BaseHTTPRequestHandler):
    """One connection, and what a handler asks and answers with."""

    protocol_version = "HTTP/1.1"
    # Headers and body go out in two writes; the second must not wait for the first to be confirmed.
    disable_nagle_algorithm = True
    server: StreamServer

    def _serve(self) -> None:
        self._left = int(self.headers.get("Content-Length") or 0)
        self.server.handler(self)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

    @property
    def chunked(self) -> bool:
        """Whether the body of the request comes in chunks."""
        return self.headers.get("Transfer-Encoding", "").lower() == "chunked"

    def pieces(self) -> Iterator[bytes]:
        """The body of the request, as it comes in; what was read is not given again."""
        if self.chunked:
            yield from self._chunks()
            return
        while self._left:
            data = self.rfile.read1(min(self._left, PIECE))
            if not data:
                raise ConnectionResetError("the client went away in the middle of its body")
            self._left -= len(data)
            yield data

    def body(self) -> bytes:
        """The body of the request, or what is left of it, at once."""
        if self.chunked:
            return b"".join(self._chunks())
        data = self.rfile.read(self._left)
        if len(data) < self._left:
            raise ConnectionResetError("the client went away in the middle of its body")
        self._left = 0
        return data

    def answer(
        self,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> None:
        """Answer the whole, with a Content-Length, unless there is one in `headers`.

        The body is left out where HTTP has none.
        """
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        self.send_response_only(status)
        for name, value in pairs:
            self.send_header(name, value)
        bodiless = status in {204, 304}
        if not bodiless and not any(name.lower() == "content-length" for name, _ in pairs):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and not bodiless:
            self.wfile.write(body)

    def hang_up(self, *, reset: bool) -> None:
        """Let this be the end of the connection: with an orderly close, or with a reset."""
        self.close_connection = True
        if reset:
            # Lingering for no time is how a program asks for a reset instead of a close.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _chunks(self) -> Iterator[bytes]:
        while True:
            line = self.rfile.readline(1024)
            if not line.endswith(b"\n"):
                raise ConnectionResetError("the client went away in the middle of its body")
            size = int(line.split(b";")[0], 16)
            data = self.rfile.read(size)
            if len(data) < size:
                raise ConnectionResetError("the client went away in the middle of its body")
            if not size:
                # Trailers, of which there are none worth a look, and the empty line.
                while self.rfile.readline(65536).strip():
                    pass
                # The body is read: who asks again gets nothing more.
                del self.headers["Transfer-Encoding"]
                return
            self.rfile.readline(1024)
            yield data

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
        """Write nothing: servers keep records of their own."""
