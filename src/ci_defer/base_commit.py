"""The base commit: the commit of the base branch that a pull request really started from.

Owns the rules for every kind of event and of checkout. Knows nothing of states. It never guesses:
where the clone is too shallow it asks GitHub (`History`), and where nobody knows it says so.
"""

from __future__ import annotations

from typing import Protocol

from ci_defer.errors import ConfigurationError
from ci_defer.event import Event
from ci_defer.git import Git

PARENTS_OF_A_MERGE = 2

# Where a clone outside of GitHub Actions may keep its main branch, most reliable first.
LOCAL_BASES = ("origin/main", "origin/master", "main", "master")


class History(Protocol):
    """What GitHub knows of the commits, also of those that the clone does not hold."""

    def merge_base(self, base: str, head: str) -> str | None: ...

    def first_parents(self, commit: str, limit: int) -> list[str]: ...


def base_commit(event: Event, git: Git, history: History | None) -> str:
    """The commit of the base branch that the checkout is really compared with.

    GitHub's merge commit: its first parent, which needs no history. A merge group: the commit
    that GitHub names. Anything else: the merge base with the base branch.
    Raises ConfigurationError when neither the clone nor GitHub can tell.
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
    # The parent of the group, which may hold the pull requests that are before it in the queue.
    if event.name == "merge_group" and event.base_sha and head == event.head_sha:
        return event.base_sha
    base = _from_git(event, git, head) or _from_github(event, history, head)
    if base:
        return base
    branch = event.base_branch or event.default_branch or "the default branch"
    if git.is_shallow():
        raise ConfigurationError(
            f"The clone is too shallow to tell where HEAD left {branch}.",
            "Set fetch-depth: 0 for actions/checkout.",
        )
    raise ConfigurationError(
        f"HEAD has no commit in common with {branch}, or the clone does not hold that branch.",
        "Fetch the base branch, and run ci-defer on a branch that started from it.",
    )


def _from_git(event: Event, git: Git, head: str) -> str | None:
    """The latest commit that the head shares with what is, or was, the tip of the base branch."""
    bases = [base for tip in _tips(event, git) if (base := git.merge_base(head, tip))]
    # A re-run after the merge: by then the head itself is on the base branch.
    bases = [base for base in bases if base != head] or bases
    latest = bases[0] if bases else None
    for base in bases[1:]:
        # The payload is older than the last merge of main into the branch, or the other way round.
        if latest and git.merge_base(latest, base) == latest:
            latest = base
    return latest


def _tips(event: Event, git: Git) -> list[str]:
    branch = event.base_branch or event.default_branch
    names = [event.base_sha]
    if branch:
        names += [f"origin/{branch}", branch]
    else:
        names += [git.default_branch() or "", *LOCAL_BASES]
    return [commit for name in names if name and (commit := git.commit(name))]


def _from_github(event: Event, history: History | None, head: str) -> str | None:
    if history is None:
        return None
    # GitHub may not know the commit of the payload any more when the base was force-pushed.
    tips = (event.base_sha, event.base_branch or event.default_branch)
    found = (history.merge_base(tip, head) for tip in tips if tip)
    return next((base for base in found if base), None)
