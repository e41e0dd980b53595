from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_defer.errors import ConfigurationError
from ci_defer.event import Event, FinishedRun, mode_of, read_event, read_finished_run

PULL_REQUEST = {
    "GITHUB_EVENT_NAME": "pull_request",
    "GITHUB_REPOSITORY": "o/r",
    "GITHUB_REF": "refs/pull/7/merge",
    "GITHUB_REF_NAME": "7/merge",
    "GITHUB_BASE_REF": "main",
    "GITHUB_RUN_ID": "42",
    "GITHUB_RUN_ATTEMPT": "2",
    "GITHUB_SERVER_URL": "https://github.com",
}


def test_read_event__of_a_pull_request() -> None:
    payload = {
        "action": "synchronize",
        "repository": {"default_branch": "main"},
        "pull_request": {"number": 7, "base": {"sha": "b" * 40}, "head": {"sha": "c" * 40}},
    }
    event = read_event(PULL_REQUEST, payload)
    assert event == Event(
        name="pull_request",
        action="synchronize",
        repository="o/r",
        default_branch="main",
        ref="refs/pull/7/merge",
        ref_name="7/merge",
        base_branch="main",
        base_sha="b" * 40,
        head_sha="c" * 40,
        pull_request=7,
        run_id="42",
        run_attempt="2",
        run_url="https://github.com/o/r/actions/runs/42",
        repository_url="https://github.com/o/r",
        server_url="https://github.com",
    )
    assert event.is_merge_ref


def test_read_event__of_a_merge_group_has_its_base() -> None:
    group = {"base_ref": "refs/heads/release/1", "base_sha": "b" * 40, "head_sha": "c" * 40}
    environ = {
        "GITHUB_EVENT_NAME": "merge_group",
        "GITHUB_REF": "refs/heads/gh-readonly-queue/main/pr-7-abc",
    }
    event = read_event(environ, {"action": "checks_requested", "merge_group": group})
    assert (event.base_branch, event.base_sha, event.head_sha, event.pull_request) == (
        "release/1",
        "b" * 40,
        "c" * 40,
        None,
    )
    assert not event.is_merge_ref


def test_read_event__outside_of_github_actions_is_empty() -> None:
    assert read_event({}, {}) == Event()


def test_read_event__without_a_repository_has_no_address() -> None:
    environ = {"GITHUB_EVENT_NAME": "push", "GITHUB_SERVER_URL": "https://github.com"}
    assert read_event(environ, {}).repository_url == ""


# What matters of https://docs.github.com/en/webhooks/webhook-events-and-payloads#workflow_run
FINISHED: dict[str, Any] = {
    "action": "completed",
    "workflow_run": {
        "id": 4001,
        "name": "dbt pull request",
        "event": "pull_request",
        "head_branch": "feature/x",
        "head_sha": "c" * 40,
        "head_repository": {"full_name": "mallory/shop", "owner": {"login": "mallory"}},
        "pull_requests": [],
    },
    "repository": {"full_name": "acme/shop", "default_branch": "main"},
}


def test_read_finished_run__of_a_fork() -> None:
    assert read_finished_run(FINISHED) == FinishedRun(
        id=4001,
        event="pull_request",
        head_branch="feature/x",
        head_sha="c" * 40,
        owner="mallory",
        is_of_a_fork=True,
    )


def test_read_finished_run__of_a_branch_of_the_repository() -> None:
    own = {"full_name": "acme/shop", "owner": {"login": "acme"}}
    run = {**FINISHED["workflow_run"], "head_repository": own}
    found = read_finished_run({**FINISHED, "workflow_run": run})
    assert (found.owner, found.is_of_a_fork) == ("acme", False)


def test_read_finished_run__of_a_fork_that_was_deleted_is_a_strangers() -> None:
    run = {**FINISHED["workflow_run"], "head_repository": None}
    found = read_finished_run({**FINISHED, "workflow_run": run})
    assert (found.owner, found.is_of_a_fork) == ("", True)


def test_read_finished_run__outside_of_a_workflow_run() -> None:
    assert read_finished_run({}) == FinishedRun()
    assert read_finished_run({"repository": {"full_name": "acme/shop"}}).id == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["pull_request", "merge_group", "base", "head", "sha", "number"]), inner
        )
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["action", "repository", "pull_request"]), JSON))
def test_read_event__takes_nothing_of_the_wrong_type(payload: dict[str, Any]) -> None:
    event = read_event(PULL_REQUEST, payload)
    texts = (event.action, event.default_branch, event.base_sha, event.head_sha)
    assert {type(value) for value in texts} == {str}
    assert event.pull_request is None or isinstance(event.pull_request, int)


FIELDS = ("id", "event", "head_branch", "head_sha", "head_repository", "owner", "login")


@given(st.dictionaries(st.sampled_from(FIELDS), JSON), JSON)
def test_read_finished_run__takes_nothing_of_the_wrong_type(
    run: dict[str, Any], head: object
) -> None:
    found = read_finished_run({"workflow_run": {"head_repository": head, **run}})
    texts = (found.event, found.head_branch, found.head_sha, found.owner)
    assert {type(value) for value in texts} == {str}
    assert isinstance(found.id, int)


MAIN: dict[str, Any] = {"default_branch": "main", "ref": "refs/heads/main"}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (Event(name="push", **MAIN), "onboard"),
        (Event(name="schedule", **MAIN), "onboard"),
        (Event(name="workflow_dispatch", **MAIN), "onboard"),
        (Event(name="schedule", ref="refs/heads/main"), "onboard"),
        (Event(name="pull_request", action="opened"), "defer"),
        (Event(name="pull_request", action="synchronize"), "defer"),
        (Event(name="pull_request", action="reopened"), "defer"),
        (Event(name="pull_request", action="closed"), "cleanup"),
        (Event(name="merge_group", action="checks_requested"), "defer"),
        (Event(name="workflow_run", action="completed"), "comment"),
    ],
)
def test_mode_of__each_event(event: Event, expected: str) -> None:
    assert mode_of(event) == expected


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            Event(name="push", default_branch="main", ref="refs/heads/dev", ref_name="dev"),
            "from main, but this push is of dev",
        ),
        (
            Event(name="push", default_branch="main", ref="refs/tags/main", ref_name="main"),
            "but this push is of main",
        ),
        (Event(name="pull_request_target", action="opened"), "secrets of this repository"),
        (Event(name="issues"), "nothing to do for the event issues"),
        (Event(), "a run outside of GitHub Actions"),
    ],
)
def test_mode_of__refuses_to_guess(event: Event, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        mode_of(event)


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("refs/pull/7/merge", True),
        ("refs/pull/7/head", False),
        ("refs/heads/feature/merge", False),
        ("", False),
    ],
)
def test_is_merge_ref__only_of_githubs_test_merge(ref: str, expected: bool) -> None:
    assert Event(ref=ref).is_merge_ref == expected
