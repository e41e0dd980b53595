from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from ci_defer.settings import (
    AgeType,
    Settings,
    default_text,
    option_name,
    options,
    settings_of,
    variable_name,
)

FIELDS = {field.name: field for field in dataclasses.fields(Settings)}


def parsed(*arguments: str, **environ: str) -> dict[str, Any]:
    """What a command gets for these options and variables."""
    values: dict[str, Any] = {}

    @click.command()
    @options("onboard", "defer")
    def command(**given: Any) -> None:
        values.update(given)

    done = CliRunner().invoke(command, arguments, env=environ)
    if done.exit_code:
        raise click.UsageError(done.output)
    return values


def test_defaults__of_the_options_are_those_of_the_settings() -> None:
    assert Settings(**parsed()) == Settings()


def test_empty__means_unset_in_a_variable_and_in_an_option() -> None:
    empty = {variable_name(field): "" for field in FIELDS.values()}
    assert Settings(**parsed(**empty)) == Settings()
    named = [
        f"--{option_name(field)}="
        for field in FIELDS.values()
        if not isinstance(field.default, bool)
    ]
    assert Settings(**parsed(*named)) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("project_dir", "dbt/shop", Path("dbt/shop")),
        ("profiles_dir", "ci", Path("ci")),
        ("target", "pr", "pr"),
        ("select", " state:modified+\n tag:x ", ("state:modified+", "tag:x")),
        ("exclude", "a,b @c", ("a,b", "@c")),
        ("favor_state", "true", True),
        ("favor_state", "false", False),
        ("if_no_state", "full", "full"),
        ("retention_days", "7", 7),
        ("project", "shop-eu.1", "shop-eu.1"),
        ("comment", "off", "off"),
        ("dbt_args", "--threads 8", "--threads 8"),
    ],
)
def test_values__are_read_from_the_variable(name: str, text: str, expected: Any) -> None:
    assert parsed(**{variable_name(FIELDS[name]): text})[name] == expected


def test_values__an_option_wins_over_its_variable() -> None:
    assert parsed("--target", "b", CI_DEFER_TARGET="a")["target"] == "b"
    assert parsed("--no-favor-state", CI_DEFER_FAVOR_STATE="true")["favor_state"] is False


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("select", "state:modified+ --full-refresh", "'--full-refresh' is a flag"),
        ("exclude", "-x", "'-x' is a flag"),
        ("favor_state", "perhaps", "not a valid boolean"),
        ("if_no_state", "guess", "'guess' is not one of"),
        ("comment", "loud", "'loud' is not one of"),
        ("retention_days", "0", "0 is not in the range"),
        ("retention_days", "401", "401 is not in the range"),
        ("retention_days", "x", "'x' is not a valid int"),
        ("project", "../x", "may only hold letters"),
        ("project", "a/b", "may only hold letters"),
        ("project", ".hidden", "may only hold letters"),
        ("project", "a\n", "may only hold letters"),
        ("project", "x" * 101, "may only hold letters"),
    ],
)
def test_values__that_are_wrong_are_refused(name: str, text: str, expected: str) -> None:
    with pytest.raises(click.UsageError, match=expected):
        parsed(**{variable_name(FIELDS[name]): text})


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--token", "altimate_token"),
        ("--instance-name", "altimate_instance"),
        ("--dbt_core_integration_id", "altimate_integration"),
        ("--dbt_integration_id", "altimate_integration"),
        ("--dbt_core_integration_name", "altimate_integration"),
        ("--dbt_integration_name", "altimate_integration"),
        ("--dbt_core_integration_environment", "altimate_environment"),
        ("--backend-url", "altimate_url"),
    ],
)
def test_aliases__are_the_options_of_the_registrys_own_client(option: str, name: str) -> None:
    assert parsed(option, "x")[name] == "x"
    assert parsed(f"--{option_name(FIELDS[name])}", "x")[name] == "x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12h", timedelta(hours=12)),
        ("90d", timedelta(days=90)),
        ("8w", timedelta(weeks=8)),
        ("90", timedelta(days=90)),
        ("0", timedelta()),
        ("007d", timedelta(days=7)),
        (" 1 d ", timedelta(days=1)),
        ("36500d", timedelta(days=36_500)),
        ("876000h", timedelta(days=36_500)),
        (timedelta(hours=3), timedelta(hours=3)),
        (5, timedelta(days=5)),
    ],
)
def test_age__is_a_length_of_time(text: Any, expected: timedelta) -> None:
    assert AgeType().convert(text, None, None) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "d", "-1", "-1d", "+1d", "1.5d", "1e3", "1D", "1m", "1y", "1 day", "1d 2h"),
        *("0x10", "1_000", "1,000d", "9999999999d", "1d\n2", "d1", "None", "\u00b9", "1\0"),
    ],
)
def test_age__of_what_is_none_says_how_to_write_it(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is no length of time: write 12h, 90d or 8w\."):
        AgeType().convert(text, None, None)


@pytest.mark.parametrize("text", ["36501d", "876001h", "9999999w"])
def test_age__that_is_too_long_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=f"'{text}' is more than a hundred years"):
        AgeType().convert(text, None, None)


def test_settings_of__are_those_of_the_mode() -> None:
    onboard = {field.name for field in settings_of(["onboard"])}
    defer = {field.name for field in settings_of(["defer"])}
    cleanup = {field.name for field in settings_of(["cleanup"])}
    assert onboard | defer | cleanup == set(FIELDS)
    assert {"retention_days", "pr_target"} == onboard - defer
    assert "select" in defer - onboard


def test_repr__shows_no_secret() -> None:
    shown = repr(Settings(github_token="ghs_secret", altimate_token="key_secret"))
    assert "secret" not in shown


def test_help__shows_no_secret_and_no_variable_of_one() -> None:
    @click.command()
    @options("onboard", "defer")
    def command(**given: Any) -> None: ...

    text = CliRunner().invoke(command, ["--help"], env={"CI_DEFER_GITHUB_TOKEN": "ghs_x"}).output
    assert "ghs_x" not in text
    assert "CI_DEFER_TARGET" in text


def test_names__of_a_setting() -> None:
    field = FIELDS["if_no_state"]
    assert (option_name(field), variable_name(field), default_text(field)) == (
        "if-no-state",
        "CI_DEFER_IF_NO_STATE",
        "reparse",
    )
