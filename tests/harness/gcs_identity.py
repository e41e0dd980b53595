"""Workload identity federation as google-github-actions/auth sets it up, on one port of 127.0.0.1.

It is GitHub's OIDC endpoint, Google's security token service and the part of its IAM API that makes
a token for a service account. What a job gets is a credentials file; what its client does with it:

1. `GET` the OIDC URL with the job's request token: a JWT, for the audience in the URL;
2. `POST /v1/token` with the JWT: a federated token;
3. `POST .../serviceAccounts/<email>:generateAccessToken` with that: the token for the store. It is
   left out when the identity of the job has its permissions itself.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import parse_qsl

from tests.harness.web import Request, Response, Route, WebServer, json_response

PROVIDER = "projects/123456789/locations/global/workloadIdentityPools/ci/providers/github"
SERVICE_ACCOUNT = "ci@acme.iam.gserviceaccount.com"
_AUDIENCE = f"//iam.googleapis.com/{PROVIDER}"
_JWT = "urn:ietf:params:oauth:token-type:jwt"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


class GoogleIdentity(WebServer):
    """The three services; a context manager."""

    def __init__(self, *, lifetime: int = 3600) -> None:
        """`lifetime` is that of the tokens, in seconds."""
        self.request_token = "request-token-of-the-job"
        self.jwt = f"{_part({'alg': 'none'})}.{_part({'sub': 'repo:acme/shop'})}.c2lnbmF0dXJl"
        self.federated_token = "ya29.federated"
        self.access_token = "ya29.service-account"
        self._lifetime = lifetime
        super().__init__(
            [
                Route("GET", re.compile("/oidc/token"), self._oidc),
                Route("POST", re.compile("/v1/token"), self._exchange),
                Route(
                    "POST",
                    re.compile(r"/v1/projects/-/serviceAccounts/([^/:]+):generateAccessToken"),
                    self._impersonate,
                ),
            ]
        )

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def job_environ(self) -> dict[str, str]:
        """What a job with `id-token: write` finds in its environment."""
        return {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/oidc/token?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": self.request_token,
        }

    def write_credentials(self, file: Path, service_account: str | None = SERVICE_ACCOUNT) -> Path:
        """Write the file that GOOGLE_APPLICATION_CREDENTIALS names; give it back.

        As in src/client/workload_identity_federation.ts of google-github-actions/auth, with this
        server for all hosts.
        """
        document: dict[str, object] = {
            "type": "external_account",
            "audience": _AUDIENCE,
            "subject_token_type": _JWT,
            "token_url": f"{self.url}/v1/token",
            "credential_source": {
                "url": f"{self.url}/oidc/token?api-version=2.0&audience=https%3A%2F%2F"
                f"iam.googleapis.com%2F{PROVIDER.replace('/', '%2F')}",
                "headers": {"Authorization": f"Bearer {self.request_token}"},
                "format": {"type": "json", "subject_token_field_name": "value"},
            },
        }
        if service_account is not None:
            document["service_account_impersonation_url"] = (
                f"{self.url}/v1/projects/-/serviceAccounts/{service_account}:generateAccessToken"
            )
        file.write_text(json.dumps(document), encoding="utf-8")
        return file

    def _oidc(self, request: Request, match: re.Match[str]) -> Response:
        if request.headers.get("authorization", "").lower() != f"bearer {self.request_token}":
            return json_response({"message": "Unauthorized"}, 401)
        if request.query.get("audience") != f"https:{_AUDIENCE}":
            return json_response({"message": "another audience"}, 400)
        return json_response({"value": self.jwt, "count": len(self.jwt)})

    def _exchange(self, request: Request, match: re.Match[str]) -> Response:
        # As a form, which is the standard and what Python's client sends; Google takes JSON too.
        form = dict(parse_qsl(request.body.decode()))
        expected = {
            "grant_type": _EXCHANGE,
            "audience": _AUDIENCE,
            "subject_token": self.jwt,
            "subject_token_type": _JWT,
        }
        for name, value in expected.items():
            if form.get(name) != value:
                document = {"error": "invalid_grant", "error_description": f"{name} is not right"}
                return json_response(document, 400)
        return json_response(
            {
                "access_token": self.federated_token,
                "issued_token_type": _ACCESS_TOKEN,
                "token_type": "Bearer",
                "expires_in": self._lifetime,
            }
        )

    def _impersonate(self, request: Request, match: re.Match[str]) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.federated_token}":
            return json_response({"error": {"code": 401, "message": "Invalid Credentials"}}, 401)
        if match[1] != SERVICE_ACCOUNT:
            document = {"code": 403, "message": "Permission 'iam.serviceAccounts.getAccessToken'"}
            return json_response({"error": document}, 403)
        expires = datetime.now(timezone.utc) + timedelta(seconds=self._lifetime)
        return json_response(
            {"accessToken": self.access_token, "expireTime": f"{expires:%Y-%m-%dT%H:%M:%SZ}"}
        )


def _part(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")
