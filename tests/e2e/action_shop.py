"""The demo's project with the README's workflows, for runs of the action with act."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.environments import CACHE, ROOT, clean_environ, dbt_bin
from tests.harness.act import ActRun, run_act
from tests.harness.consumer import commit, git, make_consumer
from tests.harness.github import FakeGitHub, PullRequest, Run

DEMO = ROOT / "src" / "ci_defer" / "demo_project"
WORKFLOW = re.compile(r"<!-- workflow: (?P<name>[\w.-]+) -->\n```yaml\n(?P<text>.*?)```", re.DOTALL)

# What a machine behind a proxy needs to reach its package index; nothing else of ours gets in.
NETWORK = re.compile(
    r"(SSL_CERT_|REQUESTS_CA_|PIP_CERT|PIP_INDEX|UV_(DEFAULT_)?INDEX|HTTPS?_PROXY)", re.IGNORECASE
)

PUSH: dict[str, Any] = {
    "ref": "refs/heads/main",
    "repository": {"full_name": "acme/shop", "default_branch": "main"},
}
PULL_REQUEST = 7


class Shop:
    """A repository with the demo's project and the README's workflows, and where its state is."""

    def __init__(self, directory: Path, github: FakeGitHub, action: Path, standin: Path) -> None:
        self.directory = directory
        self.github = github
        self.run_id = 4000
        self._run = {"action": action, "standin": standin}
        # Only these two programs: a whole environment would bring its python3 along.
        self.programs = directory / "programs"
        self.programs.mkdir()
        (self.programs / "uv").symlink_to(CACHE / "uv" / "bin" / "uv")
        files = {
            str(path.relative_to(DEMO / "main")): path.read_text(encoding="utf-8")
            for path in sorted((DEMO / "main").rglob("*"))
            if path.is_file()
        }
        self.repository = make_consumer(directory / "shop", files)

    def use_dbt(self, version: str) -> None:
        (self.programs / "dbt").symlink_to(dbt_bin(version) / "dbt")

    def use_workflows(self, **inputs: str) -> None:
        """Commit the README's workflows, with inputs of ci-defer replaced or added.

        The third one, which only comments, has none of them.
        """
        files = {}
        for match in WORKFLOW.finditer(README):
            text = match["text"].replace("org/ci-defer@v1", "acme/ci-defer@v1")
            for name, value in inputs.items() if "with:" in text.partition("acme/")[2] else ():
                key = name.replace("_", "-")
                text = re.sub(rf"\n *{key}: .*", "", text).rstrip("\n")
                text += f"\n          {key}: {json.dumps(value)}\n"
            files[f".github/workflows/{match['name']}"] = text
        commit(self.repository, files, "Use ci-defer")

    def build_production(self, version: str) -> None:
        """Build the warehouse as a job outside of the workflow would."""
        environ = clean_environ(self.directory, dbt_bin(version)) | self.environ
        status = os.spawnve(
            os.P_WAIT,
            str(dbt_bin(version) / "dbt"),
            ["dbt", "--quiet", "build", "--target", "prod", "--project-dir", str(self.repository),
             "--profiles-dir", str(self.repository)],
            environ,
        )  # fmt: skip
        assert status == 0
        shutil.rmtree(self.repository / "target")

    @property
    def environ(self) -> dict[str, str]:
        return {"DEMO_WAREHOUSE": str(self.directory / "warehouse.duckdb")}

    def push(self) -> ActRun:
        """Run the first workflow for what is checked out, as production's run on main."""
        self.run_id += 1
        head = git(self.repository, "rev-parse", "HEAD")
        production = Run(id=self.run_id, event="push", head_branch="main", head_sha=head)
        self.github.add_run(production)
        return run_act("push", PUSH, **self.arguments("dbt-production.yml"))

    def pull_request(self, files: Mapping[str, str], **arguments: Any) -> ActRun:
        payload = self.open_pull_request(files)
        return self.run_pull_request(payload, **arguments)

    def run_pull_request(self, payload: Mapping[str, Any], **arguments: Any) -> ActRun:
        """Run the second workflow; what `arguments` can be is said by `run_act`."""
        self.start_run(payload)
        common = self.arguments("dbt-pull-request.yml")
        return run_act("pull_request", payload, **{**common, **arguments})

    def start_run(self, payload: Mapping[str, Any]) -> Run:
        """The next run, which GitHub knows of, for the head of a pull request."""
        self.run_id += 1
        head = payload["pull_request"]["head"]
        return self.github.add_run(
            Run(
                id=self.run_id,
                event="pull_request",
                head_branch=head["ref"],
                head_sha=head["sha"],
                head_repository=head["repo"]["full_name"],
                path=".github/workflows/dbt-pull-request.yml",
                name="dbt pull request",
            )
        )

    def open_pull_request(
        self, files: Mapping[str, str], *, head_repository: str = "acme/shop"
    ) -> dict[str, Any]:
        """Commit `files` on a branch and check out the merge commit that GitHub makes of it."""
        git(self.repository, "branch", "change", "main")
        return self.update_pull_request(files, head_repository=head_repository)

    def update_pull_request(
        self, files: Mapping[str, str], *, head_repository: str = "acme/shop"
    ) -> dict[str, Any]:
        """Push one more commit to the pull request."""
        base = git(self.repository, "rev-parse", "main")
        git(self.repository, "switch", "--quiet", "change")
        head = commit(self.repository, files, "Change")
        git(self.repository, "checkout", "--quiet", "--detach", base)
        git(self.repository, "merge", "--quiet", "--no-ff", "--message", "Merge", head)
        self.github.add_pull(
            PullRequest(
                PULL_REQUEST,
                head_ref="change",
                head_sha=head,
                head_repository=head_repository,
                base_sha=base,
            )
        )
        return {
            "action": "synchronize",
            "number": PULL_REQUEST,
            "pull_request": {
                "number": PULL_REQUEST,
                "head": {"ref": "change", "sha": head, "repo": {"full_name": head_repository}},
                "base": {"ref": "main", "sha": base},
            },
            "repository": {"full_name": "acme/shop", "default_branch": "main"},
        }

    def comment_for(self, finished: Run) -> ActRun:
        """Run the third workflow, which GitHub starts when a run has finished."""
        self.run_id += 1
        self.github.add_run(Run(id=self.run_id, event="workflow_run"))
        payload = self.github.workflow_run_event(finished)
        return run_act("workflow_run", payload, **self.arguments("dbt-comment.yml"))

    def arguments(self, workflow: str) -> dict[str, Any]:
        network = {name: value for name, value in os.environ.items() if NETWORK.match(name)}
        env = {**network, **self.environ, "UV_CACHE_DIR": str(CACHE / "uv-cache")}
        return {
            "consumer": self.repository,
            "work": self.directory / "work",
            "path_prepend": [self.programs],
            "env": env,
            "workflow": workflow,
            "run_id": self.run_id,
            "github": self.github,
            **self._run,
        }


README = (ROOT / "README.md").read_text(encoding="utf-8")


def pull_request_files() -> dict[str, str]:
    changed = DEMO / "pull-request"
    return {
        str(path.relative_to(changed)): path.read_text(encoding="utf-8")
        for path in changed.rglob("*")
        if path.is_file()
    }


def outputs_of(run: ActRun) -> dict[str, str]:
    """The outputs of the action: it is the second step of either workflow."""
    return dict(run.step_outputs("1"))


def summary_of(run: ActRun) -> str:
    return "\n".join(run.summaries)
