"""The API of the registry, in memory.

What is wrong with a request is told from what its user or its server got wrong: the first is a
violation, as no correct client sends it. Statuses that neither real client depends on are those of
the framework that the shape of the documents speaks of: errors have a `detail`, which is a text, or
a list where a request is not of the right form.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeAlias

from tests.harness.registry_store import ObjectStore, Stored
from tests.harness.web import Request, Response, Violation, json_response

FILE_TYPES = ("manifest", "catalog", "run_results", "sources", "semantic_manifest")

_INTEGRATION = "dbt_core_integration_id"
_ENVIRONMENT = "dbt_core_integration_environment_type"
_FILE = "dbt_core_integration_file_id"

Answer: TypeAlias = Callable[[], Response]
_Operation: TypeAlias = Callable[[Request], Answer]
"""Checks a request, and returns what does it: a fault comes in between."""


@dataclass(frozen=True)
class Ingestion:
    """One start of an ingestion."""

    integration_id: int
    environment: str
    file_types: tuple[str, ...]
    """What was verified since the one before, in that order."""


@dataclass(frozen=True)
class _Token:
    instance: str
    refused: int | None
    may_upload: bool


@dataclass(frozen=True)
class _Integration:
    id: int
    name: str
    environments: tuple[str, ...]
    created_at: datetime


@dataclass
class _File:
    id: int
    integration_id: int
    environment: str
    file_type: str
    stored: Stored
    verified: bool = False
    ingested: bool = False

    @property
    def place(self) -> tuple[int, str, str]:
        """What a later file of the same place replaces."""
        return self.integration_id, self.environment, self.file_type


class RegistryApi:
    """The state of the registry, and its operations."""

    def __init__(self, store: ObjectStore, store_url: str) -> None:
        """Start with nothing; `store_url` has no slash at the end."""
        self.ingestions: list[Ingestion] = []
        self.events: list[str] = []
        self._store = store
        self._store_url = store_url
        self._tokens: dict[str, _Token] = {}
        self._integrations: dict[int, _Integration] = {}
        self._files: dict[int, _File] = {}
        self._verified: list[_File] = []
        self._exhausted: str | None = None
        self._last_id = 40_000
        self._operations: dict[str, tuple[str, _Operation]] = {
            "/dbt/v3/validate-credentials": ("GET", self._validate_credentials),
            "/dbt/v1/validate-permissions": ("GET", self._validate_permissions),
            "/dbt/v1/project_integrations/": ("GET", self._list_integrations),
            "/dbt/v1/signed_url": ("GET", self._sign_upload),
            "/dbt/v1/verify_upload": ("POST", self._verify),
            "/dbt/v1/start_dbt_ingestion": ("POST", self._ingest),
            "/dbt/v1/fetch_artifact_url": ("GET", self._sign_download),
            "/dbt/v1/defer_to_prod_event": ("POST", self._note_event),
        }

    @property
    def tokens(self) -> Iterator[str]:
        """The tokens, refused ones too."""
        return iter(self._tokens)

    def add_integration(
        self, identifier: int, name: str, environments: Sequence[str] = ("PROD",)
    ) -> None:
        """Make an integration, which each instance then has."""
        now = datetime.now(timezone.utc)
        self._integrations[identifier] = _Integration(identifier, name, tuple(environments), now)

    def add_token(
        self, value: str, instance: str, *, refused: int | None = None, may_upload: bool = True
    ) -> None:
        """Issue an API key for an instance.

        One that is `refused`, with 401 or 403, is what a user mistyped; a token that was never
        added is the client's fault. Without `may_upload`, it may only download.
        """
        self._tokens[value] = _Token(instance, refused, may_upload)

    def exhaust_credits(self, detail: str = "You have used all credits of this month.") -> None:
        """Answer 402 from now on, except to the question whether the key is right."""
        self._exhausted = detail

    def upload(
        self, integration_id: int, file_type: str, content: bytes, *, environment: str = "PROD"
    ) -> int:
        """Put a file there as if somebody had uploaded and verified it; returns its id."""
        file = self._new_file(integration_id, environment, file_type)
        file.stored.content = content
        self._set_verified(file)
        return file.id

    def file(self, integration_id: int, environment: str, file_type: str) -> bytes | None:
        """Return the latest verified file of a place."""
        place = integration_id, environment, file_type
        found = [file for file in self._verified if file.place == place]
        return found[-1].stored.content if found else None

    def check(self, request: Request) -> Answer:
        """Raise Violation for what no correct client sends; return what does the rest."""
        if "transfer-encoding" in request.headers:
            raise _refused(411, "a body without a Content-Length")
        if request.path not in self._operations:
            raise _refused(404, "Not Found")
        method, operation = self._operations[request.path]
        if request.method != method:
            raise _refused(405, "Method Not Allowed")
        content_type = request.headers.get("content-type", "")
        if content_type.partition(";")[0].strip().lower() != "application/json":
            raise _malformed("header", "content-type", f"it is {content_type!r}")
        token = self._authenticate(request)
        if token.refused is not None:
            return _always(_error(token.refused, "Invalid credentials"))
        if operation == self._validate_permissions and not token.may_upload:
            return _always(_error(403, "You do not have the permission to upload"))
        if self._exhausted is not None and operation != self._validate_credentials:
            return _always(_error(402, self._exhausted))
        answer = operation(request)
        if operation in (self._sign_upload, self._verify, self._ingest) and not token.may_upload:
            return _always(_error(403, "You do not have the permission to upload"))
        return answer

    def _authenticate(self, request: Request) -> _Token:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer":
            raise _refused(401, "Authorization has no Bearer token")
        token = self._tokens.get(value)
        if token is None:
            raise _refused(401, "Authorization has a token that we did not issue")
        tenant = request.headers.get("x-tenant")
        if tenant != token.instance:
            raise _refused(403, f"x-tenant is {tenant!r}, not {token.instance!r}")
        return token

    def _validate_credentials(self, request: Request) -> Answer:
        _no_query(request)
        return _always(json_response({"ok": True}))

    def _validate_permissions(self, request: Request) -> Answer:
        _no_query(request)
        return _always(json_response({"ok": True}))

    def _list_integrations(self, request: Request) -> Answer:
        _no_query(request)
        return lambda: json_response([self._describe(item) for item in self._integrations.values()])

    def _describe(self, integration: _Integration) -> dict[str, Any]:
        return {
            "id": integration.id,
            "name": integration.name,
            "created_at": integration.created_at.isoformat(),
            "environments": [
                {
                    "id": 100 * integration.id + number,
                    "environment_type": environment,
                    "created_at": integration.created_at.isoformat(),
                }
                for number, environment in enumerate(integration.environments)
            ],
        }

    def _sign_upload(self, request: Request) -> Answer:
        query = _query(request, _INTEGRATION, _ENVIRONMENT, "file_type")
        integration = _number("query", _INTEGRATION, query[_INTEGRATION])
        file_type = _one_of("file_type", query["file_type"], FILE_TYPES)
        if integration not in self._integrations:
            return _always(_error(404, "Integration not found"))
        environment = self._environment("query", integration, query[_ENVIRONMENT])

        def sign() -> Response:
            file = self._new_file(integration, environment, file_type)
            url = self._store.sign(file.stored, "PUT", self._store_url)
            return json_response({"url": url, _FILE: file.id})

        return sign

    def _verify(self, request: Request) -> Answer:
        body = _body(request, _FILE)
        identifier = _number("body", _FILE, body[_FILE])
        file = self._files.get(identifier)
        if file is None:
            raise _refused(404, f"there is no file {identifier}")
        if file.stored.content is None:
            raise _refused(400, f"nothing was uploaded for file {identifier}")

        def verify() -> Response:
            if not file.verified:  # Else an answer was lost, and the client asks again.
                self._set_verified(file)
            return json_response({"ok": True})

        return verify

    def _ingest(self, request: Request) -> Answer:
        body = _body(request, _INTEGRATION, _ENVIRONMENT)
        integration = _number("body", _INTEGRATION, body[_INTEGRATION])
        if integration not in self._integrations:
            return _always(_error(404, "Integration not found"))
        environment = self._environment("body", integration, body[_ENVIRONMENT])
        # Of each place the last one: a job that was killed may have left others.
        files = {file.place: file for file in self._files.values()}.values()
        mine = [file for file in files if file.place[:2] == (integration, environment)]
        waiting = [f.file_type for f in mine if f.stored.content is not None and not f.verified]
        if waiting:
            raise _refused(400, f"{waiting} were uploaded, and not verified")
        verified = [file for file in self._verified if file.place[:2] == (integration, environment)]
        if not verified:
            raise _refused(400, "there is nothing to ingest")

        def ingest() -> Response:
            fresh = [file for file in verified if not file.ingested]
            for file in fresh:
                file.ingested = True
            types = tuple(file.file_type for file in fresh)
            self.ingestions.append(Ingestion(integration, environment, types))
            return json_response({"ok": True})

        return ingest

    def _sign_download(self, request: Request) -> Answer:
        query = _query(request, "artifact_type", _INTEGRATION)
        integration = _number("query", _INTEGRATION, query[_INTEGRATION])
        file_type = _one_of("artifact_type", query["artifact_type"], FILE_TYPES)

        def sign() -> Response:
            wanted = integration, file_type
            found = [f for f in self._verified if (f.integration_id, f.file_type) == wanted]
            if not found:
                return _error(404, "Not Found")
            url = self._store.sign(found[-1].stored, "GET", self._store_url)
            return json_response({"url": url, _FILE: found[-1].id})

        return sign

    def _note_event(self, request: Request) -> Answer:
        name = "defer_type"
        event = _one_of(name, _body(request, name)[name], ("remote", "local"))

        def note() -> Response:
            self.events.append(event)
            return json_response({"ok": True})

        return note

    def _environment(self, where: str, integration: int, value: object) -> str:
        known = self._integrations[integration].environments
        return _one_of(_ENVIRONMENT, value, known, where=where)

    def _new_file(self, integration: int, environment: str, file_type: str) -> _File:
        if integration not in self._integrations or file_type not in FILE_TYPES:
            raise ValueError(f"no integration {integration}, or no type {file_type}")
        self._last_id += 1
        stored = self._store.new(f"{file_type}.json")
        file = _File(self._last_id, integration, environment, file_type, stored)
        self._files[file.id] = file
        return file

    def _set_verified(self, file: _File) -> None:
        file.verified = True
        self._verified.append(file)


def _always(response: Response) -> Answer:
    return lambda: response


def _no_query(request: Request) -> None:
    _query(request)


def _query(request: Request, *names: str) -> Mapping[str, str]:
    """Return the query if it has these parameters and no others."""
    _names("query", request.query, names)
    return request.query


def _body(request: Request, *names: str) -> Mapping[str, Any]:
    """Return the body if it is an object with these members and no others."""
    _no_query(request)
    try:
        document = json.loads(request.body.decode("utf-8"))
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise _malformed("body", "", "it is not a JSON object")
    _names("body", document, names)
    return document


def _names(where: str, given: Mapping[str, Any], wanted: Sequence[str]) -> None:
    for name in sorted({*given} ^ {*wanted}):
        raise _malformed(where, name, "it is unknown" if name in given else "it is missing")


def _number(where: str, name: str, value: object) -> int:
    # The real client sends a text where its user gave the id, and a number where it looked it up.
    is_text = isinstance(value, str) and value.isascii() and value.isdecimal()
    if isinstance(value, bool) or not (is_text or isinstance(value, int)):
        raise _malformed(where, name, f"{value!r} is no number")
    return int(str(value))


def _one_of(name: str, value: object, known: Sequence[str], *, where: str = "query") -> str:
    if not isinstance(value, str) or value not in known:
        raise _malformed(where, name, f"{value!r} is none of {', '.join(known)}")
    return value


def _error(status: int, detail: object) -> Response:
    return json_response({"detail": detail}, status)


def _refused(status: int, why: str) -> Violation:
    return Violation(why, _error(status, why))


def _malformed(where: str, name: str, why: str) -> Violation:
    detail = [{"type": "value_error", "loc": [where, name], "msg": why}]
    return Violation(f"{where} {name}: {why}", _error(422, detail))
