"""Reading states from artifacts: the real client against the fake GitHub, and its faults."""

from __future__ import annotations

import dataclasses
import io
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ci_defer.errors import RestError, StateNotFound
from ci_defer.report import PassedOver
from ci_defer.rest import GitHubRest
from ci_defer.state import FoundState, find_state
from ci_defer.stores.artifact import ArtifactStore
from tests.harness.github import FakeGitHub, Run
from tests.samples import PROJECT, Log, Repository, content, packed
from tests.test_bundle import compared

TOKEN = "ghs_aVeryLongTokenThatMustNotLeakAnywhere"
NAME = f"ci-defer-state-{PROJECT}"
ZIP = r"/repos/.*/zip"
BLOB = r"/blob/.*"
START = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Place:
    """A repository whose main has three commits, and GitHub's artifacts of its runs."""

    def __init__(self, tmp_path: Path, github: FakeGitHub) -> None:
        self.tmp_path = tmp_path
        self.github = github
        self.repository = Repository(tmp_path / "repository")
        self.first, self.middle, self.base = (
            self.repository.commit(name) for name in ("first", "middle", "base")
        )
        self.log = Log()
        self.passed_over: list[PassedOver] = []
        self.waited: list[float] = []
        self.to = tmp_path / "to"
        self.to.mkdir()
        self._runs = 100

    def publish(
        self,
        commit: str,
        *,
        archive: Callable[[dict[str, bytes]], bytes] | None = None,
        project: str = PROJECT,
        name: str = NAME,
        run: dict[str, Any] | None = None,
        digest: str | None = "",
        expired: bool = False,
    ) -> None:
        """An artifact of the state of `commit`, in a run of its own, newer than those before."""
        self._runs += 1
        production = Run(id=self._runs, event="push", head_branch="main", head_sha=commit)
        self.github.add_run(dataclasses.replace(production, **(run or {})))
        files = content(packed(self.tmp_path, "a", commit=commit, project=project).directory)
        self.github.add_artifact(
            name,
            archive(files) if archive else files,
            self._runs,
            created_at=None if expired else START + timedelta(minutes=self._runs),
            expires_at=None if expired else START + timedelta(days=10_000),
            expired=expired,
            digest=digest,
        )

    def find(self) -> FoundState:
        rest = GitHubRest(
            self.github.url, "acme/shop", TOKEN, log=self.log, sleep=self.waited.append
        )
        store = ArtifactStore(PROJECT, branch="main", outbox=None, rest=rest, log=self.log)
        git = self.repository.git
        return find_state(
            store,
            self.base,
            git,
            rest,
            self.to,
            project_name=PROJECT,
            log=self.log,
            passed_over=self.passed_over.append,
        )

    def found(self) -> str:
        """The commit of the state that is found."""
        provenance = self.find().production.provenance
        assert provenance is not None
        return provenance.origin.commit

    @property
    def said(self) -> str:
        return "\n".join(self.log.lines)

    def asked(self, part: str) -> int:
        return sum(part in record.path for record in self.github.requests)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with FakeGitHub() as github:
        place = Place(tmp_path, github)
        yield place
        assert github.violations == []
        assert TOKEN not in place.said
        # The files go to another host, which must never see the token.
        assert not any(record.authorized for record in github.requests if "/blob/" in record.path)


def test_the_state_of_exactly_the_base_commit(place: Place) -> None:
    for commit in (place.first, place.middle, place.base):
        place.publish(commit)
    found = place.find()
    assert found.age_commits == 0
    assert found.production.provenance is not None
    assert found.production.provenance.origin.commit == place.base
    assert found.production.run_results is not None
    # One page, the event of one run, one download.
    assert (place.asked("/artifacts"), place.asked("/runs/")) == (2, 1)


def test_the_nearest_ancestor_when_the_base_commit_has_none(place: Place) -> None:
    place.publish(place.first)
    place.publish(place.middle)
    place.publish("f" * 40)
    assert place.find().age_commits == 1


def test_other_projects_of_the_repository_are_not_looked_at(place: Place) -> None:
    place.publish(place.base, name=f"{NAME}-2")
    with pytest.raises(StateNotFound, match="holds no production state yet"):
        place.find()


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        ({"head_repository": "mallory/shop"}, "its run belongs to a fork"),
        ({"head_branch": "feature"}, "its run is of branch 'feature', not of 'main'"),
        ({"event": "pull_request"}, "its run was started by 'pull_request'"),
        ({"event": "workflow_run"}, "its run was started by 'workflow_run'"),
    ],
)
def test_what_is_not_of_production_is_passed_over(
    place: Place, run: dict[str, Any], reason: str
) -> None:
    if "head_repository" in run:
        place.github.add_repository("mallory/shop", fork=True)
    place.publish(place.middle)
    place.publish(place.base, run=run)
    assert place.found() == place.middle
    assert reason in place.said


def test_an_artifact_that_says_another_commit_is_passed_over(place: Place) -> None:
    place.publish(place.middle)
    place.publish("f" * 40, run={"head_sha": place.base})
    assert place.found() == place.middle
    assert "it says that it is of commit 'ffffffffffff'" in place.said


@pytest.mark.parametrize("status", [404, 410])
def test_an_artifact_that_goes_away_is_passed_over(place: Place, status: int) -> None:
    place.publish(place.middle)
    place.publish(place.base)
    place.github.fail_next("GET", ZIP, status=status)
    assert place.found() == place.middle
    assert f"with {status}" in place.said
    assert place.waited == []


def test_an_expired_artifact_is_passed_over(place: Place) -> None:
    place.publish(place.middle)
    place.publish(place.base, expired=True)
    assert place.found() == place.middle
    assert place.passed_over == [
        PassedOver(commit=place.base, reason="Its artifact does not count: it has expired.")
    ]


def test_a_run_that_may_still_upload_is_said(place: Place) -> None:
    place.publish(place.middle)
    production = Run(id=7, event="push", head_branch="main", head_sha=place.base, name="dbt")
    place.github.add_run(dataclasses.replace(production, status="in_progress", conclusion=None))
    # Neither of these will ever publish a state of main.
    place.github.add_run(dataclasses.replace(production, id=8, name="done"))
    other = dataclasses.replace(production, id=9, name="other", status="queued", conclusion=None)
    place.github.add_run(dataclasses.replace(other, event="pull_request"))
    assert place.found() == place.middle
    assert place.passed_over == [
        PassedOver(commit=place.base, reason="Workflow runs of it have not finished yet: dbt.")
    ]


def test_runs_that_cannot_be_listed_are_no_error(place: Place) -> None:
    place.publish(place.middle)
    place.github.fail_next("GET", r".*/actions/runs$", status=403, message="No.")
    assert place.found() == place.middle
    assert place.passed_over == []
    assert "cannot be listed" in place.said


def test_an_older_artifact_of_the_same_commit_stands_in(place: Place) -> None:
    place.publish(place.base)
    place.publish(place.base, archive=lambda _: b"damaged")
    assert place.found() == place.base
    assert "damaged" in place.said


def test_corrupted_bytes_are_noticed(place: Place) -> None:
    place.publish(place.base)
    place.github.corrupt_next("GET", BLOB)
    with pytest.raises(StateNotFound, match="no sound state"):
        place.find()
    assert "digest is not the one that GitHub lists" in place.said


@pytest.mark.parametrize(
    ("fault", "waits"),
    [
        (lambda github: github.fail_next("GET", ZIP, status=500, times=2), 2),
        (lambda github: github.fail_next("GET", BLOB, status=503, times=2), 2),
        (lambda github: github.fail_next("GET", r".*/artifacts$", status=502), 1),
        (lambda github: github.cut_next("GET", BLOB, after=100), 1),
        (lambda github: github.drop_next("GET", ZIP), 1),
    ],
    ids=["500 twice", "503 of the blob twice", "502 of the listing", "truncated", "no answer"],
)
def test_a_passing_fault_is_tried_again(
    place: Place, fault: Callable[[FakeGitHub], None], waits: int
) -> None:
    place.publish(place.base)
    fault(place.github)
    assert place.found() == place.base
    assert len(place.waited) == waits
    assert "Trying again in" in place.said


@pytest.mark.parametrize("status", [403, 429])
def test_a_rate_limit_is_waited_for_as_long_as_github_asks(place: Place, status: int) -> None:
    place.publish(place.base)
    place.github.limit_next("GET", ZIP, status=status, retry_after=7)
    assert place.found() == place.base
    assert place.waited == [7]


def test_a_secondary_rate_limit_without_a_time_is_waited_for_a_minute(place: Place) -> None:
    place.publish(place.base)
    place.github.limit_next("GET", ZIP, status=403)
    assert place.found() == place.base
    assert place.waited == [60]


def test_a_rate_limit_of_an_hour_is_an_error_at_once(place: Place) -> None:
    place.publish(place.base)
    reset = int(time.time()) + 3600
    place.github.limit_next("GET", r".*/artifacts$", status=403, reset_at=reset)
    with pytest.raises(RestError, match="rate limit is reached"):
        place.find()
    assert place.waited == []


def test_a_missing_permission_says_which(place: Place) -> None:
    place.publish(place.base)
    place.github.fail_next("GET", r".*/artifacts$", status=403, message="Resource not accessible")
    with pytest.raises(RestError, match="403: Resource not accessible") as raised:
        place.find()
    assert "permissions: actions: read" in raised.value.hint


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members:
            file.writestr(name, data)
    return archive.getvalue()


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


def with_changed_manifest(files: dict[str, bytes]) -> bytes:
    return zipped(*{**files, "manifest.json": files["manifest.json"] + b" "}.items())


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (lambda files: b"<html>", "damaged"),
        (lambda files: zipped(*files.items())[:-30], "damaged"),
        (lambda files: zipped(("../evil", b""), *files.items()), "leads out of it: '../evil'"),
        (lambda files: zipped(("/etc/evil", b""), *files.items()), "leads out of it"),
        (lambda files: zipped(("a\\..\\evil", b""), *files.items()), "leads out of it"),
        (lambda files: zipped((link("catalog.json"), b"/etc/passwd")), "link or a device"),
        (lambda files: zipped(*((str(n), b"") for n in range(101))), "101 members"),
        (lambda files: zipped(), "cannot be|There is no"),
        (with_changed_manifest, "not the file that was published"),
    ],
    ids=["html", "truncated", "..", "absolute", "backslash", "link", "many", "empty", "changed"],
)
def test_a_hostile_or_broken_archive_is_passed_over(
    place: Place, archive: Callable[[dict[str, bytes]], bytes], reason: str
) -> None:
    place.publish(place.middle)
    place.publish(place.base, archive=archive)
    before = set(place.tmp_path.parent.rglob("evil"))
    assert place.found() == place.middle
    assert any(part in place.said for part in reason.split("|"))
    assert set(place.tmp_path.parent.rglob("evil")) == before


def test_a_bomb_is_stopped_where_the_limit_is(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ci_defer.stores.artifact.MAX_SIZE", 10_000_000)
    place.publish(place.middle)
    place.publish(place.base, archive=lambda _: zipped(("manifest.json", bytes(50_000_000))))
    assert place.found() == place.middle
    assert "unpacks to more than it may" in place.said


def test_a_wrong_digest_is_passed_over(place: Place) -> None:
    place.publish(place.middle)
    place.publish(place.base, digest=f"sha256:{'0' * 64}")
    assert place.found() == place.middle
    assert "digest is not the one that GitHub lists" in place.said


def test_without_a_digest_our_own_checksums_decide(place: Place) -> None:
    place.publish(place.base, digest=None)
    assert place.found() == place.base


def test_the_state_of_another_project_under_our_name_is_passed_over(place: Place) -> None:
    place.publish(place.middle)
    place.publish(place.base, project="other")
    assert place.found() == place.middle
    assert "belongs to the dbt project 'other', not to 'shop'" in place.said


def test_a_redirect_to_plain_http_elsewhere_is_not_followed(place: Place) -> None:
    place.publish(place.base)
    place.github.redirect_next("GET", ZIP, to="http://evil.example/file")
    with pytest.raises(StateNotFound):
        place.find()
    assert "did not say where" in place.said


def test_a_thousand_artifacts_need_no_more_requests_than_pages(place: Place) -> None:
    place.publish(place.base)
    for number in range(999):
        run = place.github.add_run(
            Run(id=10_000 + number, event="push", head_branch="main", head_sha=f"{number:040x}")
        )
        place.github.add_artifact(
            NAME, b"", run.id, created_at=START + timedelta(days=1, minutes=number),
            expires_at=START + timedelta(days=10_000),
        )  # fmt: skip
    assert place.found() == place.base
    # The oldest of all: ten pages, then the run and the download.
    assert (place.asked("/artifacts"), place.asked("/runs/")) == (11, 1)


def test_a_shallow_clone_asks_github_for_the_history(place: Place) -> None:
    place.publish(place.first)
    place.github.serve_git(place.repository.path)
    place.repository = place.repository.checked_out(place.tmp_path / "clone", "main")
    assert place.find().age_commits == 2


def test_the_manifest_to_compare_with_comes_along(place: Place) -> None:
    bundle = compared(place.tmp_path, commit=place.base)
    files = content(bundle.directory)
    place.publish(place.base, archive=lambda _: zipped(*files.items()))
    found = place.find().production
    assert content(found.directory) == files
    assert found.provenance == bundle.provenance
    assert found.compare
    assert [*found.compare.manifest.nodes] == ["model.shop.a", "model.shop.b"]


@pytest.mark.parametrize("damage", ["changed", "gone", "a folder of its own"])
def test_a_manifest_to_compare_with_that_was_not_published_is_passed_over(
    place: Place, damage: str
) -> None:
    files = content(compared(place.tmp_path, commit=place.base).directory)
    raw = files.pop("compare/manifest.json")
    if damage == "changed":
        files["compare/manifest.json"] = raw + b" "
    elif damage != "gone":
        files["compare/compare/manifest.json"] = raw
    place.publish(place.middle)
    place.publish(place.base, archive=lambda _: zipped(*files.items()))
    assert place.found() == place.middle
    assert "manifest.json" in place.said
