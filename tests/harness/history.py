"""The history that the REST API tells about: read from a git repository that a test hands in."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

_FIELDS = ("%H", "%T", "%P", "%an", "%ae", "%at", "%cn", "%ce", "%ct", "%B")
_OBJECT_ID = re.compile("[0-9a-f]{4,40}")


@dataclass(frozen=True)
class Person:
    """Author or committer of a commit."""

    name: str
    email: str
    date: datetime


@dataclass(frozen=True)
class Commit:
    """One commit."""

    sha: str
    tree: str
    parents: tuple[str, ...]
    author: Person
    committer: Person
    message: str


class History:
    """The branches, tags and commits of a git repository, as they are when asked."""

    def __init__(self, path: Path) -> None:
        """`path` is the work tree or the bare repository."""
        self._path = path
        if not self._git("rev-parse", "--git-dir"):
            raise ValueError(f"{path} is not a git repository")

    def resolve(self, ref: str) -> str | None:
        """Find the commit that a branch, tag or (abbreviated) object id names.

        Branches that the repository only tracks are not its own, and do not count.
        """
        names = [f"refs/{ref}"] if ref.startswith(("heads/", "tags/")) else []
        names += [ref] if ref.startswith("refs/") else []
        names += [ref] if _OBJECT_ID.fullmatch(ref) else []
        names += [f"refs/heads/{ref}", f"refs/tags/{ref}"]
        for name in names:
            sha = self._git(
                "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
            )
            if sha:
                return sha.strip()
        return None

    def commits(
        self, *revisions: str, skip: int = 0, limit: int | None = None, oldest_first: bool = False
    ) -> list[Commit]:
        """What `git log` says: of two commits, `--not` before the second excludes its ancestors."""
        options = [f"--skip={skip}"] if skip else []
        options += [] if limit is None else [f"--max-count={limit}"]
        text = self._git("log", "-z", f"--format={'%x00'.join(_FIELDS)}", *options, *revisions)
        if text is None:
            raise ValueError(f"git log {revisions} failed in {self._path}")
        values = text.split("\0")
        rows = range(0, len(values) - 1, len(_FIELDS))
        found = [_commit(values[start : start + len(_FIELDS)]) for start in rows]
        return found[::-1] if oldest_first else found

    def commit(self, sha: str) -> Commit:
        """The commit with this object id."""
        return self.commits(sha, limit=1)[0]

    def count(self, *revisions: str) -> int:
        """How many commits there are."""
        return int(self._git("rev-list", "--count", *revisions) or 0)

    def merge_base(self, one: str, other: str) -> str | None:
        """The best common ancestor of two commits."""
        return (self._git("merge-base", one, other) or "").strip() or None

    def contains(self, descendant: str, sha: str) -> bool:
        """Whether a commit is another one, or an ancestor of it."""
        return self._git("merge-base", "--is-ancestor", sha, descendant) is not None

    def _git(self, *arguments: str) -> str | None:
        """What git prints, None when it fails."""
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "LC_ALL": "C.UTF-8",
        }
        result = subprocess.run(
            ["git", *arguments], cwd=self._path, env=env, check=False, capture_output=True
        )
        return result.stdout.decode("utf-8", "replace") if result.returncode == 0 else None


def _commit(values: Sequence[str]) -> Commit:
    sha, tree, parents, an, ae, at, cn, ce, ct, message = values
    return Commit(
        sha=sha,
        tree=tree,
        parents=tuple(parents.split()),
        author=Person(an, ae, _date(at)),
        committer=Person(cn, ce, _date(ct)),
        message=message.rstrip("\n"),
    )


def _date(seconds: str) -> datetime:
    return datetime.fromtimestamp(int(seconds), timezone.utc)
