"""The user's own dbt flags (`dbt-args`): split, checked, and fitted to each command.

Pure. Owns which flags would override what ci-defer sets, and which ones only `dbt build`
understands. Source: `dbt build --help` and `dbt ls --help` of dbt Core 1.11 and 1.12; a test
compares the table with the real ones.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ci_defer.bundle import ParsedWith, digest_of_vars
from ci_defer.errors import ConfigurationError

# Flag -> what to use instead.
OURS = {
    "--select": "the setting select",
    "--model": "the setting select",
    "--models": "the setting select",
    "--exclude": "the setting exclude",
    "--selector": "the setting select",
    "--state": "the setting state",
    "--defer-state": "the setting state",
    "--defer": "nothing: ci-defer always defers",
    "--no-defer": "dbt itself, without ci-defer",
    "--favor-state": "the setting favor-state",
    "--no-favor-state": "the setting favor-state",
    "--target": "the setting target",
    "--target-path": "target-path in dbt_project.yml or DBT_TARGET_PATH",
    "--project-dir": "the setting project-dir",
    "--profiles-dir": "the setting profiles-dir",
    "--no-write-json": "nothing: ci-defer reads the artifacts of dbt",
    "--help": "dbt itself",
    "--version": "dbt itself",
}
# What click takes for yes in a variable.
TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
OURS_SHORT = {"s": "--select", "m": "--models", "t": "--target", "h": "--help", "v": "--version"}
OURS_SHORT["V"] = "--version"

# What `dbt build` takes and `dbt ls` refuses, and whether a value follows.
BUILD_ONLY = {
    "--empty": False,
    "--no-empty": False,
    "--event-time-end": True,
    "--event-time-start": True,
    "--export-saved-queries": False,
    "--no-export-saved-queries": False,
    "--full-refresh": False,
    "-f": False,
    "--include-saved-query": False,
    "--no-include-saved-query": False,
    "--sample": True,
    "--show": False,
    "--sqlparse": True,
    "--store-failures": False,
    "--threads": True,
}
# What `dbt build` and `dbt ls` take and `dbt parse` refuses.
SELECTING_ONLY = {
    "--exclude-resource-type": True,
    "--exclude-resource-types": True,
    "--resource-type": True,
    "--resource-types": True,
}


def split(text: str) -> tuple[str, ...]:
    """Split `dbt-args` as a shell would.

    Raises ConfigurationError for an open quote, and for a flag that would override ours.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigurationError(
            f"dbt-args cannot be split into words: {error}.", "Check the quotes."
        ) from None
    for word in words:
        if flag := _ours(word):
            raise ConfigurationError(
                f"dbt-args may not hold {flag}, which ci-defer sets itself.",
                f"Use {OURS[flag]}.",
            )
    return tuple(words)


def for_plan(words: tuple[str, ...]) -> tuple[str, ...]:
    """The flags without those that only `dbt build` understands."""
    return _without(words, BUILD_ONLY)


def for_parse(words: tuple[str, ...]) -> tuple[str, ...]:
    """The flags without those that only commands which select or build understand."""
    # `dbt parse` knows --threads.
    unknown = {**BUILD_ONLY, **SELECTING_ONLY}
    del unknown["--threads"]
    return _without(words, unknown)


def has_full_refresh(words: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether dbt is asked to rebuild incremental models: by the last flag, or by its variable."""
    found = _is_set("FULL_REFRESH", environ)
    for word in words:
        if word in ("--full-refresh", "--no-full-refresh"):
            found = word == "--full-refresh"
        elif word.startswith("-") and not word.startswith("--") and "f" in word[1:]:
            found = True
    return found


def stores_failures(words: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether dbt is asked to keep what tests find, by a flag or by its variable."""
    return "--store-failures" in words or _is_set("STORE_FAILURES", environ)


def parses_partially(words: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether dbt may go on from what it parsed before: it does unless it is told not to."""
    names = ("DBT_ENGINE_PARTIAL_PARSE", "DBT_PARTIAL_PARSE")
    value = next((environ[name] for name in names if environ.get(name)), "true")
    found = value.lower() in TRUE
    for word in words:
        if word in ("--partial-parse", "--no-partial-parse"):
            found = word == "--partial-parse"
    return found


def _is_set(flag: str, environ: Mapping[str, str]) -> bool:
    """Whether a variable of dbt says yes, under its new name or its old one."""
    names = (f"DBT_ENGINE_{flag}", f"DBT_{flag}")
    value = next((environ[name] for name in names if name in environ), "")
    return value.lower() in TRUE


def for_operation(words: tuple[str, ...]) -> tuple[str, ...]:
    """The flags that `dbt run-operation` understands, and that let it print."""
    return _without(for_parse(words), {"--no-print": False, "--quiet": False, "-q": False})


def _value_of(words: Sequence[str], flag: str) -> str:
    """The value of the last `flag`; empty when there is none."""
    found = ""
    for number, word in enumerate(words):
        name, separator, value = word.partition("=")
        if name == flag:
            found = value if separator else "".join(words[number + 1 : number + 2])
    return found


def parsed_with(target: str | None, words: Sequence[str]) -> ParsedWith:
    """How dbt parses with this target and these flags; version and adapter are not known yet."""
    try:
        values: Any = yaml.safe_load(_value_of(words, "--vars"))
    except (yaml.YAMLError, ValueError, RecursionError):
        # dbt will say what is wrong with them.
        values = _value_of(words, "--vars")
    return ParsedWith(
        target=target or "",
        profile=_value_of(words, "--profile"),
        vars_sha256=digest_of_vars(values),
    )


def _ours(word: str) -> str | None:
    if word.startswith("--"):
        name = word.partition("=")[0]
        return name if name in OURS else None
    if word.startswith("-"):
        # A cluster: -xs is -x -s, and in -sfoo the value follows at once.
        return next((OURS_SHORT[letter] for letter in word[1:] if letter in OURS_SHORT), None)
    return None


def _without(words: tuple[str, ...], unknown: dict[str, bool]) -> tuple[str, ...]:
    kept: list[str] = []
    skip_values = False
    for word in words:
        name = word.partition("=")[0]
        if word.startswith("-"):
            # Some take several values; dbt has no arguments of its own that could follow them.
            skip_values = unknown.get(name, False)
        elif skip_values:
            continue
        if name not in unknown:
            kept.append(word)
    return tuple(kept)
