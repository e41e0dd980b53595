"""The base commit in every shape that a run can have, with real git and the fake GitHub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ci_defer.base_commit import base_commit
from ci_defer.errors import ConfigurationError
from ci_defer.event import Event
from ci_defer.git import Git
from ci_defer.rest import GitHubRest
from tests.harness.github import FakeGitHub
from tests.samples import Log, Repository

UNKNOWN = "0" * 40


class Origin:
    """The repository on GitHub.

    main: first - left - tip; feature: left - head; merge: tip + head, as GitHub makes it.
    """

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.repository = Repository(tmp_path / "repository")
        # What actions/checkout does with a commit that no branch holds any more.
        self.repository.run("config", "uploadpack.allowAnySHA1InWant", "true")
        self.first, self.left = self.commit("first"), self.commit("left")
        self.repository.branch("feature")
        self.head = self.commit("head")
        self.switch("main")
        self.tip = self.commit("tip")
        self.merge = self.merged("merge", "main", "feature")
        self.switch("main")

    def commit(self, name: str) -> str:
        return self.repository.commit(name)

    def switch(self, name: str) -> None:
        self.repository.run("switch", "--quiet", name)

    def merged(self, name: str, into: str, other: str) -> str:
        """A new branch: the merge of `other` into `into`."""
        self.repository.branch(name, into)
        return self.repository.merge(other)

    def force_push(self) -> str:
        """Another commit in the place of main's tip, which no branch holds any more."""
        self.repository.run("branch", "--delete", "--force", "merge")
        self.repository.run("reset", "--quiet", "--hard", "HEAD~1")
        return self.commit("rewritten")

    def whole(self, commit: str) -> Git:
        """actions/checkout with `fetch-depth: 0`."""
        clone = Repository(self.tmp_path / "clone")
        clone.run("remote", "add", "origin", self.repository.path.as_uri())
        clone.run("fetch", "--quiet", "origin", "+refs/heads/*:refs/remotes/origin/*", commit)
        clone.run("checkout", "--quiet", "--detach", commit)
        return clone.git

    def shallow(self, commit: str) -> Git:
        """actions/checkout as it is: one commit."""
        return self.repository.checked_out(self.tmp_path / "clone", commit).git

    def pull_request(self, **more: str) -> Event:
        basic = {
            "name": "pull_request",
            "ref": "refs/pull/7/merge",
            "default_branch": "main",
            "base_branch": "main",
            "base_sha": self.tip,
            "head_sha": self.head,
        }
        return Event(**{**basic, **more}, pull_request=7)


# What ran, where, and the base commit that it should find.
Case = Callable[[Origin], tuple[Event, Git, str]]


def merge_ref(origin: Origin) -> tuple[Event, Git, str]:
    return origin.pull_request(), origin.whole(origin.merge), origin.tip


def merge_ref_of_a_default_checkout(origin: Origin) -> tuple[Event, Git, str]:
    return origin.pull_request(), origin.shallow(origin.merge), origin.tip


def merge_ref_of_a_rerun_though_main_has_moved_on(origin: Origin) -> tuple[Event, Git, str]:
    origin.commit("later")
    return origin.pull_request(), origin.whole(origin.merge), origin.tip


def merge_ref_into_another_branch(origin: Origin) -> tuple[Event, Git, str]:
    origin.repository.branch("release", origin.first)
    release = origin.commit("released")
    merge = origin.merged("into-release", "release", "feature")
    event = origin.pull_request(base_branch="release", base_sha=release)
    return event, origin.shallow(merge), release


def merge_ref_after_a_force_push_of_main(origin: Origin) -> tuple[Event, Git, str]:
    rewritten = origin.force_push()
    merge = origin.merged("merge-again", "main", "feature")
    # The payload still has the old tip.
    return origin.pull_request(), origin.shallow(merge), rewritten


def head(origin: Origin) -> tuple[Event, Git, str]:
    return origin.pull_request(), origin.whole(origin.head), origin.left


def head_of_a_default_checkout(origin: Origin) -> tuple[Event, Git, str]:
    return origin.pull_request(), origin.shallow(origin.head), origin.left


def head_that_is_a_merge_of_main(origin: Origin) -> tuple[Event, Git, str]:
    origin.switch("feature")
    merged = origin.repository.merge("main")
    return origin.pull_request(head_sha=merged), origin.whole(merged), origin.tip


def head_that_merged_main_after_the_payload_was_made(origin: Origin) -> tuple[Event, Git, str]:
    origin.switch("feature")
    merged = origin.repository.merge("main")
    event = origin.pull_request(head_sha=merged, base_sha=origin.first)
    return event, origin.whole(merged), origin.tip


def head_into_another_branch(origin: Origin) -> tuple[Event, Git, str]:
    origin.repository.branch("release", origin.first)
    release = origin.commit("released")
    event = origin.pull_request(base_branch="release", base_sha=release)
    return event, origin.whole(origin.head), origin.first


def head_after_a_force_push_of_main(origin: Origin) -> tuple[Event, Git, str]:
    origin.force_push()
    return origin.pull_request(base_sha=UNKNOWN), origin.whole(origin.head), origin.left


def head_of_a_default_checkout_after_a_force_push(origin: Origin) -> tuple[Event, Git, str]:
    origin.force_push()
    return origin.pull_request(base_sha=UNKNOWN), origin.shallow(origin.head), origin.left


def head_of_a_rerun_after_the_pull_request_was_merged(origin: Origin) -> tuple[Event, Git, str]:
    origin.repository.merge("feature")
    return origin.pull_request(), origin.whole(origin.head), origin.left


def merge_group(origin: Origin) -> tuple[Event, Git, str]:
    event = Event(
        name="merge_group",
        ref="refs/heads/gh-readonly-queue/main/pr-7-abc",
        default_branch="main",
        base_branch="main",
        base_sha=origin.tip,
        head_sha=origin.merge,
    )
    return event, origin.shallow(origin.merge), origin.tip


def merge_group_behind_another(origin: Origin) -> tuple[Event, Git, str]:
    origin.repository.branch("second", origin.first)
    origin.commit("second")
    behind = origin.merged("queue", "merge", "second")
    event = Event(name="merge_group", base_branch="main", base_sha=origin.merge, head_sha=behind)
    return event, origin.shallow(behind), origin.merge


def workflow_dispatch(origin: Origin) -> tuple[Event, Git, str]:
    event = Event(name="workflow_dispatch", ref="refs/heads/feature", default_branch="main")
    return event, origin.whole(origin.head), origin.left


def workflow_dispatch_of_a_default_checkout(origin: Origin) -> tuple[Event, Git, str]:
    event = Event(name="workflow_dispatch", ref="refs/heads/feature", default_branch="main")
    return event, origin.shallow(origin.head), origin.left


def workflow_dispatch_where_main_has_another_name(origin: Origin) -> tuple[Event, Git, str]:
    origin.repository.run("branch", "--move", "main", "trunk")
    event = Event(name="workflow_dispatch", ref="refs/heads/feature", default_branch="trunk")
    return event, origin.whole(origin.head), origin.left


def push_to_a_branch(origin: Origin) -> tuple[Event, Git, str]:
    event = Event(name="push", ref="refs/heads/feature", default_branch="main")
    return event, origin.whole(origin.head), origin.left


CASES: tuple[Case, ...] = (
    merge_ref,
    merge_ref_of_a_default_checkout,
    merge_ref_of_a_rerun_though_main_has_moved_on,
    merge_ref_into_another_branch,
    merge_ref_after_a_force_push_of_main,
    head,
    head_of_a_default_checkout,
    head_that_is_a_merge_of_main,
    head_that_merged_main_after_the_payload_was_made,
    head_into_another_branch,
    head_after_a_force_push_of_main,
    head_of_a_default_checkout_after_a_force_push,
    head_of_a_rerun_after_the_pull_request_was_merged,
    merge_group,
    merge_group_behind_another,
    workflow_dispatch,
    workflow_dispatch_of_a_default_checkout,
    workflow_dispatch_where_main_has_another_name,
    push_to_a_branch,
)
ASK_GITHUB = {case for case in CASES if case.__name__.startswith("head_of_a_default")} | {
    workflow_dispatch_of_a_default_checkout
}


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path)


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    with FakeGitHub() as fake:
        yield fake
        assert fake.violations == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_base_commit__of(case: Case, origin: Origin, github: FakeGitHub) -> None:
    event, git, expected = case(origin)
    github.serve_git(origin.repository.path)
    rest = GitHubRest(github.url, "acme/shop", "ghs_token", log=Log())
    assert base_commit(event, git, rest) == expected
    # Only where the clone cannot tell.
    assert bool(github.requests) == (case in ASK_GITHUB)


@pytest.mark.parametrize("case", sorted(ASK_GITHUB, key=str), ids=lambda case: case.__name__)
def test_base_commit__is_not_guessed_where_nobody_can_be_asked(case: Case, origin: Origin) -> None:
    event, git, _ = case(origin)
    with pytest.raises(ConfigurationError, match=r"too shallow .* left main\. .*fetch-depth: 0"):
        base_commit(event, git, None)


# On somebody's own machine -----------------------------------------------------------------------


@dataclass(frozen=True)
class Local:
    """A clone of the origin with a branch checked out."""

    origin: Origin
    clone: Repository


@pytest.fixture
def local(origin: Origin) -> Local:
    clone = origin.repository.clone(origin.tmp_path / "clone", "--branch", "feature")
    return Local(origin, clone)


@pytest.mark.parametrize("main", ["main", "master"])
def test_base_commit__without_an_event_is_where_it_left_main(origin: Origin, main: str) -> None:
    if main != "main":
        origin.repository.run("branch", "--move", "main", main)
    origin.switch("feature")
    assert base_commit(Event(), origin.repository.git, None) == origin.left


def test_base_commit__without_an_event_finds_the_default_branch_of_origin(origin: Origin) -> None:
    origin.repository.run("branch", "--move", "main", "trunk")
    clone = origin.repository.clone(origin.tmp_path / "clone")
    clone.run("switch", "--quiet", "feature")
    assert base_commit(Event(), clone.git, None) == origin.left


def test_base_commit__is_not_of_a_local_main_that_is_behind(local: Local) -> None:
    local.clone.run("branch", "main", local.origin.first)
    assert base_commit(Event(), local.clone.git, None) == local.origin.left


def test_base_commit__of_unrelated_histories_says_so(origin: Origin) -> None:
    origin.repository.run("switch", "--quiet", "--orphan", "alone")
    origin.commit("alone")
    with pytest.raises(ConfigurationError, match="no commit in common with main"):
        base_commit(Event(base_branch="main"), origin.repository.git, None)


def test_base_commit__without_a_commit_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="actions/checkout"):
        base_commit(Event(), Repository(tmp_path / "empty").git, None)
