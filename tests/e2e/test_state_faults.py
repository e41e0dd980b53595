"""What can be wrong with production's state in artifacts, as the action meets it.

The tea shop in the workflow run of a pull request: `ci-defer auto` on GitHub's merge commit, the
fake GitHub, real dbt. Whatever happens, nothing is left behind and the token is nowhere. Where only
the choice of the state matters the pull request changes nothing of dbt's: that no node is selected
shows that the state is sound, and no build has to be waited for.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ci_defer.bundle import Origin, ParsedWith, pack
from tests.e2e.shop import Ran, Shop, names, outputs
from tests.harness.github import Artifact, FakeGitHub, PullRequest, Run, zip_files
from tests.samples import content

pytestmark = pytest.mark.dbt

TOKEN = "ghs_aVeryLongTokenThatMustNotLeakAnywhere"
NAME = "ci-defer-state-shop"
LISTING = r"/repos/acme/shop/actions/artifacts"
ZIP = rf"{LISTING}/\d+/zip"
BLOB = r"/blob/.*"
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
LATER = datetime(2100, 1, 1, tzinfo=timezone.utc)
FILLER = b"never downloaded"

# What the changed model, and the test of its relationship, read.
DEFERRED = {"orders", "stg_customers"}

NOTHING_YET = f"artifact {NAME} holds no production state yet."
NOTHING_SOUND = f"artifact {NAME} holds no sound state of the base commit or of one before it."
ADVICE = "Run `ci-defer onboard` on the base branch, or set if-no-state to full or skip."


@dataclass(frozen=True)
class Finished:
    """What a run of the action leaves to its workflow."""

    ran: Ran
    outputs: Mapping[str, str]
    report: Mapping[str, Any]

    @property
    def state(self) -> tuple[str, str]:
        return self.outputs["state-commit"], self.outputs["state-age-commits"]


class Job:
    """The job of pull request 7, which does `edit`. Main has two commits, `older` and `base`.

    Between the two nothing of dbt's changes, so production's manifest is that of both.
    """

    def __init__(
        self, shop: Shop, github: FakeGitHub, folder: Path, edit: Callable[[Shop], None]
    ) -> None:
        self.github = github
        self.folder = folder
        self.older = shop.git("rev-parse", "HEAD")
        shop.write("notes.md", "Nothing of dbt's.\n")
        self.base = shop.commit("Write a note")
        shop.branch("feature", self.older)
        edit(shop)
        head = shop.commit()
        shop.git("switch", "--quiet", "--detach", "main")
        shop.git("merge", "--quiet", "--no-ff", "--no-edit", "feature")
        assert shop.git("rev-parse", "HEAD^1", "HEAD^2").split() == [self.base, head]
        github.serve_git(shop.project)
        github.add_pull(PullRequest(7, head, "feature", self.base))
        self.temporary = [folder / "runner-temp", folder / "tmp"]
        for path in self.temporary:
            path.mkdir(parents=True)
        payload = {
            "action": "synchronize",
            "number": 7,
            "pull_request": {
                "number": 7,
                "base": {"ref": "main", "sha": self.base},
                "head": {"ref": "feature", "sha": head},
            },
            "repository": {"full_name": "acme/shop", "default_branch": "main"},
        }
        (folder / "event.json").write_text(json.dumps(payload), encoding="utf-8")
        self.shop = shop.with_environ(
            GITHUB_ACTIONS="true",
            GITHUB_API_URL=github.url,
            GITHUB_BASE_REF="main",
            GITHUB_EVENT_NAME="pull_request",
            GITHUB_EVENT_PATH=str(folder / "event.json"),
            GITHUB_HEAD_REF="feature",
            GITHUB_OUTPUT=str(folder / "outputs"),
            GITHUB_REF="refs/pull/7/merge",
            GITHUB_REF_NAME="7/merge",
            GITHUB_REPOSITORY="acme/shop",
            GITHUB_RUN_ATTEMPT="1",
            GITHUB_RUN_ID="9001",
            GITHUB_SERVER_URL="https://github.com",
            GITHUB_STEP_SUMMARY=str(folder / "summary.md"),
            RUNNER_TEMP=str(self.temporary[0]),
            TMPDIR=str(self.temporary[1]),
            CI_DEFER_GITHUB_TOKEN=TOKEN,
            CI_DEFER_STATE="artifact",
            CI_DEFER_TARGET="ci",
        )
        github.add_run(Run(9001, event="pull_request", head_branch="feature", head_sha=head))
        self._published = self._packed = 0

    def files(self, commit: str, project_name: str = "shop") -> dict[str, bytes]:
        """The bundle of production's own run, as onboard makes it for `commit`."""
        self._packed += 1
        folder = self.folder / f"bundle-{self._packed}"
        (folder / "packed").mkdir(parents=True)
        published = self.shop.bundle()
        for name, path in published.items():
            shutil.copyfile(path, folder / name)
        shutil.copytree(published["state.json"].parent / "compare", folder / "compare")
        if project_name != "shop":
            manifest = json.loads((folder / "manifest.json").read_bytes())
            manifest["metadata"]["project_name"] = project_name
            (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        pack(
            folder,
            folder / "packed",
            project="shop",
            project_name=project_name,
            origin=Origin(commit=commit, branch="main", repository="acme/shop"),
            created_at="2026-01-01T00:00:00+00:00",
            target="prod",
            compare=(folder / "compare", ParsedWith(target="ci"))
            if project_name == "shop"
            else None,
        )
        return content(folder / "packed")

    def publish(
        self,
        commit: str,
        archive: bytes | None = None,
        *,
        digest: str | None = "",
        expired: bool = False,
        **run: Any,
    ) -> Artifact:
        """An artifact of a run of its own on `commit`, newer than those before it."""
        self._published += 1
        run_id = 100 + self._published
        self.github.add_run(Run(run_id, **{"head_sha": commit, **run}))
        return self.github.add_artifact(
            NAME,
            zip_files(self.files(commit)) if archive is None else archive,
            run_id,
            created_at=START + timedelta(minutes=self._published),
            expires_at=START + timedelta(days=1) if expired else LATER,
            digest=digest,
        )

    def run(self, **settings: str) -> Finished:
        """Run the job, and check what holds for every run."""
        shop = self.shop.with_environ(**settings)
        ignored, worktrees = self._ignored(), shop.git("worktree", "list")
        ran = shop.ci_defer("auto")

        assert "Traceback" not in ran.ours, ran.output
        assert self.github.violations == []
        assert self.github.pending_faults == []
        assert all(list(path.iterdir()) == [] for path in self.temporary)
        assert self._ignored() - ignored <= {"!! target/", "!! logs/"}
        assert shop.git("worktree", "list") == worktrees
        assert list(self.folder.parent.rglob("*evil*")) == []
        self._check_that_the_token_is_nowhere(ran)

        found = outputs(self.folder / "outputs")
        report = shop.report()
        assert found["outcome"] == report["outcome"]
        assert Path(found["report"]) == shop.target / "ci-defer" / "report.json"
        assert (self.folder / "summary.md").read_text("utf-8") == shop.summary()
        return Finished(ran, found, report)

    def asked(self, path: str) -> int:
        """How often GitHub was asked for exactly this path, below `actions/`."""
        repository = "/repos/acme/shop/actions"
        return [record.path for record in self.github.requests].count(f"{repository}/{path}")

    def _ignored(self) -> set[str]:
        return set(self.shop.git("status", "--porcelain", "--ignored").splitlines())

    def _check_that_the_token_is_nowhere(self, ran: Ran) -> None:
        assert TOKEN not in ran.output
        written = [self.folder / "outputs", self.folder / "summary.md"]
        written += [self.shop.target, self.shop.project / "logs", self.shop.project / ".git"]
        files = [file for path in written for file in [path, *path.rglob("*")] if file.is_file()]
        assert [file for file in files if TOKEN.encode() in file.read_bytes()] == []
        # Archives come from another host, which must never see it.
        blobs = [one for one in self.github.requests if one.path.startswith("/blob/")]
        assert not any(record.authorized for record in blobs)


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    with FakeGitHub() as github:
        yield github


@pytest.fixture
def job(one_shop: Shop, github: FakeGitHub, tmp_path: Path) -> Job:
    """A pull request that changes a model."""

    def edit(shop: Shop) -> None:
        shop.replace("models/marts/customer_totals.sql", "count(*)", "count(order_id)")

    return Job(one_shop, github, tmp_path / "job", edit)


@pytest.fixture
def quiet_job(one_shop: Shop, github: FakeGitHub, tmp_path: Path) -> Job:
    """A pull request that changes nothing of dbt's."""
    return Job(
        one_shop, github, tmp_path / "job", lambda shop: shop.write("more.md", "More notes.\n")
    )


def check_found(finished: Finished, commit: str, age: int, outcome: str) -> None:
    """The state of `commit` is used."""
    assert finished.ran.exit_code == 0, finished.ran.output
    assert finished.ran.errors == []
    assert finished.outputs["outcome"] == outcome
    assert finished.outputs["state-found"] == "true"
    assert finished.state == (commit, str(age))
    assert finished.outputs["state-source"] == f"artifact {NAME}"


def check_built(finished: Finished, commit: str, age: int) -> None:
    """The changed model is built, and reads the rest from production as of `commit`."""
    check_found(finished, commit, age, "success")
    built = {node["name"] for node in finished.report["nodes"] if node["outcome"] == "built"}
    assert built == {"customer_totals"}
    assert names(finished.report["deferred"]) == DEFERRED


def check_refusal(finished: Finished, message: str, *, outcome: str, advice: str = "") -> None:
    """An error before dbt was started at all."""
    assert finished.ran.exit_code == 3, finished.ran.output
    assert finished.outputs["outcome"] == outcome
    assert finished.outputs["state-found"] == "false"
    (error,) = finished.ran.errors
    assert error.startswith(f"::error title=ci-defer::{f'{message} {advice}'.strip()}")
    assert finished.report["problem"]["message"] == message
    assert finished.report["commands"] == []


# What makes an artifact unusable


@dataclass(frozen=True)
class Fault:
    """How the artifact of the base commit is no good, and what is said of it."""

    publish: Callable[[Job], object]
    reason: str
    message: str = NOTHING_SOUND


def gone(job: Job, path: str) -> None:
    """Somebody deletes the artifact after it was listed."""
    artifact = job.publish(job.base)
    job.github.on_next("GET", path, lambda: job.github.delete_artifact(artifact))


def refused(job: Job, status: int) -> None:
    job.publish(job.base)
    job.github.fail_next("GET", ZIP, status=status)


def archived(job: Job, extra: Mapping[str, bytes]) -> bytes:
    """The right bundle behind members that no bundle has."""
    return zip_files({**extra, **job.files(job.base)})


def lying_bomb(job: Job) -> bytes:
    """A member of 64 MiB in 64 kB, which says that it has 1,000 bytes.

    The limit for honest ones is 4 GiB, which a disk would have to take for every test.
    """
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in job.files(job.base).items():
            file.writestr(name, bytes(64 * 1024**2) if name == "manifest.json" else data)
        file.getinfo("manifest.json").file_size = 1000
    return archive.getvalue()


def changed(job: Job) -> bytes:
    files = job.files(job.base)
    return zip_files({**files, "manifest.json": files["manifest.json"] + b" "})


FAULTS = {
    "410 on download": Fault(lambda job: refused(job, 410), "with 410"),
    "deleted before the download": Fault(lambda job: gone(job, ZIP), "with 404"),
    "deleted behind the redirect": Fault(lambda job: gone(job, BLOB), "with 404"),
    "expired": Fault(
        lambda job: job.publish(job.base, expired=True), "it has expired", NOTHING_YET
    ),
    "truncated zip": Fault(
        lambda job: job.publish(job.base, zip_files(job.files(job.base))[:-40]),
        "The archive is damaged",
    ),
    "path out of the zip": Fault(
        lambda job: job.publish(job.base, archived(job, {"../evil": b"evil"})),
        "a path that leads out of it: '../evil'",
    ),
    "zip bomb that lies": Fault(
        lambda job: job.publish(job.base, lying_bomb(job)),
        "The archive is damaged: Bad CRC-32 for file 'manifest.json'",
    ),
    "zip bomb of many members": Fault(
        lambda job: job.publish(job.base, zip_files({f"{n}.json": b"" for n in range(101)})),
        "The archive has 101 members.",
    ),
    "wrong digest": Fault(
        lambda job: job.publish(job.base, digest=f"sha256:{'0' * 64}"),
        "its digest is not the one that GitHub lists",
    ),
    "wrong checksum in the bundle": Fault(
        lambda job: job.publish(job.base, changed(job)),
        "manifest.json is not the file that was published",
    ),
    "another dbt project": Fault(
        lambda job: job.publish(job.base, zip_files(job.files(job.base, "coffee"))),
        "belongs to the dbt project 'coffee', not to 'shop'",
    ),
    "another commit": Fault(
        lambda job: job.publish(job.base, zip_files(job.files("f" * 40))),
        "it says that it is of commit 'ffffffffffff'",
    ),
    "run of a fork": Fault(
        lambda job: job.publish(job.base, head_repository="mallory/shop"),
        "its run belongs to a fork",
        NOTHING_YET,
    ),
    "run of a pull request": Fault(
        # A pull request of main into a release branch.
        lambda job: job.publish(job.base, event="pull_request"),
        "its run was started by 'pull_request'",
    ),
    "run of another branch": Fault(
        lambda job: job.publish(job.base, head_branch="feature"),
        "its run is of branch 'feature', not of 'main'",
        NOTHING_YET,
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault__alone_is_one_error(quiet_job: Job, fault: Fault) -> None:
    fault.publish(quiet_job)

    finished = quiet_job.run(CI_DEFER_IF_NO_STATE="fail")

    # Nothing is listed of an artifact that does not count: why it does not is all there is to say.
    why = f" Its artifact does not count: {fault.reason}." if fault.message == NOTHING_YET else ""
    check_refusal(finished, f"{fault.message}{why}", outcome="no-state", advice=ADVICE)
    assert fault.reason in finished.ran.output


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault__an_older_state_stands_in(quiet_job: Job, fault: Fault) -> None:
    quiet_job.publish(quiet_job.older)
    fault.publish(quiet_job)
    newer = max(quiet_job.github.artifacts, key=lambda artifact: artifact.created_at)

    finished = quiet_job.run(CI_DEFER_IF_NO_STATE="fail")

    check_found(finished, quiet_job.older, 1, "no-changes")
    said = [line for line in finished.ran.output.splitlines() if fault.reason in line]
    assert any(line.startswith(f"Artifact {newer.id} is passed over: ") for line in said)
    (passed_over,) = finished.report["passed_over"]
    assert passed_over["commit"] == quiet_job.base
    assert fault.reason in passed_over["reason"]


def test_older_state__is_deferred_to(job: Job) -> None:
    job.publish(job.older)
    job.publish(job.base, b"damaged")

    finished = job.run()

    check_built(finished, job.older, 1)
    (warning,) = [line for line in finished.ran.ours.splitlines() if line.startswith("::warning")]
    assert f"The state of commit {job.base[:12]} is passed over: No artifact of" in warning


# No artifact at all


def test_nothing__fail(quiet_job: Job) -> None:
    finished = quiet_job.run(CI_DEFER_IF_NO_STATE="fail")

    check_refusal(finished, NOTHING_YET, outcome="no-state", advice=ADVICE)


def test_nothing__reparse_is_the_default(quiet_job: Job) -> None:
    finished = quiet_job.run()

    assert finished.ran.exit_code == 0, finished.ran.output
    assert NOTHING_YET in finished.ran.output
    assert finished.outputs["outcome"] == "no-changes"
    assert finished.outputs["state-found"] == "true"
    assert finished.state == (quiet_job.base, "0")
    assert finished.report["state"]["reparsed"] is True


def test_nothing__full(job: Job) -> None:
    # It names the folder that production was parsed in, where the files of seeds are not any more.
    (job.shop.target / "partial_parse.msgpack").unlink()

    finished = job.run(CI_DEFER_IF_NO_STATE="full", CI_DEFER_EXCLUDE="raw_orders+")

    assert finished.ran.exit_code == 0, finished.ran.output
    assert finished.outputs["outcome"] == "success"
    assert finished.outputs["state-found"] == "false"
    built = {node["name"] for node in finished.report["nodes"] if node["outcome"] == "built"}
    assert built == {"raw_customers", "stg_customers", "customer_history", "all_days"}
    (warning,) = [line for line in finished.ran.ours.splitlines() if line.startswith("::warning")]
    assert f"{NOTHING_YET} The whole project is built (if-no-state: full)." in warning


def test_nothing__skip(quiet_job: Job) -> None:
    finished = quiet_job.run(CI_DEFER_IF_NO_STATE="skip")

    assert finished.ran.exit_code == 0, finished.ran.output
    assert finished.outputs["outcome"] == "no-state"
    assert finished.outputs["state-found"] == "false"
    assert finished.ran.errors == []
    assert finished.report["commands"] == []
    assert NOTHING_YET in finished.ran.output


# What passes


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda github: github.fail_next("GET", LISTING, status=500, times=2), "with 500"),
        (lambda github: github.limit_next("GET", ZIP, status=429, retry_after=1), "in 1 s."),
    ],
    ids=["500 twice", "429 with Retry-After"],
)
def test_passing_fault__is_tried_again(
    quiet_job: Job, fault: Callable[[FakeGitHub], None], said: str
) -> None:
    quiet_job.publish(quiet_job.older)
    quiet_job.publish(quiet_job.base)
    fault(quiet_job.github)

    finished = quiet_job.run(CI_DEFER_IF_NO_STATE="fail")

    check_found(finished, quiet_job.base, 0, "no-changes")
    again = [line for line in finished.ran.output.splitlines() if "Trying again in" in line]
    refusals = [one for one in quiet_job.github.requests if one.status >= 400]
    assert len(again) == len(refusals) > 0
    assert all(said in line for line in again)


# Many artifacts


def fill(job: Job, count: int) -> None:
    """So many artifacts of commits that are not in the history of main."""
    for number in range(count):
        run = job.github.add_run(Run(10_000 + number, head_sha=f"{number:040x}"))
        created_at = START + timedelta(days=1, minutes=number)
        job.github.add_artifact(
            NAME, FILLER, run.id, created_at=created_at, expires_at=LATER, digest=None
        )


def test_thousand_artifacts__the_last_one_is_found_with_ten_requests(quiet_job: Job) -> None:
    quiet_job.publish(quiet_job.base)
    fill(quiet_job, 999)

    finished = quiet_job.run(CI_DEFER_IF_NO_STATE="fail")

    check_found(finished, quiet_job.base, 0, "no-changes")
    (ours,) = [one for one in quiet_job.github.artifacts if one.zip != FILLER]
    assert quiet_job.asked("artifacts") == 10
    assert (
        quiet_job.asked(f"artifacts/{ours.id}/zip"),
        quiet_job.asked(f"runs/{ours.run_id}"),
    ) == (1, 1)


def test_listing__that_is_not_there_says_what_to_do(quiet_job: Job) -> None:
    quiet_job.github.fail_next("GET", LISTING, status=404)

    finished = quiet_job.run(CI_DEFER_IF_NO_STATE="fail")

    assert finished.report["problem"]["hint"] != ""


@pytest.mark.parametrize("if_no_state", ["fail", "reparse"])
def test_later_page__that_is_not_there_is_an_error_and_never_no_state(
    quiet_job: Job, if_no_state: str
) -> None:
    quiet_job.publish(quiet_job.base)
    fill(quiet_job, 100)
    quiet_job.github.on_next(
        "GET", LISTING, lambda: quiet_job.github.fail_next("GET", LISTING, status=404)
    )

    finished = quiet_job.run(CI_DEFER_IF_NO_STATE=if_no_state)

    message = f"GitHub answered {LISTING} with 404: Not Found."
    check_refusal(finished, message, outcome="error")
    assert quiet_job.asked("artifacts") == 2


def test_later_page__is_not_asked_for_when_the_first_one_has_the_state(quiet_job: Job) -> None:
    fill(quiet_job, 100)
    quiet_job.publish(quiet_job.older)
    run = quiet_job.github.add_run(Run(99, head_sha=quiet_job.base))
    archive = zip_files(quiet_job.files(quiet_job.base))
    quiet_job.github.add_artifact(NAME, archive, run.id, expires_at=LATER)

    finished = quiet_job.run(CI_DEFER_IF_NO_STATE="fail")

    check_found(finished, quiet_job.base, 0, "no-changes")
    assert quiet_job.asked("artifacts") == 1
