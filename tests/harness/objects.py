"""Object stores of three kinds, each a real server on this machine: S3, Azure Blob, Google Cloud.

S3 is moto, Azure is Azurite from the npm packages, Google is gcp-storage-emulator with the gateway
of `gcs_gateway` in front. They start in a second or two and hold everything in memory, so one of
each is right for a whole test session, with a bucket for each test. What goes wrong is up to
`objects_proxy`, which goes in front of any of them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree as ET

import requests

from tests.environments import ROOT
from tests.harness.gcs_gateway import Emulator, GcsGateway
from tests.harness.servers import free_port, running

MOTO = Path(__file__).with_name("moto_server.py")
GCS = Path(__file__).with_name("gcs_emulator.py")
AZURITE = ROOT / "node_modules" / ".bin" / "azurite-blob"
"""From the npm packages of the action's tests."""
# Known to all: every Azurite has them, https://github.com/Azure/Azurite#default-storage-account
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
_AZURE_VERSION = "2021-12-02"

_PATIENCE = 60.0
"""Seconds for a server to answer what the harness itself asks."""


class ObjectServerError(Exception):
    """A server did not do what the harness asked."""


class ObjectServer(ABC):
    """A server that runs, and what is stored in it, seen and changed behind the back of clients."""

    kind: str
    """`s3`, `azure` or `gcs`."""
    scheme: str
    """Of the URIs of its buckets."""

    def __init__(self, url: str) -> None:
        """`url` is where it listens."""
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False

    @abstractmethod
    def environ(self, url: str | None = None) -> dict[str, str]:
        """The environment in which clients find this server, or a proxy at `url` instead of it.

        Beside this a client has to be told that plain http will do.
        """

    @abstractmethod
    def create(self, bucket: str) -> str:
        """Create a bucket, and give its name back."""

    @abstractmethod
    def names(self, bucket: str) -> list[str]:
        """The names of all objects, sorted."""

    @abstractmethod
    def read(self, bucket: str, name: str) -> bytes:
        """The content of an object; KeyError if there is none."""

    @abstractmethod
    def write(self, bucket: str, name: str, data: bytes) -> None:
        """Write an object, whatever there is."""

    @abstractmethod
    def delete(self, bucket: str, name: str) -> None:
        """Delete an object; KeyError if there is none."""

    def uri(self, bucket: str) -> str:
        """The bucket as `s3://bucket`, `az://bucket` or `gs://bucket`."""
        return f"{self.scheme}://{bucket}"

    def close(self) -> None:
        """Close the connections of the harness; the server goes on."""
        self._session.close()

    def _ask(
        self,
        method: str,
        url: str,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        response = self._session.request(method, url, data=data, headers=headers, timeout=_PATIENCE)
        if response.status_code == 404:
            raise KeyError(urlsplit(url).path)
        if not response.ok:
            path = urlsplit(url).path
            raise ObjectServerError(f"{method} {path}: {response.status_code} {response.text}")
        return response.content


class S3Server(ObjectServer):
    """moto. It takes any credentials and believes every signature."""

    kind = "s3"
    scheme = "s3"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        # It lets nobody read who has no signature; a false one will do.
        self._session.headers["Authorization"] = (
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/s3/aws4_request, "
            "SignedHeaders=host, Signature=0"
        )

    def environ(self, url: str | None = None) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": url or self.url,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "AWS_REGION": "us-east-1",
        }

    def create(self, bucket: str) -> str:
        self._ask("PUT", self._url(bucket))
        return bucket

    def names(self, bucket: str) -> list[str]:
        names: list[str] = []
        token: str | None = ""
        while token is not None:
            query = {"list-type": "2", **({"continuation-token": token} if token else {})}
            page = ET.fromstring(self._ask("GET", f"{self._url(bucket)}?{urlencode(query)}"))
            names += [found.text or "" for found in page.iterfind("{*}Contents/{*}Key")]
            token = page.findtext("{*}NextContinuationToken")
        return sorted(names)

    def read(self, bucket: str, name: str) -> bytes:
        return self._ask("GET", self._url(bucket, name))

    def write(self, bucket: str, name: str, data: bytes) -> None:
        self._ask("PUT", self._url(bucket, name), data=data)

    def delete(self, bucket: str, name: str) -> None:
        self._ask("HEAD", self._url(bucket, name))  # To delete what is not there is no error.
        self._ask("DELETE", self._url(bucket, name))

    def _url(self, bucket: str, name: str = "") -> str:
        return f"{self.url}/{bucket}/{quote(name)}"


class AzureServer(ObjectServer):
    """Azurite. It checks each signature."""

    kind = "azure"
    scheme = "az"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._sas = _account_sas()

    def environ(self, url: str | None = None) -> dict[str, str]:
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY,
            "AZURE_STORAGE_ENDPOINT": url or self.url,
        }

    def create(self, bucket: str) -> str:
        self._ask("PUT", self._url(bucket, query={"restype": "container"}))
        return bucket

    def names(self, bucket: str) -> list[str]:
        names: list[str] = []
        marker: str | None = ""
        while marker is not None:
            query = {"restype": "container", "comp": "list", "marker": marker}
            page = ET.fromstring(self._ask("GET", self._url(bucket, query=query)))
            names += [found.text or "" for found in page.iterfind("Blobs/Blob/Name")]
            marker = page.findtext("NextMarker") or None
        return sorted(names)

    def read(self, bucket: str, name: str) -> bytes:
        return self._ask("GET", self._url(bucket, name))

    def write(self, bucket: str, name: str, data: bytes) -> None:
        kind = {"x-ms-blob-type": "BlockBlob"}
        self._ask("PUT", self._url(bucket, name), data=data, headers=kind)

    def delete(self, bucket: str, name: str) -> None:
        self._ask("DELETE", self._url(bucket, name))

    def _url(self, bucket: str, name: str = "", *, query: Mapping[str, str] | None = None) -> str:
        path = f"{bucket}/{quote(name)}" if name else bucket
        return f"{self.url}/{path}?{urlencode({**(query or {}), **self._sas})}"


class GcsServer(ObjectServer):
    """The emulator behind `gateway`, whose URL is that of both of Google's APIs."""

    kind = "gcs"
    scheme = "gs"

    def __init__(self, gateway: GcsGateway, emulator: Emulator, folder: Path) -> None:
        """`folder` is for the files with credentials that `environ` writes."""
        super().__init__(gateway.url)
        self.gateway = gateway
        self._emulator = emulator
        self._folder = folder

    def environ(self, url: str | None = None) -> dict[str, str]:
        # This says both where the server is and that there is no token to get. The same file under
        # GOOGLE_APPLICATION_CREDENTIALS has to have a real key; GOOGLE_BASE_URL does with
        # GOOGLE_BEARER_TOKEN, while with GOOGLE_SKIP_SIGNATURE writes ask the metadata server.
        document = {
            "type": "service_account",
            "gcs_base_url": url or self.url,
            "disable_oauth": True,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        }
        digest = hashlib.sha256((url or self.url).encode()).hexdigest()[:16]
        file = self._folder / f"service-account-{digest}.json"
        file.write_text(json.dumps(document), encoding="utf-8")
        # The last is for Google's client, which has no other way.
        return {"GOOGLE_SERVICE_ACCOUNT": str(file), "STORAGE_EMULATOR_HOST": url or self.url}

    def create(self, bucket: str) -> str:
        self._emulator.create_bucket(bucket)
        return bucket

    def names(self, bucket: str) -> list[str]:
        found = self._emulator.list(bucket)
        if found is None:
            raise KeyError(bucket)
        return sorted(stored.name for stored in found)

    def read(self, bucket: str, name: str) -> bytes:
        content = self._emulator.read(bucket, name)
        if content is None:
            raise KeyError(name)
        return content

    def write(self, bucket: str, name: str, data: bytes) -> None:
        if self._emulator.write(bucket, name, [data]) is None:
            raise KeyError(bucket)

    def delete(self, bucket: str, name: str) -> None:
        if not self._emulator.delete(bucket, name):
            raise KeyError(name)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """An S3 for the length of the block."""
    with ExitStack() as stack:
        folder = stack.enter_context(_folder())
        command = [sys.executable, str(MOTO), "-H", "127.0.0.1", "-p", "0"]
        line = stack.enter_context(running(command, folder, r"Running on (http://[\d.:]+)"))
        server = S3Server(line[1])
        stack.callback(server.close)
        yield server


@contextmanager
def azure_server() -> Iterator[AzureServer]:
    """An Azure Blob storage for the length of the block."""
    node = shutil.which("node")
    if node is None or not AZURITE.exists():
        raise ObjectServerError(f"node is not on PATH, or {AZURITE} is missing: run npm ci")
    with ExitStack() as stack:
        folder = stack.enter_context(_folder())
        command = [
            node,
            str(AZURITE),
            "--blobHost=127.0.0.1",
            "--blobPort=0",
            "--inMemoryPersistence",
            # obstore asks for versions of the API that are newer than Azurite.
            "--skipApiVersionCheck",
            "--disableTelemetry",
            "--silent",
        ]
        line = stack.enter_context(running(command, folder, r"listens on (http://[\d.:]+)"))
        server = AzureServer(f"{line[1]}/{AZURE_ACCOUNT}")
        stack.callback(server.close)
        yield server


@contextmanager
def gcs_server() -> Iterator[GcsServer]:
    """A Google Cloud Storage for the length of the block."""
    with ExitStack() as stack:
        folder = stack.enter_context(_folder())
        port = free_port()  # The emulator does not tell which one it got.
        command = [sys.executable, str(GCS), "start", "--quiet", "--in-memory"]
        command += ["--host=127.0.0.1", f"--port={port}"]
        stack.enter_context(running(command, folder, port))
        emulator = Emulator(f"http://127.0.0.1:{port}")
        gateway = stack.enter_context(GcsGateway(emulator))
        server = GcsServer(gateway, emulator, folder)
        stack.callback(server.close)
        yield server


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="objects-") as folder:
        yield Path(folder)


def _account_sas() -> dict[str, str]:
    """A query that allows everything in the account, for the harness alone.

    https://learn.microsoft.com/rest/api/storageservices/create-account-sas
    """
    values = {
        "sp": "rwdlac",
        "ss": "b",
        "srt": "sco",
        "st": "",
        "se": "2099-01-01T00:00:00Z",
        "sip": "",
        "spr": "https,http",
        "sv": _AZURE_VERSION,
        "ses": "",  # The scope of an encryption.
    }
    text = "".join(f"{value}\n" for value in (AZURE_ACCOUNT, *values.values()))
    digest = hmac.digest(base64.b64decode(AZURE_KEY), text.encode(), "sha256")
    given = {name: value for name, value in values.items() if value}
    return {**given, "sig": base64.b64encode(digest).decode()}
