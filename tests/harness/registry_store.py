"""The object store of the registry, in memory: presigned URLs and what they lead to.

It answers as S3 does, and refuses what S3 refuses with the older or the newer signature, as nothing
says which of them the registry uses.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import quote, urlencode

from tests.harness.web import Request, Response, Violation

BUCKET = "/dbt-artifacts"
OBJECTS = f"{BUCKET}/.*"
"""Matches the path of each presigned URL, to choose requests for a fault."""

_LIFETIME = 900


@dataclass
class Stored:
    """One object: there is a new one for each file that is uploaded."""

    path: str
    """As in a request: percent-encoded."""
    content: bytes | None = None


@dataclass
class _Url:
    stored: Stored
    method: str
    expired: bool = False
    spent: str | None = None
    """Why no correct client uses it any more."""


class ObjectStore:
    """The state of the store."""

    def __init__(self) -> None:
        """Start with nothing in it."""
        self._urls: dict[str, _Url] = {}

    @property
    def secrets(self) -> Iterator[str]:
        """The part of each presigned URL that gives access to whoever reads it."""
        return iter(self._urls)

    def new(self, file_name: str) -> Stored:
        """Make a place for a file."""
        return Stored(f"{BUCKET}/{uuid.uuid4()}/{quote(file_name)}")

    def sign(self, stored: Stored, method: str, base_url: str) -> str:
        """Make a URL that is good for one method."""
        signature = uuid.uuid4().hex + uuid.uuid4().hex
        self._urls[signature] = _Url(stored, method)
        now = datetime.now(timezone.utc)
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"AKIAFAKE/{now:%Y%m%d}/us-east-1/s3/aws4_request",
            "X-Amz-Date": f"{now:%Y%m%dT%H%M%SZ}",
            "X-Amz-Expires": _LIFETIME,
            "X-Amz-SignedHeaders": "host",
            "X-Amz-Signature": signature,
        }
        return f"{base_url}{stored.path}?{urlencode(query)}"

    def expire(self) -> None:
        """Let the time of all URLs run out that were signed so far."""
        for url in self._urls.values():
            url.expired = True

    def check(self, request: Request) -> Response | None:
        """Raise Violation for what no client may send; return a refusal that it cannot foresee."""
        headers = request.headers
        for name in ("authorization", "cookie"):
            # S3 does not mind cookies. Whoever sends them here got them elsewhere.
            if name in headers:
                raise _refused(400, "InvalidArgument", f"{name} along with a presigned URL")
        if "transfer-encoding" in headers:
            raise _refused(501, "NotImplemented", "Transfer-Encoding with a presigned URL")
        # Without it http.server took the body for empty.
        if request.method == "PUT" and "content-length" not in headers:
            raise _refused(411, "MissingContentLength", "a PUT without Content-Length")
        amazon = sorted(name for name in headers if name.startswith("x-amz-"))
        if amazon:
            raise _refused(403, "AccessDenied", f"{amazon} were not signed")
        # The older signature covers the type, and the known clients send none.
        if request.method == "PUT" and "content-type" in headers:
            raise _refused(403, "SignatureDoesNotMatch", "a Content-Type that was not signed")
        url = self._find(request)
        if url.spent:
            # S3 allows a second upload. It changes a file that others have been told of.
            raise _refused(403, "AccessDenied", f"the URL again, which {url.spent}")
        if url.expired:  # A client cannot know that its clock is behind; it can read the answer.
            url.spent = "had been refused as expired"
            return _error(403, "AccessDenied", "Request has expired")
        return None

    def serve(self, request: Request) -> Response:
        """Do what was asked; `check` was before."""
        stored = self._find(request).stored
        if request.method == "PUT":
            stored.content = request.body
            return Response(200, headers={"ETag": f'"{uuid.uuid4().hex}"'})
        if stored.content is None:
            return _error(404, "NoSuchKey", "The specified key does not exist.")
        return Response(200, stored.content, {"Content-Type": "binary/octet-stream"})

    def spend(self, request: Request) -> None:
        """Take note that the client got the right answer, so that it must not ask again."""
        self._find(request).spent = "had served its purpose"

    def _find(self, request: Request) -> _Url:
        url = self._urls.get(request.query.get("X-Amz-Signature", ""))
        if url is None:
            raise _refused(403, "AccessDenied", "the URL is not one that we signed")
        if request.method != url.method:
            why = f"the URL is signed for {url.method}"
            raise _refused(403, "SignatureDoesNotMatch", why)
        if request.path != url.stored.path:
            why = f"the URL is signed for {url.stored.path}"
            raise _refused(403, "SignatureDoesNotMatch", why)
        return url


def _error(status: int, code: str, message: str) -> Response:
    body = f"<?xml version='1.0' encoding='UTF-8'?>\n<Error><Code>{code}</Code>"
    body += f"<Message>{message}</Message></Error>"
    return Response(status, body.encode(), {"Content-Type": "application/xml"})


def _refused(status: int, code: str, why: str) -> Violation:
    return Violation(why, _error(status, code, why))
