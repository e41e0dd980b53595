from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ci_defer.bundle import Bundle
from ci_defer.errors import StateNotFound
from ci_defer.git import Git
from ci_defer.report import PassedOver
from ci_defer.state import FoundState, find_state
from ci_defer.stores import Store
from ci_defer.stores.bundles import BundleStore
from ci_defer.stores.compression import compressed
from ci_defer.stores.directory import Directory
from ci_defer.stores.plain import PlainState
from tests.samples import PROJECT, Log, Repository, packed


@dataclass
class Search:
    """A search in a store. main: first - left - tip, feature: left - head."""

    tmp_path: Path
    log: Log = field(default_factory=Log)
    passed_over: list[PassedOver] = field(default_factory=list)
    published: dict[str, Bundle] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.repository = Repository(self.tmp_path / "repository")
        self.first, self.left = (self.repository.commit(name) for name in ("first", "left"))
        self.repository.branch("feature")
        self.head = self.repository.commit("head")
        self.repository.run("switch", "--quiet", "main")
        self.tip = self.repository.commit("tip")
        self.store = BundleStore(Directory(self.tmp_path / "store"), PROJECT, log=Log())
        self.to = self.tmp_path / "to"
        self.to.mkdir()

    def publish(self, name: str, *, project_dir: str = "") -> Path:
        """Publish a state of one model, which has the name of its commit; return its folder."""
        bundle = packed(self.tmp_path, name, commit=getattr(self, name), project_dir=project_dir)
        self.published[name] = bundle
        return Path(self.store.put(bundle))

    def damage(self, name: str) -> None:
        (path,) = self.publish(name).glob("*/manifest.json.zst")
        manifest = (self.published[name].directory / "manifest.json").read_bytes()
        path.write_bytes(b"".join(compressed([manifest.replace(b"1.11.0", b"1.11.1")])))

    def find(
        self, *, git: Git | None = None, source: Store | PlainState | None = None
    ) -> FoundState:
        return find_state(
            source or self.store,
            self.tip,
            git or self.repository.git,
            None,
            self.to,
            project_name=PROJECT,
            log=self.log,
            passed_over=self.passed_over.append,
        )

    def found(self) -> tuple[str, int | None]:
        """The commit that was found, by its name, and its age."""
        found = self.find()
        [model] = found.production.manifest.resources()
        return model.name, found.age_commits


@pytest.fixture
def search(tmp_path: Path) -> Search:
    return Search(tmp_path)


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        (("first", "left", "tip"), ("tip", 0)),
        (("first", "left"), ("left", 1)),
        (("first", "head"), ("first", 2)),
    ],
)
def test_find_state__takes_the_base_commit_else_its_nearest_ancestor(
    search: Search, published: tuple[str, ...], expected: tuple[str, int]
) -> None:
    for name in published:
        search.publish(name)
    assert search.found() == expected
    assert search.passed_over == []


def test_find_state__of_the_base_commit_needs_no_history(search: Search) -> None:
    search.publish("tip")
    clone = search.repository.checked_out(search.tmp_path / "clone", "main")
    assert search.find(git=clone.git).age_commits == 0


def test_find_state__in_an_empty_store_says_how_to_fill_it(search: Search) -> None:
    with pytest.raises(StateNotFound, match=r"no production state yet.*ci-defer onboard"):
        search.find()


def test_find_state__never_takes_the_state_of_another_line(search: Search) -> None:
    search.publish("head")
    with pytest.raises(StateNotFound, match=f"1 production state, but none of.*{search.tip[:12]}"):
        search.find()


def test_find_state__in_a_shallow_clone_asks_for_history(search: Search) -> None:
    search.publish("left")
    clone = search.repository.checked_out(search.tmp_path / "clone", "main")
    with pytest.raises(StateNotFound, match="fetch-depth: 0"):
        search.find(git=clone.git)


def test_find_state__passes_a_damaged_bundle_over_and_says_so(search: Search) -> None:
    search.publish("left")
    search.damage("tip")
    assert search.found() == ("left", 1)
    (passed,) = search.passed_over
    assert passed.commit == search.tip
    assert "not the file that was published" in passed.reason
    assert search.log.lines == [
        f"warning: The state of commit {search.tip[:12]} is passed over: {passed.reason}"
    ]


def test_find_state__of_damaged_bundles_alone_finds_none(search: Search) -> None:
    search.damage("tip")
    with pytest.raises(StateNotFound, match="no sound state of the base commit"):
        search.find()


def test_find_state__says_why_the_base_commit_has_none(search: Search) -> None:
    search.publish("left")
    (search.publish("tip") / "state.json").unlink()
    assert search.found() == ("left", 1)
    (passed,) = search.passed_over
    assert (passed.commit, passed.reason) == (
        search.tip,
        "It has no state.json: it is being written, or its writer died.",
    )
    assert search.log.lines[0].endswith(passed.reason)


def write_project(search: Search, folder: str) -> Git:
    """A dbt project in a folder of the repository."""
    path = search.repository.path / folder
    path.mkdir(parents=True)
    (path / "dbt_project.yml").write_text(f"name: {PROJECT}\n")
    return Git(path, search.repository.environ)


def test_find_state__is_never_of_a_project_of_the_same_name_in_another_folder(
    search: Search,
) -> None:
    write_project(search, "teas")
    coffees = write_project(search, "coffees")
    search.publish("left", project_dir="coffees")
    search.publish("tip", project_dir="teas")
    assert search.find(git=coffees).age_commits == 1
    (passed,) = search.passed_over
    assert "dbt project in the folder teas, and this one is in coffees" in passed.reason
    assert "the setting project" in passed.reason


def test_find_state__of_a_project_that_was_moved_is_its_own(search: Search) -> None:
    moved = write_project(search, "new/place")
    search.publish("tip", project_dir="old/place")
    assert search.find(git=moved).age_commits == 0


def test_find_state__of_a_plain_directory_has_no_age(search: Search) -> None:
    source = PlainState(packed(search.tmp_path, "a").directory)
    found = search.find(source=source)
    assert (found.age_commits, found.production.directory) == (None, search.to)
