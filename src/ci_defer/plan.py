"""From the state that was found to the plan: what dbt selects, compared like with like.

Production's manifest is often made with another target, by another dbt or with other vars than a
pull request is parsed with, and dbt takes the difference for a change. So the comparison is with
a manifest made as this run makes its own: production's where it was, the bundle's `compare/`, or
the commit parsed again. Owns that choice, and when dbt's answer is not to be trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ci_defer.bundle import MANIFEST, RUN_RESULTS, Bundle, ParsedWith
from ci_defer.comparable import saved_parse_in
from ci_defer.comparison import Changes, Suspicion, differences
from ci_defer.dbt import Engine, Invocation, SavedParse, Selection
from ci_defer.dbt import Plan as Selected
from ci_defer.errors import Cancelled, CiDeferError, ConfigurationError, InvalidBundle
from ci_defer.git import Git, GitError
from ci_defer.log import Log
from ci_defer.manifest import Manifest, read_difference, read_manifest
from ci_defer.project import Project
from ci_defer.selection import Explained
from ci_defer.state import FoundState
from ci_defer.wording import number


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What dbt selected, in its order, and what it was compared with.

    `suspected` has the nodes that look modified although nothing of theirs changed in git, with
    the reason found. `explained` and `changes` are None where there is nothing to compare with,
    the latter also where git cannot tell. `parsed_in_full` says why dbt did not go on from the
    saved parse of the state, if it has one.
    """

    unique_ids: tuple[str, ...]
    manifest: Manifest
    found: FoundState | None
    explained: Explained | None
    suspected: dict[str, str]
    changes: Changes | None
    parsed_in_full: str = ""


@dataclass
class _Selected:
    """dbt's answer, its manifest, and what follows from both: each is found once."""

    made: Selected
    # The manifest that it is read with: most of it is the same.
    _like: Manifest | None
    _explained: tuple[Bundle, Explained] | None = None
    _suspected: tuple[FoundState, dict[str, str]] | None = None

    @cached_property
    def manifest(self) -> Manifest:
        """Raises InvalidBundle."""
        if self.made.is_difference and self._like:
            return read_difference(self.made.manifest, self._like)
        return read_manifest(self.made.manifest, like=self._like)

    def explained(self, compared: Bundle) -> Explained:
        """Why the nodes are selected, compared with that. Raises InvalidBundle."""
        if self._explained is None or self._explained[0] is not compared:
            self._explained = (compared, Explained(self.manifest, compared.manifest))
        return self._explained[1]

    def suspected(self, found: FoundState, changes: Changes) -> dict[str, str]:
        """Which of the nodes only look modified, and why that may be. Raises InvalidBundle."""
        if self._suspected is None or self._suspected[0] is not found:
            explained, compared = self.explained(found.compared), found.compared.manifest
            suspicion = Suspicion(explained, self.manifest, compared, changes, found.unlike)
            self._suspected = (found, suspicion.of(self.made.unique_ids))
        return self._suspected[1]


@dataclass(kw_only=True)
class Planner:
    """Makes the plan of one run.

    `parsed_with` is how this run's dbt parses, and `is_warm` says that it may go on from the saved
    parse of the state. `changes_since` says what differs from a commit, and `parse_again` parses
    one as this run does. `ran` is told of every dbt command, `note` of what the report has to say.
    """

    project: Project
    parsed_with: ParsedWith
    selection_of: Callable[[FoundState | None], Selection]
    base: str
    changes_since: Callable[[str], Changes | None]
    engine: Engine
    parse_again: Callable[[str], Bundle]
    ran: Callable[[Invocation], None]
    note: Callable[[str], None]
    log: Log
    is_warm: bool = True
    _parsed_in_full: str = ""

    def plan(self, found: FoundState | None) -> Plan:
        """Let dbt select. Raises CiDeferError."""
        if found and not found.is_parsed_again:
            found = self._made_alike(found)
        selected = self._select(found)
        if found and not found.is_parsed_again:
            found = self._beyond_doubt(found, selected)
            if found.is_parsed_again:
                selected = self._select(found)
        selected.made.invocation.check(
            "read the project",
            "Run `dbt parse` with the same target to see it on your machine, and check dbt-args.",
        )
        return Plan(
            unique_ids=selected.made.unique_ids,
            manifest=selected.manifest,
            found=found,
            explained=selected.explained(found.compared) if found else None,
            suspected=self._suspected(found, selected),
            changes=self._changes(found),
            parsed_in_full=self._parsed_in_full,
        )

    def compare_apart(self, found: FoundState, because: str, *unlike: str) -> FoundState:
        """Compare with the state's commit, or the base commit, as this run's dbt parses it.

        Where that cannot be done, the comparison stays, and a note says what it is worth.
        """
        commit = _commit_of(found) or self.base
        why_not = "Nobody knows of which commit the state is."
        if commit:
            self.log.info(f"{because} So commit {commit[:12]} is parsed again, to compare with it.")
            try:
                compared = self.parse_again(commit)
                return replace(found, compared=compared, compared_because=because, unlike=())
            except Cancelled:
                raise
            except CiDeferError as error:
                why_not = error.message
        self.note(
            f"{because} It cannot be parsed again to compare like with like, so nodes may be "
            f"built that only look modified. {why_not}"
        )
        return replace(found, unlike=unlike)

    def _made_alike(self, found: FoundState) -> FoundState:
        """Take the manifest that was made as ours is: production's or that in `compare/`."""
        provenance = found.production.provenance
        if provenance is None:
            # Nothing is known of it yet; dbt's version will be.
            return found
        unlike = differences(provenance.parsed_with, self.parsed_with)
        if provenance.compare and (compare := found.production.with_results()):
            unlike_compare = differences(provenance.compare, self.parsed_with)
            # Where both are alike, it is the one that the saved parse beside it stands for.
            if unlike or (provenance.saved_parse and not unlike_compare):
                found = replace(found, compared=compare)
                unlike = unlike_compare
        if not unlike:
            return found
        if provenance.compare is None:
            self.log.info("With the setting pr-target, onboard can do the following once for all.")
        return self.compare_apart(found, _because(unlike), *unlike)

    def _select(self, found: FoundState | None) -> _Selected:
        # Results of an earlier run in the target path must never be taken for ours.
        for name in (MANIFEST, RUN_RESULTS):
            (self.project.target_path / name).unlink(missing_ok=True)
        made = self.engine.plan(self.selection_of(found), self._saved_parse(found))
        self.ran(made.invocation)
        if not made.invocation.exit_code:
            self.log.info(f"dbt selects {number(len(made.unique_ids), 'node')}.")
        if made.parsed_in_full:
            self._parsed_in_full = made.parsed_in_full
        if self._parsed_in_full:
            self.log.info(f"dbt parsed the whole project: {self._parsed_in_full}.")
        if found is None:
            return _Selected(made, None)
        compare = found.production.compare
        like = compare if made.is_difference and compare else found.compared
        return _Selected(made, like.manifest)

    def _saved_parse(self, found: FoundState | None) -> SavedParse | None:
        """What dbt may go on from, when it was made as this run's own parse is."""
        if found is None or not self.is_warm:
            return None
        provenance, compare = found.production.provenance, found.production.compare
        if not (provenance and provenance.saved_parse and provenance.compare and compare):
            return None
        if unlike := differences(provenance.compare, self.parsed_with):
            self._parsed_in_full = _because(unlike).rstrip(".")
            return None
        return saved_parse_in(compare.directory, provenance.saved_parse)

    def _beyond_doubt(self, found: FoundState, selected: _Selected) -> FoundState:
        """Compare with the commit parsed again where dbt's answer is not to be trusted."""
        try:
            ours = selected.manifest.metadata
        except InvalidBundle:
            # dbt could not even read the project, so this is not about the state.
            return found
        theirs = found.compared.manifest.metadata
        unlike = differences(
            ParsedWith(dbt_version=theirs.dbt_version, adapter=theirs.adapter_type or ""),
            ParsedWith(dbt_version=ours.dbt_version, adapter=ours.adapter_type or ""),
        )
        if unlike and not found.unlike:
            return self.compare_apart(found, _because(unlike), *unlike)
        suspected = self._suspected(found, selected)
        if not suspected or found.unlike:
            return found
        return self.compare_apart(
            found,
            f"{number(len(suspected), 'node')} looked modified, though nothing of that changed in "
            f"git since commit {_commit_of(found)[:12]}.",
        )

    def _suspected(self, found: FoundState | None, selected: _Selected) -> dict[str, str]:
        changes = self._changes(found)
        return selected.suspected(found, changes) if found and changes else {}

    def _changes(self, found: FoundState | None) -> Changes | None:
        """What changed since the commit that is compared with, as far as one is known."""
        if found is None:
            return None
        # A place without provenance may hold the manifest of any commit.
        commit = _commit_of(found) or (self.base if found.is_parsed_again else "")
        return self.changes_since(commit) if commit else None


def changes_since(commit: str, *, git: Git, log: Log) -> Changes | None:
    """What differs from a commit, which is fetched where the clone has it not; None if unknown."""
    try:
        if git.commit(commit) is None:
            git.fetch(commit)
        return Changes(
            commit=commit,
            prefix=git.prefix(),
            files=git.changed_files(commit),
            new=git.new_files(),
            tracked=git.tracked_files(),
        )
    except (GitError, ConfigurationError) as error:
        log.info(f"What changed since commit {commit[:12]} is not known: {error.message}")
        return None


def _commit_of(found: FoundState) -> str:
    provenance = found.production.provenance
    return provenance.origin.commit if provenance else ""


def _because(unlike: Sequence[str]) -> str:
    return f"The state was {'; '.join(unlike)}."
