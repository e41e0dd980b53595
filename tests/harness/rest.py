"""GitHub's REST API, as far as a client of artifacts, history and comments needs it; in memory.

It lists the artifacts that `results` keeps, joined with the runs that a test registers, tells the
history of git repositories that a test hands in, and keeps comments. Every request, and every
answer but those of a queued fault, is validated against GitHub's published description (`openapi`).
Of the other API, GraphQL, it answers one query, `VIEWER`; every other one is a violation.

What the description does not say, and is so here: any token is good for everything unless a test
registers it; lists are cut at 100 a page, and link to `/repositories/{id}`; artifacts and runs come
newest first; a comment has at most 65,536 characters; `commits/{sha}/pulls` knows the pull requests
from a fork only when the fork is asked. Not here: the files of commits and comparisons, commits
that are named `owner:ref`, runs by actor, time or check suite, conditional requests, and what moves
or locks repositories and issues.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlencode

from tests.harness import documents
from tests.harness.documents import BOT, Comment, PullRequest, Repository, Run
from tests.harness.faults import Faults
from tests.harness.history import History
from tests.harness.openapi import DESCRIPTION
from tests.harness.results import Artifact, ResultsService
from tests.harness.web import Handler, Request, Response, Route, Violation, json_response

REPOSITORY = "acme/shop"
"""The repository that is there from the start."""

LONGEST_COMMENT = 65_536

VIEWER = "query { viewer { login } }"
"""Who the author of what is written with a token is, which REST tells people alone."""

_VERSIONS = {"2022-11-28", "2026-03-10"}
# Payloads of events name it, whichever way the client reaches the fake.
_API = "https://api.github.com"
_RETENTION = timedelta(days=90)
_LARGEST_PAGE = 100
_LARGEST_COMPARISON = 250
_LEVELS = ("none", "read", "write")
_REPO = "/repos/{owner}/{repo}"
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Token:
    """What a token is good for."""

    user: str | None = None
    """A person; None for an app's."""
    app: str | None = None
    """The name of the app in its URL; None for the one whose tokens jobs get."""
    permissions: Mapping[str, str] | None = None
    """By name as in a workflow, `read` or `write`; None for all that there are."""
    revoked: bool = False

    @property
    def login(self) -> str:
        """The author of what is written with it."""
        return self.user or (f"{self.app}[bot]" if self.app else BOT)

    def allows(self, names: Iterable[str], level: str) -> bool:
        """Whether it has one of the permissions; all names are those of a workflow."""
        if self.permissions is None:
            return True
        granted = (self.permissions.get(name, "none") for name in names)
        return any(_LEVELS.index(grant) >= _LEVELS.index(level) for grant in granted)


class _Refused(Exception):
    """The API answers with an error."""

    def __init__(
        self,
        status: int,
        message: str,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.errors = errors
        self.headers = headers or {}


_NOT_FOUND = "Not Found"


@dataclass(frozen=True)
class _Endpoint:
    method: str
    template: str
    handle: Callable[[_Call], Response]
    permissions: tuple[str, ...] = ()

    @property
    def path(self) -> re.Pattern[str]:
        """The path of requests, by the name of the repository or by its id."""
        path = self.template.removeprefix(_REPO)
        prefix = "(?P<prefix>/api/v3)?"
        if path != self.template:
            prefix += r"(?:/repos/(?P<owner>[^/]+)/(?P<repo>[^/]+)|/repositories/(?P<id>\d+))"
        # Names of branches have slashes; the other parameters have not.
        path = re.sub(r"\{(ref|basehead|commit_sha)\}", r"(?P<\1>.+)", path)
        return re.compile(prefix + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))


@dataclass(frozen=True)
class _Call:
    """A request that a handler answers."""

    request: Request
    api: str
    parameters: Mapping[str, str]
    repository: Repository
    """Without meaning when the path has none."""
    token: Token

    def number(self, name: str) -> int:
        """A number in the path; what is none names nothing."""
        text = self.parameters[name]
        return int(text) if text.isdecimal() else -1

    def query_number(self, name: str, default: int) -> int:
        """A number in the query."""
        text = self.request.query.get(name, "")
        return int(text) if text.isdecimal() and int(text) > 0 else default

    @property
    def page(self) -> int:
        """Which page is asked for."""
        return self.query_number("page", 1)

    @property
    def per_page(self) -> int:
        """How many items a page has."""
        return min(self.query_number("per_page", 30), _LARGEST_PAGE)

    @property
    def first(self) -> int:
        """The index of the first item on the page."""
        return (self.page - 1) * self.per_page

    def cut(self, items: Sequence[_Item]) -> Sequence[_Item]:
        """Take the items of the page."""
        return items[self.first : self.first + self.per_page]

    def links(self, total: int) -> dict[str, str]:
        """The headers of the page of a list with so many items."""
        last = max(1, -(-total // self.per_page))
        pages: dict[str, int] = {}
        if self.page > 1:
            pages |= {"prev": min(self.page - 1, last)}
        if self.page < last:
            pages |= {"next": self.page + 1, "last": last}
        if self.page > 1:
            pages |= {"first": 1}
        # As on GitHub: a link names the repository by its id.
        tail = re.sub("^(/api/v3)?(/repos/[^/]+/[^/]+|/repositories/[^/]+)", "", self.request.path)
        url = f"{self.api}/repositories/{self.repository.id}{tail}"
        links = [
            f'<{url}?{urlencode({**self.request.query, "page": page})}>; rel="{relation}"'
            for relation, page in pages.items()
        ]
        return {"Link": ", ".join(links)} if links else {}


@dataclass
class _State:
    """What is kept of one repository; pull requests and issues share their numbers."""

    runs: dict[int, Run] = field(default_factory=dict)
    pulls: dict[int, PullRequest] = field(default_factory=dict)
    comments: list[Comment] = field(default_factory=list)
    history: History | None = None


class RestService:
    """The state of the API, and its routes."""

    def __init__(self, results: ResultsService, faults: Faults) -> None:
        """Start with one repository, and nothing in it."""
        self._results = results
        self._faults = faults
        self._tokens: dict[str, Token] = {}
        self._repositories: dict[str, Repository] = {}
        self._states: dict[int, _State] = {}
        self._last_comment = 2_000_000_000
        self.add_repository(REPOSITORY)
        contents, pulls = ("contents",), ("pull-requests",)
        comments = ("issues", "pull-requests")
        endpoints = [
            _Endpoint("GET", _REPO, self._get_repository),
            _Endpoint("GET", f"{_REPO}/actions/artifacts", self._list_artifacts, ("actions",)),
            _Endpoint(
                "GET",
                f"{_REPO}/actions/artifacts/{{artifact_id}}",
                self._get_artifact,
                ("actions",),
            ),
            _Endpoint(
                "GET",
                f"{_REPO}/actions/artifacts/{{artifact_id}}/{{archive_format}}",
                self._download_artifact,
                ("actions",),
            ),
            _Endpoint("GET", f"{_REPO}/actions/runs", self._list_runs, ("actions",)),
            _Endpoint("GET", f"{_REPO}/actions/runs/{{run_id}}", self._get_run, ("actions",)),
            _Endpoint(
                "GET",
                f"{_REPO}/actions/runs/{{run_id}}/artifacts",
                self._list_artifacts_of_run,
                ("actions",),
            ),
            _Endpoint("GET", f"{_REPO}/compare/{{basehead}}", self._compare, contents),
            _Endpoint("GET", f"{_REPO}/commits", self._list_commits, contents),
            _Endpoint("GET", f"{_REPO}/commits/{{commit_sha}}/pulls", self._pulls_of, pulls),
            _Endpoint("GET", f"{_REPO}/commits/{{ref}}", self._get_commit, contents),
            _Endpoint("GET", f"{_REPO}/pulls", self._list_pulls, pulls),
            _Endpoint("GET", f"{_REPO}/pulls/{{pull_number}}", self._get_pull, pulls),
            _Endpoint(
                "GET",
                f"{_REPO}/issues/{{issue_number}}/comments",
                self._list_comments,
                comments,
            ),
            _Endpoint(
                "POST",
                f"{_REPO}/issues/{{issue_number}}/comments",
                self._create_comment,
                comments,
            ),
            *(
                _Endpoint(method, f"{_REPO}/issues/comments/{{comment_id}}", handle, comments)
                for method, handle in (
                    ("GET", self._get_comment),
                    ("PATCH", self._edit_comment),
                    ("DELETE", self._delete_comment),
                )
            ),
            _Endpoint("GET", "/user", self._get_user),
        ]
        self.routes = [
            *(Route(one.method, one.path, self._handler(one)) for one in endpoints),
            # That of GitHub Enterprise Server is beside its REST API, at /api/graphql.
            Route("POST", re.compile("(?:/api)?/graphql"), self._graphql),
        ]

    # What a test says and asks.

    def add_repository(
        self,
        name: str,
        *,
        default_branch: str = "main",
        private: bool = False,
        fork: bool = False,
    ) -> Repository:
        """Have a repository, or have it otherwise than before."""
        known = self._repositories.get(name.lower())
        identifier = known.id if known else 1_296_269 + len(self._repositories)
        repository = Repository(identifier, name, default_branch, private, fork)
        self._repositories[name.lower()] = repository
        self._states.setdefault(repository.id, _State())
        return repository

    def serve_git(self, path: Path, repository: str = REPOSITORY) -> None:
        """Answer questions about the history of a repository from a git repository."""
        self._state(repository).history = History(path)

    def add_run(self, run: Run) -> Run:
        """Have a run, or have it otherwise than before."""
        self._state(run.repository).runs[run.id] = run
        self._state(run.head_repository or run.repository, fork=True)
        return run

    def run(self, run_id: int, repository: str = REPOSITORY) -> Run:
        """A run that there is."""
        return self._state(repository).runs[run_id]

    def workflow_run_event(self, run: Run) -> dict[str, Any]:
        """The payload of the event `workflow_run` for a run that has finished."""
        repository = self._repository(run.repository)
        head = self._repository(run.head_repository or run.repository)
        return documents.workflow_run_event(_API, run, repository, head)

    def add_pull(self, pull: PullRequest) -> PullRequest:
        """Have a pull request, or have it otherwise than before."""
        self._state(pull.repository).pulls[pull.number] = pull
        self._state(pull.head_repository or pull.repository, fork=True)
        return pull

    def add_artifact(
        self,
        name: str,
        content: bytes | Mapping[str, str | bytes],
        run_id: int,
        *,
        created_at: datetime | None = None,
        expires_at: datetime | None = None,
        expired: bool = False,
        digest: str | None = "",
    ) -> Artifact:
        """Have an artifact of a run; `content` is the archive, or the files in it.

        `digest` is that of the archive, unless another one is given, or None for none at all.
        """
        archive = content if isinstance(content, bytes) else zip_files(content)
        if expires_at is None:
            past = documents.now() - timedelta(days=1)
            expires_at = past if expired else (created_at or documents.now()) + _RETENTION
        if created_at is None:
            created_at = expires_at - _RETENTION if expired else documents.now()
        return self._results.add(
            name,
            archive,
            run_id,
            digest=f"sha256:{sha256(archive).hexdigest()}" if digest == "" else digest,
            created_at=created_at,
            expires_at=expires_at,
        )

    def delete_artifact(self, artifact: Artifact) -> None:
        """Have an artifact no more."""
        self._results.remove(artifact.id)

    def add_comment(
        self, number: int, body: str, *, user: str = BOT, repository: str = REPOSITORY
    ) -> Comment:
        """Have a comment on a pull request, as if `user` had just made it."""
        self._last_comment += 1
        now = documents.now()
        comment = Comment(self._last_comment, number, user, body, now, now)
        self._state(repository).comments.append(comment)
        return comment

    def comments(self, number: int, repository: str = REPOSITORY) -> list[Comment]:
        """The comments on a pull request, the oldest first."""
        return [one for one in self._state(repository).comments if one.number == number]

    def add_token(
        self,
        value: str,
        *,
        permissions: Mapping[str, str] | None = None,
        read_only: bool = False,
        user: str | None = None,
        app: str | None = None,
        revoked: bool = False,
    ) -> None:
        """Say what a token is good for; one that is not registered is a job's, and for all.

        `permissions` are those of a workflow: `{"pull-requests": "write"}` grants no other. `user`
        is the person that it stands for, `app` the slug of an app other than that of jobs.
        """
        if read_only:
            names = ("actions", "contents", "issues", "pull-requests")
            permissions = dict.fromkeys(names, "read")
        self._tokens[value] = Token(user, app, permissions, revoked)

    # How requests are answered.

    def _handler(self, endpoint: _Endpoint) -> Handler:
        def handle(request: Request, match: re.Match[str]) -> Response:
            groups = {key: unquote(value) for key, value in match.groupdict().items() if value}
            api = request.base_url + groups.pop("prefix", "")
            repository = self._named(groups)
            parameters = groups
            if endpoint.template.startswith(_REPO):
                owner, _, name = repository.name.partition("/")
                parameters = {"owner": owner, "repo": name, **groups}
            problems = _header_problems(request)
            problems += DESCRIPTION.request_problems(endpoint.template, parameters, request)

            def answer() -> Response:
                response = self._answer(endpoint, request, api, parameters, repository)
                problems.extend(
                    f"our answer: {problem}"
                    for problem in DESCRIPTION.response_problems(
                        endpoint.template, parameters, request, response
                    )
                )
                return response

            response = self._faults.around(request, answer)
            response = replace(response, headers={**_HEADERS, **response.headers})
            if problems:
                raise Violation("; ".join(problems), response)
            return response

        return handle

    def _named(self, groups: dict[str, str]) -> Repository:
        identifier = groups.pop("id", "")
        if identifier:
            found = [one for one in self._repositories.values() if one.id == int(identifier)]
            return found[0] if found else Repository(0, "unknown/unknown")
        name = f"{groups.get('owner', 'unknown')}/{groups.get('repo', 'unknown')}"
        return self._repositories.get(name.lower()) or Repository(0, name)

    def _answer(
        self,
        endpoint: _Endpoint,
        request: Request,
        api: str,
        parameters: Mapping[str, str],
        repository: Repository,
    ) -> Response:
        try:
            token = self._authorize(endpoint, request, repository)
            return endpoint.handle(_Call(request, api, parameters, repository, token))
        except _Refused as refused:
            body: dict[str, Any] = {"message": str(refused)}
            if refused.errors:
                body["errors"] = list(refused.errors)
            url = DESCRIPTION.documentation_url(endpoint.method, endpoint.template)
            body |= {"documentation_url": url, "status": str(refused.status)}
            return json_response(body, refused.status, refused.headers)

    def _graphql(self, request: Request, match: re.Match[str]) -> Response:
        problems = _header_problems(request)
        try:
            message = json.loads(request.body)
        except ValueError:
            message = None
        query = message.get("query") if isinstance(message, dict) and len(message) == 1 else None
        is_known = isinstance(query, str) and query.split() == VIEWER.split()
        if not is_known:
            problems.append(f"not the one query that is answered here: {request.body[:200]!r}")

        def answer() -> Response:
            try:
                token = self._token(request)
            except _Refused as refused:
                body = {"message": str(refused), "status": str(refused.status)}
                url = "https://docs.github.com/graphql"
                return json_response({**body, "documentation_url": url}, refused.status)
            if not is_known:
                return json_response({"errors": [{"message": "A query attribute must be given"}]})
            return json_response({"data": {"viewer": {"login": token.login}}})

        response = self._faults.around(request, answer)
        response = replace(response, headers={**_HEADERS, **response.headers})
        if problems:
            raise Violation("; ".join(problems), response)
        return response

    def _token(self, request: Request) -> Token:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() not in ("bearer", "token") or not value.strip():
            raise _Refused(401, "Requires authentication")
        token = self._tokens.get(value.strip(), Token())
        if token.revoked:
            raise _Refused(401, "Bad credentials")
        return token

    def _authorize(self, endpoint: _Endpoint, request: Request, repository: Repository) -> Token:
        token = self._token(request)
        if endpoint.template.startswith(_REPO) and not repository.id:
            raise _Refused(404, _NOT_FOUND)
        level = "read" if endpoint.method == "GET" else "write"
        is_public = level == "read" and not repository.private
        if not endpoint.permissions or is_public or token.allows(endpoint.permissions, level):
            return token
        accepted = (f"{name.replace('-', '_')}={level}" for name in endpoint.permissions)
        kind = "personal access token" if token.user else "integration"
        headers = {"X-Accepted-GitHub-Permissions": "; ".join(accepted)}
        raise _Refused(403, f"Resource not accessible by {kind}", headers=headers)

    def _state(self, name: str, *, fork: bool = False) -> _State:
        known = self._repositories.get(name.lower())
        return self._states[(known or self.add_repository(name, fork=fork)).id]

    def _repository(self, name: str) -> Repository:
        return self._repositories[name.lower()]

    # The endpoints.

    def _get_repository(self, call: _Call) -> Response:
        return json_response(documents.repository_document(call.api, call.repository))

    def _get_user(self, call: _Call) -> Response:
        if call.token.user is None:
            raise _Refused(403, "Resource not accessible by integration")
        return json_response(documents.own_user_document(call.api, call.token.user))

    def _list_artifacts(self, call: _Call) -> Response:
        return self._artifact_list(call, self._artifacts(call.repository))

    def _list_artifacts_of_run(self, call: _Call) -> Response:
        if "direction" in call.request.query:
            raise AssertionError("artifacts by direction are not here")
        number = call.number("run_id")
        if number not in self._states[call.repository.id].runs:
            raise _Refused(404, _NOT_FOUND)
        every = self._artifacts(call.repository)
        return self._artifact_list(call, (one for one in every if one[1].id == number))

    def _artifact_list(self, call: _Call, every: Iterable[tuple[Artifact, Run]]) -> Response:
        name = call.request.query.get("name")
        found = [(artifact, run) for artifact, run in every if name in (None, artifact.name)]
        found.sort(key=lambda one: (one[0].created_at, one[0].id), reverse=True)
        document = {
            "total_count": len(found),
            "artifacts": [self._artifact_document(call, *one) for one in call.cut(found)],
        }
        return json_response(document, headers=call.links(len(found)))

    def _get_artifact(self, call: _Call) -> Response:
        return json_response(self._artifact_document(call, *self._artifact(call)))

    def _download_artifact(self, call: _Call) -> Response:
        artifact, _ = self._artifact(call)
        if call.parameters["archive_format"] != "zip":
            raise _Refused(404, _NOT_FOUND)
        if artifact.expired:
            raise _Refused(410, "Artifact has expired")
        url = self._results.download_url(artifact, call.request.base_url)
        return Response(302, headers={"Location": url})

    def _artifacts(self, repository: Repository) -> Iterable[tuple[Artifact, Run]]:
        """The artifacts of a repository; every run must be known, or they belong to none."""
        owners = {
            run.id: (identifier, run)
            for identifier, state in self._states.items()
            for run in state.runs.values()
        }
        for artifact in self._results.artifacts:
            if artifact.run_id not in owners:
                raise AssertionError(f"run {artifact.run_id} has artifacts: add_run(Run(...))")
            identifier, run = owners[artifact.run_id]
            if identifier == repository.id:
                yield artifact, run

    def _artifact(self, call: _Call) -> tuple[Artifact, Run]:
        for artifact, run in self._artifacts(call.repository):
            if artifact.id == call.number("artifact_id"):
                return artifact, run
        raise _Refused(404, _NOT_FOUND)

    def _artifact_document(self, call: _Call, artifact: Artifact, run: Run) -> dict[str, Any]:
        head = self._repository(run.head_repository or run.repository)
        return documents.artifact_document(call.api, artifact, run, call.repository, head)

    def _list_runs(self, call: _Call) -> Response:
        query = call.request.query
        for name in ("actor", "created", "check_suite_id"):
            if name in query:
                raise AssertionError(f"runs by {name} are not here")
        found = [
            run
            for run in self._states[call.repository.id].runs.values()
            if query.get("head_sha", run.head_sha) == run.head_sha
            and query.get("event", run.event) == run.event
            and query.get("branch", run.head_branch) == run.head_branch
            and query.get("status", run.status) in (run.status, run.conclusion)
        ]
        found.sort(key=lambda run: (run.created_at, run.id), reverse=True)
        document = {
            "total_count": len(found),
            "workflow_runs": [self._run_document(call, run) for run in call.cut(found)],
        }
        return json_response(document, headers=call.links(len(found)))

    def _get_run(self, call: _Call) -> Response:
        run = self._states[call.repository.id].runs.get(call.number("run_id"))
        if run is None:
            raise _Refused(404, _NOT_FOUND)
        return json_response(self._run_document(call, run))

    def _run_document(self, call: _Call, run: Run) -> dict[str, Any]:
        state = self._states[call.repository.id]
        head_repository = self._repository(run.head_repository or run.repository)
        sha = state.history and state.history.resolve(run.head_sha)
        commit = state.history.commit(sha) if state.history and sha else None
        document = documents.run_document(call.api, run, call.repository, head_repository, commit)
        if call.request.query.get("exclude_pull_requests") != "true":
            document["pull_requests"] = [
                documents.minimal_pull_document(call.api, *self._ends(state.pulls[number]))
                for number in run.pull_requests
            ]
        return document

    def _history(self, call: _Call) -> History:
        history = self._states[call.repository.id].history
        if history is None:
            raise AssertionError(f"{call.repository.name} has no history: serve_git(path)")
        return history

    def _compare(self, call: _Call) -> Response:
        history = self._history(call)
        basehead = call.parameters["basehead"]
        base, dots, head = basehead.partition("...")
        owner = f"{call.repository.owner}:"
        names = [name.removeprefix(owner) for name in (base, head)]
        if any(":" in name for name in names):
            raise AssertionError(f"{basehead}: comparing with a fork is not here")
        shas = [self._resolve(call, name) for name in names] if dots else [None]
        if None in shas:
            raise _Refused(404, _NOT_FOUND)
        base_sha, head_sha = map(str, shas)
        merge_base = history.merge_base(base_sha, head_sha)
        if merge_base is None:
            raise _Refused(404, f"No common ancestor between {base} and {head}.")
        commits = history.commits(head_sha, f"^{base_sha}", oldest_first=True)
        headers = {}
        shown: Sequence[Any] = commits[-_LARGEST_COMPARISON:]
        if {"page", "per_page"} & set(call.request.query):
            shown, headers = call.cut(commits), call.links(len(commits))
        document = documents.comparison_document(
            call.api,
            call.repository,
            basehead,
            (history.commit(base_sha), history.commit(head_sha), history.commit(merge_base)),
            ahead_by=len(commits),
            behind_by=history.count(base_sha, f"^{head_sha}"),
            commits=list(shown),
        )
        return json_response(document, headers=headers)

    def _list_commits(self, call: _Call) -> Response:
        history = self._history(call)
        for name in ("path", "author", "committer", "since", "until"):
            if name in call.request.query:
                raise AssertionError(f"commits by {name} are not here")
        sha = self._resolve(call, call.request.query.get("sha") or "HEAD")
        if sha is None:
            raise _Refused(404, _NOT_FOUND)
        commits = history.commits(sha, skip=call.first, limit=call.per_page)
        listed = [
            documents.commit_document(call.api, call.repository.name, commit) for commit in commits
        ]
        return json_response(listed, headers=call.links(history.count(sha)))

    def _get_commit(self, call: _Call) -> Response:
        ref = call.parameters["ref"]
        sha = self._resolve(call, ref)
        if sha is None:
            raise _Refused(422, f"No commit found for SHA: {ref}")
        if "application/vnd.github.sha" in call.request.headers.get("accept", ""):
            content_type = {"Content-Type": "application/vnd.github.sha; charset=utf-8"}
            return Response(200, sha.encode(), content_type)
        commit = self._history(call).commit(sha)
        return json_response(documents.commit_document(call.api, call.repository.name, commit))

    def _resolve(self, call: _Call, ref: str) -> str | None:
        name = call.repository.default_branch if ref == "HEAD" else ref
        return self._history(call).resolve(name)

    def _ends(self, pull: PullRequest) -> tuple[PullRequest, Repository, Repository]:
        head = self._repository(pull.head_repository or pull.repository)
        return pull, self._repository(pull.repository), head

    def _get_pull(self, call: _Call) -> Response:
        number = call.number("pull_number")
        pull = self._states[call.repository.id].pulls.get(number)
        if pull is None:
            raise _Refused(404, _NOT_FOUND)
        comments = len(self.comments(number, call.repository.name))
        return json_response(documents.pull_document(call.api, *self._ends(pull), comments))

    def _list_pulls(self, call: _Call) -> Response:
        query = call.request.query
        for name in ("sort", "direction"):
            if name in query:
                raise AssertionError(f"pull requests by {name} are not here")
        pulls = [
            pull
            for pull in self._states[call.repository.id].pulls.values()
            if query.get("state", "open") in ("all", pull.state)
            and query.get("base", pull.base_ref) == pull.base_ref
        ]
        head = query.get("head", "")
        if ":" in head:  # GitHub takes no notice of a name without an owner.
            pulls = [
                pull for pull in pulls if head == f"{self._ends(pull)[2].owner}:{pull.head_ref}"
            ]
        pulls.sort(key=lambda pull: pull.number, reverse=True)
        return self._pull_list(call, pulls)

    def _pulls_of(self, call: _Call) -> Response:
        name = call.parameters["commit_sha"]
        history = self._states[call.repository.id].history
        sha = (history and self._resolve(call, name)) or name
        every = [pull for state in self._states.values() for pull in state.pulls.values()]
        containing = [
            pull
            for pull in every
            if sha in (pull.head_sha, pull.merge_commit_sha)
            or (history and self._brings(history, pull, sha))
        ]
        if history and not history.resolve(sha) and not containing:
            raise _Refused(422, f"No commit found for SHA: {name}")
        default = history and self._resolve(call, "HEAD")
        if history and default and history.resolve(sha) and history.contains(default, sha):
            here = [
                pull
                for pull in containing
                if pull.merged and self._ends(pull)[1].id == call.repository.id
            ]
        else:
            # A commit of a fork is no commit of this repository until it is merged.
            here = [
                pull
                for pull in containing
                if (pull.merged or pull.state == "open")
                and (
                    self._ends(pull)[2].id == call.repository.id
                    or (pull.merged and self._ends(pull)[1].id == call.repository.id)
                )
            ]
        return self._pull_list(call, here)

    def _brings(self, history: History, pull: PullRequest, sha: str) -> bool:
        """Whether a commit is one that a pull request adds to its base."""
        known = [history.resolve(one) for one in (pull.head_sha, pull.base_sha, sha)]
        if None in known:
            return False
        head, base, commit = map(str, known)
        return history.contains(head, commit) and not history.contains(base, commit)

    def _pull_list(self, call: _Call, pulls: Sequence[PullRequest]) -> Response:
        listed = [documents.pull_document(call.api, *self._ends(pull)) for pull in call.cut(pulls)]
        return json_response(listed, headers=call.links(len(pulls)))

    def _list_comments(self, call: _Call) -> Response:
        number = self._issue(call)
        since = call.request.query.get("since", "")
        comments = [
            comment
            for comment in self.comments(number, call.repository.name)
            if documents.time(comment.updated_at) >= since
        ]
        listed = [
            documents.comment_document(call.api, call.repository.name, comment)
            for comment in call.cut(comments)
        ]
        return json_response(listed, headers=call.links(len(comments)))

    def _create_comment(self, call: _Call) -> Response:
        number = self._issue(call)
        body = _comment_body(call)
        comment = self.add_comment(
            number, body, user=call.token.login, repository=call.repository.name
        )
        document = documents.comment_document(call.api, call.repository.name, comment)
        return json_response(document, 201, {"Location": document["url"]})

    def _get_comment(self, call: _Call) -> Response:
        comment = self._comment(call)
        return json_response(documents.comment_document(call.api, call.repository.name, comment))

    def _edit_comment(self, call: _Call) -> Response:
        old = self._comment(call)
        new = replace(old, body=_comment_body(call), updated_at=documents.now())
        comments = self._states[call.repository.id].comments
        comments[comments.index(old)] = new
        return json_response(documents.comment_document(call.api, call.repository.name, new))

    def _delete_comment(self, call: _Call) -> Response:
        self._states[call.repository.id].comments.remove(self._comment(call))
        return Response(204)

    def _issue(self, call: _Call) -> int:
        number = call.number("issue_number")
        if number not in self._states[call.repository.id].pulls:
            raise _Refused(404, _NOT_FOUND)
        return number

    def _comment(self, call: _Call) -> Comment:
        for comment in self._states[call.repository.id].comments:
            if comment.id == call.number("comment_id"):
                return comment
        raise _Refused(404, _NOT_FOUND)


_HEADERS = {
    "X-GitHub-Media-Type": "github.v3; format=json",
    "X-GitHub-Request-Id": "0400:1F42:2A",
    "X-RateLimit-Limit": "5000",
    "X-RateLimit-Remaining": "4999",
    "X-RateLimit-Used": "1",
    "X-RateLimit-Reset": "4102444800",
    "X-RateLimit-Resource": "core",
}


def zip_files(files: Mapping[str, str | bytes]) -> bytes:
    """Make an archive; the same files make the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _header_problems(request: Request) -> list[str]:
    problems = [] if request.headers.get("user-agent") else ["it has no User-Agent header"]
    version = request.headers.get("x-github-api-version")
    if version is not None and version not in _VERSIONS:
        problems.append(f"there is no version {version!r} of the API")
    return problems


def _comment_body(call: _Call) -> str:
    try:
        message = json.loads(call.request.body)
    except ValueError:
        raise _Refused(400, "Problems parsing JSON") from None
    if not isinstance(message, dict) or "body" not in message:
        raise _Refused(422, 'Invalid request.\n\n"body" wasn\'t supplied.')
    body = message["body"]
    if not isinstance(body, str):
        raise _Refused(422, f"Invalid request.\n\nFor 'properties/body', {body} is not a string.")
    error = {"resource": "IssueComment", "code": "unprocessable", "field": "data"}
    if not body.strip():
        error["message"] = "Body cannot be blank"
        raise _Refused(422, "Validation Failed", [error])
    if len(body) > LONGEST_COMMENT:
        error["message"] = f"Body is too long (maximum is {LONGEST_COMMENT} characters)"
        raise _Refused(422, "Validation Failed", [error])
    return body
