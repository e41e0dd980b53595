from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ci_defer.errors import ConfigurationError
from ci_defer.git import Git, GitError
from tests.samples import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def test_commit__is_the_full_id_or_none(repository: Repository) -> None:
    first = repository.commit("one")
    git = repository.git
    assert (git.commit("HEAD"), git.commit(first), git.commit("main")) == (first, first, first)
    # A tree is no commit, and what looks like an option is a name like any other.
    names = ["nothing", "", "HEAD^{tree}", "0" * 40, "--all", "-h", "main..main", "a b"]
    assert [git.commit(name) for name in names] == [None] * len(names)


def test_commit__of_an_annotated_tag_is_the_commit(repository: Repository) -> None:
    first = repository.commit("one")
    repository.run("tag", "--annotate", "--message", "v1", "v1")
    assert repository.git.commit("v1") == first


def test_commit__is_none_where_there_is_no_commit_or_no_repository(
    repository: Repository, tmp_path: Path
) -> None:
    assert repository.git.commit("HEAD") is None
    (tmp_path / "plain").mkdir()
    assert Git(tmp_path / "plain", repository.environ).commit("HEAD") is None


@pytest.mark.parametrize(
    "name", ["feature/x", "-", "caf\u00e9", "a'b;$(x)", "@", "dependabot/npm_and_yarn/a-1.0", "%s"]
)
def test_branch_names__are_taken_as_they_are(repository: Repository, name: str) -> None:
    repository.commit("one")
    # `git switch` would take some of them for something else.
    repository.run("update-ref", f"refs/heads/{name}", "HEAD")
    repository.run("symbolic-ref", "HEAD", f"refs/heads/{name}")
    head = repository.commit("two")
    git = repository.git
    assert git.branch() == name
    assert git.commit(f"refs/heads/{name}") == head
    assert git.merge_base(f"refs/heads/{name}", "main") == git.commit("main")


def test_branch__of_a_detached_head_is_empty(repository: Repository) -> None:
    repository.run("checkout", "--quiet", "--detach", repository.commit("one"))
    assert repository.git.branch() == ""


def test_parents__are_found_in_a_shallow_clone_of_the_merge_commit(
    repository: Repository, tmp_path: Path
) -> None:
    repository.commit("one")
    repository.branch("feature")
    head = repository.commit("two")
    repository.run("switch", "--quiet", "main")
    base = repository.commit("three")
    repository.branch("merge")
    merge = repository.merge("feature")
    clone = repository.checked_out(tmp_path / "clone", "merge")
    assert clone.git.is_shallow()
    assert clone.git.commit("HEAD") == merge
    assert clone.git.commit(base) is None
    assert clone.git.parents(merge) == [base, head]


def test_parents__of_the_first_commit_are_none(repository: Repository) -> None:
    assert repository.git.parents(repository.commit("one")) == []


def test_parents__are_not_read_from_the_message(repository: Repository) -> None:
    first = repository.commit("one")
    repository.run("commit", "--quiet", "--allow-empty", "--message", f"x\n\nparent {'0' * 40}")
    assert repository.git.parents("HEAD") == [first]


def test_parents__of_a_signed_commit(repository: Repository) -> None:
    first = repository.commit("one")
    raw = repository.run("cat-file", "commit", "HEAD").partition("\n\n")[0]
    signed = f"{raw}\nparent {first}\ngpgsig -----BEGIN\n \n parent fake\n -----END\n\nsigned\n"
    (repository.path / "raw").write_text(signed)
    commit = repository.run("hash-object", "-t", "commit", "-w", "--literally", "raw")
    assert repository.git.parents(commit) == [first]


def test_merge_base__is_where_the_branch_left(repository: Repository) -> None:
    left = repository.commit("one")
    repository.branch("feature")
    repository.commit("two")
    repository.run("switch", "--quiet", "main")
    repository.commit("three")
    assert repository.git.merge_base("feature", "main") == left
    repository.run("switch", "--quiet", "--orphan", "alone")
    repository.commit("four")
    assert repository.git.merge_base("alone", "main") is None
    assert repository.git.merge_base("alone", "nothing") is None


def test_first_parents__follows_merges_on_their_first_side_only(repository: Repository) -> None:
    one = repository.commit("one")
    repository.branch("feature")
    repository.commit("side")
    repository.run("switch", "--quiet", "main")
    two = repository.commit("two")
    merge = repository.merge("feature")
    assert repository.git.first_parents(merge, 10) == [merge, two, one]
    assert repository.git.first_parents(merge, 2) == [merge, two]


def test_is_ancestor__is_true_of_what_is_in_the_history(repository: Repository) -> None:
    first = repository.commit("one")
    repository.branch("feature")
    side = repository.commit("two")
    repository.run("switch", "--quiet", "main")
    second = repository.commit("three")
    merge = repository.merge("feature")
    git = repository.git
    for older, newer in ((first, second), (first, side), (side, merge), (first, merge)):
        assert git.is_ancestor(older, newer)
        assert not git.is_ancestor(newer, older)
    assert git.is_ancestor(first, first)
    assert not git.is_ancestor(side, second)
    assert not git.is_ancestor(second, side)


def test_is_ancestor__is_false_of_what_is_not_known(repository: Repository) -> None:
    first = repository.commit("one")
    tree = repository.run("rev-parse", "HEAD^{tree}")
    names = ["0" * 40, "f" * 40, tree, "", "nothing", "--all", "-h", "--independent", "a b", "..."]
    for name in names:
        assert not repository.git.is_ancestor(name, first)
        assert not repository.git.is_ancestor(first, name)
        assert not repository.git.is_ancestor(name, name)


def test_is_ancestor__in_a_shallow_clone_knows_only_what_is_there(
    repository: Repository, tmp_path: Path
) -> None:
    commits = [repository.commit(name) for name in ("one", "two", "three")]
    clone = repository.clone(tmp_path / "clone", "--depth=2")
    assert clone.git.is_shallow()
    assert clone.git.is_ancestor(commits[1], commits[2])
    assert not clone.git.is_ancestor(commits[0], commits[2])
    assert not clone.git.is_ancestor(commits[2], commits[0])


def test_is_ancestor__where_there_is_no_repository_is_false(
    repository: Repository, tmp_path: Path
) -> None:
    first = repository.commit("one")
    (tmp_path / "plain").mkdir()
    assert not Git(tmp_path / "plain", repository.environ).is_ancestor(first, first)


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("2026-01-02T03:04:05+0000", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02T03:04:05+0530", "2026-01-01T21:34:05+00:00"),
        ("2026-01-02T03:04:05-1000", "2026-01-02T13:04:05+00:00"),
        ("@0 +0000", "1970-01-01T00:00:00+00:00"),
        ("@4102444800 +0000", "2100-01-01T00:00:00+00:00"),
    ],
)
def test_committed_at__is_the_time_of_the_committer_in_utc(
    repository: Repository, date: str, expected: str
) -> None:
    repository.environ |= {
        "GIT_COMMITTER_DATE": date,
        "GIT_AUTHOR_DATE": "2001-01-01T00:00:00+0000",
        "TZ": "Asia/Tokyo",
    }
    commit = repository.commit("one")
    assert repository.git.committed_at(commit).isoformat() == expected


def test_committed_at__is_not_confused_by_configuration(repository: Repository) -> None:
    repository.environ |= {"GIT_COMMITTER_DATE": "@1000000000 +0000"}
    commit = repository.commit("one")
    for name, value in (
        ("log.showSignature", "true"),
        ("color.ui", "always"),
        ("format.pretty", "full"),
        ("log.showRoot", "true"),
    ):
        repository.run("config", name, value)
    assert repository.git.committed_at(commit).timestamp() == 1_000_000_000


def test_committed_at__in_a_shallow_clone(repository: Repository, tmp_path: Path) -> None:
    repository.commit("one")
    commit = repository.commit("two")
    clone = repository.checked_out(tmp_path / "clone", "main")
    assert clone.git.committed_at(commit) == repository.git.committed_at(commit)


@pytest.mark.parametrize("name", ["0" * 40, "nothing", "--all", ""])
def test_committed_at__of_what_is_no_commit_is_an_error(repository: Repository, name: str) -> None:
    repository.commit("one")
    with pytest.raises(GitError, match="git show failed"):
        repository.git.committed_at(name)


def test_default_branch__is_what_the_clone_knows(repository: Repository, tmp_path: Path) -> None:
    repository.commit("one")
    assert repository.git.default_branch() is None
    assert repository.clone(tmp_path / "clone").git.default_branch() == "origin/main"


def test_prefix__is_the_folder_from_the_top(repository: Repository) -> None:
    (repository.path / "a folder" / "dbt").mkdir(parents=True)
    inner = Git(repository.path / "a folder" / "dbt", repository.environ)
    assert (repository.git.prefix(), inner.prefix()) == ("", "a folder/dbt/")


def test_commit_all__makes_a_repository_and_a_commit(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    # No identity and a signing key that is not there: neither may matter.
    config = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "commit.gpgsign"}
    environ = {**Repository(tmp_path / "other").environ, **config, "GIT_CONFIG_VALUE_0": "true"}
    git = Git(tmp_path, environ)
    git.create("trunk")
    (tmp_path / "other").rename(tmp_path.parent / f"{tmp_path.name}-other")
    first = git.commit_all("first", author="Ada", email="ada@example.com")
    git.switch_to_new("next")
    (tmp_path / "file").write_text("y")
    second = git.commit_all("second", author="Ada", email="ada@example.com")
    assert git.first_parents("HEAD", 5) == [second, first]
    assert (git.branch(), git.commit("trunk")) == ("next", first)
    assert "file | 2 +-" in git.changes(first, second)


def test_a_failing_command__says_which_one_and_what_git_said(tmp_path: Path) -> None:
    environ = Repository(tmp_path / "repository").environ
    (tmp_path / "plain").mkdir()
    with pytest.raises(GitError, match=r"^git rev-parse failed: fatal: not a git repository"):
        Git(tmp_path / "plain", environ).prefix()


def test_without_git__says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="git is not on the PATH"):
        Git(tmp_path, {"PATH": str(tmp_path)}).prefix()


# What changed ---------------------------------------------------------------------------------


@pytest.fixture
def changed(repository: Repository) -> tuple[Repository, str]:
    """A repository with one of each kind of change since the commit."""
    for name in ("kept", "edited", "staged", "committed", "deleted", "gone", "old name"):
        (repository.path / name).write_text(f"{name}\n" * 10)
    (repository.path / ".gitignore").write_text("ignored\n*.log\n")
    (repository.path / "folder").mkdir()
    base = repository.commit("folder/kept")
    (repository.path / "committed").write_text("x")
    (repository.path / "gone").unlink()
    repository.run("mv", "old name", "folder/new name")
    repository.commit("new")
    (repository.path / "staged").write_text("x")
    (repository.path / "staged and new").write_text("x")
    repository.run("add", "staged", "staged and new")
    (repository.path / "edited").write_text("x")
    (repository.path / "deleted").unlink()
    (repository.path / "folder/untracked").write_text("x")
    (repository.path / "untracked").write_text("x")
    (repository.path / "ignored").write_text("x")
    (repository.path / "folder/dbt.log").write_text("x")
    return repository, base


CHANGED = {
    *("committed", "gone", "old name", "folder/new name", "new"),
    *("staged", "staged and new", "edited", "deleted", "folder/untracked", "untracked"),
}


def differing(git: Git, commit: str) -> frozenset[str]:
    """All that is not as it was, whether git knows the file or not."""
    return git.changed_files(commit) | git.new_files()


@pytest.mark.parametrize("folder", [".", "folder"])
def test_changed_files__are_from_the_top_committed_or_not(
    changed: tuple[Repository, str], folder: str
) -> None:
    repository, base = changed
    git = Git(repository.path / folder, repository.environ)
    assert differing(git, base) == CHANGED
    assert differing(git, "HEAD") == {
        *("staged", "staged and new", "edited", "deleted", "folder/untracked", "untracked"),
    }


@pytest.mark.parametrize("folder", [".", "folder"])
def test_tracked_files__are_those_of_the_whole_repository(
    changed: tuple[Repository, str], folder: str
) -> None:
    repository, _ = changed
    assert Git(repository.path / folder, repository.environ).tracked_files() == {
        *(".gitignore", "kept", "edited", "staged", "committed", "deleted", "new"),
        *("folder/kept", "folder/new name", "staged and new"),
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("diff.noprefix", "true"),
        ("diff.relative", "true"),
        ("diff.renames", "copies"),
        ("diff.external", "false"),
        ("diff.wordRegex", "."),
        ("core.quotePath", "true"),
        ("color.ui", "always"),
        ("status.showUntrackedFiles", "no"),
        ("core.pager", "false"),
    ],
)
def test_changed_files__are_not_confused_by_configuration(
    changed: tuple[Repository, str], name: str, value: str
) -> None:
    repository, base = changed
    repository.run("config", name, value)
    git = Git(repository.path / "folder", repository.environ)
    assert differing(git, base) == CHANGED
    assert "folder/new name" in git.tracked_files()


ODD = [
    "a b",
    "é…",
    'a"b',
    "a\nb",
    "-h",
    "--all",
    ":/",
    "a\\b",
    "a\tb",
    "x ",
    ";$(x)",
    "*",
    ":(top)",
]


@pytest.mark.parametrize("name", ODD)
def test_changed_files__have_their_names_as_they_are(repository: Repository, name: str) -> None:
    base = repository.commit("one")
    (repository.path / name).mkdir()
    for file in ("committed", "untracked"):
        (repository.path / name / f"{file}{name.replace('/', '')}").write_text("x")
        if file == "committed":
            repository.run("add", "--all")
            repository.run("commit", "--quiet", "--message", "x")
    ends = name.replace("/", "")
    assert differing(repository.git, base) == {
        f"{name.rstrip('/')}/committed{ends}",
        f"{name.rstrip('/')}/untracked{ends}",
    }
    assert repository.git.tracked_files() == {"one", f"{name.rstrip('/')}/committed{ends}"}


def test_changed_files__keep_a_space_at_the_start(repository: Repository) -> None:
    base = repository.commit("one")
    repository.commit(" two")
    assert differing(repository.git, base) == {" two"}
    assert repository.git.tracked_files() == {" two", "one"}


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems refuse such names")
def test_changed_files__whose_names_are_no_utf_8_do_no_harm(repository: Repository) -> None:
    base = repository.commit("one")
    Path(os.fsdecode(os.fsencode(repository.path) + b"/caf\xe9")).write_text("x")
    assert len(differing(repository.git, base)) == 1
    repository.commit("two")
    assert len(differing(repository.git, base)) == 2
    assert len(repository.git.tracked_files()) == 3


def test_changed_files__of_nothing_are_none(repository: Repository) -> None:
    base = repository.commit("one")
    assert differing(repository.git, base) == frozenset()
    repository.run("commit", "--quiet", "--allow-empty", "--message", "x")
    # Written again with the same bytes, and another time.
    (repository.path / "one").write_text("one")
    os.utime(repository.path / "one", (0, 0))
    assert differing(repository.git, base) == frozenset()


def test_changed_files__are_found_without_the_history(
    repository: Repository, tmp_path: Path
) -> None:
    base = repository.commit("one")
    repository.commit("two")
    clone = repository.checked_out(tmp_path / "clone", "main")
    clone.run("fetch", "--quiet", "--depth=1", repository.path.as_uri(), base)
    assert differing(clone.git, base) == {"two"}


@pytest.mark.parametrize("commit", ["0" * 40, "nothing", "--all", "--output=x", ""])
def test_changed_files__of_what_is_no_commit_is_an_error(
    repository: Repository, commit: str
) -> None:
    repository.commit("one")
    with pytest.raises(GitError, match="git diff failed"):
        differing(repository.git, commit)
    assert not (repository.path / "x").exists()


def test_tracked_files__of_an_empty_repository_are_none(repository: Repository) -> None:
    assert repository.git.tracked_files() == frozenset()


def test_has_links__below_the_directory_and_not_beside_it(repository: Repository) -> None:
    folder, beside = repository.path / "a folder", repository.path / "beside"
    folder.mkdir()
    (folder / "file").write_text("120000 is no mode here")
    beside.symlink_to("a folder")
    repository.commit("x")
    assert Git(repository.path, repository.environ).has_links()
    assert not Git(folder, repository.environ).has_links()
    (folder / "link").symlink_to("file")
    repository.commit("y")
    assert Git(folder, repository.environ).has_links()


def test_text__is_of_that_commit_and_from_the_top(repository: Repository) -> None:
    (repository.path / "a folder").mkdir()
    (repository.path / "a folder" / "é").write_text("one\n\n  two", encoding="utf-8")
    base = repository.commit("x")
    (repository.path / "a folder" / "é").write_text("three", encoding="utf-8")
    git = Git(repository.path / "a folder", repository.environ)
    assert git.text(base, "a folder/é") == "one\n\n  two"
    assert git.text("HEAD", "x") == "x"


@pytest.mark.parametrize(
    "path", ["nothing", "a folder/nothing", "a folder", "", "../x", "/x", "-h", ":(top)x", "x\n"]
)
def test_text__of_what_is_no_file_is_none(repository: Repository, path: str) -> None:
    (repository.path / "a folder").mkdir()
    (repository.path / "a folder" / "x").write_text("x")
    base = repository.commit("x")
    assert repository.git.text(base, path) is None
    assert repository.git.text("0" * 40, "x") is None


def test_text__of_an_empty_file_is_empty(repository: Repository) -> None:
    (repository.path / "empty").write_text("")
    assert repository.git.text(repository.commit("x"), "empty") == ""


@pytest.mark.parametrize("data", [b"caf\xe9\n", b"\x89PNG\r\n\x1a\n\xff", b"\xff\xfea\0"])
def test_text__of_what_is_no_utf_8_is_none(repository: Repository, data: bytes) -> None:
    (repository.path / "data").write_bytes(data)
    assert repository.git.text(repository.commit("x"), "data") is None


@pytest.mark.parametrize("text", ["  DBT_REGION: eu\nx", "x\nDBT_REGION: eu  ", "\tx\n", "\n"])
def test_text__is_all_of_it(repository: Repository, text: str) -> None:
    (repository.path / "file").write_text(text)
    assert repository.git.text(repository.commit("x"), "file") == text


def test_new_files__are_those_that_git_does_not_know(
    changed: tuple[Repository, str],
) -> None:
    repository, base = changed
    assert repository.git.new_files() == {"folder/untracked", "untracked"}
    assert not repository.git.new_files() & repository.git.changed_files(base)
