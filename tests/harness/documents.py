"""The JSON documents of the REST API: what GitHub says about each thing that `rest` keeps.

Fields that GitHub's description does not require are left out unless a client is likely to read
them; none is made up. `api` is the base URL of the API by which the client reached the fake.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from tests.harness.history import Commit, Person
from tests.harness.results import Artifact

BOT = "github-actions[bot]"
"""The author of what jobs write with their `GITHUB_TOKEN`."""

_HTML = "https://github.com"
_REPOSITORY_PATHS = {
    "archive": "/{archive_format}{/ref}",
    "assignees": "/assignees{/user}",
    "blobs": "/git/blobs{/sha}",
    "branches": "/branches{/branch}",
    "collaborators": "/collaborators{/collaborator}",
    "comments": "/comments{/number}",
    "commits": "/commits{/sha}",
    "compare": "/compare/{base}...{head}",
    "contents": "/contents/{+path}",
    "contributors": "/contributors",
    "deployments": "/deployments",
    "downloads": "/downloads",
    "events": "/events",
    "forks": "/forks",
    "git_commits": "/git/commits{/sha}",
    "git_refs": "/git/refs{/sha}",
    "git_tags": "/git/tags{/sha}",
    "hooks": "/hooks",
    "issue_comment": "/issues/comments{/number}",
    "issue_events": "/issues/events{/number}",
    "issues": "/issues{/number}",
    "keys": "/keys{/key_id}",
    "labels": "/labels{/name}",
    "languages": "/languages",
    "merges": "/merges",
    "milestones": "/milestones{/number}",
    "notifications": "/notifications{?since,all,participating}",
    "pulls": "/pulls{/number}",
    "releases": "/releases{/id}",
    "stargazers": "/stargazers",
    "statuses": "/statuses/{sha}",
    "subscribers": "/subscribers",
    "subscription": "/subscription",
    "tags": "/tags",
    "teams": "/teams",
    "trees": "/git/trees{/sha}",
}
_USER_PATHS = {
    "followers": "/followers",
    "following": "/following{/other_user}",
    "gists": "/gists{/gist_id}",
    "starred": "/starred{/owner}{/repo}",
    "subscriptions": "/subscriptions",
    "organizations": "/orgs",
    "repos": "/repos",
    "events": "/events{/privacy}",
    "received_events": "/received_events",
}
_BEGINNING = datetime(2024, 1, 1, tzinfo=timezone.utc)


def now() -> datetime:
    """The present, with the resolution of the API."""
    return datetime.now(timezone.utc).replace(microsecond=0)


@dataclass(frozen=True)
class Repository:
    """One repository."""

    id: int
    name: str
    """With its owner: `acme/shop`."""
    default_branch: str = "main"
    private: bool = False
    fork: bool = False

    @property
    def owner(self) -> str:
        """The account that it belongs to."""
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class Run:
    """The facts about one run of a workflow."""

    id: int
    event: str = "push"
    head_branch: str | None = "main"
    head_sha: str = "0" * 40
    repository: str = "acme/shop"
    head_repository: str = ""
    """Where the head commit came from; `repository` unless it is said."""
    status: str = "completed"
    conclusion: str | None = "success"
    path: str = ".github/workflows/dbt.yml"
    name: str = "dbt"
    workflow_id: int = 7_000_001
    run_number: int = 1
    run_attempt: int = 1
    created_at: datetime = field(default_factory=now)
    pull_requests: tuple[int, ...] = ()
    """Numbers; GitHub names none for a run of a fork's commit."""


@dataclass(frozen=True)
class PullRequest:
    """The facts about one pull request."""

    number: int
    head_sha: str = "1" * 40
    head_ref: str = "feature"
    base_sha: str = "0" * 40
    base_ref: str = "main"
    repository: str = "acme/shop"
    head_repository: str = ""
    """A fork, or `repository` unless it is said."""
    state: str = "open"
    merged: bool = False
    merge_commit_sha: str | None = None
    title: str = "A change"
    body: str | None = None
    user: str = "monalisa"
    draft: bool = False
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True)
class Comment:
    """One comment on an issue or a pull request."""

    id: int
    number: int
    """Of the issue or pull request."""
    user: str
    body: str
    created_at: datetime
    updated_at: datetime


def time(value: datetime) -> str:
    """Write a point in time as the API does."""
    return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def user_document(api: str, login: str) -> dict[str, Any]:
    """Describe an account, the short way (`simple-user`)."""
    url = f"{api}/users/{login.replace('[', '%5B').replace(']', '%5D')}"
    is_bot = login.endswith("[bot]")
    html = f"apps/{login.removesuffix('[bot]')}" if is_bot else login
    return {
        "login": login,
        "id": user_id(login),
        "node_id": node_id("U", user_id(login)),
        "avatar_url": f"https://avatars.githubusercontent.com/u/{user_id(login)}?v=4",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{_HTML}/{html}",
        **{f"{name}_url": url + path for name, path in _USER_PATHS.items()},
        "type": "Bot" if is_bot else "User",
        "user_view_type": "public",
        "site_admin": False,
    }


def own_user_document(api: str, login: str) -> dict[str, Any]:
    """Describe the account whose token asks (`private-user`)."""
    texts = ("name", "company", "blog", "location", "email", "bio", "hireable")
    counts = (
        "public_repos",
        "public_gists",
        "followers",
        "following",
        "private_gists",
        "total_private_repos",
        "owned_private_repos",
        "disk_usage",
        "collaborators",
    )
    return {
        **user_document(api, login),
        "user_view_type": "private",
        **dict.fromkeys(texts),
        **dict.fromkeys(counts, 0),
        "created_at": time(_BEGINNING),
        "updated_at": time(_BEGINNING),
        "two_factor_authentication": True,
    }


def repository_document(
    api: str, repository: Repository, *, detail: str = "full"
) -> dict[str, Any]:
    """Describe a repository: `minimal` as in runs, `medium` as in pull requests, or `full`."""
    url = f"{api}/repos/{repository.name}"
    document: dict[str, Any] = {
        "id": repository.id,
        "node_id": node_id("R", repository.id),
        "name": repository.name.partition("/")[2],
        "full_name": repository.name,
        "private": repository.private,
        "owner": user_document(api, repository.owner),
        "html_url": f"{_HTML}/{repository.name}",
        "description": None,
        "fork": repository.fork,
        "url": url,
        **{f"{name}_url": url + path for name, path in _REPOSITORY_PATHS.items()},
    }
    if detail == "minimal":
        return document
    counts = ("forks", "open_issues", "watchers")
    document |= {
        "git_url": f"git://github.com/{repository.name}.git",
        "ssh_url": f"git@github.com:{repository.name}.git",
        "clone_url": f"{_HTML}/{repository.name}.git",
        "svn_url": f"{_HTML}/{repository.name}",
        "mirror_url": None,
        "homepage": None,
        "language": None,
        "license": None,
        "size": 1,
        "stargazers_count": 0,
        **dict.fromkeys(counts, 0),
        **{f"{name}_count": 0 for name in counts},
        "default_branch": repository.default_branch,
        "visibility": "private" if repository.private else "public",
        "topics": [],
        "has_issues": True,
        "has_projects": True,
        "has_wiki": True,
        "has_pages": False,
        "has_downloads": True,
        "has_discussions": False,
        "archived": False,
        "disabled": False,
        "created_at": time(_BEGINNING),
        "updated_at": time(_BEGINNING),
        "pushed_at": time(_BEGINNING),
    }
    if detail == "full":
        document |= {"network_count": 0, "subscribers_count": 0}
    return document


def artifact_document(
    api: str, artifact: Artifact, run: Run, repository: Repository, head_repository: Repository
) -> dict[str, Any]:
    """Describe an artifact."""
    url = f"{api}/repos/{repository.name}/actions/artifacts/{artifact.id}"
    return {
        "id": artifact.id,
        "node_id": node_id("A", artifact.id),
        "name": artifact.name,
        "size_in_bytes": artifact.size,
        "url": url,
        "archive_download_url": f"{url}/zip",
        "expired": artifact.expired,
        "digest": artifact.digest,
        "created_at": time(artifact.created_at),
        "updated_at": time(artifact.created_at),
        "expires_at": time(artifact.expires_at),
        "workflow_run": {
            "id": run.id,
            "repository_id": repository.id,
            "head_repository_id": head_repository.id,
            "head_branch": run.head_branch,
            "head_sha": run.head_sha,
        },
    }


def run_document(
    api: str,
    run: Run,
    repository: Repository,
    head_repository: Repository,
    head_commit: Commit | None,
) -> dict[str, Any]:
    """Describe a run, without its pull requests."""
    url = f"{api}/repos/{repository.name}/actions/runs/{run.id}"
    actor = user_document(api, head_repository.owner)
    return {
        "id": run.id,
        "name": run.name,
        "node_id": node_id("WFR", run.id),
        "head_branch": run.head_branch,
        "head_sha": run.head_sha,
        "path": run.path,
        "display_title": head_commit.message.partition("\n")[0] if head_commit else run.name,
        "run_number": run.run_number,
        "run_attempt": run.run_attempt,
        "event": run.event,
        "status": run.status,
        "conclusion": run.conclusion,
        "workflow_id": run.workflow_id,
        "url": url,
        "html_url": f"{_HTML}/{repository.name}/actions/runs/{run.id}",
        "pull_requests": [],
        "created_at": time(run.created_at),
        "updated_at": time(run.created_at),
        "run_started_at": time(run.created_at),
        "actor": actor,
        "triggering_actor": actor,
        "jobs_url": f"{url}/jobs",
        "logs_url": f"{url}/logs",
        "check_suite_url": f"{api}/repos/{repository.name}/check-suites/{run.id}",
        "artifacts_url": f"{url}/artifacts",
        "cancel_url": f"{url}/cancel",
        "rerun_url": f"{url}/rerun",
        "previous_attempt_url": f"{url}/attempts/{run.run_attempt - 1}"
        if run.run_attempt > 1
        else None,
        "workflow_url": f"{api}/repos/{repository.name}/actions/workflows/{run.workflow_id}",
        "head_commit": head_commit and _simple_commit(head_commit),
        "repository": repository_document(api, repository, detail="minimal"),
        "head_repository": repository_document(api, head_repository, detail="minimal"),
    }


def workflow_run_event(
    api: str, run: Run, repository: Repository, head_repository: Repository
) -> dict[str, Any]:
    """The payload of the event that a run has finished; without the workflow's own facts."""
    return {
        "action": "completed",
        "workflow_run": run_document(api, run, repository, head_repository, None),
        "repository": repository_document(api, repository),
        "sender": user_document(api, head_repository.owner),
    }


def commit_document(api: str, repository: str, commit: Commit) -> dict[str, Any]:
    """Describe a commit whose author and committer have no account; without its files."""
    url = f"{api}/repos/{repository}"
    html = f"{_HTML}/{repository}/commit"
    return {
        "sha": commit.sha,
        "node_id": node_id("C", zlib.crc32(commit.sha.encode())),
        "commit": {
            "author": _git_user(commit.author),
            "committer": _git_user(commit.committer),
            "message": commit.message,
            "tree": {"sha": commit.tree, "url": f"{url}/git/trees/{commit.tree}"},
            "url": f"{url}/git/commits/{commit.sha}",
            "comment_count": 0,
            "verification": {
                "verified": False,
                "reason": "unsigned",
                "signature": None,
                "payload": None,
                "verified_at": None,
            },
        },
        "url": f"{url}/commits/{commit.sha}",
        "html_url": f"{html}/{commit.sha}",
        "comments_url": f"{url}/commits/{commit.sha}/comments",
        "author": None,
        "committer": None,
        "parents": [
            {"sha": sha, "url": f"{url}/commits/{sha}", "html_url": f"{html}/{sha}"}
            for sha in commit.parents
        ],
    }


def comparison_document(
    api: str,
    repository: Repository,
    basehead: str,
    ends: tuple[Commit, Commit, Commit],
    *,
    ahead_by: int,
    behind_by: int,
    commits: list[Commit],
) -> dict[str, Any]:
    """Describe the way from one commit to another; `ends` are base, head and their merge base."""
    base, head, merge_base = ends
    html = f"{_HTML}/{repository.name}/compare"
    owner = repository.owner
    status = {
        (False, False): "identical",
        (True, False): "ahead",
        (False, True): "behind",
        (True, True): "diverged",
    }[ahead_by > 0, behind_by > 0]
    return {
        "url": f"{api}/repos/{repository.name}/compare/{basehead}",
        "html_url": f"{html}/{basehead}",
        "permalink_url": f"{html}/{owner}:{base.sha[:7]}...{owner}:{head.sha[:7]}",
        "diff_url": f"{html}/{basehead}.diff",
        "patch_url": f"{html}/{basehead}.patch",
        "base_commit": commit_document(api, repository.name, base),
        "merge_base_commit": commit_document(api, repository.name, merge_base),
        "status": status,
        "ahead_by": ahead_by,
        "behind_by": behind_by,
        "total_commits": ahead_by,
        "commits": [commit_document(api, repository.name, commit) for commit in commits],
    }


def minimal_pull_document(
    api: str, pull: PullRequest, repository: Repository, head_repository: Repository
) -> dict[str, Any]:
    """Describe a pull request as runs do."""

    def end(ref: str, sha: str, of: Repository) -> dict[str, Any]:
        name = of.name.partition("/")[2]
        url = f"{api}/repos/{of.name}"
        return {"ref": ref, "sha": sha, "repo": {"id": of.id, "url": url, "name": name}}

    return {
        "id": pull_id(repository, pull),
        "number": pull.number,
        "url": f"{api}/repos/{repository.name}/pulls/{pull.number}",
        "head": end(pull.head_ref, pull.head_sha, head_repository),
        "base": end(pull.base_ref, pull.base_sha, repository),
    }


def pull_document(
    api: str,
    pull: PullRequest,
    repository: Repository,
    head_repository: Repository,
    comments: int | None = None,
) -> dict[str, Any]:
    """Describe a pull request: as in lists or, with the number of its comments, alone."""
    url = f"{api}/repos/{repository.name}/pulls/{pull.number}"
    issue = f"{api}/repos/{repository.name}/issues/{pull.number}"
    html = f"{_HTML}/{repository.name}/pull/{pull.number}"
    closed_at = None if pull.state == "open" else time(pull.created_at)
    links = {
        "self": url,
        "html": html,
        "issue": issue,
        "comments": f"{issue}/comments",
        "review_comments": f"{url}/comments",
        "review_comment": f"{api}/repos/{repository.name}/pulls/comments{{/number}}",
        "commits": f"{url}/commits",
        "statuses": f"{api}/repos/{repository.name}/statuses/{pull.head_sha}",
    }

    def end(ref: str, sha: str, of: Repository) -> dict[str, Any]:
        return {
            "label": f"{of.owner}:{ref}",
            "ref": ref,
            "sha": sha,
            "user": user_document(api, of.owner),
            "repo": repository_document(api, of, detail="medium"),
        }

    document: dict[str, Any] = {
        "url": url,
        "id": pull_id(repository, pull),
        "node_id": node_id("PR", pull_id(repository, pull)),
        "html_url": html,
        "diff_url": f"{html}.diff",
        "patch_url": f"{html}.patch",
        "issue_url": issue,
        "number": pull.number,
        "state": pull.state,
        "locked": False,
        "title": pull.title,
        "user": user_document(api, pull.user),
        "body": pull.body,
        "created_at": time(pull.created_at),
        "updated_at": time(pull.created_at),
        "closed_at": closed_at,
        "merged_at": closed_at if pull.merged else None,
        "merge_commit_sha": pull.merge_commit_sha,
        "assignee": None,
        "assignees": [],
        "requested_reviewers": [],
        "requested_teams": [],
        "labels": [],
        "milestone": None,
        "draft": pull.draft,
        **{
            f"{name}_url": links[name]
            for name in ("commits", "review_comments", "review_comment", "comments", "statuses")
        },
        "head": end(pull.head_ref, pull.head_sha, head_repository),
        "base": end(pull.base_ref, pull.base_sha, repository),
        "_links": {name: {"href": link} for name, link in links.items()},
        "author_association": "CONTRIBUTOR",
        "auto_merge": None,
        "active_lock_reason": None,
    }
    if comments is not None:
        document |= {
            "merged": pull.merged,
            "mergeable": None if pull.merged else True,
            "rebaseable": None if pull.merged else True,
            "mergeable_state": "unknown" if pull.merged else "clean",
            "merged_by": user_document(api, repository.owner) if pull.merged else None,
            "comments": comments,
            "review_comments": 0,
            "maintainer_can_modify": False,
            "commits": 1,
            "additions": 1,
            "deletions": 0,
            "changed_files": 1,
        }
    return document


def comment_document(api: str, repository: str, comment: Comment) -> dict[str, Any]:
    """Describe a comment."""
    url = f"{api}/repos/{repository}/issues/comments/{comment.id}"
    html = f"{_HTML}/{repository}/pull/{comment.number}#issuecomment-{comment.id}"
    reactions = ("+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes")
    return {
        "url": url,
        "html_url": html,
        "issue_url": f"{api}/repos/{repository}/issues/{comment.number}",
        "id": comment.id,
        "node_id": node_id("IC", comment.id),
        "user": user_document(api, comment.user),
        "created_at": time(comment.created_at),
        "updated_at": time(comment.updated_at),
        "author_association": "NONE" if comment.user.endswith("[bot]") else "CONTRIBUTOR",
        "body": comment.body,
        "reactions": {"url": f"{url}/reactions", "total_count": 0, **dict.fromkeys(reactions, 0)},
    }


def user_id(login: str) -> int:
    """The id of an account."""
    return 41_898_282 if login == BOT else zlib.crc32(login.encode())


def pull_id(repository: Repository, pull: PullRequest) -> int:
    """The id of a pull request, which is not its number."""
    return repository.id * 1_000_000 + pull.number


def node_id(kind: str, number: int) -> str:
    """Make up an id for the other API, GraphQL."""
    return f"{kind}_{number:08x}"


def _simple_commit(commit: Commit) -> dict[str, Any]:
    return {
        "id": commit.sha,
        "tree_id": commit.tree,
        "message": commit.message,
        "timestamp": time(commit.author.date),
        "author": {"name": commit.author.name, "email": commit.author.email},
        "committer": {"name": commit.committer.name, "email": commit.committer.email},
    }


def _git_user(person: Person) -> dict[str, Any]:
    return {"name": person.name, "email": person.email, "date": time(person.date)}
