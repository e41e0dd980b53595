"""Bundles as objects: the layout that a bucket and a directory share.

    <project>/<target>/latest.json                        names the newest commit
    <project>/<target>/<commit>/state.json                written last: with it the bundle exists
    <project>/<target>/<commit>/<publication>/<file>.zst  the files of one publication

Every publication writes files of its own, in a folder that is named after the content of its
state.json, and no file is ever written again. So a reader, who starts with state.json, has all of
one publication, whatever happens beside it: the same commit published twice at once, a writer that
dies, old states that are pruned. Owns that layout and the pointer. Knows nothing of git, and
nothing of what a bundle means.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from ci_defer.bundle import (
    COMMIT,
    MAX_SIZE,
    STATE,
    STATE_SIZE_LIMIT,
    Bundle,
    FileRecord,
    Provenance,
    decode_state,
    encode_state,
    unpack,
    without_unread,
)
from ci_defer.errors import CiDeferError, ConfigurationError, InvalidBundle
from ci_defer.log import TransferLog
from ci_defer.stores.compression import SUFFIX, compressed, decompressed
from ci_defer.stores.objects import Content, Entry, Missing, Objects
from ci_defer.stores.pointer import POINTER_SIZE_LIMIT, Pointer, decode_pointer, encode_pointer

LATEST = "latest.json"
# The target of a state when nobody said it: the default of the profile, which dbt does not record.
NO_TARGET = "_default"

# A file of a directory that its writer did not finish.
PARTIAL = re.compile(r"\..*\.partial")
BLOCK = 1024 * 1024
# Files at once. The manifest is most of a bundle, and its parts go in parallel anyway.
WORKERS = 3
# Each failure to move the pointer means that somebody else has moved it.
POINTER_ATTEMPTS = 100
POINTER_FAILURES = 3


@dataclass(frozen=True, kw_only=True)
class Stored:
    """All that is kept of one commit. Without `saved_at` there is no bundle, only leftovers.

    With an empty `commit` it is what writers of `latest.json` have left when they died.

    `saved_at` and `modified`, the newest of the objects, are by the clock of the place.
    """

    folder: str
    target: str
    commit: str
    saved_at: datetime | None
    modified: datetime
    entries: frozenset[Entry]
    is_latest: bool


class BundleStore:
    """The bundles of one project in one place.

    `target` is the one of production, None when nobody said it: then the store must hold only one.
    `branch` is the one whose newest state `latest.json` names, empty for any. `is_ancestor(a, b)`
    says whether commit a is known to be in the history of b.
    """

    def __init__(
        self,
        objects: Objects,
        project: str,
        *,
        log: TransferLog,
        target: str | None = None,
        branch: str = "",
        is_ancestor: Callable[[str, str], bool] = lambda _one, _other: False,
    ) -> None:
        self._objects = objects
        self._project = project
        self._target = target
        self._branch = branch
        self._is_ancestor = is_ancestor
        self._log = log
        # Where each commit is that was listed.
        self._folders: dict[str, str] = {}

    @property
    def location(self) -> str:
        return f"{self._objects.location}/{self._project}"

    def commits(self, sought: str = "") -> Iterator[str]:
        """The commits whose state.json exists: `sought` is asked for before the rest is listed."""
        folders = self._targets()
        seen = set()
        for folder in folders:
            if sought and sought not in seen and self._is_whole(f"{folder}/{sought}"):
                seen.add(sought)
                self._folders[sought] = f"{folder}/{sought}"
                yield sought
        for folder in folders:
            for entry in self._objects.entries(folder):
                commit, _, name = entry.name.removeprefix(f"{folder}/").partition("/")
                if name == STATE and COMMIT.fullmatch(commit) and commit not in seen:
                    seen.add(commit)
                    self._folders[commit] = f"{folder}/{commit}"
                    yield commit

    def newest(self) -> Iterator[str]:
        """First the one that `latest.json` names: commits may be published out of their order."""
        self._folders.clear()
        listed = [*self.commits()]
        folders = {self._folders[commit]: commit for commit in listed}
        stored = [one for one in self.stored() if one.saved_at and one.folder in folders]
        stored.sort(key=lambda one: (one.is_latest, one.modified), reverse=True)
        yield from (one.commit for one in stored)

    def absence(self, commit: str) -> str:
        if any(self._has_entries(f"{folder}/{commit}") for folder in self._targets()):
            return f"It has no {STATE}: it is being written, or its writer died."
        others = self._objects.folders(self._project) if self._target is not None else []
        if others and not {*others} & {_folder_of(self._target or ""), NO_TARGET}:
            return f"There are only states of other targets: {', '.join(sorted(others)[:10])}."
        return ""

    def get(self, commit: str, to: Path, *, project_name: str) -> Bundle:
        folder = self._folders[commit]
        state = self._state(folder)
        (to / STATE).write_bytes(state)
        provenance = decode_state(to / STATE)
        if provenance.origin.commit != commit:
            raise InvalidBundle(
                f"{folder}/{STATE} says that it is of commit {provenance.origin.commit[:12]!r}."
            )
        if (whole := _total(provenance)) > MAX_SIZE:
            raise InvalidBundle(f"{folder} would have {whole:,} bytes.")
        publication = f"{folder}/{_publication(state)}"
        wanted = without_unread(provenance)
        (to / STATE).write_bytes(encode_state(wanted))
        total = _total(wanted)
        with self._log.progress("Fetching the production state", total) as advance:

            def fetch(name: str, record: FileRecord) -> None:
                chunks = self._objects.chunks(f"{publication}/{name}{SUFFIX}")
                try:
                    (to / name).parent.mkdir(exist_ok=True)
                    with (to / name).open("wb") as file:
                        for block in decompressed(chunks, record.size):
                            file.write(block)
                            advance(len(block))
                except Missing:
                    raise InvalidBundle(
                        f"The bundle in {folder} is not whole: {name} is gone.",
                        "Run onboard again on the base branch.",
                    ) from None
                except InvalidBundle as error:
                    raise InvalidBundle(f"{name} in {folder}: {error.message}") from None
                except OSError as error:
                    raise CiDeferError(
                        f"The state cannot be kept in {to.parent}: {error.strerror}.",
                        "Make room there, or let TMPDIR name another place.",
                    ) from None

            _in_parallel(fetch, wanted)
        return unpack(to, project_name=project_name)

    def put(self, bundle: Bundle) -> str:
        provenance = bundle.provenance
        if provenance is None:
            raise ValueError("a bundle without provenance has no commit to be kept under")
        target = f"{self._project}/{_folder_of(provenance.target)}"
        folder = f"{target}/{provenance.origin.commit}"
        state = (bundle.directory / STATE).read_bytes()
        publication = f"{folder}/{_publication(state)}"
        with self._log.progress("Saving the production state", _total(provenance)) as advance:

            def save(name: str, _record: FileRecord) -> None:
                blocks = _blocks(bundle.directory / name, advance)
                self._objects.save(f"{publication}/{name}{SUFFIX}", compressed(blocks))

            _in_parallel(save, provenance)
        # What was saved is not taken back when this fails: it may have been done all the same, or
        # the files may be those of another job of this run. Leftovers are for `ci-defer prune`.
        self._objects.save(f"{folder}/{STATE}", [state])
        self._move_pointer(f"{target}/{LATEST}", provenance)
        return f"{self._objects.location}/{folder}"

    def stored(self) -> list[Stored]:
        """All that is kept of every commit, of all targets or of the one that was named."""
        found = []
        for folder in self._targets(only_one=False):
            by_commit: dict[str, set[Entry]] = {}
            for entry in self._objects.entries(folder):
                commit, _, rest = entry.name.removeprefix(f"{folder}/").partition("/")
                if rest and COMMIT.fullmatch(commit):
                    by_commit.setdefault(commit, set()).add(entry)
                elif not rest and PARTIAL.fullmatch(commit):
                    by_commit.setdefault("", set()).add(entry)
            pointer = self._pointer(f"{folder}/{LATEST}")[0]
            for commit, entries in by_commit.items():
                state = f"{folder}/{commit}/{STATE}"
                saved_at = next((e.modified for e in entries if e.name == state), None)
                found.append(
                    Stored(
                        folder=f"{folder}/{commit}",
                        target=folder.rpartition("/")[2],
                        commit=commit,
                        saved_at=saved_at,
                        modified=max(entry.modified for entry in entries),
                        entries=frozenset(entries),
                        is_latest=pointer is not None and pointer.commit == commit,
                    )
                )
        return found

    def leftovers(self, stored: Stored) -> list[Entry]:
        """What is kept of a commit besides its bundle: earlier publications, and broken ones."""
        folder = stored.folder
        if stored.saved_at is None:
            return list(stored.entries)
        others = [entry for entry in stored.entries if entry.name != f"{folder}/{STATE}"]
        folders = {entry.name.removeprefix(f"{folder}/").partition("/")[0] for entry in others}
        if len(folders) <= 1 and not any("/." in entry.name for entry in others):
            return []
        try:
            publication = f"{folder}/{_publication(self._state(folder))}/"
        except InvalidBundle:
            # Somebody has removed it meanwhile.
            return []
        return [
            entry
            for entry in others
            if not entry.name.startswith(publication)
            or PARTIAL.fullmatch(entry.name.rpartition("/")[2])
        ]

    def remove(self, stored: Stored) -> bool:
        """Delete all that is kept of a commit, unless that has changed since: then False.

        Where two do this at once, or one publishes the same commit in that instant, the bundle is
        gone, and no half of it stays.
        """
        state = f"{stored.folder}/{STATE}"
        if set(self._objects.entries(stored.folder)) != stored.entries:
            return False
        names = sorted(entry.name for entry in stored.entries)
        # The state first: from then on the bundle does not exist.
        self._objects.delete(sorted(names, key=lambda name: name != state))
        return True

    def remove_leftovers(self, entries: Iterable[Entry]) -> None:
        """Delete what `leftovers` gave."""
        self._objects.delete([entry.name for entry in entries])

    def _targets(self, *, only_one: bool = True) -> list[str]:
        """The folders of the target that production is; of all targets when it must not be one."""
        if self._target is not None:
            # A state whose target nobody knew may well be of this one.
            names = list(dict.fromkeys((_folder_of(self._target), NO_TARGET)))
        else:
            names = self._objects.folders(self._project)
            if only_one and len(names) > 1:
                # Leftovers of a writer that died are no states.
                names = [name for name in names if self._has_states(name)]
            if only_one and len(names) > 1:
                raise ConfigurationError(
                    f"{self.location} holds the states of several targets: "
                    f"{', '.join(sorted(names)[:10])}.",
                    "Set production-target to the one of production.",
                )
        return [f"{self._project}/{name}" for name in names]

    def _is_whole(self, folder: str) -> bool:
        try:
            self._objects.read(f"{folder}/{STATE}", STATE_SIZE_LIMIT)
        except Missing:
            return False
        return True

    def _has_states(self, target: str) -> bool:
        entries = self._objects.entries(f"{self._project}/{target}")
        return any(entry.name.endswith(f"/{STATE}") for entry in entries)

    def _has_entries(self, folder: str) -> bool:
        return next(iter(self._objects.entries(folder)), None) is not None

    def _state(self, folder: str) -> bytes:
        try:
            return self._objects.read(f"{folder}/{STATE}", STATE_SIZE_LIMIT).data
        except Missing:
            raise InvalidBundle(f"{folder} has no {STATE} any more.") from None

    def _pointer(self, name: str) -> tuple[Pointer | None, Content | None]:
        """What latest.json says, if anything, and the object itself, if there is one."""
        try:
            content = self._objects.read(name, POINTER_SIZE_LIMIT)
        except Missing:
            return None, None
        return decode_pointer(content.data), content

    def _move_pointer(self, name: str, provenance: Provenance) -> None:
        """Let latest.json name this commit, unless it names a newer one."""
        ours = Pointer.of(provenance)
        if self._branch and provenance.origin.branch != self._branch:
            self._log.info(
                f"{LATEST} is for {self._branch}, and this state is of {provenance.origin.branch}."
            )
            return
        try:
            self._let_name(name, ours)
        except CiDeferError as error:
            # Nobody who builds a pull request reads it.
            self._log.warning(f"The state is saved, but {LATEST} does not name it: {error}")

    def _let_name(self, name: str, ours: Pointer) -> None:
        failures = 0
        for _ in range(POINTER_ATTEMPTS):
            theirs, content = self._pointer(name)
            if theirs and not ours.is_newer_than(theirs, self._is_ancestor):
                self._log.info(f"{LATEST} names commit {theirs.commit[:12]}, which is not older.")
                return
            try:
                if self._objects.replace(name, encode_pointer(ours), content):
                    return
            except CiDeferError:
                # A connection that broke: perhaps it was written all the same.
                failures += 1
                if failures == POINTER_FAILURES:
                    raise
        raise CiDeferError("it is written by others all the time.", "Run the job again.")


def _in_parallel(work: Callable[[str, FileRecord], None], provenance: Provenance) -> None:
    """Do it for every file of a bundle; the first error is raised when all of them have ended."""
    with ThreadPoolExecutor(WORKERS) as pool:
        jobs = [pool.submit(work, name, record) for name, record in provenance.files.items()]
    for job in jobs:
        job.result()


def _blocks(path: Path, advance: Callable[[int], None]) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block
            advance(len(block))


def _total(provenance: Provenance) -> int:
    return sum(record.size for record in provenance.files.values())


def _publication(state: bytes) -> str:
    """The folder of the files that a state.json speaks of."""
    return hashlib.sha256(state).hexdigest()[:16]


def _folder_of(target: str) -> str:
    """The target, as one part of a name: dbt allows any characters in it."""
    if not target:
        return NO_TARGET
    name = quote(target, safe="")
    # Parts of a path that mean something else.
    if name == NO_TARGET or not name.strip("."):
        return "".join(f"%{byte:02X}" for byte in target.encode())
    return name
