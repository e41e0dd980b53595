"""Tests of `objects` and what goes with it: clients get on with the servers, and see the faults.

What obstore makes of each fault is what a store that is built on it has to know, so it stands here.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree as ET

import obstore
import pytest
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from tests.harness import objects
from tests.harness.gcs_identity import GoogleIdentity
from tests.harness.objects import (
    AZURE_KEY,
    GcsServer,
    ObjectServer,
    ObjectServerError,
    azure_server,
    gcs_server,
    s3_server,
)
from tests.harness.objects_faults import FAULTS, named_fault
from tests.harness.objects_proxy import (
    Answer,
    CutRequest,
    CutResponse,
    DropAnswer,
    FaultProxy,
    Hang,
    Meanwhile,
    Slow,
)
from tests.harness.servers import ServerNotReadyError

if TYPE_CHECKING:
    from obstore.store import GCSCredential

SERVERS: dict[str, Callable[[], AbstractContextManager[ObjectServer]]] = {
    "s3": s3_server,
    "gcs": gcs_server,
    "azure": azure_server,
}
STORES: dict[str, Any] = {"s3": S3Store, "gcs": GCSStore, "azure": AzureStore}
KINDS = ["s3", "gcs", pytest.param("azure", marks=pytest.mark.action)]
NAME = "a b/ü.json"
"""With what paths have to encode."""
LARGE = bytes(range(256)) * 1600
"""409600 bytes: more than goes over the wire at once."""


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[ObjectServer]:
    with SERVERS[request.param]() as server:
        yield server
        assert not isinstance(server, GcsServer) or server.gateway.failures == []


@pytest.fixture(scope="module")
def gcs() -> Iterator[GcsServer]:
    with gcs_server() as server:
        yield server
        assert server.gateway.failures == []


@pytest.fixture
def bucket(server: ObjectServer, request: pytest.FixtureRequest) -> str:
    return server.create(bucket_name(request))


@pytest.fixture
def proxy(server: ObjectServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.url) as proxy:
        yield proxy
    assert proxy.failures == []
    assert proxy.pending == []


@pytest.fixture
def store(server: ObjectServer, bucket: str, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    return open_store(server, bucket, monkeypatch)


@pytest.fixture
def proxied(
    server: ObjectServer, bucket: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> ObjectStore:
    """Tries each request three times."""
    return open_store(server, bucket, monkeypatch, proxy.url, retries=2)


def bucket_name(request: pytest.FixtureRequest) -> str:
    """A name of its own for each test, by the rules of all three."""
    digest = abs(hash(request.node.nodeid)) % 10**12
    return f"test-{digest:012}"


def open_store(
    server: ObjectServer,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    url: str | None = None,
    *,
    retries: int = 0,
    timeout: str = "30s",
) -> ObjectStore:
    for name, value in server.environ(url).items():
        monkeypatch.setenv(name, value)
    soon = timedelta(milliseconds=10)
    store: ObjectStore = STORES[server.kind](
        bucket,
        client_options={"allow_http": True, "timeout": timeout},
        retry_config={
            "max_retries": retries,
            "backoff": {"init_backoff": soon, "max_backoff": soon, "base": 2},
        },
    )
    return store


def get(store: ObjectStore, name: str) -> bytes:
    return bytes(obstore.get(store, name).bytes())


def version(store: ObjectStore, name: str) -> Any:
    """What a conditional write takes: the ETag, and the version where there is one."""
    found = obstore.head(store, name)
    # None in it is a TypeError.
    return {key: found[key] for key in ("e_tag", "version") if found[key] is not None}


# What the servers do.


def test_objects_are_written_and_read(
    store: ObjectStore, server: ObjectServer, bucket: str
) -> None:
    result = obstore.put(store, NAME, b"hello")
    found = obstore.head(store, NAME)
    assert (found["path"], found["size"]) == (NAME, 5)
    assert (found["e_tag"], found["version"]) == (result["e_tag"], result["version"])
    assert datetime.now(timezone.utc) - found["last_modified"] < timedelta(minutes=1)
    assert get(store, NAME) == b"hello"
    assert server.read(bucket, NAME) == b"hello"

    assert obstore.get_range(store, NAME, start=1, end=3) == b"el"
    assert list(obstore.get_ranges(store, NAME, starts=[0, 4], ends=[1, 9])) == [b"h", b"o"]
    if server.kind == "azure":
        with pytest.raises(NotSupportedError, match="does not support suffix range"):
            obstore.get(store, NAME, options={"range": {"suffix": 2}})
    else:
        tail = obstore.get(store, NAME, options={"range": {"suffix": 2}})
        assert (bytes(tail.bytes()), tail.range, tail.meta["size"]) == (b"lo", (3, 5), 5)
    # Azurite has the range begin at the end.
    with pytest.raises(GenericError, match=r"416|Wanted range starting at 5"):
        obstore.get_range(store, NAME, start=5, end=6)

    obstore.put(store, "empty", b"")
    assert get(store, "empty") == b""
    obstore.put(store, "typed", b'{"a": 1}', attributes={"Content-Type": "application/json"})
    assert obstore.get(store, "typed").attributes["Content-Type"] == "application/json"
    assert get(store, "typed") == b'{"a": 1}'


def test_objects_are_listed(store: ObjectStore, server: ObjectServer, bucket: str) -> None:
    names = ["a/1", "a/2", "a/b/3", "ab", NAME]
    for name in names:
        server.write(bucket, name, name.encode())
    assert server.names(bucket) == sorted(names)
    assert sorted(found["path"] for found in obstore.list(store).collect()) == sorted(names)
    # The prefix is a folder: "ab" is not in it.
    assert [found["path"] for found in obstore.list(store, "a").collect()] == names[:3]
    listed = obstore.list(store, "a", offset="a/1").collect()
    assert [found["path"] for found in listed] == ["a/2", "a/b/3"]
    assert listed[0]["size"] == 3
    # Azure leaves the quotation marks out in lists.
    listed_etag, etag = listed[0]["e_tag"], obstore.head(store, "a/2")["e_tag"]
    assert etag is not None
    assert listed_etag == (etag.strip('"') if server.kind == "azure" else etag)
    level = obstore.list_with_delimiter(store, "a")
    assert [found["path"] for found in level["objects"]] == ["a/1", "a/2"]
    assert list(level["common_prefixes"]) == ["a/b"]
    assert list(obstore.list_with_delimiter(store)["common_prefixes"]) == ["a", "a b"]
    assert list(obstore.list(store, "nothing").collect()) == []


def test_objects_are_deleted(store: ObjectStore, server: ObjectServer, bucket: str) -> None:
    for name in ("a", "b", NAME):
        server.write(bucket, name, b"")
    obstore.delete(store, [NAME, "a"])
    assert server.names(bucket) == ["b"]
    if server.kind == "s3":
        obstore.delete(store, ["missing", "b"])
    else:  # The others are deleted, in any order.
        with pytest.raises(FileNotFoundError, match="missing"):
            obstore.delete(store, ["missing", "b"])
    if server.kind != "gcs":  # There each object is a request of its own.
        assert server.names(bucket) == []


def test_large_objects_are_written_in_parts(
    proxied: ObjectStore, server: ObjectServer, bucket: str, proxy: FaultProxy
) -> None:
    data = os.urandom(12 * 1024 * 1024)
    obstore.put(proxied, NAME, data)
    assert proxy.count("PUT", query="partNumber=|comp=block&") == 3
    assert get(proxied, NAME) == data
    assert server.read(bucket, NAME) == data


def test_what_is_not_there_is_not_found(
    store: ObjectStore, server: ObjectServer, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ask in (obstore.get, obstore.head):
        with pytest.raises(FileNotFoundError):
            ask(store, "missing")
    for helper in (server.read, server.delete):
        with pytest.raises(KeyError):
            helper(bucket, "missing")
    elsewhere = open_store(server, "no-such-bucket", monkeypatch)
    missing = "NoSuchBucket|ContainerNotFound"
    with pytest.raises(FileNotFoundError, match=missing):
        obstore.get(elsewhere, "a")
    with pytest.raises(FileNotFoundError, match=missing):
        obstore.put(elsewhere, "a", b"")
    with pytest.raises(FileNotFoundError, match=missing):
        obstore.put(elsewhere, "a", b"", mode="create")
    # A list says it in the text alone.
    with pytest.raises(GenericError, match=f"(?s)404 Not Found.*{missing}"):
        obstore.list(elsewhere).collect()


def test_conditional_writes(store: ObjectStore, server: ObjectServer, bucket: str) -> None:
    obstore.put(store, NAME, b"1", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, NAME, b"2", mode="create")
    first = version(store, NAME)
    obstore.put(store, NAME, b"2", mode=first)
    with pytest.raises(PreconditionError):
        obstore.put(store, NAME, b"3", mode=first)
    with pytest.raises(PreconditionError):
        obstore.put(store, "missing", b"3", mode=first)
    server.write(bucket, NAME, b"of somebody else")
    with pytest.raises(PreconditionError):
        obstore.put(store, NAME, b"3", mode=first)
    obstore.put(store, NAME, b"3", mode=version(store, NAME))
    assert get(store, NAME) == b"3"


def test_the_same_content_has_the_same_etag_only_on_s3_and_gcs(
    store: ObjectStore, server: Any
) -> None:
    # So there an ETag does not tell that somebody has written; Google's generation does.
    first = obstore.put(store, NAME, b"same")
    second = obstore.put(store, NAME, b"same")
    assert (first["e_tag"] == second["e_tag"]) is (server.kind != "azure")
    assert (first["version"] != second["version"]) is (server.kind == "gcs")


def test_of_conditional_writes_at_once_one_wins(store: ObjectStore, server: ObjectServer) -> None:
    threads, rounds = 8, 25
    obstore.put(store, "updated", b"")

    def attempt(name: str, mode: Any, barrier: threading.Barrier, content: bytes) -> bytes | None:
        barrier.wait(30)
        try:
            obstore.put(store, name, content, mode=mode)
        except (AlreadyExistsError, PreconditionError):
            return None
        return content

    with ThreadPoolExecutor(threads) as pool:
        for number in range(rounds):
            name, mode = (
                (f"new-{number}", "create")
                if number % 2
                else ("updated", version(store, "updated"))
            )
            barrier = threading.Barrier(threads)
            attempts = [
                pool.submit(attempt, name, mode, barrier, f"{number}-{index}".encode() * 500)
                for index in range(threads)
            ]
            won = [content for one in attempts if (content := one.result()) is not None]
            assert won == [get(store, name)]


# The official clients see the same.


def test_the_official_client(
    server: ObjectServer, bucket: str, proxy: FaultProxy, store: ObjectStore
) -> None:
    obstore.put(store, "of obstore", b"1")
    clients = {"s3": use_boto3, "azure": use_azure_storage_blob, "gcs": use_google_cloud_storage}
    # Through the proxy: so it passes on all that they say.
    clients[server.kind](server.environ(proxy.url), bucket)
    assert server.names(bucket) == [NAME, "empty", "of obstore"]
    assert (server.read(bucket, NAME), server.read(bucket, "empty")) == (LARGE, b"")
    assert proxy.count("PUT|POST") >= 2


def use_boto3(environ: dict[str, str], bucket: str) -> None:
    client = pytest.importorskip("boto3").client(
        "s3",
        endpoint_url=environ["AWS_ENDPOINT_URL"],
        aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
        region_name=environ["AWS_REGION"],
    )
    with closing(client):
        # It waits for "100 Continue" before it sends.
        client.put_object(Bucket=bucket, Key=NAME, Body=LARGE)
        client.put_object(Bucket=bucket, Key="empty", Body=b"")
        listed = client.list_objects_v2(Bucket=bucket)["Contents"]
        assert [found["Key"] for found in listed] == [NAME, "empty", "of obstore"]
        assert client.get_object(Bucket=bucket, Key="of obstore")["Body"].read() == b"1"
        assert client.get_object(Bucket=bucket, Key=NAME)["Body"].read() == LARGE


def use_azure_storage_blob(environ: dict[str, str], bucket: str) -> None:
    blob = pytest.importorskip("azure.storage.blob")
    url = environ["AZURE_STORAGE_ENDPOINT"]
    with blob.ContainerClient(url, bucket, credential=AZURE_KEY) as container:
        container.upload_blob(NAME, LARGE)
        container.upload_blob("empty", b"")
        assert list(container.list_blob_names()) == [NAME, "empty", "of obstore"]
        assert container.download_blob("of obstore").readall() == b"1"
        assert container.download_blob(NAME).readall() == LARGE
    # The server does check the signature of what the proxy has passed on.
    impostor = blob.ContainerClient(url, bucket, credential=AZURE_KEY[:-4] + "AAA=")
    with impostor, pytest.raises(Exception, match="AuthorizationFailure"):
        impostor.get_container_properties()


def use_google_cloud_storage(environ: dict[str, str], bucket: str) -> None:
    storage = pytest.importorskip("google.cloud.storage")
    anonymous = pytest.importorskip("google.auth.credentials").AnonymousCredentials()
    options = {"api_endpoint": environ["STORAGE_EMULATOR_HOST"]}
    client = storage.Client(project="acme", credentials=anonymous, client_options=options)
    with closing(client):
        client.bucket(bucket).blob(NAME).upload_from_string(LARGE, "application/json")
        client.bucket(bucket).blob("empty").upload_from_string(b"")
        listed = {found.name: found for found in client.list_blobs(bucket)}
        assert sorted(listed) == [NAME, "empty", "of obstore"]
        assert listed["of obstore"].download_as_bytes() == b"1"
        assert client.bucket(bucket).blob(NAME).download_as_bytes() == LARGE


# What the gateway adds to the emulator.


class Gateway:
    """Sends requests over one connection, which stays open."""

    def __init__(self, url: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)

    def __call__(self, method: str, target: str, body: Any = None, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, target, body, named)
        response = self.connection.getresponse()
        return response.status, response.read(), response.headers

    def code(self, *request: Any, **headers: str) -> tuple[int, str]:
        status, body, _ = self(*request, **headers)
        return status, body.decode().partition("<Code>")[2].partition("</Code>")[0]


@pytest.fixture
def ask(gcs: GcsServer) -> Iterator[Gateway]:
    gateway = Gateway(gcs.url)
    yield gateway
    gateway.connection.close()


def test_lists_come_in_pages(gcs: GcsServer, ask: Gateway) -> None:
    bucket = gcs.create("pages")
    for name in ("a/1", "a/2", "b", "c/1", "d&é"):
        gcs.write(bucket, name, b"")
    pages = []
    token: str | None = ""
    while token is not None:
        query = {"list-type": "2", "delimiter": "/", "max-keys": "2", "continuation-token": token}
        page = ET.fromstring(ask("GET", f"/{bucket}?{urlencode(query)}")[1])
        pages.append([found.text for found in page.iterfind("*/{*}Prefix")])
        pages.append([found.text for found in page.iterfind("*/{*}Key")])
        token = page.findtext("{*}NextContinuationToken")
    assert pages == [["a/"], ["b"], ["c/"], ["d&é"]]


def test_the_gateway_takes_chunks_and_keeps_the_connection(gcs: GcsServer, ask: Gateway) -> None:
    bucket = gcs.create("chunks")
    assert ask("PUT", f"/{bucket}/a", iter([LARGE, b"end"]))[0] == 200
    socket = ask.connection.sock
    status, body, headers = ask("GET", f"/{bucket}/a")
    assert (status, body, headers["Content-Length"]) == (200, LARGE + b"end", str(len(body)))
    status, body, described = ask("HEAD", f"/{bucket}/a")
    assert (status, body) == (200, b"")
    for name in ("Content-Length", "ETag", "x-goog-generation", "Last-Modified", "Content-Type"):
        assert described[name] == headers[name]
    assert ask("GET", f"/{bucket}/a", If_None_Match=headers["ETag"])[0] == 304
    assert ask.code("GET", f"/{bucket}/a", If_Match='"x"') == (412, "PreconditionFailed")
    assert ask("GET", f"/{bucket}/a", Range="bytes=-3")[1] == b"end"
    assert ask.connection.sock is socket


def test_the_gateway_refuses_what_google_refuses(gcs: GcsServer, ask: Gateway) -> None:
    bucket = gcs.create("refusals")
    part = f"/{bucket}/a?partNumber=1&uploadId="
    assert ask.code("PUT", f"{part}no", b"") == (404, "NoSuchUpload")
    assert ask.code("POST", "/missing/a?uploads") == (404, "NoSuchBucket")

    def begin() -> str:
        body = ask("POST", f"/{bucket}/a?uploads")[1]
        return ET.fromstring(body).findtext("{*}UploadId", "")

    def complete(upload: str, *parts: tuple[int, str]) -> tuple[int, str]:
        numbers = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            for number, etag in parts
        )
        document = f"<CompleteMultipartUpload>{numbers}</CompleteMultipartUpload>"
        return ask.code("POST", f"/{bucket}/a?uploadId={upload}", document)

    upload = begin()
    etags = [
        ask("PUT", f"/{bucket}/a?partNumber={number}&uploadId={upload}", b"small")[2]["ETag"]
        for number in (1, 2)
    ]
    assert complete(upload, (1, '"other"')) == (400, "InvalidPart")
    assert complete(upload, (3, etags[0])) == (400, "InvalidPart")
    assert complete(upload, (2, etags[1]), (1, etags[0])) == (400, "InvalidPartOrder")
    assert complete(upload, (1, etags[0]), (2, etags[1])) == (400, "EntityTooSmall")
    assert gcs.names(bucket) == []
    assert complete(upload, (1, etags[0])) == (200, "")
    assert complete(upload, (1, etags[0])) == (404, "NoSuchUpload")
    aborted = begin()
    assert ask("DELETE", f"/{bucket}/a?uploadId={aborted}")[0] == 204
    assert ask.code("DELETE", f"/{bucket}/a?uploadId={aborted}") == (404, "NoSuchUpload")

    old = {"x_goog_if_generation_match": "1"}
    assert ask.code("DELETE", f"/{bucket}/a", **old) == (412, "PreconditionFailed")
    assert ask.code("PUT", f"/{bucket}/a", b"", **old) == (412, "PreconditionFailed")
    assert ask.code("PUT", "/missing/a", b"", **old) == (404, "NoSuchBucket")
    assert ask.code("GET", f"/{bucket}?list-type=1") == (400, "NotImplemented")
    copy = {"x_goog_copy_source": f"{bucket}/a"}
    assert ask.code("PUT", f"/{bucket}/b", b"", **copy) == (400, "NotImplemented")
    assert gcs.read(bucket, "a") == b"small"


# Workload identity federation.


def test_federated_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity_pool = pytest.importorskip("google.auth.identity_pool")
    transport = pytest.importorskip("google.auth.transport.requests")

    def token(file: Path) -> Any:
        # google.auth.default() and load_credentials_from_file() with scopes would go and ask a host
        # of Google's for the name of the project; the latter is deprecated too.
        scopes = ["https://www.googleapis.com/auth/devstorage.read_write"]
        found = identity_pool.Credentials.from_file(str(file), scopes=scopes)
        with closing(transport.Request().session) as session:
            found.refresh(transport.Request(session))
        return found

    with gcs_server() as server, GoogleIdentity() as identity:
        file = identity.write_credentials(tmp_path / "gha-creds.json")
        found = token(file)
        assert found.token == identity.access_token
        left = found.expiry - datetime.now(timezone.utc).replace(tzinfo=None)
        assert timedelta(minutes=59) < left <= timedelta(hours=1)
        direct = identity.write_credentials(tmp_path / "direct.json", service_account=None)
        assert token(direct).token == identity.federated_token
        assert [record.status for record in identity.requests] == [200] * 5

        server.gateway.token = identity.access_token
        bucket = server.create("bucket")
        with pytest.raises(UnauthenticatedError, match="AuthenticationRequired"):
            obstore.put(open_store(server, bucket, monkeypatch), "a", b"1")
        status, body, _ = ask_once(f"{server.url}/storage/v1/b/{bucket}/o")
        assert (status, json.loads(body)["error"]["code"]) == (401, 401)
        monkeypatch.delenv("GOOGLE_SERVICE_ACCOUNT")
        monkeypatch.setenv("GOOGLE_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        with pytest.raises(GenericError, match="unknown variant `external_account`"):
            GCSStore(bucket)

        def provider() -> GCSCredential:
            expiry = found.expiry.replace(tzinfo=timezone.utc)
            return {"token": found.token, "expires_at": expiry}

        store = GCSStore(bucket, client_options={"allow_http": True}, credential_provider=provider)
        obstore.put(store, "a", b"1")
        assert server.read(bucket, "a") == b"1"

        identity.request_token = "another"
        with pytest.raises(Exception, match="Unauthorized"):
            token(file)
        assert identity.violations == []


def ask_once(url: str) -> Any:
    parts = urlsplit(url)
    gateway = Gateway(url)
    with closing(gateway.connection):
        return gateway("GET", parts.path)


# What obstore makes of faults.

REFUSALS: dict[tuple[str, str], tuple[type[BaseError], str, int]] = {
    ("s3", "no_permission"): (PermissionDeniedError, "<Code>AccessDenied<", 1),
    ("s3", "expired_credentials"): (GenericError, "<Code>ExpiredToken<", 1),
    # Neither the status nor the body are in it.
    ("s3", "wrong_region"): (GenericError, "Received redirect without LOCATION", 1),
    ("s3", "wrong_region_signed"): (GenericError, "<Region>eu-central-1<", 1),
    ("s3", "slow_down"): (GenericError, "after 2 retries.* 503 .*<Code>SlowDown<", 3),
    ("s3", "disk_full"): (GenericError, "after 2 retries.* 507 .*<Code>XMinioStorageFull<", 3),
    # A write that was in the way, and perhaps failed in its turn, is no object that exists.
    ("s3", "conflict"): (AlreadyExistsError, "<Code>ConditionalRequestConflict<", 1),
    ("azure", "no_permission"): (PermissionDeniedError, "AuthorizationPermissionMismatch<", 1),
    ("azure", "expired_credentials"): (PermissionDeniedError, "<Code>AuthenticationFailed<", 1),
    ("azure", "expired_token"): (UnauthenticatedError, "<Code>InvalidAuthenticationInfo<", 1),
    ("azure", "slow_down"): (GenericError, "after 2 retries.* 503 .*<Code>ServerBusy<", 3),
    ("azure", "disk_full"): (GenericError, "after 2 retries.* 507 ", 3),
    ("gcs", "no_permission"): (PermissionDeniedError, "<Code>AccessDenied<", 1),
    ("gcs", "expired_credentials"): (UnauthenticatedError, "<Code>AuthenticationRequired<", 1),
    ("gcs", "slow_down"): (GenericError, "after 2 retries.* 429 .*<Code>SlowDown<", 3),
    ("gcs", "disk_full"): (GenericError, "after 2 retries.* 507 ", 3),
}
"""By server and fault: the exception, its text, and how often it was tried with two retries."""


def test_all_refusals_are_tested() -> None:
    named = {(kind, name) for kind, faults in FAULTS.items() for name in faults}
    assert {key for key in named if key[1] != "reset_in_the_middle"} == set(REFUSALS)
    with pytest.raises(LookupError, match="azure has no wrong_region: it has no_permission"):
        named_fault("azure", "wrong_region")


def test_refusals(
    proxied: ObjectStore, server: ObjectServer, bucket: str, proxy: FaultProxy
) -> None:
    server.write(bucket, NAME, b"as it was")
    for (kind, name), (kind_of_error, text, requests) in REFUSALS.items():
        if kind != server.kind:
            continue
        proxy.inject(named_fault(kind, name), times=None)
        for ask in (
            lambda: obstore.get(proxied, NAME),
            lambda: obstore.put(proxied, NAME, b"changed"),
            lambda: obstore.put(proxied, "new", b"", mode="create"),
        ):
            proxy.requests.clear()
            with pytest.raises(kind_of_error, match=f"(?s){text}"):
                ask()
            assert len(proxy.requests) == requests
        # There is no body that could say why.
        with pytest.raises(kind_of_error):
            obstore.head(proxied, NAME)
        # Lists have no exceptions of their own.
        with pytest.raises(GenericError, match=f"(?s){text}"):
            obstore.list(proxied).collect()
        proxy.clear()
    assert server.names(bucket) == [NAME]
    assert server.read(bucket, NAME) == b"as it was"


def test_refusals_that_pass(proxied: ObjectStore, server: ObjectServer, proxy: FaultProxy) -> None:
    slow_down = named_fault(server.kind, "slow_down")
    proxy.inject(slow_down, times=2)
    obstore.put(proxied, NAME, b"1", mode="create")
    proxy.inject(slow_down)
    assert get(proxied, NAME) == b"1"
    proxy.inject(slow_down, method="PUT")
    obstore.put(proxied, NAME, b"2", mode=version(proxied, NAME))
    if server.kind == "s3":
        # Only updates are tried again after a conflict.
        proxy.inject(named_fault("s3", "conflict"), method="PUT", times=2)
        obstore.put(proxied, NAME, b"3", mode=version(proxied, NAME))
    proxy.inject(Answer(500, done=True), method="PUT")
    with pytest.raises(PreconditionError):  # It was done, and then it was tried again.
        obstore.put(proxied, NAME, b"4", mode=version(proxied, NAME))
    assert get(proxied, NAME) == b"4"


@pytest.mark.parametrize("reset", [True, False])
def test_downloads_that_break(
    proxied: ObjectStore,
    server: ObjectServer,
    bucket: str,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    *,
    reset: bool,
) -> None:
    server.write(bucket, NAME, LARGE)
    fault = CutResponse(100_000, reset)
    proxy.inject(fault, times=2)
    assert get(proxied, NAME) == LARGE  # It asks for what is missing, if the ETag is the same.
    assert proxy.count("GET") == 3
    proxy.inject(fault)
    proxy.inject(Meanwhile(lambda: server.write(bucket, NAME, LARGE[::-1])))
    with pytest.raises(GenericError, match="request or response body error"):
        get(proxied, NAME)
    proxy.inject(fault)
    with pytest.raises(GenericError, match="request or response body error"):
        get(open_store(server, bucket, monkeypatch, proxy.url), NAME)
    proxy.inject(DropAnswer(reset), method="GET")
    assert get(proxied, NAME) == LARGE[::-1]


@pytest.mark.parametrize("reset", [True, False])
def test_uploads_that_break(
    proxied: ObjectStore, server: ObjectServer, bucket: str, proxy: FaultProxy, *, reset: bool
) -> None:
    fault = CutRequest(100_000, reset)
    proxy.inject(fault, times=2)
    obstore.put(proxied, NAME, LARGE)
    assert proxy.count("PUT") == 3
    assert server.read(bucket, NAME) == LARGE
    proxy.inject(fault)
    with pytest.raises(GenericError, match="error sending request"):
        obstore.put(proxied, "new", LARGE, mode="create")
    assert server.names(bucket) == [NAME]
    # A part of a large one.
    proxy.inject(fault, method="PUT", query="partNumber=|comp=block&")
    obstore.put(proxied, "parts", LARGE * 16)
    assert server.read(bucket, "parts") == LARGE * 16


def test_answers_that_are_lost(
    proxied: ObjectStore, server: ObjectServer, bucket: str, proxy: FaultProxy
) -> None:
    lost = DropAnswer()
    proxy.inject(lost, times=2)
    obstore.put(proxied, NAME, b"1")
    # What was done is tried again all the same, and collides with itself.
    proxy.inject(lost, method="PUT")
    with pytest.raises(AlreadyExistsError):
        obstore.put(proxied, "new", b"mine", mode="create")
    assert server.read(bucket, "new") == b"mine"
    proxy.inject(lost, method="PUT")
    with pytest.raises(PreconditionError):
        obstore.put(proxied, "new", b"mine too", mode=version(proxied, "new"))
    assert server.read(bucket, "new") == b"mine too"
    # Not so after a reset: then nobody knows.
    proxy.inject(DropAnswer(reset=True), method="PUT")
    with pytest.raises(GenericError, match="error sending request"):
        obstore.put(proxied, "unknown", b"mine", mode="create")
    assert server.read(bucket, "unknown") == b"mine"


def test_the_answer_to_the_last_request_of_parts_is_lost(
    proxied: ObjectStore, server: ObjectServer, bucket: str, proxy: FaultProxy
) -> None:
    data = LARGE * 16
    proxy.inject(DropAnswer(), method="POST|PUT", query="^uploadId=|^comp=blocklist")
    if server.kind == "s3":
        obstore.put(proxied, NAME, data)
    else:
        # The parts are gone with what was done: an error, though all is well.
        error = FileNotFoundError if server.kind == "gcs" else GenericError
        with pytest.raises(error, match=r"NoSuchUpload|InvalidBlockList"):
            obstore.put(proxied, NAME, data)
    assert server.read(bucket, NAME) == data


def test_servers_that_hang(gcs: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = gcs.create("hanging")
    gcs.write(bucket, NAME, b"as it was")
    with FaultProxy(gcs.url) as proxy:
        store = open_store(gcs, bucket, monkeypatch, proxy.url, retries=1, timeout="400ms")
        hang = Hang()
        proxy.inject(hang, times=3)
        with pytest.raises(GenericError, match=r"after 1 retries.*error sending request"):
            obstore.get(store, NAME)
        with pytest.raises(GenericError, match=r"in .*ms - HTTP error: error sending request"):
            obstore.put(store, "new", b"", mode="create")  # Not tried again.
        assert len(proxy.requests) == 3
        hang.until.set()
        done = Hang(done=True)
        proxy.inject(done, path=".*/unknown")
        with pytest.raises(GenericError, match="error sending request"):
            obstore.put(store, "unknown", b"", mode="create")
        deadline = time.monotonic() + 30
        while "unknown" not in gcs.names(bucket):
            assert time.monotonic() < deadline
        done.until.set()
    assert proxy.failures == []


def test_servers_that_are_slow(
    proxied: ObjectStore, server: ObjectServer, bucket: str, proxy: FaultProxy
) -> None:
    proxy.inject(Slow(0.01, piece=50_000), times=2)
    started = datetime.now(timezone.utc)
    obstore.put(proxied, NAME, LARGE)
    assert get(proxied, NAME) == LARGE
    assert datetime.now(timezone.utc) - started >= timedelta(seconds=2 * 9 * 0.01)


def test_somebody_else_is_faster(
    proxied: ObjectStore, server: ObjectServer, bucket: str, proxy: FaultProxy
) -> None:
    proxy.inject(Meanwhile(lambda: server.write(bucket, NAME, b"theirs")))
    with pytest.raises(AlreadyExistsError):
        obstore.put(proxied, NAME, b"mine", mode="create")
    seen = version(proxied, NAME)
    proxy.inject(Meanwhile(lambda: server.write(bucket, NAME, b"theirs again")))
    with pytest.raises(PreconditionError):
        obstore.put(proxied, NAME, b"mine", mode=seen)
    assert server.read(bucket, NAME) == b"theirs again"


def test_faults_are_for_the_requests_that_match(
    proxied: ObjectStore, server: ObjectServer, proxy: FaultProxy
) -> None:
    obstore.put(proxied, NAME, b"1")
    refusal = named_fault(server.kind, "no_permission")
    proxy.inject(refusal, method="GET", path=r".*/a b/ü\.json")
    obstore.put(proxied, NAME, b"2")
    obstore.put(proxied, "other", b"2")
    assert get(proxied, "other") == b"2"
    assert proxy.pending == [refusal]
    with pytest.raises(PermissionDeniedError):
        obstore.get(proxied, NAME)
    assert get(proxied, NAME) == b"2"
    assert [seen.method for seen in proxy.requests] == ["PUT", "PUT", "PUT", "GET", "GET", "GET"]
    assert [seen.fault for seen in proxy.requests] == [None] * 4 + [refusal, None]
    assert proxy.count("GET", r".*/a b/ü\.json") == 2
    with pytest.raises(ValueError, match="times is 0"):
        proxy.inject(refusal, times=0)
    with pytest.raises(ValueError, match="no port"):
        FaultProxy("http://localhost")


# The servers themselves.


def test_servers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **how: Any) -> None:
            super().__init__(*args, **how)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    with gcs_server() as server:
        url = server.url
        (process,) = started
        folder = Path(server.environ()["GOOGLE_SERVICE_ACCOUNT"]).parent
        assert process.poll() is None
    assert process.poll() is not None
    assert not folder.exists()
    with pytest.raises(ConnectionRefusedError):
        ask_once(f"{url}/storage/v1/b")


def test_servers_that_do_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(objects, "AZURITE", tmp_path / "azurite")
    with pytest.raises(ObjectServerError, match="run npm ci"), azure_server():
        pass
    monkeypatch.setattr("sys.executable", shutil.which("false"))
    with pytest.raises(ServerNotReadyError, match="is not ready"), s3_server():
        pass
