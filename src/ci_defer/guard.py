"""Whether a plan would build where it must not: into production, or beside its own schema. Pure.

A pull request whose target resolves to production's schema replaces production's tables with its
own, and nothing in dbt stops it. Production's manifest says which relations are production's. With
a schema of its own, a pull request has no business in any other one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ci_defer.errors import ConfigurationError
from ci_defer.manifest import REFABLE, Function, Manifest, Node
from ci_defer.names import carries, plain
from ci_defer.wording import listing

# https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
LENGTHS = {"postgres": 63}
UNLIMITED = 1_000
MADE = REFABLE | {"test", "function"}

# The whole plan is in production, or some nodes that are in one schema whatever the target is.
OTHER_TARGET = "Set target to one with a schema or database of its own."
OTHER_SCHEMA = (
    "Give these nodes a schema that depends on the target, or leave them out with exclude."
)
DEPEND_ON_TARGET = (
    "dbt asks the macro generate_schema_name for it: let that use target.schema for these nodes, "
    "too (a snapshot: `schema` in place of `target_schema`), or leave them out with exclude."
)


def keep_out_of_production(
    planned: Sequence[str], manifest: Manifest, production: Manifest
) -> None:
    """Raise ConfigurationError when the plan would replace relations of production."""
    taken = production_relations(planned, manifest, production)
    if taken:
        is_all = len(taken) == sum(map(is_built, map(manifest.find, planned)))
        raise ConfigurationError(
            f"This run would build into production: {_relations(taken)}. Nothing was built.",
            f"{OTHER_TARGET if is_all else OTHER_SCHEMA} If they only have the same name, in "
            "another place, set allow-production: true.",
        )


def keep_to_schema(
    planned: Sequence[str], manifest: Manifest, production: Manifest | None, pr_schema: str
) -> None:
    """Raise ConfigurationError when the plan would build outside of the pull request's schema.

    Or into a schema that production has built anything into: what is dropped when the pull request
    is closed must not be there.
    """
    built = [node for node in map(manifest.find, planned) if node and is_built(node)]
    if production:
        nodes = (*production.nodes.values(), *production.functions.values())
        theirs = {_plain_schema(node) for node in nodes if is_built(node)}
        shared = [node for node in built if _plain_schema(node) in theirs]
        if shared:
            schemas = listing(list(dict.fromkeys(_schema(node) for node in shared)))
            raise ConfigurationError(
                f"Production has built into {schemas}, where this run would build "
                f"{_relations(shared)}. Nothing was built.",
                "Set pr-schema to a name that production has not, such as ci_pr_{number}, and "
                "give each node a schema that depends on target.schema.",
            )
    astray = [node for node in built if not carries(node.schema or "", pr_schema)]
    if astray:
        raise ConfigurationError(
            f"This run would build outside of the pull request's schema {pr_schema}: "
            f"{_relations(astray)}. Nothing was built.",
            DEPEND_ON_TARGET,
        )
    cut = [node for node in built if len(node.schema or "") > _longest(manifest)]
    if cut:
        raise ConfigurationError(
            f"The schema {cut[0].schema} has {len(cut[0].schema or '')} characters, and PostgreSQL "
            f"would cut it after {_longest(manifest)}. Nothing was built.",
            "Choose a shorter pr-schema.",
        )


def production_relations(
    planned: Iterable[str], manifest: Manifest, production: Manifest
) -> list[Node]:
    """The planned nodes whose relation is one that production has built, in the order of the plan.

    Without regard to quotes and case: to stop once too often is the lesser evil.
    """
    built = (*production.nodes.values(), *production.functions.values())
    theirs = {_plain(node) for node in built if is_built(node)}
    nodes = (manifest.find(unique_id) for unique_id in planned)
    return [node for node in nodes if node and is_built(node) and _plain(node) in theirs]


def relation_of(node: Node) -> str:
    """What the database calls it. dbt names no relation for a function, and makes one."""
    if isinstance(node, Function):
        parts = (node.database, node.schema, node.alias or node.name)
        return ".".join(part for part in parts if part)
    return node.relation_name or ""


def is_built(node: Node | None) -> bool:
    """Whether dbt makes a relation of it; of a test, where failures are stored."""
    if node is None or node.resource_type not in MADE:
        return False
    return bool(relation_of(node)) and node.materialized != "ephemeral"


def _longest(manifest: Manifest) -> int:
    """How long the name of a schema may be. dbt does not look, and PostgreSQL cuts."""
    return LENGTHS.get(manifest.metadata.adapter_type or "", UNLIMITED)


def _relations(nodes: Sequence[Node]) -> str:
    return listing([relation_of(node) for node in nodes])


def _schema(node: Node) -> str:
    return ".".join(part for part in (node.database, node.schema) if part)


def _plain_schema(node: Node) -> str:
    return plain(_schema(node))


def _plain(node: Node) -> str:
    return plain(relation_of(node))
