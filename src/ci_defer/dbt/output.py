"""What dbt says on its standard output, as text: listings and error messages.

Pure. JSON artifacts are read wherever dbt writes them; this is for what it only prints: the
answer of `dbt ls`, and the error of a run that ended before there were artifacts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

# dbt Core: "02:52:31  Encountered an error:"; 1.12 puts "[ERROR]: " in between.
TIMESTAMP = re.compile(r"^\d\d:\d\d:\d\d(?:\.\d+)?\s+")
ERROR_HEADING = re.compile(r"Encountered an error(?::?| while running operation: (.+))\s*$")
# The way through macros to an error of an operation: ours, and of no use to people.
MACRO_TRACE = re.compile(r"^\s*> (?:in macro|called by) ")
SEVERITY = re.compile(r"^\[?(?:ERROR|error)\]?:?\s+")
# What dbt starts an error with: Runtime Error, or Compilation Error in model orders (path).
BARE_HEADING = re.compile(r"(?:\w+ )+Error(?: in .+)?")
USAGE = "Usage: dbt"
# dbt v2: a list of all that was wrong at the end, and what its parser of arguments says.
LIST_OF_V2 = re.compile(r"^=+ Errors and Warnings =+$")
ITEM_OF_V2 = re.compile(r"^(?:\[(\w+)\] |suggestion: |=+ )")
FRAME_OF_V2 = re.compile(r"^\s+(?:\d+: \S|at )")
USAGE_OF_V2 = re.compile(r"^error: .+(?:\n.+)*(?=\n\n)", re.MULTILINE)
HELP_OF_V2 = "For more information, try '--help'."
TRACEBACK = re.compile(r"^(?:Traceback \(most recent call last\):|\s+File \".*\", line \d+)")

# Enough for every message of dbt that was seen, and short enough for an annotation.
MESSAGE_LINES = 30


def listed_ids(lines: Iterable[str]) -> tuple[str, ...]:
    """The unique ids in the output of `dbt ls --output json --output-keys unique_id`.

    dbt prints warnings and deprecations among the listing: lines that are not such an object
    are passed over.
    """
    found = []
    for line in lines:
        text = line.strip()
        if not text.startswith("{"):
            continue
        try:
            entry = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and isinstance(entry.get("unique_id"), str):
            found.append(entry["unique_id"])
    return tuple(found)


def error_message(tail: str) -> str:
    """The error in the last lines that dbt printed, or those lines when none is marked.

    `tail` is without colours. The result is never empty, and has no timestamps or traceback.
    """
    if of_v2 := _error_of_v2(tail):
        return of_v2
    lines = [SEVERITY.sub("", TIMESTAMP.sub("", line)) for line in tail.splitlines()]
    starts = [index for index, line in enumerate(lines) if ERROR_HEADING.search(line)]
    usage = [line for line in lines if line.startswith(USAGE)]
    if starts:
        heading = ERROR_HEADING.search(lines[starts[-1]])
        kind = [heading[1]] if heading and heading[1] else []
        lines = _until_traceback([*kind, *lines[starts[-1] + 1 :]])
        lines = [line for line in lines if not MACRO_TRACE.match(line)]
        message = _with_a_telling_first_line(lines)[:MESSAGE_LINES]
    elif usage:
        # click prints how dbt is called, and what is wrong with it last.
        message = [line.removeprefix("Error: ") for line in lines if line.strip()][-1:]
    else:
        message = [line for line in lines if line.strip()][-MESSAGE_LINES:]
    return "\n".join(message).strip() or "dbt printed nothing."


def _error_of_v2(tail: str) -> str:
    """What dbt v2 says is wrong, without its warnings and backtraces; empty when it is not v2."""
    if HELP_OF_V2 in tail and (usage := USAGE_OF_V2.search(tail)):
        return usage[0].removeprefix("error: ").strip()
    lines = tail.splitlines()
    starts = [index for index, line in enumerate(lines) if LIST_OF_V2.match(line)]
    message: list[str] = []
    is_error = False
    for line in lines[starts[-1] + 1 :] if starts else ():
        if item := ITEM_OF_V2.match(line):
            is_error = item[1] == "error"
        if is_error and line.strip() and not FRAME_OF_V2.match(line):
            message.append(line.removeprefix("[error] "))
    return "\n".join(message[:MESSAGE_LINES]).strip()


def _with_a_telling_first_line(lines: list[str]) -> list[str]:
    """The first line is the headline of a report: "Runtime Error" alone would say nothing."""
    rest = [line for line in lines if line.strip()]
    if len(rest) > 1 and BARE_HEADING.fullmatch(rest[0].strip()):
        return [f"{rest[0].strip()}: {rest[1].strip()}", *rest[2:]]
    return lines


def _until_traceback(lines: list[str]) -> list[str]:
    for index, line in enumerate(lines):
        if TRACEBACK.match(line) and index > 0:
            return lines[:index]
    return lines
