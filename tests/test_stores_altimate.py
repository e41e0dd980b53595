"""The registry: our real client against the fake one, its faults, and the registry's own client."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ci_defer.account import Account
from ci_defer.bundle import ARTIFACTS, Bundle
from ci_defer.errors import CiDeferError, ExitCode, InvalidBundle, StateNotFound
from ci_defer.stores.altimate import FILES, Registry, RegistryError, service
from ci_defer.web import LONGEST_WAIT, Web
from tests.environments import ROOT
from tests.harness.datapilot import onboard
from tests.harness.registry import FILE_TYPES, OBJECTS, Call, FakeRegistry, Ingestion
from tests.harness.test_registry import artifacts
from tests.samples import PROJECT, Log, content, manifest, node, packed, write_artifacts

TOKEN = "key-of-acme-that-must-not-leak-anywhere"
VALIDATE = "/dbt/v3/validate-credentials"
PERMISSIONS = "/dbt/v1/validate-permissions"
INTEGRATIONS = "/dbt/v1/project_integrations/"
SIGNED_URL = "/dbt/v1/signed_url"
VERIFY = "/dbt/v1/verify_upload"
INGEST = "/dbt/v1/start_dbt_ingestion"
FETCH = "/dbt/v1/fetch_artifact_url"
ALL = r"/dbt/.*"

CHECK_KEY = "The Altimate registry cannot check the key: "
FIND = "The Altimate registry cannot find the integration: "
UPLOAD = "The Altimate registry cannot upload "
START = "The Altimate registry cannot start the ingestion: "
DOWNLOAD = "The Altimate registry cannot download the manifest: "
AGAIN = "Run the job again."
KEY_CURE = "Check altimate-token and altimate-instance: the key must be one of this instance."
CREDITS_CURE = "The credits of the instance are used up: see its page in the registry."
PLACE_CURE = "Check altimate-integration and altimate-environment."

MANIFEST = json.dumps(manifest([node("model.shop.a")])).encode()


class Place:
    """An account at a registry with the integration 7, `shop`, and what was said and waited."""

    def __init__(self, tmp_path: Path, fake: FakeRegistry) -> None:
        self.tmp_path = tmp_path
        self.fake = fake
        self.log = Log()
        self.waited: list[float] = []
        self.errors: list[CiDeferError] = []
        self.to = tmp_path / "to"
        self.to.mkdir()

    def registry(self, integration: str = "shop", **account: str) -> Registry:
        basic = Account(
            token=TOKEN,
            instance="acme",
            integration=integration,
            environment="PROD",
            url=self.fake.url,
        )
        used = dataclasses.replace(basic, **account)
        web = Web(service(used.instance), used.token, log=self.log, sleep=self.waited.append)
        return Registry(used, web, self.log)

    def files(self, *names: str) -> dict[str, Path]:
        """These files, of dbt's names, with small content each of its own."""
        folder = self.tmp_path / "files"
        documents = {name.removesuffix(".json"): {"of": name} for name in names}
        write_artifacts(folder, **documents)
        return {name: folder / name for name in names}

    def upload(self, *names: str, **account: str) -> None:
        self.registry(**account).upload(self.files(*(names or FILES)))

    def get(self, **account: str) -> Bundle:
        return self.registry(**account).get(self.to, project_name=PROJECT)

    def refused(self, action: Callable[[], object]) -> CiDeferError:
        """The error that `action` ends with: never a mistake of the user's workflow."""
        with pytest.raises(CiDeferError) as caught:
            action()
        self.errors.append(caught.value)
        assert caught.value.exit_code == ExitCode.SERVICE
        return caught.value

    @property
    def said(self) -> str:
        """All that anybody could read."""
        errors = [f"{error} {error!r} {error.__cause__!r}" for error in self.errors]
        return "\n".join([*self.log.lines, *errors])

    @property
    def asked(self) -> list[str]:
        return [call.what for call in self.fake.requests]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Also with passwords for both hosts in ~/.netrc, which are nobody's business."""
    home = tmp_path / "home"
    home.mkdir()
    entry = "machine {} login somebody password netrc-password\n"
    (home / ".netrc").write_text("".join(map(entry.format, ("127.0.0.1", "localhost"))))
    (home / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    with FakeRegistry() as fake:
        fake.add_integration(7, "shop", ["PROD", "STAGING"])
        fake.add_integration(8, "bakery")
        fake.add_token(TOKEN, "acme")
        place = Place(tmp_path, fake)
        yield place
    assert fake.violations == []
    assert fake.pending_faults == []
    assert [secret for secret in fake.secrets if secret in place.said] == []
    assert "X-Amz-Signature" not in place.said
    check_where_the_key_went(fake.requests)


def check_where_the_key_went(calls: list[Call]) -> None:
    for call in calls:
        expected = f"Bearer {TOKEN}" if call.host == "api" else None
        if call.host == "store" or TOKEN in call.headers.get("authorization", ""):
            assert call.headers.get("authorization") == expected
        assert TOKEN not in call.path + str(call.query) + call.body.decode(errors="replace")


# Upload


def uploads(*kinds: str) -> list[str]:
    return [
        what
        for kind in kinds
        for what in ("GET signed_url", f"PUT {kind}.json", "POST verify_upload")
    ]


def test_upload__of_all_five_files_in_the_order_of_the_registrys_own_client(place: Place) -> None:
    files = place.files(*reversed(FILES))
    registry = place.registry("shop")
    assert registry.upload(files) == "Altimate registry, integration shop"
    assert place.asked == [
        *("GET validate-credentials", "GET validate-permissions", "GET project_integrations"),
        *uploads(*FILE_TYPES),
        "POST start_dbt_ingestion",
    ]
    for kind in FILE_TYPES:
        assert place.fake.files(7, "PROD", kind) == files[f"{kind}.json"].read_bytes()
    assert place.fake.ingestions == [Ingestion(7, "PROD", FILE_TYPES)]
    assert place.log.lines == [f"Uploaded {name}." for name in FILES]
    assert place.waited == []


@pytest.mark.parametrize(
    "names",
    [
        ("manifest.json",),
        ("manifest.json", "sources.json"),
        ("manifest.json", "catalog.json", "semantic_manifest.json"),
    ],
)
def test_upload__of_some_files_by_id_asks_for_no_name(place: Place, names: tuple[str, ...]) -> None:
    place.upload(*names, integration="7", environment="STAGING")
    kinds = tuple(name.removesuffix(".json") for name in names)
    assert place.asked == [
        *("GET validate-credentials", "GET validate-permissions"),
        *uploads(*kinds),
        "POST start_dbt_ingestion",
    ]
    assert place.fake.ingestions == [Ingestion(7, "STAGING", kinds)]
    assert place.fake.files(7, "PROD", "manifest") is None


def test_put__uploads_the_files_that_a_bundle_has_and_not_its_provenance(place: Place) -> None:
    bundle = packed(place.tmp_path, "a")
    for name in ("catalog.json", "semantic_manifest.json", "notes.txt"):
        (bundle.directory / name).write_text("{}")
    assert place.registry().put(bundle) == "Altimate registry, integration shop"
    kinds = ("manifest", "catalog", "run_results", "semantic_manifest")
    assert place.fake.ingestions == [Ingestion(7, "PROD", kinds)]
    kept = content(bundle.directory)
    assert {kind: place.fake.files(7, "PROD", kind) for kind in kinds} == {
        kind: kept[f"{kind}.json"] for kind in kinds
    }


def test_files__are_those_of_a_bundle() -> None:
    assert sorted(FILES) == sorted(ARTIFACTS)
    assert tuple(name.removesuffix(".json") for name in FILES) == FILE_TYPES


def test_upload__of_an_empty_file_has_a_length(place: Place) -> None:
    files = place.files("manifest.json", "catalog.json")
    files["catalog.json"].write_bytes(b"")
    place.registry().upload(files)
    assert place.fake.files(7, "PROD", "catalog") == b""
    (put,) = [call for call in place.fake.requests if call.what == "PUT catalog.json"]
    assert put.headers["content-length"] == "0"


def test_upload__replaces_what_was_there(place: Place) -> None:
    place.fake.upload(7, "manifest", b"old")
    place.upload("manifest.json")
    assert place.fake.files(7, "PROD", "manifest") == b'{"of": "manifest.json"}'


# Download


@pytest.mark.parametrize("integration", ["shop", "7"])
def test_get__is_the_latest_manifest_without_provenance(place: Place, integration: str) -> None:
    place.fake.upload(7, "manifest", b"old")
    place.fake.upload(7, "manifest", MANIFEST)
    place.fake.upload(8, "manifest", b"of another integration")
    bundle = place.get(integration=integration)
    assert content(place.to) == {"manifest.json": MANIFEST}
    assert (bundle.directory, bundle.provenance) == (place.to, None)
    assert bundle.manifest.metadata.project_name == PROJECT
    asked = [] if integration == "7" else ["GET project_integrations"]
    assert place.asked == [*asked, "GET fetch_artifact_url", "GET manifest.json"]
    # Analytics of the editor's extension: no build is anybody's deferral in an editor.
    assert place.fake.events == []


def test_get__after_put(place: Place) -> None:
    registry = place.registry()
    put = packed(place.tmp_path, "a", "b")
    registry.put(put)
    got = registry.get(place.to, project_name=PROJECT)
    assert got.manifest == put.manifest
    # The name was looked up once.
    assert place.asked.count("GET project_integrations") == 1


def test_get__when_nothing_was_uploaded_yet_is_no_error_of_the_registry(place: Place) -> None:
    place.fake.upload(7, "catalog", b"{}")
    error = place.refused(place.get)
    assert isinstance(error, StateNotFound)
    assert error.message == "Altimate registry, integration shop holds no manifest yet."
    assert "Run `ci-defer onboard` with state: altimate on the base branch" in error.hint
    assert "if-no-state" in error.hint
    assert place.waited == []


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (manifest(project="bakery"), "belongs to the dbt project 'bakery', not to 'shop'"),
        (manifest(version=3), "manifest"),
        ({"metadata": {}}, "manifest"),
    ],
)
def test_get__refuses_another_projects_manifest_and_another_schema(
    place: Place, document: Mapping[str, Any], expected: str
) -> None:
    place.fake.upload(7, "manifest", json.dumps(document).encode())
    error = place.refused(place.get)
    assert isinstance(error, InvalidBundle)
    assert expected in error.message
    # It is sound, so another download brings the same.
    assert place.asked.count("GET manifest.json") == 1


# Faults: of the key, the instance, the integration


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("action", "step"), [(Place.upload, CHECK_KEY), (Place.get, FIND)], ids=["upload", "get"]
)
def test_key__that_is_refused(
    place: Place, status: int, action: Callable[..., object], step: str
) -> None:
    place.fake.add_token("mistyped-key-of-acme", "acme", refused=status)
    error = place.refused(lambda: action(place, token="mistyped-key-of-acme"))
    assert isinstance(error, RegistryError)
    assert error.status == status
    assert error.message.startswith(step)
    assert f"with {status}: Invalid credentials." in error.message
    assert error.hint == KEY_CURE
    assert (len(place.fake.requests), place.waited) == (1, [])


def test_key__that_may_not_upload(place: Place) -> None:
    place.fake.add_token(TOKEN, "acme", may_upload=False)
    error = place.refused(place.upload)
    assert error.message.startswith(CHECK_KEY)
    assert "You do not have the permission to upload" in error.message
    assert place.asked == ["GET validate-credentials", "GET validate-permissions"]


def test_credits__that_are_used_up(place: Place) -> None:
    place.fake.exhaust_credits("You have used all credits of this month.")
    for action, step in ((place.upload, CHECK_KEY), (place.get, FIND)):
        error = place.refused(action)
        assert error.message.startswith(step)
        assert "with 402: You have used all credits of this month." in error.message
        assert error.hint == CREDITS_CURE
    assert place.waited == []


@pytest.mark.parametrize("action", [Place.upload, Place.get], ids=["upload", "get"])
def test_integration__of_an_unknown_name_lists_those_there_are(
    place: Place, action: Callable[..., object]
) -> None:
    error = place.refused(lambda: action(place, integration="Shop"))
    assert error.message == f"{FIND}there is no integration 'Shop', but 'shop', 'bakery'."
    assert error.hint == "Set altimate-integration to one of these names, or to an id."
    assert place.waited == []


def test_integration__where_there_is_none_at_all(place: Place) -> None:
    place.fake.replace_next("GET", INTEGRATIONS, body=b"[]")
    assert "there is no integration 'shop', but none at all." in place.refused(place.get).message


def test_integration__of_an_unknown_id(place: Place) -> None:
    error = place.refused(lambda: place.upload(integration="99"))
    assert error.message.startswith(f"{UPLOAD}manifest.json: ")
    assert "with 404: Integration not found." in error.message
    assert error.hint == PLACE_CURE


# Faults of each step


class Step(NamedTuple):
    """A request of an upload, what its error starts with, and how many files are up by then."""

    method: str
    path: str
    says: str
    done: int


STEPS = [
    Step("GET", VALIDATE, CHECK_KEY, 0),
    Step("GET", PERMISSIONS, CHECK_KEY, 0),
    Step("GET", INTEGRATIONS, FIND, 0),
    Step("GET", SIGNED_URL, f"{UPLOAD}manifest.json: ", 0),
    Step("PUT", r"/dbt-artifacts/.*/manifest.json", f"{UPLOAD}manifest.json: ", 0),
    Step("POST", VERIFY, f"{UPLOAD}manifest.json: ", 0),
    Step("PUT", r"/dbt-artifacts/.*/sources.json", f"{UPLOAD}sources.json: ", 3),
    Step("POST", INGEST, START, 5),
]


def step_id(step: Step) -> str:
    return f"{step.method} {step.path.rstrip('/').rpartition('/')[2]}"


UPLOAD_STEPS = pytest.mark.parametrize("step", STEPS, ids=step_id)
API_STEPS = pytest.mark.parametrize(
    "step", [step for step in STEPS if step.method != "PUT"], ids=step_id
)


def check_upload_error(error: CiDeferError, step: Step) -> None:
    """It names the step, and the files that the registry has by then."""
    assert isinstance(error, RegistryError)
    assert error.message.startswith(step.says)
    uploaded = f"Uploaded before: {', '.join(FILES[: step.done])}."
    assert error.message.endswith(uploaded) if step.done else "Uploaded before" not in error.message
    assert error.hint


@UPLOAD_STEPS
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404])
def test_upload__a_step_that_is_refused(place: Place, step: Step, status: int) -> None:
    place.fake.fail_next(step.method, step.path, status=status, detail="It is\nnot so.")
    error = place.refused(place.upload)
    check_upload_error(error, step)
    # The object store says why in XML, which nobody reads.
    said = "" if step.method == "PUT" else ": It is not so."
    assert f"with {status}{said}" in error.message
    assert place.waited == []
    assert place.fake.ingestions == []


@UPLOAD_STEPS
def test_upload__a_step_that_is_limited_waits_as_long_as_it_is_asked_to(
    place: Place, step: Step
) -> None:
    place.fake.limit_next(step.method, step.path, retry_after=7)
    place.fake.limit_next(step.method, step.path)
    place.upload()
    # Without the header it is a minute.
    assert place.waited == [7, 60]
    assert place.fake.ingestions == [Ingestion(7, "PROD", FILE_TYPES)]


@UPLOAD_STEPS
def test_upload__a_step_that_is_limited_for_too_long(place: Place, step: Step) -> None:
    place.fake.limit_next(step.method, step.path, retry_after=LONGEST_WAIT + 1)
    error = place.refused(place.upload)
    check_upload_error(error, step)
    assert f"rate limit is reached; it asks to wait {LONGEST_WAIT + 1} s." in error.message
    assert error.hint == "Run the job again later."
    assert place.waited == []


@UPLOAD_STEPS
def test_upload__a_step_that_stays_limited(place: Place, step: Step) -> None:
    place.fake.limit_next(step.method, step.path, retry_after=2, times=5)
    check_upload_error(place.refused(place.upload), step)
    assert place.waited == [2] * 4


@UPLOAD_STEPS
@pytest.mark.parametrize("fault", ["500", "drop", "page", "page 200"])
def test_upload__a_step_that_fails_once_is_tried_again_unless_it_may_be_done(
    place: Place, step: Step, fault: str
) -> None:
    if fault == "page 200" and step.method == "PUT":
        # Nobody reads what the object store says to a PUT that went well.
        fault = "page"
    break_once(place.fake, step.method, step.path, fault)
    if step.path == INGEST:
        # It may have started, and it costs credits.
        check_upload_error(place.refused(place.upload), step)
        assert place.waited == []
        assert place.asked.count("POST start_dbt_ingestion") == 1
        return
    place.upload()
    assert len(place.waited) == 1
    assert 0 < place.waited[0] <= 2
    assert place.fake.ingestions == [Ingestion(7, "PROD", FILE_TYPES)]


def break_once(fake: FakeRegistry, method: str, path: str, fault: str) -> None:
    if fault == "500":
        fake.fail_next(method, path)
    elif fault == "drop":
        fake.drop_next(method, path)
    else:
        fake.gateway_next(method, path, status=502 if fault == "page" else 200)


@UPLOAD_STEPS
def test_upload__a_step_that_fails_for_ever(place: Place, step: Step) -> None:
    times = 1 if step.path == INGEST else 5
    place.fake.fail_next(step.method, step.path, status=503, times=times)
    error = place.refused(place.upload)
    check_upload_error(error, step)
    assert "with 503: " in error.message
    assert error.hint == AGAIN
    assert len(place.waited) == times - 1


@API_STEPS
@pytest.mark.parametrize("member", ["detail", "message"])
def test_upload__ok_that_is_false_is_a_refusal(place: Place, step: Step, member: str) -> None:
    body = json.dumps({"ok": False, member: "not\n now"}).encode()
    place.fake.replace_next(step.method, step.path, body=body)
    error = place.refused(place.upload)
    check_upload_error(error, step)
    assert "the registry refused it: not now." in error.message
    assert place.waited == []


@API_STEPS
def test_upload__a_redirect_to_another_host_is_not_followed(place: Place, step: Step) -> None:
    with FakeRegistry() as elsewhere:
        place.fake.redirect_next(step.method, step.path, to=f"{elsewhere.url}{step.path}")
        error = place.refused(place.upload)
        check_upload_error(error, step)
        assert "redirects" in error.message
        assert elsewhere.requests == []


def test_upload__a_redirect_of_the_presigned_address_is_an_error(place: Place) -> None:
    place.fake.redirect_next("PUT", OBJECTS, to="https://elsewhere.example.com/")
    error = place.refused(place.upload)
    place.fake.violations.clear()
    assert "POST verify_upload" not in place.asked
    assert error.message.startswith(f"{UPLOAD}manifest.json: ")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_upload__refused_by_the_object_store_is_not_blamed_on_the_key(
    place: Place, status: int
) -> None:
    place.fake.fail_next("PUT", OBJECTS, status=status)
    error = place.refused(place.upload)
    assert "altimate-" not in error.hint


def test_upload__each_attempt_has_an_address_of_its_own(place: Place) -> None:
    place.fake.fail_next("PUT", OBJECTS, status=503)
    place.upload("manifest.json")
    assert place.asked.count("GET signed_url") == 2
    # The file that is verified is the one that was uploaded: nothing was held against it.
    assert place.fake.files(7, "PROD", "manifest") is not None


@pytest.mark.parametrize(
    "target",
    ["//elsewhere.example.com/", "ftp://x/"],
)
def test_redirect__to_no_place_of_the_registry_is_an_error(place: Place, target: str) -> None:
    place.fake.redirect_next("GET", VALIDATE, to=target)
    error = place.refused(place.upload)
    assert error.message.startswith(CHECK_KEY)
    assert target not in error.message


def test_redirect__to_what_is_no_address_is_no_answer(place: Place) -> None:
    # requests cannot even say that it is a redirect; it is asked again as after any broken answer.
    place.fake.redirect_next("GET", VALIDATE, to="https://[x", times=5)
    error = place.refused(place.upload)
    assert error.message.startswith(CHECK_KEY)
    assert "https://[x" not in error.message


def test_redirect__that_leads_to_another_one_is_an_error(place: Place) -> None:
    place.fake.redirect_next("GET", VALIDATE, to=VALIDATE, times=2)
    assert place.refused(place.upload).message.startswith(CHECK_KEY)


@pytest.mark.parametrize("body", [b"[]", b'{"url": "x", "dbt_core_integration_file_id": 1}'])
def test_address__that_cannot_be_used_comes_with_a_cure(place: Place, body: bytes) -> None:
    place.fake.replace_next("GET", SIGNED_URL, body=body)
    assert place.refused(place.upload).hint


def test_redirect__on_the_same_host_is_followed(place: Place) -> None:
    place.fake.redirect_next("GET", VALIDATE, to=VALIDATE)
    place.upload("manifest.json")
    assert place.asked[:2] == ["GET validate-credentials"] * 2


@pytest.mark.parametrize(
    "address", ["http://files.example.com/x", "ftp://localhost/x", "https://[x", "x", ""]
)
@pytest.mark.parametrize("path", [SIGNED_URL, FETCH])
def test_address__that_is_not_https_is_refused(place: Place, path: str, address: str) -> None:
    place.fake.upload(7, "manifest", MANIFEST)
    body = json.dumps({"url": address, "dbt_core_integration_file_id": 1}).encode()
    place.fake.replace_next("GET", path, body=body)
    error = place.refused(place.upload if path == SIGNED_URL else place.get)
    assert "the registry names an address that is not https." in error.message


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b"7", b"", b'{"url": 7}', b'{"url": "https://secret.example.com"}']
)
@pytest.mark.parametrize("path", [SIGNED_URL, FETCH, INTEGRATIONS])
def test_answer__of_an_unknown_shape_is_refused_and_not_shown(
    place: Place, path: str, body: bytes
) -> None:
    if path == INTEGRATIONS and body == b"[]":
        body = b'[{"name": "shop"}]'
    place.fake.upload(7, "manifest", MANIFEST)
    place.fake.replace_next("GET", path, body=body)
    error = place.refused(place.get if path == FETCH else place.upload)
    assert "the registry answered in a shape that ci-defer does not know." in error.message
    assert "secret.example.com" not in place.said


# Faults of the download


@pytest.mark.parametrize(
    ("path", "step"), [(INTEGRATIONS, FIND), (FETCH, DOWNLOAD), (OBJECTS, DOWNLOAD)]
)
@pytest.mark.parametrize("fault", ["500", "drop", "page", "page 200"])
def test_get__tries_again(place: Place, path: str, step: str, fault: str) -> None:
    place.fake.upload(7, "manifest", MANIFEST)
    break_once(place.fake, "GET", path, fault)
    assert place.get().manifest.nodes.keys() == {"model.shop.a"}
    assert content(place.to) == {"manifest.json": MANIFEST}
    if path == OBJECTS:
        # Each attempt has an address of its own, which is good for a short time.
        assert place.asked.count("GET fetch_artifact_url") == 2


@pytest.mark.parametrize(
    ("path", "step"), [(INTEGRATIONS, FIND), (FETCH, DOWNLOAD), (OBJECTS, DOWNLOAD)]
)
@pytest.mark.parametrize("fault", ["fail", "page", "cut"])
def test_get__gives_up_in_the_end(place: Place, path: str, step: str, fault: str) -> None:
    place.fake.upload(7, "manifest", MANIFEST)
    times = 3 if fault == "page" and path == OBJECTS else 5
    if fault == "fail":
        place.fake.fail_next("GET", path, times=times)
    elif fault == "page":
        place.fake.gateway_next("GET", path, status=200, times=times)
    else:
        place.fake.cut_next("GET", path, after=10, times=times)
    error = place.refused(place.get)
    assert error.message.startswith(step)
    assert AGAIN.rstrip(".") in error.hint
    assert not isinstance(error, StateNotFound)


@pytest.mark.parametrize(
    ("path", "step"), [(INTEGRATIONS, FIND), (FETCH, DOWNLOAD), (OBJECTS, DOWNLOAD)]
)
def test_get__that_is_limited(place: Place, path: str, step: str) -> None:
    place.fake.upload(7, "manifest", MANIFEST)
    place.fake.limit_next("GET", path, retry_after=3)
    assert place.get().manifest.nodes
    assert place.waited == [3]
    place.fake.limit_next("GET", path, retry_after=3600)
    error = place.refused(place.get)
    assert error.message.startswith(step)
    assert "it asks to wait 3600 s" in error.message


@pytest.mark.parametrize("status", [401, 402, 403])
def test_get__that_is_refused(place: Place, status: int) -> None:
    place.fake.upload(7, "manifest", MANIFEST)
    place.fake.fail_next("GET", FETCH, status=status, detail="no")
    error = place.refused(place.get)
    assert error.message.startswith(DOWNLOAD)
    assert error.hint == (CREDITS_CURE if status == 402 else KEY_CURE)
    assert place.waited == []


def test_get__a_file_that_the_object_store_has_not_is_no_missing_state(place: Place) -> None:
    place.fake.upload(7, "manifest", MANIFEST)
    place.fake.fail_next("GET", OBJECTS, status=404)
    error = place.refused(place.get)
    assert isinstance(error, RegistryError)
    assert error.message.startswith(DOWNLOAD)


@pytest.mark.parametrize("after", [0, 1, 100])
def test_get__a_body_that_breaks_off_is_fetched_again(place: Place, after: int) -> None:
    place.fake.upload(7, "manifest", MANIFEST)
    place.fake.cut_next("GET", OBJECTS, after=after)
    place.get()
    assert content(place.to) == {"manifest.json": MANIFEST}
    assert len(place.waited) == 1


def test_get__a_file_that_was_uploaded_damaged_is_no_json_for_ever(place: Place) -> None:
    place.fake.upload(7, "manifest", MANIFEST[:-1])
    error = place.refused(place.get)
    assert error.message.startswith(DOWNLOAD)
    assert error.hint == "Run the job again; if it stays so, upload the manifest again."
    assert place.asked.count("GET manifest.json") == 3


@pytest.mark.parametrize("path", [FETCH, OBJECTS])
def test_get__a_redirect_to_another_host_is_not_followed(place: Place, path: str) -> None:
    place.fake.upload(7, "manifest", MANIFEST)
    with FakeRegistry() as elsewhere:
        place.fake.redirect_next("GET", path, to=f"{elsewhere.url}/x")
        error = place.refused(place.get)
        assert error.message.startswith(DOWNLOAD)
        assert elsewhere.requests == []
    # It is no use to ask again.
    assert place.waited == []


@pytest.mark.parametrize(("path", "after"), [(FETCH, None), (OBJECTS, None), (OBJECTS, 50)])
def test_get__from_a_server_that_is_too_slow(
    place: Place, monkeypatch: pytest.MonkeyPatch, path: str, after: int | None
) -> None:
    monkeypatch.setattr("ci_defer.web.TIMEOUT", (5, 0.2))
    place.fake.upload(7, "manifest", MANIFEST)
    end = threading.Event()
    try:
        place.fake.hold_next("GET", path, until=end, after=after, times=5)
        error = place.refused(place.get)
        assert error.message.startswith(DOWNLOAD)
        assert "gave no answer" in error.message
        assert error.hint == AGAIN
        # Only once: then it is as if nothing had been.
        place.fake.hold_next("GET", path, until=end, after=after)
        assert place.get().manifest.nodes
    finally:
        end.set()


def test_upload__to_a_server_that_is_too_slow(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ci_defer.web.TIMEOUT", (5, 0.2))
    end = threading.Event()
    try:
        place.fake.hold_next("PUT", OBJECTS, until=end, times=5)
        error = place.refused(place.upload)
        check_upload_error(error, STEPS[4])
        assert "gave no answer" in error.message
    finally:
        end.set()


def test_registry__that_is_not_there(place: Place) -> None:
    with FakeRegistry() as gone:
        url = gone.url
    error = place.refused(lambda: place.get(url=url))
    assert error.message.startswith(FIND)
    assert "gave no answer for /dbt/v1/project_integrations/ (ConnectionError)" in error.message


# What nobody may read


@pytest.mark.parametrize("path", [VALIDATE, SIGNED_URL])
@pytest.mark.parametrize(
    "how",
    [
        "error",
        pytest.param(
            "ok is false",
        ),
    ],
)
def test_key__that_the_registry_repeats_is_not_shown(place: Place, path: str, how: str) -> None:
    detail = f"Bearer {TOKEN} is not known"
    if how == "error":
        place.fake.fail_next("GET", path, status=401, detail=detail)
    else:
        body = json.dumps({"ok": False, "detail": detail}).encode()
        place.fake.replace_next("GET", path, body=body)
    with pytest.raises(RegistryError) as caught:
        place.upload()
    assert TOKEN not in str(caught.value)
    assert "is not known" in str(caught.value)


def test_key__with_a_line_feed_at_its_end_is_the_key(place: Place) -> None:
    place.upload(token=f"{TOKEN}\n")
    assert place.fake.ingestions


@pytest.mark.parametrize("key", ["key\r\nX-Evil: 1", "key-of-äcme-€"])
def test_key__that_no_header_can_hold_is_an_error_without_it(place: Place, key: str) -> None:
    with pytest.raises(CiDeferError) as caught:
        place.upload(token=key)
    assert key.strip() not in str(caught.value)
    assert place.waited == []


# Memory

SIZE = 200 * 1024 * 1024
MEASURE = """
import sys, tracemalloc
from pathlib import Path
from ci_defer.account import Account
from ci_defer.stores.altimate import Registry, service
from ci_defer.web import Web
url, token, what, path = sys.argv[1:]

class Log:
    def info(self, text): pass
    warning = info

web = Web(service("acme"), token, log=Log())
account = Account(token=token, instance="acme", integration="7", environment="PROD", url=url)
tracemalloc.start()
if what == "upload":
    Registry(account, web, Log()).upload({"manifest.json": Path(path)})
else:
    address = lambda: Registry(account, web, Log())._address_of_manifest("7")
    web.download(address, Path(path), name="the manifest", limit=2**40)
print(tracemalloc.get_traced_memory()[1])
"""


def peak(place: Place, what: str, path: Path) -> int:
    """The most bytes that Python's objects took at once, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, place.fake.url, TOKEN, what, str(path)],
        env={"PYTHONPATH": str(ROOT / "src"), "HOME": str(place.tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_memory__does_not_grow_with_the_file(place: Place) -> None:
    sparse = place.tmp_path / "large.json"
    with sparse.open("wb") as file:
        file.truncate(SIZE)
    assert peak(place, "upload", sparse) < 20_000_000
    got = place.tmp_path / "got.json"
    assert peak(place, "download", got) < 20_000_000
    assert got.stat().st_size == SIZE


# The registry's own client


def shape(call: Call) -> dict[str, Any]:
    """What has to be the same of two clients' requests. Signatures and folders are by chance."""
    names = ("authorization", "x-tenant", "content-type", "content-length", "transfer-encoding")
    return {
        "what": (call.host, call.method),
        "path": call.path if call.host == "api" else call.path.rpartition("/")[2],
        "query": list(call.query.items()) if call.host == "api" else sorted(call.query),
        "body": call.body,
        "headers": {name: call.headers[name] for name in names if name in call.headers},
        "status": call.status,
    }


def fresh() -> FakeRegistry:
    fake = FakeRegistry()
    fake.add_integration(7, "shop", ["PROD"])
    fake.add_token(TOKEN, "acme")
    return fake


@pytest.mark.dbt  # It needs an environment that `make test-fast` does not install.
@pytest.mark.parametrize(
    ("option", "integration"),
    [("--dbt_core_integration_name", "shop"), ("--dbt_core_integration_id", "7")],
)
def test_upload__is_byte_for_byte_that_of_the_registrys_own_client(
    tmp_path: Path, option: str, integration: str
) -> None:
    files = artifacts(tmp_path)
    with fresh() as theirs:
        ran = onboard(
            files,
            option,
            integration,
            home=tmp_path,
            url=theirs.url,
            token=TOKEN,
            instance="acme",
        )
        assert ran.returncode == 0
    ours_at = tmp_path / "ours"
    ours_at.mkdir()
    with fresh() as ours:
        registry = Place(ours_at, ours).registry(integration)
        registry.upload({f"{kind}.json": path for kind, path in files.items()})
    assert theirs.violations == ours.violations == []
    assert theirs.ingestions == ours.ingestions == [Ingestion(7, "PROD", FILE_TYPES)]
    expected = [shape(call) for call in theirs.requests]
    assert [shape(call) for call in ours.requests] == expected
    assert not any("transfer-encoding" in call.headers for call in ours.requests)


@pytest.mark.dbt
def test_get__reads_what_the_registrys_own_client_uploads(place: Place) -> None:
    files = artifacts(place.tmp_path)
    document = json.loads(files["manifest"].read_text(encoding="utf-8"))
    document["metadata"] |= manifest()["metadata"]
    files["manifest"].write_text(json.dumps(document), encoding="utf-8")
    ran = onboard(
        {"manifest": files["manifest"]},
        *("--dbt_core_integration_id", "7"),
        home=place.tmp_path,
        url=place.fake.url,
        token=TOKEN,
        instance="acme",
    )
    assert "Ingestion has started" in ran.stdout, ran.stdout
    assert place.get().manifest.metadata.project_name == PROJECT
    assert content(place.to) == {"manifest.json": files["manifest"].read_bytes()}
