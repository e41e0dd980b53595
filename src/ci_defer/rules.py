"""What dbt Core compares of a node for `state:modified`, as reasons in words. Pure.

Source: `same_contents` of each kind of node in dbt-core 1.11 and 1.12
(core/dbt/contracts/graph/nodes.py). The rules of dbt v2 are others (`rules_v2`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ci_defer.manifest import (
    Exposure,
    FileHash,
    Function,
    Metric,
    Node,
    SavedQuery,
    SemanticModel,
    Source,
)
from ci_defer.report import Reason, ReasonKind
from ci_defer.wording import listing

# What dbt compares under another name, or not at all. An unknown key counts.
NOT_COMPARED = frozenset({"alias", "schema", "database", "tags", "group"})
OF_THE_RELATION = ("database", "schema", "alias")
# The only config of a test that counts; the last one from dbt 1.12 on.
OF_A_TEST = (
    *("severity", "where", "limit", "fail_calc", "warn_if", "error_if"),
    *("store_failures", "store_failures_as", "sql_header"),
)
MAX_VALUE = 60
MAX_NAMED = 3

NEW = Reason(kind=ReasonKind.NEW, text="new")


def of_core(node: Node, old: Node, *, dbt_version: str, unrendered: bool) -> Iterator[Reason]:
    """Why dbt Core takes a node for modified, but for its macros.

    `unrendered` is dbt's flag state_modified_compare_more_unrendered_values.
    """
    if isinstance(node, Source) and isinstance(old, Source):
        yield from _source(node, old, unrendered=unrendered)
    elif node.resource_type == "test":
        yield from _test(node, old, dbt_version)
    elif node.resource_type == "unit_test":
        yield from _unit_test(node, old)
    elif type(node) is type(old):
        yield from _RULES.get(type(node), _node)(node, old)
    else:
        yield NEW


def is_at_least_1_12(dbt_version: str) -> bool:
    """Whether a version of dbt Core, as a manifest names it, is 1.12 or later."""
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
    yield from contract(node, old)
    yield from moved(node, old)
    if node.resource_type == "model":
        yield from own(node, old, "access", ReasonKind.ACCESS)
        yield from own(node, old, "latest_version", ReasonKind.ACCESS)
        yield from own(node, old, "deprecation_date", ReasonKind.ACCESS)


def _test(node: Node, old: Node, dbt_version: str) -> Iterator[Reason]:
    keys = OF_A_TEST if is_at_least_1_12(dbt_version) else OF_A_TEST[:-1]
    yield from _configs(node, old, only=keys)
    # What a generic test says is made from its declaration: dbt does not look at it.
    if node.test_metadata is None:
        yield from _body(node, old)
        yield from _relation(node, old)
    yield from moved(node, old)


def _body(node: Node, old: Node) -> Iterator[Reason]:
    if node.resource_type == "seed":
        if node.checksum != old.checksum:
            yield Reason(kind=ReasonKind.BODY, text=data(node, old))
    elif node.raw_code != old.raw_code:
        yield Reason(kind=ReasonKind.BODY, text="its code changed")


def data(node: Node, old: Node) -> str:
    """What became of the data of a seed."""
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
                text=f"config {change(key, theirs.get(key), ours.get(key))}",
            )


def _relation(node: Node, old: Node) -> Iterator[Reason]:
    ours, theirs = node.unrendered_config, old.unrendered_config
    for key in OF_THE_RELATION:
        if ours.get(key) != theirs.get(key):
            yield Reason(kind=ReasonKind.RELATION, text=change(key, theirs.get(key), ours.get(key)))


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
            said = f"the description of {listing(names)} changed (persist_docs)"
            yield Reason(kind=ReasonKind.DESCRIPTIONS, text=said)


def contract(node: Node, old: Node) -> Iterator[Reason]:
    """Whether a contract is enforced, and what it says."""
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
        said.append(f"without {listing(gone)}")
    if added := [name for name in node.columns if name not in old.columns]:
        said.append(f"with {listing(added)}")
    said += [
        change(name, old.columns[name].data_type, column.data_type)
        for name, column in node.columns.items()
        if name in old.columns and column.data_type != old.columns[name].data_type
    ][:MAX_NAMED]
    return f": {', '.join(said)}" if said else ""


def moved(node: Node, old: Node) -> Iterator[Reason]:
    """Another place in the project, by its fqn."""
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
        yield from own(node, old, key, ReasonKind.RELATION)
    yield from moved(node, old)
    yield from _configs(node, old, but=frozenset())
    for key in ("quoting", "freshness", "loaded_at_field", "external"):
        yield from own(node, old, key)


def _exposure(node: Exposure, old: Exposure) -> Iterator[Reason]:
    yield from moved(node, old)
    for key in ("type", "owner", "maturity", "url", "description", "label"):
        yield from own(node, old, key)
    if {*node.depends_on.nodes} != {*old.depends_on.nodes}:
        yield Reason(kind=ReasonKind.PROPERTY, text="what it depends on changed")
    yield from _configs(node, old, but=frozenset())


def _metric(node: Metric, old: Metric) -> Iterator[Reason]:
    for key in ("type", "description", "label"):
        yield from own(node, old, key)
    yield from _configs(node, old, but=frozenset({"group"}))


def _semantic_model(node: SemanticModel, old: SemanticModel) -> Iterator[Reason]:
    for key in (
        *("model", "description", "defaults", "entities", "dimensions", "measures"),
        *("primary_entity", "group"),
    ):
        yield from own(node, old, key)
    yield from own(node, old, "config", ReasonKind.CONFIGS)


def _saved_query(node: SavedQuery, old: SavedQuery) -> Iterator[Reason]:
    ours, theirs = mapping(node.query_params), mapping(old.query_params)
    for key in ("metrics", "group_by", "where"):
        if ours.get(key) != theirs.get(key):
            yield Reason(kind=ReasonKind.PROPERTY, text=change(key, theirs.get(key), ours.get(key)))
    for key in ("description", "label", "group", "tags"):
        yield from own(node, old, key)
    yield from own(node, old, "config", ReasonKind.CONFIGS)
    if _exports(node) != _exports(old):
        yield Reason(kind=ReasonKind.PROPERTY, text="exports changed")


def _exports(node: SavedQuery) -> list[tuple[Any, ...]]:
    found = []
    for export in node.exports or ():
        config = mapping(mapping(export).get("unrendered_config"))
        keys = (config.get(key) for key in ("export_as", "schema", "alias"))
        found.append((mapping(export).get("name"), *keys))
    return found


def _function(node: Function, old: Function) -> Iterator[Reason]:
    yield from _node(node, old)
    for key in ("arguments", "returns"):
        yield from own(node, old, key)
    if _overloads(node) != _overloads(old):
        yield Reason(kind=ReasonKind.PROPERTY, text="an overload changed")


def _overloads(node: Function) -> list[list[Any]]:
    keys = ("defined_in", "arguments", "returns", "raw_body")
    return [[mapping(item).get(key) for key in keys] for item in node.overloads or ()]


_RULES: Mapping[type[Node], Callable[[Any, Any], Iterator[Reason]]] = {
    Exposure: _exposure,
    Metric: _metric,
    SemanticModel: _semantic_model,
    SavedQuery: _saved_query,
    Function: _function,
}


def own(
    node: Node, old: Node, key: str, kind: ReasonKind = ReasonKind.PROPERTY
) -> Iterator[Reason]:
    """One field of a node, when it changed."""
    ours, theirs = getattr(node, key), getattr(old, key)
    if ours != theirs:
        yield Reason(kind=kind, text=change(key.removeprefix("unrendered_"), theirs, ours))


def change(key: str, old: Any, new: Any) -> str:
    """The old and the new value, cut when long: key: old → new."""
    return f"{key}: {_value(old)} → {_value(new)}"


def _value(value: Any) -> str:
    if value is None:
        return "not set"
    said = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    said = " ".join(said.split())
    return said if len(said) <= MAX_VALUE else f"{said[: MAX_VALUE - 1]}…"


def mapping(value: Any) -> Mapping[str, Any]:
    """The value, or an empty one where it is no mapping."""
    return value if isinstance(value, dict) else {}
