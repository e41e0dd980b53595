"""Whether a plan would build where it must not: into production, or beside its own schema. Pure.

A pull request whose target resolves to production's schema replaces production's tables with its
own, and nothing in dbt stops it. Production's manifest says which relations are production's. With
a schema of its own, a pull request has no business in any other one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ci_defer.errors import ConfigurationError
from ci_defer.manifest import REFABLE, Manifest, Node
from ci_defer.names import carries, plain
from ci_defer.wording import listing

# https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
LENGTHS = {"postgres": 63}
UNLIMITED = 1_000
UNNAMED = frozenset({"test", "function"})
MADE = REFABLE | UNNAMED

# The whole plan is in production, or some nodes that are in one schema whatever the target is.
OTHER_TARGET = "Set target to one with a schema or database of its own."
OTHER_SCHEMA = (
    "Give these nodes a schema that depends on the target, or leave them out with exclude."
)
DEPEND_ON_TARGET = (
    "dbt asks the macro generate_schema_name for it: let that use target.schema for these nodes, "
    "too (a snapshot: `schema` in place of `target_schema`), or leave them out with exclude."
)


def keep_out_of_production(plan: Sequence[Node], production: Manifest) -> None:
    """Raise ConfigurationError when a plan (`built_of`) would replace relations of production."""
    taken = production_relations(plan, production)
    if taken:
        is_all = len(taken) == len(plan)
        raise ConfigurationError(
            f"This run would build into production: {_relations(taken)}. Nothing was built.",
            f"{OTHER_TARGET if is_all else OTHER_SCHEMA} If they only have the same name, in "
            "another place, set allow-production: true.",
        )


def keep_to_schema(
    plan: Sequence[Node], production: Manifest | None, pr_schema: str, *, adapter: str
) -> None:
    """Raise ConfigurationError when a plan would build outside of the pull request's schema.

    Or into a schema that production builds into or reads from: what is dropped when the pull
    request is closed must not be there.
    """
    if production:
        theirs = {plain(name) for name in {_schema(node) for node in all_there(production)}}
        shared = [node for node in plan if plain(_schema(node)) in theirs]
        if shared:
            schemas = listing(list(dict.fromkeys(_schema(node) for node in shared)))
            raise ConfigurationError(
                f"Production is in {schemas}, where this run would build "
                f"{_relations(shared)}. Nothing was built.",
                "Set pr-schema to a name that production has not, such as ci_pr_{number}, and "
                "give each node a schema that depends on target.schema.",
            )
    astray = [node for node in plan if not carries(node.schema or "", pr_schema)]
    if astray:
        raise ConfigurationError(
            f"This run would build outside of the pull request's schema {pr_schema}: "
            f"{_relations(astray)}. Nothing was built.",
            DEPEND_ON_TARGET,
        )
    # dbt does not look, and PostgreSQL cuts.
    longest = LENGTHS.get(adapter, UNLIMITED)
    cut = [node for node in plan if len(node.schema or "") > longest]
    if cut:
        raise ConfigurationError(
            f"The schema {cut[0].schema} has {len(cut[0].schema or '')} characters, and PostgreSQL "
            f"would cut it after {longest}. Nothing was built.",
            "Choose a shorter pr-schema.",
        )


def production_relations(plan: Iterable[Node], production: Manifest) -> list[Node]:
    """The nodes of a plan whose relation is one that production has built, in their order.

    Without regard to quotes and case: to stop once too often is the lesser evil.
    """
    theirs = {_plain(node) for node in all_built(production)}
    return [node for node in plan if _plain(node) in theirs]


def built_of(
    planned: Iterable[str], manifest: Manifest, *, stores_failures: bool = False
) -> list[Node]:
    """The planned nodes that dbt makes relations of, in their order.

    `stores_failures` says that dbt was asked to keep what tests find: the manifest of a plan does
    not know that, as the flag is one of `dbt build` alone.
    """
    return _built(map(manifest.find, planned), stores_failures=stores_failures)


def all_built(production: Manifest) -> list[Node]:
    """All that production may have built: with its tests, as nobody knows its flags."""
    nodes = (*production.nodes.values(), *production.functions.values())
    return _built(nodes, stores_failures=True)


def all_there(production: Manifest) -> list[Node]:
    """All that production may have built, and the sources that it reads: not ours to touch."""
    return [*all_built(production), *production.sources.values()]


def relation_of(node: Node) -> str:
    """What the database calls it. dbt does not name what it makes of a function, and of a test."""
    if node.relation_name or node.resource_type not in UNNAMED:
        return node.relation_name or ""
    return ".".join(part for part in (node.database, node.schema, node.alias or node.name) if part)


def _built(nodes: Iterable[Node | None], *, stores_failures: bool) -> list[Node]:
    return [
        node
        for node in nodes
        if node
        and node.resource_type in MADE
        and relation_of(node)
        and node.materialized != "ephemeral"
        and (node.resource_type != "test" or _is_stored(node, stores_failures=stores_failures))
    ]


def _is_stored(test: Node, *, stores_failures: bool) -> bool:
    """Whether dbt keeps what a test finds: its own config goes before the flag."""
    if test.relation_name:
        return True
    return stores_failures and bool(test.schema) and test.config.store_failures is not False


def _relations(nodes: Sequence[Node]) -> str:
    return listing([relation_of(node) for node in nodes])


def _schema(node: Node) -> str:
    return ".".join(part for part in (node.database, node.schema) if part)


def _plain(node: Node) -> str:
    return plain(relation_of(node))
