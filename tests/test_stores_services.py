"""How the credentials of a job reach each of the three services, and what is said when they do not.

With the servers of the harness where they check what they get, and with recorders where they do
not. obstore reads the environment of the process, so that is what the tests set.
"""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from ci_defer.errors import CiDeferError, ConfigurationError
from ci_defer.stores.bucket import Bucket
from tests.harness.gcs_identity import GoogleIdentity
from tests.harness.objects import (
    AZURE_ACCOUNT,
    AZURE_KEY,
    AzureServer,
    GcsServer,
    azure_server,
    gcs_server,
    s3_server,
)
from tests.harness.objects_http import StreamHandler, StreamServer
from tests.samples import write_program

KEY_ID, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyZXBvOmFjbWUvc2hvcCJ9.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials of the machine, and no `az` on the PATH."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "STORAGE_", "GCE_", "ACTIONS_ID_")):
            monkeypatch.delenv(name)
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def open_bucket(uri: str, monkeypatch: pytest.MonkeyPatch, **variables: str) -> Bucket:
    """The bucket, in an environment with these variables too."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Bucket(uri, dict(os.environ))


def check_works(place: Bucket) -> None:
    place.save("a", [b"content"])
    assert place.read("a", 100).data == b"content"


def failure(place: Bucket) -> CiDeferError:
    """What is said when something is written, and when something is read."""
    with pytest.raises(CiDeferError) as written:
        place.save("a", [b"content"])
    with pytest.raises(CiDeferError) as read:
        place.read("a", 100)
    assert type(read.value) is type(written.value)
    said = [str(error.value).replace(" write ", " read ") for error in (read, written)]
    assert said[0] == said[1]
    return written.value


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Recorder:
    """A server that takes all that it gets; or another answer, for another kind of server."""

    url: str
    status: int = 200
    content: bytes = b""
    asked: list[Asked] = field(default_factory=list)

    def answer(self, request: StreamHandler) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append(Asked(request.command, request.path, headers, request.body()))
        described = {"ETag": '"1"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        request.answer(self.status, self.content, described)


@contextmanager
def recorder(
    status: int = 200, content: bytes = b"", certificate: ssl.SSLContext | None = None
) -> Iterator[Recorder]:
    with StreamServer(lambda request: found.answer(request)) as server:  # noqa: PLW0108 - below
        found = Recorder(server.url, status, content)
        if certificate:
            server.socket = certificate.wrap_socket(server.socket, server_side=True)
            found.url = server.url.replace("http://", "https://")
        yield found
    assert server.failures == []


@pytest.fixture
def recorded() -> Iterator[Recorder]:
    with recorder() as found:
        yield found


# Amazon S3


def test_s3__static_keys_with_a_session_token(
    recorded: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = open_bucket(
        "s3://bucket/x",
        monkeypatch,
        AWS_ENDPOINT_URL=recorded.url,
        AWS_ACCESS_KEY_ID=KEY_ID,
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
        AWS_SESSION_TOKEN="FwoGZXIv",
        AWS_REGION="eu-central-1",
    )
    place.save("a", [b"content"])
    (asked,) = recorded.asked
    assert (asked.method, asked.path, asked.body) == ("PUT", "/bucket/x/a", b"content")
    assert asked.headers["x-amz-security-token"] == "FwoGZXIv"
    signature = asked.headers["authorization"]
    assert f"Credential={KEY_ID}/" in signature
    assert "/eu-central-1/s3/aws4_request" in signature
    assert asked.headers["user-agent"].startswith("ci-defer/")


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({}, "us-east-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_REGION": "eu-west-2"}, "eu-west-2"),
        # As the tools of AWS have it.
        ({"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "eu-west-2"}, "eu-west-2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_s3__region(
    recorded: Recorder, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], region: str
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, **variables}
    open_bucket("s3://b1", monkeypatch, AWS_ENDPOINT_URL=recorded.url, **keys).save("a", [b""])
    assert f"/{region}/s3/aws4_request" in recorded.asked[0].headers["authorization"]


ROLE = "arn:aws:iam::123456789012:role/ci"


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """What a server of this machine needs to be believed: STS is asked with TLS or not at all."""
    x509 = pytest.importorskip("cryptography.x509")
    hashes = pytest.importorskip("cryptography.hazmat.primitives.hashes")
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (tmp_path / "certificate.pem").write_bytes(made.public_bytes(pem))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    return context


def by_web_identity(
    sts: Recorder, s3: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Bucket:
    """OIDC without an action: the client itself exchanges the token of the job."""
    (tmp_path / "token").write_text(JWT)
    return open_bucket(
        "s3://bucket/x",
        monkeypatch,
        AWS_ENDPOINT_URL_S3=s3.url,
        AWS_ENDPOINT_URL_STS=sts.url,
        AWS_WEB_IDENTITY_TOKEN_FILE=str(tmp_path / "token"),
        AWS_ROLE_ARN=ROLE,
        AWS_REGION="eu-central-1",
    )


def test_s3__web_identity(
    recorded: Recorder,
    certificate: ssl.SSLContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    credentials = (
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
        f"<AccessKeyId>{KEY_ID}</AccessKeyId><SecretAccessKey>{SECRET_KEY}</SecretAccessKey>"
        "<SessionToken>of-the-role</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
        "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )
    with recorder(200, credentials.encode(), certificate) as sts:
        place = by_web_identity(sts, recorded, tmp_path, monkeypatch)
        place.save("a", [b"content"])
        place.save("b", [b"content"])
    (asked,) = sts.asked
    query = parse_qs(urlsplit(asked.path).query)
    assert query["Action"] == ["AssumeRoleWithWebIdentity"]
    assert (query["RoleArn"], query["WebIdentityToken"]) == ([ROLE], [JWT])
    assert [one.headers["x-amz-security-token"] for one in recorded.asked] == ["of-the-role"] * 2


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "InvalidIdentityToken", "No OpenIDConnect provider found in your account"),
        (400, "ExpiredTokenException", "Token expired"),
        (403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"),
    ],
    ids=["no provider", "expired", "no trust"],
)
def test_s3__web_identity_that_is_refused(
    recorded: Recorder,
    certificate: ssl.SSLContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    status: int,
    code: str,
    message: str,
) -> None:
    refusal = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>"
        f"<Message>{message}</Message></Error></ErrorResponse>"
    )
    with recorder(status, refusal.encode(), certificate) as sts:
        error = failure(by_web_identity(sts, recorded, tmp_path, monkeypatch))
    assert recorded.asked == []
    assert JWT not in str(error)
    # No right on the bucket mends this, and no further attempt.
    assert isinstance(error, ConfigurationError), error
    assert "credentials" in error.message
    assert "s3:ListBucket" not in error.hint
    assert "aws-actions/configure-aws-credentials" in error.hint


def test_s3__endpoint_of_the_service_goes_before_that_of_all(
    recorded: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    with recorder() as other:
        urls = {"AWS_ENDPOINT_URL": other.url, "AWS_ENDPOINT_URL_S3": recorded.url}
        open_bucket("s3://bucket/x", monkeypatch, **urls, **keys).save("a", [b""])
        assert (len(other.asked), len(recorded.asked)) == (0, 1)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"])
def test_s3__endpoint_alone(recorded: Recorder, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    open_bucket("s3://bucket/x", monkeypatch, **{name: recorded.url}, **keys).save("a", [b""])
    assert len(recorded.asked) == 1


def test_s3__http_is_for_who_names_it(recorded: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    # There is no TLS at that port, and nothing is sent in the clear instead.
    url = recorded.url.replace("http://", "https://")
    keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    place = open_bucket("s3://bucket/x", monkeypatch, AWS_ENDPOINT_URL=url, **keys)
    with pytest.raises(CiDeferError, match="s3://bucket/x/a: its server does not speak TLS"):
        place.save("a", [b""])
    assert [asked for asked in recorded.asked if "authorization" in asked.headers] == []


def test_s3__works_with_a_real_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as server:
        bucket = server.create("bucket")
        check_works(open_bucket(f"s3://{bucket}/x", monkeypatch, **server.environ()))


# Google Cloud Storage


@pytest.fixture(scope="module")
def gcs() -> Iterator[GcsServer]:
    with gcs_server() as server:
        server.create("bucket")
        yield server
        assert server.gateway.failures == []


@pytest.fixture
def guarded(gcs: GcsServer) -> Iterator[GcsServer]:
    """Who has no token is turned away."""
    gcs.gateway.token = "ya29.service-account"
    yield gcs
    gcs.gateway.token = None


@pytest.mark.parametrize("through_account", [True, False], ids=["service account", "direct"])
def test_gcs__workload_identity_federation(
    guarded: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, through_account: bool
) -> None:
    with GoogleIdentity() as identity:
        file = tmp_path / "gha-creds.json"
        if through_account:
            identity.write_credentials(file)
        else:
            identity.write_credentials(file, service_account=None)
            guarded.gateway.token = identity.federated_token
        place = open_bucket(
            "gs://bucket/x",
            monkeypatch,
            STORAGE_EMULATOR_HOST=guarded.url,
            GOOGLE_APPLICATION_CREDENTIALS=str(file),
        )
        check_works(place)
        # One token is enough for all requests.
        assert [record.path for record in identity.requests].count("/v1/token") == 1
        assert identity.violations == []


def test_gcs__token_that_expires_is_fetched_again(
    guarded: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It has expired when it comes.
    with GoogleIdentity(lifetime=0) as identity:
        file = identity.write_credentials(tmp_path / "gha-creds.json")
        place = open_bucket(
            "gs://bucket/x",
            monkeypatch,
            STORAGE_EMULATOR_HOST=guarded.url,
            GOOGLE_APPLICATION_CREDENTIALS=str(file),
        )
        check_works(place)
        identity.access_token = guarded.gateway.token = "ya29.the-next-one"
        check_works(place)
        assert [record.path for record in identity.requests].count("/v1/token") >= 2


@pytest.mark.parametrize("refuses", ["GitHub", "the exchange", "the service account"])
def test_gcs__federation_that_is_refused(
    guarded: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: str
) -> None:
    with GoogleIdentity() as identity:
        file = tmp_path / "gha-creds.json"
        identity.write_credentials(
            file, "other@acme.iam.gserviceaccount.com" if refuses == "the service account" else "x"
        )
        document = json.loads(file.read_text())
        if refuses == "GitHub":
            identity.request_token = "another"
        if refuses == "the exchange":
            document["audience"] = "//iam.googleapis.com/projects/1/another"
        file.write_text(json.dumps(document))
        place = open_bucket(
            "gs://bucket/x",
            monkeypatch,
            STORAGE_EMULATOR_HOST=guarded.url,
            GOOGLE_APPLICATION_CREDENTIALS=str(file),
        )
        error = failure(place)
        for secret in (identity.jwt, "request-token-of-the-job", identity.federated_token):
            assert secret not in f"{error}{error.__cause__}"
    assert isinstance(error, ConfigurationError), error
    assert "google-github-actions/auth" in error.hint
    # There are credentials, and they are refused.
    assert "the environment holds none" not in error.message


def test_gcs__key_of_a_service_account(
    recorded: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    document = {
        "type": "service_account",
        "client_email": "ci@acme.iam.gserviceaccount.com",
        "private_key": key.decode(),
        "private_key_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    (tmp_path / "key.json").write_text(json.dumps(document))
    place = open_bucket(
        "gs://bucket/x",
        monkeypatch,
        GOOGLE_BASE_URL=recorded.url,
        GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "key.json"),
    )
    place.save("a", [b"content"])
    (asked,) = recorded.asked
    # It signs its token itself.
    assert asked.headers["authorization"].startswith("Bearer ey")


@pytest.mark.parametrize("text", ["not JSON", "{}", '{"type": "service_account"}', '{"type": "x"}'])
def test_gcs__file_that_is_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "key.json").write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        open_bucket(
            "gs://bucket/x", monkeypatch, GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "key.json")
        )
    assert "google-github-actions/auth" in raised.value.hint
    assert "gs://bucket/x cannot be opened: " in raised.value.message
    assert "\n" not in str(raised.value)


def test_gcs__federation_of_another_kind_is_an_error_for_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of an identity of AWS, say, or one that is not whole.
    (tmp_path / "key.json").write_text('{"type": "external_account"}')
    with pytest.raises(ConfigurationError):
        open_bucket(
            "gs://bucket/x", monkeypatch, GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "key.json")
        )


@pytest.mark.parametrize("name", ["STORAGE_EMULATOR_HOST", "GOOGLE_BASE_URL"])
def test_gcs__endpoint(gcs: GcsServer, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    variables = {name: gcs.url, "GOOGLE_BEARER_TOKEN": "ya29.bearer"}
    check_works(open_bucket("gs://bucket/x", monkeypatch, **variables))


# Azure Blob Storage


@pytest.fixture(scope="module")
def azure() -> Iterator[AzureServer]:
    with azure_server() as server:
        server.create("bucket")
        yield server


def sas(server: AzureServer, *, wrong: bool = False) -> str:
    """A shared access signature, made with the key of the account."""
    values = dict(server._sas)
    if wrong:
        values["se"] = "2020-01-01T00:00:00Z"
    return urlencode(values)


@pytest.mark.action
@pytest.mark.parametrize(
    "account", ["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"], ids=["ours", "of the CLI"]
)
@pytest.mark.parametrize(
    "name",
    ["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCESS_KEY", "SAS"],
)
def test_azure__key_or_signature(
    azure: AzureServer, monkeypatch: pytest.MonkeyPatch, account: str, name: str
) -> None:
    variables = {account: AZURE_ACCOUNT, "AZURE_STORAGE_ENDPOINT": azure.url}
    if name == "SAS":
        variables["AZURE_STORAGE_SAS_TOKEN"] = sas(azure)
    else:
        variables[name] = AZURE_KEY
    check_works(open_bucket("az://bucket/x", monkeypatch, **variables))


@pytest.mark.action
@pytest.mark.parametrize("what", ["key", "signature"])
def test_azure__credentials_that_are_wrong(
    azure: AzureServer, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    variables = {
        "AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT,
        "AZURE_STORAGE_ENDPOINT": azure.url,
    }
    if what == "key":
        variables["AZURE_STORAGE_ACCOUNT_KEY"] = f"{AZURE_KEY[:-4]}AAA="
    else:
        variables["AZURE_STORAGE_SAS_TOKEN"] = sas(azure, wrong=True)
    error = failure(open_bucket("az://bucket/x", monkeypatch, **variables))
    assert isinstance(error, ConfigurationError)
    assert "sig=" not in str(error)
    # Azure itself says AuthenticationFailed, which the table of faults has.
    assert "az://bucket/x/a (403 AuthorizationFailure)" in error.message
    assert "AZURE_STORAGE_SAS_TOKEN" in error.hint


AZ_ANSWERS = """
case "$*" in
*"account get-access-token"*"https://storage.azure.com"*)
  echo '{"accessToken": "eyJ.of-the-cli", "expiresOn": "2099-01-01 00:00:00.000000", \
"expires_on": 4070908800, "subscription": "s", "tenant": "t", "tokenType": "Bearer"}' ;;
*) exit 2 ;;
esac
"""
AZ_REFUSES = "echo \"ERROR: Please run 'az login' to setup account.\" >&2; exit 1"


def on_azure(recorded: Recorder) -> dict[str, str]:
    return {
        "AZURE_STORAGE_ACCOUNT_NAME": "acme",
        "AZURE_STORAGE_ENDPOINT": f"{recorded.url}/acme",
    }


def test_azure__session_of_the_cli(
    recorded: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path / "bin" / "az", AZ_ANSWERS)
    place = open_bucket("az://bucket/x", monkeypatch, **on_azure(recorded))
    place.save("a", [b"content"])
    place.save("b", [b"content"])
    assert {asked.headers["authorization"] for asked in recorded.asked} == {"Bearer eyJ.of-the-cli"}


def test_azure__key_goes_before_the_session_of_the_cli(
    recorded: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path / "bin" / "az", AZ_ANSWERS)
    variables = {**on_azure(recorded), "AZURE_STORAGE_KEY": AZURE_KEY}
    open_bucket("az://bucket/x", monkeypatch, **variables).save("a", [b""])
    assert recorded.asked[0].headers["authorization"].startswith("SharedKey acme:")


def test_azure__cli_without_a_session(
    recorded: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path / "bin" / "az", AZ_REFUSES)
    error = failure(open_bucket("az://bucket/x", monkeypatch, **on_azure(recorded)))
    assert isinstance(error, ConfigurationError)
    assert "no credentials for az://bucket/x/a that work" in error.message
    assert "Run azure/login before ci-defer" in error.hint
    assert recorded.asked == []


def test_azure__no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as raised:
        open_bucket("az://bucket/x", monkeypatch, AZURE_STORAGE_KEY=AZURE_KEY)
    assert str(raised.value) == (
        "az://bucket does not say which storage account it is in. "
        "Set the variable AZURE_STORAGE_ACCOUNT_NAME to its name."
    )


@pytest.mark.parametrize("key", ["not base64!", "short"])
def test_azure__key_that_is_none(
    recorded: Recorder, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    variables = {**on_azure(recorded), "AZURE_STORAGE_ACCOUNT_KEY": key}
    with pytest.raises(ConfigurationError) as raised:
        open_bucket("az://bucket/x", monkeypatch, **variables)
    assert key not in str(raised.value)
    assert "AZURE_STORAGE_ACCOUNT_KEY" in raised.value.hint


# No credentials at all: the address that clouds have for that, as a machine of a cloud answers it.

NOTHING = {
    "s3": ("s3://bucket/x", "AWS_ENDPOINT_URL"),
    "gcs": ("gs://bucket/x", "GOOGLE_BASE_URL"),
    "azure": ("az://bucket/x", "AZURE_STORAGE_ENDPOINT"),
}
LOGIN = {
    "s3": "Run aws-actions/configure-aws-credentials",
    "gcs": "Run google-github-actions/auth",
    "azure": "Run azure/login",
}


@pytest.mark.parametrize("kind", NOTHING)
@pytest.mark.parametrize("status", [400, 403, 404, 405, 502])
def test_no_credentials__say_so_whatever_the_machine_answers(
    recorded: Recorder, monkeypatch: pytest.MonkeyPatch, kind: str, status: int
) -> None:
    # The hosted runners of GitHub are machines of Azure, which has that address for everything.
    uri, endpoint = NOTHING[kind]
    body = b'{"error": "invalid_request", "error_description": "Identity not found"}'
    with recorder(status, body) as machine:
        place = open_bucket(
            uri,
            monkeypatch,
            HTTP_PROXY=machine.url,
            NO_PROXY="127.0.0.1",
            AZURE_STORAGE_ACCOUNT_NAME="acme",
            **{endpoint: recorded.url},
        )
        # Not Missing, as if it were an object that is not there.
        error = failure(place)
        assert isinstance(error, ConfigurationError), error
        assert f"There are no credentials for {uri}/a that work" in error.message
        assert error.hint.startswith(LOGIN[kind])
        assert machine.asked != []
    assert recorded.asked == []
