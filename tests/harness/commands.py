"""The syntax of workflow commands, `::error file=a.sql::message`, by the rules of GitHub's runner.

act has a parser of its own, which differs: it decodes percent escapes in random order, loses a
property whose value holds `=`, cuts a message at its last `::` and overlooks an indented command.
So the harness reads the lines that steps printed with this one. Pure: no input or output.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

_COMMANDS = frozenset(
    {
        "add-mask",
        "add-matcher",
        "add-path",
        "debug",
        "echo",
        "endgroup",
        "error",
        "group",
        "notice",
        "remove-matcher",
        "save-state",
        "set-env",
        "set-output",
        "stop-commands",
        "warning",
    }
)
# The percent sign is last in each of these: "%250A" says "%0A", not a line break.
_DATA = (("%0D", "\r"), ("%0A", "\n"), ("%25", "%"))
_PROPERTY = (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))
_BRACKET = (("%3B", ";"), ("%0D", "\r"), ("%0A", "\n"), ("%5D", "]"), ("%25", "%"))

_COLONS = re.compile(r"\s*::(?P<info>.*?)::(?P<data>.*)", re.DOTALL)
# The old form, which the runner still obeys, and anywhere in a line.
_BRACKETS = re.compile(r"##\[(?P<info>[^\]]*)\](?P<data>.*)", re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One workflow command."""

    name: str
    data: str
    properties: Mapping[str, str] = field(default_factory=dict)


def parse_command(line: str, *, also: str | None = None) -> Command | None:
    """Find the command in `line`; `also` is one more name that counts as that of a command."""
    if match := _COLONS.match(line):
        command = _command(match, ",", _PROPERTY, _DATA, also)
        if command:
            return command
    if match := _BRACKETS.search(line):
        return _command(match, ";", _BRACKET, _BRACKET, also)
    return None


def obeyed(lines: Iterable[str]) -> Iterator[Command]:
    """Find the commands in the output of one step that the runner obeys.

    Between `::stop-commands::<token>` and `::<token>::` it obeys none.
    """
    token: str | None = None
    for line in lines:
        command = parse_command(line, also=token)
        if command is None:
            continue
        if token is not None:
            if command.name == token:
                token = None
        elif command.name == "stop-commands":
            token = command.data
        else:
            yield command


def _command(
    match: re.Match[str],
    separator: str,
    property_escapes: Iterable[tuple[str, str]],
    data_escapes: Iterable[tuple[str, str]],
    also: str | None,
) -> Command | None:
    word, _, rest = match["info"].partition(" ")
    if word != also:
        word = word.lower()
        if word not in _COMMANDS:
            return None
    pairs = (pair.partition("=") for pair in rest.strip().split(separator))
    properties = {
        key.lower(): _unescape(value, property_escapes) for key, equals, value in pairs if equals
    }
    return Command(word, _unescape(match["data"], data_escapes), properties)


def _unescape(text: str, escapes: Iterable[tuple[str, str]]) -> str:
    for escape, character in escapes:
        text = text.replace(escape, character)
    return text
