"""Tests of `github`: requests that it must refuse. That it serves correct ones: `test_harness`."""

from __future__ import annotations

import urllib.error
import urllib.request

from tests.harness.github import FakeGitHub


def _post(github: FakeGitHub, token: str, operation: str, body: bytes) -> int:
    service = "twirp/github.actions.results.api.v1.ArtifactService"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return _status(
        urllib.request.Request(f"{github.url}/{service}/{operation}", body, headers, method="POST")
    )


def _status(request: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(request) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_fake_refuses_and_reports_what_no_client_may_do() -> None:
    with FakeGitHub() as github:
        assert _status(urllib.request.Request(f"{github.url}/nothing/here")) == 404
        assert _post(github, "made-up", "ListArtifacts", b"{}") == 401
        token = github.runtime_token(1)
        assert _post(github, token, "ListArtifacts", b"[]") == 400
        assert _post(github, token, "ListArtifacts", b"{}") == 400
        ids = b'{"workflow_run_backend_id": "another", "workflow_job_run_backend_id": "job"}'
        assert _post(github, token, "ListArtifacts", ids) == 403
        blob = f"{github.url}/blob/none?comp=block&blockid=YQ==&sp=w&sig=x"
        assert _status(urllib.request.Request(blob, b"", method="PUT")) == 404
        authorized = {"Authorization": "Bearer job"}
        request = urllib.request.Request(blob, b"", authorized, method="PUT")
        assert _status(request) == 400
    assert len(github.violations) == len(github.requests) == 7
    assert github.violations[0] == "GET /nothing/here: no such route"
    assert github.requests[-1].status == 400
    assert "authorization" in github.requests[-1].header_names
