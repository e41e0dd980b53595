from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ci_defer.bundle import (
    STATE_SIZE_LIMIT,
    Bundle,
    Origin,
    ParsedWith,
    decode_state,
    encode_state,
    pack,
    unpack,
)
from ci_defer.errors import InvalidBundle
from tests.samples import (
    COMMIT,
    CREATED_AT,
    PROJECT,
    content,
    manifest,
    node,
    packed,
    run_results,
    write_artifacts,
)


def pack_from(
    artifacts: Path,
    to: Path,
    *,
    target: str | None = None,
    compare: tuple[Path, ParsedWith] | None = None,
) -> Bundle:
    to.mkdir()
    return pack(
        artifacts,
        to,
        project="key",
        project_name=PROJECT,
        origin=Origin(commit=COMMIT, branch="main", repository="o/r", run_id="7"),
        created_at=CREATED_AT,
        target=target,
        compare=compare,
    )


def rewritten(bundle: Bundle, **changes: Any) -> Path:
    """The bundle with other values in its state.json; a value of None takes the field away."""
    file = bundle.directory / "state.json"
    state = {**json.loads(file.read_bytes()), **changes}
    file.write_text(json.dumps({key: value for key, value in state.items() if value is not None}))
    return bundle.directory


def test_pack__copies_the_artifacts_and_says_where_they_are_from(tmp_path: Path) -> None:
    artifacts = write_artifacts(
        tmp_path / "target",
        manifest=manifest([node("model.shop.a")]),
        run_results=run_results(
            vars={"day": 1}, state_modified_compare_more_unrendered_values=True
        ),
        catalog={},
        partial_parse="not one of ours",
    )
    bundle = pack_from(artifacts, tmp_path / "to")
    assert bundle.provenance
    assert content(tmp_path / "to") == {
        name: (artifacts / name).read_bytes()
        for name in ("manifest.json", "run_results.json", "catalog.json")
    } | {"state.json": encode_state(bundle.provenance)}
    said = json.loads(encode_state(bundle.provenance))
    assert set(said.pop("files")) == {"manifest.json", "run_results.json", "catalog.json"}
    assert said == {
        "schema_version": 1,
        "project": "key",
        "project_name": PROJECT,
        "origin": {
            "project_dir": "",
            "commit": COMMIT,
            "committed_at": "",
            "branch": "main",
            "repository": "o/r",
            "run_id": "7",
            "run_attempt": "",
        },
        "created_at": CREATED_AT,
        "dbt_version": "1.11.0",
        "adapter": "duckdb",
        "target": "prod",
        "flags": {
            "vars_sha256": hashlib.sha256(b'{"day":1}').hexdigest(),
            "state_modified_compare_more_unrendered_values": True,
        },
        "compare": None,
        "saved_parse": None,
    }


@pytest.mark.parametrize(("told", "expected"), [(None, "prod"), ("live", "live")])
def test_pack__target_is_the_one_we_were_told_else_what_dbt_recorded(
    tmp_path: Path, told: str | None, expected: str
) -> None:
    artifacts = write_artifacts(tmp_path / "target", manifest=manifest(), run_results=run_results())
    provenance = pack_from(artifacts, tmp_path / "to", target=told).provenance
    assert provenance
    assert provenance.target == expected


def test_unpack__opens_what_pack_made(tmp_path: Path) -> None:
    bundle = packed(tmp_path, "a", "b")
    assert unpack(bundle.directory, project_name=PROJECT) == bundle


def test_unpack__takes_a_manifest_from_elsewhere_without_provenance(tmp_path: Path) -> None:
    write_artifacts(tmp_path, manifest=manifest([node("model.shop.a")]))
    bundle = unpack(tmp_path, project_name=PROJECT)
    assert bundle.provenance is None
    assert bundle.run_results is None
    assert list(bundle.manifest.nodes) == ["model.shop.a"]


def test_unpack__skips_fields_of_a_newer_ci_defer(tmp_path: Path) -> None:
    bundle = packed(tmp_path, "a")
    assert unpack(rewritten(bundle, novelty={"x": 1}), project_name=PROJECT) == bundle


@pytest.mark.parametrize(
    ("which", "found"),
    [("build", True), ("run", True), ("compile", False), ("run-operation", False)],
)
def test_run_results__only_of_a_command_that_builds(
    tmp_path: Path, which: str, found: bool
) -> None:
    write_artifacts(tmp_path, manifest=manifest(), run_results=run_results(which=which))
    results = unpack(tmp_path, project_name=PROJECT).run_results
    assert (results is not None) == found


WHOLE = json.dumps(manifest([node("model.shop.a")]))


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ({}, "There is no"),
        ({"manifest": WHOLE[:200]}, "truncated or not JSON"),
        ({"manifest": "no"}, "truncated or not JSON"),
        ({"manifest": manifest(version=10)}, "schema version 10"),
        ({"manifest": manifest(project="other")}, "belongs to the dbt project 'other'"),
        ({"manifest": WHOLE, "run_results": '{"metadata"'}, "run_results.json is truncated"),
        ({"manifest": WHOLE, "run_results": manifest()}, "not a run-results"),
    ],
)
def test_pack__refuses_artifacts(tmp_path: Path, documents: dict[str, Any], expected: str) -> None:
    artifacts = write_artifacts(tmp_path / "target", **documents)
    with pytest.raises(InvalidBundle) as caught:
        pack_from(artifacts, tmp_path / "to")
    assert expected in caught.value.message
    assert "\n" not in str(caught.value)


def test_pack__never_writes_a_state_that_it_would_refuse_to_read(tmp_path: Path) -> None:
    artifacts = write_artifacts(
        tmp_path / "target",
        manifest=manifest(),
        run_results=run_results(vars={"ids": "x" * STATE_SIZE_LIMIT}),
    )
    try:
        bundle = pack_from(artifacts, tmp_path / "to")
    except InvalidBundle:
        return
    assert unpack(bundle.directory, project_name=PROJECT) == bundle


@pytest.mark.parametrize("name", ["manifest.json", "run_results.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_unpack__refuses_a_file_that_is_not_the_published_one(
    tmp_path: Path, name: str, damage: str
) -> None:
    directory = packed(tmp_path, "a").directory
    raw = (directory / name).read_bytes()
    if damage == "gone":
        (directory / name).unlink()
    else:
        damaged = raw[:-1] if damage == "cut" else raw.replace(b"1.11.0", b"1.11.1")
        (directory / name).write_bytes(damaged)
    with pytest.raises(InvalidBundle, match=name):
        unpack(directory, project_name=PROJECT)


def test_unpack__does_not_use_a_file_that_was_not_published_with_the_others(tmp_path: Path) -> None:
    # "A bundle is read only after all of it verified."
    artifacts = write_artifacts(tmp_path / "target", manifest=manifest())
    bundle = pack_from(artifacts, tmp_path / "to")
    write_artifacts(bundle.directory, run_results=run_results({"model.shop.a": "success"}))
    try:
        opened = unpack(bundle.directory, project_name=PROJECT)
    except InvalidBundle:
        return
    assert opened.run_results is None


def test_unpack__refuses_another_project(tmp_path: Path) -> None:
    with pytest.raises(InvalidBundle, match="belongs to the dbt project 'other', not to 'shop'"):
        unpack(packed(tmp_path, "a", project="other").directory, project_name=PROJECT)


RECORD = {"sha256": "0" * 64, "size": 1}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schema_version": 2}, "state schema version 2; this ci-defer reads 1"),
        ({"schema_version": None}, "not a state.json"),
        ({"origin": None}, "not a state.json"),
        ({"files": {}}, "names no manifest.json"),
        ({"files": {"manifest.json": RECORD, "../evil": RECORD}}, "names files that no bundle"),
        ({"files": {"manifest.json": RECORD, "/etc/passwd": RECORD}}, "names files that no bundle"),
        ({"files": {"manifest.json": RECORD, "state.json": RECORD}}, "names files that no bundle"),
        ({"files": {"manifest.json": {"sha256": "../../x", "size": 1}}}, "state.json"),
        ({"files": {"manifest.json": {"sha256": "\0", "size": 1}}}, "state.json"),
        ({"files": {"manifest.json": {**RECORD, "mode": 7}}}, "not a state.json"),
    ],
)
def test_decode_state__refuses_what_is_hostile(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    directory = rewritten(packed(tmp_path, "a"), **changes)
    with pytest.raises(InvalidBundle) as caught:
        decode_state(directory / "state.json")
    assert expected in caught.value.message


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "not a state.json"),
        (b"[]", "not a state.json"),
        (b'{"schema_version": 1', "not a state.json"),
        (b'{"schema_version": "1"}', "not a state.json"),
        (b'{"schema_version": 1, "flags": ' + b"[" * 60_000, "not a state.json"),
        (b"\xff\xfe", "not a state.json"),
        (b" " * (STATE_SIZE_LIMIT + 1), "larger than 65,536 bytes"),
    ],
    ids=["empty", "list", "truncated", "version is text", "nested", "not UTF-8", "too large"],
)
def test_decode_state__refuses_what_is_not_one(tmp_path: Path, raw: bytes, expected: str) -> None:
    (tmp_path / "state.json").write_bytes(raw)
    with pytest.raises(InvalidBundle) as caught:
        decode_state(tmp_path / "state.json")
    assert expected in caught.value.message


# The manifest that pull requests are compared with ---------------------------------------------


def compared(tmp_path: Path, *, commit: str = COMMIT, version: str = "1.11.0") -> Bundle:
    """A bundle of production's model a, compared as pull requests parse it: with a and b."""
    document = manifest([node("model.shop.a"), node("model.shop.b")])
    document["metadata"]["dbt_version"] = version
    artifacts = write_artifacts(
        tmp_path / "production",
        manifest=manifest([node("model.shop.a")]),
        run_results=run_results({"model.shop.a": "success"}),
    )
    # What lies beside it is of no use to anybody else.
    made = write_artifacts(tmp_path / "made", manifest=document, run_results={}, partial_parse="x")
    to = tmp_path / "compared"
    to.mkdir()
    return pack(
        artifacts,
        to,
        project=PROJECT,
        project_name=PROJECT,
        origin=Origin(commit=commit),
        created_at=CREATED_AT,
        target=None,
        compare=(made, ParsedWith(target="ci", profile="x", vars_sha256="v")),
    )


def test_compare__is_packed_beside_production_and_says_how_it_was_made(tmp_path: Path) -> None:
    bundle = compared(tmp_path, version="1.10.3")
    assert content(bundle.directory) == {
        "manifest.json": (tmp_path / "production" / "manifest.json").read_bytes(),
        "run_results.json": (tmp_path / "production" / "run_results.json").read_bytes(),
        "compare/manifest.json": (tmp_path / "made" / "manifest.json").read_bytes(),
        "state.json": (bundle.directory / "state.json").read_bytes(),
    }
    assert bundle.provenance
    assert bundle.provenance.compare == ParsedWith(
        dbt_version="1.10.3", adapter="duckdb", target="ci", profile="x", vars_sha256="v"
    )
    assert [*bundle.provenance.files] == [
        *("manifest.json", "run_results.json"),
        "compare/manifest.json",
    ]
    # Production's own is another matter.
    assert bundle.provenance.parsed_with == ParsedWith(
        dbt_version="1.11.0", adapter="duckdb", target="prod"
    )


def test_compare__comes_back_as_a_bundle_of_its_own(tmp_path: Path) -> None:
    made = compared(tmp_path)
    bundle = unpack(made.directory, project_name=PROJECT)
    bundle.read()
    assert bundle == made
    assert bundle.compare
    assert bundle.compare.directory == bundle.directory / "compare"
    assert [*bundle.compare.manifest.nodes] == ["model.shop.a", "model.shop.b"]
    assert [*bundle.manifest.nodes] == ["model.shop.a"]
    assert (bundle.compare.provenance, bundle.compare.run_results) == (None, None)


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_compare__that_is_not_the_published_one_is_refused(tmp_path: Path, damage: str) -> None:
    directory = compared(tmp_path).directory
    file = directory / "compare" / "manifest.json"
    if damage == "gone":
        file.unlink()
    else:
        raw = file.read_bytes()
        file.write_bytes(raw[:-1] if damage == "cut" else raw.replace(b"1.11.0", b"1.11.1"))
    with pytest.raises(InvalidBundle, match=r"manifest\.json"):
        unpack(directory, project_name=PROJECT)


def test_compare__there_is_none_in_a_bundle_without(tmp_path: Path) -> None:
    bundle = packed(tmp_path, "a")
    assert bundle.provenance
    assert (bundle.provenance.compare, bundle.compare) == (None, None)
    # Of an older ci-defer, which did not know of it.
    older = unpack(rewritten(bundle, compare=None), project_name=PROJECT)
    assert "compare" not in json.loads((bundle.directory / "state.json").read_bytes())
    assert (older, older.compare) == (bundle, None)


def test_compare__that_lies_about_is_not_used(tmp_path: Path) -> None:
    bundle = packed(tmp_path, "a")
    write_artifacts(bundle.directory / "compare", manifest=manifest())
    assert unpack(bundle.directory, project_name=PROJECT).compare is None
    plain = write_artifacts(tmp_path / "plain", manifest=manifest())
    write_artifacts(plain / "compare", manifest=manifest())
    assert unpack(plain, project_name=PROJECT).compare is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"compare": None}, "does not say how compare/manifest.json was made"),
        ({"compare": "ci"}, "not a state.json"),
        ({"compare": {"target": 1}}, "not a state.json"),
        ({"compare": []}, "not a state.json"),
    ],
)
def test_compare__without_a_word_on_how_it_was_made_is_refused(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    directory = rewritten(compared(tmp_path), **changes)
    with pytest.raises(InvalidBundle) as caught:
        unpack(directory, project_name=PROJECT)
    assert expected in caught.value.message


def test_compare__that_names_no_file_is_refused(tmp_path: Path) -> None:
    directory = rewritten(packed(tmp_path, "a"), compare={"target": "ci"})
    with pytest.raises(InvalidBundle, match="or names none"):
        unpack(directory, project_name=PROJECT)


def test_compare__of_a_newer_ci_defer_may_say_more(tmp_path: Path) -> None:
    bundle = compared(tmp_path)
    said = json.loads((bundle.directory / "state.json").read_bytes())["compare"]
    newer = rewritten(bundle, compare={**said, "novelty": 1})
    assert unpack(newer, project_name=PROJECT) == bundle


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (None, "There is no .*manifest.json"),
        ("no", "truncated or not JSON"),
        (manifest(version=13), "schema version 13"),
        (manifest(project="other"), "belongs to the dbt project 'other'"),
    ],
)
def test_pack__refuses_a_manifest_to_compare_with(
    tmp_path: Path, document: Any, expected: str
) -> None:
    artifacts = write_artifacts(tmp_path / "target", manifest=manifest())
    made = write_artifacts(tmp_path / "made", **({"manifest": document} if document else {}))
    with pytest.raises(InvalidBundle, match=expected):
        pack_from(artifacts, tmp_path / "to", compare=(made, ParsedWith()))


def test_read__reads_what_is_compared_with_too(tmp_path: Path) -> None:
    # It was published as it is, and this version cannot read it.
    bundle = compared(tmp_path)
    write_artifacts(bundle.directory / "compare", manifest=manifest(version=13))
    with pytest.raises(InvalidBundle, match="schema version 13"):
        Bundle(bundle.directory, bundle.provenance).read()


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, ParsedWith(target="prod")),
        ({"profile": "x"}, ParsedWith(target="prod", profile="x")),
        ({"profile": None, "vars": {}, "target": None}, ParsedWith()),
        (
            {"vars": {"b": 1, "a": [2]}},
            ParsedWith(
                target="prod",
                vars_sha256=hashlib.sha256(b'{"a":[2],"b":1}').hexdigest(),
            ),
        ),
    ],
)
def test_parsed_with__is_what_dbt_recorded_of_production(
    tmp_path: Path, args: dict[str, Any], expected: ParsedWith
) -> None:
    artifacts = write_artifacts(
        tmp_path / "target", manifest=manifest(), run_results=run_results(**args)
    )
    provenance = pack_from(artifacts, tmp_path / "to").provenance
    assert provenance
    assert (provenance.dbt_version, provenance.adapter) == ("1.11.0", "duckdb")
    assert provenance.parsed_with == ParsedWith(
        dbt_version="1.11.0",
        adapter="duckdb",
        target=expected.target,
        profile=expected.profile,
        vars_sha256=expected.vars_sha256,
    )
