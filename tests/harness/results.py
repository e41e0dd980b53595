"""GitHub's artifact service as a runner sees it, in memory: the Results protocol and a blob store.

What the official client, @actions/artifact, needs to upload, list, download and delete. It is what
`actions/upload-artifact` speaks; `rest` lists the same artifacts.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree as ET

from tests.harness.web import Handler, Request, Response, Route, Violation, json_response

_SERVICE = "/twirp/github.actions.results.api.v1.ArtifactService"
_RETENTION = timedelta(days=90)
_ILLEGAL_IN_NAME = re.compile(r'["<>|*?\r\n\\/:]')


@dataclass(frozen=True)
class Artifact:
    """One finished artifact."""

    id: int
    name: str
    run_id: int
    zip: bytes
    digest: str | None
    """`sha256:` and 64 hexadecimal digits, of `zip` unless a test said otherwise."""
    size: int
    created_at: datetime
    expires_at: datetime

    @property
    def expired(self) -> bool:
        """Whether it is still listed, and cannot be downloaded any more."""
        return self.expires_at <= datetime.now(timezone.utc)


@dataclass(frozen=True)
class _Scope:
    """What a runtime token is good for. The service has ids of its own for a run and its job."""

    run_id: int
    run: str
    job: str


@dataclass
class _Blob:
    id: str
    write_key: str
    read_key: str
    blocks: dict[str, bytes] = field(default_factory=dict)
    content: bytes | None = None


@dataclass(frozen=True)
class _Upload:
    scope: _Scope
    blob: _Blob
    expires_at: datetime


@dataclass(frozen=True)
class _Stored:
    artifact: Artifact
    scope: _Scope
    blob: _Blob


_Operation: TypeAlias = Callable[[Request, _Scope, Mapping[str, Any]], Response]


class ResultsService:
    """The state of the service, and its routes."""

    def __init__(self) -> None:
        """Start with no artifacts."""
        self._runs: dict[int, str] = {}
        self._tokens: dict[str, _Scope] = {}
        self._blobs: dict[str, _Blob] = {}
        self._uploads: dict[tuple[str, str], _Upload] = {}
        self._stored: list[_Stored] = []
        self._last_id = 3_000_000_000  # ids are beyond 32 bits
        operations = {
            "CreateArtifact": self._create,
            "FinalizeArtifact": self._finalize,
            "ListArtifacts": self._list,
            "GetSignedArtifactURL": self._sign,
            "DeleteArtifact": self._delete,
        }
        self.routes = [
            Route("POST", re.compile(f"{_SERVICE}/{name}"), self._operation(operation))
            for name, operation in operations.items()
        ]
        blob = re.compile("/blob/([^/]+)")
        self.routes += [
            Route("PUT", blob, self._put_blob),
            Route("GET", blob, self._get_blob),
        ]

    @property
    def artifacts(self) -> list[Artifact]:
        """The finished artifacts of all runs, the oldest first."""
        return [stored.artifact for stored in self._stored]

    def runtime_token(self, run_id: int) -> str:
        """Issue what a runner gets for one job of a run: ACTIONS_RUNTIME_TOKEN."""
        run = self._runs.setdefault(run_id, str(uuid.uuid4()))
        scope = _Scope(run_id, run, str(uuid.uuid4()))
        claims = {"scp": f"Actions.Results:{scope.run}:{scope.job}", "exp": 4102444800}
        parts = (json.dumps({"alg": "none", "typ": "JWT"}), json.dumps(claims), scope.job)
        token = ".".join(
            base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts
        )
        self._tokens[token] = scope
        return token

    def add(
        self,
        name: str,
        content: bytes,
        run_id: int,
        *,
        digest: str | None,
        created_at: datetime,
        expires_at: datetime,
    ) -> Artifact:
        """Place an artifact as if a job of this run had uploaded it; `content` is the archive."""
        run = self._runs.setdefault(run_id, str(uuid.uuid4()))
        scope = _Scope(run_id, run, str(uuid.uuid4()))
        blob = _new_blob()
        blob.content = content
        self._blobs[blob.id] = blob
        return self._keep(
            name, scope, blob, digest=digest, created_at=created_at, expires_at=expires_at
        )

    def remove(self, identifier: int) -> None:
        """Delete an artifact, and what URLs that were signed for it lead to."""
        stored = next(stored for stored in self._stored if stored.artifact.id == identifier)
        self._stored.remove(stored)
        stored.blob.content = None

    def download_url(self, artifact: Artifact, base_url: str) -> str:
        """Sign a URL that downloads an artifact; `base_url` is that of the request."""
        stored = next(stored for stored in self._stored if stored.artifact == artifact)
        return _blob_url(base_url, stored.blob.id, stored.blob.read_key, "r")

    def _operation(self, operation: _Operation) -> Handler:
        def handle(request: Request, _: re.Match[str]) -> Response:
            token = request.headers.get("authorization", "").removeprefix("Bearer ")
            scope = self._tokens.get(token)
            if scope is None:
                raise _refused(401, "unauthenticated", "not a runtime token that we issued")
            try:
                message = json.loads(request.body)
            except ValueError:
                message = None
            if not isinstance(message, dict):
                raise _refused(400, "malformed", "the body is not a JSON object")
            if _text(message, "workflow_run_backend_id") != scope.run:
                raise _refused(403, "permission_denied", "the token is another run's")
            # A client that deletes or downloads names the job that had uploaded.
            job = _text(message, "workflow_job_run_backend_id")
            if job != scope.job and operation in (self._create, self._finalize):
                raise _refused(403, "permission_denied", "the token is another job's")
            return operation(request, scope, message)

        return handle

    def _create(self, request: Request, scope: _Scope, message: Mapping[str, Any]) -> Response:
        name = _text(message, "name")
        if _ILLEGAL_IN_NAME.search(name):
            raise _refused(400, "invalid_argument", f"{name!r} is no name for an artifact")
        if message.get("version") not in (4, 7):
            raise _refused(400, "invalid_argument", f"version is {message.get('version')!r}")
        if self._find(scope, name):
            # Not the client's fault: the workflow uploads twice under one name.
            why = "an artifact with this name already exists on the workflow run"
            return _twirp_error(409, "already_exists", why)
        expires_at = datetime.now(timezone.utc) + _RETENTION
        if "expires_at" in message:
            expires_at = datetime.fromisoformat(_text(message, "expires_at").replace("Z", "+00:00"))
        blob = _new_blob()
        self._blobs[blob.id] = blob
        self._uploads[scope.run, name] = _Upload(scope, blob, expires_at)
        url = _blob_url(request.base_url, blob.id, blob.write_key, "w")
        return json_response({"ok": True, "signed_upload_url": url})

    def _finalize(self, _: Request, scope: _Scope, message: Mapping[str, Any]) -> Response:
        name = _text(message, "name")
        upload = self._uploads.get((scope.run, name))
        if upload is None:
            raise _refused(404, "not_found", f"no artifact {name!r} was created")
        content = upload.blob.content
        if content is None:
            raise _refused(400, "failed_precondition", f"nothing was uploaded for {name!r}")
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if _text(message, "size") != str(len(content)):
            why = f"size is {message['size']}, the blob has {len(content)}"
            raise _refused(400, "invalid_argument", why)
        if _text(message, "hash") != digest:
            raise _refused(400, "invalid_argument", f"hash is {message['hash']}, not {digest}")
        del self._uploads[scope.run, name]
        now = datetime.now(timezone.utc)
        artifact = self._keep(
            name,
            upload.scope,
            upload.blob,
            digest=digest,
            created_at=now,
            expires_at=upload.expires_at,
        )
        return json_response({"ok": True, "artifact_id": str(artifact.id)})

    def _keep(
        self,
        name: str,
        scope: _Scope,
        blob: _Blob,
        *,
        digest: str | None,
        created_at: datetime,
        expires_at: datetime,
    ) -> Artifact:
        self._last_id += 1
        content = blob.content or b""
        artifact = Artifact(
            id=self._last_id,
            name=name,
            run_id=scope.run_id,
            zip=content,
            digest=digest,
            size=len(content),
            created_at=created_at,
            expires_at=expires_at,
        )
        self._stored.append(_Stored(artifact, scope, blob))
        return artifact

    def _list(self, _: Request, scope: _Scope, message: Mapping[str, Any]) -> Response:
        name, identifier = message.get("name_filter"), message.get("id_filter")
        return json_response(
            {
                "artifacts": [
                    {
                        "workflow_run_backend_id": stored.scope.run,
                        "workflow_job_run_backend_id": stored.scope.job,
                        "database_id": str(stored.artifact.id),
                        "name": stored.artifact.name,
                        "size": str(stored.artifact.size),
                        "created_at": stored.artifact.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                        "digest": stored.artifact.digest,
                    }
                    for stored in self._stored
                    if stored.scope.run == scope.run
                    and name in (None, stored.artifact.name)
                    and identifier in (None, str(stored.artifact.id))
                ]
            }
        )

    def _sign(self, request: Request, scope: _Scope, message: Mapping[str, Any]) -> Response:
        stored = self._find(scope, _text(message, "name"))
        if stored is None:
            return _twirp_error(404, "not_found", "artifact not found")
        url = self.download_url(stored.artifact, request.base_url)
        return json_response({"name": stored.artifact.name, "signed_url": url})

    def _delete(self, _: Request, scope: _Scope, message: Mapping[str, Any]) -> Response:
        stored = self._find(scope, _text(message, "name"))
        if stored is None:
            return _twirp_error(404, "not_found", "artifact not found")
        self.remove(stored.artifact.id)
        return json_response({"ok": True, "artifact_id": str(stored.artifact.id)})

    def _find(self, scope: _Scope, name: str) -> _Stored | None:
        return next(
            (
                stored
                for stored in self._stored
                if stored.scope.run == scope.run and stored.artifact.name == name
            ),
            None,
        )

    def _put_blob(self, request: Request, match: re.Match[str]) -> Response:
        blob = self._authorize(request, match[1], "w")
        if request.query.get("comp") == "block":
            blob.blocks[_block_id(request, blob)] = request.body
            return Response(201)
        if request.query.get("comp") == "blocklist":
            ids = [element.text or "" for element in ET.fromstring(request.body)]
            missing = [block for block in ids if block not in blob.blocks]
            if missing:
                raise _blob_refused(400, "InvalidBlockList", f"{missing} were not uploaded")
            blob.content = b"".join(blob.blocks[block] for block in ids)
            now = datetime.now(timezone.utc)
            headers = {
                "ETag": f'"{uuid.uuid4().hex}"',
                "Last-Modified": format_datetime(now, usegmt=True),
            }
            return Response(201, headers=headers)
        raise _blob_refused(400, "InvalidQueryParameterValue", "neither a block nor a list of them")

    def _get_blob(self, request: Request, match: re.Match[str]) -> Response:
        blob = self._authorize(request, match[1], "r")
        if blob.content is None:  # It was deleted since; the client cannot know.
            return _blob_refused(404, "BlobNotFound", "deleted").response
        return Response(200, blob.content, {"Content-Type": "application/zip"})

    def _authorize(self, request: Request, identifier: str, permission: str) -> _Blob:
        # The real store refuses this too, so a client that sends the job's token along is broken.
        if "authorization" in request.headers:
            raise _blob_refused(400, "InvalidAuthenticationInfo", "it has an Authorization header")
        blob = self._blobs.get(identifier)
        if blob is None:
            raise _blob_refused(404, "BlobNotFound", "there is no such blob")
        key = blob.write_key if permission == "w" else blob.read_key
        if (request.query.get("sp"), request.query.get("sig")) != (permission, key):
            raise _blob_refused(403, "AuthenticationFailed", "the URL is signed for other use")
        return blob


def _block_id(request: Request, blob: _Blob) -> str:
    identifier = request.query.get("blockid", "")
    try:
        decoded = base64.b64decode(identifier, validate=True)
    except binascii.Error:
        decoded = b""
    if not 0 < len(decoded) <= 64:
        raise _blob_refused(400, "InvalidQueryParameterValue", f"block id {identifier!r}")
    if blob.blocks and len(identifier) != len(next(iter(blob.blocks))):
        raise _blob_refused(400, "InvalidBlobOrBlock", "the block ids differ in length")
    return identifier


def _blob_url(base_url: str, identifier: str, key: str, permission: str) -> str:
    # The name differs from that of the API, as with GitHub: a client must not take its token along.
    query = urlencode({"se": "2100-01-01T00:00:00Z", "sp": permission, "sig": key})
    api = urlsplit(base_url)
    host = "127.0.0.1" if api.hostname == "localhost" else "localhost"
    return f"http://{host}:{api.port}/blob/{quote(identifier)}?{query}"


def _new_blob() -> _Blob:
    return _Blob(str(uuid.uuid4()), write_key=uuid.uuid4().hex, read_key=uuid.uuid4().hex)


def _text(message: Mapping[str, Any], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str) or not value:
        raise _refused(400, "invalid_argument", f"{name} is {value!r}")
    return value


def _twirp_error(status: int, code: str, why: str) -> Response:
    return json_response({"code": code, "msg": why}, status)


def _refused(status: int, code: str, why: str) -> Violation:
    return Violation(why, _twirp_error(status, code, why))


def _blob_refused(status: int, code: str, why: str) -> Violation:
    body = f"<?xml version='1.0' encoding='utf-8'?><Error><Code>{code}</Code></Error>"
    headers = {"Content-Type": "application/xml", "x-ms-error-code": code}
    return Violation(why, Response(status, body.encode(), headers))
