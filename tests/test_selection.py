"""The rules of selection, one by one; tests/e2e/test_reasons.py holds them against dbt itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from ci_defer.manifest import Manifest
from ci_defer.report import ReasonKind
from ci_defer.selection import Explained, default_of_compares_unrendered
from tests.samples import manifest, node

A, B, C, D = (f"model.shop.{name}" for name in "abcd")
SEED = "seed.shop.countries"
TEST = "test.shop.not_null_a_id.1a2b"
SOURCE = "source.shop.raw.orders"
EXPOSURE = "exposure.shop.board"
METRIC = "metric.shop.revenue"
SEMANTIC_MODEL = "semantic_model.shop.orders"
SAVED_QUERY = "saved_query.shop.weekly"
UNIT_TEST = "unit_test.shop.a.adds_up"
FUNCTION = "function.shop.area"

GROUPS = {
    "source": "sources",
    "exposure": "exposures",
    "metric": "metrics",
    "semantic_model": "semantic_models",
    "saved_query": "saved_queries",
    "unit_test": "unit_tests",
    "function": "functions",
}


def project(*nodes: Mapping[str, Any], macros: Mapping[str, Any] | None = None) -> Manifest:
    """A manifest; a macro is `{name: (its SQL, the macros it calls)}`."""
    document = manifest([item for item in nodes if item["resource_type"] not in GROUPS])
    for item in nodes:
        if group := GROUPS.get(item["resource_type"]):
            document.setdefault(group, {})[item["unique_id"]] = item
    document["macros"] = {
        name: {
            "unique_id": name,
            "name": name,
            "macro_sql": sql,
            "depends_on": {"macros": list(calls)},
        }
        for name, (sql, *calls) in (macros or {}).items()
    }
    return msgspec.json.decode(json.dumps(document), type=Manifest)


def reads(unique_id: str, *parents: str, macros: tuple[str, ...] = (), **more: Any) -> Any:
    depends_on = {"nodes": list(parents), "macros": list(macros)}
    return node(unique_id, **{"depends_on": depends_on, "raw_code": "select 1", **more})


def reasons(
    unique_id: str, ours: Manifest, theirs: Manifest, *, unrendered: bool = True
) -> list[tuple[ReasonKind, str]]:
    explained = Explained(ours, theirs, compares_unrendered=unrendered)
    return [(reason.kind, reason.text) for reason in explained.reasons(unique_id)]


def compared(unique_id: str, old: Any, new: Any, **more: Any) -> list[tuple[ReasonKind, str]]:
    """The reasons of a node that had the fields `old` and has the fields `new`."""
    return reasons(
        unique_id, project(reads(unique_id, **new)), project(reads(unique_id, **old)), **more
    )


def configured(**values: Any) -> dict[str, Any]:
    return {"unrendered_config": values}


BODY, CONFIGS, RELATION = ReasonKind.BODY, ReasonKind.CONFIGS, ReasonKind.RELATION
PROPERTY, ACCESS, CONTRACT = ReasonKind.PROPERTY, ReasonKind.ACCESS, ReasonKind.CONTRACT
DESCRIPTIONS = ReasonKind.DESCRIPTIONS
PERSISTED = {"config": {"persist_docs": {"relation": True, "columns": True}}}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"raw_code": "a"}, {"raw_code": "b"}, [(BODY, "its code changed")]),
        (
            configured(materialized="view"),
            configured(materialized="table"),
            [(CONFIGS, "config materialized: view → table")],
        ),
        (
            configured(),
            configured(grants={"select": ["x"]}),
            [(CONFIGS, 'config grants: not set → {"select":["x"]}')],
        ),
        (configured(a=1, b=[2]), configured(b=[2], a=1), []),
        (configured(enabled=None), configured(), [(CONFIGS, "config enabled: not set → not set")]),
        (configured(tags=["a"], group="x"), configured(tags=["b"], group="y"), []),
        (
            configured(schema="a", alias="x"),
            configured(schema="b", alias="y"),
            [(RELATION, "schema: a → b"), (RELATION, "alias: x → y")],
        ),
        ({"description": "a"}, {"description": "b"}, []),
        (
            {**PERSISTED, "description": "a"},
            {**PERSISTED, "description": "b"},
            [(DESCRIPTIONS, "its description changed (persist_docs)")],
        ),
        (
            {**PERSISTED, "columns": {"id": {"description": "a"}}},
            {**PERSISTED, "columns": {"id": {"description": "b"}, "n": {"description": "c"}}},
            [(DESCRIPTIONS, "the description of id, n changed (persist_docs)")],
        ),
        (
            {"contract": {"enforced": False}},
            {"contract": {"enforced": True, "checksum": "x"}},
            [(CONTRACT, "its contract is enforced now")],
        ),
        (
            {
                "contract": {"enforced": True, "checksum": "x"},
                "columns": {"a": {"data_type": "int"}, "b": {}},
            },
            {
                "contract": {"enforced": True, "checksum": "y"},
                "columns": {"a": {"data_type": "text"}, "c": {}},
            },
            [(CONTRACT, "its contract changed: without b, with c, a: int → text")],
        ),
        (
            {"contract": {"enforced": False, "checksum": "x"}},
            {"contract": {"enforced": False, "checksum": "y"}},
            [],
        ),
        ({"access": "protected"}, {"access": "private"}, [(ACCESS, "access: protected → private")]),
        ({"latest_version": 1}, {"latest_version": 2}, [(ACCESS, "latest_version: 1 → 2")]),
        (
            {"deprecation_date": None},
            {"deprecation_date": "2027-01-01"},
            [(ACCESS, "deprecation_date: not set → 2027-01-01")],
        ),
        (
            {"fqn": ["shop", "a"], "original_file_path": "models/a.sql"},
            {"fqn": ["shop", "x", "a"], "original_file_path": "models/x/a.sql"},
            [(ReasonKind.MOVED, "moved: models/a.sql → models/x/a.sql")],
        ),
        # What dbt does not look at.
        (
            {"compiled_code": "a", "relation_name": "x"},
            {"compiled_code": "b", "relation_name": "y"},
            [],
        ),
    ],
)
def test_model__is_modified_by_what_dbt_compares(
    old: Any, new: Any, expected: list[tuple[ReasonKind, str]]
) -> None:
    chosen = [(ReasonKind.CHOSEN, "chosen by the setting select")]
    assert compared(A, old, new) == (expected or chosen)


@pytest.mark.parametrize(
    ("unique_id", "old", "new", "expected"),
    [
        (
            SEED,
            {"checksum": {"name": "sha256", "checksum": "a"}},
            {"checksum": {"name": "sha256", "checksum": "b"}},
            (BODY, "its data changed"),
        ),
        (
            SEED,
            {"checksum": {"name": "path", "checksum": "a"}},
            {"checksum": {"name": "path", "checksum": "b"}},
            (BODY, "its file was moved, and is too large for dbt to compare the data"),
        ),
        (
            UNIT_TEST,
            {"checksum": "a"},
            {"checksum": "b"},
            (BODY, "its rows, its expectation or its overrides changed"),
        ),
        (
            TEST,
            configured(severity="warn"),
            configured(severity="error"),
            (CONFIGS, "config severity: warn → error"),
        ),
        (
            SOURCE,
            {"unrendered_schema": "a"},
            {"unrendered_schema": "b"},
            (RELATION, "schema: a → b"),
        ),
        (
            SOURCE,
            {"freshness": {"x": 1}},
            {"freshness": None},
            (PROPERTY, 'freshness: {"x":1} → not set'),
        ),
        (SOURCE, {"identifier": "a"}, {"identifier": "b"}, (RELATION, "identifier: a → b")),
        (EXPOSURE, {"url": "a"}, {"url": "b"}, (PROPERTY, "url: a → b")),
        (
            EXPOSURE,
            {"owner": {"name": "a"}},
            {"owner": {"name": "b"}},
            (PROPERTY, 'owner: {"name":"a"} → {"name":"b"}'),
        ),
        (METRIC, {"type": "simple"}, {"type": "ratio"}, (PROPERTY, "type: simple → ratio")),
        (
            SEMANTIC_MODEL,
            {"model": "ref('a')"},
            {"model": "ref('b')"},
            (PROPERTY, "model: ref('a') → ref('b')"),
        ),
        (
            SEMANTIC_MODEL,
            {"config": {"enabled": True}},
            {"config": {"enabled": True, "meta": {"a": 1}}},
            (CONFIGS, "config:"),
        ),
        (
            SAVED_QUERY,
            {"query_params": {"where": "a"}},
            {"query_params": {"where": "b"}},
            (PROPERTY, "where: a → b"),
        ),
        (SAVED_QUERY, {"exports": [{"name": "a"}]}, {"exports": []}, (PROPERTY, "exports changed")),
        (
            FUNCTION,
            {"returns": {"data_type": "int"}},
            {"returns": {"data_type": "text"}},
            (PROPERTY, "returns:"),
        ),
    ],
)
def test_others__have_rules_of_their_own(
    unique_id: str, old: Any, new: Any, expected: tuple[ReasonKind, str]
) -> None:
    [(kind, said)] = compared(unique_id, old, new)
    assert (kind, said.startswith(expected[1])) == (expected[0], True), said


def test_generic_test__is_not_modified_by_the_code_that_dbt_makes_of_it() -> None:
    made = {"test_metadata": {"name": "not_null"}}
    [(kind, _)] = compared(TEST, {**made, "raw_code": "a"}, {**made, "raw_code": "b"})
    assert kind is ReasonKind.CHOSEN
    assert compared(TEST, {"raw_code": "a"}, {"raw_code": "b"}) == [(BODY, "its code changed")]


@pytest.mark.parametrize(("unrendered", "expected"), [(True, ReasonKind.CHOSEN), (False, RELATION)])
def test_source__is_compared_as_the_flag_of_dbt_says(
    unrendered: bool, expected: ReasonKind
) -> None:
    made = {"unrendered_schema": "{{ target.schema }}"}
    found = compared(
        SOURCE, {**made, "schema": "a"}, {**made, "schema": "b"}, unrendered=unrendered
    )
    assert [kind for kind, _ in found] == [expected]


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.8.9", False), ("1.11.0", False), ("1.12.0rc1", True), ("2.0.0", True), ("", True)],
)
def test_default_of_the_flag__is_that_of_the_version(version: str, expected: bool) -> None:
    assert default_of_compares_unrendered(version) is expected


# New --------------------------------------------------------------------------------------------


def test_new__is_all_that_is_said_of_a_new_node() -> None:
    assert reasons(A, project(reads(A)), project()) == [(ReasonKind.NEW, "new")]


@pytest.mark.parametrize("unique_id", [SOURCE, EXPOSURE, METRIC, SEMANTIC_MODEL, SAVED_QUERY])
def test_new__is_not_modified_to_dbt_for_some_kinds(unique_id: str) -> None:
    ours = project(reads(unique_id), reads(B, unique_id))
    theirs = project(reads(B, unique_id))
    assert reasons(unique_id, ours, theirs) == [(ReasonKind.NEW, "new")]
    assert reasons(B, ours, theirs) == [(ReasonKind.CHOSEN, "chosen by the setting select")]


# Macros -----------------------------------------------------------------------------------------


def test_macros__say_which_one_changed_and_the_shortest_way_to_it() -> None:
    calls = {
        "macro.shop.x": ("x", "macro.p.y"),
        "macro.p.y": ("y", "macro.p.z"),
        "macro.p.w": ("w",),
    }
    ours = {**calls, "macro.p.z": ("new",)}
    theirs = {**calls, "macro.p.z": ("old",)}
    direct = reads(A, macros=("macro.p.w", "macro.p.z"))
    far = reads(B, macros=("macro.shop.x",))
    both = project(direct, far, macros=ours), project(direct, far, macros=theirs)
    assert reasons(A, *both) == [(ReasonKind.MACROS, "macro p.z changed")]
    assert reasons(B, *both) == [
        (ReasonKind.MACROS, "macro p.z changed, used through shop.x → p.y")
    ]


def test_macros__that_are_new_or_gone_are_changes() -> None:
    uses = reads(A, macros=("macro.shop.x",))
    other = reads(B, macros=("macro.shop.y",))
    ours = project(uses, other, macros={"macro.shop.x": ("x",)})
    theirs = project(uses, other, macros={"macro.shop.y": ("y",)})
    assert reasons(A, ours, theirs) == [(ReasonKind.MACROS, "macro shop.x is new")]
    assert reasons(B, ours, theirs) == [(ReasonKind.MACROS, "macro shop.y is gone")]


def test_macros__that_call_each_other_end() -> None:
    circle = {"macro.shop.x": ("x", "macro.shop.y"), "macro.shop.y": ("y", "macro.shop.x")}
    uses = reads(A, macros=("macro.shop.x",))
    changed = {"macro.shop.other": ("new",)}
    ours, theirs = project(uses, macros={**circle, **changed}), project(uses, macros=circle)
    assert reasons(A, ours, theirs) == [(ReasonKind.CHOSEN, "chosen by the setting select")]


# Downstream -------------------------------------------------------------------------------------


def test_downstream__names_the_nearest_change_and_the_distance() -> None:
    chain = [reads(B, A), reads(C, B), reads(TEST, A, attached_node=A), reads(EXPOSURE, C)]
    ours = project({**reads(A), "raw_code": "new"}, *chain)
    theirs = project(reads(A), *chain)
    assert reasons(B, ours, theirs) == [(ReasonKind.DOWNSTREAM, "downstream of a")]
    assert reasons(C, ours, theirs) == [(ReasonKind.DOWNSTREAM, "downstream of a (2 steps)")]
    assert reasons(EXPOSURE, ours, theirs) == [(ReasonKind.DOWNSTREAM, "downstream of a (3 steps)")]
    assert reasons(TEST, ours, theirs) == [(ReasonKind.DOWNSTREAM, "tests a")]


def test_downstream__of_several_names_some() -> None:
    names = [f"model.shop.m{index}" for index in range(5)]
    end = reads(A, *names)
    ours = project(*({**reads(name), "raw_code": "new"} for name in names), end)
    theirs = project(*(reads(name) for name in names), end)
    assert reasons(A, ours, theirs) == [
        (ReasonKind.DOWNSTREAM, "downstream of m0, m1, m2 and 2 more")
    ]


def test_downstream__of_what_was_not_selected_is_found_too() -> None:
    # `--exclude` leaves the cause out, and dbt still selects what reads it.
    ours = project({**reads(A), "raw_code": "new"}, reads(B, A))
    theirs = project(reads(A), reads(B, A))
    assert reasons(B, ours, theirs) == [(ReasonKind.DOWNSTREAM, "downstream of a")]


def test_values__are_cut_when_they_are_long() -> None:
    [(_, said)] = compared(A, configured(pre_hook="x" * 500), configured(pre_hook="y\n  y"))
    assert said == f"config pre_hook: {'x' * 59}… → y y"


# What JSON does not show ------------------------------------------------------------------------


def test_date__that_dbt_takes_for_changed_in_every_run_is_named() -> None:
    # Read from YAML it is a date, and from the state's JSON a text: dbt finds them different.
    dated = reads(A, **configured(begin="2024-01-01"))
    made = project(dated, reads(B, A), reads(C))
    [(kind, said)] = reasons(A, made, made)
    assert (kind, said) == (
        CONFIGS,
        "config begin holds a date, which dbt takes for changed in every run: quote it",
    )
    assert reasons(B, made, made) == [(ReasonKind.DOWNSTREAM, "downstream of a")]
    assert reasons(C, made, made) == [(ReasonKind.CHOSEN, "chosen by the setting select")]


def test_date__is_no_reason_where_there_is_another_one() -> None:
    old, new = configured(begin="2024-01-01", a=1), configured(begin="2024-01-01", a=2)
    assert compared(A, old, new) == [(CONFIGS, "config a: 1 → 2")]


# dbt v2 -------------------------------------------------------------------------------------------


def of_v2(
    *nodes: Mapping[str, Any], macros: Mapping[str, Any] | None = None, adapter: str = "duckdb"
) -> Manifest:
    made = project(*nodes, macros=macros)
    metadata = msgspec.structs.replace(
        made.metadata, dbt_version="2.0.0-preview.196", adapter_type=adapter
    )
    return msgspec.structs.replace(made, metadata=metadata)


def with_config(written: Mapping[str, Any], rendered: Mapping[str, Any]) -> dict[str, Any]:
    return {"unrendered_config": written, "config": rendered}


BOTH = {"meta": {"a": 1}}
TESTED: dict[str, Any] = {
    "attached_node": A,
    "column_name": "id",
    "test_metadata": {"name": "not_null", "kwargs": {"column_name": "id", "model": "x"}},
}


@pytest.mark.parametrize(
    ("unique_id", "old", "new", "expected"),
    [
        # A model counts by its checksum, not by its code, and not by its place.
        (A, {"raw_code": "a"}, {"raw_code": "b"}, []),
        (A, {"checksum": "1"}, {"checksum": "2"}, [(BODY, "its code changed")]),
        (A, {"fqn": ["shop", "a"]}, {"fqn": ["shop", "x", "a"]}, []),
        (A, {"access": "public"}, {"access": "private"}, []),
        # A config has to be written differently, and to come to something else.
        (A, with_config({}, {}), with_config(BOTH, {}), []),
        (A, with_config({}, {}), with_config({}, BOTH), []),
        (
            A,
            with_config({}, {}),
            with_config(BOTH, BOTH),
            [(CONFIGS, 'config meta: not set → {"a":1}')],
        ),
        (A, with_config({"meta": {}}, {"meta": {}}), with_config({}, {}), []),
        # One that it does not know is nothing as long as nothing is in it.
        (A, with_config({}, {}), with_config({"bespoke": {"a": None}}, {}), []),
        (
            A,
            with_config({}, {}),
            with_config({"bespoke": {"a": 1}}, {}),
            [(CONFIGS, 'config bespoke: not set → {"a":1}')],
        ),
        (
            A,
            with_config({"pre_hook": "a"}, {"pre-hook": [{"sql": "a"}]}),
            with_config({"pre-hook": "a\n"}, {"pre-hook": []}),
            [],
        ),
        (
            A,
            with_config({}, {}),
            with_config({"pre_hook": "a"}, {"pre-hook": ["a"]}),
            [(CONFIGS, 'config pre-hook: not set → ["a"]')],
        ),
        (
            A,
            configured(),
            configured(cluster_by="a"),
            [(CONFIGS, "config cluster_by: not set → a")],
        ),
        (A, configured(), configured(event_time="a", tags=["x"], contract={}), []),
        (A, configured(schema="a"), configured(schema="b"), [(RELATION, "schema: a → b")]),
        # A seed need not be written differently; some of its configs must not be the same text.
        (
            SEED,
            with_config({}, {"docs": {"show": True}}),
            with_config({}, {"docs": {"show": False}}),
            [(CONFIGS, 'config docs: {"show":true} → {"show":false}')],
        ),
        (
            SEED,
            with_config({"meta": "{{ x }}"}, {"meta": {"a": 1}}),
            with_config({"meta": "{{ x }}"}, {"meta": {"a": 2}}),
            [],
        ),
        (
            SEED,
            {"config": {"column_types": {"A": "INT"}}},
            {"config": {"column_types": {"a": "int"}}},
            [],
        ),
        (SEED, {"fqn": ["shop"]}, {"fqn": ["shop", "countries"]}, []),
        (
            SEED,
            {"fqn": ["shop", "a", "b"]},
            {"fqn": ["shop", "b"]},
            [(ReasonKind.MOVED, "moved: shop.a.b → shop.b")],
        ),
        # A test counts by its tags, not by its code or where it fails.
        (TEST, {"raw_code": "a"}, {"raw_code": "b"}, []),
        (TEST, {"config": {"severity": "warn"}}, {"config": {"severity": "error"}}, []),
        (TEST, {"config": {"tags": ["a", "b"]}}, {"config": {"tags": ["b", "a"]}}, []),
        (
            TEST,
            {"config": {"tags": "a"}},
            {"config": {"tags": ["b"]}},
            [(CONFIGS, 'config tags: a → ["b"]')],
        ),
        (UNIT_TEST, {"checksum": "1"}, {"checksum": "2"}, []),
        (
            SOURCE,
            {"loader": "a", "external": 1},
            {"loader": "b", "external": 2},
            [(PROPERTY, "loader: a → b")],
        ),
        (SOURCE, {"schema": "a"}, {"schema": "b"}, [(RELATION, "schema: a → b")]),
        (
            SOURCE,
            {"schema": "a", "unrendered_schema": "x", "unrendered_database": "y"},
            {"schema": "b", "unrendered_schema": "x", "unrendered_database": "y"},
            [],
        ),
        (
            SOURCE,
            {"quoting": {"schema": True}},
            {"quoting": {}, "unrendered_config": BOTH},
            [],
        ),
        (
            SOURCE,
            with_config({}, {"freshness": None}),
            with_config(BOTH, {"freshness": {"warn_after": {"count": None}}}),
            [],
        ),
        (EXPOSURE, {"description": "a"}, {"description": "b"}, []),
        (EXPOSURE, {"url": "a"}, {"url": "b"}, [(PROPERTY, "url: a → b")]),
        (FUNCTION, {"returns": "a"}, {"returns": "b"}, []),
    ],
)
def test_dbt_v2__has_rules_of_its_own(
    unique_id: str, old: Any, new: Any, expected: list[tuple[ReasonKind, str]]
) -> None:
    ours, theirs = of_v2(reads(unique_id, **new)), of_v2(reads(unique_id, **old))
    assert reasons(unique_id, ours, theirs) == (expected or CHOSEN)


CHOSEN = [(ReasonKind.CHOSEN, "chosen by the setting select")]


def test_dbt_v2__takes_quoting_that_is_not_set_for_that_of_the_adapter() -> None:
    old = reads(SOURCE, quoting={"schema": True})
    new = reads(SOURCE, quoting={}, unrendered_config=BOTH)
    assert reasons(SOURCE, of_v2(new, adapter="snowflake"), of_v2(old)) == [
        (CONFIGS, 'config quoting: {"schema":true} → {}')
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"description": "It\u2019s  so"}, {"description": "It's so"}, []),
        (
            {"description": "a"},
            {"description": "b"},
            [(DESCRIPTIONS, "its description changed (persist_docs)")],
        ),
        ({"columns": {"a": {"description": "x"}}}, {"columns": {"b": {"description": "x"}}}, []),
        ({"columns": {}}, {"columns": {"a": {}, "b": {}}}, []),
        (
            {"columns": {"a": {"description": "x"}}},
            {"columns": {"a": {"description": "y"}}},
            [(DESCRIPTIONS, "the description of a column changed (persist_docs)")],
        ),
        (
            {"config": {}},
            {},
            [(DESCRIPTIONS, "persist_docs relation: not set → true")],
        ),
    ],
)
def test_dbt_v2__persisted_descriptions(
    old: Any, new: Any, expected: list[tuple[ReasonKind, str]]
) -> None:
    ours, theirs = of_v2(reads(A, **{**PERSISTED, **new})), of_v2(reads(A, **{**PERSISTED, **old}))
    assert reasons(A, ours, theirs) == (expected or CHOSEN)


def test_dbt_v2__a_test_with_another_name_is_the_same_test() -> None:
    renamed = "test.shop.id_is_there.3c4d"
    place: dict[str, Any] = {"original_file_path": "models/a.yml"}
    theirs = of_v2(reads(TEST, fqn=["shop", "x"], **place, **TESTED))
    ours = of_v2(reads(renamed, fqn=["shop", "y"], **place, **TESTED))
    assert reasons(renamed, ours, theirs) == [(ReasonKind.MOVED, "moved: shop.x → shop.y")]
    # Of two that are alike nobody knows which one it was.
    twice = of_v2(reads(TEST, **TESTED), reads(f"{TEST}9", **TESTED))
    assert reasons(renamed, ours, twice) == [(ReasonKind.NEW, "new")]


def test_dbt_v2__a_new_source_and_a_new_exposure_are_modified() -> None:
    ours = of_v2(reads(SOURCE), reads(EXPOSURE), reads(A, SOURCE))
    explained = Explained(ours, of_v2(reads(A, SOURCE)), compares_unrendered=True)
    assert {*explained.modified} == {SOURCE, EXPOSURE}
    assert [reason.text for reason in explained.reasons(A)] == ["downstream of raw.orders"]


def test_dbt_v2__macros_that_are_new_or_gone_or_have_other_space_do_not_count() -> None:
    node = reads(A, macros=("macro.shop.m", "macro.shop.new", "macro.shop.gone"))
    theirs = of_v2(node, macros={"macro.shop.m": ("a",), "macro.shop.gone": ("a",)})
    ours = of_v2(node, macros={"macro.shop.m": (" a\n",), "macro.shop.new": ("a",)})
    assert reasons(A, ours, theirs) == CHOSEN
    changed = of_v2(node, macros={"macro.shop.m": ("b",)})
    assert reasons(A, changed, theirs) == [(ReasonKind.MACROS, "macro shop.m changed")]


def test_dbt_v2__a_date_is_a_text() -> None:
    made = of_v2(reads(A, **configured(begin="2024-01-01")))
    assert reasons(A, made, made) == CHOSEN
