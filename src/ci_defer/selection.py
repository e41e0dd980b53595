"""Why each node was selected: what dbt compares, said for people.

Two manifests are compared as dbt does it for `state:modified`; what reads a modified node is
downstream of it. Pure. Nothing here decides what is built: dbt has done that. A node that dbt has
selected and for which no reason is found was named by the user's own selection.

Source of the rules: `same_contents` of each kind of node in dbt-core 1.11 and 1.12
(core/dbt/contracts/graph/nodes.py) and `StateSelectorMethod` (core/dbt/graph/selector_methods.py).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import msgspec

from ci_defer.impact import children
from ci_defer.manifest import (
    Exposure,
    FileHash,
    Function,
    Macro,
    Manifest,
    Metric,
    Node,
    SavedQuery,
    SemanticModel,
    Source,
)
from ci_defer.report import TESTS, Reason, ReasonKind

# What dbt compares under another name, or not at all. An unknown key counts.
NOT_COMPARED = frozenset({"alias", "schema", "database", "tags", "group"})
OF_THE_RELATION = ("database", "schema", "alias")
# The only config of a test that counts; the last one from dbt 1.12 on.
OF_A_TEST = (
    *("severity", "where", "limit", "fail_calc", "warn_if", "error_if"),
    *("store_failures", "store_failures_as", "sql_header"),
)
DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:$|[T ]\d{2}:)")
# How many steps away, and from which nodes.
Distances: TypeAlias = dict[str, tuple[int, list[str]]]
MAX_VALUE = 60
MAX_NAMED = 3
NEW_IS_NOT_MODIFIED = (Source, Exposure, Metric, SemanticModel, SavedQuery)


class Explained:
    """The reasons of nodes, by unique id: `reasons` of one that was selected, none of others.

    `compared` is what `--state` had. `compares_unrendered` is dbt's flag
    state_modified_compare_more_unrendered_values, as it was for this run.
    """

    def __init__(
        self, manifest: Manifest, compared: Manifest, *, compares_unrendered: bool
    ) -> None:
        self._manifest = manifest
        self._compared = compared
        self._compares_unrendered = compares_unrendered

    def reasons(self, unique_id: str) -> list[Reason]:
        """Why a selected node was: its own changes, else what it is downstream of."""
        if own := self.modified.get(unique_id):
            return own
        reasons = [] if self._compared.find(unique_id) else [NEW]
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
        before = {node.unique_id: node for node in self._compared.resources()}
        for node in self._manifest.resources():
            old = before.get(node.unique_id)
            if old:
                reasons = self._compare(node, old)
            else:
                # A new one of these is nothing to dbt, unless a macro of it is new as well.
                is_modified = not isinstance(node, NEW_IS_NOT_MODIFIED) or self._macros(node)
                reasons = [NEW] if is_modified else []
            if reasons:
                found[node.unique_id] = reasons
        return found

    def _compare(self, node: Node, old: Node) -> list[Reason]:
        compare: Callable[[Any, Any], Iterator[Reason]] = _RULES.get(type(node), _node)
        if isinstance(node, Source) and isinstance(old, Source):
            reasons = [*_source(node, old, unrendered=self._compares_unrendered)]
        elif node.resource_type == "test":
            reasons = [*_test(node, old, self._manifest.metadata.dbt_version)]
        elif node.resource_type == "unit_test":
            reasons = [*_unit_test(node, old)]
        elif type(node) is type(old):
            reasons = [*compare(node, old)]
        else:
            reasons = [NEW]
        return reasons + self._macros(node)

    def _macros(self, node: Node) -> list[Reason]:
        """The nearest changed macro that a node reaches, and the way to it."""
        if not self._changed_macros:
            return []
        way = self._way_to_change(tuple(name for name in node.depends_on.macros if name))
        if way is None:
            return []
        changed = self._changed_macros[way[-1]]
        said = f"macro {_macro_name(way[-1])} {changed}"
        if len(way) > 1:
            said += f", used through {' → '.join(_macro_name(name) for name in way[:-1])}"
        return [Reason(kind=ReasonKind.MACROS, text=said)]

    @cached_property
    def _changed_macros(self) -> dict[str, str]:
        ours, theirs = self._manifest.macros, self._compared.macros
        found = {
            name: "is new" if name not in theirs else "changed"
            for name, macro in ours.items()
            if name not in theirs or macro.macro_sql != theirs[name].macro_sql
        }
        return found | {name: "is gone" for name in theirs if name not in ours}

    def _way_to_change(self, start: tuple[str, ...]) -> tuple[str, ...] | None:
        if start not in self._ways:
            self._ways[start] = _shortest(start, self._manifest.macros, self._changed_macros)
        return self._ways[start]

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
        """
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
                    known[1].extend(cause for cause in causes if cause not in known[1])
        return found

    @cached_property
    def _children(self) -> Mapping[str, list[str]]:
        return children(self._manifest.resources())

    def _name(self, unique_id: str) -> str:
        node = self._manifest.find(unique_id)
        return node.name if node else unique_id


NEW = Reason(kind=ReasonKind.NEW, text="new")


def _downstream(
    unique_id: str, found: tuple[int, list[str]], name_of: Callable[[str], str]
) -> Reason:
    distance, causes = found
    names = [name_of(cause) for cause in sorted(causes)]
    is_test = unique_id.partition(".")[0] in TESTS
    said = (
        f"tests {_named(names)}" if is_test and distance == 1 else f"downstream of {_named(names)}"
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
    return _is_at_least_1_12(dbt_version)


def _is_at_least_1_12(dbt_version: str) -> bool:
    major, _, rest = dbt_version.partition(".")
    minor = rest.partition(".")[0]
    if not (major.isdecimal() and minor.isdecimal()):
        return True
    return (int(major), int(minor)) >= (1, 12)


def _node(node: Node, old: Node) -> Iterator[Reason]:
    """Models, seeds, snapshots, analyses, and hooks."""
    yield from _configs(node, old)
    yield from _body(node, old)
    yield from _relation(node, old)
    yield from _descriptions(node, old)
    yield from _contract(node, old)
    yield from _moved(node, old)
    if node.resource_type == "model":
        yield from _property(node, old, "access", ReasonKind.ACCESS)
        yield from _property(node, old, "latest_version", ReasonKind.ACCESS)
        yield from _property(node, old, "deprecation_date", ReasonKind.ACCESS)


def _test(node: Node, old: Node, dbt_version: str) -> Iterator[Reason]:
    keys = OF_A_TEST if _is_at_least_1_12(dbt_version) else OF_A_TEST[:-1]
    yield from _configs(node, old, only=keys)
    # What a generic test says is made from its declaration: dbt does not look at it.
    if node.test_metadata is None:
        yield from _body(node, old)
        yield from _relation(node, old)
    yield from _moved(node, old)


def _body(node: Node, old: Node) -> Iterator[Reason]:
    if node.resource_type == "seed":
        if node.checksum != old.checksum:
            yield Reason(kind=ReasonKind.BODY, text=_data(node, old))
    elif node.raw_code != old.raw_code:
        yield Reason(kind=ReasonKind.BODY, text="its code changed")


def _data(node: Node, old: Node) -> str:
    kinds = [
        item.checksum.name if isinstance(item.checksum, FileHash) else "" for item in (node, old)
    ]
    if "path" not in kinds:
        return "its data changed"
    return "its file was moved, and is too large for dbt to compare the data"


def _configs(
    node: Node, old: Node, *, only: Sequence[str] = (), but: frozenset[str] = NOT_COMPARED
) -> Iterator[Reason]:
    ours, theirs = node.unrendered_config, old.unrendered_config
    keys = only or [key for key in {**theirs, **ours} if key not in but]
    for key in keys:
        if (key in ours, ours.get(key)) != (key in theirs, theirs.get(key)):
            yield Reason(
                kind=ReasonKind.CONFIGS,
                text=f"config {_change(key, theirs.get(key), ours.get(key))}",
            )


def _relation(node: Node, old: Node) -> Iterator[Reason]:
    ours, theirs = node.unrendered_config, old.unrendered_config
    for key in OF_THE_RELATION:
        if ours.get(key) != theirs.get(key):
            yield Reason(
                kind=ReasonKind.RELATION, text=_change(key, theirs.get(key), ours.get(key))
            )


def _descriptions(node: Node, old: Node) -> Iterator[Reason]:
    """Descriptions count where dbt writes them into the database."""
    kept = node.config.persist_docs
    if not isinstance(kept, dict):
        return
    if kept.get("relation") and node.description != old.description:
        yield Reason(kind=ReasonKind.DESCRIPTIONS, text="its description changed (persist_docs)")
    if kept.get("columns"):
        ours = {name: column.description for name, column in node.columns.items()}
        theirs = {name: column.description for name, column in old.columns.items()}
        if names := [
            name for name in {**theirs, **ours} if ours.get(name, 0) != theirs.get(name, 0)
        ]:
            said = f"the description of {_named(names)} changed (persist_docs)"
            yield Reason(kind=ReasonKind.DESCRIPTIONS, text=said)


def _contract(node: Node, old: Node) -> Iterator[Reason]:
    if node.resource_type != "model":
        return
    ours, theirs = node.contract, old.contract
    if ours.enforced != theirs.enforced:
        said = (
            "its contract is enforced now"
            if ours.enforced
            else "its contract is no longer enforced"
        )
    elif ours.enforced and ours.checksum != theirs.checksum:
        said = f"its contract changed{_columns(node, old)}"
    else:
        return
    yield Reason(kind=ReasonKind.CONTRACT, text=said)


def _columns(node: Node, old: Node) -> str:
    """What became of the columns of a contract, as far as that is all."""
    said = []
    if gone := [name for name in old.columns if name not in node.columns]:
        said.append(f"without {_named(gone)}")
    if added := [name for name in node.columns if name not in old.columns]:
        said.append(f"with {_named(added)}")
    said += [
        _change(name, old.columns[name].data_type, column.data_type)
        for name, column in node.columns.items()
        if name in old.columns and column.data_type != old.columns[name].data_type
    ][:MAX_NAMED]
    return f": {', '.join(said)}" if said else ""


def _moved(node: Node, old: Node) -> Iterator[Reason]:
    if node.fqn != old.fqn:
        ours, theirs = node.original_file_path, old.original_file_path
        if ours == theirs:
            ours, theirs = ".".join(node.fqn), ".".join(old.fqn)
        yield Reason(kind=ReasonKind.MOVED, text=f"moved: {theirs} → {ours}")


def _unit_test(node: Node, old: Node) -> Iterator[Reason]:
    if node.checksum != old.checksum:
        yield Reason(
            kind=ReasonKind.BODY, text="its rows, its expectation or its overrides changed"
        )


def _source(node: Source, old: Source, *, unrendered: bool) -> Iterator[Reason]:
    where = "unrendered_" if unrendered else ""
    for key in (f"{where}database", f"{where}schema", "identifier"):
        yield from _property(node, old, key, ReasonKind.RELATION)
    yield from _moved(node, old)
    yield from _configs(node, old, but=frozenset())
    for key in ("quoting", "freshness", "loaded_at_field", "external"):
        yield from _property(node, old, key)


def _exposure(node: Exposure, old: Exposure) -> Iterator[Reason]:
    yield from _moved(node, old)
    for key in ("type", "owner", "maturity", "url", "description", "label"):
        yield from _property(node, old, key)
    if {*node.depends_on.nodes} != {*old.depends_on.nodes}:
        yield Reason(kind=ReasonKind.PROPERTY, text="what it depends on changed")
    yield from _configs(node, old, but=frozenset())


def _metric(node: Metric, old: Metric) -> Iterator[Reason]:
    for key in ("type", "description", "label"):
        yield from _property(node, old, key)
    yield from _configs(node, old, but=frozenset({"group"}))


def _semantic_model(node: SemanticModel, old: SemanticModel) -> Iterator[Reason]:
    for key in (
        *("model", "description", "defaults", "entities", "dimensions", "measures"),
        *("primary_entity", "group"),
    ):
        yield from _property(node, old, key)
    yield from _property(node, old, "config", ReasonKind.CONFIGS)


def _saved_query(node: SavedQuery, old: SavedQuery) -> Iterator[Reason]:
    ours, theirs = _mapping(node.query_params), _mapping(old.query_params)
    for key in ("metrics", "group_by", "where"):
        if ours.get(key) != theirs.get(key):
            yield Reason(
                kind=ReasonKind.PROPERTY, text=_change(key, theirs.get(key), ours.get(key))
            )
    for key in ("description", "label", "group", "tags"):
        yield from _property(node, old, key)
    yield from _property(node, old, "config", ReasonKind.CONFIGS)
    if _exports(node) != _exports(old):
        yield Reason(kind=ReasonKind.PROPERTY, text="exports changed")


def _exports(node: SavedQuery) -> list[tuple[Any, ...]]:
    found = []
    for export in node.exports or ():
        config = _mapping(_mapping(export).get("unrendered_config"))
        keys = (config.get(key) for key in ("export_as", "schema", "alias"))
        found.append((_mapping(export).get("name"), *keys))
    return found


def _function(node: Function, old: Function) -> Iterator[Reason]:
    yield from _node(node, old)
    for key in ("arguments", "returns"):
        yield from _property(node, old, key)
    if _overloads(node) != _overloads(old):
        yield Reason(kind=ReasonKind.PROPERTY, text="an overload changed")


def _overloads(node: Function) -> list[list[Any]]:
    keys = ("defined_in", "arguments", "returns", "raw_body")
    return [[_mapping(item).get(key) for key in keys] for item in node.overloads or ()]


_RULES: Mapping[type[Node], Callable[[Any, Any], Iterator[Reason]]] = {
    Exposure: _exposure,
    Metric: _metric,
    SemanticModel: _semantic_model,
    SavedQuery: _saved_query,
    Function: _function,
}


def _property(
    node: Node, old: Node, key: str, kind: ReasonKind = ReasonKind.PROPERTY
) -> Iterator[Reason]:
    ours, theirs = getattr(node, key), getattr(old, key)
    if ours != theirs:
        yield Reason(kind=kind, text=_change(key.removeprefix("unrendered_"), theirs, ours))


def _change(key: str, old: Any, new: Any) -> str:
    return f"{key}: {_value(old)} → {_value(new)}"


def _value(value: Any) -> str:
    if value is None:
        return "not set"
    said = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    said = " ".join(said.split())
    return said if len(said) <= MAX_VALUE else f"{said[: MAX_VALUE - 1]}…"


def _named(names: Sequence[str]) -> str:
    listed = ", ".join(names[:MAX_NAMED])
    return f"{listed} and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else listed


def _macro_name(unique_id: str) -> str:
    return unique_id.removeprefix("macro.")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _shortest(
    start: Sequence[str], macros: Mapping[str, Macro], changed: Mapping[str, str]
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
