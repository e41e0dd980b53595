"""Which production state a pull request is compared with: the commit decides, not the clock.

Owns the rules for the base commit and for the bundle that stands for it. Knows the stores only
through their protocol, git only through `git.Git`, and GitHub only as `History`, which answers
where the clone is too shallow.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from ci_defer.bundle import Bundle
from ci_defer.errors import ConfigurationError, InvalidBundle, StateNotFound
from ci_defer.event import Event
from ci_defer.git import Git
from ci_defer.log import Log
from ci_defer.stores import Store
from ci_defer.stores.plain import PlainState

# How far back a bundle may be: beyond that its state says little about the base commit.
MAX_AGE_COMMITS = 200

PARENTS_OF_A_MERGE = 2

# Where a clone outside of GitHub Actions may keep its main branch, most reliable first.
LOCAL_BASES = ("origin/main", "origin/master", "main", "master")


class IfNoState(str, Enum):
    """What to do when there is no production state."""

    REPARSE = "reparse"
    FULL = "full"
    SKIP = "skip"
    FAIL = "fail"


class History(Protocol):
    """What GitHub knows of the commits, also of those that the clone does not hold."""

    def merge_base(self, base: str, head: str) -> str | None: ...

    def first_parents(self, commit: str, limit: int) -> list[str]: ...


@dataclass(frozen=True)
class FoundState:
    """What to compare with, and production's relations to defer to: most often one bundle.

    `age_commits` counts first-parent commits from the base commit back; None for a plain state.
    `reparsed` says that both come from the base commit's files, not from production.
    """

    compared: Bundle
    production: Bundle
    location: str
    age_commits: int | None
    reparsed: bool = False


def base_commit(event: Event, git: Git, history: History | None) -> str:
    """The commit of the base branch that the checkout is really compared with.

    The checkout is GitHub's merge commit: its first parent, which needs no history. It is
    anything else: the merge base with the base branch.
    Raises ConfigurationError when neither the clone nor GitHub can tell; it never guesses.
    """
    head = git.commit("HEAD")
    if head is None:
        raise ConfigurationError(
            "This is not a git repository with a commit.",
            "Run actions/checkout before ci-defer.",
        )
    # With `ref: head.sha` the event is the same, and the head may be a merge of main itself.
    if event.is_merge_ref and head != event.head_sha:
        parents = git.parents(head)
        if len(parents) == PARENTS_OF_A_MERGE:
            return parents[0]
    for candidate in _base_tips(event, git):
        if base := git.merge_base(head, candidate):
            return base
    branch = event.base_branch or "the default branch"
    tip = event.base_sha or event.base_branch
    if history and tip and (base := history.merge_base(tip, head)):
        return base
    if git.is_shallow():
        raise ConfigurationError(
            f"The clone is too shallow to tell where HEAD left {branch}.",
            "Set fetch-depth: 0 for actions/checkout.",
        )
    raise ConfigurationError(
        f"HEAD has no commit in common with {branch}, or the clone does not hold that branch.",
        "Fetch the base branch, and run ci-defer on a branch that started from it.",
    )


def find_state(
    source: Store | PlainState,
    base: str | None,
    git: Git,
    history: History | None,
    to: Path,
    *,
    project_name: str,
    log: Log,
) -> FoundState:
    """Copy the bundle for the base commit into the empty directory `to`, and verify it.

    A store gives the bundle of `base`, else that of its nearest first-parent ancestor that is
    sound: a damaged one is passed over, and the log says why.
    Raises StateNotFound when there is none within MAX_AGE_COMMITS, InvalidBundle when a plain
    state is damaged.
    """
    if isinstance(source, PlainState):
        bundle = source.get(to, project_name=project_name)
        return FoundState(bundle, bundle, source.location, None)
    if base is None:
        raise ValueError("a store is keyed by commit")
    listing = source.commits()
    published = _up_to(base, listing)
    # Most pull requests find the state of their base commit at the top of the listing: the rest
    # of it, and the history, are asked for only when they do not.
    if base in published and (
        found := _try(source, base, 0, to, project_name=project_name, log=log)
    ):
        return found
    others = list(listing)
    published.update(others)
    lineage = _lineage(base, git, history)
    for age, commit in enumerate(lineage):
        # It was tried above, and is tried again only if there is another bundle of it.
        if commit == base and base not in others:
            continue
        if commit in published and (
            found := _try(source, commit, age, to, project_name=project_name, log=log)
        ):
            return found
    raise StateNotFound(_why_not_found(source, base, lineage, published), _what_to_do(git))


def _up_to(base: str, listing: Iterator[str]) -> set[str]:
    published = set()
    for commit in listing:
        published.add(commit)
        if commit == base:
            break
    return published


def _try(
    source: Store, commit: str, age: int, to: Path, *, project_name: str, log: Log
) -> FoundState | None:
    directory = Path(tempfile.mkdtemp(prefix=f"{commit[:12]}-", dir=to))
    try:
        bundle = source.get(commit, directory, project_name=project_name)
    except InvalidBundle as error:
        log.warning(f"The state of commit {commit[:12]} is passed over: {error}")
        return None
    return FoundState(bundle, bundle, source.location, age)


def _base_tips(event: Event, git: Git) -> list[str]:
    """Commits that are, or were, the tip of the base branch, as far as the clone has them."""
    names = [event.base_sha]
    if event.base_branch:
        names += [f"origin/{event.base_branch}", event.base_branch]
    else:
        names += [git.default_branch() or "", *LOCAL_BASES]
    return [commit for name in names if name and (commit := git.commit(name))]


def _lineage(base: str, git: Git, history: History | None) -> list[str]:
    """`base` and its first-parent ancestors, from the clone when it is whole, else from GitHub."""
    known = [base]
    if git.commit(base):
        known = git.first_parents(base, MAX_AGE_COMMITS + 1)
    if history and len(known) <= MAX_AGE_COMMITS and git.is_shallow():
        known = history.first_parents(base, MAX_AGE_COMMITS + 1)
    return known


def _why_not_found(source: Store, base: str, lineage: Sequence[str], published: set[str]) -> str:
    if not published:
        return f"{source.location} holds no production state yet."
    if published.intersection(lineage):
        return f"{source.location} holds no sound state of the base commit or of one before it."
    return (
        f"{source.location} holds {len(published)} production states, but none of the base commit "
        f"{base[:12]} or of the {len(lineage) - 1} commits before it that are known here."
    )


def _what_to_do(git: Git) -> str:
    if git.is_shallow():
        return "Set fetch-depth: 0 for actions/checkout, so that older commits can be found."
    return "Run `ci-defer onboard` on the base branch, or set if-no-state to full or skip."
