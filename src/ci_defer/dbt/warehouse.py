"""Looking into a warehouse and dropping in it, through the adapter of the user's own dbt.

Owns the small dbt project `cleanup_project`: how it is told what to do, in names that may hold
anything, and how its answers are read. What is to be dropped is decided elsewhere.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from ci_defer.clearance import Found, Item, Order
from ci_defer.dbt import Invocation, Operation
from ci_defer.dbt.output import error_message
from ci_defer.errors import Cancelled, DbtError
from ci_defer.footprint import Relation, Schema
from ci_defer.project import PROJECT_FILE

TEMPLATE = Path(__file__).parent.parent / "cleanup_project"
VARIABLE = "ci_defer_cleanup"
HINT = "Check the connection in profiles.yml and the secrets of this job."

# Runs an operation of the dbt project in a folder, in the place of the user's.
RunOperation = Callable[[Path, str], Operation]


@dataclass(frozen=True)
class Dropped:
    """What became of orders. `failed` ended the operation, for the reason `why`."""

    done: frozenset[Item]
    gone: frozenset[Item]
    left: tuple[Item, ...]
    kept: frozenset[Item]
    failed: Item | None = None
    why: str = ""


@dataclass(frozen=True)
class Copied:
    """What became of copies: `done` is there now, `absent` is not where it was to be copied from.

    `failed` ended the operation, for the reason `why`.
    """

    done: frozenset[Item]
    absent: frozenset[Item]
    failed: Item | None = None
    why: str = ""


class Warehouse:
    """A warehouse, reached with the profile of the user's project.

    `connection` is what its dbt_project.yml says of that (`project.connection_of`).
    """

    def __init__(self, connection: Mapping[str, Any], run: RunOperation) -> None:
        self._connection = connection
        self._run = run

    def look(self, places: Sequence[Schema]) -> dict[Schema, Found]:
        """What is in these schemas. Raises CiDeferError when dbt cannot say it."""
        ran, steps = self._operate("ci_defer_look", [self._place(place) for place in places])
        ran.check("look into the warehouse", HINT)
        _check_end(steps)
        relations: dict[Schema, list[tuple[str, str]]] = {place: [] for place in places}
        found = dict.fromkeys(places, Found(exists=False))
        for kind, place, rest in _of_places(steps):
            if kind == "relation":
                relations[place].append((str(rest[0]), str(rest[1])))
            else:
                exists, folds_schema, folds_identifier = map(bool, rest)
                found[place] = Found(
                    exists=exists,
                    relations=tuple(relations[place]),
                    folds_schema=folds_schema,
                    folds_identifier=folds_identifier,
                )
        return found

    def drop(self, orders: Sequence[Order]) -> Dropped:
        """Drop until an error of the database ends it.

        Raises CiDeferError when dbt did not get as far as the first step.
        """
        ran, steps = self._operate("ci_defer_drop", [self._order(order) for order in orders])
        if ran.interrupted:
            raise Cancelled("Cancelled while dbt was dropping.", "Run the clean-up again.")
        by_kind = _by_kind(steps)
        done, gone, kept = (
            frozenset(by_kind.get(kind, ())) for kind in ("dropped", "gone", "kept")
        )
        left = tuple(by_kind.get("left", ()))
        if ran.exit_code == 0:
            _check_end(steps)
            return Dropped(done, gone, left, kept)
        begun = by_kind.get("dropping", [])
        if not begun or begun[-1] in {*done, *gone, *kept, *((place, None) for place, _ in left)}:
            raise DbtError(f"dbt cannot drop anything: {error_message(ran.tail)}", HINT)
        return Dropped(done, gone, left, kept, begun[-1], error_message(ran.tail))

    def copy(self, pairs: Sequence[tuple[Relation, Relation]]) -> Copied:
        """Copy the first table of each pair to the second, in the place of what is there.

        An error of the database ends it. Raises CiDeferError when dbt could not begin.
        """
        tables = [[_names(source), _names(target)] for source, target in pairs]
        ran, steps = self._operate("ci_defer_copy", tables)
        if ran.interrupted:
            raise Cancelled("Cancelled while dbt was copying from production.")
        by_kind = _by_kind(steps)
        done, absent = (frozenset(by_kind.get(kind, ())) for kind in ("copied", "absent"))
        if ran.exit_code == 0:
            _check_end(steps)
            return Copied(done, absent)
        begun = by_kind.get("copying", [])
        if not begun or begun[-1] in done | absent:
            raise DbtError(f"dbt cannot copy anything: {error_message(ran.tail)}", HINT)
        return Copied(done, absent, begun[-1], error_message(ran.tail))

    def _order(self, order: Order) -> list[Any]:
        return [
            *self._place(order.place),
            order.spelled,
            order.identifiers,
            order.is_whole,
            order.expected,
        ]

    def _place(self, place: Schema) -> list[Any]:
        """Database, schema, and what the user's project says of quoting them, if it does."""
        quoting = self._connection.get("quoting", {})
        quoted = [quoting.get(part) for part in ("database", "schema", "identifier")]
        is_told = any(value is not None for value in quoted)
        # Where a warehouse has no databases, dbt knows them as none.
        return [place.database or None, place.schema, quoted if is_told else None]

    def _operate(self, macro: str, what: list[Any]) -> tuple[Invocation, list[Any]]:
        # Nothing that is in the warehouse can look like a line of ours.
        token = f"ci-defer {secrets.token_hex(16)} "
        with TemporaryDirectory(prefix="ci-defer-") as directory:
            project = Path(directory) / "cleanup"
            shutil.copytree(TEMPLATE, project)
            document = yaml.safe_load((project / PROJECT_FILE).read_text(encoding="utf-8"))
            document |= self._connection
            document["vars"] = {VARIABLE: without_braces([token, what])}
            # JSON is YAML, with one way to write a string.
            (project / PROJECT_FILE).write_text(json.dumps(document), encoding="utf-8")
            operation = self._run(project, macro)
        return operation.invocation, list(_steps(operation.output, token))


def without_braces(value: Any) -> str:
    """JSON in which there is no brace: dbt would take two of them in dbt_project.yml for Jinja."""
    text = json.dumps(value)
    return text.replace("{", "\\u007b").replace("}", "\\u007d")


def _names(relation: Relation) -> list[str | None]:
    return [relation.database or None, relation.schema, relation.identifier]


def _steps(lines: Iterable[str], token: str) -> Iterator[list[Any]]:
    for line in lines:
        _, found, step = line.partition(token)
        if found:
            yield json.loads(step)


def _of_places(steps: Iterable[list[Any]]) -> Iterator[tuple[str, Schema, list[Any]]]:
    for kind, *rest in steps:
        if rest:
            yield kind, Schema(database=rest[0] or "", schema=rest[1]), rest[2:]


def _by_kind(steps: Iterable[list[Any]]) -> dict[str, list[Item]]:
    """What each kind of step was about, in order."""
    found: dict[str, list[Item]] = {}
    for kind, place, rest in _of_places(steps):
        found.setdefault(kind, []).append((place, rest[0]))
    return found


def _check_end(steps: list[list[Any]]) -> None:
    if steps[-1:] != [["end"]]:
        raise DbtError(
            "dbt ended without an error and without an answer.",
            "Remove --no-print from dbt-args, and DBT_PRINT from the environment.",
        )
