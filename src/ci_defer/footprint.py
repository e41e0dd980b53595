"""The footprint of a pull request: what each of its runs was about to build.

Pure. Owns the shape of a footprint and its JSON, and the decision which relations and schemas a
clean-up may drop: only what a run has recorded, and nothing where production is. Knows nothing of
where footprints are kept, or of how dbt drops.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from ci_defer.errors import InvalidFootprint
from ci_defer.event import Event
from ci_defer.guard import all_there
from ci_defer.manifest import Manifest, Node
from ci_defer.names import carries, plain

SCHEMA_VERSION = 1
# A record of 50,000 relations has 15 MB.
MAX_SIZE = 50 * 1024**2


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything in a footprint."""


class Schema(Part, frozen=True, kw_only=True):
    """A schema as dbt names it. There is no database where the warehouse has none, as in Spark."""

    database: str = ""
    schema: str

    def __str__(self) -> str:
        return ".".join(part for part in (self.database, self.schema) if part)


class Relation(Part, frozen=True, kw_only=True):
    """What one node is in the warehouse. `kind` is its materialization, such as `view`."""

    unique_id: str
    database: str = ""
    schema: str
    identifier: str
    kind: str = ""

    @classmethod
    def of(cls, node: Node) -> Relation:
        """The relation that dbt makes of a node."""
        return cls(
            unique_id=node.unique_id,
            database=node.database or "",
            schema=node.schema or "",
            identifier=node.alias or node.name,
            kind=node.materialized or node.resource_type,
        )

    @property
    def place(self) -> Schema:
        """The schema it is in."""
        return Schema(database=self.database, schema=self.schema)

    @property
    def is_function(self) -> bool:
        """Whether it is a user-defined function."""
        return self.unique_id.startswith("function.")

    def __str__(self) -> str:
        return f"{self.place}.{self.identifier}"


class Footprint(Part, frozen=True, kw_only=True):
    """What one run of a pull request was about to build.

    `project` is the setting of that name, `target` is empty for the default of the profile.
    `production_schemas` are those that production has built into, as far as its manifest was known.
    """

    schema_version: int = SCHEMA_VERSION
    project: str
    pull_request: Annotated[int, Meta(ge=1)]
    run_id: str
    run_attempt: str
    pr_schema: str
    target: str
    adapter: str
    created_at: str
    relations: list[Relation] = []
    schemas: list[Schema] = []
    production_schemas: list[Schema] = []


@dataclass(frozen=True, kw_only=True)
class Drops:
    """What a clean-up may drop: the relations, and the schemas that nothing is left in then.

    `kept` is what the runs have built elsewhere, in schemas of production or of everybody.
    """

    relations: tuple[Relation, ...] = ()
    schemas: tuple[Schema, ...] = ()
    kept: tuple[Relation, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.relations or self.schemas)


def footprint_of(
    plan: Sequence[Node],
    production: Manifest | None,
    *,
    key: str,
    event: Event,
    pr_schema: str,
    target: str,
    adapter: str,
    created_at: str,
) -> Footprint:
    """What a run of the pull request of `event` is about to build: a plan (`guard.built_of`).

    `key` is the setting `project`. Raises ValueError for an event without
    a pull request.
    """
    number = event.queued_pull_request or event.pull_request
    if number is None:
        raise ValueError("only a pull request leaves a footprint")
    relations = [Relation.of(node) for node in plan]
    return Footprint(
        project=key,
        pull_request=number,
        run_id=event.run_id,
        run_attempt=event.run_attempt,
        pr_schema=pr_schema,
        target=target,
        adapter=adapter,
        created_at=created_at,
        relations=relations,
        schemas=_places(plan),
        production_schemas=_places(all_there(production) if production else ()),
    )


def what_to_drop(
    footprints: Iterable[Footprint],
    production: Manifest | None,
    guarded: Iterable[Schema] = (),
) -> Drops:
    """What all runs of a pull request have recorded, but for what is in a schema of production.

    `production` is its newest manifest, None when there is none; `guarded` are schemas of
    production that are known otherwise. A model that an early push had and a later one has not is
    dropped too.
    """
    footprints = list(footprints)
    theirs = {place for item in footprints for place in item.production_schemas} | {*guarded}
    if production:
        theirs |= {Relation.of(node).place for node in all_there(production)}
    spared = _Places(theirs)
    schemas = {
        _plain_place(place): place
        for item in footprints
        for place in item.schemas
        if carries(place.schema, item.pr_schema) and place not in spared
    }
    # Whatever a run has recorded: what is not in a schema of its own may be somebody else's.
    own = _unique(
        relation
        for item in footprints
        for relation in item.relations
        if carries(relation.schema, item.pr_schema) and relation.place not in spared
    )
    others = _unique(relation for item in footprints for relation in item.relations)
    dropped = frozenset(own)
    return Drops(
        relations=tuple(own),
        schemas=tuple(schemas.values()),
        kept=tuple(item for item in others if item not in dropped),
    )


def encode(footprint: Footprint) -> bytes:
    """The JSON of a footprint."""
    return msgspec.json.format(msgspec.json.encode(footprint), indent=1) + b"\n"


def decode(raw: bytes) -> Footprint:
    """Read the JSON of a footprint. Raises InvalidFootprint when it is not one of ours."""
    if len(raw) > MAX_SIZE:
        raise InvalidFootprint(f"It has {len(raw):,} bytes.")
    try:
        footprint = msgspec.json.decode(raw, type=Footprint)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidFootprint(f"It does not have the shape of a footprint: {error}.") from None
    if footprint.schema_version != SCHEMA_VERSION:
        raise InvalidFootprint(
            f"It has schema version {footprint.schema_version}, and this ci-defer reads "
            f"{SCHEMA_VERSION}."
        )
    return footprint


class _Places:
    """Schemas without regard to case and quotes; one without a database is in all of them."""

    def __init__(self, places: Iterable[Schema]) -> None:
        self._databases: dict[str, set[str]] = {}
        for place in places:
            database, schema = _plain_place(place)
            self._databases.setdefault(schema, set()).add(database)

    def __contains__(self, place: Schema) -> bool:
        database, schema = _plain_place(place)
        databases = self._databases.get(schema, set())
        return bool(databases) and (not database or not databases.isdisjoint({database, ""}))


def _places(nodes: Iterable[Node]) -> list[Schema]:
    """The schemas of these, each one once."""
    # There are few of them, and production has thousands of nodes.
    named = dict.fromkeys((node.database or "", node.schema or "") for node in nodes)
    places = [Schema(database=database, schema=schema) for database, schema in named]
    return list({_plain_place(place): place for place in places}.values())


def _plain_place(place: Schema) -> tuple[str, str]:
    return plain(place.database), plain(place.schema)


def _unique(relations: Iterable[Relation]) -> list[Relation]:
    """Each relation once: a quoted name may differ from another one in its case only."""
    found = {(item.database, item.schema, item.identifier): item for item in relations}
    return list(found.values())
