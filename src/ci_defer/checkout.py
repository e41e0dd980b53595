"""What is checked out: the commit, the folder of the project, the text of files, now and before.

For the report, which is made whatever else went wrong: what cannot be told is empty or None.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ci_defer.errors import CiDeferError
from ci_defer.git import Git


@dataclass(frozen=True)
class Checkout:
    """The work tree that the dbt project in `directory` is part of."""

    directory: Path
    git: Git

    def head(self) -> str:
        """The commit that is checked out."""
        try:
            return self.git.commit("HEAD") or ""
        except CiDeferError:
            return ""

    def branch(self) -> str:
        """The branch that is checked out, if it is one."""
        try:
            return self.git.branch()
        except CiDeferError:
            return ""

    def project_dir(self) -> str:
        """The folder of the project from the top of the work tree; '.' for that itself."""
        try:
            return self.git.prefix().rstrip("/") or "."
        except CiDeferError:
            return "."

    def path_of(self, folder: Path | None) -> str:
        """A folder from the top of the work tree; empty when it is not in there."""
        try:
            return str(folder.resolve().relative_to(self.git.top())) if folder else ""
        except (CiDeferError, ValueError):
            return ""

    def text_of_project(self, path: str) -> str | None:
        """A file, by its path in the project."""
        try:
            return (self.directory / path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def text_now(self, path: str) -> str | None:
        """A file, by its path in the work tree."""
        try:
            # Byte for byte, as git gives the other one.
            return (self.git.top() / path).read_bytes().decode()
        except (OSError, UnicodeDecodeError, CiDeferError):
            return None
