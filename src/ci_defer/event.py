"""What started this run: the event of the workflow, read from GITHUB_* and its payload.

Pure: gets the environment and the payload as values. Outside of GitHub Actions there is an
event too, with an empty name. Owns the decision of mode `auto`.

Source of the names: https://docs.github.com/en/actions/reference/variables-reference
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ci_defer.errors import ConfigurationError

# https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/configuring-pull-request-merges/managing-a-merge-queue
MERGE_QUEUE = re.compile(r"gh-readonly-queue/.+/pr-(?P<number>\d{1,10})-[0-9a-f]+")

PRODUCTION_EVENTS = frozenset({"push", "schedule", "workflow_dispatch"})


@dataclass(frozen=True, kw_only=True)
class Event:
    """One workflow event. What the event does not have is empty, or None for the number."""

    name: str = ""
    action: str = ""
    repository: str = ""
    default_branch: str = ""
    ref: str = ""
    ref_name: str = ""
    base_branch: str = ""
    base_sha: str = ""
    head_sha: str = ""
    head_branch: str = ""
    head_repository: str = ""
    pull_request: int | None = None
    run_id: str = ""
    run_attempt: str = ""
    run_url: str = ""
    repository_url: str = ""
    server_url: str = ""
    api_url: str = ""

    @property
    def state_branch(self) -> str:
        """The branch whose runs publish the states that this run may use."""
        return self.base_branch or self.default_branch or self.ref_name

    @property
    def queued_pull_request(self) -> int | None:
        """The pull request that a merge group ends with: GitHub's branch of the group names it."""
        found = MERGE_QUEUE.fullmatch(self.head_branch) if self.name == "merge_group" else None
        return int(found["number"]) if found else None

    @property
    def is_on_enterprise_server(self) -> bool:
        """Whether this is GitHub Enterprise Server: not github.com, and not its *.ghe.com."""
        host = urlsplit(self.server_url).hostname or ""
        return bool(host) and host != "github.com" and not host.endswith(".ghe.com")

    @property
    def is_merge_ref(self) -> bool:
        """Whether the ref is GitHub's test merge of a pull request into its base branch."""
        return self.ref.startswith("refs/pull/") and self.ref.endswith("/merge")


def read_event(environ: Mapping[str, str], payload: Mapping[str, Any]) -> Event:
    """Read the event from GitHub's variables and the payload (`GITHUB_EVENT_PATH`)."""
    pull_request = _mapping(payload, "pull_request") or _mapping(payload, "merge_group")
    base, head = _mapping(pull_request, "base"), _mapping(pull_request, "head")
    repository = environ.get("GITHUB_REPOSITORY", "")
    run_id = environ.get("GITHUB_RUN_ID", "")
    server = environ.get("GITHUB_SERVER_URL", "")
    number = pull_request.get("number")
    return Event(
        name=environ.get("GITHUB_EVENT_NAME", ""),
        action=_text(payload, "action"),
        repository=repository,
        default_branch=_text(_mapping(payload, "repository"), "default_branch"),
        ref=environ.get("GITHUB_REF", ""),
        ref_name=environ.get("GITHUB_REF_NAME", ""),
        base_branch=environ.get("GITHUB_BASE_REF", "")
        or _text(pull_request, "base_ref").removeprefix("refs/heads/"),
        base_sha=_text(base, "sha") or _text(pull_request, "base_sha"),
        head_sha=_text(head, "sha") or _text(pull_request, "head_sha"),
        head_branch=_text(head, "ref")
        or _text(pull_request, "head_ref").removeprefix("refs/heads/")
        # Of a pull request that would be the number of it.
        or ("" if pull_request else environ.get("GITHUB_REF_NAME", "")),
        head_repository=_text(_mapping(head, "repo"), "full_name"),
        pull_request=number if isinstance(number, int) else None,
        run_id=run_id,
        run_attempt=environ.get("GITHUB_RUN_ATTEMPT", ""),
        repository_url=f"{server}/{repository}" if server and repository else "",
        run_url=f"{server}/{repository}/actions/runs/{run_id}" if server and run_id else "",
        server_url=server,
        api_url=environ.get("GITHUB_API_URL", ""),
    )


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """The run that a `workflow_run` event is about. Outside of one, `id` is 0 and the rest empty.

    `owner` is the account that the head branch belongs to.
    """

    id: int = 0
    event: str = ""
    head_branch: str = ""
    head_sha: str = ""
    owner: str = ""
    is_of_a_fork: bool = False


def read_finished_run(payload: Mapping[str, Any]) -> FinishedRun:
    """Read the finished run from the payload of a `workflow_run` event."""
    run = _mapping(payload, "workflow_run")
    head = _mapping(run, "head_repository")
    number = run.get("id")
    return FinishedRun(
        id=number if isinstance(number, int) else 0,
        event=_text(run, "event"),
        head_branch=_text(run, "head_branch"),
        head_sha=_text(run, "head_sha"),
        owner=_text(_mapping(head, "owner"), "login"),
        is_of_a_fork=_text(head, "full_name")
        != _text(_mapping(payload, "repository"), "full_name"),
    )


def mode_of(event: Event) -> str:
    """The mode that `auto` stands for. Raises ConfigurationError when no mode fits."""
    if event.name == "pull_request":
        return "cleanup" if event.action == "closed" else "defer"
    if event.name == "merge_group":
        return "defer"
    if event.name == "workflow_run":
        return "comment"
    if event.name in PRODUCTION_EVENTS:
        if event.default_branch and event.ref != f"refs/heads/{event.default_branch}":
            raise ConfigurationError(
                f"Mode auto publishes the production state from {event.default_branch}, but this "
                f"{event.name} is of {event.ref_name or event.ref}.",
                "Limit the workflow to that branch, or set mode to onboard or defer.",
            )
        return "onboard"
    if event.name == "pull_request_target":
        raise ConfigurationError(
            "pull_request_target would run the code of a pull request, also of a fork, with the "
            "secrets of this repository.",
            "Use `on: pull_request` in the workflow.",
        )
    what = f"the event {event.name}" if event.name else "a run outside of GitHub Actions"
    raise ConfigurationError(
        f"Mode auto has nothing to do for {what}.", "Say which one: ci-defer onboard or defer."
    )


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = value.get(key)
    return inner if isinstance(inner, dict) else {}


def _text(value: Mapping[str, Any], key: str) -> str:
    inner = value.get(key)
    return inner if isinstance(inner, str) else ""
