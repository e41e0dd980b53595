"""The three services that have buckets, and how each is opened with the credentials at hand.

They are what the login actions leave in the environment; there is no setting for a secret. obstore
reads most of the variables itself. What it does not know is here: identity federation of Google,
the session of the Azure CLI, and the names that the services' own tools use.

Source: https://developmentseed.org/obstore/latest/api/store/aws/, …/gcs/ and …/azure/
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from obstore.store import AzureStore, GCSStore, S3Store

from ci_defer import __version__
from ci_defer.errors import ConfigurationError

if TYPE_CHECKING:
    from obstore.store import AzureConfig, ClientConfig, GCSCredentialProvider, RetryConfig

# For a part of 8 MB: 30 kB/s is still fast enough. A server that says nothing is given up earlier.
REQUEST_TIMEOUT = timedelta(minutes=5)
READ_TIMEOUT = timedelta(seconds=60)
CONNECT_TIMEOUT = timedelta(seconds=10)
RETRIES: RetryConfig = {
    "max_retries": 5,
    "retry_timeout": timedelta(minutes=2),
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=10),
        "base": 2,
    },
}


@dataclass(frozen=True)
class Service:
    """A service: its name, and what to do about credentials and rights.

    `endpoints` are the variables that name another server which speaks like it. `open` takes the
    bucket, a prefix in it and the environment. Raises ConfigurationError when the environment does
    not say enough, and what obstore raises.
    """

    name: str
    login: str
    rights: str
    endpoints: tuple[str, ...]
    open: Callable[[str, str, Mapping[str, str]], S3Store | GCSStore | AzureStore]


def endpoint(scheme: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The server that is to be asked in place of the service's own, and the variable that says so.

    Both are empty when nothing does.
    """
    names = (name for name in SERVICES[scheme].endpoints if environ.get(name))
    name = next(names, "")
    return environ.get(name, ""), name


def _options(server: str) -> ClientConfig:
    return {
        "timeout": REQUEST_TIMEOUT,
        "read_timeout": READ_TIMEOUT,
        "connect_timeout": CONNECT_TIMEOUT,
        "user_agent": f"ci-defer/{__version__}",
        # Who names such an endpoint means it: a server on this machine or in this network.
        "allow_http": server.startswith("http://"),
    }


def _open_s3(bucket: str, prefix: str, environ: Mapping[str, str]) -> S3Store:
    return S3Store(
        bucket,
        prefix=prefix or None,
        client_options=_options(endpoint("s3", environ)[0]),
        retry_config=RETRIES,
    )


def _open_gcs(bucket: str, prefix: str, environ: Mapping[str, str]) -> GCSStore:
    server, _ = endpoint("gs", environ)
    file = environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    return GCSStore(
        bucket,
        prefix=prefix or None,
        config={"base_url": server} if server else None,
        client_options=_options(server),
        retry_config=RETRIES,
        credential_provider=_federated(file) if _is_federated(file) else None,
    )


def _federated(file: str) -> GCSCredentialProvider:
    # Its library takes longer to load than all of ours.
    from ci_defer.stores.google import Federated  # noqa: PLC0415

    return Federated(file)


def _is_federated(file: str) -> bool:
    try:
        document = json.loads(Path(file).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("type") == "external_account"


def _open_azure(bucket: str, prefix: str, environ: Mapping[str, str]) -> AzureStore:
    # The second name is the one that the Azure CLI knows.
    account = _one_of(environ, ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"))
    if not account:
        raise ConfigurationError(
            f"az://{bucket} does not say which storage account it is in.",
            "Set the variable AZURE_STORAGE_ACCOUNT_NAME to its name.",
        )
    given: AzureConfig = {"account_name": account}
    if key := environ.get("AZURE_STORAGE_KEY"):
        given["account_key"] = key
    if not _one_of(environ, AZURE_CREDENTIALS) and shutil.which("az", path=environ.get("PATH")):
        # All that azure/login leaves behind is a session of the CLI.
        given["use_azure_cli"] = True
    return AzureStore(
        bucket,
        prefix=prefix or None,
        config=given,
        client_options=_options(endpoint("az", environ)[0]),
        retry_config=RETRIES,
    )


def _one_of(environ: Mapping[str, str], names: Iterable[str]) -> str:
    return next((environ[name] for name in names if environ.get(name)), "")


SERVICES = {
    "s3": Service(
        "Amazon S3",
        "Run aws-actions/configure-aws-credentials before ci-defer, or set AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY.",
        "The role needs s3:ListBucket, s3:GetObject and, to publish, s3:PutObject.",
        ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        _open_s3,
    ),
    "gs": Service(
        "Google Cloud Storage",
        "Run google-github-actions/auth before ci-defer, or set GOOGLE_APPLICATION_CREDENTIALS.",
        "The account needs storage.objects.list and get and, to publish, create and delete.",
        # The second is the name that Google's own clients know.
        ("GOOGLE_BASE_URL", "STORAGE_EMULATOR_HOST"),
        _open_gcs,
    ),
    "az": Service(
        "Azure Blob Storage",
        "Run azure/login before ci-defer, or set AZURE_STORAGE_SAS_TOKEN or "
        "AZURE_STORAGE_ACCOUNT_KEY.",
        "The identity needs the role Storage Blob Data Reader or, to publish, Contributor, and "
        "the network rules of the account must let this runner in. A key, or "
        "AZURE_STORAGE_SAS_TOKEN, must be of this account.",
        ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
        _open_azure,
    ),
}
AZURE_CREDENTIALS = (
    *("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY"),
    *("AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN"),
    *("AZURE_STORAGE_TOKEN", "AZURE_CLIENT_SECRET", "AZURE_STORAGE_CLIENT_SECRET"),
    *("AZURE_FEDERATED_TOKEN_FILE", "AZURE_CREDENTIAL_TYPE", "AZURE_USE_AZURE_CLI"),
    *("AZURE_SKIP_SIGNATURE", "AZURE_MSI_ENDPOINT", "AZURE_IDENTITY_ENDPOINT"),
)
