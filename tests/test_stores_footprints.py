"""Keeping footprints: in a directory, and in artifacts of the fake GitHub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from ci_defer.errors import ConfigurationError
from ci_defer.footprint import Footprint, decode, encode
from ci_defer.rest import GitHubRest
from ci_defer.stores import Surroundings, open_footprints
from ci_defer.stores.directory import Directory
from ci_defer.stores.footprints import (
    FOOTPRINT,
    ArtifactFootprints,
    NoFootprints,
    ObjectFootprints,
)
from tests.harness.github import FakeGitHub, Run
from tests.places import store_in
from tests.samples import PROJECT, Log, content, packed
from tests.test_footprint import made

NAME = f"ci-defer-footprint-{PROJECT}-7"
ONE, OTHER = made(("ci_pr_7", "one")), made(("ci_pr_7", "other"))


def of_run(footprint: Footprint, run: str = "", attempt: str = "") -> Footprint:
    return msgspec.structs.replace(footprint, run_id=run, run_attempt=attempt)


# Objects ----------------------------------------------------------------------------------------


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def kept(tmp_path: Path, log: Log) -> ObjectFootprints:
    return ObjectFootprints(Directory(tmp_path), PROJECT, log)


def test_objects__keep_one_of_each_attempt_until_it_is_forgotten(
    kept: ObjectFootprints, tmp_path: Path
) -> None:
    first, again, second = of_run(ONE, "1", "1"), of_run(OTHER, "1", "2"), of_run(ONE, "2", "1")
    other = msgspec.structs.replace(first, pull_request=71)
    for footprint in (first, again, second, second, other):
        kept.save(footprint)
    assert kept.of(7) == [first, again, second]
    kept.forget(7)
    assert (kept.of(7), kept.of(71)) == ([], [other])
    kept.forget(7)
    kept.forget(71)
    assert list(tmp_path.iterdir()) == []


def test_objects__of_runs_without_a_number_do_not_replace_each_other(
    kept: ObjectFootprints,
) -> None:
    kept.save(of_run(ONE))
    kept.save(msgspec.structs.replace(of_run(OTHER), created_at="2026-01-02T03:04:06+00:00"))
    assert len(kept.of(7)) == 2


def test_objects__of_one_run_are_its_last_record(kept: ObjectFootprints) -> None:
    for run in ("", "11"):
        kept.save(of_run(ONE, run))
        kept.save(of_run(OTHER, run))
    assert [item.relations for item in kept.of(7)] == [OTHER.relations] * 2


def test_objects__stay_in_their_folder(kept: ObjectFootprints, tmp_path: Path) -> None:
    kept.save(of_run(ONE, "../../x", "/etc"))
    assert len(kept.of(7)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [".pull-requests"]


def test_objects__that_are_damaged_are_passed_over(
    kept: ObjectFootprints, tmp_path: Path, log: Log
) -> None:
    kept.save(of_run(ONE, "1", "1"))
    folder = tmp_path / ".pull-requests" / PROJECT / "7"
    (folder / "2-1.json").write_bytes(b"{")
    (folder / "3-1.json").write_bytes(encode(msgspec.structs.replace(ONE, pull_request=8)))
    (folder / ".4-1.json.partial").write_bytes(b"{")
    assert kept.of(7) == [of_run(ONE, "1", "1")]
    assert [line.split(" is passed over")[0] for line in log.warnings] == [
        f".pull-requests/{PROJECT}/7/2-1.json",
        f".pull-requests/{PROJECT}/7/3-1.json",
    ]


def test_objects__are_no_states(kept: ObjectFootprints, tmp_path: Path) -> None:
    kept.save(of_run(ONE, "1", "1"))
    before = content(tmp_path)
    store = store_in(Directory(tmp_path))
    assert (list(store.commits()), store.stored()) == ([], [])
    published = tmp_path / "published"
    published.mkdir()
    store.put(packed(published, "a"))
    stored = store.stored()
    assert len(stored) == 1
    assert store.remove(stored[0])
    assert {name: data for name, data in content(tmp_path).items() if name in before} == before


# Artifacts --------------------------------------------------------------------------------------


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    with FakeGitHub() as fake:
        yield fake
        assert fake.violations == []


class Place:
    def __init__(self, github: FakeGitHub, outbox: Path, log: Log) -> None:
        self.github = github
        self.outputs: dict[str, str] = {}
        self.runs = 100
        rest = GitHubRest(github.url, "acme/shop", "ghs_token", log=log, sleep=lambda _: None)
        self.kept = ArtifactFootprints(
            PROJECT, outbox=outbox, rest=rest, announce=self.announce, log=log
        )

    def announce(self, outputs: Mapping[str, str]) -> None:
        self.outputs |= outputs

    def upload(
        self,
        files: Mapping[str, bytes],
        *,
        name: str = NAME,
        head_repository: str = "acme/shop",
        digest: str | None = "",
    ) -> None:
        self.runs += 1
        run = Run(id=self.runs, event="pull_request", head_branch="change", head_sha="b" * 40)
        self.github.add_run(replace(run, head_repository=head_repository))
        self.github.add_artifact(name, dict(files), self.runs, digest=digest)


@pytest.fixture
def place(github: FakeGitHub, tmp_path: Path, log: Log) -> Place:
    return Place(github, tmp_path, log)


def test_artifacts__are_left_for_the_upload_step(place: Place) -> None:
    place.kept.save(ONE)
    assert place.outputs["footprint-artifact-name"] == NAME
    path = Path(place.outputs["footprint-path"])
    assert path.name == FOOTPRINT
    assert decode(path.read_bytes()) == ONE


def test_artifacts__of_all_runs_of_the_pull_request_count(place: Place) -> None:
    place.upload({FOOTPRINT: encode(ONE)})
    place.upload({FOOTPRINT: encode(OTHER)})
    place.upload({FOOTPRINT: encode(OTHER)}, name=f"{NAME}1")
    assert sorted(place.kept.of(7), key=encode) == sorted([ONE, OTHER], key=encode)
    place.kept.forget(7)
    assert len(place.kept.of(7)) == 2


def test_artifacts__that_cannot_be_trusted_are_passed_over(place: Place, log: Log) -> None:
    place.github.add_repository("mallory/shop")
    place.upload({FOOTPRINT: encode(ONE)}, head_repository="mallory/shop")
    place.upload({FOOTPRINT: encode(ONE)}, digest=f"sha256:{'0' * 64}")
    place.upload({FOOTPRINT: b"{"})
    place.upload({"other.json": encode(ONE)})
    place.upload({FOOTPRINT: encode(msgspec.structs.replace(ONE, project="x"))})
    place.upload({FOOTPRINT: encode(OTHER)})
    assert place.kept.of(7) == [OTHER]
    reasons = "\n".join(log.warnings)
    for reason in ("fork", "digest", "shape", "There is no footprint.json", "project 'x'"):
        assert reason in reasons
    assert len(log.warnings) == 5


# Where they are kept ----------------------------------------------------------------------------


def around(log: Log, outbox: Path | None = None, *, enterprise: bool = False) -> Surroundings:
    return Surroundings(
        branch="main",
        target=None,
        is_on_enterprise_server=enterprise,
        outbox=outbox,
        rest=None,
        log=log,
        account=lambda: pytest.fail("nobody asks"),
        is_ancestor=lambda _one, _other: False,
        environ={},
    )


def test_open__in_a_workflow_run_artifacts(tmp_path: Path, log: Log) -> None:
    opened = open_footprints(str(tmp_path), PROJECT, around(log, tmp_path), lambda _: None)
    assert isinstance(opened, ArtifactFootprints)
    with pytest.raises(ConfigurationError, match="github-token"):
        opened.of(7)


def test_open__elsewhere_the_place_of_the_states(tmp_path: Path, log: Log) -> None:
    for surroundings in (around(log), around(log, tmp_path, enterprise=True)):
        opened = open_footprints(str(tmp_path), PROJECT, surroundings, lambda _: None)
        assert isinstance(opened, ObjectFootprints)


def test_open__where_nothing_can_be_kept(tmp_path: Path, log: Log) -> None:
    (tmp_path / "manifest.json").touch()
    for uri in ("artifact", "altimate", "s3://bucket/manifest.json", str(tmp_path)):
        opened = open_footprints(uri, PROJECT, around(log), lambda _: None)
        assert isinstance(opened, NoFootprints)
        opened.save(ONE)
        opened.forget(7)
        assert opened.of(7) == []
        assert "pull request #7" in log.lines[-1]
