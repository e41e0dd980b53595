from __future__ import annotations

import pytest

from ci_defer import errors, git
from ci_defer.errors import CiDeferError, ExitCode


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (errors.CiDeferError, 3),
        (errors.ConfigurationError, 2),
        (errors.DbtNotFound, 2),
        (errors.ProjectError, 2),
        (errors.DbtError, 3),
        (errors.InvalidBundle, 3),
        (errors.StateNotFound, 3),
        (errors.Cancelled, 130),
        (git.GitError, 3),
    ],
)
def test_exit_code__of_each_error(kind: type[CiDeferError], expected: int) -> None:
    assert kind("Something.").exit_code == expected


def test_exit_codes__are_those_of_the_design() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0,
        "NODES_FAILED": 1,
        "CONFIGURATION": 2,
        "SERVICE": 3,
        "CANCELLED": 130,
    }


def test_str__is_the_message_and_what_to_do() -> None:
    assert str(CiDeferError("It broke.", "Mend it.")) == "It broke. Mend it."
    assert str(CiDeferError("It broke.")) == "It broke."
