"""From what may be dropped and what is in the warehouse to what is dropped, and in which way.

Pure. Owns how the name that a run has recorded is found again in the warehouse, which leftovers of
dbt belong to it, and which names are not handed to an adapter. Nothing is dropped here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ci_defer.footprint import Drops, Schema
from ci_defer.names import plain

# dbt's own temporary tables and backups: orders__dbt_backup, orders__dbt_tmp20260102030405. People
# have names of their own, such as orders__dbt_notes.
LEFTOVER = re.compile(
    r"(?=((?:__dbt_(?:tmp|temp|backup|intermediate|new|old)_?[0-9a-f]*(?:_vw)?)+)$)", re.IGNORECASE
)
# Adapters put names between quotes of some kind and escape nothing.
QUOTES = re.compile(r"[\"`\[\]\\]")
# The name of a schema also stands between single quotes, or between none. A database, such as a
# project of BigQuery, has dots too.
SCHEMA = re.compile(r"(?!.*--)[\w $@#:+=/-]+")
DATABASE = re.compile(r"(?!.*--)[\w $@#:+=/.-]*")

# Why something is not handed to an adapter. Only its schema may go, and take it along.
UNSAFE = "the name of its schema holds characters that are not safe in SQL"
QUOTED = "its name holds quotes, which dbt does not escape"
FUNCTION = "dbt lists no functions of this warehouse"


@dataclass(frozen=True)
class Found:
    """What is in a place: pairs of schema and identifier, as the warehouse spells them.

    `folds_…` says whether dbt leaves such names unquoted, so that the warehouse folds their case.
    """

    exists: bool
    relations: tuple[tuple[str, str], ...] = ()
    folds_schema: bool = False
    folds_identifier: bool = False


# A relation by its place and identifier; the place itself has None.
Item = tuple[Schema, str | None]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to drop in one place: `identifiers` of its schema `spelled`, as the warehouse has them.

    With `is_whole` the schema too, if there is nothing left in it then but what is `expected`.
    """

    place: Schema
    spelled: str
    identifiers: tuple[str, ...] = ()
    is_whole: bool = False
    expected: tuple[str, ...] = ()

    def items(self) -> list[Item]:
        """All that is to be dropped, the schema last."""
        relations: list[Item] = [(self.place, identifier) for identifier in self.identifiers]
        return [*relations, (self.place, None)] if self.is_whole else relations


@dataclass(frozen=True, kw_only=True)
class Clearance:
    """What to drop, and why not the rest: `gone` is not there any more, `left` nobody recorded.

    `refused` goes from what cannot be handed to an adapter to the reason.
    """

    orders: tuple[Order, ...]
    gone: tuple[Item, ...]
    left: tuple[Item, ...]
    refused: Mapping[Item, str]


def places_of(drops: Drops) -> list[Schema]:
    """The places to look into: those whose names can be handed to an adapter."""
    places = dict.fromkeys([*(item.place for item in drops.relations), *drops.schemas])
    return [place for place in places if _can_be_named(place)]


def clearance(drops: Drops, found: Mapping[Schema, Found]) -> Clearance:
    """What to drop of `drops` where the warehouse holds what was `found` in each place."""
    own = {_key(place) for place in drops.schemas}
    recorded: dict[tuple[str, str], list[str]] = {}
    for relation in drops.relations:
        recorded.setdefault(_key(relation.place), []).append(relation.identifier)
    orders: list[Order] = []
    gone: list[Item] = []
    left: list[Item] = []
    refused: dict[Item, str] = {
        item: UNSAFE for item in _items(drops) if not _can_be_named(item[0])
    }
    for place, there in found.items():
        schemas = {schema for schema, _ in there.relations}
        spelled = _spelling(place.schema, schemas, folds=there.folds_schema)
        names = [identifier for schema, identifier in there.relations if schema == spelled]
        ours = _ours(recorded.get(_key(place), ()), names, folds=there.folds_identifier)
        others = [name for name in names if name not in ours]
        absent = [
            item
            for item in drops.relations
            if item.place == place
            and _spelling(item.identifier, names, folds=there.folds_identifier) not in names
        ]
        hidden = [item for item in absent if there.exists and item.is_function]
        gone += [(place, item.identifier) for item in absent if item not in hidden]
        refused |= {(place, item.identifier): FUNCTION for item in hidden}
        unnamed = [name for name in names if name in ours and QUOTES.search(name)]
        is_own = _key(place) in own and place in drops.schemas
        if is_own:
            left += [(place, name) for name in others]
        if is_own and not there.exists:
            gone.append((place, None))
        refused |= {(place, name): QUOTED for name in unnamed}
        order = Order(
            place=place,
            spelled=spelled,
            identifiers=tuple(name for name in names if name in ours and name not in unnamed),
            is_whole=is_own and there.exists and not others,
            # What cannot be dropped by its name goes with the schema.
            expected=tuple(sorted(ours)),
        )
        if order.items():
            orders.append(order)
    return Clearance(orders=tuple(orders), gone=tuple(gone), left=tuple(left), refused=refused)


def without(orders: Iterable[Order], items: Iterable[Item]) -> tuple[Order, ...]:
    """The orders but for some items, which are done or cannot be done."""
    settled = set(items)
    rest = (
        Order(
            place=order.place,
            spelled=order.spelled,
            identifiers=tuple(
                name for name in order.identifiers if (order.place, name) not in settled
            ),
            is_whole=order.is_whole and (order.place, None) not in settled,
            expected=order.expected,
        )
        for order in orders
    )
    return tuple(order for order in rest if order.items())


def _items(drops: Drops) -> list[Item]:
    relations: list[Item] = [(item.place, item.identifier) for item in drops.relations]
    return [*relations, *((place, None) for place in drops.schemas)]


def _can_be_named(place: Schema) -> bool:
    return bool(SCHEMA.fullmatch(place.schema) and DATABASE.fullmatch(place.database))


def _spelling(name: str, there: Collection[str], *, folds: bool) -> str:
    """How the warehouse spells a name: databases fold unquoted ones to upper or to lower case."""
    return next((one for one in _spellings(name, folds=folds) if one in there), name)


def _spellings(name: str, *, folds: bool) -> tuple[str, ...]:
    return (name, name.lower(), name.upper()) if folds else (name,)


def _ours(recorded: Iterable[str], names: Iterable[str], *, folds: bool) -> set[str]:
    """Those of the names that are recorded ones, or dbt's leftovers of them."""
    there = set(names)
    recorded = list(recorded)
    stems = {spelling for name in recorded for spelling in _spellings(name, folds=folds)}
    leftovers = {
        name for name in there if any(name[: at.start()] in stems for at in _leftover(name))
    }
    return {_spelling(name, there, folds=folds) for name in recorded} & there | leftovers


def _leftover(name: str) -> Iterable[re.Match[str]]:
    """Where in a name the ending of a leftover may begin."""
    return LEFTOVER.finditer(name)


def _key(place: Schema) -> tuple[str, str]:
    return plain(place.database), plain(place.schema)
