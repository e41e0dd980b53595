"""Why each node was selected: what dbt compares, said for people.

Two manifests are compared as dbt does it for `state:modified`; what reads a modified node is
downstream of it. Pure. Nothing here decides what is built: dbt has done that. A node that dbt has
selected and for which no reason is found was named by the user's own selection.

What is compared of a node is in `rules` for dbt Core, and in `rules_v2` for dbt v2. Source of the
rest: `StateSelectorMethod` of dbt-core (core/dbt/graph/selector_methods.py).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

from ci_defer.impact import children
from ci_defer.manifest import (
    Exposure,
    Macro,
    Manifest,
    Metric,
    Node,
    SavedQuery,
    SemanticModel,
    Source,
)
from ci_defer.report import TESTS, Reason, ReasonKind
from ci_defer.rules import NEW, is_at_least_1_12, of_core
from ci_defer.rules_v2 import declaration, is_v2, of_v2
from ci_defer.wording import listing

DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:$|[T ]\d{2}:)")
# How many steps away, and from which nodes.
Distances: TypeAlias = dict[str, tuple[int, list[str]]]
NEW_IS_NOT_MODIFIED = (Source, Exposure, Metric, SemanticModel, SavedQuery)


class Explained:
    """The reasons of nodes, by unique id: `reasons` of one that was selected, none of others.

    `compared` is what `--state` had. `compares_unrendered` is dbt's flag
    state_modified_compare_more_unrendered_values, as it was for this run; None for its default.
    """

    def __init__(
        self, manifest: Manifest, compared: Manifest, *, compares_unrendered: bool | None = None
    ) -> None:
        self._manifest = manifest
        self._compared = compared
        if compares_unrendered is None:
            dbt_version = manifest.metadata.dbt_version
            compares_unrendered = default_of_compares_unrendered(dbt_version)
        self._compares_unrendered = compares_unrendered
        self._reasons: dict[str, list[Reason]] = {}

    def as_run(self, *, compares_unrendered: bool | None) -> Explained:
        """The same with the flag as it was for the run: this one, where that changes nothing."""
        if compares_unrendered in (None, self._compares_unrendered):
            return self
        return Explained(self._manifest, self._compared, compares_unrendered=compares_unrendered)

    def reasons(self, unique_id: str) -> list[Reason]:
        """Why a selected node was: its own changes, else what it is downstream of."""
        # The plan and the report ask for the same nodes.
        if unique_id not in self._reasons:
            self._reasons[unique_id] = self._reasons_of(unique_id)
        return self._reasons[unique_id]

    def _reasons_of(self, unique_id: str) -> list[Reason]:
        if own := self.modified.get(unique_id):
            return own
        node = self._manifest.find(unique_id)
        reasons = [] if (self._before(node) if node else None) else [NEW]
        if unique_id in self._distances:
            reasons.append(_downstream(unique_id, self._distances[unique_id], self._name))
        elif unique_id in self._unsteady:
            reasons += self._unsteady[unique_id]
        elif unique_id in self._distances_of_unsteady:
            distance = self._distances_of_unsteady[unique_id]
            reasons.append(_downstream(unique_id, distance, self._name))
        return reasons or [Reason(kind=ReasonKind.CHOSEN, text="chosen by the setting select")]

    @cached_property
    def modified(self) -> dict[str, list[Reason]]:
        """What dbt takes for `state:modified`, selected or not, and why."""
        found = {}
        for node in self._manifest.resources():
            old = self._before(node)
            if old:
                reasons = self._compare(node, old)
            else:
                # A new one of these is nothing to dbt Core, unless a macro of it is new as well.
                is_modified = (
                    self._is_v2 or not isinstance(node, NEW_IS_NOT_MODIFIED) or self._macros(node)
                )
                reasons = [NEW] if is_modified else []
            if reasons:
                found[node.unique_id] = reasons
        return found

    @cached_property
    def _is_v2(self) -> bool:
        return is_v2(self._manifest.metadata.dbt_version)

    @cached_property
    def _resources_before(self) -> Mapping[str, Node]:
        return {node.unique_id: node for node in self._compared.resources()}

    def _before(self, node: Node) -> Node | None:
        """What this node was; to dbt v2 a generic test with another name is the same test."""
        found = self._resources_before.get(node.unique_id)
        if found is None and self._is_v2 and (said := declaration(node)):
            alike = self._tests_before.get(said, [])
            return alike[0] if len(alike) == 1 else None
        return found

    @cached_property
    def _tests_before(self) -> Mapping[str, list[Node]]:
        found: dict[str, list[Node]] = {}
        for node in self._compared.nodes.values():
            if said := declaration(node):
                found.setdefault(said, []).append(node)
        return found

    def _compare(self, node: Node, old: Node) -> list[Reason]:
        metadata = self._manifest.metadata
        if node is old and not self._is_v2:
            # Most nodes are what they were. Some kinds are never that to dbt v2.
            return self._macros(node)
        if self._is_v2:
            reasons = of_v2(node, old, adapter=metadata.adapter_type)
        else:
            unrendered = self._compares_unrendered
            reasons = of_core(node, old, dbt_version=metadata.dbt_version, unrendered=unrendered)
        return [*reasons, *self._macros(node)]

    def _macros(self, node: Node) -> list[Reason]:
        """The nearest changed macro that a node reaches, and the way to it."""
        way = self.way_to_changed_macro(node)
        if not way:
            return []
        changed = self.changed_macros[way[-1]]
        said = f"macro {_macro_name(way[-1])} {changed}"
        if len(way) > 1:
            said += f", used through {' → '.join(_macro_name(name) for name in way[:-1])}"
        return [Reason(kind=ReasonKind.MACROS, text=said)]

    def way_to_changed_macro(self, node: Node) -> tuple[str, ...]:
        """The macros from the one that a node uses to the nearest that changed, or none."""
        if not self.changed_macros:
            return ()
        start = tuple(name for name in node.depends_on.macros if name)
        if start not in self._ways:
            self._ways[start] = _shortest(start, self._manifest.macros, self.changed_macros)
        return self._ways[start] or ()

    def reaches(self, node: Node, macros: Collection[str]) -> bool:
        """Whether a node uses one of `macros`, over any number of others."""
        start = [name for name in node.depends_on.macros if name]
        return _shortest(start, self._manifest.macros, macros) is not None

    def macro(self, unique_id: str) -> Macro:
        """A macro as it is, or as it was before it went."""
        found = self._manifest.macros.get(unique_id)
        return found or self._compared.macros[unique_id]

    @cached_property
    def changed_macros(self) -> dict[str, str]:
        """What became of the macros that are not what they were, by unique id."""
        ours, theirs = self._manifest.macros, self._compared.macros
        if self._is_v2:
            return {
                name: "changed"
                for name, macro in ours.items()
                if name in theirs and macro.macro_sql.strip() != theirs[name].macro_sql.strip()
            }
        found = {
            name: "is new" if name not in theirs else "changed"
            for name, macro in ours.items()
            if name not in theirs or macro.macro_sql != theirs[name].macro_sql
        }
        return found | {name: "is gone" for name in theirs if name not in ours}

    @cached_property
    def _ways(self) -> dict[tuple[str, ...], tuple[str, ...] | None]:
        # Generic tests of one kind start from the same macros: thousands of them share one search.
        return {}

    @cached_property
    def _distances(self) -> Distances:
        """How far each node is from the nearest modified ones, and which these are."""
        return self._distances_from(self.modified)

    @cached_property
    def _unsteady(self) -> dict[str, list[Reason]]:
        """What dbt may take for modified in every run: a date, which JSON keeps as text.

        A reason only for what has no other: in two manifests it cannot be told from a real text.
        To dbt v2 it is a text from the beginning.
        """
        if self._is_v2:
            return {}
        return {
            node.unique_id: [
                Reason(
                    kind=ReasonKind.CONFIGS,
                    text=f"config {key} holds a date, which dbt takes for changed in every run: "
                    "quote it",
                )
                for key in keys[:1]
            ]
            for node in self._manifest.resources()
            if (keys := [key for key, value in node.unrendered_config.items() if _has_date(value)])
        }

    @cached_property
    def _distances_of_unsteady(self) -> Distances:
        return self._distances_from(self._unsteady)

    def _distances_from(self, start: Iterable[str]) -> Distances:
        found: Distances = {name: (0, [name]) for name in start}
        queue = deque(found)
        while queue:
            name = queue.popleft()
            distance, causes = found[name]
            for child in self._children.get(name, ()):
                known = found.get(child)
                if known is None:
                    found[child] = (distance + 1, list(causes))
                    queue.append(child)
                elif known[0] == distance + 1:
                    there = set(known[1])
                    known[1].extend(cause for cause in causes if cause not in there)
        return found

    @cached_property
    def _children(self) -> Mapping[str, list[str]]:
        return children(self._manifest.resources())

    def _name(self, unique_id: str) -> str:
        node = self._manifest.find(unique_id)
        return node.name if node else unique_id


def _downstream(
    unique_id: str, found: tuple[int, list[str]], name_of: Callable[[str], str]
) -> Reason:
    distance, causes = found
    names = [name_of(cause) for cause in sorted(causes)]
    is_test = unique_id.partition(".")[0] in TESTS
    said = (
        f"tests {listing(names)}"
        if is_test and distance == 1
        else f"downstream of {listing(names)}"
    )
    if distance > 1:
        said += f" ({distance} steps)"
    return Reason(kind=ReasonKind.DOWNSTREAM, text=said)


def _has_date(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_date(inner) for inner in value.values())
    if isinstance(value, list):
        return any(_has_date(inner) for inner in value)
    return isinstance(value, str) and DATE.match(value) is not None


def default_of_compares_unrendered(dbt_version: str) -> bool:
    """What dbt takes for state_modified_compare_more_unrendered_values when nobody set it."""
    return is_at_least_1_12(dbt_version)


def _macro_name(unique_id: str) -> str:
    return unique_id.removeprefix("macro.")


def _shortest(
    start: Sequence[str], macros: Mapping[str, Macro], changed: Collection[str]
) -> tuple[str, ...] | None:
    """The shortest way from `start` to a changed macro, both of its ends included."""
    came_from: dict[str, str | None] = dict.fromkeys(start)
    queue = deque(came_from)
    while queue:
        name = queue.popleft()
        if name in changed:
            way = [name]
            while (before := came_from[way[-1]]) is not None:
                way.append(before)
            return tuple(reversed(way))
        macro = macros.get(name)
        for called in macro.depends_on.macros if macro else ():
            if called and called not in came_from:
                came_from[called] = name
                queue.append(called)
    return None
