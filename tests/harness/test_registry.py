"""Tests of `registry`: the real client gets on with it, and it refuses what no client may do."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.harness.datapilot import onboard
from tests.harness.registry import FILE_TYPES, OBJECTS, FakeRegistry, Ingestion

TOKEN = "key-of-acme"
HEADERS = {
    "Authorization": f"Bearer {TOKEN}",
    "x-tenant": "acme",
    "Content-Type": "application/json",
}
SIGNED_URL = "/dbt/v1/signed_url?" + urlencode(
    {
        "dbt_core_integration_id": 7,
        "dbt_core_integration_environment_type": "PROD",
        "file_type": "manifest",
    }
)
ARTIFACT_URL = "/dbt/v1/fetch_artifact_url?artifact_type=manifest&dbt_core_integration_id=7"
INGESTION = {"dbt_core_integration_id": 7, "dbt_core_integration_environment_type": "PROD"}


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        registry.add_integration(7, "shop", ["PROD", "STAGING"])
        registry.add_token(TOKEN, "acme")
        yield registry
    assert registry.pending_faults == []


def call(
    url: str,
    method: str = "GET",
    body: object = None,
    *,
    headers: Mapping[str, str] = HEADERS,
    chunked: bool = False,
) -> tuple[int, Any]:
    """Send exactly these headers, and a length unless told otherwise; JSON is read."""
    parts = urlsplit(url)
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.putrequest(method, f"{parts.path}?{parts.query}".rstrip("?"))
        for name, value in headers.items():
            connection.putheader(name, value)
        if chunked:
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
        elif content is None:
            connection.endheaders()
        else:
            connection.putheader("Content-Length", str(len(content)))
            connection.endheaders(content)
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    is_json = response.headers["Content-Type"] == "application/json; charset=utf-8"
    return response.status, json.loads(data) if is_json else data


def api(registry: FakeRegistry, path: str, body: object = None, **how: Any) -> tuple[int, Any]:
    return call(registry.url + path, "GET" if body is None else "POST", body, **how)


def signed(registry: FakeRegistry) -> tuple[str, int]:
    status, document = api(registry, SIGNED_URL)
    assert status == 200
    return document["url"], document["dbt_core_integration_file_id"]


def put(url: str, body: bytes | None = b"{}", **how: Any) -> int:
    return call(url, "PUT", body, **{"headers": {}, **how})[0]


def get(url: str) -> tuple[int, Any]:
    return call(url, headers={})


def only_violation(registry: FakeRegistry) -> str:
    (violation,) = registry.violations
    return violation


def artifacts(folder: Path) -> dict[str, Path]:
    """The smallest files that the real client takes for artifacts of dbt."""

    def document(kind: str, version: int, **more: object) -> dict[str, object]:
        url = f"https://schemas.getdbt.com/dbt/{kind}/v{version}.json"
        return {"metadata": {"dbt_schema_version": url}, **more}

    maps = (
        *("nodes", "sources", "macros", "docs", "exposures", "metrics", "groups", "selectors"),
        *("disabled", "parent_map", "child_map", "group_map", "saved_queries"),
        *("semantic_models", "unit_tests"),
    )
    documents = {
        "manifest": document("manifest", 12, **{name: {} for name in maps}),
        "catalog": document("catalog", 1, nodes={}, sources={}),
        "run_results": document("run-results", 6, results=[], elapsed_time=1.0),
        "sources": document("sources", 3, results=[], elapsed_time=1.0),
        "semantic_manifest": {"semantic_models": [], "text": "é"},
    }
    for name, content in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False, indent=1))
    return {name: folder / f"{name}.json" for name in documents}


@pytest.mark.dbt  # It needs an environment that `make test-fast` does not install.
def test_real_client__uploads_all_it_can_without_a_violation(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    files = artifacts(tmp_path)
    result = onboard(
        files,
        "--dbt_core_integration_name",
        "shop",
        home=tmp_path,
        url=registry.url,
        token=TOKEN,
        instance="acme",
    )
    assert result.returncode == 0
    assert "Ingestion has started for: manifest, catalog, run_results" in result.stdout
    assert registry.violations == []
    assert [request.what for request in registry.requests] == [
        "GET validate-credentials",
        "GET validate-permissions",
        "GET project_integrations",
        *(
            what
            for name in FILE_TYPES
            for what in ("GET signed_url", f"PUT {name}.json", "POST verify_upload")
        ),
        "POST start_dbt_ingestion",
    ]
    for name, path in files.items():
        assert registry.files(7, "PROD", name) == path.read_bytes()
    assert registry.ingestions == [Ingestion(7, "PROD", FILE_TYPES)]
    assert not any(secret in result.stdout for secret in registry.secrets)


@pytest.mark.parametrize(
    ("headers", "status", "why"),
    [
        ({"Authorization": ""}, 401, "Authorization has no Bearer token"),
        ({"Authorization": TOKEN}, 401, "Authorization has no Bearer token"),
        ({"Authorization": "Bearer x"}, 401, "Authorization has a token that we did not issue"),
        ({"x-tenant": ""}, 403, "x-tenant is None, not 'acme'"),
        ({"x-tenant": "Acme"}, 403, "x-tenant is 'Acme', not 'acme'"),
        ({"Content-Type": ""}, 422, "header content-type: it is ''"),
        ({"Content-Type": "text/json"}, 422, "header content-type: it is 'text/json'"),
    ],
)
def test_api__refuses_wrong_headers(
    registry: FakeRegistry, headers: Mapping[str, str], status: int, why: str
) -> None:
    wrong = {name: value for name, value in {**HEADERS, **headers}.items() if value}
    assert api(registry, ARTIFACT_URL, headers=wrong)[0] == status
    assert only_violation(registry) == f"GET /dbt/v1/fetch_artifact_url: {why}"


@pytest.mark.parametrize(
    ("path", "body", "status", "why"),
    [
        ("/dbt/v1/project_integrations", None, 404, "Not Found"),
        ("/dbt/v1/verify_upload", None, 405, "Method Not Allowed"),
        ("/dbt/v3/validate-credentials?x=1", None, 422, "query x: it is unknown"),
        (SIGNED_URL + "&commit=1", None, 422, "query commit: it is unknown"),
        (SIGNED_URL.replace("manifest", "bundle"), None, 422, "query file_type: 'bundle' is none"),
        (SIGNED_URL.replace("PROD", "prod"), None, 422, "_environment_type: 'prod' is none"),
        (SIGNED_URL.replace("=7", "=shop"), None, 422, "_integration_id: 'shop' is no number"),
        ("/dbt/v1/signed_url", None, 422, "it is missing"),
        (ARTIFACT_URL + "&environment=PROD", None, 422, "query environment: it is unknown"),
        ("/dbt/v1/verify_upload", b"dbt_core_integration_file_id=1", 422, "not a JSON object"),
        ("/dbt/v1/verify_upload", [1], 422, "not a JSON object"),
        ("/dbt/v1/verify_upload", {}, 422, "body dbt_core_integration_file_id: it is missing"),
        ("/dbt/v1/verify_upload", {"dbt_core_integration_file_id": None}, 422, "is no number"),
        ("/dbt/v1/verify_upload", {"dbt_core_integration_file_id": True}, 422, "is no number"),
        ("/dbt/v1/verify_upload", {"dbt_core_integration_file_id": 1}, 404, "there is no file 1"),
        ("/dbt/v1/start_dbt_ingestion", {**INGESTION, "x": 1}, 422, "body x: it is unknown"),
        ("/dbt/v1/start_dbt_ingestion", INGESTION, 400, "there is nothing to ingest"),
        ("/dbt/v1/defer_to_prod_event", {"defer_type": "x"}, 422, "'x' is none of remote, local"),
    ],
)
def test_api__refuses_what_it_does_not_know(
    registry: FakeRegistry, path: str, body: object, status: int, why: str
) -> None:
    answer, document = api(registry, path, body)
    assert answer == status
    assert document["detail"]
    assert why in only_violation(registry)


def test_api__refuses_a_body_without_length(registry: FakeRegistry) -> None:
    assert api(registry, "/dbt/v1/verify_upload", {}, chunked=True)[0] == 411
    assert "without a Content-Length" in only_violation(registry)


def test_api__refuses_steps_out_of_order(registry: FakeRegistry) -> None:
    url, identifier = signed(registry)
    verify = {"dbt_core_integration_file_id": identifier}
    assert api(registry, "/dbt/v1/verify_upload", verify)[0] == 400
    assert registry.violations.pop().endswith(f"nothing was uploaded for file {identifier}")
    assert put(url) == 200
    assert api(registry, "/dbt/v1/start_dbt_ingestion", INGESTION)[0] == 400
    assert "['manifest'] were uploaded, and not verified" in registry.violations.pop()
    assert registry.files(7, "PROD", "manifest") is None
    assert api(registry, "/dbt/v1/verify_upload", verify) == (200, {"ok": True})
    assert registry.files(7, "PROD", "manifest") == b"{}"
    for integration in (7, "7"):  # The real client sends either.
        body = {**INGESTION, "dbt_core_integration_id": integration}
        assert api(registry, "/dbt/v1/start_dbt_ingestion", body) == (200, {"ok": True})
    assert registry.ingestions == [Ingestion(7, "PROD", ("manifest",)), Ingestion(7, "PROD", ())]
    assert registry.violations == []


def test_api__users_and_state_are_not_held_against_the_client(registry: FakeRegistry) -> None:
    assert api(registry, ARTIFACT_URL) == (404, {"detail": "Not Found"})
    assert api(registry, SIGNED_URL.replace("=7", "=8"))[0] == 404
    for status in (401, 403):
        registry.add_token("mistyped", "acme", refused=status)
        headers = {**HEADERS, "Authorization": "Bearer mistyped"}
        assert api(registry, ARTIFACT_URL, headers=headers)[0] == status
    registry.add_token(TOKEN, "acme", may_upload=False)
    assert api(registry, "/dbt/v3/validate-credentials")[0] == 200
    assert api(registry, "/dbt/v1/validate-permissions")[0] == 403
    assert api(registry, SIGNED_URL)[0] == 403
    registry.exhaust_credits("no credits")
    assert api(registry, "/dbt/v3/validate-credentials")[0] == 200
    assert api(registry, ARTIFACT_URL) == (402, {"detail": "no credits"})
    assert registry.violations == []


def test_api__gives_the_latest_file_of_any_environment(registry: FakeRegistry) -> None:
    registry.upload(7, "manifest", b"old")
    registry.upload(7, "manifest", b"new", environment="STAGING")
    registry.upload(7, "catalog", b"another")
    status, document = api(registry, ARTIFACT_URL)
    assert status == 200
    assert get(document["url"]) == (200, b"new")
    assert registry.files(7, "PROD", "manifest") == b"old"
    assert registry.violations == []


def test_api__lists_integrations_and_notes_events(registry: FakeRegistry) -> None:
    _, (shop,) = api(registry, "/dbt/v1/project_integrations/")
    assert (shop["id"], shop["name"]) == (7, "shop")
    assert [item["environment_type"] for item in shop["environments"]] == ["PROD", "STAGING"]
    assert api(registry, "/dbt/v1/defer_to_prod_event", {"defer_type": "remote"})[0] == 200
    assert registry.events == ["remote"]
    assert registry.violations == []


@pytest.mark.parametrize(
    ("headers", "status", "why"),
    [
        ({"Authorization": f"Bearer {TOKEN}"}, 400, "authorization along with a presigned URL"),
        ({"Cookie": "a=b"}, 400, "cookie along with a presigned URL"),
        ({"Content-Type": "application/json"}, 403, "a Content-Type that was not signed"),
        ({"x-amz-acl": "private"}, 403, "['x-amz-acl'] were not signed"),
    ],
)
def test_store__refuses_other_headers(
    registry: FakeRegistry, headers: Mapping[str, str], status: int, why: str
) -> None:
    url, _ = signed(registry)
    assert put(url, headers=headers) == status
    assert why in only_violation(registry)
    assert (
        registry.requests[-1].headers.items() >= {k.lower(): v for k, v in headers.items()}.items()
    )


def test_store__refuses_a_body_without_length(registry: FakeRegistry) -> None:
    url, _ = signed(registry)
    assert put(url, chunked=True) == 501
    assert "Transfer-Encoding" in registry.violations.pop()
    assert put(url, None) == 411
    assert "without Content-Length" in registry.violations.pop()


def test_store__url_is_good_for_one_use(registry: FakeRegistry) -> None:
    url, _ = signed(registry)
    assert get(url)[0] == 403
    assert "signed for PUT" in registry.violations.pop()
    assert put(url.replace("manifest", "catalog")) == 403
    assert "signed for /dbt-artifacts/" in registry.violations.pop()
    assert put(url + "0") == put(url.partition("?")[0]) == 403
    assert len(registry.violations) == 2
    registry.violations.clear()
    assert put(url) == 200
    assert registry.violations == []
    assert put(url) == 403
    assert "again, which had served its purpose" in only_violation(registry)


def test_store__url_that_met_a_fault_may_be_used_again(registry: FakeRegistry) -> None:
    registry.fail_next("PUT", OBJECTS, status=503)
    url, _ = signed(registry)
    assert put(url) == 503
    assert put(url) == 200
    registry.upload(7, "manifest", b"content")
    registry.corrupt_next("GET", OBJECTS)
    download = api(registry, ARTIFACT_URL)[1]["url"]
    assert get(download)[1] != b"content"
    assert get(download) == (200, b"content")
    assert registry.violations == []


def test_store__expired_url_is_refused_and_may_not_be_used_again(registry: FakeRegistry) -> None:
    url, _ = signed(registry)
    registry.expire_urls()
    assert put(url) == 403
    assert registry.violations == []
    assert put(url) == 403
    assert "had been refused as expired" in only_violation(registry)
    assert put(signed(registry)[0]) == 200


def test_store__is_another_host_with_secrets_of_its_own(registry: FakeRegistry) -> None:
    url, _ = signed(registry)
    here, there = urlsplit(registry.url), urlsplit(url)
    assert here.hostname != there.hostname
    assert here.port != there.port
    token, signature = registry.secrets
    assert token == TOKEN
    assert signature in url


def test_faults__speak_as_the_registry_does(registry: FakeRegistry) -> None:
    registry.limit_next("GET", "/dbt/.*", retry_after=3)
    registry.fail_next("GET", "/dbt/.*", status=402, detail="no credits")
    registry.gateway_next("GET", "/dbt/.*", status=200)
    assert api(registry, ARTIFACT_URL) == (429, {"detail": "Too Many Requests"})
    assert api(registry, ARTIFACT_URL) == (402, {"detail": "no credits"})
    status, page = api(registry, ARTIFACT_URL)
    assert status == 200
    assert page.startswith(b"<html>")
    assert [request.status for request in registry.requests] == [429, 402, 200]
    assert registry.violations == []
