from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from ci_defer.errors import ConfigurationError, StateNotFound
from ci_defer.event import Event
from ci_defer.git import Git
from ci_defer.state import base_commit, find_state
from ci_defer.stores.directory import DirectoryStore
from ci_defer.stores.plain import PlainState
from tests.samples import PROJECT, Log, Repository, packed


@dataclass(frozen=True)
class History:
    """main: first - left - tip; feature: left - head; merge: tip + head, as GitHub makes it."""

    repository: Repository
    first: str
    left: str
    tip: str
    head: str
    merge: str

    def event(self, **more: str) -> Event:
        basic = {
            "name": "pull_request",
            "ref": "refs/pull/7/merge",
            "base_branch": "main",
            "base_sha": self.tip,
            "head_sha": self.head,
        }
        return Event(**{**basic, **more}, pull_request=7)


@pytest.fixture
def history(tmp_path: Path) -> History:
    repository = Repository(tmp_path / "repository")
    first, left = repository.commit("first"), repository.commit("left")
    repository.branch("feature")
    head = repository.commit("head")
    repository.run("switch", "--quiet", "main")
    tip = repository.commit("tip")
    repository.branch("merge")
    merge = repository.merge("feature")
    repository.run("switch", "--quiet", "main")
    return History(repository, first, left, tip, head, merge)


def at(repository: Repository, commit: str) -> Git:
    repository.run("checkout", "--quiet", "--detach", commit)
    return repository.git


def test_base_commit__of_the_merge_commit_is_its_first_parent(history: History) -> None:
    assert base_commit(history.event(), at(history.repository, history.merge), None) == history.tip


def test_base_commit__of_the_merge_commit_needs_no_history(
    history: History, tmp_path: Path
) -> None:
    clone = history.repository.checked_out(tmp_path / "clone", "merge")
    assert base_commit(history.event(), clone.git, None) == history.tip


def test_base_commit__of_a_head_is_where_it_left_the_base_branch(history: History) -> None:
    assert base_commit(history.event(), at(history.repository, history.head), None) == history.left


def test_base_commit__of_a_head_that_is_itself_a_merge_is_not_its_first_parent(
    history: History,
) -> None:
    # ref: ${{ github.event.pull_request.head.sha }}, after the author merged main into the branch.
    git = at(history.repository, history.head)
    head = history.repository.merge("main")
    assert base_commit(history.event(head_sha=head), git, None) == history.tip


def test_base_commit__of_a_merge_group_is_where_it_left_the_base_branch(history: History) -> None:
    event = history.event(name="merge_group", ref="refs/heads/gh-readonly-queue/main/pr-7-abc")
    assert base_commit(event, at(history.repository, history.merge), None) == history.tip


def test_base_commit__takes_the_branch_when_the_clone_does_not_hold_the_base_sha(
    history: History, tmp_path: Path
) -> None:
    clone = history.repository.clone(tmp_path / "clone", "--branch", "feature")
    event = history.event(base_sha="0" * 40)
    assert base_commit(event, clone.git, None) == history.left


@pytest.mark.parametrize("main", ["main", "master"])
def test_base_commit__on_a_local_branch_finds_the_main_branch(history: History, main: str) -> None:
    if main != "main":
        history.repository.run("branch", "--move", "main", main)
    assert base_commit(Event(), at(history.repository, history.head), None) == history.left


def test_base_commit__in_a_local_clone_finds_the_default_branch_of_origin(
    history: History, tmp_path: Path
) -> None:
    history.repository.run("branch", "--move", "main", "trunk")
    clone = history.repository.clone(tmp_path / "clone")
    clone.run("switch", "--quiet", "feature")
    assert base_commit(Event(), clone.git, None) == history.left


def test_base_commit__prefers_origin_to_a_local_main_that_is_behind(
    history: History, tmp_path: Path
) -> None:
    clone = history.repository.clone(tmp_path / "clone", "--branch", "feature")
    clone.run("branch", "main", history.first)
    assert base_commit(Event(), clone.git, None) == history.left


@pytest.mark.parametrize("event", [Event(), Event(base_branch="main")])
def test_base_commit__of_a_shallow_clone_that_cannot_tell_asks_for_more(
    history: History, tmp_path: Path, event: Event
) -> None:
    clone = history.repository.checked_out(tmp_path / "clone", "feature")
    with pytest.raises(ConfigurationError, match="fetch-depth: 0"):
        base_commit(event, clone.git, None)


def test_base_commit__of_a_shallow_pull_request_at_its_head_asks_for_more(
    history: History, tmp_path: Path
) -> None:
    clone = history.repository.checked_out(tmp_path / "clone", "feature")
    with pytest.raises(ConfigurationError, match="fetch-depth: 0"):
        base_commit(history.event(), clone.git, None)


def test_base_commit__of_unrelated_histories_says_so(history: History) -> None:
    history.repository.run("switch", "--quiet", "--orphan", "alone")
    history.repository.commit("alone")
    with pytest.raises(ConfigurationError, match="no commit in common with main"):
        base_commit(Event(base_branch="main"), history.repository.git, None)


def test_base_commit__without_a_commit_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="actions/checkout"):
        base_commit(Event(), Repository(tmp_path / "empty").git, None)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store", PROJECT)


@pytest.fixture
def to(tmp_path: Path) -> Path:
    (tmp_path / "to").mkdir()
    return tmp_path / "to"


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        (("first", "left", "tip"), ("tip", 0)),
        (("first", "left"), ("left", 1)),
        (("first", "head"), ("first", 2)),
    ],
)
def test_find_state__takes_the_base_commit_else_its_nearest_ancestor(
    history: History,
    tmp_path: Path,
    to: Path,
    published: tuple[str, ...],
    expected: tuple[str, int],
) -> None:
    store = DirectoryStore(tmp_path / "store", PROJECT)
    for name in published:
        store.put(packed(tmp_path, name, commit=getattr(history, name)))
    found = find_state(
        store, history.tip, history.repository.git, None, to, project_name=PROJECT, log=Log()
    )
    [model] = found.production.manifest.resources()
    assert ((model.name, found.age_commits), found.location) == (expected, store.location)


def test_find_state__of_the_base_commit_needs_no_history(
    history: History, store: DirectoryStore, to: Path, tmp_path: Path
) -> None:
    store.put(packed(tmp_path, "a", commit=history.tip))
    clone = history.repository.checked_out(tmp_path / "clone", "merge")
    assert (
        find_state(
            store, history.tip, clone.git, None, to, project_name=PROJECT, log=Log()
        ).age_commits
        == 0
    )


def test_find_state__in_an_empty_store_says_how_to_fill_it(
    history: History, store: DirectoryStore, to: Path
) -> None:
    with pytest.raises(StateNotFound, match=r"no production state yet.*ci-defer onboard"):
        find_state(
            store, history.tip, history.repository.git, None, to, project_name=PROJECT, log=Log()
        )


def test_find_state__never_takes_the_state_of_another_line(
    history: History, store: DirectoryStore, to: Path, tmp_path: Path
) -> None:
    store.put(packed(tmp_path, "a", commit=history.head))
    with pytest.raises(
        StateNotFound, match=f"1 production states, but none of.*{history.tip[:12]}"
    ):
        find_state(
            store, history.tip, history.repository.git, None, to, project_name=PROJECT, log=Log()
        )


def test_find_state__in_a_shallow_clone_asks_for_history(
    history: History, store: DirectoryStore, to: Path, tmp_path: Path
) -> None:
    store.put(packed(tmp_path, "a", commit=history.left))
    clone = history.repository.checked_out(tmp_path / "clone", "merge")
    with pytest.raises(StateNotFound, match="fetch-depth: 0"):
        find_state(store, history.tip, clone.git, None, to, project_name=PROJECT, log=Log())


def test_find_state__passes_a_damaged_bundle_over_and_says_so(
    history: History, store: DirectoryStore, to: Path, tmp_path: Path
) -> None:
    log = Log()
    store.put(packed(tmp_path, "a", commit=history.left))
    folder = Path(store.put(packed(tmp_path, "b", commit=history.tip)))
    next(folder.glob("manifest-*")).write_text("{}")
    git = history.repository.git
    found = find_state(store, history.tip, git, None, to, project_name=PROJECT, log=log)
    assert found.age_commits == 1
    (said,) = log.lines
    assert said.startswith(f"warning: The state of commit {history.tip[:12]} is passed over: ")
    assert "not the file that was published" in said


def test_find_state__of_damaged_bundles_alone_finds_none(
    history: History, store: DirectoryStore, to: Path, tmp_path: Path
) -> None:
    folder = Path(store.put(packed(tmp_path, "b", commit=history.tip)))
    next(folder.glob("manifest-*")).write_text("{}")
    git = history.repository.git
    with pytest.raises(StateNotFound, match="no sound state of the base commit"):
        find_state(store, history.tip, git, None, to, project_name=PROJECT, log=Log())


def test_find_state__of_a_plain_directory_has_no_age(
    history: History, to: Path, tmp_path: Path
) -> None:
    source = PlainState(packed(tmp_path, "a").directory)
    found = find_state(
        source, None, history.repository.git, None, to, project_name=PROJECT, log=Log()
    )
    assert (found.age_commits, found.production.directory) == (None, to)
