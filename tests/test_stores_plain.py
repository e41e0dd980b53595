from __future__ import annotations

from pathlib import Path

import pytest

from ci_defer.errors import InvalidBundle, StateNotFound
from ci_defer.stores.directory import Directory
from ci_defer.stores.plain import PlainObject, PlainState, find_plain_state
from tests.samples import PROJECT, content, manifest, node, packed, write_artifacts


@pytest.fixture
def to(tmp_path: Path) -> Path:
    (tmp_path / "to").mkdir()
    return tmp_path / "to"


def test_get__of_a_directory_copies_the_artifacts_and_nothing_else(
    tmp_path: Path, to: Path
) -> None:
    target = write_artifacts(
        tmp_path / "target", manifest=manifest([node("model.shop.a")]), catalog={}, other={}
    )
    bundle = PlainState(target).get(to, project_name=PROJECT)
    assert (bundle.directory, bundle.provenance) == (to, None)
    assert content(to) == {
        name: (target / name).read_bytes() for name in ("manifest.json", "catalog.json")
    }


def test_get__of_a_file_takes_it_for_the_manifest(tmp_path: Path, to: Path) -> None:
    write_artifacts(tmp_path, prod=manifest([node("model.shop.a")]))
    bundle = PlainState(tmp_path / "prod.json").get(to, project_name=PROJECT)
    assert list(bundle.manifest.nodes) == ["model.shop.a"]
    assert list(content(to)) == ["manifest.json"]


def test_get__of_an_unpacked_artifact_verifies_it(tmp_path: Path, to: Path) -> None:
    made = packed(tmp_path, "a")
    assert PlainState(made.directory).get(to, project_name=PROJECT).provenance == made.provenance
    (made.directory / "manifest.json").write_text("{}")
    with pytest.raises(InvalidBundle, match="not the file that was published"):
        PlainState(made.directory).get(to, project_name=PROJECT)


def test_get__of_what_is_gone_says_so(tmp_path: Path, to: Path) -> None:
    with pytest.raises(InvalidBundle, match=r"There is no .*manifest\.json"):
        PlainState(tmp_path / "gone").get(to, project_name=PROJECT)


def test_get__leaves_the_artifacts_alone(tmp_path: Path, to: Path) -> None:
    target = write_artifacts(tmp_path / "target", manifest=manifest())
    before = content(target)
    PlainState(target).get(to, project_name=PROJECT)
    (to / "manifest.json").write_text("changed")
    assert content(target) == before


def test_get__of_an_object_takes_it_for_the_manifest(tmp_path: Path, to: Path) -> None:
    write_artifacts(
        tmp_path / "bucket" / "a", prod=manifest([node("model.shop.a")]), run_results={}
    )
    state = PlainObject(Directory(tmp_path / "bucket"), "a/prod.json")
    bundle = state.get(to, project_name=PROJECT)
    assert (bundle.provenance, list(bundle.manifest.nodes)) == (None, ["model.shop.a"])
    assert list(content(to)) == ["manifest.json"]
    assert state.location == f"{tmp_path}/bucket/a/prod.json"
    assert state.is_comparable


def test_get__of_an_object_that_is_not_there_says_what_to_do(tmp_path: Path, to: Path) -> None:
    with pytest.raises(StateNotFound, match="There is no object") as caught:
        PlainObject(Directory(tmp_path), "none.json").get(to, project_name=PROJECT)
    assert caught.value.hint.startswith("Correct the setting state")


@pytest.mark.parametrize("document", ["{", "", manifest(project="other")])
def test_get__of_an_object_that_is_no_manifest_of_ours_is_refused(
    tmp_path: Path, to: Path, document: object
) -> None:
    write_artifacts(tmp_path / "bucket", prod=document)
    with pytest.raises(InvalidBundle):
        PlainObject(Directory(tmp_path / "bucket"), "prod.json").get(to, project_name=PROJECT)


def test_find_plain_state__is_a_directory_with_a_manifest_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_artifacts(tmp_path / "target", manifest=manifest())
    (tmp_path / "store").mkdir()
    monkeypatch.chdir(tmp_path)
    uris = ["target", "target/manifest.json", "store", "gone", "artifact", "s3://target"]
    found = {uri: state.location for uri in uris if (state := find_plain_state(uri))}
    assert found == {
        "target": f"{tmp_path}/target",
        "target/manifest.json": f"{tmp_path}/target/manifest.json",
    }


@pytest.mark.parametrize("word", ["artifact", "altimate"])
def test_find_plain_state__never_takes_a_reserved_word_for_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    # `artifact` is the default: a folder of that name must not change what it means.
    write_artifacts(tmp_path / word, manifest=manifest())
    monkeypatch.chdir(tmp_path)
    assert find_plain_state(word) is None
    assert find_plain_state(f"./{word}") is not None
