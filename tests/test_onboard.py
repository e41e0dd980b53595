from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ci_defer.bundle import Origin, ParsedWith
from ci_defer.comparable import Comparing
from ci_defer.errors import CiDeferError, ConfigurationError, DbtError, InvalidBundle, ProjectError
from ci_defer.event import Event
from ci_defer.git import Git
from ci_defer.onboard import Published, onboard
from ci_defer.project import Project
from ci_defer.stores.bundles import BundleStore
from ci_defer.stores.directory import Directory
from tests.samples import (
    PROJECT,
    FakeDbt,
    Log,
    Repository,
    content,
    engines,
    manifest,
    node,
    run_results,
    write_artifacts,
)
from tests.test_dbt_commands import option

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


@dataclass
class Place:
    """A dbt project in a repository, a store, and a program dbt."""

    tmp_path: Path

    def __post_init__(self) -> None:
        self.repository = Repository(self.tmp_path / "repository")
        (self.repository.path / ".gitignore").write_text("target/\n")
        self.commit = self.repository.commit("dbt_project.yml")
        self.target = self.repository.path / "target"
        self.store = BundleStore(Directory(self.tmp_path / "store"), PROJECT, log=Log())
        self.dbt = FakeDbt(self.tmp_path / "bin")
        self.log = Log()

    def onboard(
        self,
        *,
        target: str | None = None,
        compare: ParsedWith | None = None,
        event: Event | None = None,
    ) -> Published:
        project = Project(
            self.repository.path, PROJECT, self.target, self.repository.path / "dbt_packages"
        )
        environ = {**self.repository.environ, "PATH": self.dbt.path}

        engine_for = engines(project.directory, environ, self.log)

        return onboard(
            project,
            self.store,
            key=PROJECT,
            target=target,
            comparing=Comparing(
                parsed_with=compare or ParsedWith(),
                in_schema=lambda schema: pytest.fail(f"nobody asks for {schema}"),
                is_asked_for=compare is not None,
                saves=False,
            ),
            event=event or Event(),
            git=Git(project.directory, environ),
            engine_for=engine_for,
            log=self.log,
            now=lambda: NOW,
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_onboard__publishes_the_artifacts_of_this_commit(place: Place, tmp_path: Path) -> None:
    write_artifacts(
        place.target, manifest=manifest([node("model.shop.a")]), run_results=run_results()
    )
    event = Event(ref_name="trunk", repository="o/r", run_id="7", run_attempt="2")
    published = place.onboard(event=event)
    (tmp_path / "to").mkdir()
    assert place.commit in place.store.commits()
    bundle = place.store.get(place.commit, tmp_path / "to", project_name=PROJECT)
    assert bundle.provenance
    assert bundle.provenance.origin == Origin(
        commit=place.commit,
        committed_at=place.repository.git.committed_at(place.commit).isoformat(),
        project_dir=".",
        branch="trunk",
        repository="o/r",
        run_id="7",
        run_attempt="2",
    )
    assert bundle.provenance.created_at == "2026-01-02T03:04:05+00:00"
    assert (published.commit, published.location) == (
        place.commit,
        f"{place.store.location}/prod/{place.commit}",
    )
    assert place.dbt.calls == []


def test_onboard__outside_of_a_workflow_asks_git_for_the_branch(
    place: Place, tmp_path: Path
) -> None:
    write_artifacts(place.target, manifest=manifest())
    provenance = place.onboard().bundle.provenance
    assert provenance
    assert provenance.origin.branch == "main"


def test_onboard__without_a_manifest_parses_for_the_target_and_says_so(place: Place) -> None:
    place.dbt.parses(manifest([node("model.shop.a")]))
    published = place.onboard(target="live")
    assert published.bundle.provenance
    assert published.bundle.provenance.target == "live"
    assert [argv[0] for argv in place.dbt.calls] == ["parse"]
    assert "parsing the project for target live" in place.log.lines[0]


WHOLE = json.dumps(manifest([node("model.shop.a")]))


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ({}, "There is no .*manifest.json"),
        ({"manifest": "no"}, "truncated or not JSON"),
        ({"manifest": WHOLE[:-30]}, "truncated or not JSON"),
        ({"manifest": manifest(version=13)}, "schema version 13"),
        ({"manifest": manifest(project="other")}, "belongs to the dbt project 'other'"),
        ({"manifest": WHOLE, "run_results": run_results() | {"metadata": {}}}, "not a run-results"),
        ({"manifest": WHOLE, "run_results": '{"results": ['}, r"run_results\.json is truncated"),
    ],
)
def test_onboard__refuses_and_leaves_the_store_untouched(
    place: Place, documents: dict[str, Any], expected: str
) -> None:
    write_artifacts(place.target, manifest=manifest([node("model.shop.old")]))
    place.onboard()
    before = content(place.tmp_path / "store")
    (place.target / "manifest.json").unlink()
    write_artifacts(place.target, **documents)
    with pytest.raises(InvalidBundle, match=expected):
        place.onboard()
    assert content(place.tmp_path / "store") == before


def test_onboard__of_a_broken_project_says_what_dbt_said(place: Place) -> None:
    place.dbt.on("parse", "print('Encountered an error:\\nRuntime Error\\n  bad'); sys.exit(2)")
    with pytest.raises(ProjectError, match=r"cannot parse the project: Runtime Error: bad"):
        place.onboard()
    assert list(place.store.commits()) == []


def test_onboard__of_a_killed_dbt_is_no_fault_of_the_project(place: Place) -> None:
    place.dbt.on("parse", "import signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(DbtError, match="killed by signal 9"):
        place.onboard()


def test_onboard__without_a_commit_says_what_to_do(place: Place) -> None:
    place.repository.run("switch", "--quiet", "--orphan", "empty")
    write_artifacts(place.target, manifest=manifest())
    with pytest.raises(ConfigurationError, match="actions/checkout"):
        place.onboard()


def test_onboard__leaves_no_temporary_files(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = place.tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    write_artifacts(place.target, manifest=manifest())
    place.onboard()
    (place.target / "manifest.json").write_text("no")
    with pytest.raises(CiDeferError):
        place.onboard()
    assert list(temporary.iterdir()) == []


# What pull requests are compared with ---------------------------------------------------------

PR = ParsedWith(target="ci", profile="x")
FOR_PR = manifest([node("model.shop.a"), node("model.shop.b")])
# Each target has a manifest of its own, and dbt leaves more behind than that.
PARSES = f"""
told = sys.argv[sys.argv.index("--target") + 1] if "--target" in sys.argv else ""
made = {FOR_PR!r} if told == "ci" else {manifest([node("model.shop.a")])!r}
(target / "manifest.json").write_text(json.dumps(made))
(target / "partial_parse.msgpack").write_text(told)
"""


def test_compare__is_parsed_for_pull_requests_and_published(place: Place, tmp_path: Path) -> None:
    write_artifacts(
        place.target, manifest=manifest([node("model.shop.a")]), run_results=run_results()
    )
    before = content(place.target)
    place.dbt.on("parse", PARSES)
    place.onboard(compare=PR)
    [argv] = place.dbt.calls
    assert argv[0] == "parse"
    assert option(argv, "--target") == ["ci"]
    # Production's own artifacts are for the steps after this one as well.
    assert content(place.target) == before
    (tmp_path / "to").mkdir()
    assert place.commit in place.store.commits()
    bundle = place.store.get(place.commit, tmp_path / "to", project_name=PROJECT)
    assert bundle.compare
    assert [*bundle.manifest.nodes] == ["model.shop.a"]
    assert [*bundle.compare.manifest.nodes] == ["model.shop.a", "model.shop.b"]
    assert bundle.provenance
    assert bundle.provenance.compare == ParsedWith(
        dbt_version="1.11.0", adapter="duckdb", target="ci", profile="x"
    )
    assert bundle.provenance.target == "prod"
    assert set(content(tmp_path / "to")) == {
        *("manifest.json", "run_results.json"),
        *("state.json", "compare/manifest.json"),
    }


def test_compare__comes_after_a_parse_for_production(place: Place) -> None:
    place.dbt.on("parse", PARSES)
    bundle = place.onboard(target="live", compare=PR).bundle
    assert [option(argv, "--target") for argv in place.dbt.calls] == [["live"], ["ci"]]
    assert bundle.provenance
    assert bundle.provenance.target == "live"
    assert (place.target / "partial_parse.msgpack").read_text() == "live"
    assert [*json.loads((place.target / "manifest.json").read_text())["nodes"]] == ["model.shop.a"]


def test_compare__for_the_default_target_names_none(place: Place) -> None:
    write_artifacts(place.target, manifest=manifest())
    place.dbt.on("parse", PARSES)
    provenance = place.onboard(compare=ParsedWith()).bundle.provenance
    assert "--target" not in place.dbt.calls[0]
    assert provenance
    assert provenance.compare
    assert provenance.compare.target == ""


def test_compare__is_not_made_when_nobody_asks(place: Place) -> None:
    write_artifacts(place.target, manifest=manifest())
    bundle = place.onboard().bundle
    assert bundle.provenance
    assert (place.dbt.calls, bundle.provenance.compare) == ([], None)


def test_compare__that_dbt_cannot_parse_is_left_out_with_a_warning(
    place: Place, tmp_path: Path
) -> None:
    write_artifacts(place.target, manifest=manifest([node("model.shop.a")]))
    before = content(place.target)
    place.dbt.on("parse", "print('Encountered an error:\\nno target ci'); sys.exit(2)")
    published = place.onboard(compare=PR)
    assert published.commit == place.commit
    (tmp_path / "to").mkdir()
    assert place.commit in place.store.commits()
    bundle = place.store.get(place.commit, tmp_path / "to", project_name=PROJECT)
    assert bundle.provenance
    assert (bundle.compare, bundle.provenance.compare) == (None, None)
    assert content(place.target) == before
    [warning] = [line for line in place.log.lines if line.startswith("warning: ")]
    assert warning == (
        "warning: dbt cannot parse the project for pr-target ci: no target ci. Correct the setting "
        "pr-target. Until then pull requests parse the base commit again, each one."
    )


@pytest.mark.parametrize(
    "script", ["import signal; os.kill(os.getpid(), signal.SIGKILL)", "sys.exit(0)"]
)
def test_compare__of_a_dbt_that_is_killed_or_writes_nothing_is_left_out(
    place: Place, script: str
) -> None:
    # "Production's state is what matters here."
    write_artifacts(place.target, manifest=manifest([node("model.shop.a")]))
    place.dbt.on("parse", script)
    place.onboard(compare=PR)
    assert place.commit in place.store.commits()


def test_compare__leaves_no_temporary_files(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = place.tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    write_artifacts(place.target, manifest=manifest())
    place.dbt.on("parse", PARSES)
    place.onboard(compare=PR)
    place.dbt.on("parse", "sys.exit(2)")
    place.onboard(compare=PR)
    assert list(temporary.iterdir()) == []
    assert not place.repository.run("status", "--porcelain")
