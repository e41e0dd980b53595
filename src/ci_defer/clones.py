"""Which of the planned nodes are cloned from production before they are built. Pure.

An incremental model that is built into an empty schema is built in full, and the SQL of its
increments is never run. A clone of production's table in its place makes it run as it will run on
main. Owns which nodes that is good for, and whether this warehouse can clone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ci_defer.choices import CloneIncremental
from ci_defer.guard import production_relations
from ci_defer.manifest import Manifest, Node
from ci_defer.wording import listing, number

INCREMENTAL, SNAPSHOT = "incremental", "snapshot"
# In production, what a later increment can be added to. A view is no table in its clone either.
TABLES = frozenset({INCREMENTAL, SNAPSHOT, "table"})

# dbt asks this macro of the adapter, of the adapter it is built on, then the default's, which
# says no. https://docs.getdbt.com/reference/commands/clone
CAN_CLONE = "can_clone_table"
BUILT_ON = {"redshift": "postgres", "databricks": "spark"}
SAYS_YES = re.compile(r"return\(\s*true\s*\)", re.IGNORECASE)
# Spark clones tables of this format alone.
ON_SPARK, DELTA = frozenset({"spark", "databricks"}), "delta"


@dataclass(frozen=True, kw_only=True)
class Clones:
    """The nodes to clone, those to copy, and what to say of those that are neither."""

    nodes: tuple[Node, ...] = ()
    copies: tuple[Node, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def select(self) -> tuple[str, ...]:
        """The nodes to clone in dbt's selection syntax, which has no method for a unique id."""
        return tuple(
            f"fqn:{'.'.join(node.fqn)},config.materialized:{node.materialized}"
            for node in self.nodes
        )


def clones(
    planned: Iterable[str],
    manifest: Manifest,
    production: Manifest,
    *,
    how: CloneIncremental,
    with_snapshots: bool,
) -> Clones:
    """What to clone of the planned unique ids: incremental models, and snapshots if asked.

    What production lacks is left out without a word: it is new. What is rebuilt in any case
    (`full_refresh` in its config) is left out, too.
    """
    if how is CloneIncremental.FALSE:
        return Clones()
    kinds = {INCREMENTAL, SNAPSHOT} if with_snapshots else {INCREMENTAL}
    nodes = [node for node in map(manifest.find, planned) if node and node.materialized in kinds]
    wanted = [node for node in nodes if node.config.full_refresh is not True]
    # What is production's own stays as it is, also where somebody allows to build upon it.
    theirs = production_relations(wanted, production)
    old = [node for node in wanted if _has_table(production, node) and node not in theirs]
    if not old:
        return Clones()
    adapter = manifest.metadata.adapter_type or ""
    if adapter in ON_SPARK:
        return _on_spark(old, adapter)
    if can_clone(manifest):
        return Clones(nodes=tuple(old))
    if how is CloneIncremental.COPY:
        return Clones(copies=tuple(old))
    why = f"dbt cannot clone tables on {adapter}: it would make views, which are built anew."
    cure = "Where a copy is cheap enough, set clone-incremental: copy."
    return Clones(notes=(f"{why} So {_incrementals(old)} in full. {cure}",))


def _on_spark(old: Sequence[Node], adapter: str) -> Clones:
    able = [node for node in old if _format(node, adapter) == DELTA]
    others = [node for node in old if node not in able]
    why = f"{adapter} clones only tables of the file_format {DELTA}."
    notes = (f"{why} So {_incrementals(others)} in full.",) if others else ()
    return Clones(nodes=tuple(able), notes=notes)


def can_clone(manifest: Manifest) -> bool:
    """Whether a clone of a table is a table here: by the macro that dbt would ask.

    A project may have a macro of its own for its adapter, which comes first.
    """
    adapter = manifest.metadata.adapter_type or ""
    project = manifest.metadata.project_name
    for prefix in (adapter, BUILT_ON.get(adapter, "")):
        found = [
            macro
            for macro in manifest.macros.values()
            if prefix and macro.name == f"{prefix}__{CAN_CLONE}"
        ]
        if found:
            first = min(found, key=lambda macro: macro.package_name != project)
            return SAYS_YES.search(first.macro_sql) is not None
    return False


def _has_table(production: Manifest, node: Node) -> bool:
    theirs = production.nodes.get(node.unique_id)
    return theirs is not None and bool(theirs.relation_name) and theirs.materialized in TABLES


def _format(node: Node, adapter: str) -> str:
    """The file format of a table: Databricks has another default than Spark."""
    default = DELTA if adapter == "databricks" else ""
    return str(node.config.file_format or default).lower()


def _incrementals(nodes: Sequence[Node]) -> str:
    names = listing([node.name for node in nodes])
    verb = "is" if len(nodes) == 1 else "are"
    return f"{number(len(nodes), 'incremental node')} ({names}) {verb} built"
