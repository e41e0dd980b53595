"""The git commands that ci-defer runs, and nothing about what their answers mean.

One of the two places that start a process (the other one is `dbt.process`). Every value that
comes from outside is passed after `--end-of-options`, or is an object id that git gave us.
"""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from ci_defer.errors import CiDeferError, ConfigurationError

# No prompt may ever hang a job, and messages are read by us: plain English.
ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


# The mode of a symbolic link, as `git ls-files --stage` shows it.
LINK = "120000 "


class GitError(CiDeferError):
    """A git command failed; the message holds what git said."""


class Git:
    """git in the work tree that holds `directory`.

    `credential` is a server (`https://github.com`) and a token for it, for fetch.
    """

    def __init__(
        self,
        directory: Path,
        environ: Mapping[str, str],
        credential: tuple[str, str] | None = None,
    ) -> None:
        self._directory = directory
        self._environ = {**environ, **ENVIRONMENT}
        self._credential = credential

    def commit(self, revision: str) -> str | None:
        """The full object id of the commit that `revision` names, or None when there is none."""
        try:
            return self._run(
                "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"
            )
        except GitError:
            return None

    def parents(self, commit: str) -> list[str]:
        """The object ids of the parents of `commit`, the first one first.

        Read from the commit itself: in a shallow clone git pretends that there are none.
        """
        header, _, _ = self._run("cat-file", "commit", commit).partition("\n\n")
        lines = (line.split(" ", 1) for line in header.splitlines())
        return [value for key, value in lines if key == "parent"]

    def merge_base(self, one: str, other: str) -> str | None:
        """The best common ancestor, or None when the clone has none (it may be too shallow)."""
        try:
            return self._run("merge-base", "--end-of-options", one, other)
        except GitError:
            return None

    def is_ancestor(self, one: str, other: str) -> bool:
        """Whether `one` is known to be `other` or in its history; a shallow clone knows little."""
        try:
            self._run("merge-base", "--is-ancestor", "--end-of-options", one, other)
        except GitError:
            return False
        return True

    def committed_at(self, commit: str) -> datetime:
        """When it was committed, by the clock of its committer, in UTC."""
        second = self._run("show", "--no-patch", "--format=%ct", "--end-of-options", commit)
        return datetime.fromtimestamp(int(second), timezone.utc)

    def first_parents(self, commit: str, limit: int) -> list[str]:
        """`commit` and its first-parent ancestors, nearest first, at most `limit` of them."""
        listing = self._run(
            "rev-list", "--first-parent", f"--max-count={limit}", "--end-of-options", commit
        )
        return listing.split()

    def is_shallow(self) -> bool:
        return self._run("rev-parse", "--is-shallow-repository") == "true"

    def default_branch(self) -> str | None:
        """What the clone knows as the default branch of origin, such as `origin/main`."""
        try:
            return self._run("symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD")
        except GitError:
            return None

    def prefix(self) -> str:
        """The path of our directory inside the work tree: empty, or ending in a slash."""
        return self._run("rev-parse", "--show-prefix")

    def top(self) -> Path:
        """The top of the work tree."""
        return Path(self._run("rev-parse", "--show-toplevel"))

    def branch(self) -> str:
        """The name of the checked-out branch, empty when HEAD is detached."""
        return self._run("branch", "--show-current")

    def changes(self, one: str, other: str) -> str:
        """The files that differ between two commits, as `git diff --stat` shows them."""
        return self._run("diff", "--stat", "--end-of-options", one, other)

    def changed_files(self, commit: str) -> frozenset[str]:
        """The files that differ from `commit`, committed or not, from the top of the work tree."""
        options = ("--name-only", "--no-renames", "--no-relative", "--no-ext-diff")
        return self._paths("diff", *options, "-z", "--end-of-options", commit, "--")

    def new_files(self) -> frozenset[str]:
        """The files that git does not know and is not told to ignore, from the top."""
        return self._paths("ls-files", "--others", "--exclude-standard", "--full-name", "-z", ":/")

    def tracked_files(self) -> frozenset[str]:
        """All files that git knows of, from the top of the work tree."""
        return self._paths("ls-files", "--full-name", "-z", ":/")

    def has_links(self) -> bool:
        """Whether any file below the directory is a symbolic link."""
        return any(
            entry.startswith(LINK) for entry in self._paths("ls-files", "--stage", "-z", "--", ".")
        )

    def text(self, commit: str, path: str) -> str | None:
        """A file at `commit`, by its path from the top of the work tree.

        None when the commit has no such file, or it is no text.
        """
        try:
            return self._output("cat-file", "blob", f"{commit}:{path}").decode()
        except (GitError, UnicodeDecodeError):
            return None

    def _paths(self, *arguments: str) -> frozenset[str]:
        found = self._output(*arguments).decode(errors="replace").split("\0")
        return frozenset(path for path in found if path)

    def fetch(self, commit: str) -> None:
        """Fetch one commit from origin, without its history. Raises GitError."""
        command = ("fetch", "--quiet", "--no-tags", "--depth=1", "origin", commit)
        try:
            self._run(*command)
        except GitError:
            # Not at once with ours: GitHub refuses two, and the clone may have its own.
            if not self._credential:
                raise
            self._run(*command, environ=_credential_config(*self._credential))

    def add_worktree(self, path: Path, commit: str) -> None:
        """Check `commit` out into the new directory `path`."""
        # Hooks of the repository are not part of reading an old commit.
        self._run(
            "-c", f"core.hooksPath={os.devnull}", "worktree", "add", "--quiet", "--detach",
            str(path), commit,
        )  # fmt: skip

    def remove_worktree(self, path: Path) -> None:
        self._run("worktree", "remove", "--force", str(path))

    def create(self, branch: str) -> None:
        """Make the directory a new repository whose first branch is `branch`."""
        self._run("init", "--quiet", "--initial-branch", branch)

    def commit_all(self, message: str, *, author: str, email: str) -> str:
        """Commit every file that is not ignored, and return the new object id."""
        self._run("add", "--all")
        identity = ("-c", f"user.name={author}", "-c", f"user.email={email}")
        # A signing key of the user is not ours to ask for.
        self._run(
            *identity, "-c", "commit.gpgsign=false", "commit", "--quiet", "--message", message
        )
        return self._run("rev-parse", "HEAD")

    def switch_to_new(self, branch: str) -> None:
        self._run("switch", "--quiet", "--create", branch)

    def _run(self, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
        return self._output(*arguments, environ=environ).decode(errors="replace").strip()

    def _output(self, *arguments: str, environ: Mapping[str, str] | None = None) -> bytes:
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=self._directory,
                env={**self._environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            if not self._directory.is_dir():
                raise ConfigurationError(f"There is no folder {self._directory}.") from None
            raise ConfigurationError(
                "git is not on the PATH.", "ci-defer asks it which commit this is."
            ) from None
        if done.returncode != 0:
            stderr = done.stderr.decode(errors="replace")
            said = " ".join(stderr.split()) or f"exit code {done.returncode}"
            raise GitError(f"git {arguments[0]} failed: {said}.")
        return done.stdout


def _credential_config(server: str, token: str) -> dict[str, str]:
    """Configuration by environment: on a command line every process could read the token."""
    basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{server}/.extraheader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
    }
