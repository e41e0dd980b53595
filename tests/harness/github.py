"""The fake GitHub that runs of the action talk to, with all its state in memory.

So far it is what a runner needs to keep artifacts (`results`). Another part of GitHub is one more
object with `routes`, named in `FakeGitHub.__init__`; it can share the state of the others.
"""

from __future__ import annotations

from tests.harness.results import Artifact, ResultsService
from tests.harness.web import Record, WebServer

__all__ = ["Artifact", "FakeGitHub", "Record"]


class FakeGitHub(WebServer):
    """GitHub on a free port of 127.0.0.1; a context manager.

    `requests` records what it was asked. `violations` has what no correct client asks, with or
    without an error as the answer, so each test asserts that it is empty.
    """

    def __init__(self) -> None:
        """Bind the port; requests are answered inside the `with` block."""
        self._results = ResultsService()
        super().__init__([*self._results.routes])

    @property
    def url(self) -> str:
        """The base URL of the API, and of the artifact service; without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def artifacts(self) -> list[Artifact]:
        """The finished artifacts of all runs, the oldest first."""
        return self._results.artifacts

    def runtime_token(self, run_id: int) -> str:
        """Issue the token with which the jobs of a run reach the artifact service."""
        return self._results.runtime_token(run_id)
