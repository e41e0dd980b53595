"""Production's state in the Altimate registry: the tea shop with real dbt, and the action with act.

The registry has the latest manifest and no commit. So the comparison is with the base commit, which
is parsed again, and production's relations are those of the registry's manifest.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.action_shop import Shop as ActionShop
from tests.e2e.action_shop import outputs_of, pull_request_files, summary_of
from tests.e2e.conftest import ONE_VERSION
from tests.e2e.shop import Ran, Shop, names, node, outputs
from tests.environments import dbt_bin
from tests.harness.consumer import git
from tests.harness.registry import OBJECTS, FakeRegistry, Ingestion

pytestmark = pytest.mark.dbt

TOKEN = "key-of-acme-that-must-not-leak-anywhere"
TOTALS = "models/marts/customer_totals.sql"
LOCATION = "Altimate registry, integration shop"
FETCH = "/dbt/v1/fetch_artifact_url"
DEFER = ("defer", "--target", "ci", "--production-target", "prod")
ONBOARD = ("onboard", "--target", "prod")


@dataclasses.dataclass(frozen=True)
class Place:
    """The shop in a step on Actions whose state is in the registry."""

    shop: Shop
    fake: FakeRegistry
    folder: Path

    def run(self, *arguments: str, **environ: str) -> Ran:
        """Run ci-defer, and check what holds for every run."""
        for name in ("output", "summary"):
            (self.folder / name).unlink(missing_ok=True)
        ran = self.shop.with_environ(**environ).ci_defer(*arguments)
        assert "Traceback" not in ran.ours, ran.output
        assert self.fake.violations == []
        assert self.fake.pending_faults == []
        written = [self.shop.target, self.shop.project / "logs", self.folder]
        files = [file for path in written for file in path.rglob("*") if file.is_file()]
        texts = [ran.output, *(file.read_bytes().decode(errors="replace") for file in files)]
        for secret in (*self.fake.secrets, "X-Amz-Signature"):
            assert not any(secret in text for text in texts)
        return ran

    def defer(self, *arguments: str, **environ: str) -> Ran:
        return self.run(*DEFER, *arguments, **environ)

    def onboard(self) -> None:
        """With a dbt that reads its environment when it starts, as a quick one has done before."""
        plain = dataclasses.replace(self, shop=self.shop.with_dbt(dbt_bin(ONE_VERSION)))
        ran = plain.run(*ONBOARD)
        assert ran.exit_code == 0, ran.output
        # Nobody is compared with what is in the registry, so nothing is made for that.
        assert ran.output.count("+ dbt parse") <= 1

    def onboard_a_build(self) -> None:
        """Onboard what production's own run wrote."""
        self.shop.target.mkdir(exist_ok=True)
        for name, path in self.shop.bundle().items():
            if name != "state.json":
                shutil.copyfile(path, self.shop.target / name)
        self.onboard()

    @property
    def outputs(self) -> dict[str, str]:
        return outputs(self.folder / "output")

    @property
    def summary(self) -> str:
        return (self.folder / "summary").read_text(encoding="utf-8")


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        fake.add_integration(7, "shop")
        fake.add_token(TOKEN, "acme")
        yield fake


@pytest.fixture
def place(one_shop: Shop, fake: FakeRegistry, tmp_path: Path) -> Place:
    folder = tmp_path / "step"
    folder.mkdir()
    shop = one_shop.with_environ(
        GITHUB_ACTIONS="true",
        GITHUB_OUTPUT=str(folder / "output"),
        GITHUB_STEP_SUMMARY=str(folder / "summary"),
        ALTIMATE_API_KEY=TOKEN,
        ALTIMATE_INSTANCE_NAME="acme",
        CI_DEFER_STATE="altimate",
        CI_DEFER_ALTIMATE_INTEGRATION="shop",
        CI_DEFER_ALTIMATE_URL=fake.url,
    )
    return Place(shop, fake, folder)


def change_totals(shop: Shop) -> None:
    shop.replace(TOTALS, "count(*)", "count(order_id)")


def quiet(shop: Shop) -> None:
    shop.write("notes.md", "Nothing of dbt's.\n")


def command(report: dict[str, Any], name: str) -> list[str]:
    (found,) = [one["arguments"] for one in report["commands"] if one["arguments"][1] == name]
    return list(found)


def value(arguments: list[str], option: str) -> Path:
    return Path(arguments[arguments.index(option) + 1])


# Onboard, then defer


def test_onboard_then_defer__selects_and_reads_what_the_directory_store_does(
    place: Place,
) -> None:
    """Onboard has parsed the project, so the registry's manifest says of which commit it is."""
    main = place.shop.git("rev-parse", "HEAD")
    shutil.rmtree(place.shop.target)
    place.onboard()
    assert place.outputs["outcome"] == "success"
    assert (place.outputs["state-commit"], place.outputs["state-source"]) == (main, LOCATION)
    (ingestion,) = place.fake.ingestions
    assert "manifest" in ingestion.file_types
    published = place.fake.files(7, "PROD", "manifest")
    assert published is not None
    assert json.loads(published)["metadata"]["env"]["CI_DEFER_COMMIT"] == main

    place.shop.pull_request(change_totals)
    expected = place.shop.defer()
    assert expected.exit_code == 0, expected.output
    theirs = place.shop.report()
    ran = place.defer()
    assert ran.exit_code == 0, ran.output
    ours = place.shop.report()
    assert {item["unique_id"] for item in ours["nodes"]} == {
        item["unique_id"] for item in theirs["nodes"]
    }
    assert node(ours, "customer_totals")["outcome"] == "built"
    assert names(ours["deferred"]) == names(theirs["deferred"]) == {"orders", "stg_customers"}
    assert {item["relation"] for item in ours["deferred"]} == {
        item["relation"] for item in theirs["deferred"]
    }

    state = ours["state"]
    assert state["is_compared_apart"] is True
    assert (state["commit"], state["location"]) == (main, LOCATION)
    assert (state["has_provenance"], ours["warnings"]) == (False, [])
    assert place.outputs["state-commit"] == main
    assert (place.outputs["state-found"], place.outputs["state-age-commits"]) == ("true", "")
    for said in (place.summary, place.shop.summary()):
        assert "compared with the base commit, parsed again" in said
        assert f"production is the latest manifest in `{LOCATION}`, of commit" in said
        assert main[:12] in said
    build = command(ours, "build")
    assert value(build, "--state") != value(build, "--defer-state")


def test_defer_state__is_the_manifest_of_the_registry(place: Place) -> None:
    """The relations that are read are those that it names, whatever the base commit says."""
    document = json.loads(place.shop.bundle()["manifest.json"].read_bytes())
    document["nodes"]["model.shop.orders"]["relation_name"] = '"warehouse"."erp"."deliveries"'
    document["nodes"]["model.shop.orders"]["schema"] = "erp"
    document["nodes"]["model.shop.orders"]["alias"] = "deliveries"
    document["metadata"]["env"] = {}
    place.fake.upload(7, "manifest", json.dumps(document).encode())
    place.shop.pull_request(change_totals)
    place.defer()
    deferred = {item["name"]: item["relation"] for item in place.shop.report()["deferred"]}
    assert "deliveries" in deferred["orders"]
    state = place.shop.report()["state"]
    # Somebody else's upload: of which commit, nobody knows.
    assert (state["commit"], state["is_compared_apart"]) == ("", True)
    assert place.outputs["state-commit"] == ""
    assert "of an unknown commit" in place.summary


def test_defer__what_others_changed_since_is_not_built(place: Place) -> None:
    """The registry is ahead of the base commit, and behind it: only the change is selected."""
    place.onboard_a_build()
    place.shop.replace("models/marts/daily_sales.sql", "sum(amount) as", "sum(amount + 0) as")
    place.shop.commit("Somebody else's change, not published yet")
    place.shop.pull_request(change_totals)
    ran = place.defer()
    assert ran.exit_code == 0, ran.output
    built = {item["name"] for item in place.shop.report()["nodes"] if item["outcome"] == "built"}
    assert built == {"customer_totals"}


def test_base_commit__that_cannot_be_parsed_again_is_a_warning(place: Place) -> None:
    place.onboard_a_build()
    shutil.rmtree(place.shop.target)
    place.shop.write("models/broken.sql", "select * from {{ ref('no_such_model') }}\n")
    place.shop.commit("Break main")

    def mend(shop: Shop) -> None:
        shop.remove("models/broken.sql")
        change_totals(shop)

    place.shop.pull_request(mend)
    ran = place.defer()
    assert ran.exit_code == 0, ran.output
    report = place.shop.report()
    assert report["state"]["is_compared_apart"] is False
    warning = report["warnings"][0]
    assert "production's latest, of whatever commit and target that is" in warning
    assert any(
        "cannot be parsed again" in line
        for line in ran.output.splitlines()
        if line.startswith("::warning")
    )
    assert "customer_totals" in names(report["nodes"])
    assert f"compared with the manifest in `{LOCATION}`" in place.summary


# Nothing was uploaded yet


@pytest.mark.parametrize(
    ("if_no_state", "exit_code", "outcome"),
    [
        ("reparse", 0, "no-changes"),
        ("full", 0, "success"),
        ("skip", 0, "no-state"),
        ("fail", 3, "no-state"),
    ],
)
def test_nothing_uploaded_yet__is_what_if_no_state_says(
    place: Place, if_no_state: str, exit_code: int, outcome: str
) -> None:
    # What is parsed once names the seeds where they were by then: no use to a build of all.
    shutil.rmtree(place.shop.target)
    place.shop.pull_request(quiet)
    ran = place.defer("--if-no-state", if_no_state)
    assert (ran.exit_code, place.outputs["outcome"]) == (exit_code, outcome), ran.output
    said = f"{LOCATION} holds no manifest yet."
    assert said in ran.output
    report = place.shop.report()
    assert len(ran.errors) == (1 if if_no_state == "fail" else 0)
    if if_no_state == "reparse":
        assert report["state"]["reason"] == said
        assert report["state"]["is_compared_apart"] is False
    else:
        assert report["state"] is None


# The command of the registry's own client


def test_copied_command__uploads_the_files_it_names(place: Place) -> None:
    files = place.shop.bundle()
    shop = dataclasses.replace(place.shop, environ={})
    copied = (
        *("--token", TOKEN, "--instance-name", "acme", "--backend-url", place.fake.url),
        *("--dbt_core_integration_id", "7", "--dbt_core_integration_environment", "PROD"),
    )
    ran = shop.ci_defer(
        "onboard",
        *copied,
        *("--manifest-path", str(files["manifest.json"])),
        *("--run-results-path", str(files["run_results.json"])),
    )
    assert ran.exit_code == 0, ran.output
    assert TOKEN not in ran.output
    assert place.fake.ingestions == [Ingestion(7, "PROD", ("manifest", "run_results"))]
    assert place.fake.files(7, "PROD", "manifest") == files["manifest.json"].read_bytes()
    assert place.fake.violations == []


def test_copied_command__with_a_value_missing_never_asks(place: Place) -> None:
    shop = dataclasses.replace(place.shop, environ={})
    manifest = str(place.shop.bundle()["manifest.json"])
    ran = shop.ci_defer("onboard", "--token", TOKEN, "--manifest-path", manifest)
    assert ran.exit_code == 2
    (error,) = ran.errors
    assert "needs altimate-instance and altimate-integration." in error
    ran = shop.ci_defer("onboard", "--catalog-path", manifest)
    assert (ran.exit_code, "There is no --manifest-path." in ran.errors[0]) == (2, True)
    ran = shop.ci_defer("onboard", "--state", "store", "--manifest-path", manifest)
    assert (ran.exit_code, "not to state: store" in ran.errors[0]) == (2, True)
    assert place.fake.requests == []


def test_file__of_the_registrys_clients_is_read(place: Place) -> None:
    place.fake.upload(7, "manifest", place.shop.bundle()["manifest.json"].read_bytes())
    place.shop.write(
        "../home/.altimate/altimate.json",
        json.dumps(
            {
                "altimateApiKey": "${env:MY_KEY}",
                "altimateInstanceName": "acme",
                "altimateUrl": place.fake.url,
            }
        ),
    )
    place.shop.pull_request(quiet)
    empty = {"ALTIMATE_API_KEY": "", "ALTIMATE_INSTANCE_NAME": "", "CI_DEFER_ALTIMATE_URL": ""}
    ran = place.defer(MY_KEY=TOKEN, **empty)
    assert (ran.exit_code, place.outputs["state-found"]) == (0, "true"), ran.output


# Faults


def refused_key(fake: FakeRegistry) -> None:
    fake.add_token(TOKEN, "acme", refused=401)


def used_up(fake: FakeRegistry) -> None:
    fake.exhaust_credits("No credits are left.")


def limited(fake: FakeRegistry) -> None:
    fake.limit_next("GET", "/dbt/v1/project_integrations/", retry_after=3600)


def other_project(fake: FakeRegistry) -> None:
    document = {
        "metadata": {
            "dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json",
            "dbt_version": "1.12.0",
            "project_name": "bakery",
        }
    }
    fake.upload(7, "manifest", json.dumps(document).encode())


def damaged(fake: FakeRegistry) -> None:
    fake.upload(7, "manifest", b'{"metadata": ')


def refused_file(fake: FakeRegistry) -> None:
    fake.upload(7, "manifest", b"{}")
    fake.fail_next("GET", OBJECTS, status=400)


FIND = "The Altimate registry cannot find the integration: "


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (refused_key, [FIND, "with 401", "Check altimate-token and altimate-instance"]),
        (used_up, [FIND, "No credits are left.", "The credits of the instance are used up"]),
        (limited, [FIND, "it asks to wait 3600 s", "Run the job again later."]),
        (other_project, ["belongs to the dbt project 'bakery', not to 'shop'"]),
        (damaged, ["cannot download the manifest: ", "upload the manifest again"]),
        (refused_file, ["cannot download the manifest: ", "with 400"]),
    ],
)
def test_defer__a_fault_is_one_error(
    place: Place, fault: Callable[[FakeRegistry], None], said: list[str]
) -> None:
    fault(place.fake)
    place.shop.pull_request(quiet)
    ran = place.defer()
    assert (ran.exit_code, place.outputs["outcome"]) == (3, "error"), ran.output
    assert place.outputs["state-found"] == "false"
    (error,) = ran.errors
    assert error.startswith("::error title=ci-defer::")
    report = place.shop.report()
    assert report["commands"] == []
    problem = report["problem"]
    for text in said:
        assert text in error
        assert text in f"{problem['message']} {problem['hint']}"


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("GET", "/dbt/v1/validate-permissions", ["check the key: ", "Check altimate-token"]),
        ("GET", "/dbt/v1/signed_url", ["cannot upload manifest.json: "]),
        ("PUT", "/dbt-artifacts/.*/run_results.json", ["Uploaded before: manifest.json"]),
        ("POST", "/dbt/v1/start_dbt_ingestion", ["start the ingestion: ", "Uploaded before: "]),
    ],
)
def test_onboard__a_fault_is_one_error(
    place: Place, method: str, path: str, said: list[str]
) -> None:
    place.fake.fail_next(method, path, status=403, detail="no")
    for name, file in place.shop.bundle().items():
        shutil.copyfile(file, place.shop.target / name)
    ran = place.run(*ONBOARD)
    assert (ran.exit_code, place.outputs["outcome"]) == (3, "error"), ran.output
    (error,) = ran.errors
    assert all(text in error for text in said), error
    assert place.fake.ingestions == []


def test_integration__of_an_unknown_name_is_told_which_there_are(place: Place) -> None:
    place.fake.add_integration(8, "bakery")
    place.shop.pull_request(quiet)
    ran = place.defer("--altimate-integration", "Shop")
    assert ran.exit_code == 3
    (error,) = ran.errors
    assert "there is no integration 'Shop', but 'shop', 'bakery'." in error


def test_key__with_a_line_break_is_not_shown(place: Place) -> None:
    place.shop.pull_request(quiet)
    ran = place.shop.with_environ(ALTIMATE_API_KEY=f"{TOKEN}\n").ci_defer(*DEFER)
    assert TOKEN not in ran.output


# The action


@pytest.mark.action
def test_action__onboards_a_push_and_defers_a_pull_request(
    action_shop: ActionShop, fake: FakeRegistry
) -> None:
    shop = action_shop
    # As for `Place.onboard`: the commit goes into the manifest by way of dbt's environment.
    shop.use_plain_dbt("1.12")
    shop.build_production()
    shop.use_workflows(
        install="",
        state="altimate",
        altimate_token=TOKEN,
        altimate_instance="acme",
        altimate_integration="shop",
        altimate_url=fake.url,
    )
    pushed = shop.push()
    main = git(shop.repository, "rev-parse", "HEAD")
    assert pushed.returncode == 0, pushed.log
    published = outputs_of(pushed)
    assert (published["outcome"], published["state-commit"]) == ("success", main)
    assert published["state-source"] == LOCATION
    # Nothing but the registry has it.
    assert shop.github.artifacts == []
    assert len(fake.ingestions) == 1

    shop.use_dbt("1.12")
    ran = shop.pull_request(pull_request_files())
    assert ran.returncode == 0, ran.log
    found = outputs_of(ran)
    assert (found["outcome"], found["selected-count"]) == ("success", "23")
    assert (found["deferred-count"], found["state-commit"]) == ("3", main)
    assert "production is the latest manifest in" in summary_of(ran)
    assert fake.violations == []
    # act shows the workflow's inputs, of which a real one takes the key from a secret.
    assert TOKEN not in summary_of(ran) + json.dumps(found)
