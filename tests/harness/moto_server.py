"""moto in server mode, with conditional writes one at a time. A program.

moto looks at the condition and writes in two steps, between which another request may write: Amazon
S3 does both at once, so a lock around the two is what it promises.
"""

from __future__ import annotations

import threading
from typing import Any

import moto.server
from moto.moto_server.werkzeug_app import DomainDispatcherApplication

CONDITIONS = frozenset({"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"})

_turn = threading.Lock()


class OneAtATime(DomainDispatcherApplication):
    """All of moto."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] != "PUT" or not CONDITIONS & environ.keys():
            return super().__call__(environ, start_response)
        with _turn:
            return super().__call__(environ, start_response)


if __name__ == "__main__":
    setattr(moto.server, "DomainDispatcherApplication", OneAtATime)  # noqa: B010 - it is a class
    moto.server.main()
