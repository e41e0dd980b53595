"""Which production state a pull request is compared with: the commit decides, not the clock.

Owns the rules for the base commit and for the bundle that stands for it. Knows the stores only
through their protocol, and git only through `git.Git`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ci_defer.bundle import Bundle
from ci_defer.errors import ConfigurationError, StateNotFound
from ci_defer.event import Event
from ci_defer.git import Git
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


@dataclass(frozen=True)
class FoundState:
    """A verified bundle. `age_commits` counts first-parent commits; None for a plain state."""

    bundle: Bundle
    location: str
    age_commits: int | None


def base_commit(event: Event, git: Git) -> str:
    """The commit of the base branch that the checkout is really compared with.

    The checkout is GitHub's merge commit: its first parent, which needs no history. It is
    anything else: the merge base with the base branch.
    Raises ConfigurationError when the clone is too shallow to tell; it never guesses.
    """
    head = git.commit("HEAD")
    if head is None:
        raise ConfigurationError(
            "This is not a git repository with a commit.",
            "Run actions/checkout before ci-defer.",
        )
    if event.is_merge_ref:
        parents = git.parents(head)
        if len(parents) == PARENTS_OF_A_MERGE:
            return parents[0]
    for candidate in _base_tips(event, git):
        if base := git.merge_base(head, candidate):
            return base
    branch = event.base_branch or "the default branch"
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
    source: Store | PlainState, base: str | None, git: Git, to: Path, *, project_name: str
) -> FoundState:
    """Copy the bundle for the base commit into the empty directory `to`, and verify it.

    A store gives the bundle of `base`, else that of its nearest first-parent ancestor.
    Raises StateNotFound when it has none within MAX_AGE_COMMITS, InvalidBundle when it is
    damaged.
    """
    if isinstance(source, PlainState):
        return FoundState(source.get(to, project_name=project_name), source.location, None)
    if base is None:
        raise ValueError("a store is keyed by commit")
    published = source.commits()
    lineage = _lineage(base, git)
    for age, commit in enumerate(lineage):
        if commit in published:
            bundle = source.get(commit, to, project_name=project_name)
            return FoundState(bundle, source.location, age)
    raise StateNotFound(_why_not_found(source, base, lineage, published), _what_to_do(git))


def _base_tips(event: Event, git: Git) -> list[str]:
    """Commits that are, or were, the tip of the base branch, as far as the clone has them."""
    names = [event.base_sha]
    if event.base_branch:
        names += [f"origin/{event.base_branch}", event.base_branch]
    else:
        names += [git.default_branch() or "", *LOCAL_BASES]
    return [commit for name in names if name and (commit := git.commit(name))]


def _lineage(base: str, git: Git) -> Sequence[str]:
    """`base` and its first-parent ancestors; `base` alone when the clone does not hold it."""
    if git.commit(base) is None:
        return [base]
    return git.first_parents(base, MAX_AGE_COMMITS + 1)


def _why_not_found(
    source: Store, base: str, lineage: Sequence[str], published: frozenset[str]
) -> str:
    if not published:
        return f"{source.location} holds no production state yet."
    return (
        f"{source.location} holds {len(published)} production states, but none of the base commit "
        f"{base[:12]} or of the {len(lineage) - 1} commits before it that this clone knows."
    )


def _what_to_do(git: Git) -> str:
    if git.is_shallow():
        return "Set fetch-depth: 0 for actions/checkout, so that older commits can be found."
    return "Run `ci-defer onboard` on the base branch, or set if-no-state to full or skip."
