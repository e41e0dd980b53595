"""What dbt v2 compares of a node for `state:modified`, as reasons in words. Pure.

Source: `StateArtifacts` and `has_same_config` of each kind of node as of 2.0.0-preview.196
(crates/dbt-schemas/src/schemas). They change with its releases.

It records of a node which macros were called when it was parsed, so the way to one is always
direct; a macro that is new or gone counts only by the code that calls it. What is compared here
is what two manifests of v2 say. Not known from them, and so not said: that it compares data of a
seed in an older way as well, and that against a state of dbt Core it pairs tests by parts of
their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ci_defer.manifest import (
    Exposure,
    Metric,
    Node,
    NodeConfig,
    SavedQuery,
    SemanticModel,
    Source,
)
from ci_defer.report import Reason, ReasonKind
from ci_defer.rules import (
    NEW,
    NOT_COMPARED,
    OF_THE_RELATION,
    change,
    contract,
    data,
    mapping,
    moved,
    own,
)

V2 = 2
# The configs that count, as they are after Jinja.
OF_V2: Mapping[str, Sequence[str]] = {
    "model": (
        *("enabled", "meta", "materialized", "incremental_strategy", "batch_size", "lookback"),
        *("begin", "persist_docs", "post_hook", "pre_hook", "column_types", "full_refresh"),
        *("unique_key", "on_schema_change", "on_configuration_change", "on_error", "grants"),
        *("packages", "python_version", "docs", "concurrent_batches", "merge_update_columns"),
        *("merge_exclude_columns", "access", "freshness", "sql_header"),
    ),
    "seed": (
        *("column_types", "docs", "enabled", "grants", "quote_columns", "event_time"),
        *("full_refresh", "meta", "persist_docs", "post_hook", "pre_hook", "materialized"),
    ),
    "snapshot": (
        *("alias", "materialized", "strategy", "unique_key", "check_cols", "updated_at"),
        *("dbt_valid_to_current", "snapshot_meta_column_names", "hard_deletes", "target_database"),
        *("target_schema", "enabled", "pre_hook", "post_hook", "persist_docs", "grants"),
        *("event_time", "quoting", "static_analysis", "group", "quote_columns"),
        "invalidate_hard_deletes",
    ),
    "test": ("enabled", "alias", "tags", "meta", "group", "quoting"),
    "unit_test": ("enabled", "static_analysis"),
    "source": (
        *("enabled", "event_time", "freshness", "quoting", "loaded_at_field", "loaded_at_query"),
        "static_analysis",
    ),
    "analysis": ("enabled", "static_analysis"),
    "function": (
        *("enabled", "alias", "schema", "tags", "meta", "group", "docs", "grants", "quoting"),
        *("on_configuration_change", "static_analysis", "type", "volatility", "access"),
        "packages",
    ),
    "exposure": ("enabled",),
    "saved_query": ("cache", "enabled", "export_as", "schema", "group"),
}
# Of these, it is no change that Jinja made something else of the same text.
AS_WRITTEN: Mapping[str, frozenset[str]] = {
    "model": frozenset({"grants"}),
    "seed": frozenset({"column_types", "grants", "quote_columns", "meta"}),
    "snapshot": frozenset(
        {"alias", "dbt_valid_to_current", "grants", "target_database", "target_schema"}
    ),
    "test": frozenset({"tags", "meta"}),
    "function": frozenset({"grants"}),
}
# What v2 compares only where it is written differently as well.
WRITTEN_FIRST = ("model", "source")
# Configs of a warehouse, as cluster_by, count as they are written: all that v2 knows but these.
NOT_OF_A_WAREHOUSE = frozenset(
    {*NodeConfig.__struct_fields__, "contract", "database", "pre-hook", "post-hook"}
)
# The adapters that quote nothing unless they are told to.
UNQUOTED = frozenset({"snowflake"})
QUOTED = ("database", "schema", "identifier")


def is_v2(dbt_version: str) -> bool:
    """Whether this is dbt v2, which has rules of its own."""
    major = dbt_version.partition(".")[0]
    return major.isdecimal() and int(major) >= V2


def of_v2(node: Node, old: Node, *, adapter: str | None) -> Iterator[Reason]:
    """Why dbt v2 takes a node for modified, but for its macros."""
    quotes = adapter not in UNQUOTED
    kind = node.resource_type
    if kind != old.resource_type:
        yield NEW
        return
    if isinstance(node, (Metric, SemanticModel)):
        # It reads no metric from a state, and of a semantic model not all that it wrote.
        named = "metric" if isinstance(node, Metric) else "semantic model"
        said = f"dbt v2 takes every {named} for changed in every run"
        yield Reason(kind=ReasonKind.PROPERTY, text=said)
        return
    yield from contract(node, old)
    yield from _configs_of_v2(node, old, quotes=quotes)
    yield from _content_of_v2(node, old)
    if kind not in ("unit_test", "saved_query"):
        yield from _relation_of_v2(node, old)
    if kind in ("model", "seed", "snapshot"):
        yield from _descriptions_of_v2(node, old)


def _content_of_v2(node: Node, old: Node) -> Iterator[Reason]:
    kind = node.resource_type
    if isinstance(node, Source) and isinstance(old, Source):
        yield from _source_of_v2(node, old)
    elif isinstance(node, SavedQuery) and isinstance(old, SavedQuery):
        yield from _saved_query_of_v2(node, old)
    elif isinstance(node, Exposure):
        for key in ("owner", "maturity", "url", "label"):
            yield from own(node, old, key)
    elif kind not in ("test", "unit_test") and node.checksum != old.checksum:
        yield Reason(kind=ReasonKind.BODY, text=_what_changed(node, old))
    # A test of the same declaration may have another name, and the name is a part of it.
    if kind in ("test", "unit_test", "source", "exposure", "saved_query") or (
        kind in ("seed", "snapshot") and not _is_beginning(node.fqn, old.fqn)
    ):
        yield from moved(node, old)


def _what_changed(node: Node, old: Node) -> str:
    return data(node, old) if node.resource_type == "seed" else "its code changed"


def _is_beginning(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Whether one of them is where the other one begins, which v2 takes for the same place."""
    return all(one == other for one, other in zip(ours, theirs, strict=False))


def _configs_of_v2(node: Node, old: Node, *, quotes: bool) -> Iterator[Reason]:
    kind = node.resource_type
    ours, theirs = (_hooks_by_one_name(item.unrendered_config) for item in (node, old))
    written = [
        key
        for key in {**theirs, **ours}
        if not _same_when_written(ours.get(key), theirs.get(key)) and key not in NOT_COMPARED
    ]
    if kind in WRITTEN_FIRST and not written:
        return
    as_written = AS_WRITTEN.get(kind, frozenset())
    for key in OF_V2.get(kind, ()):
        if key in as_written and (key in ours or key in theirs) and key not in written:
            continue
        now, before = _config_of_v2(node, key), _config_of_v2(old, key)
        if _comparable(key, now, quotes=quotes) != _comparable(key, before, quotes=quotes):
            said = f"config {change(key.replace('_hook', '-hook'), before, now)}"
            yield Reason(kind=ReasonKind.CONFIGS, text=said)
    if kind in OF_V2 and kind not in ("test", "analysis", "exposure", "saved_query"):
        for key in written:
            # What is empty at every depth is to v2 as if nobody had said it.
            is_said = _or_none(_filled(ours.get(key))) != _or_none(_filled(theirs.get(key)))
            if key not in NOT_OF_A_WAREHOUSE and is_said:
                said = f"config {change(key, theirs.get(key), ours.get(key))}"
                yield Reason(kind=ReasonKind.CONFIGS, text=said)


def _config_of_v2(node: Node, key: str) -> Any:
    if isinstance(node, Source) and key == "quoting":
        return node.quoting
    if isinstance(node.config, dict):
        return node.config.get(key)
    return getattr(node.config, key, None)


def _hooks_by_one_name(written: Mapping[str, Any]) -> dict[str, Any]:
    names = {"pre_hook": "pre-hook", "post_hook": "post-hook"}
    return {names.get(key, key): value for key, value in written.items()}


def _same_when_written(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, str) and isinstance(theirs, str):
        return ours.removesuffix("\n") == theirs.removesuffix("\n")
    return bool(_or_none(ours) == _or_none(theirs))


def _or_none(value: Any) -> Any:
    return None if value in ([], {}) else value


def _comparable(key: str, value: Any, *, quotes: bool) -> Any:
    """What v2 compares of a config: what is not said is what v2 takes for it."""
    if key == "quoting":
        told = mapping(value)
        return [quotes if told.get(part) is None else told.get(part) for part in QUOTED]
    if key in ("freshness", "snapshot_meta_column_names", "persist_docs"):
        return _or_none(_filled(value))
    if key == "tags":
        return sorted([value] if isinstance(value, str) else value or [])
    if key == "column_types":
        types = mapping(value)
        return {name.lower(): str(types[name]).lower() for name in types}
    return _or_none(value)


def _filled(value: Any) -> Any:
    """A mapping without what is empty in it, at any depth."""
    if not isinstance(value, dict):
        return value
    inner = {key: _filled(item) for key, item in value.items()}
    return {key: item for key, item in inner.items() if item not in (None, {}, [])}


def _source_of_v2(node: Source, old: Source) -> Iterator[Reason]:
    yield from own(node, old, "loader")
    ours, theirs = (
        (item.relation_name or "").rpartition(".")[2] if item.identifier else ""
        for item in (node, old)
    )
    if ours != theirs and node.identifier == old.identifier:
        yield Reason(kind=ReasonKind.PROPERTY, text=change("relation", theirs, ours))


def _saved_query_of_v2(node: SavedQuery, old: SavedQuery) -> Iterator[Reason]:
    for key in ("description", "label", "tags", "exports"):
        yield from own(node, old, key)
    ours, theirs = mapping(node.query_params), mapping(old.query_params)
    for key in ("group_by", "where"):
        if ours.get(key) != theirs.get(key):
            said = change(key, theirs.get(key), ours.get(key))
            yield Reason(kind=ReasonKind.PROPERTY, text=said)


def _relation_of_v2(node: Node, old: Node) -> Iterator[Reason]:
    if isinstance(node, Source) and isinstance(old, Source):
        is_written = all(
            item.unrendered_database and item.unrendered_schema for item in (node, old)
        )
        keys = (
            ("unrendered_database", "unrendered_schema")
            if is_written
            else ("database", "schema", "identifier")
        )
        for key in keys:
            yield from own(node, old, key, ReasonKind.RELATION)
        return
    for key in OF_THE_RELATION:
        before, now = (
            value if isinstance(value := item.unrendered_config.get(key), str) else None
            for item in (old, node)
        )
        if now != before:
            yield Reason(kind=ReasonKind.RELATION, text=change(key, before, now))


def _descriptions_of_v2(node: Node, old: Node) -> Iterator[Reason]:
    kept, before = (_filled(mapping(item.config.persist_docs)) for item in (node, old))
    for key in ("relation", "columns"):
        if bool(kept.get(key)) != bool(before.get(key)):
            said = change(f"persist_docs {key}", before.get(key), kept.get(key))
            yield Reason(kind=ReasonKind.DESCRIPTIONS, text=said)
            return
    if kept.get("relation") and _text(node.description) != _text(old.description):
        yield Reason(kind=ReasonKind.DESCRIPTIONS, text="its description changed (persist_docs)")
    if kept.get("columns"):
        ours, theirs = (
            [_text(column.description) for column in item.columns.values()] for item in (node, old)
        )
        if not _same_texts(ours, theirs):
            said = "the description of a column changed (persist_docs)"
            yield Reason(kind=ReasonKind.DESCRIPTIONS, text=said)


def _text(text: str | None) -> str:
    """A description as v2 compares it: without space, and with straight quotes."""
    return "".join((text or "").translate(STRAIGHT).split())


STRAIGHT = str.maketrans("\u201c\u201d\u2018\u2019", "\"\"''")


def _same_texts(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Whether v2 takes the descriptions of columns for the same: it does not ask whose they are."""
    fewer, more = sorted((theirs, ours), key=len) if len(theirs) < len(ours) else (ours, theirs)
    if not any(fewer) and not any(more):
        return True
    known = [text for text in more if text in fewer]
    return not any(text and text not in fewer for text in more) and len(known) >= len(fewer)


def declaration(node: Node) -> str | None:
    """What a generic test declares, without its name. None of what is no such test."""
    if node.resource_type != "test" or node.test_metadata is None or not node.attached_node:
        return None
    told = node.test_metadata
    arguments = {key: value for key, value in mapping(told.kwargs).items() if key != "model"}
    said = (told.name, told.namespace, node.attached_node, node.column_name, arguments)
    return msgspec.json.encode(said, order="sorted").decode()
