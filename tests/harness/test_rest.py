"""Tests of `rest`, `faults` and `openapi`: what the fake answers, refuses, and reports."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import github as pygithub
import pytest
import requests

from tests.harness.consumer import commit, git, make_consumer
from tests.harness.documents import now
from tests.harness.github import (
    BOT,
    LONGEST_COMMENT,
    Artifact,
    FakeGitHub,
    PullRequest,
    Run,
)
from tests.harness.openapi import DESCRIPTION, SLICE
from tests.harness.web import Request, Response

TOKEN = "ghs_0123456789abcdefghijklmnopqrstuvwxyz"
SHOP = "/repos/acme/shop"
ARTIFACTS = f"{SHOP}/actions/artifacts"
RUNS = f"{SHOP}/actions/runs"
COMMENTS = f"{SHOP}/issues/7/comments"
ZIP = r"/repos/.*/zip"
SHA = "5" * 40
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def fake() -> Iterator[FakeGitHub]:
    """Each test that breaks a rule on purpose empties the list of violations."""
    with FakeGitHub() as github:
        yield github
    assert github.violations == []
    assert github.pending_faults == []


@pytest.fixture
def violating(fake: FakeGitHub) -> Iterator[list[str]]:
    """The violations, in a test that is about them."""
    yield fake.violations
    fake.violations.clear()


def call(
    fake: FakeGitHub, method: str, path: str, token: str = TOKEN, **arguments: Any
) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}", **arguments.pop("headers", {})}
    return requests.request(
        method,
        fake.url + path,
        headers=headers,
        timeout=10,
        allow_redirects=arguments.pop("allow_redirects", False),
        **arguments,
    )


def get(fake: FakeGitHub, path: str, **arguments: Any) -> requests.Response:
    return call(fake, "GET", path, **arguments)


def message(response: requests.Response) -> str:
    document = response.json()
    assert document["status"] == str(response.status_code)
    assert document["documentation_url"].startswith("https://docs.github.com/")
    return str(document["message"])


def publish(fake: FakeGitHub, **facts: Any) -> Artifact:
    fake.add_run(Run(1, head_sha=SHA))
    return fake.add_artifact("state", {"manifest.json": "{}"}, 1, **facts)


@contextmanager
def pygithub_repository(fake: FakeGitHub, token: str = TOKEN) -> Iterator[Any]:
    """With the throttle and the retries off, so that a test takes no time."""
    with pygithub.Github(
        auth=pygithub.Auth.Token(token),
        base_url=fake.url,
        seconds_between_requests=0,
        seconds_between_writes=0,
        retry=None,
        lazy=True,
    ) as client:
        yield client.get_repo("acme/shop")


# Artifacts


def test_artifacts_are_listed_with_their_run_and_downloaded_from_another_host(
    fake: FakeGitHub,
) -> None:
    artifact = publish(fake)
    fake.add_run(Run(2, repository="acme/shop", head_repository="fork/shop", head_branch="main"))
    fake.add_artifact("state", {"manifest.json": "fork"}, 2)
    listed = get(fake, ARTIFACTS, params={"name": "state", "per_page": 100})
    assert listed.status_code == 200
    assert "Link" not in listed.headers
    document = listed.json()
    assert document["total_count"] == 2
    from_fork, own = document["artifacts"]
    assert own["workflow_run"] == {
        "id": 1,
        "repository_id": own["workflow_run"]["head_repository_id"],
        "head_repository_id": own["workflow_run"]["repository_id"],
        "head_branch": "main",
        "head_sha": SHA,
    }
    assert from_fork["workflow_run"]["repository_id"] == own["workflow_run"]["repository_id"]
    assert from_fork["workflow_run"]["head_repository_id"] != own["workflow_run"]["repository_id"]
    assert own["id"] == artifact.id
    assert own["digest"] == artifact.digest
    assert own["size_in_bytes"] == len(artifact.zip)
    assert own["expired"] is False
    assert own["url"] == f"{fake.url}{ARTIFACTS}/{artifact.id}"
    assert get(fake, f"{ARTIFACTS}/{artifact.id}").json() == own

    redirect = get(fake, f"{ARTIFACTS}/{artifact.id}/zip")
    assert redirect.status_code == 302
    location = redirect.headers["Location"]
    assert location.startswith(f"http://localhost:{fake.port}/blob/")
    # `requests` follows, and leaves the token behind.
    response = get(fake, f"{ARTIFACTS}/{artifact.id}/zip", allow_redirects=True)
    assert response.url == location
    assert response.headers["Content-Type"] == "application/zip"
    assert f"sha256:{hashlib.sha256(response.content).hexdigest()}" == artifact.digest
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.read("manifest.json") == b"{}"
    assert [record.authorized for record in fake.requests[-2:]] == [True, False]


def upload(fake: FakeGitHub, run_id: int, name: str, content: bytes) -> int:
    """What a runner does, in as few requests as can be; the official client: `test_harness`."""
    token = fake.runtime_token(run_id)
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    run, job = claims["scp"].split(":")[1:]
    ids = {"workflow_run_backend_id": run, "workflow_job_run_backend_id": job, "name": name}

    def operation(of: str, **fields: Any) -> Any:
        path = f"/twirp/github.actions.results.api.v1.ArtifactService/{of}"
        return call(fake, "POST", path, token=token, json={**ids, **fields}).json()

    url = operation("CreateArtifact", version=7)["signed_upload_url"]
    requests.put(f"{url}&comp=block&blockid=YQ%3D%3D", content, timeout=10)
    blocks = "<BlockList><Latest>YQ==</Latest></BlockList>"
    requests.put(f"{url}&comp=blocklist", blocks, timeout=10)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return int(operation("FinalizeArtifact", size=str(len(content)), hash=digest)["artifact_id"])


def test_what_a_runner_uploads_is_listed_with_the_facts_of_its_run(fake: FakeGitHub) -> None:
    fake.add_run(Run(42, head_sha=SHA, event="schedule"))
    identifier = upload(fake, 42, "state", b"an archive")
    [found] = get(fake, ARTIFACTS, params={"name": "state"}).json()["artifacts"]
    assert found["id"] == identifier
    assert (found["workflow_run"]["id"], found["workflow_run"]["head_sha"]) == (42, SHA)
    zip_url = found["archive_download_url"].removeprefix(fake.url)
    downloaded = get(fake, zip_url, allow_redirects=True)
    assert downloaded.content == b"an archive"
    assert get(fake, f"{SHOP}/actions/runs/42").json()["event"] == "schedule"
    # Faults are for the runner's side as well.
    fake.fail_next("POST", "/twirp/.*/CreateArtifact", status=500)
    with pytest.raises(KeyError):
        upload(fake, 42, "other", b"zip")


def test_the_blob_store_refuses_a_token(fake: FakeGitHub, violating: list[str]) -> None:
    artifact = publish(fake)
    location = get(fake, f"{ARTIFACTS}/{artifact.id}/zip").headers["Location"]
    answer = requests.get(location, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10)
    assert answer.status_code == 400
    assert fake.requests[-1].authorized
    assert violating == [f"GET {fake.requests[-1].path}: it has an Authorization header"]


def test_the_blob_is_on_another_host_whichever_the_client_uses(fake: FakeGitHub) -> None:
    artifact = publish(fake)
    url = f"http://localhost:{fake.port}{ARTIFACTS}/{artifact.id}"
    headers = {"Authorization": f"token {TOKEN}"}
    found = requests.get(url, headers=headers, timeout=10)
    assert found.json()["url"] == url
    redirect = requests.get(f"{url}/zip", headers=headers, timeout=10, allow_redirects=False)
    assert redirect.headers["Location"].startswith(f"http://127.0.0.1:{fake.port}/blob/")


def test_expired_deleted_and_unknown_artifacts(fake: FakeGitHub) -> None:
    expired = publish(fake, expired=True)
    assert get(fake, f"{ARTIFACTS}/{expired.id}").json()["expired"] is True
    gone = get(fake, f"{ARTIFACTS}/{expired.id}/zip")
    assert (gone.status_code, message(gone)) == (410, "Artifact has expired")
    deleted = fake.add_artifact("state", b"anything", 1, digest="sha256:" + "0" * 64)
    location = get(fake, f"{ARTIFACTS}/{deleted.id}/zip").headers["Location"]
    fake.delete_artifact(deleted)
    for path in (f"{ARTIFACTS}/{deleted.id}/zip", f"{ARTIFACTS}/5", "/repos/acme/other"):
        missing = get(fake, path)
        assert (missing.status_code, message(missing)) == (404, "Not Found")
    assert requests.get(location, timeout=10).status_code == 404
    assert get(fake, ARTIFACTS).json()["total_count"] == 1


def test_a_thousand_artifacts_are_ten_pages(fake: FakeGitHub) -> None:
    start = now() - timedelta(days=30)
    for number in range(1000):
        fake.add_run(Run(number, head_sha=f"{number:040x}"))
        created_at = start + timedelta(minutes=number)
        fake.add_artifact("state", b"zip", number, created_at=created_at)
        fake.add_artifact("other", b"zip", number, created_at=created_at)
    pages = [get(fake, ARTIFACTS, params={"name": "state", "per_page": 100})]
    while "next" in pages[-1].links:
        pages.append(get(fake, pages[-1].links["next"]["url"].removeprefix(fake.url)))
    assert {page.json()["total_count"] for page in pages} == {1000}
    artifacts = [one for page in pages for one in page.json()["artifacts"]]
    shas = [one["workflow_run"]["head_sha"] for one in artifacts]
    assert shas == [f"{number:040x}" for number in reversed(range(1000))]
    assert len(fake.requests) == 10
    assert fake.requests[1].path.startswith("/repositories/")
    assert fake.requests[-1].query == {"name": "state", "per_page": "100", "page": "10"}
    assert set(pages[-1].links) == {"prev", "first"}
    # What is asked beyond a limit is cut, without a word.
    assert len(get(fake, ARTIFACTS, params={"per_page": 500}).json()["artifacts"]) == 100
    assert len(get(fake, ARTIFACTS).json()["artifacts"]) == 30
    beyond = get(fake, ARTIFACTS, params={"per_page": 100, "page": 21})
    assert beyond.json()["artifacts"] == []


def test_artifacts_of_a_run__are_its_own_newest_first_by_name_and_over_pages(
    fake: FakeGitHub,
) -> None:
    fake.add_repository("acme/shop", private=True)
    fake.add_repository("acme/other")
    for run in (Run(1), Run(2), Run(3), Run(4, repository="acme/other")):
        fake.add_run(run)
    start = now() - timedelta(days=1)
    for number in range(105):
        created_at = start + timedelta(minutes=number)
        fake.add_artifact(f"report-{number % 2}", b"zip", 1, created_at=created_at)
    fake.add_artifact("report-1", b"zip", 2)
    path = f"{RUNS}/1/artifacts"
    pages = [get(fake, path, params={"per_page": 100})]
    pages.append(get(fake, pages[0].links["next"]["url"].removeprefix(fake.url)))
    assert {page.json()["total_count"] for page in pages} == {105}
    listed = [one for page in pages for one in page.json()["artifacts"]]
    assert [one["name"] for one in listed] == [f"report-{n % 2}" for n in reversed(range(105))]
    assert {one["workflow_run"]["id"] for one in listed} == {1}
    named = get(fake, path, params={"name": "report-1", "per_page": 5}).json()
    assert (named["total_count"], len(named["artifacts"])) == (52, 5)
    assert {one["name"] for one in named["artifacts"]} == {"report-1"}
    # Without artifacts, of another repository, of none.
    assert get(fake, f"{RUNS}/3/artifacts").json() == {"total_count": 0, "artifacts": []}
    assert get(fake, f"{RUNS}/4/artifacts").status_code == 404
    assert get(fake, f"{RUNS}/5/artifacts").status_code == 404
    fake.add_token("comments", permissions={"pull-requests": "write"})
    assert get(fake, path, token="comments").status_code == 403
    fake.fail_next("GET", path, status=502)
    assert get(fake, path).status_code == 502


def test_artifacts_of_a_run__with_pygithub(fake: FakeGitHub) -> None:
    fake.add_run(Run(1))
    fake.add_artifact("report", b"zip", 1)
    with pygithub_repository(fake) as repository:
        [found] = repository.get_workflow_run(1).get_artifacts()
        assert (found.name, found.workflow_run.id) == ("report", 1)


def test_an_artifact_of_a_run_that_nobody_registered_is_a_mistake_of_the_test(
    fake: FakeGitHub, violating: list[str]
) -> None:
    fake.add_artifact("state", b"zip", 99)
    assert get(fake, ARTIFACTS).status_code == 400
    assert "run 99 has artifacts: add_run(Run(...))" in violating[0]


def test_a_run(fake: FakeGitHub, tmp_path: Path) -> None:
    repository = make_consumer(tmp_path / "shop", {"a.sql": "select 1"})
    sha = git(repository, "rev-parse", "HEAD")
    fake.serve_git(repository)
    fake.add_pull(PullRequest(7))
    fake.add_run(
        Run(
            42,
            event="pull_request",
            head_branch="feature",
            head_sha=sha,
            head_repository="fork/shop",
            run_attempt=2,
            pull_requests=(7,),
        )
    )
    run = get(fake, f"{SHOP}/actions/runs/42").json()
    facts = ("event", "head_branch", "head_sha", "status", "conclusion", "path", "run_attempt")
    assert {name: run[name] for name in facts} == {
        "event": "pull_request",
        "head_branch": "feature",
        "head_sha": sha,
        "status": "completed",
        "conclusion": "success",
        "path": ".github/workflows/dbt.yml",
        "run_attempt": 2,
    }
    assert run["repository"]["full_name"] == "acme/shop"
    assert run["head_repository"]["full_name"] == "fork/shop"
    assert run["head_repository"]["fork"] is True
    assert run["head_commit"]["message"] == "Initial commit"
    assert [pull["number"] for pull in run["pull_requests"]] == [7]
    without = get(fake, f"{SHOP}/actions/runs/42", params={"exclude_pull_requests": "true"})
    assert without.json()["pull_requests"] == []
    assert get(fake, f"{SHOP}/actions/runs/43").status_code == 404
    fake.add_run(Run(44, status="in_progress", conclusion=None, head_sha=SHA))
    running = get(fake, f"{SHOP}/actions/runs/44").json()
    assert (running["status"], running["conclusion"]) == ("in_progress", None)
    assert running["head_commit"] is None


def test_the_event_of_a_finished_run_names_where_its_head_is(fake: FakeGitHub) -> None:
    run = fake.add_run(
        Run(42, event="pull_request", head_branch="feature", head_repository="fork/shop")
    )
    payload = fake.workflow_run_event(run)
    assert (payload["action"], payload["repository"]["full_name"]) == ("completed", "acme/shop")
    assert payload["repository"]["default_branch"] == "main"
    finished = payload["workflow_run"]
    assert finished["head_repository"]["owner"]["login"] == "fork"
    asked = get(fake, f"{SHOP}/actions/runs/42").json()
    facts = ("id", "event", "head_branch", "head_sha", "conclusion", "pull_requests")
    assert [finished[name] for name in facts] == [asked[name] for name in facts]


def run_ids(response: requests.Response) -> list[int]:
    assert response.status_code == 200
    return [run["id"] for run in response.json()["workflow_runs"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [5, 2, 4, 3, 1]),
        ({"head_sha": SHA}, [5, 3, 1]),
        ({"event": "push"}, [5, 2, 1]),
        ({"branch": "main"}, [5, 2, 4, 1]),
        ({"status": "queued"}, [5]),
        ({"status": "in_progress"}, [2]),
        ({"status": "completed"}, [4, 3, 1]),
        ({"status": "success"}, [3, 1]),
        ({"status": "failure"}, [4]),
        ({"head_sha": SHA, "event": "push", "branch": "main", "status": "completed"}, [1]),
        ({"head_sha": SHA[:7]}, []),
    ],
)
def test_runs__are_listed_newest_first_by_what_is_asked(
    fake: FakeGitHub, query: dict[str, str], expected: list[int]
) -> None:
    start = now() - timedelta(days=1)
    fake.add_repository("acme/other")
    for minutes, run in enumerate(
        (
            Run(1, head_sha=SHA),
            Run(3, head_sha=SHA, event="pull_request", head_branch="feature"),
            Run(4, event="schedule", conclusion="failure"),
            Run(2, status="in_progress", conclusion=None),
            Run(5, head_sha=SHA, status="queued", conclusion=None),
            Run(6, head_sha=SHA, repository="acme/other"),
        )
    ):
        fake.add_run(replace(run, created_at=start + timedelta(minutes=minutes)))
    listed = get(fake, RUNS, params=query)
    assert run_ids(listed) == expected
    assert listed.json()["total_count"] == len(expected)
    for run in listed.json()["workflow_runs"]:
        assert get(fake, f"{RUNS}/{run['id']}").json() == run


def test_runs__pages_and_permission(fake: FakeGitHub) -> None:
    fake.add_repository("acme/shop", private=True)
    fake.add_token("comments", permissions={"pull-requests": "write"})
    fake.add_token("runs", permissions={"actions": "read"})
    for number in range(45):
        fake.add_run(Run(number, head_sha=SHA))
    fake.add_run(Run(99, event="schedule"))
    first = get(fake, RUNS, params={"event": "push"}, token="runs")
    second = get(fake, first.links["next"]["url"].removeprefix(fake.url), token="runs")
    assert run_ids(first) + run_ids(second) == list(reversed(range(45)))
    assert fake.requests[-1].query == {"event": "push", "page": "2"}
    assert set(second.links) == {"prev", "first"}
    assert second.json()["total_count"] == 45
    one = get(fake, RUNS, params={"per_page": 1, "page": 46}, token="runs")
    assert run_ids(one) == [0]
    denied = get(fake, RUNS, token="comments")
    assert denied.status_code == 403
    assert denied.headers["X-Accepted-GitHub-Permissions"] == "actions=read"


def test_runs__a_status_that_there_is_not_is_a_violation(
    fake: FakeGitHub, violating: list[str]
) -> None:
    fake.add_run(Run(1))
    assert run_ids(get(fake, RUNS, params={"status": "done"})) == []
    assert "'done' is not one of ['completed', 'action_required'" in violating[0]


def test_runs__with_pygithub(fake: FakeGitHub) -> None:
    for number in range(35):
        fake.add_run(Run(number, head_sha=SHA))
    with pygithub_repository(fake) as repository:
        runs = list(repository.get_workflow_runs(head_sha=SHA, event="push"))
        assert [run.id for run in runs] == list(reversed(range(35)))
        assert {(run.status, run.conclusion) for run in runs} == {("completed", "success")}


# History


@pytest.fixture
def history(fake: FakeGitHub, tmp_path: Path) -> dict[str, str]:
    """Commits by name: a, b and c on main; x and y on feature/x, which leaves main at a."""
    repository = make_consumer(tmp_path / "shop", {"a.sql": "select 1"})
    commits = {"a": git(repository, "rev-parse", "HEAD")}
    git(repository, "checkout", "--quiet", "-b", "feature/x")
    commits["x"] = commit(repository, {"x.sql": "select 1"}, "Add x")
    commits["y"] = commit(repository, {"y.sql": "select 1"}, "Add y\n\nWith a reason")
    git(repository, "tag", "v1")
    git(repository, "checkout", "--quiet", "main")
    commits["b"] = commit(repository, {"b.sql": "select 1"}, "Add b")
    commits["c"] = commit(repository, {"c.sql": "select 1"}, "Add c")
    git(repository, "checkout", "--quiet", "--orphan", "unrelated")
    commits["z"] = commit(repository, {"z.sql": "select 1"}, "Begin again")
    fake.serve_git(repository)
    return commits


def shas(commits: Any) -> list[str]:
    return [one["sha"] for one in commits]


def test_comparing(fake: FakeGitHub, history: dict[str, str]) -> None:
    found = get(fake, f"{SHOP}/compare/main...feature/x").json()
    assert found["status"] == "diverged"
    assert (found["ahead_by"], found["behind_by"], found["total_commits"]) == (2, 2, 2)
    assert found["merge_base_commit"]["sha"] == history["a"]
    assert found["base_commit"]["sha"] == history["c"]
    assert shas(found["commits"]) == [history["x"], history["y"]]
    assert found["commits"][1]["commit"]["message"] == "Add y\n\nWith a reason"
    assert shas(found["commits"][1]["parents"]) == [history["x"]]
    for basehead, status in (
        (f"{history['a']}...{history['c']}", "ahead"),
        (f"{history['c'][:10]}...{history['a'][:10]}", "behind"),
        ("main...main", "identical"),
        ("acme:main...acme:v1", "diverged"),
    ):
        assert get(fake, f"{SHOP}/compare/{basehead}").json()["status"] == status
    second = get(fake, f"{SHOP}/compare/main...v1", params={"per_page": 1, "page": 2})
    assert shas(second.json()["commits"]) == [history["y"]]
    assert set(second.links) == {"prev", "first"}
    for basehead, text in (
        ("main...nothing", "Not Found"),
        ("main..v1", "Not Found"),
        ("main...unrelated", "No common ancestor between main and unrelated."),
    ):
        missing = get(fake, f"{SHOP}/compare/{basehead}")
        assert (missing.status_code, message(missing)) == (404, text)


def test_commits(fake: FakeGitHub, history: dict[str, str]) -> None:
    assert shas(get(fake, f"{SHOP}/commits").json()) == [history[name] for name in "cba"]
    page = get(fake, f"{SHOP}/commits", params={"sha": "feature/x", "per_page": 2})
    assert shas(page.json()) == [history["y"], history["x"]]
    assert set(page.links) == {"next", "last"}
    rest = call(fake, "GET", page.links["next"]["url"].removeprefix(fake.url))
    assert shas(rest.json()) == [history["a"]]
    assert get(fake, f"{SHOP}/commits", params={"sha": "nothing"}).status_code == 404
    for ref in ("feature/x", "heads/feature%2Fx", "tags/v1", history["y"][:8]):
        assert get(fake, f"{SHOP}/commits/{ref}").json()["sha"] == history["y"]
    short = {"Accept": "application/vnd.github.sha"}
    assert get(fake, f"{SHOP}/commits/HEAD", headers=short).text == history["c"]
    unknown = get(fake, f"{SHOP}/commits/{'0' * 40}")
    assert unknown.status_code == 422
    assert message(unknown) == f"No commit found for SHA: {'0' * 40}"


def test_a_branch_that_is_only_tracked_is_not_found(
    fake: FakeGitHub, history: dict[str, str], tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", "--branch=main", str(tmp_path / "shop"), "clone")
    fake.serve_git(tmp_path / "clone")
    assert get(fake, f"{SHOP}/commits/main").json()["sha"] == history["c"]
    assert get(fake, f"{SHOP}/commits/feature/x").status_code == 422
    assert get(fake, f"{SHOP}/commits/origin/feature/x").status_code == 422


# Repositories and pull requests


def test_a_repository(fake: FakeGitHub) -> None:
    fake.add_repository("acme/shop", default_branch="trunk", private=True)
    document = get(fake, "/repos/Acme/Shop").json()
    assert document["full_name"] == "acme/shop"
    assert (document["default_branch"], document["private"]) == ("trunk", True)
    assert document["url"] == f"{fake.url}/repos/acme/shop"
    assert get(fake, f"/repositories/{document['id']}").json() == document
    # A GitHub Enterprise Server, whose API has a prefix.
    enterprise = get(fake, "/api/v3/repos/acme/shop").json()
    assert enterprise["url"] == f"{fake.url}/api/v3/repos/acme/shop"


def test_pull_requests_by_number_by_head_and_by_commit(
    fake: FakeGitHub, history: dict[str, str]
) -> None:
    fake.add_pull(
        PullRequest(7, head_ref="feature/x", head_sha=history["y"], base_sha=history["a"])
    )
    fake.add_pull(
        PullRequest(8, head_ref="main", head_sha=SHA, head_repository="fork/shop", body="Hello")
    )
    merged = PullRequest(5, state="closed", merged=True, merge_commit_sha=history["c"])
    fake.add_pull(merged)
    fake.add_pull(PullRequest(6, head_sha="3" * 40, state="closed"))
    pull = get(fake, f"{SHOP}/pulls/7").json()
    assert (pull["head"]["sha"], pull["head"]["repo"]["full_name"]) == (
        history["y"],
        "acme/shop",
    )
    assert (pull["base"]["ref"], pull["base"]["sha"]) == ("main", history["a"])
    assert pull["comments"] == 0
    assert get(fake, f"{SHOP}/pulls/9").status_code == 404
    closed = get(fake, f"{SHOP}/pulls/5").json()
    assert (closed["merged"], closed["merge_commit_sha"]) == (True, history["c"])

    def numbers(path: str, **query: str) -> list[int]:
        return [one["number"] for one in get(fake, path, params=query).json()]

    assert numbers(f"{SHOP}/pulls") == [8, 7]
    assert numbers(f"{SHOP}/pulls", state="all") == [8, 7, 6, 5]
    assert numbers(f"{SHOP}/pulls", head="fork:main") == [8]
    assert numbers(f"{SHOP}/pulls", head="acme:main") == []
    assert numbers(f"{SHOP}/pulls", head="main") == [8, 7]
    assert numbers(f"{SHOP}/pulls", base="release") == []
    assert numbers(f"{SHOP}/commits/{history['x']}/pulls") == [7]
    assert numbers(f"{SHOP}/commits/feature/x/pulls") == [7]
    assert numbers(f"{SHOP}/commits/{history['c']}/pulls") == [5]
    assert numbers(f"{SHOP}/commits/{history['b']}/pulls") == []
    # The fork knows what its commit is for; the base repository does not.
    assert numbers(f"{SHOP}/commits/{SHA}/pulls") == []
    assert numbers(f"/repos/fork/shop/commits/{SHA}/pulls") == [8]
    assert numbers(f"{SHOP}/commits/{'3' * 40}/pulls") == []
    assert get(fake, f"{SHOP}/commits/{'9' * 40}/pulls").status_code == 422


# Comments


def test_comments_over_pages(fake: FakeGitHub) -> None:
    fake.add_pull(PullRequest(7))
    fake.add_pull(PullRequest(8))
    for number in range(205):
        fake.add_comment(7, f"comment {number}", user="monalisa")
    fake.add_comment(8, "elsewhere")
    created = call(fake, "POST", COMMENTS, json={"body": "Hello"})
    assert created.status_code == 201
    document = created.json()
    assert created.headers["Location"] == document["url"]
    assert (document["user"]["login"], document["user"]["type"]) == (BOT, "Bot")
    bodies: list[str] = []
    for page in (1, 2, 3):
        found = get(fake, COMMENTS, params={"per_page": 100, "page": page})
        bodies += [one["body"] for one in found.json()]
    assert bodies == [*(f"comment {number}" for number in range(205)), "Hello"]
    edited = call(fake, "PATCH", f"{SHOP}/issues/comments/{document['id']}", json={"body": "New"})
    assert edited.status_code == 200
    assert get(fake, f"{SHOP}/issues/comments/{document['id']}").json() == edited.json()
    assert fake.comments(7)[-1].body == "New"
    gone = call(fake, "DELETE", f"{SHOP}/issues/comments/{document['id']}")
    assert (gone.status_code, gone.content) == (204, b"")
    again = call(fake, "PATCH", f"{SHOP}/issues/comments/{document['id']}", json={"body": "x"})
    assert again.status_code == 404
    assert len(fake.comments(7)) == 205
    assert get(fake, f"{SHOP}/pulls/7").json()["comments"] == 205
    assert call(fake, "POST", f"{SHOP}/issues/9/comments", json={"body": "x"}).status_code == 404
    later = {"since": "2999-01-01T00:00:00Z"}
    assert get(fake, COMMENTS, params=later).json() == []


def test_the_limit_of_a_comment(fake: FakeGitHub) -> None:
    fake.add_pull(PullRequest(7))
    # Characters, not bytes and not UTF-16 units.
    longest = "\N{BAR CHART}" * LONGEST_COMMENT
    created = call(fake, "POST", COMMENTS, json={"body": longest})
    assert created.status_code == 201
    url = f"{SHOP}/issues/comments/{created.json()['id']}"
    for refused in (
        call(fake, "POST", COMMENTS, json={"body": longest + "x"}),
        call(fake, "PATCH", url, json={"body": longest + "x"}),
    ):
        assert (refused.status_code, message(refused)) == (422, "Validation Failed")
        assert refused.json()["errors"] == [
            {
                "resource": "IssueComment",
                "code": "unprocessable",
                "field": "data",
                "message": "Body is too long (maximum is 65536 characters)",
            }
        ]
    assert call(fake, "POST", COMMENTS, json={"body": " \n"}).status_code == 422
    assert [comment.body for comment in fake.comments(7)] == [longest]


def test_comments_with_pygithub(fake: FakeGitHub) -> None:
    fake.add_pull(PullRequest(7))
    for number in range(40):
        fake.add_comment(7, f"comment {number}", user="monalisa")
    with pygithub_repository(fake) as repository:
        issue = repository.get_issue(7)
        mine = issue.create_comment("first")
        mine.edit("second")
        assert mine.body == "second"
        found = list(issue.get_comments())
        assert [one.body for one in found][-2:] == ["comment 39", "second"]
        assert (found[-1].id, found[-1].user.login) == (mine.id, BOT)
        assert repository.get_pull(7).get_issue_comment(mine.id).body == "second"
        with pytest.raises(pygithub.GithubException) as caught:
            issue.create_comment("x" * (LONGEST_COMMENT + 1))
        assert caught.value.status == 422
        assert list(repository.get_commit(SHA).get_pulls()) == []
        assert repository.default_branch == "main"
        mine.delete()
    assert len(fake.comments(7)) == 40
    fake.add_token("ghs_read_only", read_only=True)
    with pygithub_repository(fake, "ghs_read_only") as repository:
        with pytest.raises(pygithub.GithubException) as caught:
            repository.get_issue(7).create_comment("x")
        assert caught.value.status == 403
        assert caught.value.message == "Resource not accessible by integration"


def test_pygithub_lists_artifacts_and_compares(fake: FakeGitHub, history: dict[str, str]) -> None:
    for number in range(35):
        fake.add_run(Run(number, head_sha=history["a"]))
        fake.add_artifact("state", b"zip", number)
    with pygithub_repository(fake) as repository:
        artifacts = list(repository.get_artifacts(name="state"))
        assert [one.workflow_run.id for one in artifacts] == list(reversed(range(35)))
        assert repository.get_workflow_run(3).event == "push"
        assert repository.compare("main", "feature/x").merge_base_commit.sha == history["a"]


# Tokens


def test_who_may_do_what(fake: FakeGitHub) -> None:
    fake.add_pull(PullRequest(7))
    fake.add_token("read-only", read_only=True)
    fake.add_token("comments", permissions={"pull-requests": "write"})
    fake.add_token("person", user="monalisa")
    fake.add_token("revoked", revoked=True)
    publish(fake)

    def outcome(method: str, path: str, token: str = TOKEN, **more: Any) -> tuple[int, str]:
        response = call(fake, method, path, token=token, **more)
        text = message(response) if response.status_code >= 400 else ""
        return response.status_code, text

    denied = (403, "Resource not accessible by integration")
    comment = {"json": {"body": "Hello"}}
    assert outcome("POST", COMMENTS, "read-only", **comment) == denied
    assert outcome("POST", COMMENTS, "comments", **comment) == (201, "")
    assert outcome("POST", COMMENTS, "person", **comment) == (201, "")
    [by_app, by_person] = fake.comments(7)
    assert (by_app.user, by_person.user) == (BOT, "monalisa")
    url = f"{SHOP}/issues/comments/{by_app.id}"
    assert outcome("PATCH", url, "read-only", **comment) == denied
    assert outcome("GET", COMMENTS, "read-only") == (200, "")
    assert outcome("GET", ARTIFACTS, "comments") == (200, "")
    fake.add_repository("acme/shop", private=True)
    assert outcome("GET", ARTIFACTS, "comments") == denied
    assert outcome("GET", ARTIFACTS, "read-only") == (200, "")
    assert outcome("GET", "/user") == denied
    assert get(fake, "/user", token="person").json()["login"] == "monalisa"
    assert outcome("GET", SHOP, "revoked") == (401, "Bad credentials")
    for headers in ({}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer "}):
        answer = requests.get(fake.url + SHOP, headers=headers, timeout=10)
        assert (answer.status_code, message(answer)) == (401, "Requires authentication")
    refused = call(fake, "POST", COMMENTS, token="read-only", **comment)
    needed = "issues=write; pull_requests=write"
    assert refused.headers["X-Accepted-GitHub-Permissions"] == needed


VIEWER = {"query": "query { viewer { login } }"}


@pytest.mark.parametrize(
    ("token", "login"),
    [
        ({}, BOT),
        ({"read_only": True}, BOT),
        ({"app": "shop-ci"}, "shop-ci[bot]"),
        ({"user": "monalisa"}, "monalisa"),
    ],
)
def test_graphql__says_who_writes_the_comments_of_a_token(
    fake: FakeGitHub, token: dict[str, Any], login: str
) -> None:
    fake.add_pull(PullRequest(7))
    fake.add_token("asking", **token)
    answer = call(fake, "POST", "/graphql", token="asking", json=VIEWER)
    assert (answer.status_code, answer.json()) == (200, {"data": {"viewer": {"login": login}}})
    # GitHub Enterprise Server.
    assert call(fake, "POST", "/api/graphql", token="asking", json=VIEWER).json() == answer.json()
    if "read_only" not in token:
        made = call(fake, "POST", COMMENTS, token="asking", json={"body": "Hello"})
        assert made.json()["user"]["login"] == login
        assert [comment.user for comment in fake.comments(7)] == [login]


def test_graphql__a_token_that_is_none_and_faults(fake: FakeGitHub) -> None:
    fake.add_token("revoked", revoked=True)
    refused = call(fake, "POST", "/graphql", token="revoked", json=VIEWER)
    assert (refused.status_code, message(refused)) == (401, "Bad credentials")
    fake.fail_next("POST", "/graphql", status=502)
    fake.limit_next("POST", "/graphql", status=429, retry_after=3)
    answers = [call(fake, "POST", "/graphql", json=VIEWER).status_code for _ in range(3)]
    assert answers == [502, 429, 200]
    fake.drop_next("POST", "/graphql")
    with pytest.raises(requests.exceptions.ConnectionError):
        call(fake, "POST", "/graphql", json=VIEWER)


@pytest.mark.parametrize(
    "arguments",
    [
        {"json": {"query": "query { viewer { email } }"}},
        {"json": {"query": "mutation { x }"}},
        {"json": {**VIEWER, "variables": {}}},
        {"json": [VIEWER]},
        {"json": {"query": 1}},
        {"data": "{"},
    ],
)
def test_graphql__any_other_query_is_a_violation(
    fake: FakeGitHub, violating: list[str], arguments: dict[str, Any]
) -> None:
    answer = call(fake, "POST", "/graphql", **arguments)
    assert "data" not in answer.json()
    [found] = violating
    assert "not the one query that is answered here" in found


# The description


@pytest.mark.parametrize(
    ("request_", "status", "violation"),
    [
        (("GET", ARTIFACTS, {"params": {"branch": "main"}}), 200, "no query parameter 'branch'"),
        (
            ("GET", ARTIFACTS, {"params": {"per_page": "many"}}),
            200,
            "Query parameter error: per_page",
        ),
        (("GET", f"{ARTIFACTS}/latest", {}), 404, "Path parameter error: artifact_id"),
        (("GET", ARTIFACTS, {"json": {"name": "state"}}), 200, "it has a body"),
        (("GET", SHOP, {"headers": {"X-GitHub-Api-Version": "2"}}), 200, "no version '2'"),
        (("GET", SHOP, {"headers": {"User-Agent": ""}}), 200, "no User-Agent"),
        (("POST", COMMENTS, {"json": {"text": "Hello"}}), 422, "'body' is a required property"),
        (("POST", COMMENTS, {"json": {"body": 5}}), 422, "5 is not of type 'string'"),
        (("POST", COMMENTS, {"json": {"body": "Hello", "in": 1}}), 201, "'in' was unexpected"),
        (("POST", COMMENTS, {"data": "body=Hello"}), 400, "mimetype not found"),
        (("POST", COMMENTS, {"data": "{", "headers": JSON}), 400, "Failed to deserialize"),
        (("PUT", COMMENTS, {"json": {}}), 404, "no such route"),
        (("GET", f"{SHOP}/branches", {}), 404, "no such route"),
    ],
)
def test_a_request_that_the_description_does_not_know_is_a_violation(
    fake: FakeGitHub,
    violating: list[str],
    request_: tuple[str, str, dict[str, Any]],
    status: int,
    violation: str,
) -> None:
    fake.add_pull(PullRequest(7))
    method, path, arguments = request_
    assert call(fake, method, path, **arguments).status_code == status
    [found] = violating
    assert found.startswith(f"{method} {path}: ")
    assert violation in found


def test_an_answer_that_the_description_does_not_know_is_reported() -> None:
    request = Request("GET", COMMENTS, {}, {}, b"", "http://127.0.0.1:1")
    template = "/repos/{owner}/{repo}/issues/{issue_number}/comments"
    parameters = {"owner": "acme", "repo": "shop", "issue_number": "7"}

    def problems(body: object, status: int = 200) -> str:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        response = Response(status, json.dumps(body).encode(), headers)
        return "; ".join(DESCRIPTION.response_problems(template, parameters, request, response))

    assert problems([]) == ""
    assert "is not of type 'array'" in problems({})
    assert "'node_id' is a required property" in problems([{"id": 1}])
    assert "status 418 is not documented" in problems({}, 418)
    error = {"message": "No", "documentation_url": "https://docs.github.com", "status": "403"}
    assert problems(error, 403) == ""
    assert "says status '403'" in problems(error, 404)
    assert "an error without message" in problems({"error": "No"}, 404)


def test_the_slice_names_its_source_and_license() -> None:
    document = json.loads(SLICE.read_text("utf-8"))
    source = document["x-source"]
    assert source["package"] == "@octokit/openapi"
    assert source["version"] == document["info"]["version"] == "23.0.2"
    assert source["license"].startswith("MIT License Copyright (c) 2020 Octokit contributors")
    assert len(SLICE.read_bytes()) < 100_000


# Faults


def test_failing_for_a_while(fake: FakeGitHub) -> None:
    artifact = publish(fake)
    fake.fail_next("GET", ZIP, status=500, times=2)
    fake.fail_next("GET", ZIP, status=502, message="Bad gateway", headers={"X-Other": "yes"})
    url = f"{ARTIFACTS}/{artifact.id}/zip"
    assert get(fake, ARTIFACTS).status_code == 200
    answers = [get(fake, url) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [500, 500, 502, 302]
    assert message(answers[0]) == "Server Error"
    assert (message(answers[2]), answers[2].headers["X-Other"]) == ("Bad gateway", "yes")
    assert [record.status for record in fake.requests] == [200, 500, 500, 502, 302]


def test_a_failing_request_does_nothing_and_is_validated(
    fake: FakeGitHub, violating: list[str]
) -> None:
    fake.add_pull(PullRequest(7))
    fake.fail_next("POST", COMMENTS, status=503)
    assert call(fake, "POST", COMMENTS, json={}).status_code == 503
    assert fake.comments(7) == []
    assert "'body' is a required property" in violating[0]


def test_a_failing_request_that_was_done_all_the_same(fake: FakeGitHub) -> None:
    fake.add_pull(PullRequest(7))
    fake.fail_next("POST", COMMENTS, status=502, done=True)
    assert call(fake, "POST", COMMENTS, json={"body": "Hello"}).status_code == 502
    assert [comment.body for comment in fake.comments(7)] == ["Hello"]


def test_rate_limits(fake: FakeGitHub) -> None:
    fake.limit_next("GET", SHOP, status=429, retry_after=3)
    fake.limit_next("GET", SHOP, status=403, retry_after=0)
    fake.limit_next("GET", SHOP, status=403)
    fake.limit_next("GET", SHOP, status=403, reset_at=1_800_000_000)
    limited, forbidden, silent, primary, fine = (get(fake, SHOP) for _ in range(5))
    assert (limited.status_code, limited.headers["Retry-After"]) == (429, "3")
    assert message(limited).startswith("You have exceeded a secondary rate limit.")
    assert (forbidden.status_code, forbidden.headers["Retry-After"]) == (403, "0")
    assert silent.headers["X-RateLimit-Remaining"] != "0"
    assert "Retry-After" not in silent.headers
    assert message(primary).startswith("API rate limit exceeded")
    assert primary.headers["X-RateLimit-Remaining"] == "0"
    assert primary.headers["X-RateLimit-Reset"] == "1800000000"
    assert fine.status_code == 200


def test_a_download_that_is_cut_corrupted_or_replaced(fake: FakeGitHub) -> None:
    content = bytes(range(256)) * 400
    fake.add_run(Run(1))
    artifact = fake.add_artifact("state", content, 1)
    url = get(fake, f"{ARTIFACTS}/{artifact.id}/zip").headers["Location"]
    fake.cut_next("GET", "/blob/.*", after=1000)
    with requests.get(url, timeout=10, stream=True) as response:
        assert response.headers["Content-Length"] == str(len(content))
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            response.content  # noqa: B018 - reading it is the test
    fake.corrupt_next("GET", "/blob/.*")
    corrupted = requests.get(url, timeout=10).content
    assert len(corrupted) == len(content)
    assert sum(one != other for one, other in zip(corrupted, content, strict=True)) == 1
    fake.replace_next("GET", "/blob/.*", body=b"other")
    assert requests.get(url, timeout=10).content == b"other"
    assert requests.get(url, timeout=10).content == content


def test_no_answer_at_all(fake: FakeGitHub) -> None:
    fake.add_pull(PullRequest(7))
    fake.drop_next("POST", COMMENTS)
    with pytest.raises(requests.exceptions.ConnectionError):
        call(fake, "POST", COMMENTS, json={"body": "Hello"})
    # It was done all the same, as it may be with GitHub.
    assert [comment.body for comment in fake.comments(7)] == ["Hello"]


@pytest.mark.parametrize("after", [None, 0, 5])
def test_a_slow_answer_holds_up_nobody_else(fake: FakeGitHub, after: int | None) -> None:
    release = threading.Event()
    fake.hold_next("GET", SHOP, until=release, after=after)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(get, fake, SHOP)
        while not fake.requests:
            time.sleep(0.001)
        assert get(fake, SHOP).status_code == 200
        assert not slow.done()
        release.set()
        assert slow.result(timeout=10).json()["full_name"] == "acme/shop"


def test_a_client_that_gives_up(fake: FakeGitHub) -> None:
    release = threading.Event()
    fake.hold_next("GET", SHOP, until=release)
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(
            fake.url + SHOP, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=(5, 0.05)
        )
    release.set()
    assert get(fake, SHOP).status_code == 200


def test_what_happens_between_two_requests(fake: FakeGitHub) -> None:
    artifact = publish(fake)
    fake.on_next("GET", ZIP, lambda: fake.delete_artifact(artifact))
    [listed] = get(fake, ARTIFACTS).json()["artifacts"]
    assert get(fake, f"{ARTIFACTS}/{listed['id']}/zip").status_code == 404
    assert get(fake, ARTIFACTS).json()["total_count"] == 0
    fake.add_pull(PullRequest(7))
    fake.on_next("POST", COMMENTS, lambda: fake.add_comment(7, "another job's"))
    assert call(fake, "POST", COMMENTS, json={"body": "ours"}).status_code == 201
    assert [comment.body for comment in fake.comments(7)] == ["another job's", "ours"]


def test_digests_and_redirects_that_lead_astray(fake: FakeGitHub) -> None:
    wrong = publish(fake, digest="sha256:" + "0" * 64)
    none = fake.add_artifact("old", b"zip", 1, digest=None)
    listed = get(fake, ARTIFACTS).json()["artifacts"]
    assert {one["name"]: one["digest"] for one in listed} == {
        "state": "sha256:" + "0" * 64,
        "old": None,
    }
    fake.redirect_next("GET", ZIP, to="http://blobs.invalid/zip")
    answer = get(fake, f"{ARTIFACTS}/{wrong.id}/zip")
    assert (answer.status_code, answer.headers["Location"]) == (302, "http://blobs.invalid/zip")
    assert get(fake, f"{ARTIFACTS}/{none.id}/zip").status_code == 302


def test_faults_that_nobody_met_are_told(fake: FakeGitHub) -> None:
    fake.fail_next("GET", SHOP, times=2)
    get(fake, SHOP)
    assert fake.pending_faults == [f"GET {SHOP} x1"]
    get(fake, SHOP)
    with pytest.raises(ValueError, match="times is 0"):
        fake.fail_next("GET", SHOP, times=0)
