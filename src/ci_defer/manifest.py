"""The fields of dbt's manifest.json and run_results.json that ci-defer reads.

Owns the decoding of both files, and nothing else: what the fields mean for a pull request
is said elsewhere. Decoding is typed and partial (msgspec skips what is not declared here),
because a manifest of 5,000 models has 40 MB of which we need a tenth.

Source of the facts: https://schemas.getdbt.com/dbt/manifest/v12.json and
https://schemas.getdbt.com/dbt/run-results/v6.json
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec

from ci_defer.errors import InvalidBundle, NotJson
from ci_defer.pieces import members

# dbt Core 1.8 to 1.12 and dbt v2 all write version 12.
MANIFEST_VERSIONS = frozenset({12})
RUN_RESULTS_VERSIONS = frozenset({5, 6})

# dbt copies the variable into `metadata.env`, without the prefix.
COMMIT_IN_MANIFEST = "CI_DEFER_COMMIT"
COMMIT_VARIABLE = f"DBT_ENV_CUSTOM_ENV_{COMMIT_IN_MANIFEST}"

# A relation of these can stand in for a ref() of the pull request.
REFABLE = frozenset({"model", "seed", "snapshot"})


class Record(msgspec.Struct, frozen=True, gc=False):
    """Base of all decoded records: immutable, and left alone by the cyclic collector."""


class Metadata(Record, frozen=True, gc=False):
    """`metadata` of either file. Times are ISO 8601 in UTC."""

    dbt_schema_version: str = ""
    dbt_version: str = ""
    project_name: str | None = None
    adapter_type: str | None = None
    generated_at: str = ""
    invocation_id: str | None = None
    env: dict[str, str] = {}


class NodeConfig(Record, frozen=True, gc=False):
    """`config` of a node: what it is after Jinja. From `enabled` on, what only dbt v2 compares."""

    materialized: str | None = None
    persist_docs: Any = None
    enabled: Any = None
    access: Any = None
    alias: Any = None
    batch_size: Any = None
    begin: Any = None
    check_cols: Any = None
    column_types: Any = None
    concurrent_batches: Any = None
    dbt_valid_to_current: Any = None
    docs: Any = None
    event_time: Any = None
    file_format: Any = None
    freshness: Any = None
    full_refresh: Any = None
    grants: Any = None
    group: Any = None
    hard_deletes: Any = None
    incremental_strategy: Any = None
    invalidate_hard_deletes: Any = None
    loaded_at_field: Any = None
    loaded_at_query: Any = None
    lookback: Any = None
    merge_exclude_columns: Any = None
    merge_update_columns: Any = None
    meta: Any = None
    on_configuration_change: Any = None
    on_error: Any = None
    on_schema_change: Any = None
    packages: Any = None
    post_hook: Any = msgspec.field(name="post-hook", default=None)
    pre_hook: Any = msgspec.field(name="pre-hook", default=None)
    python_version: Any = None
    quote_columns: Any = None
    quoting: Any = None
    schema: Any = None
    snapshot_meta_column_names: Any = None
    sql_header: Any = None
    store_failures: Any = None
    static_analysis: Any = None
    strategy: Any = None
    tags: Any = None
    target_database: Any = None
    target_schema: Any = None
    type: Any = None
    unique_key: Any = None
    updated_at: Any = None
    volatility: Any = None


class DependsOn(Record, frozen=True, gc=False):
    """`depends_on` of a node: unique ids. dbt writes null for a macro that does not exist."""

    nodes: list[str] = []
    macros: list[str | None] = []


class Column(Record, frozen=True, gc=False):
    """One of `columns`: what is declared of it, not what the database has."""

    description: str | None = None
    data_type: str | None = None


class Contract(Record, frozen=True, gc=False):
    """`contract` of a model. The checksum is of columns, types and constraints."""

    enforced: bool = False
    checksum: str | None = None


class FileHash(Record, frozen=True, gc=False):
    """`checksum` of a node: of its file, or of its path where the file is too large."""

    name: str = ""
    checksum: str = ""


class TestMetadata(Record, frozen=True, gc=False):
    """`test_metadata` of a generic test: `not_null`, the package it is from, its arguments."""

    name: str = ""
    namespace: str | None = None
    kwargs: Any = None


class Node(Record, frozen=True, gc=False):
    """Anything with a unique id: node, source, exposure, metric, semantic model and so on.

    `unrendered_config` has what was written, before Jinja: dbt compares that.
    """

    unique_id: str
    name: str
    resource_type: str
    package_name: str = ""
    original_file_path: str = ""
    patch_path: str | None = None
    database: str | None = None
    schema: str | None = None
    alias: str | None = None
    relation_name: str | None = None
    checksum: FileHash | str | None = None
    raw_code: str | None = None
    config: NodeConfig = NodeConfig()
    unrendered_config: dict[str, Any] = {}
    depends_on: DependsOn = DependsOn()
    fqn: list[str] = []
    description: str | None = None
    columns: dict[str, Column] = {}
    contract: Contract = Contract()
    access: str | None = None
    latest_version: Any = None
    deprecation_date: Any = None
    test_metadata: TestMetadata | None = None
    column_name: str | None = None
    attached_node: str | None = None

    @property
    def materialized(self) -> str:
        """How it comes to be, such as `view`; empty for what is not built."""
        return getattr(self.config, "materialized", None) or ""


class Source(Node, frozen=True, gc=False):
    """A table of a source."""

    unrendered_database: str | None = None
    unrendered_schema: str | None = None
    identifier: str | None = None
    quoting: Any = None
    freshness: Any = None
    loaded_at_field: str | None = None
    loader: str | None = None
    external: Any = None


class Exposure(Node, frozen=True, gc=False):
    """Who uses the data outside of dbt."""

    type: str | None = None
    owner: Any = None
    maturity: str | None = None
    url: str | None = None
    label: str | None = None


class Metric(Node, frozen=True, gc=False):
    """A metric of the semantic layer."""

    type: str | None = None
    label: str | None = None


class SemanticModel(Node, frozen=True, gc=False):
    """A semantic model. dbt compares all of its config, rendered."""

    config: Any = None
    model: str | None = None
    defaults: Any = None
    entities: Any = None
    dimensions: Any = None
    measures: Any = None
    primary_entity: str | None = None
    group: str | None = None


class SavedQuery(Node, frozen=True, gc=False):
    """A saved query. dbt compares all of its config, rendered."""

    config: Any = None
    query_params: Any = None
    exports: Any = None
    label: str | None = None
    group: str | None = None
    tags: Any = None


class Function(Node, frozen=True, gc=False):
    """A user-defined function."""

    arguments: Any = None
    returns: Any = None
    overloads: Any = None


Resource = TypeVar("Resource", Node, Source, Function)


class Macro(Record, frozen=True, gc=False):
    """A macro or a generic test."""

    unique_id: str
    name: str = ""
    package_name: str = ""
    original_file_path: str = ""
    macro_sql: str = ""
    depends_on: DependsOn = DependsOn()


class Manifest(Record, frozen=True, gc=False):
    """manifest.json. Each mapping goes from unique id to node."""

    metadata: Metadata
    nodes: dict[str, Node] = {}
    sources: dict[str, Source] = {}
    exposures: dict[str, Exposure] = {}
    metrics: dict[str, Metric] = {}
    semantic_models: dict[str, SemanticModel] = {}
    saved_queries: dict[str, SavedQuery] = {}
    unit_tests: dict[str, Node] = {}
    functions: dict[str, Function] = {}
    macros: dict[str, Macro] = {}
    disabled: dict[str, Any] | None = None

    def find(self, unique_id: str) -> Node | None:
        """Look up any resource by its unique id."""
        # Most of them are here.
        if found := self.nodes.get(unique_id):
            return found
        for group in self._groups():
            if node := group.get(unique_id):
                return node
        return None

    def resources(self) -> Iterator[Node]:
        """All resources that `state:modified` can speak of."""
        for group in self._groups():
            yield from group.values()

    def _groups(self) -> tuple[Mapping[str, Node], ...]:
        return (
            self.nodes,
            self.sources,
            self.exposures,
            self.metrics,
            self.semantic_models,
            self.saved_queries,
            self.unit_tests,
            self.functions,
        )


class Difference(Manifest, frozen=True, gc=False):
    """What one manifest has otherwise than another. `same` has the names of the rest.

    By collection and unique id: schema and relation name.
    """

    same: dict[str, dict[str, tuple[str | None, str | None]]] = {}


class PlacedConfig(Record, frozen=True, gc=False):
    """`config` of a node, as far as it says what there is in the warehouse."""

    materialized: str | None = None
    store_failures: Any = None


class Placed(Record, frozen=True, gc=False):
    """Of a node, where it is in the warehouse."""

    unique_id: str
    name: str
    resource_type: str
    database: str | None = None
    schema: str | None = None
    alias: str | None = None
    relation_name: str | None = None
    config: PlacedConfig = PlacedConfig()

    def known(self, kind: type[Resource], config: NodeConfig) -> Resource:
        """The same, as a resource of which nothing else is known."""
        return kind(
            unique_id=self.unique_id,
            name=self.name,
            resource_type=self.resource_type,
            database=self.database,
            schema=self.schema,
            alias=self.alias,
            relation_name=self.relation_name,
            config=config,
        )


class PlacedManifest(Record, frozen=True, gc=False):
    """manifest.json, as far as it says where nodes are in the warehouse."""

    metadata: Metadata
    nodes: dict[str, Placed] = {}
    sources: dict[str, Placed] = {}
    functions: dict[str, Placed] = {}


class Compiled(Record, frozen=True, gc=False):
    """What dbt adds to a node when it runs it: the SQL, and the file it has written that to."""

    compiled_code: str | None = None
    compiled_path: str | None = None


class CompiledManifest(Record, frozen=True, gc=False):
    """manifest.json as `dbt build` writes it again, as far as it is another than before."""

    metadata: Metadata
    nodes: dict[str, Compiled] = {}
    unit_tests: dict[str, Compiled] = {}
    functions: dict[str, Compiled] = {}


class Result(Record, frozen=True, gc=False):
    """One entry of `results`. `execution_time` in seconds, `failures` in rows."""

    unique_id: str
    status: str
    execution_time: float = 0.0
    message: str | None = None
    failures: int | None = None
    compiled: bool | None = None


class RunArgs(Record, frozen=True, gc=False):
    """`args` of run_results.json: how dbt was called, `which` being the command."""

    which: str | None = None
    target: str | None = None
    profile: str | None = None
    vars: Any = None
    state_modified_compare_more_unrendered_values: bool | None = None


class RunResults(Record, frozen=True, gc=False):
    """run_results.json."""

    metadata: Metadata
    results: list[Result] = []
    args: RunArgs = RunArgs()


def read_manifest(path: Path, *, like: Manifest | None = None) -> Manifest:
    """Read a manifest.json. What is the same in `like` is the same object.

    Raises InvalidBundle when the file is missing, not JSON, truncated, not a manifest, or of a
    schema version that ci-defer does not know.
    """
    manifest = _artifact(path, Manifest, like)
    _check_version(path, manifest.metadata.dbt_schema_version, "manifest", MANIFEST_VERSIONS)
    return manifest


def read_difference(path: Path, base: Manifest) -> Manifest:
    """A manifest of which the file has what is other than in `base`, and the names of the rest.

    Raises InvalidBundle like `read_manifest`.
    """
    found = _read_whole(path, Difference)
    groups: dict[str, dict[str, Any]] = {}
    for name, same in found.same.items():
        ours, theirs = getattr(found, name, None), getattr(base, name, None)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            if unknown := sorted(same.keys() - theirs.keys()):
                raise InvalidBundle(f"The state's manifest has no {unknown[0]}; its parse has.")
            groups[name] = {**{key: _at(theirs[key], *at) for key, at in same.items()}, **ours}
    return Manifest(metadata=found.metadata, disabled=found.disabled, **groups)


def _at(node: Any, schema: str | None, relation_name: str | None) -> Any:
    """The same node, elsewhere."""
    if not isinstance(node, Node) or (node.schema, node.relation_name) == (schema, relation_name):
        return node
    return msgspec.structs.replace(node, schema=schema, relation_name=relation_name)


def read_relations(path: Path) -> Manifest:
    """A manifest.json as far as it says where nodes are in the warehouse.

    Raises InvalidBundle like `read_manifest`.
    """
    manifest = _artifact(path, PlacedManifest)
    _check_version(path, manifest.metadata.dbt_schema_version, "manifest", MANIFEST_VERSIONS)
    return Manifest(
        metadata=manifest.metadata,
        nodes=_known(manifest.nodes, Node),
        sources=_known(manifest.sources, Source),
        functions=_known(manifest.functions, Function),
    )


def _known(placed: Mapping[str, Placed], kind: type[Resource]) -> dict[str, Resource]:
    """The resources; those of the same config have one in common, as there are few."""
    configs: dict[tuple[str | None, str], NodeConfig] = {}
    found = {}
    for unique_id, node in placed.items():
        said = (node.config.materialized, repr(node.config.store_failures))
        if said not in configs:
            configs[said] = NodeConfig(
                materialized=node.config.materialized, store_failures=node.config.store_failures
            )
        found[unique_id] = node.known(kind, configs[said])
    return found


def read_compiled(path: Path) -> dict[str, Compiled]:
    """What dbt has compiled, by unique id, of the manifest.json that a build has written.

    Raises InvalidBundle like `read_manifest`.
    """
    manifest = _artifact(path, CompiledManifest)
    _check_version(path, manifest.metadata.dbt_schema_version, "manifest", MANIFEST_VERSIONS)
    groups = (manifest.nodes, manifest.unit_tests, manifest.functions)
    return {
        unique_id: compiled
        for group in groups
        for unique_id, compiled in group.items()
        if compiled.compiled_code or compiled.compiled_path
    }


def read_run_results(path: Path) -> RunResults:
    """Read a run_results.json. Raises InvalidBundle like `read_manifest`."""
    results = _read_whole(path, RunResults)
    version = results.metadata.dbt_schema_version
    _check_version(path, version, "run-results", RUN_RESULTS_VERSIONS)
    return results


Artifact = TypeVar("Artifact", Manifest, Difference, PlacedManifest, CompiledManifest, RunResults)


# The parts of a node that its neighbours are likely to have, too.
SHARED = ("config", "checksum", "package_name", "database", "schema")


@cache
def _decoders(kind: type[Artifact]) -> Mapping[str, msgspec.json.Decoder[Any]]:
    """What decodes the members of an artifact."""
    return {name: msgspec.json.Decoder(of) for name, of in get_type_hints(kind).items()}


def _artifact(path: Path, kind: type[Artifact], like: Artifact | None = None) -> Artifact:
    """Read an artifact; what is the same in `like` is the same object.

    Raises InvalidBundle.
    """
    # As a whole it is read where it has to be, also to say what is wrong with it.
    return _read_in_pieces(path, kind, like) or _read_whole(path, kind)


def _read_in_pieces(path: Path, kind: type[Artifact], like: Artifact | None) -> Artifact | None:
    found: dict[str, Any] = {}
    try:
        with path.open("rb") as file:
            for name, value in members(file, _decoders(kind)):
                if isinstance(value, dict):
                    known = getattr(like, name, None) or {}
                    _add(found.setdefault(name, {}), value, known)
                else:
                    found[name] = value
        return kind(**found)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, TypeError):
        return None


def _add(group: dict[str, Any], found: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    before: Any = None
    for unique_id, node in found.items():
        old = known.get(unique_id)
        if old is None or old != node:
            if isinstance(node, Node):
                _share(node, before)
                before = node
            old = node
        group[unique_id] = old


def _share(node: Node, before: Node | None) -> None:
    """Let a node that was just decoded have the parts of the one before that are the same.

    Neighbours are mostly of one kind and one folder, and their config is a fifth of what they take.
    """
    if before is None:
        return
    for name in SHARED:
        if getattr(node, name) == (known := getattr(before, name)):
            msgspec.structs.force_setattr(node, name, known)


def _read_whole(path: Path, kind: type[Artifact]) -> Artifact:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise InvalidBundle(f"There is no {path}.", "It is written by every dbt command.") from None
    except OSError as error:
        raise InvalidBundle(f"{path} cannot be read: {error.strerror}.") from error
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidBundle(
            f"{path} is JSON, but not a {path.name} of dbt: {error}.",
            "Let dbt write it again, with `dbt parse` or `dbt build`.",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(
            f"{path} is truncated or not JSON ({len(raw):,} bytes): {error}.",
            "Let dbt write it again, with `dbt parse` or `dbt build`.",
        ) from error


def _check_version(path: Path, url: str, kind: str, known: frozenset[int]) -> None:
    """The version is the number in `.../dbt/<kind>/v<number>.json`."""
    match = re.fullmatch(rf"https?://[^\s]+/dbt/{kind}/v(\d+)\.json", url)
    if match is None:
        raise InvalidBundle(
            f"{path} is not a {kind} of dbt: its dbt_schema_version is {url[:100]!r}.",
            "Let dbt write it again, with `dbt parse` or `dbt build`.",
        )
    if int(match[1]) not in known:
        versions = ", ".join(str(version) for version in sorted(known))
        raise InvalidBundle(
            f"{path} has {kind} schema version {match[1]}; ci-defer knows {versions}.",
            "Use dbt Core 1.8 or later, or a newer ci-defer.",
        )
