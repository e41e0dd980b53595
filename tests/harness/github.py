"""The fake GitHub that runs of the action talk to, with all its state in memory.

It is made of the artifact service that a runner needs (`results`), the REST API (`rest`), and what
goes wrong with them when a test wants it to (`faults`). Another part of GitHub is one more object
with `routes`, named in `FakeGitHub.__init__`.
"""

from __future__ import annotations

from dataclasses import replace

from tests.harness.documents import BOT, Comment, PullRequest, Repository, Run
from tests.harness.faults import Faults
from tests.harness.rest import LONGEST_COMMENT, REPOSITORY, RestService, zip_files
from tests.harness.results import Artifact, ResultsService
from tests.harness.web import Handler, Record, WebServer

__all__ = [
    "BOT",
    "LONGEST_COMMENT",
    "REPOSITORY",
    "Artifact",
    "Comment",
    "FakeGitHub",
    "PullRequest",
    "Record",
    "Repository",
    "Run",
    "zip_files",
]


class FakeGitHub(WebServer):
    """GitHub on a free port of 127.0.0.1; a context manager.

    `requests` records what it was asked. `violations` has what no correct client asks, with or
    without an error as the answer, so each test asserts that it is empty.
    """

    def __init__(self) -> None:
        """Bind the port; requests are answered inside the `with` block."""
        self._results = ResultsService()
        self._faults = faults = Faults()
        self._rest = rest = RestService(self._results, faults)
        # The REST API asks `faults` itself: a request is validated though its answer is a fault.
        runner = [
            replace(route, handler=self._with_faults(route.handler))
            for route in self._results.routes
        ]
        super().__init__([*runner, *rest.routes])

        # What there is, documented in `rest`.
        self.add_repository = rest.add_repository
        self.serve_git = rest.serve_git
        self.add_run = rest.add_run
        self.run = rest.run
        self.workflow_run_event = rest.workflow_run_event
        self.add_pull = rest.add_pull
        self.add_artifact = rest.add_artifact
        self.delete_artifact = rest.delete_artifact
        self.add_comment = rest.add_comment
        self.comments = rest.comments
        self.add_token = rest.add_token
        # What goes wrong, documented in `faults`.
        self.fail_next = faults.fail_next
        self.limit_next = faults.limit_next
        self.cut_next = faults.cut_next
        self.drop_next = faults.drop_next
        self.hold_next = faults.hold_next
        self.corrupt_next = faults.corrupt_next
        self.replace_next = faults.replace_next
        self.redirect_next = faults.redirect_next
        self.on_next = faults.on_next

    @property
    def url(self) -> str:
        """The base URL of the API, and of the artifact service; without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def artifacts(self) -> list[Artifact]:
        """The finished artifacts of all runs, the oldest first."""
        return self._results.artifacts

    @property
    def pending_faults(self) -> list[str]:
        """The faults that no request has met yet."""
        return self._faults.pending

    def runtime_token(self, run_id: int) -> str:
        """Issue the token with which the jobs of a run reach the artifact service."""
        return self._results.runtime_token(run_id)

    def _with_faults(self, handler: Handler) -> Handler:
        return lambda request, match: self._faults.around(request, lambda: handler(request, match))
