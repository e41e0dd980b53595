"""Bundles as workflow artifacts of GitHub Actions.

Only the runner can upload an artifact, by an action: this store puts the bundle where the last
step of action.yml finds it. Owns the name of the artifact. Reading is not available yet.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from ci_defer.bundle import Bundle
from ci_defer.errors import ConfigurationError, NotAvailableYet


class ArtifactStore:
    """The artifacts of `project`. `outbox` is where a bundle waits for its upload, if anywhere."""

    def __init__(self, project: str, outbox: Path | None) -> None:
        self._outbox = outbox
        self.artifact_name = f"ci-defer-state-{project}"

    @property
    def location(self) -> str:
        return f"artifact {self.artifact_name}"

    def commits(self) -> frozenset[str]:
        raise NotAvailableYet(
            "Reading the production state from workflow artifacts (state: artifact)",
            "Set state to a directory that both workflows can reach.",
        )

    def get(self, commit: str, to: Path, *, project_name: str) -> Bundle:
        del commit, to, project_name
        raise AssertionError("commits() lists none")

    def put(self, bundle: Bundle) -> str:
        """Copy the bundle for the upload step, and return the path of the copy."""
        if self._outbox is None:
            raise ConfigurationError(
                "Only a workflow run can publish to artifacts (state: artifact).",
                "Set state to a directory, for example --state ../production-state.",
            )
        folder = tempfile.mkdtemp(prefix=f"{self.artifact_name}-", dir=self._outbox)
        shutil.copytree(bundle.directory, folder, dirs_exist_ok=True)
        return folder
