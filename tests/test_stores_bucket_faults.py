"""What goes wrong with a bucket or a disk, as a job sees it: real servers, the command line.

Whatever it is, a job says it once and says what to do, no secret is anywhere, and the store is
whole afterwards.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest

from ci_defer.outputs import OUTPUTS
from ci_defer.stores.compression import decompressed
from tests.harness.objects import (
    AZURE_ACCOUNT,
    AZURE_KEY,
    ObjectServer,
)
from tests.harness.objects_faults import named_fault
from tests.harness.objects_proxy import (
    Answer,
    CutRequest,
    CutResponse,
    DropAnswer,
    FaultProxy,
    Slow,
)
from tests.samples import (
    PROJECT,
    FakeDbt,
    Repository,
    content,
    manifest,
    quick_ci_defer,
    run_results,
)
from tests.samples import write_artifacts as write
from tests.test_cli import IN_CI, NODES, A, Place
from tests.test_runner import commands, outputs

KINDS = [
    pytest.param("s3", marks=pytest.mark.server),
    pytest.param("gcs", marks=pytest.mark.server),
    pytest.param("azure", marks=[pytest.mark.server, pytest.mark.action]),
]
# For what is ours alone, whichever service it is: one of them shows it.
ONE_IS_ENOUGH = pytest.mark.parametrize(
    "server", [pytest.param("s3", marks=pytest.mark.server)], indirect=True
)
TARGET = "prod"
LATEST = f"{PROJECT}/{TARGET}/latest.json"
PREFIX = "ci"

SESSION_TOKEN = "FwoGZXIvYXdzEBYaDEXAMPLEsessiontoken"
BEARER = "ya29.bearer-of-the-job"
SECRETS = (
    *("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", SESSION_TOKEN, BEARER, AZURE_KEY),
    *("FwoGZXIv", "Signature=", "sig=", "SharedKey "),
)
"""The credentials of the jobs, what is made of them, and what a service repeats of them."""

# They are all at an endpoint that the environment names.
SERVER = "The server …"
LOGIN = {
    "s3": "Run aws-actions/configure-aws-credentials before ci-defer, or set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY.",
    "gcs": "Run google-github-actions/auth before ci-defer, or set GOOGLE_APPLICATION_CREDENTIALS.",
    "azure": "Run azure/login before ci-defer, or set AZURE_STORAGE_SAS_TOKEN or "
    "AZURE_STORAGE_ACCOUNT_KEY.",
}
RIGHTS = {
    "s3": "The role needs s3:ListBucket, s3:GetObject and, to publish, s3:PutObject.",
    "gcs": "The account needs storage.objects.list and get and, to publish, create and delete.",
    "azure": "The identity needs the role Storage Blob Data Reader or, to publish, Contributor, "
    "and the network rules of the account must let this runner in. A key, or "
    "AZURE_STORAGE_SAS_TOKEN, must be of this account.",
}
UNTOUCHED = {"onboard": "What the store held before is untouched. ", "defer": ""}
AGAIN = "Run the job again."
OTHER_REGION = "Set AWS_REGION to the region of the bucket (aws s3api get-bucket-location)."
PARTS = "partNumber=|comp=block&"
LAST_OF_PARTS = "^uploadId=|^comp=blocklist"


@dataclass(frozen=True)
class Shop:
    """A repository with two commits, and what a store holds of the first one and of both.

    The name of each object, below the prefix, and its bytes.
    """

    path: Path
    older: str
    newer: str
    first: Mapping[str, bytes]
    both: Mapping[str, bytes]


class Job:
    """A step of a workflow run in a copy of the shop; every run leaves no trace but its files."""

    def __init__(self, folder: Path, shop: Shop, uri: str, environ: Mapping[str, str]) -> None:
        self.shop = shop
        self.uri = uri
        self.environ = dict(environ)
        self.folder = folder
        self.path = folder / "repository"
        shutil.copytree(shop.path, self.path)
        self.target = self.path / "target"
        self.dbt = FakeDbt(folder / "bin")
        self.dbt.lists(A, nodes=IN_CI)
        self.dbt.builds({A: "success"}, nodes=IN_CI)
        self._runs = 0

    def onboard(self, *, document: Path | None = None, limit: str = "") -> Ran:
        """Publish the state of the newer commit; `document` is its manifest."""
        write(self.target, manifest=manifest(NODES), run_results=run_results())
        if document:
            (self.target / "manifest.json").unlink()
            (self.target / "manifest.json").symlink_to(document)
        variables = {"GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main"}
        return self._run("onboard", "push", variables, limit)

    def defer(self, *, limit: str = "", **variables: str) -> Ran:
        """Build against the state of the newer commit, or of one before it."""
        variables = {"GITHUB_REF": "refs/pull/7/merge", "GITHUB_BASE_REF": "main", **variables}
        return self._run("defer", "pull_request", variables, limit)

    def _run(self, command: str, event: str, variables: Mapping[str, str], limit: str) -> Ran:
        self._runs += 1
        files = self.folder / f"run-{self._runs}"
        temporary, runner_temp = files / "tmp", files / "runner"
        for folder in (temporary, runner_temp):
            folder.mkdir(parents=True)
        payload = {
            "repository": {"default_branch": "main"},
            "pull_request": {"number": 7, "base": {"sha": self.shop.newer}},
        }
        (files / "event.json").write_text(json.dumps(payload))
        program = [sys.executable, "-c", limit] if limit else [quick_ci_defer()]
        done = subprocess.run(
            [*program, command, "--state", self.uri],
            cwd=self.path,
            env={
                **Repository(self.path, cloned=True).environ,
                # Of the run of the tests: a checkout that is not installed.
                **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
                "PATH": self.dbt.path,
                # Production's, so that nothing has to be parsed again.
                "CI_DEFER_TARGET": "prod",
                "TMPDIR": str(temporary),
                "GITHUB_ACTIONS": "true",
                "GITHUB_EVENT_NAME": event,
                "GITHUB_EVENT_PATH": str(files / "event.json"),
                "GITHUB_OUTPUT": str(files / "output"),
                "GITHUB_STEP_SUMMARY": str(files / "summary"),
                "RUNNER_TEMP": str(runner_temp),
                **variables,
                **self.environ,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout + done.stderr
        (files / "log").write_text(said)
        assert list(temporary.iterdir()) == list(runner_temp.iterdir()) == [], said
        assert (done.stderr, "Traceback" in said) == ("", False), said
        self._check_that_no_secret_is_anywhere()
        return Ran(done.returncode, said, outputs(files / "output"))

    def _check_that_no_secret_is_anywhere(self) -> None:
        # dbt gets the environment of the job: it may need it for its warehouse.
        calls = self.dbt.folder / "calls"
        for file in self.folder.rglob("*"):
            if file.is_file() and file != calls and ".git" not in file.parts:
                data = file.read_bytes()
                assert [one for one in SECRETS if one.encode() in data] == [], file


@dataclass(frozen=True)
class Ran:
    exit_code: int
    output: str
    outputs: dict[str, str]

    @property
    def errors(self) -> list[str]:
        """The annotations that are errors."""
        return [line for line in commands(self.output) if line.startswith("::error")]

    def check_failed(self, exit_code: int, message: str) -> None:
        """It failed with this message and nothing else; `…` in it stands for any name."""
        pattern = re.escape(f"::error title=ci-defer::{message}").replace("…", r"[\w./:-]*?")
        assert len(self.errors) == 1, self.output
        assert re.fullmatch(pattern, self.errors[0]), self.errors[0]
        assert self.exit_code == exit_code, self.output
        assert set(self.outputs) == set(OUTPUTS)
        assert self.outputs["outcome"] == "error"

    def check_succeeded(self) -> None:
        assert (self.exit_code, self.errors) == (0, []), self.output
        assert self.outputs["outcome"] == "success"


def check_whole(job: Job, names: Mapping[str, bytes], before: Mapping[str, bytes]) -> set[str]:
    """What was there is there, latest.json names a commit that is, and what is there is whole.

    Gives the commits of which there is a state.
    """
    assert {name: names.get(name) for name in before if name != LATEST} == {
        name: data for name, data in before.items() if name != LATEST
    }
    whole = set()
    for name, data in names.items():
        folder, _, file = name.rpartition("/")
        if file != "state.json":
            continue
        for of_bundle, record in json.loads(data)["files"].items():
            publication = hashlib.sha256(data).hexdigest()[:16]
            data_of = names[f"{folder}/{publication}/{of_bundle}.zst"]
            found = b"".join(decompressed([data_of], record["size"]))
            assert hashlib.sha256(found).hexdigest() == record["sha256"]
        whole.add(folder.rpartition("/")[2])
    order = [job.shop.older, job.shop.newer]
    pointed = json.loads(names[LATEST])["commit"]
    assert pointed in whole
    assert order.index(pointed) >= order.index(json.loads(before[LATEST])["commit"])
    return whole


class BucketJob(Job):
    """A job whose bucket is behind the proxy."""

    def __init__(self, folder: Path, shop: Shop, server: ObjectServer, proxy: FaultProxy) -> None:
        self.server = server
        self.bucket = server.create(f"test-{hashlib.sha256(str(folder).encode()).hexdigest()[:20]}")
        self.before: Mapping[str, bytes] = {}
        super().__init__(
            folder, shop, f"{server.uri(self.bucket)}/{PREFIX}", credentials(server, proxy.url)
        )

    def holds(self, objects: Mapping[str, bytes]) -> None:
        """From now on this is in the bucket."""
        self.before = objects
        for name, data in objects.items():
            self.server.write(self.bucket, f"{PREFIX}/{name}", data)

    @property
    def now(self) -> dict[str, bytes]:
        """All that is in the bucket."""
        names = self.server.names(self.bucket)
        return {
            name.removeprefix(f"{PREFIX}/"): self.server.read(self.bucket, name) for name in names
        }

    def check_untouched(self) -> None:
        assert self.now == self.before

    def check_store(self) -> str:
        """The store is whole, and a job without a fault gets its newest state, whose commit is."""
        whole = check_whole(self, self.now, self.before)
        self.environ = credentials(self.server, self.server.url)
        ran = self.defer()
        ran.check_succeeded()
        newest = self.shop.newer if self.shop.newer in whole else self.shop.older
        assert ran.outputs["state-commit"] == newest
        return newest


def credentials(server: ObjectServer, url: str) -> dict[str, str]:
    """The environment of a job that has logged in."""
    if server.kind == "gcs":
        return {"GOOGLE_BASE_URL": url, "GOOGLE_BEARER_TOKEN": BEARER}
    more = {"AWS_SESSION_TOKEN": SESSION_TOKEN} if server.kind == "s3" else {}
    return {**server.environ(url), **more}


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    place = Place(folder)
    store = folder / "store"
    kept: list[dict[str, bytes]] = []
    commits: list[str] = []
    for name in ("older", "newer"):
        commits.append(place.repository.commit(name))
        write(place.target, manifest=manifest(NODES), run_results=run_results())
        done = place.run("onboard", "--state", str(store))
        assert done.returncode == 0, done.stderr
        kept.append({key: data for key, data in content(store).items() if ".lock" not in key})
    shutil.rmtree(place.target)
    # What a pull request changes: otherwise dbt would have nothing to do.
    (place.repository.path / "a.sql").write_text("select 1\n")
    return Shop(place.repository.path, commits[0], commits[1], kept[0], kept[1])


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 27 MB, of which compression leaves 20: three parts."""
    text = base64.b64encode(random.Random(1).randbytes(20_000_000)).decode()
    nodes = [{**NODES[0], "raw_code": text}]
    folder = tmp_path_factory.mktemp("large")
    return write(folder, manifest=manifest(nodes)) / "manifest.json"


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> ObjectServer:
    found: ObjectServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def proxy(server: ObjectServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.url) as proxy:
        yield proxy
    assert proxy.failures == []
    assert proxy.pending == []


@pytest.fixture
def job(tmp_path: Path, shop: Shop, server: ObjectServer, proxy: FaultProxy) -> BucketJob:
    return BucketJob(tmp_path, shop, server, proxy)


@pytest.fixture
def s3_job(tmp_path: Path, shop: Shop, s3: ObjectServer) -> Iterator[tuple[BucketJob, FaultProxy]]:
    """For what only S3 has."""
    with FaultProxy(s3.url) as proxy:
        yield BucketJob(tmp_path, shop, s3, proxy), proxy
    assert proxy.failures == []


def run(job: BucketJob, command: str) -> Ran:
    """One of the two commands, in a store in which it has something to do."""
    if command == "onboard":
        job.holds(job.shop.first)
        return job.onboard()
    job.holds(job.shop.both)
    ran = job.defer()
    job.check_untouched()
    return ran


def path_of(name: str) -> str:
    """The end of the path of a request, for the proxy."""
    return f".*/{name}"


# What every request is refused with.

EXPIRED = {
    "s3": "The credentials for … have expired (400 ExpiredToken). "
    f"{LOGIN['s3']} Do it closer to this step, or ask for a longer session.",
    "gcs": "The server … does not accept the credentials for … "
    f"(401 AuthenticationRequired). {LOGIN['gcs']}",
    # Of a shared access signature: the role of an identity has nothing to do with it.
    "azure": "The credentials for … have expired (403 AuthenticationFailed). "
    f"{LOGIN['azure']} Do it closer to this step, or ask for a longer session.",
}
SAID: Mapping[str, Mapping[str, str]] = {
    "no_permission": {
        "s3": "403 AccessDenied",
        "gcs": "403 AccessDenied",
        "azure": "403 AuthorizationPermissionMismatch",
    },
    "slow_down": {"s3": "503 SlowDown", "gcs": "429 SlowDown", "azure": "503 ServerBusy"},
    "disk_full": {
        "s3": "507 XMinioStorageFull",
        "gcs": "507 InsufficientStorage",
        "azure": "507 InsufficientStorage",
    },
}
Fault: TypeAlias = CutResponse | DropAnswer | Answer
COMMANDS = ["onboard", "defer"]
DOING = {"onboard": "write", "defer": "list"}


def check_after(job: BucketJob, command: str) -> None:
    """What holds after either command has failed."""
    if command == "onboard":
        assert job.check_store() == job.shop.older


@pytest.mark.parametrize("command", COMMANDS)
def test_expired_credentials__say_to_log_in_again(
    job: BucketJob, proxy: FaultProxy, command: str
) -> None:
    proxy.inject(named_fault(job.server.kind, "expired_credentials"), times=None)
    run(job, command).check_failed(2, EXPIRED[job.server.kind])
    check_after(job, command)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_permission__says_which_and_what_for(
    job: BucketJob, proxy: FaultProxy, command: str
) -> None:
    kind = job.server.kind
    proxy.inject(named_fault(kind, "no_permission"), times=None)
    run(job, command).check_failed(
        2,
        f"{SERVER} does not allow to {DOING[command]} … ({SAID['no_permission'][kind]}). "
        f"{RIGHTS[kind]}",
    )
    check_after(job, command)


@ONE_IS_ENOUGH
@pytest.mark.parametrize(("command", "fault"), [("onboard", "disk_full"), ("defer", "slow_down")])
def test_service__that_does_not_recover_is_given_up(
    job: BucketJob, proxy: FaultProxy, command: str, fault: str
) -> None:
    kind = job.server.kind
    proxy.inject(named_fault(kind, fault), times=None)
    ran = run(job, command)
    said = f"{SERVER} cannot {DOING[command]} …: {SAID[fault][kind]}."
    cure = "Make room there." if fault == "disk_full" else AGAIN
    ran.check_failed(3, f"{said} {UNTOUCHED[command]}{cure}")
    assert proxy.count() >= 6
    check_after(job, command)


def test_service__that_recovers_is_not_mentioned(job: BucketJob, proxy: FaultProxy) -> None:
    slow_down = named_fault(job.server.kind, "slow_down")
    proxy.inject(slow_down, times=3)
    run(job, "onboard").check_succeeded()
    proxy.inject(slow_down, times=3)
    job.defer().check_succeeded()
    assert job.check_store() == job.shop.newer


ENDPOINT = {
    "s3": "AWS_ENDPOINT_URL",
    "gcs": "GOOGLE_BASE_URL",
    "azure": "AZURE_STORAGE_ENDPOINT",
}


def test_no_credentials__say_to_log_in(job: BucketJob, proxy: FaultProxy) -> None:
    kind = job.server.kind
    # No machine of a cloud: the address where they have credentials is not reached.
    job.environ = {"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1"}
    job.environ |= {ENDPOINT[kind]: proxy.url, "AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT}
    run(job, "defer").check_failed(
        2,
        "There are no credentials for … that work: the environment holds none, and this machine "
        f"has none of its own. {LOGIN[kind]}",
    )
    assert proxy.requests == []


# What is wrong with the place.


@pytest.mark.parametrize(
    ("command", "target"),
    [("onboard", ""), ("defer", ""), ("defer", TARGET)],
    ids=["onboard", "defer to any target", "defer to one target"],
)
def test_bucket__that_is_not_there(job: BucketJob, command: str, target: str) -> None:
    kind = job.server.kind
    code = "ContainerNotFound" if kind == "azure" else "NoSuchBucket"
    job.uri = f"{job.server.scheme}://no-such-bucket/{PREFIX}"
    # Without a target production's is sought in a list, with one nothing is listed at first.
    job.environ["CI_DEFER_PRODUCTION_TARGET"] = target
    run(job, command).check_failed(
        2,
        f"There is no bucket no-such-bucket that {SERVER} knows (404 {code}). "
        "Create it, or correct the setting state.",
    )


@ONE_IS_ENOUGH
@pytest.mark.parametrize(
    ("command", "url", "reason"),
    [
        ("onboard", "http://127.0.0.1:1", "its server refuses the connection"),
        ("defer", "http://no-such-host.invalid", "the name of its server cannot be resolved"),
    ],
    ids=["no server", "no such host"],
)
def test_server__that_is_not_there(job: BucketJob, command: str, url: str, reason: str) -> None:
    kind = job.server.kind
    job.environ = credentials(job.server, f"{url}/{AZURE_ACCOUNT}" if kind == "azure" else url)
    said = f"{SERVER} cannot {DOING[command]} …: {reason}."
    cure = f"Run the job again; if it stays so, check the setting state and {ENDPOINT[kind]}."
    run(job, command).check_failed(3, f"{said} {UNTOUCHED[command]}{cure}")
    check_after(job, command)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("fault", "where"),
    [
        # Neither the status nor the region are in what obstore says.
        ("wrong_region", "It is in another one."),
        ("wrong_region_signed", "It is in eu-central-1."),
    ],
)
def test_region__that_is_wrong(
    s3_job: tuple[BucketJob, FaultProxy], command: str, fault: str, where: str
) -> None:
    job, proxy = s3_job
    proxy.inject(named_fault("s3", fault), times=None)
    run(job, command).check_failed(
        2, f"The server … does not find … in this region. {where} {OTHER_REGION}"
    )
    check_after(job, command)


# One permission that is missing.

LISTS = {"s3": "list-type=2", "gcs": "list-type=2", "azure": "comp=list"}


def test_permission__to_list_is_missing(job: BucketJob, proxy: FaultProxy) -> None:
    kind = job.server.kind
    proxy.inject(named_fault(kind, "no_permission"), query=LISTS[kind], times=None)
    ran = run(job, "defer")
    assert ran.exit_code == 2, ran.output
    assert f" does not allow to list {job.uri} (403 " in ran.errors[0]
    # To publish needs no list.
    job.onboard().check_succeeded()


@ONE_IS_ENOUGH
@pytest.mark.parametrize("name", ["state.json", "manifest.json.zst"])
def test_permission__to_read_is_missing(job: BucketJob, proxy: FaultProxy, name: str) -> None:
    kind = job.server.kind
    proxy.inject(named_fault(kind, "no_permission"), method="GET", path=path_of(name), times=None)
    run(job, "defer").check_failed(
        2,
        f"{SERVER} does not allow to read {job.uri}/…{name} "
        f"({SAID['no_permission'][kind]}). {RIGHTS[kind]}",
    )


@ONE_IS_ENOUGH
def test_permission__to_write_is_missing(job: BucketJob, proxy: FaultProxy) -> None:
    path = path_of("state.json")
    proxy.inject(named_fault("s3", "no_permission"), method="PUT", path=path, times=None)
    run(job, "onboard").check_failed(
        2,
        f"{SERVER} does not allow to write {job.uri}/…state.json "
        f"({SAID['no_permission']['s3']}). {RIGHTS['s3']}",
    )
    assert job.check_store() == job.shop.older


@ONE_IS_ENOUGH
# S3 answers so when who may not list asks for a pointer that is not there yet.
@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_permission__for_the_pointer_is_missing(
    job: BucketJob, proxy: FaultProxy, method: str
) -> None:
    path = path_of("latest.json")
    proxy.inject(named_fault("s3", "no_permission"), method=method, path=path, times=None)
    ran = run(job, "onboard")
    # Pull requests do not need it.
    ran.check_succeeded()
    assert "::warning title=ci-defer::The state is saved, but latest.json does not name it" in (
        ran.output
    )
    assert json.loads(job.now[LATEST])["commit"] == job.shop.older
    assert check_whole(job, job.now, job.before) == {job.shop.older, job.shop.newer}


# Connections that break.


@pytest.mark.parametrize(
    ("name", "reset"), [("manifest.json.zst", True), ("state.json", False), ("latest.json", True)]
)
def test_upload__that_breaks_is_done_again(
    job: BucketJob, proxy: FaultProxy, name: str, reset: bool
) -> None:
    proxy.inject(CutRequest(100, reset), method="PUT", path=path_of(name))
    run(job, "onboard").check_succeeded()
    assert job.check_store() == job.shop.newer


@pytest.mark.parametrize(
    ("name", "fault"),
    [("manifest.json.zst", CutResponse(100)), ("state.json", DropAnswer(reset=True))],
    ids=["in the middle", "at once"],
)
def test_download__that_breaks_is_done_again(
    job: BucketJob, proxy: FaultProxy, name: str, fault: Fault
) -> None:
    proxy.inject(fault, method="GET", path=path_of(name), times=2)
    run(job, "defer").check_succeeded()


def test_parts__that_break_are_sent_and_asked_for_again(
    job: BucketJob, proxy: FaultProxy, large: Path
) -> None:
    job.holds(job.shop.first)
    proxy.inject(CutRequest(1_000_000), method="PUT", query=PARTS)
    proxy.inject(named_fault(job.server.kind, "slow_down"), method="PUT", query=PARTS)
    job.onboard(document=large).check_succeeded()
    assert proxy.count("PUT", query=PARTS) >= 3 + 2
    proxy.inject(CutResponse(1_000_000), method="GET", path=path_of("manifest.json.zst"), times=3)
    ran = job.defer()
    ran.check_succeeded()
    assert ran.outputs["state-commit"] == job.shop.newer
    # One that is not read to its end, one for each of the parts, and again what had broken.
    assert proxy.count("GET", path_of("manifest.json.zst")) >= 1 + 3 + 2
    check_whole(job, job.now, job.before)


def test_parts__that_break_for_ever(s3_job: tuple[BucketJob, FaultProxy], large: Path) -> None:
    job, proxy = s3_job
    job.holds(job.shop.first)
    proxy.inject(CutRequest(1_000_000), method="PUT", query=PARTS, times=None)
    job.onboard(document=large).check_failed(
        3,
        f"The server … cannot write …: the connection was reset. {UNTOUCHED['onboard']}{AGAIN}",
    )
    assert job.check_store() == job.shop.older


@ONE_IS_ENOUGH
def test_download__that_breaks_for_ever_ends_the_run(job: BucketJob, proxy: FaultProxy) -> None:
    proxy.inject(CutResponse(10), method="GET", path=path_of("manifest.json.zst"), times=None)
    ran = run(job, "defer")
    ran.check_failed(3, f"{SERVER} cannot read …: the connection was reset. {AGAIN}")
    # An older state is for one that is damaged. This one may be sound.
    assert "is passed over" not in ran.output


@ONE_IS_ENOUGH
def test_server__that_is_slow_is_waited_for(job: BucketJob, proxy: FaultProxy) -> None:
    proxy.inject(Slow(0.02, piece=200), times=None)
    run(job, "onboard").check_succeeded()
    job.defer().check_succeeded()
    check_whole(job, job.now, job.before)


# Answers that are lost: what was asked for has been done, and nobody knows.


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("state.json", DropAnswer(reset=True)),
        ("latest.json", DropAnswer(reset=False)),
        ("latest.json", DropAnswer(reset=True)),
        ("latest.json", Answer(500, done=True)),
    ],
    ids=["state.json", "pointer", "pointer reset", "pointer 500"],
)
def test_answer__to_a_write_is_lost(
    job: BucketJob, proxy: FaultProxy, name: str, fault: Fault
) -> None:
    proxy.inject(fault, method="PUT", path=path_of(name))
    run(job, "onboard").check_succeeded()
    assert json.loads(job.now[LATEST])["commit"] == job.shop.newer
    assert check_whole(job, job.now, job.before) == {job.shop.older, job.shop.newer}


@ONE_IS_ENOUGH
def test_answer__to_the_first_pointer_is_lost(job: BucketJob, proxy: FaultProxy) -> None:
    proxy.inject(DropAnswer(), method="PUT", path=path_of("latest.json"))
    job.onboard().check_succeeded()
    assert json.loads(job.now[LATEST])["commit"] == job.shop.newer


def test_answer__to_the_last_request_of_parts_is_lost(
    job: BucketJob, proxy: FaultProxy, large: Path
) -> None:
    job.holds(job.shop.first)
    proxy.inject(DropAnswer(), method="POST|PUT", query=LAST_OF_PARTS)
    ran = job.onboard(document=large)
    check_whole(job, job.now, job.before)
    ran.check_succeeded()
    assert json.loads(job.now[LATEST])["commit"] == job.shop.newer


# What is damaged at rest.


@ONE_IS_ENOUGH
@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("manifest.json.zst", "cut", "manifest.json in …: It is cut short."),
        ("manifest.json.zst", "changed", "manifest.json is not the file that was published"),
        ("manifest.json.zst", "gone", "The bundle in … is not whole: manifest.json is gone."),
        ("state.json", "empty", "state.json "),
        ("state.json", "gone", "It has no state.json: it is being written, or its writer died."),
    ],
    ids=["file cut", "file changed", "file gone", "state empty", "state gone"],
)
def test_damaged_object__is_passed_over(
    job: BucketJob, name: str, damage: str, reason: str
) -> None:
    job.holds(job.shop.both)
    ours = f"{PROJECT}/{TARGET}/{job.shop.newer}/"
    (key,) = [key for key in job.before if key.startswith(ours) and key.endswith(f"/{name}")]
    data = job.before[key]
    damaged = {"cut": data[:-10], "changed": data[:50] + b"!!!!" + data[54:], "empty": b""}
    if damage == "gone":
        job.server.delete(job.bucket, f"{PREFIX}/{key}")
    else:
        job.server.write(job.bucket, f"{PREFIX}/{key}", damaged[damage])
    ran = job.defer()
    ran.check_succeeded()
    assert ran.outputs["state-commit"] == job.shop.older
    assert ran.outputs["state-age-commits"] == "1"
    pattern = re.escape(reason).replace("…", r"[\w./:-]*")
    said = [line for line in ran.output.splitlines() if re.search(pattern, line)]
    assert len(said) == 1, ran.output
    if (name, damage) != ("state.json", "gone"):
        assert f"The state of commit {job.shop.newer[:12]} is passed over: " in said[0]
        assert said[0].startswith("::warning")


# Our own disk.

# A limit for the size of files is the one way to a full disk that needs no rights. It holds from
# when a file is opened below that folder.
LIMITED = """
import resource, runpy, sys
def limit(event, arguments):
    if event in ("open", "tempfile.mkstemp") and {folder!r} in str(arguments[0]):
        resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, resource.RLIM_INFINITY))
sys.addaudithook(limit)
runpy.run_module("ci_defer", run_name="__main__", alter_sys=True)
"""


def medium(path: Path) -> Path:
    """A manifest of some hundred kilobytes, also when it is compressed."""
    text = base64.b64encode(random.Random(1).randbytes(300_000)).decode()
    return write(path, manifest=manifest([{**NODES[0], "raw_code": text}])) / "manifest.json"


def test_disk__that_is_full_while_a_state_is_fetched(
    s3_job: tuple[BucketJob, FaultProxy], tmp_path: Path
) -> None:
    job, _ = s3_job
    job.holds(job.shop.first)
    job.onboard(document=medium(tmp_path / "medium")).check_succeeded()
    ran = job.defer(limit=LIMITED.format(folder="/ci-defer-", size=100_000))
    assert ran.exit_code == 3, ran.output
    assert len(ran.errors) == 1, ran.output
    assert "Make room there, or let TMPDIR name another place." in ran.errors[0]
    assert ran.outputs["outcome"] == "error"
    assert "is passed over" not in ran.output
    # As after any other error that ends a run.
    assert (job.target / "ci-defer" / "report.json").is_file()
    assert job.check_store() == job.shop.newer


def test_disk__that_is_full_while_a_state_is_packed(
    s3_job: tuple[BucketJob, FaultProxy], tmp_path: Path
) -> None:
    job, _ = s3_job
    job.holds(job.shop.first)
    document = medium(tmp_path / "medium")
    ran = job.onboard(document=document, limit=LIMITED.format(folder="/ci-defer-", size=100_000))
    assert ran.exit_code == 3, ran.output
    assert len(ran.errors) == 1, ran.output
    assert "disk" in ran.errors[0]
    assert job.check_store() == job.shop.older


# A directory.


class DirectoryJob(Job):
    """A job whose store is a directory."""

    def __init__(self, folder: Path, shop: Shop, store: Path | None = None) -> None:
        self.store = store or folder / "store"
        super().__init__(folder / "job", shop, str(self.store), {})

    def holds(self, objects: Mapping[str, bytes]) -> None:
        for name, data in objects.items():
            path = self.store / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def check_store(self, before: Mapping[str, bytes]) -> set[str]:
        names = content(self.store)
        assert [name for name in names if name.endswith(".partial")] == []
        return check_whole(self, names, before)


@pytest.fixture
def directory_job(tmp_path: Path, shop: Shop) -> DirectoryJob:
    return DirectoryJob(tmp_path, shop)


# Both state.json and a pointer have more than 100 bytes.
@pytest.mark.parametrize(
    ("part", "size"),
    [("manifest.json.zst", 100_000), ("state.json", 100)],
)
def test_directory__on_a_full_disk(
    directory_job: DirectoryJob, tmp_path: Path, part: str, size: int
) -> None:
    job = directory_job
    job.holds(job.shop.first)
    ran = job.onboard(
        document=medium(tmp_path / "medium"),
        limit=FULL_STORE.format(part=part, store=str(job.store), size=size),
    )
    ran.check_failed(
        3,
        f"The state cannot be saved to {job.store}: File too large. What the store held before is "
        "untouched. Check the permissions and the free space of the directory.",
    )
    whole = job.check_store(job.shop.first)
    assert job.shop.newer not in whole
    # There is room again.
    job.onboard().check_succeeded()
    assert job.check_store(job.shop.first) == {job.shop.older, job.shop.newer}


# Nobody sees the name of a file before it is whole: they are told apart by their folders.
FULL_STORE = """
import resource, runpy, sys
store, size, part = {store!r}, {size}, {part!r}
def full(event, arguments):
    if event == "tempfile.mkstemp" and str(arguments[0]).startswith(store):
        folder = str(arguments[0]).removeprefix(store).strip("/").split("/")[:-1]
        now = {{4: "manifest.json.zst", 3: "state.json", 2: "latest.json"}}[len(folder)]
        limit = size if now == part else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    elif event == "os.remove":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
sys.addaudithook(full)
runpy.run_module("ci_defer", run_name="__main__", alter_sys=True)
"""


def test_directory__that_cannot_be_made(tmp_path: Path, shop: Shop) -> None:
    # Also for root: there is a file in the way.
    (tmp_path / "file").write_text("")
    job = DirectoryJob(tmp_path, shop, tmp_path / "file" / "store")
    job.onboard().check_failed(
        3,
        f"The state cannot be saved to {job.store}: Not a directory. What the store held before is "
        "untouched. Check the permissions and the free space of the directory.",
    )


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="this is not Linux")
def test_directory__without_permission(tmp_path: Path, shop: Shop) -> None:
    # In this file system of the kernel not even root may make a folder.
    job = DirectoryJob(tmp_path, shop, Path("/sys/kernel/ci-defer-store"))
    ran = job.onboard()
    assert ran.exit_code == 3, ran.output
    (error,) = ran.errors
    reasons = "(Operation not permitted|Permission denied|Read-only file system)"
    assert re.search(f"cannot be saved to {re.escape(str(job.store))}: {reasons}. ", error)
    assert error.endswith("Check the permissions and the free space of the directory.")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="this is not Linux")
def test_directory__whose_disk_cannot_be_read_ends_the_run(directory_job: DirectoryJob) -> None:
    job = directory_job
    job.holds(job.shop.both)
    (manifest_file,) = (job.store / PROJECT / TARGET / job.shop.newer).rglob("manifest.json.zst")
    data = manifest_file.read_bytes()
    manifest_file.unlink()
    # It opens, and its first byte is an input/output error.
    manifest_file.symlink_to("/proc/self/mem")
    ran = job.defer()
    ran.check_failed(
        3,
        f"The store {job.store} cannot be read: Input/output error. "
        "Check the permissions of the directory.",
    )
    assert "is passed over" not in ran.output
    manifest_file.unlink()
    manifest_file.write_bytes(data)
    job.defer().check_succeeded()
    job.check_store(job.shop.both)
