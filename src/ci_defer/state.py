"""Which production state stands for the base commit: the commit decides, not the clock.

Owns the order in which bundles are tried, and what is said about those that cannot be used. Knows
the stores only through their protocol, git only through `git.Git`, and GitHub only as `History`,
which answers where the clone is too shallow.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ci_defer.base_commit import History
from ci_defer.bundle import Bundle
from ci_defer.errors import InvalidBundle, StateNotFound
from ci_defer.git import Git
from ci_defer.log import Log
from ci_defer.project import PROJECT_FILE
from ci_defer.report import PassedOver
from ci_defer.stores import Latest, Store
from ci_defer.wording import number

# How far back a bundle may be: beyond that its state says little about the base commit.
MAX_AGE_COMMITS = 200


@dataclass(frozen=True)
class FoundState:
    """What to compare with, and production's relations to defer to: most often one bundle.

    `age_commits` counts first-parent commits from the base commit back; None when nobody knows the
    commit of the state.
    `reparsed_because` says why both come from the base commit's files, and not from production;
    `compared_because`, why the comparison alone is with a commit that was parsed again. `unlike`
    says what was another when the compared manifest was made: that may look like changes.
    `is_of_production` is False when `production` was parsed for this run's own target.
    """

    compared: Bundle
    production: Bundle
    location: str
    age_commits: int | None
    reparsed_because: str = ""
    compared_because: str = ""
    unlike: tuple[str, ...] = ()
    is_of_production: bool = True

    @property
    def is_compared_apart(self) -> bool:
        """Whether the comparison is made with other files than the deferral."""
        return self.compared is not self.production

    @property
    def is_parsed_again(self) -> bool:
        """Whether the comparison is with what this run's own dbt has parsed."""
        return bool(self.reparsed_because or self.compared_because)


def find_state(
    source: Store | Latest,
    base: str | None,
    git: Git,
    history: History | None,
    to: Path,
    *,
    project_name: str,
    log: Log,
    passed_over: Callable[[PassedOver], None],
    fetched: Callable[[Bundle], None] = lambda _: None,
) -> FoundState:
    """Copy the bundle for the base commit into the empty directory `to`, and verify it.

    A store gives the bundle of `base`, else that of its nearest first-parent ancestor that can be
    used. `passed_over` is told of every nearer commit that had, or should have, a bundle, and why
    it was not used; `fetched` is told of each bundle before it is read.
    Raises StateNotFound when there is none within MAX_AGE_COMMITS, InvalidBundle when the one state
    of a place is damaged.
    """
    if isinstance(source, Latest):
        bundle = source.get(to, project_name=project_name)
        fetched(bundle)
        return FoundState(bundle, bundle, source.location, None)
    if base is None:
        raise ValueError("a store is keyed by commit")
    search = _Search(source, base, git, to, project_name, log, passed_over, fetched)
    return search.run(history)


@dataclass
class _Search:
    store: Store
    base: str
    git: Git
    to: Path
    project_name: str
    log: Log
    passed_over: Callable[[PassedOver], None]
    fetched: Callable[[Bundle], None]
    # Why the base commit has none, as far as the store knows.
    absence: str = ""

    def run(self, history: History | None) -> FoundState:
        listing = self.store.commits(self.base)
        published = _up_to(self.base, listing)
        # Most pull requests find the state of their base commit at the top of the listing: the
        # rest of it, and the history, are asked for only when they do not.
        if self.base in published and (found := self._try(self.base, 0)):
            return found
        others = list(listing)
        if self.base not in published and (reason := self.store.absence(self.base)):
            self.absence = reason
            self.log.info(f"There is no state of the base commit {self.base[:12]}. {reason}")
            self.passed_over(PassedOver(commit=self.base, reason=reason))
        published.update(others)
        lineage = _lineage(self.base, self.git, history)
        for age, commit in enumerate(lineage):
            # It was tried above, and is tried again only if there is another bundle of it.
            if commit == self.base and self.base not in others:
                continue
            if commit in published and (found := self._try(commit, age)):
                return found
        raise StateNotFound(self._why_not_found(lineage, published), _what_to_do(self.git))

    def _try(self, commit: str, age: int) -> FoundState | None:
        directory = Path(tempfile.mkdtemp(prefix=f"{commit[:12]}-", dir=self.to))
        try:
            bundle = self.store.get(commit, directory, project_name=self.project_name)
            self.fetched(bundle)
            # Now: one that this version cannot read is passed over as well.
            bundle.read()
            _check_folder(bundle, self.git)
        except InvalidBundle as error:
            self.log.warning(f"The state of commit {commit[:12]} is passed over: {error.message}")
            self.passed_over(PassedOver(commit=commit, reason=error.message))
            return None
        return FoundState(bundle, bundle, self.store.location, age)

    def _why_not_found(self, lineage: Sequence[str], published: set[str]) -> str:
        location = self.store.location
        if not published:
            return f"{location} holds no production state yet. {self.absence}".strip()
        if published.intersection(lineage):
            return f"{location} holds no sound state of the base commit or of one before it."
        return (
            f"{location} holds {number(len(published), 'production state')}, but none of the base "
            f"commit {self.base[:12]} or of the {number(len(lineage) - 1, 'commit')} before it "
            "that are known here."
        )


def _up_to(base: str, listing: Iterator[str]) -> set[str]:
    published = set()
    for commit in listing:
        published.add(commit)
        if commit == base:
            break
    return published


def _check_folder(bundle: Bundle, git: Git) -> None:
    """Two dbt projects of one repository may have the same name, and then the same key."""
    ours = git.prefix().rstrip("/") or "."
    theirs = bundle.provenance.origin.project_dir if bundle.provenance else ""
    # A folder that is not there any more has been moved: that is one project, not two.
    if theirs and theirs != ours and (git.top() / theirs / PROJECT_FILE).is_file():
        raise InvalidBundle(
            f"It is of the dbt project in the folder {theirs}, and this one is in {ours}. "
            "Give each of them a name of its own with the setting project."
        )


def _lineage(base: str, git: Git, history: History | None) -> list[str]:
    """`base` and its first-parent ancestors, from the clone when it is whole, else from GitHub."""
    known = [base]
    if git.commit(base):
        known = git.first_parents(base, MAX_AGE_COMMITS + 1)
    if history and len(known) <= MAX_AGE_COMMITS and git.is_shallow():
        known = history.first_parents(base, MAX_AGE_COMMITS + 1)
    return known


def _what_to_do(git: Git) -> str:
    if git.is_shallow():
        return "Set fetch-depth: 0 for actions/checkout, so that older commits can be found."
    return "Run `ci-defer onboard` on the base branch, or set if-no-state to full or skip."
