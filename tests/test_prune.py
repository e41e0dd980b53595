from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ci_defer.prune import Pruned, prune
from tests.places import DirectoryPlace, Meanwhile, Proxy, models, store_in
from tests.samples import PROJECT, Log, content, packed
from tests.test_cli import Place as Job

NOW = datetime(2026, 7, 1, 12, tzinfo=timezone.utc)
DAYS = timedelta(days=1)


class Store:
    """A directory of states, each as old as the test wants it. The day of a commit is its name."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.place = DirectoryPlace(tmp_path / "store")
        self.log = Log()

    @staticmethod
    def commit(age: int) -> str:
        return f"{age:040x}"

    def put(self, *ages: int, target: str = "prod", seconds: float = 0) -> None:
        """Publish states that were saved so many days before NOW."""
        for age in ages:
            commit = self.commit(age)
            # The pointer goes by this date.
            committed_at = (NOW - age * DAYS).isoformat()
            bundle = packed(
                self.tmp_path, f"m{age}", commit=commit, target=target, committed_at=committed_at
            )
            self.age(store_in(self.place.objects()).put(bundle), age, seconds)

    def age(self, folder: str | Path, age: float, seconds: float = 0) -> None:
        """Make all that is in a folder so old."""
        time = (NOW - age * DAYS).timestamp() - seconds
        for path in Path(folder).rglob("*"):
            os.utime(path, (time, time))

    def prune(
        self,
        *,
        keep: int = 1,
        older_than: timedelta = 90 * DAYS,
        is_dry_run: bool = False,
        objects: Any = None,
        **store: Any,
    ) -> Pruned:
        return prune(
            store_in(objects or self.place.objects(), **store),
            keep=keep,
            older_than=older_than,
            is_dry_run=is_dry_run,
            log=self.log,
            now=NOW,
        )

    def left(self, target: str = "prod") -> set[int]:
        """The ages of the states that are there, whole."""
        found = set(store_in(self.place.objects(), target=target).commits())
        for commit in found:
            [model] = models(
                store_in(self.place.objects(), target=target), self.tmp_path / "to", commit
            )
            assert model == f"m{int(commit, 16)}"
        return {int(commit, 16) for commit in found}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.mark.parametrize(
    ("ages", "keep", "older_than", "expected"),
    [
        ((), 1, 90, set()),
        ((1,), 1, 0, {1}),
        ((200,), 1, 90, {200}),
        ((100, 200, 300), 1, 90, {100}),
        ((100, 200, 300), 2, 90, {100, 200}),
        ((100, 200, 300), 3, 90, {100, 200, 300}),
        ((100, 200, 300), 9, 90, {100, 200, 300}),
        # Either is enough to stay.
        ((1, 2, 3, 100), 1, 90, {1, 2, 3}),
        ((1, 2, 3, 100), 2, 2, {1, 2}),
        ((1, 2, 3), 1, 0, {1}),
        # As old as the border is not older.
        ((1, 89, 90, 91), 1, 90, {1, 89, 90}),
    ],
)
def test_prune__keeps_the_newest_and_the_young(
    store: Store, ages: tuple[int, ...], keep: int, older_than: int, expected: set[int]
) -> None:
    store.put(*ages)
    done = store.prune(keep=keep, older_than=older_than * DAYS)
    assert store.left() == expected
    assert done == Pruned(kept=len(expected), removed=len(ages) - len(expected), leftovers=0)
    # Of what is removed there is nothing left, not even a folder.
    folders = {path.name for path in (store.place.root / PROJECT / "prod").glob("0*")}
    assert folders == {store.commit(age) for age in expected}


def test_prune__one_second_over_the_age_is_older(store: Store) -> None:
    store.put(1)
    store.put(90, seconds=1)
    store.prune()
    assert store.left() == {1}


def test_prune__counts_for_every_target_apart(store: Store) -> None:
    store.put(100, 200, 300, target="prod")
    store.put(400, 500, 600, target="dev")
    done = store.prune(keep=2)
    assert (store.left("prod"), store.left("dev")) == ({100, 200}, {400, 500})
    assert done == Pruned(kept=4, removed=2, leftovers=0)


def test_prune__of_one_target_leaves_the_others_alone(store: Store) -> None:
    store.put(100, 200, target="prod")
    store.put(400, 500, target="dev")
    store.put(600, 700, target="")
    before = content(store.place.root / PROJECT / "dev")
    store.prune(target="prod")
    assert store.left("prod") == {100, 600}
    assert content(store.place.root / PROJECT / "dev") == before


def test_prune__leaves_other_projects_alone(store: Store) -> None:
    store.put(100, 200)
    other = store_in(store.place.objects(), "other")
    for age in (100, 200):
        store.age(other.put(packed(store.tmp_path, "a", commit=store.commit(age))), age)
    before = content(store.place.root / "other")
    store.prune()
    assert content(store.place.root / "other") == before
    assert store.left() == {100}


def test_prune__keeps_what_the_pointer_names(store: Store) -> None:
    store.put(100, 200, 300)
    # Published again lately, but the newest commit of main is another one.
    store.put(100)
    store.place.write(
        f"{PROJECT}/prod/latest.json", b'{"schema_version": 1, "commit": "%040x"}' % 300
    )
    done = store.prune()
    assert store.left() == {100, 300}
    assert done == Pruned(kept=2, removed=1, leftovers=0)


@pytest.mark.parametrize("pointer", [None, b"", b"garbage", b'{"commit": "x"}'])
def test_prune__without_a_pointer_goes_by_age(store: Store, pointer: bytes | None) -> None:
    store.put(100, 200)
    store.place.delete(f"{PROJECT}/prod/latest.json")
    if pointer is not None:
        store.place.write(f"{PROJECT}/prod/latest.json", pointer)
    store.prune()
    assert store.left() == {100}


def test_prune__takes_no_names_of_others(store: Store) -> None:
    store.put(100, 200)
    for name in ("README", "main/state.json", "0" * 39 + "/x", "F" * 40 + "/state.json"):
        store.place.write(f"{PROJECT}/prod/{name}", b"mine")
    store.age(store.place.root, 500)
    store.put(100)
    store.prune()
    assert {name for name in store.place.names() if store.place.read(name) == b"mine"} == {
        f"{PROJECT}/prod/{name}"
        for name in ("README", "main/state.json", "0" * 39 + "/x", "F" * 40 + "/state.json")
    }


# Leftovers ------------------------------------------------------------------------------------


def publications(store: Store, age: int) -> set[str]:
    folder = store.place.root / PROJECT / "prod" / store.commit(age)
    return {path.name for path in folder.iterdir() if path.is_dir()} if folder.exists() else set()


def half(store: Store, commit_age: int, age: float, name: str = "feedfeedfeedfeed") -> None:
    """Files of a publication that has no state.json."""
    folder = f"{PROJECT}/prod/{store.commit(commit_age)}/{name}"
    store.place.write(f"{folder}/manifest.json.zst", b"half")
    store.age(store.place.root / folder, age)


@pytest.mark.parametrize(
    ("age", "older_than", "stays"),
    [
        (89, 90, True),
        (90, 90, True),
        (91, 90, False),
        (0.9, 0, True),
        (1, 0, True),
        (1.1, 0, False),
    ],
)
@pytest.mark.parametrize("has_bundle", [True, False])
def test_prune__takes_leftovers_that_are_as_old_and_a_day_at_least(
    store: Store, age: float, older_than: int, stays: bool, has_bundle: bool
) -> None:
    if has_bundle:
        store.put(5)
    half(store, 5, age)
    done = store.prune(older_than=older_than * DAYS)
    assert ("feedfeedfeedfeed" in publications(store, 5)) == stays
    assert done == Pruned(kept=int(has_bundle), removed=0, leftovers=int(not stays))
    assert store.left() == ({5} if has_bundle else set())


def test_prune__takes_the_earlier_publications_of_a_state(store: Store) -> None:
    store.put(200)
    old = publications(store, 200)
    again = packed(store.tmp_path, "again", commit=store.commit(200))
    store_in(store.place.objects()).put(again)
    assert len(publications(store, 200)) == 2
    done = store.prune()
    assert done == Pruned(kept=1, removed=0, leftovers=2)
    assert not publications(store, 200) & old
    assert models(store_in(store.place.objects()), store.tmp_path / "to", store.commit(200)) == [
        "again"
    ]


def test_prune__takes_what_a_killed_writer_has_left(store: Store) -> None:
    store.put(200)
    folder = f"{PROJECT}/prod/{store.commit(200)}"
    (publication,) = publications(store, 200)
    for where in (folder, f"{folder}/{publication}", f"{PROJECT}/prod"):
        store.place.write(f"{where}/.x.partial", b"half")
        os.utime(store.place.root / where / ".x.partial", (0, 0))
    store.prune()
    assert store.left() == {200}
    assert [name for name in store.place.names() if name.endswith(".partial")] == []


def test_prune__keeps_an_old_state_beside_which_a_new_one_is_written(store: Store) -> None:
    store.put(100, 200)
    # The files come first: these are of somebody who is about to save its state.json.
    half(store, 200, 0)
    done = store.prune()
    assert "feedfeedfeedfeed" in publications(store, 200)
    assert (done.removed, store.left()) == (0, {100, 200})


# Beside others --------------------------------------------------------------------------------


def test_prune__leaves_a_state_that_has_changed_since_it_was_listed(store: Store) -> None:
    store.put(100, 200, 300)
    again = packed(store.tmp_path, "m200", commit=store.commit(200))

    class Listed(Proxy):
        """Somebody publishes 200 again when all has been listed."""

        def after(self, operation: str) -> None:
            if operation == "read" and not store.log.lines:
                store.log.info("published again")
                store_in(store.place.objects()).put(again)

    done = store.prune(objects=Listed(store.place.objects()))
    assert store.left() == {100, 200}
    assert done == Pruned(kept=2, removed=1, leftovers=0)
    assert f"It changed meanwhile, so it stays: {store.commit(200)[:12]}." in store.log.lines


def test_prune__goes_on_when_a_state_is_gone_meanwhile(store: Store) -> None:
    store.put(100, 200, 300)
    for age in (100, 200, 300):
        half(store, age, 95)
    # Another prune, which keeps less, comes between the listing and the leftovers.
    meanwhile = Meanwhile(store.place.objects(), "read", lambda: store.prune(keep=1), number=2)
    done = store.prune(keep=2, objects=meanwhile)
    assert meanwhile.has_happened
    assert store.left() == {100}
    assert done.removed in (0, 1)


# Dry run and what is said ---------------------------------------------------------------------


def test_prune__in_a_dry_run_changes_nothing_and_says_what_it_would_do(store: Store) -> None:
    store.put(100, 200, 300)
    half(store, 100, 200)
    before = content(store.place.root)
    would = store.prune(is_dry_run=True)
    assert content(store.place.root) == before
    assert store.log.lines == [
        f"Would remove the state of commit {store.commit(age)[:12]} (target prod), "
        f"saved {age} days ago."
        for age in (200, 300)
    ]
    store.log.lines.clear()
    assert store.prune() == would == Pruned(kept=1, removed=2, leftovers=1)
    assert store.log.lines == [
        f"Removing the state of commit {store.commit(age)[:12]} (target prod), "
        f"saved {age} days ago."
        for age in (200, 300)
    ]


def test_prune__never_takes_what_is_younger_than_a_day(store: Store) -> None:
    # Its files may be those of somebody who publishes that commit again.
    store.put(0, seconds=1)
    store.put(1)
    store.age(store.place.root / PROJECT / "prod" / store.commit(1), 0, 3600 * 23.9)
    store.prune(older_than=timedelta(hours=5))
    assert store.left() == {0, 1}
    assert store.log.lines == []


@pytest.mark.parametrize("damage", ["garbage", "files gone", "a file gone"])
def test_prune__takes_an_old_state_that_is_damaged(store: Store, damage: str) -> None:
    store.put(100, 200)
    folder = store.place.root / PROJECT / "prod" / store.commit(200)
    if damage == "garbage":
        (folder / "state.json").write_text("garbage")
    else:
        files = sorted(folder.rglob("*.zst"))
        for file in files[: 1 if damage == "a file gone" else None]:
            file.unlink()
    store.age(folder, 200)
    assert store.prune() == Pruned(kept=1, removed=1, leftovers=0)
    assert not folder.exists()


# The command ----------------------------------------------------------------------------------


@pytest.fixture
def job(tmp_path: Path, store: Store) -> Job:
    store.put(100, 200)
    now = datetime.now(timezone.utc)
    for age in (100, 200):
        folder = store.place.root / PROJECT / "prod" / store.commit(age)
        store.age(folder, age - (now - NOW) / DAYS)
    return Job(tmp_path)


def run(job: Job, *arguments: str, **variables: str) -> tuple[int, str, str]:
    done = job.run("prune", *arguments, **variables)
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def test_prune_command__is_a_dry_run_unless_told_otherwise(job: Job, store: Store) -> None:
    before = content(job.store)
    code, said, errors = run(job, "--state", str(job.store), "--keep", "1")
    assert (code, errors) == (0, "")
    stay, would, done, hint = said.splitlines()
    assert stay == (
        f"{job.store}/shop: the newest 1 of every target stay, and everything younger than 90 days."
    )
    assert would == (
        f"Would remove the state of commit {store.commit(200)[:12]} (target prod), saved 200 days "
        "ago."
    )
    assert done.startswith("Would remove 1 state and 0 leftovers; 1 state ")
    assert hint == "This was a dry run. Add --no-dry-run to remove them."
    assert content(job.store) == before
    code, said, _ = run(job, "--state", str(job.store), "--keep", "1", "--no-dry-run")
    assert code == 0
    assert "\nRemoved 1 state and 0 leftovers; 1 state " in said
    assert store.left() == {100}


def test_prune_command__by_default_keeps_fifty(job: Job, store: Store) -> None:
    code, said, _ = run(job, "--state", str(job.store), "--no-dry-run")
    assert (code, store.left()) == (0, {100, 200})
    assert "the newest 50 of every target stay, and everything younger than 90 days." in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--keep", "0"), "0 is not in the range x>=1"),
        (("--keep", "-1"), "-1 is not in the range x>=1"),
        (("--keep", "many"), "'many' is not a valid int"),
        (("--older-than", "soon"), "'soon' is no length of time: write 12h, 90d or 8w."),
        (("--older-than", "-1d"), "'-1d' is no length of time"),
        (("--older-than", "1.5d"), "'1.5d' is no length of time"),
        (("--older-than", "3m"), "'3m' is no length of time"),
        (("--older-than", ""), "no length of time"),
        (("--older-than", "900000d"), "is more than a hundred years"),
        (("--nonsense",), "No such option"),
        (("--project", "../x"), "may only hold letters"),
        (("--state", "artifact"), "state: artifact cannot be pruned"),
        ((), "state: artifact cannot be pruned"),
        (("--state", "ftp://x"), "is not a kind of store"),
        (("--state", "s3://b"), "names no bucket"),
        (("--state", "s3://bucket/x.json"), "is one manifest"),
        (("--project-dir", "nowhere"), "Set project-dir"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_prune_command__refuses_what_makes_no_sense(
    job: Job, arguments: tuple[str, ...], expected: str
) -> None:
    before = content(job.store)
    given = (
        arguments
        if "--state" in arguments or not arguments
        else ("--state", str(job.store), *arguments)
    )
    code, _, errors = run(job, *given, "--no-dry-run")
    assert code == 2
    [line] = errors.splitlines()
    assert expected in line
    assert content(job.store) == before


AGES: Mapping[str, set[int]] = {
    "0d": {100},
    "0": {100},
    "2400h": {100},
    "28w": {100},
    "29w": {100, 200},
    " 150 d ": {100},
    "300": {100, 200},
    "36500d": {100, 200},
    "876000h": {100, 200},
}


@pytest.mark.parametrize(("older_than", "expected"), AGES.items(), ids=AGES)
def test_prune_command__takes_odd_ages(
    job: Job, store: Store, older_than: str, expected: set[int]
) -> None:
    given = ("--keep", "1", "--older-than", older_than, "--no-dry-run")
    code, _, errors = run(job, "--state", str(job.store), *given)
    assert (code, errors) == (0, "")
    assert store.left() == expected


def test_prune_command__of_a_store_that_is_not_there_removes_nothing(job: Job) -> None:
    code, said, _ = run(job, "--state", str(job.store / "none"), "--no-dry-run")
    assert code == 0
    assert "Removed 0 states and 0 leftovers; 0 states kept." in said
    assert not (job.store / "none").exists()


def test_prune_command__needs_no_project_when_its_key_is_given(job: Job, store: Store) -> None:
    (job.repository.path / "dbt_project.yml").unlink()
    given = ("--project", "shop", "--keep", "1", "--no-dry-run")
    code, _, errors = run(job, "--state", str(job.store), *given)
    assert (code, errors) == (0, "")
    assert store.left() == {100}


def test_prune_command__reads_its_settings_from_the_environment(job: Job, store: Store) -> None:
    code, _, _ = run(job, "--keep", "1", "--no-dry-run", CI_DEFER_STATE=str(job.store))
    assert (code, store.left()) == (0, {100})
    store.put(300)
    named = {"CI_DEFER_STATE": str(job.store), "CI_DEFER_PRODUCTION_TARGET": "other"}
    code, said, _ = run(job, "--keep", "1", "--no-dry-run", **named)
    assert (code, store.left()) == (0, {100, 300})
    assert "0 states kept" in said
