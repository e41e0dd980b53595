"""The name of a pull request's own schema, from the setting `pr-schema`. Pure.

What comes from the event is a stranger's text, a branch above all. Owns what is safe in a name on
every warehouse, and that no two pull requests get the same one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from string import Formatter

from ci_defer.errors import ConfigurationError
from ci_defer.event import Event

# PostgreSQL cuts longer names without a word: two of them would become one.
# https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
MAX_LENGTH = 63
MAX_BRANCH = 24
HASH_LENGTH = 8
SHORT_COMMIT = 12

NAME = re.compile(r"[a-z_][a-z0-9_]*")
LITERAL = re.compile(r"[A-Za-z0-9_]*")
# What two pull requests never have in common. A head commit may be that of several.
DISTINCT = frozenset({"number", "branch", "run_id"})
HINT = "Use for example ci_pr_{number}."


@dataclass(frozen=True)
class SchemaTemplate:
    """The value of `pr-schema`: literal text and placeholders, in order."""

    text: str
    parts: tuple[tuple[str, str | None], ...]

    def render(self, event: Event, *, commit: str, branch: str) -> str:
        """The schema of this run; `commit` and `branch` are what is checked out.

        Raises ConfigurationError when the event lacks what the template needs, or when the name
        would be too long.
        """
        event = replace(
            event, head_sha=event.head_sha or commit, head_branch=event.head_branch or branch
        )
        name = "".join(
            literal.lower() + (_value(placeholder, event) if placeholder else "")
            for literal, placeholder in self.parts
        )
        if len(name) > MAX_LENGTH:
            raise ConfigurationError(
                f"pr-schema: {name} has {len(name)} characters, and warehouses take {MAX_LENGTH}.",
                f"Shorten {self.text}.",
            )
        return name


def parse(text: str) -> SchemaTemplate:
    """Read a template. Raises ValueError, with a sentence for people."""
    try:
        read = list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"{text!r} is no template: {error}. {HINT}") from None
    parts = []
    for literal, placeholder, form, conversion in read:
        if not LITERAL.fullmatch(literal):
            raise ValueError(
                f"{text!r} may only hold letters, digits and '_' beside placeholders. {HINT}"
            )
        if placeholder is not None and (placeholder not in VALUES or form or conversion):
            known = ", ".join(f"{{{name}}}" for name in VALUES)
            raise ValueError(f"{text!r} has an unknown placeholder. There are {known}. {HINT}")
        parts.append((literal, placeholder))
    if not {placeholder for _, placeholder in parts} & DISTINCT:
        raise ValueError(
            f"{text!r} would be the same for several pull requests: it needs {{number}}, "
            f"{{branch}} or {{run_id}}. {HINT}"
        )
    if not NAME.match(text.lower()):
        raise ValueError(f"{text!r} does not begin with a letter or '_'. {HINT}")
    return SchemaTemplate(text, tuple(parts))


def _value(placeholder: str, event: Event) -> str:
    value = VALUES[placeholder](event)
    if not value:
        raise ConfigurationError(
            f"pr-schema has {{{placeholder}}}, and this run has none.",
            "Outside of a pull request use {branch}, or leave out pr-schema.",
        )
    return value


def _number(event: Event) -> str:
    number = event.queued_pull_request or event.pull_request
    return "" if number is None else str(number)


def _branch(event: Event) -> str:
    """The branch as far as it is safe, and a hash: of all that tells two pull requests apart.

    Always, because `a/b` and `a_b` look the same, and `ci_orders` with a custom schema `old` is
    `ci_orders_old`, which could be another branch. Forks have branches of the same name.
    """
    branch = event.head_branch
    if not branch:
        return ""
    safe = re.sub(r"[^a-z0-9]+", "_", branch.lower()).strip("_")[:MAX_BRANCH].rstrip("_")
    whole = f"{event.head_repository}\n{branch}\n{event.pull_request or ''}"
    digest = hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()[:HASH_LENGTH]
    return f"{safe}_{digest}" if safe else digest


VALUES: Mapping[str, Callable[[Event], str]] = {
    "number": _number,
    "branch": _branch,
    "sha": lambda event: event.head_sha[:SHORT_COMMIT],
    "run_id": lambda event: event.run_id,
}
