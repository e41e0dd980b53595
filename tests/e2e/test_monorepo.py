"""Two dbt projects in folders of one repository: each has its own state, wherever states live.

`tea/` is the tea shop, `coffee/` is a smaller one with a profile and a warehouse of its own. As the
action does, everything runs from the top of the repository, with project-dir.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from ci_defer.bundle import unpack
from tests.e2e.conftest import ONE_VERSION
from tests.e2e.shop import Ran, Shop, names, outputs, production
from tests.e2e.shop_files import FILES
from tests.harness.github import FakeGitHub, PullRequest, Run
from tests.samples import content

pytestmark = pytest.mark.dbt

TOKEN = "ghs_aVeryLongTokenThatMustNotLeakAnywhere"
IGNORED = FILES[".gitignore"]
CHANGED = {"roasted", "espressos"}
COFFEE = {
    "dbt_project.yml": """\
name: coffee
version: "1.0"
profile: coffee
flags:
  send_anonymous_usage_stats: false
models:
  +materialized: table
""",
    "profiles.yml": """\
coffee:
  target: prod
  outputs:
    prod: {type: duckdb, path: coffee.duckdb, schema: analytics, threads: 2}
    ci: {type: duckdb, path: coffee.duckdb, schema: ci_pr, threads: 2}
""",
    "models/beans.sql": "select 1 as bean_id, 'arabica' as kind\n",
    "models/roasted.sql": "select bean_id, kind from {{ ref('beans') }}\n",
    "models/espressos.sql": "select count(*) as espressos from {{ ref('roasted') }}\n",
    "models/cups.sql": "select 1 as cup_id\n",
}


@dataclass(frozen=True)
class Part(Shop):
    """One dbt project of the repository."""

    folder: str = ""

    @property
    def project(self) -> Path:
        return self.root / "repository" / self.folder


@dataclass(frozen=True)
class Finished:
    """What a command says, and what it tells its workflow."""

    ran: Ran
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Monorepo:
    """The repository, and where its states live: artifacts, or one directory for both."""

    top: Shop
    github: FakeGitHub
    state: str

    def part(self, folder: str) -> Part:
        return Part(self.top.root, self.top.dbt, self.top.environ, folder)

    def onboard(self, folder: str, **settings: str) -> Finished:
        """A push to main; what the last step of the action uploads is uploaded."""
        event = {"GITHUB_EVENT_NAME": "push", "GITHUB_REF_NAME": "main"}
        finished = self._run(folder, "onboard", **event, CI_DEFER_TARGET="prod", **settings)
        assert finished.ran.exit_code == 0, finished.ran.output
        if self.state == "artifact":
            commit = self.top.git("rev-parse", "HEAD")
            run = self.github.add_run(Run(100 + len(self.github.artifacts), head_sha=commit))
            files = content(Path(finished.outputs["artifact-path"]))
            self.github.add_artifact(finished.outputs["artifact-name"], dict(files), run.id)
        return finished

    def defer(self, folder: str, **settings: str) -> Finished:
        """The pull request."""
        event = {"GITHUB_EVENT_NAME": "pull_request", "GITHUB_BASE_REF": "main"}
        finished = self._run(folder, "defer", **event, CI_DEFER_TARGET="ci", **settings)
        assert "Traceback" not in finished.ran.ours, finished.ran.output
        report = self.part(folder).report()
        assert finished.outputs["outcome"] == report["outcome"]
        assert report["project_dir"] == folder
        reported = self.part(folder).target / "ci-defer" / "report.json"
        assert (self.top.project / finished.outputs["report"]).samefile(reported)
        return finished

    def location(self, folder: str) -> str:
        """The store of one project, as messages name it."""
        name = {"tea": "shop", "coffee": "coffee"}[folder]
        is_artifact = self.state == "artifact"
        return f"artifact ci-defer-state-{name}" if is_artifact else f"{self.state}/{name}"

    def change_coffee(self) -> str:
        """A pull request that changes one model of coffee; returns the commit that it is based on.

        What it selects is `CHANGED`.
        """
        base = self.top.git("rev-parse", "HEAD")
        self.top.branch("darker-roast")
        self.part("coffee").replace("models/roasted.sql", "kind from", "upper(kind) as kind from")
        head = self.top.commit("Roast it darker")
        self.github.add_pull(PullRequest(7, head, "darker-roast", base))
        return base

    def _run(self, folder: str, *arguments: str, **environ: str) -> Finished:
        """Run ci-defer in a workflow run."""
        file = self.top.root / "outputs"
        temporary = self.top.root / "runner-temp"
        temporary.mkdir(exist_ok=True)
        shop = self.top.with_environ(
            GITHUB_ACTIONS="true",
            GITHUB_API_URL=self.github.url,
            GITHUB_OUTPUT=str(file),
            GITHUB_REPOSITORY="acme/shop",
            RUNNER_TEMP=str(temporary),
            CI_DEFER_GITHUB_TOKEN=TOKEN,
            CI_DEFER_PROJECT_DIR=folder,
            CI_DEFER_STATE=self.state,
            **environ,
        )
        ran = shop.ci_defer(*arguments)
        assert TOKEN not in ran.output
        return Finished(ran, outputs(file))


@pytest.fixture(scope="module")
def built(
    shared_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    quick_dbt: Callable[[str], Path],
) -> Shop:
    """Both projects after production's own runs, with nothing published. To be copied."""
    shop = Shop(production(shared_folder, ONE_VERSION), quick_dbt(ONE_VERSION))
    made = shop.copy(tmp_path_factory.mktemp("monorepo") / "shop")
    shutil.move(made.project, made.root / "tea")
    tea = Part(made.root, made.dbt, folder="tea")
    coffee = dataclasses.replace(tea, folder="coffee")
    made.project.mkdir()
    shutil.move(made.root / "tea", tea.project)
    shutil.rmtree(tea.project / ".git")
    # What production's run left in the target path: it was moved into the store.
    for name, published in shop.bundle().items():
        shutil.copyfile(published, tea.target / name)
    (tea.target / "state.json").unlink()
    shutil.rmtree(made.store)
    for path, text in {**COFFEE, ".gitignore": IGNORED}.items():
        coffee.write(path, text)
    ran = coffee.build_production()
    assert ran.exit_code == 0, ran.output
    made.git("init", "--quiet", "--initial-branch", "main")
    made.commit("Tea and coffee")
    return made


@pytest.fixture
def artifacts(built: Shop, tmp_path: Path) -> Iterator[Monorepo]:
    """States are artifacts."""
    copy = built.copy(tmp_path / "shop")
    with FakeGitHub() as github:
        github.serve_git(copy.project)
        yield Monorepo(copy, github, "artifact")
        assert github.violations == []


@pytest.fixture(params=["artifact", "directory"])
def monorepo(artifacts: Monorepo, request: pytest.FixtureRequest) -> Monorepo:
    """States are artifacts, or in one directory."""
    if request.param == "artifact":
        return artifacts
    return dataclasses.replace(artifacts, state=str(artifacts.top.store))


def test_each_project__is_compared_with_its_own_state(monorepo: Monorepo) -> None:
    published = {folder: monorepo.onboard(folder) for folder in ("tea", "coffee")}
    base = monorepo.change_coffee()

    tea = monorepo.defer("tea", CI_DEFER_IF_NO_STATE="fail")
    coffee = monorepo.defer("coffee", CI_DEFER_IF_NO_STATE="fail")

    assert tea.ran.exit_code == coffee.ran.exit_code == 0, tea.ran.output + coffee.ran.output
    assert (tea.outputs["outcome"], tea.outputs["selected-count"]) == ("no-changes", "0")
    assert (coffee.outputs["outcome"], coffee.outputs["selected-count"]) == ("success", "2")
    report = monorepo.part("coffee").report()
    assert names(report["nodes"]) == CHANGED
    assert names(report["deferred"]) == {"beans"}
    for folder, defer in (("tea", tea), ("coffee", coffee)):
        assert defer.outputs["state-source"] == monorepo.location(folder)
        assert published[folder].outputs["state-source"] == monorepo.location(folder)
        assert defer.outputs["state-commit"] == base
        assert defer.outputs["state-age-commits"] == "0"
    # The warehouse of the other one is left alone.
    assert not (monorepo.part("tea").project / "coffee.duckdb").exists()
    assert not (monorepo.top.project / "coffee.duckdb").exists()


def test_artifacts__have_names_of_their_own(artifacts: Monorepo) -> None:
    tea, coffee = (artifacts.onboard(folder).outputs for folder in ("tea", "coffee"))

    assert tea["artifact-name"] == "ci-defer-state-shop"
    assert coffee["artifact-name"] == "ci-defer-state-coffee"
    assert tea["artifact-path"] != coffee["artifact-path"]
    for one, project_name in ((tea, "shop"), (coffee, "coffee")):
        bundle = unpack(Path(one["artifact-path"]), project_name=project_name)
        assert bundle.provenance is not None
        assert bundle.provenance.project == project_name
        assert bundle.run_results is not None


def test_project_key__names_the_state_in_place_of_dbts_own_name(artifacts: Monorepo) -> None:
    artifacts.onboard("coffee", CI_DEFER_PROJECT="espresso-bar")
    artifacts.change_coffee()

    without = artifacts.defer("coffee", CI_DEFER_IF_NO_STATE="fail")
    key = {"CI_DEFER_PROJECT": "espresso-bar", "CI_DEFER_IF_NO_STATE": "fail"}
    with_key = artifacts.defer("coffee", **key, CI_DEFER_SELECT="cups,state:modified")

    assert without.outputs["outcome"] == "no-state"
    assert with_key.outputs["outcome"] == "no-changes"
    assert with_key.outputs["state-source"] == "artifact ci-defer-state-espresso-bar"


def test_state__of_the_other_project_is_none(monorepo: Monorepo) -> None:
    monorepo.onboard("tea")
    monorepo.change_coffee()

    finished = monorepo.defer("coffee", CI_DEFER_IF_NO_STATE="fail")

    assert finished.ran.exit_code == 3, finished.ran.output
    assert finished.outputs["outcome"] == "no-state"
    (error,) = finished.ran.errors
    said = f"{monorepo.location('coffee')} holds no production state yet."
    assert error.startswith(f"::error title=ci-defer::{said}")
    assert monorepo.location("tea") not in finished.ran.output
    assert monorepo.part("coffee").report()["commands"] == []
    # The one that was published serves its own project all the same.
    tea = monorepo.defer("tea", CI_DEFER_IF_NO_STATE="fail")
    assert (tea.ran.exit_code, tea.outputs["outcome"]) == (0, "no-changes"), tea.ran.output


def test_projects_of_one_name__do_not_take_each_others_state(artifacts: Monorepo) -> None:
    for path, text in COFFEE.items():
        artifacts.part("kiosk").write(path, text)
    artifacts.top.commit("A second coffee")
    artifacts.onboard("coffee")
    artifacts.top.branch("feature")
    artifacts.top.commit("Nothing of dbt's")

    kiosk = artifacts.defer("kiosk", CI_DEFER_IF_NO_STATE="fail")
    coffee = artifacts.defer("coffee", CI_DEFER_IF_NO_STATE="fail")

    assert kiosk.ran.exit_code == 3, kiosk.ran.output
    assert kiosk.outputs["outcome"] == "no-state"
    (passed_over,) = artifacts.part("kiosk").report()["passed_over"]
    assert "in the folder coffee, and this one is in kiosk" in passed_over["reason"]
    assert coffee.outputs["outcome"] == "no-changes", coffee.ran.output


def test_reparse__of_a_project_in_a_folder(artifacts: Monorepo) -> None:
    base = artifacts.change_coffee()
    worktrees = artifacts.top.git("worktree", "list")

    finished = artifacts.defer(
        "coffee", CI_DEFER_IF_NO_STATE="reparse", CI_DEFER_PRODUCTION_TARGET="prod"
    )

    assert finished.ran.exit_code == 0, finished.ran.output
    assert finished.outputs["outcome"] == "success"
    assert finished.outputs["state-commit"] == base
    report = artifacts.part("coffee").report()
    assert report["state"]["reparsed"] is True
    assert names(report["nodes"]) == CHANGED
    assert names(report["deferred"]) == {"beans"}
    assert artifacts.top.git("worktree", "list") == worktrees
    assert artifacts.top.git("status", "--porcelain") == ""
