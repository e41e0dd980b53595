"""Whose account at the registry: the precedence of its sources, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from ci_defer.account import DEFAULT_URL, Account, find_account
from ci_defer.errors import ConfigurationError, ExitCode

TOKEN = "key-of-the-settings"
COMPLETE = {"altimateApiKey": "key-of-the-file", "altimateInstanceName": "instance-of-the-file"}


def found(
    *,
    token: str = "",
    instance: str | None = None,
    integration: str | None = "shop",
    environment: str = "PROD",
    url: str = DEFAULT_URL,
    environ: Mapping[str, str] | None = None,
    file: Mapping[str, Any] | bytes | None = None,
) -> Account:
    return find_account(
        token=token,
        instance=instance,
        integration=integration,
        environment=environment,
        url=url,
        environ=environ or {},
        file=file if isinstance(file, bytes) or file is None else json.dumps(file).encode(),
    )


def refused(**given: Any) -> str:
    """What is said when there is no account to be had."""
    with pytest.raises(ConfigurationError) as caught:
        found(**given)
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    return str(caught.value)


ENVIRON = {"ALTIMATE_API_KEY": "key-of-environ", "ALTIMATE_INSTANCE_NAME": "instance-of-environ"}


@pytest.mark.parametrize(
    ("settings", "environ", "file", "expected"),
    [
        ({"token": TOKEN, "instance": "acme"}, ENVIRON, COMPLETE, (TOKEN, "acme")),
        ({}, ENVIRON, COMPLETE, ("key-of-environ", "instance-of-environ")),
        ({}, {}, COMPLETE, ("key-of-the-file", "instance-of-the-file")),
        # Each value by itself, and an empty one is none.
        ({"instance": "acme"}, {"ALTIMATE_API_KEY": "key"}, COMPLETE, ("key", "acme")),
        ({"token": TOKEN}, {"ALTIMATE_API_KEY": ""}, COMPLETE, (TOKEN, "instance-of-the-file")),
        (
            {"instance": ""},
            {"ALTIMATE_API_KEY": "", "ALTIMATE_INSTANCE_NAME": ""},
            COMPLETE,
            ("key-of-the-file", "instance-of-the-file"),
        ),
    ],
)
def test_find_account__takes_settings_then_the_environment_then_the_file(
    settings: dict[str, str],
    environ: dict[str, str],
    file: dict[str, str],
    expected: tuple[str, str],
) -> None:
    account = found(**settings, environ=environ, file=file)
    assert (account.token, account.instance) == expected


def test_find_account__takes_the_rest_from_the_settings() -> None:
    account = found(token=TOKEN, instance="acme", integration="7", environment="STAGING")
    assert account == Account(
        token=TOKEN, instance="acme", integration="7", environment="STAGING", url=DEFAULT_URL
    )


@pytest.mark.parametrize(
    ("setting", "in_file", "expected"),
    [
        (DEFAULT_URL, None, DEFAULT_URL),
        (DEFAULT_URL, "", DEFAULT_URL),
        (DEFAULT_URL, "https://eu.example.com", "https://eu.example.com"),
        ("https://us.example.com", "https://eu.example.com", "https://us.example.com"),
        # The paths of the API are appended to it.
        ("https://us.example.com/", None, "https://us.example.com"),
        (DEFAULT_URL, "https://eu.example.com/registry/", "https://eu.example.com/registry"),
    ],
)
def test_url__of_the_settings_wins_over_that_of_the_file(
    setting: str, in_file: str | None, expected: str
) -> None:
    file = COMPLETE if in_file is None else {**COMPLETE, "altimateUrl": in_file}
    assert found(url=setting, file=file).url == expected


def test_file__may_name_variables_of_the_environment() -> None:
    file = {
        "altimateApiKey": "${env:MY_KEY}",
        "altimateInstanceName": "acme-${env:STAGE}",
        "altimateUrl": "https://${env:HOST_NAME}.example.com",
    }
    account = found(
        environ={"MY_KEY": "key-of-a-variable", "STAGE": "eu", "HOST_NAME": "api"}, file=file
    )
    assert (account.token, account.instance, account.url) == (
        "key-of-a-variable",
        "acme-eu",
        "https://api.example.com",
    )


def test_file__a_value_of_a_variable_is_not_looked_into() -> None:
    environ = {"MY_KEY": "${env:OTHER}", "OTHER": "wrong"}
    file = {**COMPLETE, "altimateApiKey": "${env:MY_KEY}"}
    assert found(environ=environ, file=file).token == "${env:OTHER}"


def test_file__with_a_variable_that_is_not_set_is_as_if_the_value_was_missing() -> None:
    message = refused(file={**COMPLETE, "altimateApiKey": "${env:MY_KEY}"})
    assert "needs altimate-token." in message
    assert "env:" not in message


def test_file__may_have_more_and_less_than_we_know() -> None:
    account = found(token=TOKEN, instance="acme", file={"other": [1], "altimateApiKey": ""})
    assert account.token == TOKEN


@pytest.mark.parametrize(
    "file",
    [b"{", b"[]", b"\xff\xfe", b'{"altimateApiKey": 7}', b'{"altimateUrl": null}', b"key-of-acme"],
)
def test_file__that_is_broken_is_an_error_that_names_it_and_no_key(file: bytes) -> None:
    message = refused(instance="acme", file=file)
    assert "~/.altimate/altimate.json cannot be read" in message
    assert "key-of-acme" not in message
    assert "Mend it, or set the inputs altimate-*." in message


def test_file__that_is_broken_does_not_matter_when_nothing_is_taken_from_it() -> None:
    url = "https://registry.example.com"
    assert found(token=TOKEN, instance="acme", url=url, file=b"{").token == TOKEN


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, "altimate-token and altimate-instance"),
        ({"token": TOKEN}, "altimate-instance"),
        ({"instance": "acme"}, "altimate-token"),
        ({"token": TOKEN, "instance": "acme", "integration": None}, "altimate-integration"),
        ({"token": TOKEN, "instance": "acme", "integration": ""}, "altimate-integration"),
        (
            {"integration": None},
            "altimate-token and altimate-instance and altimate-integration",
        ),
    ],
)
def test_find_account__names_all_that_is_missing(given: dict[str, Any], missing: str) -> None:
    message = refused(**given)
    assert message.startswith(f"The Altimate registry needs {missing}. Set the inputs")
    assert TOKEN not in message


@pytest.mark.parametrize(
    "url",
    [
        "http://api.myaltimate.com",
        "http://10.0.0.1",
        # What begins like a loopback is none.
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://localhost@example.com",
        "ftp://localhost",
        "file:///etc/passwd",
        "api.myaltimate.com",
        "https://",
        "//api.myaltimate.com",
    ],
)
def test_url__that_would_send_the_key_in_the_clear_is_refused(url: str) -> None:
    message = refused(token=TOKEN, instance="acme", url=url)
    assert message.startswith("altimate-url is no https address")
    assert TOKEN not in message
    assert refused(file={**COMPLETE, "altimateUrl": url}).startswith("altimate-url is no https")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost:1", "http://[::1]:80"])
def test_url__may_be_plain_http_on_this_machine(url: str) -> None:
    assert found(token=TOKEN, instance="acme", url=url).url == url


def test_url__that_is_no_url_is_refused() -> None:
    assert "altimate-url" in refused(token=TOKEN, instance="acme", url="https://[api.example.com")


def test_repr__shows_no_key() -> None:
    account = found(token=TOKEN, instance="acme")
    assert TOKEN not in repr(account)
    assert "acme" in repr(account)
