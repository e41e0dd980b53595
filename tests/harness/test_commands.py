"""Tests of `commands`: lines of a step, and what GitHub's runner makes of them."""

from __future__ import annotations

import pytest

from tests.harness.commands import obeyed, parse_command


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("::error::x", ("error", "x", {})),
        (
            "::ERROR title=T%2C with%3A colon,line=1::x",
            ("error", "x", {"title": "T, with: colon", "line": "1"}),
        ),
        ("::error file=a=b.sql::x: a::b", ("error", "x: a::b", {"file": "a=b.sql"})),
        ("##[warning]text", ("warning", "text", {})),
        (
            "12:00 ##[error line=2;file=a%5D]text%5D",
            ("error", "text]", {"line": "2", "file": "a]"}),
        ),
        ("12:00 ::error::x", None),
        ("::unknown::x", None),
        ("::error", None),
        ("::error ::", ("error", "", {})),
    ],
)
def test_parse_command(line: str, expected: tuple[str, str, dict[str, str]] | None) -> None:
    command = parse_command(line)
    assert (command and (command.name, command.data, command.properties)) == expected


def test_commands_are_stopped_until_the_token() -> None:
    lines = ["::stop-commands::Tok", "::error::1", "::other::", "::Tok::", "::error::2", "::Tok::"]
    assert [command.data for command in obeyed(lines)] == ["2"]
