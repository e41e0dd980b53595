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
ERROR_HEADING = re.compile(r"Encountered an error:?\s*$")
SEVERITY = re.compile(r"^\[?(?:ERROR|error)\]?:?\s+")
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
    lines = [SEVERITY.sub("", TIMESTAMP.sub("", line)) for line in tail.splitlines()]
    starts = [index for index, line in enumerate(lines) if ERROR_HEADING.search(line)]
    if starts:
        lines = lines[starts[-1] + 1 :]
        lines = _until_traceback(lines)
        message = lines[:MESSAGE_LINES]
    else:
        message = [line for line in lines if line.strip()][-MESSAGE_LINES:]
    return "\n".join(message).strip() or "dbt printed nothing."


def _until_traceback(lines: list[str]) -> list[str]:
    for index, line in enumerate(lines):
        if TRACEBACK.match(line) and index > 0:
            return lines[:index]
    return lines
