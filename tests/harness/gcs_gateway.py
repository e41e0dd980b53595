"""Google's XML API in front of gcp-storage-emulator, which speaks the JSON API.

Object stores in Rust speak the XML API, https://cloud.google.com/storage/docs/xml-api/overview. Of
that the emulator has GET and PUT of one object. What it cannot do and the gateway adds:

- list a bucket (`list-type=2`), in pages, and HEAD and DELETE an object;
- multipart uploads: the parts wait in the gateway, whose last request writes the object;
- `x-goog-if-generation-match`, which the emulator ignores, and `If-Match` and its like on reads;
- answer with the generation and the ETag, and with ranges from the end;
- errors as XML with a `<Code>`: NoSuchBucket, NoSuchKey, PreconditionFailed and so on;
- more than one request at a time, connections that stay open, empty objects, and objects whose
  content type is one that the emulator reads itself, as JSON.

What is stored is in the emulator and nowhere else. Requests of the JSON API are passed on to it, so
Google's client sees the same objects; there, generation preconditions are ignored still.

The emulator answers one request at a time. So the gateway asks it one thing at a time, and a check
of a precondition and the write that depends on it are one thing.

Copies (`x-goog-copy-source`), versions and access control are not there: 400 NotImplemented.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from tests.harness.objects_http import Served, StreamHandler

_JSON_API = re.compile(r"/(?:(?:upload/|download/|batch/)?storage/v1(?:/.*)?|b(?:/.*)?|batch)?")
_XML_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_SMALLEST_PART = 5 * 1024 * 1024
"""https://cloud.google.com/storage/quotas#requests: all parts but the last."""
_LONGEST_PAGE = 1000
_PATIENCE = 60.0
"""Seconds for the emulator to say something."""
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "expect", "te", "transfer-encoding", "upgrade"}
)


class _XmlError(Exception):
    """What the client gets instead of what it asked for."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


_NO_BUCKET = _XmlError(404, "NoSuchBucket", "The specified bucket does not exist.")
_NO_KEY = _XmlError(404, "NoSuchKey", "The specified key does not exist.")
_NO_UPLOAD = _XmlError(404, "NoSuchUpload", "The requested upload was not found.")
_PRECONDITION = _XmlError(
    412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold."
)


@dataclass(frozen=True)
class StoredObject:
    """What the emulator knows of an object beside its content."""

    name: str
    generation: str
    size: int
    etag: str
    """With its quotation marks."""
    updated: datetime
    content_type: str


@dataclass
class _Upload:
    bucket: str
    name: str
    content_type: str
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    """The ETag and the content, by number."""


class Emulator:
    """The emulator, asked for one thing at a time."""

    def __init__(self, url: str) -> None:
        """`url` is where it listens; nothing is asked yet."""
        parts = urlsplit(url)
        if parts.hostname is None or parts.port is None:
            raise ValueError(f"{url} has no port")
        self._address = (parts.hostname, parts.port)
        self._turn = threading.RLock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let nobody else ask anything inside the block."""
        with self._turn:
            yield

    def exchange(
        self,
        method: str,
        target: str,
        body: Sequence[bytes] = (),
        headers: Sequence[tuple[str, str]] = (),
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Send a request and read the whole answer: its status, its headers, its body."""
        with self._turn, closing(HTTPConnection(*self._address, timeout=_PATIENCE)) as connection:
            connection.putrequest(
                method,
                target,
                skip_host=any(name.lower() == "host" for name, _ in headers),
                skip_accept_encoding=True,
            )
            for name, value in headers:
                connection.putheader(name, value)
            if body or method in {"PUT", "POST", "PATCH"}:
                connection.putheader("Content-Length", str(sum(map(len, body))))
            connection.endheaders()
            for piece in body:
                connection.send(piece)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()

    def create_bucket(self, bucket: str) -> None:
        """Create a bucket that does not keep what is deleted, as new buckets do by default."""
        document = {"name": bucket, "softDeletePolicy": {"retentionDurationSeconds": "0"}}
        json_type = [("Content-Type", "application/json")]
        content = json.dumps(document).encode()
        status, _, body = self.exchange("POST", "/storage/v1/b", [content], json_type)
        if status != 200:
            raise RuntimeError(f"no bucket {bucket}: {status} {body.decode()}")

    def has_bucket(self, bucket: str) -> bool:
        """Whether there is such a bucket."""
        return self.exchange("GET", f"/storage/v1/b/{quote(bucket, safe='')}")[0] == 200

    def find(self, bucket: str, name: str) -> StoredObject | None:
        """What there is of this name."""
        status, _, body = self.exchange("GET", _target(bucket, name))
        return _stored(json.loads(body)) if status == 200 else None

    def list(self, bucket: str, prefix: str = "") -> list[StoredObject] | None:
        """All objects whose names start so, by name; None if there is no such bucket."""
        query = urlencode({"prefix": prefix} if prefix else {})
        target = f"/storage/v1/b/{quote(bucket, safe='')}/o?{query}"
        status, _, body = self.exchange("GET", target)
        if status != 200:
            return None
        return [_stored(item) for item in json.loads(body)["items"]]

    def read(self, bucket: str, name: str) -> bytes | None:
        """The content of an object."""
        status, _, body = self.exchange("GET", f"/download{_target(bucket, name)}?alt=media")
        return body if status == 200 else None

    def write(
        self,
        bucket: str,
        name: str,
        content: Sequence[bytes],
        content_type: str = "application/octet-stream",
    ) -> StoredObject | None:
        """Write an object; None if there is no such bucket."""
        # Uploads of one request do not take empty objects, and take JSON apart.
        query = urlencode({"uploadType": "resumable", "name": name})
        target = f"/upload/storage/v1/b/{quote(bucket, safe='')}/o?{query}"
        with self._turn:
            status, headers, _ = self.exchange(
                "POST", target, [], [("X-Upload-Content-Type", content_type)]
            )
            if status != 200:
                return None
            location = urlsplit(dict(headers)["Location"])
            status, _, body = self.exchange("PUT", f"{location.path}?{location.query}", content)
            if status != 200:
                raise RuntimeError(f"no {name} in {bucket}: {status} {body.decode()}")
        return _stored(json.loads(body))

    def delete(self, bucket: str, name: str) -> bool:
        """Delete an object; say whether there was one."""
        return self.exchange("DELETE", _target(bucket, name))[0] in {200, 204}


class GcsGateway(Served):
    """The gateway on a free port of 127.0.0.1; a context manager."""

    def __init__(self, emulator: Emulator) -> None:
        """Bind the port; requests are answered inside the `with` block."""
        self.token: str | None = None
        """Once set, all requests have to bear it."""
        self._emulator = emulator
        self._uploads: dict[str, _Upload] = {}
        super().__init__(self._serve)

    def _serve(self, request: StreamHandler) -> None:
        parts = urlsplit(f"//host{request.path}")
        is_json = _JSON_API.fullmatch(parts.path) is not None
        body = request.body()
        if self.token is not None and request.headers["Authorization"] != f"Bearer {self.token}":
            self._turn_away(request, is_json=is_json)
        elif is_json:
            self._pass_on(request, body)
        else:
            bucket, _, name = parts.path.removeprefix("/").partition("/")
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            call = _Call(request, unquote(bucket), unquote(name), query, body)
            try:
                self._answer(call)
            except _XmlError as error:
                message = f"<Message>{escape(str(error))}</Message>"
                content = f"<Error><Code>{error.code}</Code>{message}</Error>"
                _answer_xml(request, content, error.status)

    def _turn_away(self, request: StreamHandler, *, is_json: bool) -> None:
        challenge = [("WWW-Authenticate", 'Bearer realm="https://accounts.google.com/"')]
        if is_json:
            document = {"error": {"code": 401, "message": "Invalid Credentials"}}
            json_type = ("Content-Type", "application/json; charset=UTF-8")
            request.answer(401, json.dumps(document).encode(), [*challenge, json_type])
            return
        content = (
            "<Error><Code>AuthenticationRequired</Code>"
            "<Message>Authentication required.</Message></Error>"
        )
        _answer_xml(request, content, 401, challenge)

    def _pass_on(self, request: StreamHandler, body: bytes) -> None:
        # With its Host: the emulator tells clients by it where to send the rest of an upload.
        headers = [
            (name, value)
            for name, value in request.headers.items()
            if name.lower() not in _HOP_BY_HOP and name.lower() != "content-length"
        ]
        pieces = [body] if body else []
        status, answered, content = self._emulator.exchange(
            request.command, request.path, pieces, headers
        )
        # The emulator has a status of Google's own that says to go on with an upload, 308.
        kept = [(name, value) for name, value in answered if name.lower() not in _HOP_BY_HOP]
        request.answer(status, content, kept)

    def _answer(self, call: _Call) -> None:
        # What a request is, is in its method, in whether it names an object, and in its query.
        is_list = call.query.get("list-type") == "2"
        query = "list-type=2" if is_list else " ".join(sorted(call.query))
        kind = (call.request.command, bool(call.name), query)
        answers = {
            ("GET", False, "list-type=2"): self._list,
            ("GET", True, ""): self._read,
            ("HEAD", True, ""): self._read,
            ("PUT", True, ""): self._put,
            ("DELETE", True, ""): self._delete,
            ("POST", True, "uploads"): self._begin,
            ("PUT", True, "partNumber uploadId"): self._take_part,
            ("POST", True, "uploadId"): self._complete,
            ("DELETE", True, "uploadId"): self._abort,
        }
        if kind not in answers or "x-goog-copy-source" in call.request.headers:
            message = f"The gateway has no {call.request.command} {call.request.path}"
            raise _XmlError(400, "NotImplemented", message)
        answers[kind](call)

    def _list(self, call: _Call) -> None:
        query = call.query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        found = self._emulator.list(call.bucket, prefix)
        if found is None:
            raise _NO_BUCKET
        # A page starts after the last entry of the one before, an object or a common prefix.
        after = max(query.get("start-after", ""), query.get("continuation-token", ""))
        entries: dict[str, StoredObject | None] = {}
        for stored in found:
            end = stored.name.find(delimiter, len(prefix)) if delimiter else -1
            if end < 0:
                entries[stored.name] = stored
            else:
                entries.setdefault(stored.name[: end + len(delimiter)], None)
        names = [name for name in sorted(entries) if name > after]
        limit = min(int(query.get("max-keys", _LONGEST_PAGE)), _LONGEST_PAGE)
        page = names[:limit]
        lines = [
            f'<ListBucketResult xmlns="{_XML_NAMESPACE}">',
            f"<Name>{escape(call.bucket)}</Name><Prefix>{escape(prefix)}</Prefix>",
            f"<KeyCount>{len(page)}</KeyCount>",
            f"<IsTruncated>{'true' if len(names) > limit else 'false'}</IsTruncated>",
        ]
        if len(names) > limit:
            lines.append(f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>")
        for name in page:
            entry = entries[name]
            lines.append(
                f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
                if entry is None
                else f"<Contents><Key>{escape(name)}</Key>"
                f"<Generation>{entry.generation}</Generation><MetaGeneration>1</MetaGeneration>"
                f"<LastModified>{entry.updated:%Y-%m-%dT%H:%M:%S}"
                f".{entry.updated.microsecond // 1000:03}Z</LastModified>"
                f"<ETag>{escape(entry.etag)}</ETag><Size>{entry.size}</Size></Contents>"
            )
        _answer_xml(call.request, "".join([*lines, "</ListBucketResult>"]))

    def _read(self, call: _Call) -> None:
        headers = call.request.headers
        with self._emulator.turn():
            stored = self._found(call)
            wanted = headers["If-Match"], headers["x-goog-if-generation-match"]
            if wanted[0] not in {None, "*", stored.etag} or wanted[1] not in {
                None,
                stored.generation,
            }:
                raise _PRECONDITION
            if headers["If-None-Match"] in {"*", stored.etag}:
                call.request.answer(304, b"", _described(stored))
                return
            content = b""
            if call.request.command == "GET":
                content = self._emulator.read(call.bucket, call.name) or b""
        described = [("Content-Type", stored.content_type), *_described(stored)]
        if call.request.command == "HEAD":
            call.request.answer(200, b"", [*described, ("Content-Length", str(stored.size))])
            return
        span = _span(headers["Range"], len(content))
        if span is None:
            call.request.answer(200, content, described)
            return
        start, end = span
        where = ("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        call.request.answer(206, content[start:end], [*described, where])

    def _put(self, call: _Call) -> None:
        content_type = call.request.headers.get("Content-Type", "application/octet-stream")
        call.request.answer(200, b"", _described(self._write(call, [call.body], content_type)))

    def _write(self, call: _Call, content: Sequence[bytes], content_type: str) -> StoredObject:
        wanted = call.request.headers["x-goog-if-generation-match"]
        with self._emulator.turn():
            if wanted is not None:
                stored = self._emulator.find(call.bucket, call.name)
                if wanted != ("0" if stored is None else stored.generation):
                    if not self._emulator.has_bucket(call.bucket):
                        raise _NO_BUCKET
                    raise _PRECONDITION
            written = self._emulator.write(call.bucket, call.name, content, content_type)
        if written is None:
            raise _NO_BUCKET
        return written

    def _delete(self, call: _Call) -> None:
        wanted = call.request.headers["x-goog-if-generation-match"]
        with self._emulator.turn():
            stored = self._found(call)
            if wanted not in {None, stored.generation}:
                raise _PRECONDITION
            self._emulator.delete(call.bucket, call.name)
        call.request.answer(204)

    def _begin(self, call: _Call) -> None:
        if not self._emulator.has_bucket(call.bucket):
            raise _NO_BUCKET
        upload_id = secrets.token_urlsafe(16)
        self._uploads[upload_id] = _Upload(
            call.bucket,
            call.name,
            call.request.headers.get("Content-Type", "application/octet-stream"),
        )
        content = (
            f'<InitiateMultipartUploadResult xmlns="{_XML_NAMESPACE}">'
            f"<Bucket>{escape(call.bucket)}</Bucket><Key>{escape(call.name)}</Key>"
            f"<UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>"
        )
        _answer_xml(call.request, content)

    def _take_part(self, call: _Call) -> None:
        upload = self._upload(call)
        etag = f'"{hashlib.md5(call.body, usedforsecurity=False).hexdigest()}"'
        upload.parts[int(call.query["partNumber"])] = (etag, call.body)
        call.request.answer(200, b"", [("ETag", etag)])

    def _complete(self, call: _Call) -> None:
        upload = self._upload(call)
        asked = [
            (int(part.findtext("{*}PartNumber", "")), part.findtext("{*}ETag", ""))
            for part in ET.fromstring(call.body).iterfind("{*}Part")
        ]
        if any(later <= earlier for (earlier, _), (later, _) in itertools.pairwise(asked)):
            raise _XmlError(400, "InvalidPartOrder", "The list of parts was not in order.")
        for number, etag in asked:
            if number not in upload.parts or upload.parts[number][0].strip('"') != etag.strip('"'):
                raise _XmlError(400, "InvalidPart", "One or more of the parts could not be found.")
        contents = [upload.parts[number][1] for number, _ in asked]
        if any(len(content) < _SMALLEST_PART for content in contents[:-1]):
            message = "Your proposed upload is smaller than the minimum allowed object size."
            raise _XmlError(400, "EntityTooSmall", message)
        written = self._write(call, contents, upload.content_type)
        self._uploads.pop(call.query["uploadId"], None)
        content = (
            f'<CompleteMultipartUploadResult xmlns="{_XML_NAMESPACE}">'
            f"<Bucket>{escape(call.bucket)}</Bucket><Key>{escape(call.name)}</Key>"
            f"<ETag>{escape(written.etag)}</ETag></CompleteMultipartUploadResult>"
        )
        _answer_xml(call.request, content, 200, _described(written))

    def _abort(self, call: _Call) -> None:
        self._upload(call)
        self._uploads.pop(call.query["uploadId"], None)
        call.request.answer(204)

    def _upload(self, call: _Call) -> _Upload:
        upload = self._uploads.get(call.query["uploadId"])
        if upload is None or (upload.bucket, upload.name) != (call.bucket, call.name):
            raise _NO_UPLOAD
        return upload

    def _found(self, call: _Call) -> StoredObject:
        stored = self._emulator.find(call.bucket, call.name)
        if stored is not None:
            return stored
        raise _NO_KEY if self._emulator.has_bucket(call.bucket) else _NO_BUCKET


@dataclass(frozen=True)
class _Call:
    request: StreamHandler
    bucket: str
    name: str
    query: dict[str, str]
    body: bytes


def _target(bucket: str, name: str) -> str:
    return f"/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"


def _stored(document: dict[str, Any]) -> StoredObject:
    # Python 3.10 does not take the Z of ISO dates.
    updated = datetime.fromisoformat(document["updated"].replace("Z", "+00:00"))
    return StoredObject(
        name=document["name"],
        generation=document["generation"],
        size=int(document["size"]),
        etag=f'"{base64.b64decode(document["md5Hash"]).hex()}"',
        updated=updated,
        content_type=document["contentType"] or "application/octet-stream",
    )


def _described(stored: StoredObject) -> list[tuple[str, str]]:
    return [
        ("ETag", stored.etag),
        ("x-goog-generation", stored.generation),
        ("x-goog-metageneration", "1"),
        ("x-goog-stored-content-length", str(stored.size)),
        ("Last-Modified", format_datetime(stored.updated, usegmt=True)),
    ]


def _span(wanted: str | None, size: int) -> tuple[int, int] | None:
    """The range of a request as positions, or None for all of it."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted or "")
    if not match or not any(match.groups()):
        return None
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
    else:
        start, end = max(size - int(last), 0), size
    if start >= size or end <= start:
        raise _XmlError(416, "InvalidRange", "The requested range cannot be satisfied.")
    return start, end


def _answer_xml(
    request: StreamHandler,
    content: str,
    status: int = 200,
    headers: Sequence[tuple[str, str]] = (),
) -> None:
    body = f'<?xml version="1.0" encoding="UTF-8"?>{content}'.encode()
    request.answer(status, body, [("Content-Type", "application/xml; charset=UTF-8"), *headers])
