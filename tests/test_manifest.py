from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ci_defer.errors import InvalidBundle
from ci_defer.manifest import (
    Compiled,
    read_compiled,
    read_difference,
    read_manifest,
    read_run_results,
)
from tests.samples import RESULTS_URL, manifest, node, run_results, write_artifacts


def test_read_manifest__finds_every_kind_of_resource(tmp_path: Path) -> None:
    groups = {
        "nodes": "model.shop.a",
        "sources": "source.shop.b",
        "exposures": "exposure.shop.c",
        "metrics": "metric.shop.d",
        "semantic_models": "semantic_model.shop.e",
        "saved_queries": "saved_query.shop.f",
        "unit_tests": "unit_test.shop.g",
    }
    document = {**manifest(), **{key: {uid: node(uid)} for key, uid in groups.items()}}
    read = read_manifest(write_artifacts(tmp_path, manifest=document) / "manifest.json")
    assert [item.unique_id for item in read.resources()] == list(groups.values())
    assert {uid: found.unique_id for uid in groups.values() if (found := read.find(uid))} == {
        uid: uid for uid in groups.values()
    }
    assert read.find("model.shop.z") is None


def test_read_manifest__skips_what_it_does_not_know(tmp_path: Path) -> None:
    document = {
        **manifest([node("model.shop.a", doc_blocks={"x": [1]})]),
        "child_map": {"a": [None]},
    }
    write_artifacts(tmp_path, manifest=document)
    assert list(read_manifest(tmp_path / "manifest.json").nodes) == ["model.shop.a"]


def test_read_compiled__has_what_dbt_has_run_and_no_other_field(tmp_path: Path) -> None:
    ran = {"compiled_code": "select 1", "compiled_path": "target/compiled/a.sql"}
    document = {
        **manifest([node("model.shop.a", **ran), node("model.shop.b", config=5)]),
        "functions": {"function.shop.f": node("function.shop.f", compiled_code="x")},
    }
    write_artifacts(tmp_path, manifest=document)
    assert read_compiled(tmp_path / "manifest.json") == {
        "model.shop.a": Compiled(**ran),
        "function.shop.f": Compiled(compiled_code="x"),
    }


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"metadata": {"dbt_schema_version": "https://x/dbt/y/v12.json"}}']
)
def test_read_compiled__raises_for_what_is_no_manifest(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InvalidBundle):
        read_compiled(tmp_path / "manifest.json")


def test_read_run_results__keeps_what_dbt_said(tmp_path: Path) -> None:
    write_artifacts(tmp_path, run_results=run_results({"model.shop.a": "success"}, vars={"x": 1}))
    read = read_run_results(tmp_path / "run_results.json")
    assert [(item.unique_id, item.status, item.execution_time) for item in read.results] == [
        ("model.shop.a", "success", 2.0)
    ]
    assert (read.args.which, read.args.target, read.args.vars) == ("build", "prod", {"x": 1})


@pytest.mark.parametrize("url", [RESULTS_URL.format(5), RESULTS_URL.format(6)])
def test_read_run_results__of_each_known_version(tmp_path: Path, url: str) -> None:
    write_artifacts(tmp_path, run_results={"metadata": {"dbt_schema_version": url}})
    assert read_run_results(tmp_path / "run_results.json").results == []


WHOLE = json.dumps(manifest([node("model.shop.a")]))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "truncated or not JSON"),
        (WHOLE[:-1], "truncated or not JSON"),
        (WHOLE[: len(WHOLE) // 2], "truncated or not JSON"),
        ("<html>", "truncated or not JSON"),
        ("[]", "not a manifest.json"),
        ("null", "not a manifest.json"),
        ("{}", "not a manifest.json"),
        ('{"metadata": {}}', "not a manifest"),
        ('{"metadata": {"dbt_schema_version": "https://example.com/v12.json"}}', "not a manifest"),
        (json.dumps(run_results()), "not a manifest"),
        (json.dumps(manifest(version=11)), "schema version 11; ci-defer knows 12"),
        (json.dumps(manifest(version=99)), "schema version 99; ci-defer knows 12"),
        (json.dumps(manifest([node("model.shop.a", name=None)])), "not a manifest.json"),
    ],
)
def test_read_manifest__refuses_with_one_clear_line(
    tmp_path: Path, content: str, expected: str
) -> None:
    file = write_artifacts(tmp_path, manifest=content) / "manifest.json"
    with pytest.raises(InvalidBundle) as caught:
        read_manifest(file)
    assert expected in caught.value.message
    assert str(file) in caught.value.message
    assert "\n" not in str(caught.value)


def test_read_manifest__refuses_bytes_that_are_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(WHOLE.encode().replace(b"table", b"\xff\xfe"))
    with pytest.raises(InvalidBundle, match=r"manifest\.json"):
        read_manifest(tmp_path / "manifest.json")


def test_read_manifest__names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidBundle, match=r"There is no .*manifest\.json\. It is written by"):
        read_manifest(tmp_path / "manifest.json")


def test_read_run_results__refuses_a_manifest(tmp_path: Path) -> None:
    write_artifacts(tmp_path, run_results=manifest())
    with pytest.raises(InvalidBundle, match="not a run-results"):
        read_run_results(tmp_path / "run_results.json")


# What is other than in a manifest --------------------------------------------------------------


def difference_of(tmp_path: Path, **document: Any) -> Path:
    return write_artifacts(tmp_path, difference={**manifest(), **document}) / "difference.json"


def test_read_difference__takes_the_rest_from_the_base_to_its_place(tmp_path: Path) -> None:
    a, b, c = (node(f"model.shop.{name}", schema="ci", raw_code=name) for name in "abc")
    folder = write_artifacts(tmp_path, manifest=manifest([a, b, c]))
    base = read_manifest(folder / "manifest.json")
    changed, disabled = {**b, "raw_code": "other"}, {"model.shop.d": [{"name": "d"}]}
    same = {a["unique_id"]: ["pr_7", "pr_7.a"], c["unique_id"]: ["ci", c["relation_name"]]}
    file = difference_of(
        tmp_path, nodes={b["unique_id"]: changed}, disabled=disabled, same={"nodes": same, "x": {}}
    )
    made = read_difference(file, base)
    here = {**a, "schema": "pr_7", "relation_name": "pr_7.a"}
    full = write_artifacts(tmp_path, full=manifest([here, changed, c])) / "full.json"
    assert made.nodes == read_manifest(full).nodes
    assert made.nodes["model.shop.c"] is base.nodes["model.shop.c"]
    assert made.disabled == disabled


def test_read_difference__of_another_base_is_an_error(tmp_path: Path) -> None:
    folder = write_artifacts(tmp_path, manifest=manifest())
    file = difference_of(tmp_path, nodes={}, same={"nodes": {"model.shop.a": [None, None]}})
    with pytest.raises(InvalidBundle, match=r"has no model\.shop\.a"):
        read_difference(file, read_manifest(folder / "manifest.json"))
