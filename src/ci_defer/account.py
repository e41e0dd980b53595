"""Whose account at the Altimate registry to use: settings, then the names that its users know.

Pure: the environment and the file of the existing clients are passed in. Owns their precedence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from ci_defer.addresses import is_safe_url
from ci_defer.errors import ConfigurationError

API_KEY = "ALTIMATE_API_KEY"
INSTANCE_NAME = "ALTIMATE_INSTANCE_NAME"
# Below the home directory; the clients of the registry write it.
FILE = ".altimate/altimate.json"

DEFAULT_URL = "https://api.myaltimate.com"
VARIABLE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, kw_only=True)
class Account:
    """A key, the instance that it is for, and the integration of a dbt project there.

    `integration` is an id, in digits, or a name.
    """

    token: str = field(repr=False)
    instance: str
    integration: str
    environment: str
    url: str


class _File(
    msgspec.Struct,
    rename={"key": "altimateApiKey", "instance": "altimateInstanceName", "url": "altimateUrl"},
):
    """What the file of the existing clients may hold."""

    key: str = ""
    instance: str = ""
    url: str = ""


def find_account(
    *,
    token: str,
    instance: str | None,
    integration: str | None,
    environment: str,
    url: str,
    environ: Mapping[str, str],
    file: bytes | None,
) -> Account:
    """The account from the settings, else from the environment, else from the content of FILE.

    Raises ConfigurationError when something is missing, or the URL would send the key in the clear.
    """
    token = token or environ.get(API_KEY, "")
    instance = instance or environ.get(INSTANCE_NAME, "")
    known = _File()
    if file:
        known = _read(file, environ, is_needed=not (token and instance))
    account = Account(
        token=token or known.key,
        instance=instance or known.instance,
        integration=integration or "",
        environment=environment,
        url=(url if url != DEFAULT_URL else known.url or url).rstrip("/"),
    )
    missing = [
        name
        for name, value in (
            ("altimate-token", account.token),
            ("altimate-instance", account.instance),
            ("altimate-integration", account.integration),
        )
        if not value
    ]
    if missing:
        raise ConfigurationError(
            f"The Altimate registry needs {' and '.join(missing)}.",
            "Set the inputs of these names, the key from a secret; the integration is its id or "
            "its name in the registry.",
        )
    if not is_safe_url(account.url):
        raise ConfigurationError(
            "altimate-url is no https address: the key would travel in the clear.",
            f"Leave it empty for {DEFAULT_URL}.",
        )
    return account


def _read(file: bytes, environ: Mapping[str, str], *, is_needed: bool) -> _File:
    try:
        read = msgspec.json.decode(file, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # A broken file is of no importance to a job that does not need it.
        if not is_needed:
            return _File()
        raise ConfigurationError(
            f"~/{FILE} cannot be read: {error}.", "Mend it, or set the inputs altimate-*."
        ) from None

    def resolved(value: str) -> str:
        # An unset variable is as if the file did not speak of it.
        return VARIABLE.sub(lambda match: environ.get(match[1], ""), value)

    return _File(key=resolved(read.key), instance=resolved(read.instance), url=resolved(read.url))
