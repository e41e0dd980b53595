"""Whether a plan would build into production. Pure.

A pull request whose target resolves to production's schema replaces production's tables with its
own, and nothing in dbt stops it. Production's manifest says which relations are production's.
"""

from __future__ import annotations

from collections.abc import Iterable

from ci_defer.manifest import REFABLE, Function, Manifest, Node

# Databases differ in which of them they use, and in whether they look at the case.
QUOTES = str.maketrans("", "", '"`[]')
MADE = REFABLE | {"test", "function"}


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


def _plain(node: Node) -> str:
    return relation_of(node).translate(QUOTES).casefold()
