"""The demo's project with the README's workflows, for runs of the action with act.

What most of these runs are not about is there already when they start: production's warehouse, the
environment that the action installs, and a dbt that starts quickly.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.once import made_once
from tests.environments import CACHE, DBT_VERSIONS, ROOT, clean_environ, dbt_bin, network
from tests.harness.act import ActRun, run_act
from tests.harness.consumer import commit, git, make_consumer
from tests.harness.github import FakeGitHub, PullRequest, Run

DEMO = ROOT / "src" / "ci_defer" / "demo_project"
WORKFLOW = re.compile(r"<!-- workflow: (?P<name>[\w.-]+) -->\n```yaml\n(?P<text>.*?)```", re.DOTALL)

PUSH: dict[str, Any] = {
    "ref": "refs/heads/main",
    "repository": {"full_name": "acme/shop", "default_branch": "main"},
}
PULL_REQUEST = 7
WAREHOUSE = "warehouse.duckdb"


@dataclass(frozen=True)
class Provision:
    """What all shops of a session use.

    `action` and `standin` are what act finds, `quick_dbt` the folder of a dbt that starts quickly,
    and `shared` is for what is made when it is asked for.
    """

    action: Path
    standin: Path
    quick_dbt: Callable[[str], Path]
    shared: Path

    def warehouse(self) -> Path:
        """The warehouse as production left it. One for all versions of dbt: relations are SQL."""
        return made_once(self.shared / "demo-production", self._build_production) / WAREHOUSE

    def _build_production(self, folder: Path) -> None:
        """Production's own run of the demo's project."""
        project = folder / "project"
        shutil.copytree(DEMO / "main", project)
        subprocess.run(
            [self.quick_dbt(DBT_VERSIONS[-1]) / "dbt", "--quiet", "build", "--target", "prod"],
            cwd=project,
            env=clean_environ(folder) | {"DEMO_WAREHOUSE": str(folder / WAREHOUSE)},
            check=True,
        )

    def installation(self) -> Path:
        """A RUNNER_TEMP after the action's own installation."""
        return made_once(self.shared / "installation", self._install)

    def _install(self, temporary: Path) -> None:
        # As in a run: python3 on PATH may be a script that needs our home directory.
        programs = (CACHE / "uv" / "bin", Path(sys.base_prefix, "bin"))
        environ = {**clean_environ(temporary, *programs), **_network()}
        subprocess.run(
            ["bash", self.action / "action" / "install.sh"],
            env={**environ, "RUNNER_TEMP": str(temporary)},
            check=True,
        )


class Shop:
    """A repository with the demo's project and the README's workflows, and where its state is."""

    def __init__(self, directory: Path, github: FakeGitHub, provision: Provision) -> None:
        self.directory = directory
        self.github = github
        self.run_id = 4000
        # What a step before ours has left in the environment, such as a login.
        self.variables: dict[str, str] = {}
        self._provision = provision
        self._temporary: Path | None = None
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
        """Put a dbt on the PATH: one that starts quickly, for runs that are not about that."""
        self._link_dbt(self._provision.quick_dbt(version))

    def use_plain_dbt(self, version: str) -> None:
        """Put a dbt on the PATH that is started as everybody starts it."""
        self._link_dbt(dbt_bin(version))

    def _link_dbt(self, folder: Path) -> None:
        (self.programs / "dbt").unlink(missing_ok=True)
        (self.programs / "dbt").symlink_to(folder / "dbt")

    def use_empty_runner(self) -> None:
        """Let the next run find nothing installed, and those after it what it has installed."""
        self._temporary = self.directory / "runner-temp"
        self._temporary.mkdir()

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

    def build_production(self) -> None:
        """The warehouse as a job outside of the workflow would build it."""
        shutil.copyfile(self._provision.warehouse(), self.environ["DEMO_WAREHOUSE"])

    @property
    def environ(self) -> dict[str, str]:
        return {"DEMO_WAREHOUSE": str(self.directory / WAREHOUSE), **self.variables}

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
        return {
            "action": self._provision.action,
            "standin": self._provision.standin,
            "consumer": self.repository,
            "work": self.directory / "work",
            "path_prepend": [self.programs],
            "env": {**_network(), **self.environ, "RUNNER_TEMP": str(self._runner_temp())},
            "workflow": workflow,
            "run_id": self.run_id,
            "github": self.github,
        }

    def _runner_temp(self) -> Path:
        """The RUNNER_TEMP of the next run: as after an earlier step that used the action."""
        if self._temporary is not None:
            return self._temporary
        temporary = self.directory / f"runner-temp-{self.run_id}"
        (temporary / "ci-defer").mkdir(parents=True)
        own = Path("ci-defer", "own")
        (temporary / own).symlink_to(self._provision.installation() / own)
        return temporary


def _network() -> dict[str, str]:
    """What an installation needs of this machine."""
    return {**network(), "UV_CACHE_DIR": str(CACHE / "uv-cache")}


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
