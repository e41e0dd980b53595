"""Makes the repositories that use the action: what a consumer has on GitHub, in a directory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = "acme/shop"
"""GITHUB_REPOSITORY in runs for such a repository."""


def make_consumer(to: Path, files: Mapping[str, str]) -> Path:
    """Make a git repository in the new directory `to`: one commit of `files` on branch main."""
    to.mkdir(parents=True)
    git(to, "init", "--quiet", "--initial-branch=main")
    # act takes the name of the repository from here.
    git(to, "remote", "add", "origin", f"https://github.com/{REPOSITORY}.git")
    commit(to, files, "Initial commit")
    return to


def commit(repository: Path, files: Mapping[str, str], message: str) -> str:
    """Write `files`, commit the whole work tree, and return the commit."""
    for name, text in files.items():
        file = repository / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", message)
    return git(repository, "rev-parse", "HEAD")


def git(repository: Path, *arguments: str) -> str:
    """Run git, with no configuration but the repository's own; return what it printed."""
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "Monalisa",
        "GIT_AUTHOR_EMAIL": "monalisa@example.com",
        "GIT_COMMITTER_NAME": "Monalisa",
        "GIT_COMMITTER_EMAIL": "monalisa@example.com",
    }
    result = subprocess.run(
        ["git", *arguments], cwd=repository, env=env, check=True, capture_output=True, text=True
    )
    return result.stdout.strip()
