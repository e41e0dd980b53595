from __future__ import annotations

import json
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from ci_defer.account import DEFAULT_URL, Account
from ci_defer.errors import ConfigurationError, StateNotFound
from ci_defer.stores import Latest, Store, Surroundings, open_source, open_store
from ci_defer.stores.altimate import Registry
from ci_defer.stores.artifact import ArtifactStore
from ci_defer.stores.bundles import BundleStore
from tests.harness.objects import S3Server
from tests.samples import Log, content, manifest, node, packed


def no_account() -> Account:
    raise ConfigurationError("There is no account.")


AROUND = Surroundings(
    branch="main",
    target=None,
    is_on_enterprise_server=False,
    outbox=None,
    rest=None,
    log=Log(),
    account=no_account,
    is_ancestor=lambda _one, _other: False,
    environ={},
)


def opened(uri: str, around: Surroundings = AROUND) -> Store:
    store = open_store(uri, "shop", around)
    assert not isinstance(store, Registry)
    return store


@pytest.mark.parametrize("uri", ["s3://bucket/prefix", "gs://bucket/prefix", "az://container/x"])
def test_open_store__of_a_bucket_keeps_bundles_below_its_prefix(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Google's own library looks for credentials when it is opened.
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    around = replace(AROUND, environ={"AZURE_STORAGE_ACCOUNT_NAME": "acme"})
    store = open_store(f"{uri}/", "shop", around)
    assert isinstance(store, BundleStore)
    assert store.location == f"{uri}/shop"


def test_open_store__of_a_container_without_its_account_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="Set the variable AZURE_STORAGE_ACCOUNT_NAME"):
        open_store("az://container", "shop", AROUND)


@pytest.mark.parametrize("uri", ["s3://", "s3:///x", "gs://a b", "s3://bucket/../x", "az://x/./y"])
def test_open_store__of_no_bucket_says_how_to_write_it(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="names no bucket"):
        open_store(uri, "shop", AROUND)


@pytest.mark.parametrize("uri", ["s3://bucket/manifest.json", "gs://bucket/a/x.json"])
def test_open_store__of_one_manifest_in_a_bucket_is_no_place_to_publish_to(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="is one manifest, so it is no store"):
        open_store(uri, "shop", AROUND)


@pytest.mark.parametrize("uri", ["https://example.com/x", "file:///tmp", "S3://bucket", "://"])
def test_open_store__of_an_unknown_kind_lists_the_known_ones(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="Use artifact, altimate, s3://"):
        open_store(uri, "shop", AROUND)


def test_open_store__of_altimate_is_the_registry_for_the_account() -> None:
    account = Account(
        token="key-of-acme",
        instance="acme",
        integration="shop",
        environment="PROD",
        url=DEFAULT_URL,
    )
    registry = open_store("altimate", "shop", replace(AROUND, account=lambda: account))
    assert isinstance(registry, Registry)
    assert isinstance(registry, Latest)
    assert registry.location == "Altimate registry, integration shop"
    assert registry.is_comparable is False


def test_open_store__of_altimate_asks_for_an_account_and_others_do_not() -> None:
    # `no_account` is in `AROUND`, with which all other stores are opened.
    with pytest.raises(ConfigurationError, match="There is no account"):
        open_store("altimate", "shop", AROUND)


def test_open_store__of_a_path_keeps_bundles_in_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("states", "shop", AROUND)
    assert isinstance(store, BundleStore)
    assert store.location == f"{tmp_path}/states/shop"
    # Opening makes nothing.
    assert list(tmp_path.iterdir()) == []


def test_open_store__of_artifact_names_it_after_the_project(tmp_path: Path) -> None:
    store = open_store("artifact", "shop", replace(AROUND, outbox=tmp_path))
    assert isinstance(store, ArtifactStore)
    assert (store.artifact_name, store.location) == (
        "ci-defer-state-shop",
        "artifact ci-defer-state-shop",
    )


def test_artifact_store__puts_a_whole_bundle_where_the_upload_finds_it(tmp_path: Path) -> None:
    bundle = packed(tmp_path, "a")
    outbox = tmp_path / "outbox"
    outbox.mkdir()
    store = opened("artifact", replace(AROUND, outbox=outbox))
    first, second = store.put(bundle), store.put(bundle)
    assert Path(first).parent == outbox
    assert first != second
    assert content(Path(first)) == content(Path(second)) == content(bundle.directory)


def test_artifact_store__outside_of_a_workflow_run_says_what_to_use(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Set state to a directory"):
        opened("artifact").put(packed(tmp_path, "a"))


def test_artifact_store__outside_of_a_workflow_run_cannot_be_read() -> None:
    with pytest.raises(ConfigurationError, match="only be read in a workflow run"):
        list(opened("artifact").commits())


def test_open_store__of_artifact_on_enterprise_server_points_to_an_object_store() -> None:
    around = replace(AROUND, is_on_enterprise_server=True)
    with pytest.raises(ConfigurationError, match=r"Enterprise Server.*object store"):
        open_store("artifact", "shop", around)


@pytest.mark.server
@pytest.mark.parametrize("name", ["manifest.json", "team a/prod/manifest.json"])
def test_open_source__of_a_manifest_in_a_bucket_is_a_state_without_provenance(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    for variable, value in s3.environ().items():
        monkeypatch.setenv(variable, value)
    bucket = s3.create(f"plain-{uuid.uuid4().hex[:12]}")
    s3.write(bucket, name, json.dumps(manifest([node("model.shop.a")])).encode())
    uri = f"s3://{bucket}/{name}"
    source = open_source(uri, "shop", replace(AROUND, environ=s3.environ()))
    assert isinstance(source, Latest)
    bundle = source.get(tmp_path, project_name="shop")
    assert (bundle.provenance, list(bundle.manifest.nodes)) == (None, ["model.shop.a"])
    assert source.location == uri
    gone = open_source(f"s3://{bucket}/x.json", "shop", replace(AROUND, environ=s3.environ()))
    assert isinstance(gone, Latest)
    with pytest.raises(StateNotFound, match=f"There is no object s3://{bucket}/x.json"):
        gone.get(tmp_path, project_name="shop")
