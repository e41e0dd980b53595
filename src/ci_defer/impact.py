"""What a change reaches: what reads what, which exposures are downstream, what is gone.

Pure functions over the manifests of the pull request and of production. Nothing here decides what
is built: dbt has done that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ci_defer.manifest import Manifest, Node
from ci_defer.report import Exposure, Removed

# What a person means by "reads it": tests go with what they test.
READERS = frozenset(
    {"model", "snapshot", "seed", "exposure", "metric", "semantic_model", "saved_query"}
)


def parents(node: Node) -> list[str]:
    """The unique ids of what a node reads; a generic test has the node it is attached to."""
    if node.attached_node:
        return [node.attached_node, *node.depends_on.nodes]
    return node.depends_on.nodes


def children(nodes: Iterable[Node]) -> Mapping[str, list[str]]:
    """The unique ids of what reads each node, one step away."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        for parent in parents(node):
            found.setdefault(parent, []).append(node.unique_id)
    return found


def visible_parents(node: Node, manifest: Manifest, is_visible: Callable[[str], bool]) -> list[str]:
    """The nearest ancestors that are visible, each once: what is hidden in between is passed."""
    found: dict[str, None] = {}
    seen: set[str] = set()
    queue = list(reversed(parents(node)))
    while queue:
        unique_id = queue.pop()
        if unique_id in seen:
            continue
        seen.add(unique_id)
        if is_visible(unique_id):
            found[unique_id] = None
        elif (parent := manifest.find(unique_id)) and parent.materialized == "ephemeral":
            queue += parents(parent)
    return list(found)


def exposures(
    planned: Iterable[str], manifest: Manifest, is_visible: Callable[[str], bool]
) -> list[Exposure]:
    """The exposures downstream of what was planned, also where the selection ends before them."""
    reached = downstream(planned, manifest) if manifest.exposures else frozenset()
    return [
        Exposure(
            unique_id=node.unique_id,
            name=node.name,
            type=node.type or "",
            owner=_owner(node.owner),
            path=node.original_file_path,
            parents=visible_parents(node, manifest, is_visible),
        )
        for node in sorted(manifest.exposures.values(), key=lambda node: node.unique_id)
        if node.unique_id in reached
    ]


def _owner(owner: Any) -> str:
    name = owner.get("name") if isinstance(owner, dict) else None
    return name if isinstance(name, str) else ""


def downstream(start: Iterable[str], manifest: Manifest) -> set[str]:
    """`start` and everything that reads it, over any number of steps."""
    read_by = children(manifest.resources())
    reached: set[str] = set()
    queue = list(start)
    while queue:
        unique_id = queue.pop()
        if unique_id not in reached:
            reached.add(unique_id)
            queue += read_by.get(unique_id, ())
    return reached


def removed(manifest: Manifest, production: Manifest) -> list[Removed]:
    """What production has and the pull request has not. dbt selects nothing for it."""
    ours = {node.unique_id for node in manifest.resources()}
    gone = [
        node
        for node in production.resources()
        if node.unique_id not in ours and node.resource_type != "operation"
    ]
    readers = children(production.resources()) if gone else {}
    disabled = manifest.disabled or {}
    return [
        Removed(
            unique_id=node.unique_id,
            name=node.name,
            resource_type=node.resource_type,
            path=node.original_file_path,
            disabled=node.unique_id in disabled,
            read_by=_remaining(readers.get(node.unique_id, ()), ours),
        )
        for node in gone
    ]


def _remaining(unique_ids: Iterable[str], ours: Collection[str]) -> list[str]:
    return sorted(
        {
            unique_id
            for unique_id in unique_ids
            if unique_id in ours and unique_id.partition(".")[0] in READERS
        }
    )
