"""The exceptions that ci-defer expects: what happened, what to do, and the exit code.

Owns the exit codes of the command line. Knows nothing of how an error is shown: the
command line prints the message and the hint as one line, without a traceback.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of every ci-defer command."""

    OK = 0
    NODES_FAILED = 1
    CONFIGURATION = 2
    SERVICE = 3
    CANCELLED = 130


class CiDeferError(Exception):
    """Something went wrong that a person can act on.

    `message` says what happened in one sentence, `hint` says what to do about it.
    """

    exit_code = ExitCode.SERVICE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigurationError(CiDeferError):
    """A setting, the workflow or the dbt project has to change."""

    exit_code = ExitCode.CONFIGURATION


class DbtNotFound(ConfigurationError):
    """There is no dbt to run."""


class ProjectError(ConfigurationError):
    """dbt refuses to read the project, the profile or our arguments."""


class DbtError(CiDeferError):
    """dbt stopped before it had any results: no connection, killed, crashed."""


class InvalidBundle(CiDeferError):
    """The files that are to be production's state cannot be used as such."""


class InvalidFootprint(CiDeferError):
    """A record of what a pull request has built cannot be used as such."""


class NotJson(InvalidBundle):
    """A file is truncated, or something else altogether: another download may be sound."""


class StateNotFound(CiDeferError):
    """There is no production state for this pull request."""


class WebError(CiDeferError):
    """A service refused, or could not answer. `status` is the HTTP status, 0 without an answer."""

    def __init__(self, message: str, hint: str = "", *, status: int = 0) -> None:
        super().__init__(message, hint)
        self.status = status


class RestError(WebError):
    """GitHub refused, or could not answer."""


class Cancelled(CiDeferError):
    """SIGINT or SIGTERM ended the run before there was anything to report."""

    exit_code = ExitCode.CANCELLED
