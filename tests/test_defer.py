from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ci_defer.bundle import Bundle, Origin, ParsedWith, pack
from ci_defer.choices import IfNoState
from ci_defer.dbt import Selection
from ci_defer.dbt.commands import CommandEngine
from ci_defer.dbt.process import Interrupts
from ci_defer.defer import DeferSettings, defer
from ci_defer.errors import ConfigurationError
from ci_defer.event import Event
from ci_defer.git import Git
from ci_defer.manifest import Node
from ci_defer.manifest import _artifact as READ  # noqa: N812 - the one that is replaced
from ci_defer.project import Project
from ci_defer.report import Counts, NodeOutcome, Outcome, Report
from ci_defer.rules import of_core
from ci_defer.stores import Store
from ci_defer.stores.bundles import BundleStore
from ci_defer.stores.directory import Directory
from ci_defer.stores.plain import PlainState
from tests.samples import (
    CREATED_AT,
    PROJECT,
    FakeDbt,
    Log,
    Repository,
    engines,
    manifest,
    node,
    packed,
    run_results,
    write_artifacts,
)
from tests.test_dbt_commands import option

A, B = "model.shop.a", "model.shop.b"
PRODUCTION = [node(A), node(B)]
NODES = [
    node(
        A,
        relation_name='"db"."ci"."a"',
        compiled_code='select * from "db"."prod"."b"',
        depends_on={"nodes": [B], "macros": []},
    ),
    node(B, relation_name='"db"."ci"."b"'),
]


class Place:
    """A pull request: main has the published models a and b, HEAD is one commit on a branch."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.repository = Repository(tmp_path / "repository")
        (self.repository.path / ".gitignore").write_text("target/\n")
        self.base = self.repository.commit("dbt_project.yml")
        self.repository.branch("feature")
        self.head = self.repository.commit("model")
        self.target = self.repository.path / "target"
        self.store = BundleStore(Directory(tmp_path / "store"), PROJECT, log=Log())
        self.dbt = FakeDbt(tmp_path / "bin")
        self.path = self.dbt.path
        self.log = Log()
        self.interrupts = Interrupts()

    def publish(self) -> None:
        self.store.put(packed(self.tmp_path, "a", "b", commit=self.base))

    def publish_with_compare(self, compared: ParsedWith) -> None:
        """The same, with a manifest in `compare/` that was made like that."""
        made = packed(self.tmp_path, "a", "b", commit=self.base).directory
        to = self.tmp_path / "with-compare"
        to.mkdir()
        self.store.put(
            pack(
                made,
                to,
                project=PROJECT,
                project_name=PROJECT,
                origin=Origin(commit=self.base),
                created_at=CREATED_AT,
                target=None,
                compare=(made, compared),
            )
        )

    def defer(
        self, source: Callable[[], Store | PlainState] | None = None, **settings: Any
    ) -> Report:
        project = Project(
            self.repository.path, PROJECT, self.target, self.repository.path / "dbt_packages"
        )
        environ = {**self.repository.environ, "PATH": self.path}
        basic = DeferSettings(
            key=PROJECT,
            select=("state:modified+",),
            exclude=(),
            favor_state=False,
            allow_production=False,
            if_no_state=IfNoState.REPARSE,
            target=None,
            production_target=None,
            parsed_with=ParsedWith(target="prod"),
        )

        engine_for = engines(project.directory, environ, self.log, self.interrupts)

        with ExitStack() as at_the_end:
            return defer(
                project,
                DeferSettings(**{**basic.__dict__, **settings}),
                source or (lambda: self.store),
                event=Event(),
                git=Git(project.directory, environ),
                history=None,
                engine_for=engine_for,
                log=self.log,
                at_the_end=at_the_end,
            )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.dbt.lists(A, nodes=NODES)
    place.dbt.builds({A: "success"}, nodes=NODES)
    return place


def test_defer__builds_what_changed_and_reports_it(place: Place) -> None:
    place.publish()
    report = place.defer()
    assert (report.outcome, report.exit_code) == (Outcome.SUCCESS, 0)
    assert report.headline == "1 node built"
    assert (report.base_commit, report.head_commit) == (place.base, place.head)
    assert report.state
    assert (report.state.commit, report.state.age_commits) == (place.base, 0)
    assert [(item.unique_id, item.outcome) for item in report.nodes] == [(A, NodeOutcome.BUILT)]
    assert [item.unique_id for item in report.deferred] == [B]
    assert report.counts == Counts(built=1)
    assert (report.selected_count, report.seconds_saved) == (1, 2.0)
    assert [command.arguments[1] for command in report.commands] == ["ls", "build"]
    assert (report.dbt_version, report.adapter) == ("1.11.0", "duckdb")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """As what the manifests were read, one after the other."""
    read: list[str] = []

    def counted(path: Path, kind: type[Any], like: Any = None) -> Any:
        read.append(kind.__name__)
        return READ(path, kind, like)

    monkeypatch.setattr("ci_defer.manifest._artifact", counted)
    return read


def test_defer__reads_and_compares_each_manifest_once(
    place: Place, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def counted_rules(ours: Node, *values: Any, **flags: Any) -> Any:
        compared.append(ours.unique_id)
        return of_core(ours, *values, **flags)

    monkeypatch.setattr("ci_defer.selection.of_core", counted_rules)
    place.publish()
    read.clear()
    place.defer()
    # Production's, that of the plan, and what the build has added to it.
    assert read == ["Manifest", "Manifest", "CompiledManifest"]
    assert compared == [A, B]


def test_defer__gives_dbt_a_copy_of_the_state(place: Place) -> None:
    place.publish()
    place.dbt.on("build", "print(os.listdir(sys.argv[sys.argv.index('--state') + 1]))")
    place.defer()
    plan, build = place.dbt.calls
    [state] = option(plan, "--state")
    assert option(build, "--state") == [state]
    assert os.path.isabs(state)  # noqa: PTH117 - it is gone by now
    assert str(place.repository.path) not in state
    assert b"manifest.json" in place.log.passed


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What comes first: that dbt may start, or that a state is there."""
    order: list[str] = []

    def start(engine: CommandEngine, selection: Selection | None) -> None:
        order.append("start" if selection else "start without a selection")

    def get(store: BundleStore, *arguments: Any, **named: Any) -> Bundle:
        order.append("get")
        return fetch(store, *arguments, **named)

    fetch = BundleStore.get
    monkeypatch.setattr(CommandEngine, "start", start)
    monkeypatch.setattr(BundleStore, "get", get)
    return order


def test_start__is_before_the_state_is_fetched(place: Place, order: list[str]) -> None:
    place.publish()
    assert place.defer().outcome is Outcome.SUCCESS
    assert order[:2] == ["start", "get"]


def test_start__is_without_a_selection_as_long_as_packages_are_missing(
    place: Place, order: list[str]
) -> None:
    place.publish()
    (place.repository.path / "packages.yml").write_text("packages: [{local: shared}]")
    place.repository.commit("packages")
    place.defer()
    assert order[:2] == ["start without a selection", "get"]


def test_start__waits_for_the_state_where_nothing_may_be_left_to_do(
    place: Place, order: list[str]
) -> None:
    place.publish()
    place.repository.branch("again", place.base)
    place.defer()
    assert order == ["get"]


def test_start__of_a_dbt_that_is_not_there_is_no_error_yet(place: Place) -> None:
    place.path = os.environ["PATH"]
    report = place.defer(if_no_state=IfNoState.SKIP)
    assert (report.outcome, report.problem) == (Outcome.NO_STATE, None)


def test_defer__of_an_untouched_project_does_not_start_dbt(place: Place) -> None:
    place.publish()
    place.repository.branch("again", place.base)
    report = place.defer()
    assert (report.outcome, report.exit_code, report.commands) == (Outcome.NO_CHANGES, 0, [])
    assert place.dbt.calls == []
    assert report.headline == "Nothing to build: no node of the dbt project changed"
    assert any("dbt is not started" in line for line in place.log.lines)
    # It is what this run would have parsed, so it says which dbt that was.
    assert (report.dbt_version, report.adapter) == ("1.11.0", "duckdb")


def test_defer__of_an_untouched_project_reads_one_manifest_to_say_so(
    place: Place, read: list[str]
) -> None:
    compared = ParsedWith(target="ci", dbt_version="1.11.0", adapter="duckdb")
    place.publish_with_compare(compared)
    place.repository.branch("again", place.base)
    read.clear()
    report = place.defer(parsed_with=ParsedWith(target="ci"))
    assert (report.outcome, report.commands) == (Outcome.NO_CHANGES, [])
    # Of production's, only where its nodes are.
    assert sorted(read) == ["Manifest", "PlacedManifest"]


@pytest.mark.parametrize(
    "settings",
    [{"parsed_with": ParsedWith(target="ci")}, {"select": ("state:modified+", "tag:nightly")}],
)
def test_defer__of_an_untouched_project_asks_dbt_where_more_is_selected_or_vars_differ(
    place: Place, settings: dict[str, Any]
) -> None:
    place.publish()
    place.repository.branch("again", place.base)
    place.defer(**settings)
    assert place.dbt.calls


def test_defer__passes_the_selection_on(place: Place) -> None:
    place.publish()
    place.defer(select=("state:modified", "tag:x"), exclude=("b",), favor_state=True)
    for argv in place.dbt.calls:
        assert option(argv, "--select", 2) == ["state:modified", "tag:x"]
        assert option(argv, "--exclude") == ["b"]
        assert "--favor-state" in argv


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (NODES, "Nothing to build: no node of the dbt project changed"),
        (NODES[:1], "Nothing to build: 1 node removed, none changed"),
    ],
)
def test_defer__without_changes_builds_nothing(
    place: Place, nodes: list[dict[str, Any]], expected: str
) -> None:
    place.publish()
    place.dbt.lists(nodes=nodes)
    report = place.defer()
    assert (report.outcome, report.headline, report.exit_code) == (
        Outcome.NO_CHANGES,
        expected,
        0,
    )
    assert [argv[0] for argv in place.dbt.calls] == ["ls"]


def test_defer__of_a_failing_node_exits_1_with_the_message(place: Place) -> None:
    place.publish()
    place.dbt.builds({A: "error"}, nodes=NODES, exit_code=1)
    report = place.defer()
    assert (report.outcome, report.exit_code) == (Outcome.FAILURE, 1)
    assert report.headline == "a failed with an error"
    assert [cause.unique_ids for cause in report.causes] == [[A]]


def test_defer__of_a_failing_hook_is_a_failure_although_all_nodes_are_fine(place: Place) -> None:
    place.publish()
    place.dbt.builds({A: "success"}, nodes=NODES, exit_code=1)
    report = place.defer()
    assert (report.outcome, report.exit_code) == (Outcome.FAILURE, 1)
    assert report.problem
    assert "hooks" in report.problem.hint


def test_defer__never_takes_old_results_for_its_own(place: Place) -> None:
    place.publish()
    write_artifacts(place.target, manifest=manifest(NODES), run_results=run_results({A: "error"}))
    place.dbt.on("build", "print('Encountered an error:\\nno connection'); sys.exit(2)")
    report = place.defer()
    assert (report.outcome, report.exit_code) == (Outcome.ERROR, 3)
    # What was planned is still said, and that it was not reached.
    assert [(node.name, node.outcome) for node in report.nodes] == [("a", NodeOutcome.NOT_RUN)]
    assert report.problem
    assert report.problem.message == "dbt stopped before it built anything: no connection"


@pytest.mark.parametrize(
    ("script", "expected", "exit_code"),
    [
        ("print('Encountered an error:\\nbad profile'); sys.exit(2)", "bad profile", 2),
        ("import signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9", 3),
        ('print(\'{"unique_id": "a"}\')', "There is no", 3),
        ("(target / 'manifest.json').write_text('{')", "truncated or not JSON", 3),
    ],
)
def test_defer__of_a_plan_that_fails_reports_why(
    place: Place, script: str, expected: str, exit_code: int
) -> None:
    place.publish()
    place.dbt.on("ls", script)
    report = place.defer()
    assert (report.outcome, report.exit_code) == (Outcome.ERROR, exit_code)
    assert report.problem
    assert expected in report.problem.message


def test_defer__of_a_killed_build_says_so(place: Place) -> None:
    place.publish()
    place.dbt.on("build", "import signal; os.kill(os.getpid(), signal.SIGKILL)")
    report = place.defer()
    assert report.problem
    assert (report.exit_code, report.problem.message) == (3, "dbt was killed by signal 9.")


def test_defer__without_dbt_exits_2(place: Place) -> None:
    place.publish()
    (place.dbt.folder / "dbt").unlink()
    place.path = "/usr/bin"
    report = place.defer()
    assert (report.outcome, report.exit_code) == (Outcome.ERROR, 2)


# No state -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "outcome", "exit_code"),
    [
        (IfNoState.FAIL, Outcome.NO_STATE, 3),
        (IfNoState.SKIP, Outcome.NO_STATE, 0),
        (IfNoState.REPARSE, Outcome.ERROR, 2),
    ],
)
def test_if_no_state__runs_no_dbt(
    place: Place, setting: IfNoState, outcome: Outcome, exit_code: int
) -> None:
    report = place.defer(if_no_state=setting)
    assert (report.outcome, report.exit_code, report.state) == (outcome, exit_code, None)
    assert place.dbt.calls == []


def test_if_no_state__full_builds_everything_but_what_is_excluded(place: Place) -> None:
    report = place.defer(if_no_state=IfNoState.FULL, exclude=("b",))
    assert (report.outcome, report.state, report.seconds_saved) == (Outcome.SUCCESS, None, None)
    for argv in place.dbt.calls:
        assert option(argv, "--exclude") == ["b"]
        assert not {"--select", "--state", "--defer"} & set(argv)
    assert any(line.startswith("warning: ") and "whole project" in line for line in place.log.lines)


def test_if_no_state__is_also_for_a_damaged_bundle_which_is_named(place: Place) -> None:
    place.publish()
    next((place.tmp_path / "store").rglob("manifest.json.zst")).write_text("{}")
    report = place.defer(if_no_state=IfNoState.FAIL)
    assert (report.outcome, report.exit_code) == (Outcome.NO_STATE, 3)
    assert place.dbt.calls == []
    assert any(f"shop/prod/{place.base}: It is damaged" in line for line in place.log.lines)


def test_defer__of_a_store_that_cannot_be_opened_is_a_report(place: Place) -> None:
    def source() -> Store:
        raise ConfigurationError("no such store", "use another")

    report = place.defer(source)
    assert (report.outcome, report.exit_code, report.headline) == (
        Outcome.ERROR,
        2,
        "no such store",
    )


# Local mode -----------------------------------------------------------------------------------


def plain(place: Place, **documents: Any) -> Callable[[], PlainState]:
    folder = write_artifacts(place.tmp_path / "plain", manifest=manifest(PRODUCTION), **documents)
    return lambda: PlainState(folder)


def test_local_mode__needs_no_commit(place: Place) -> None:
    report = place.defer(plain(place))
    assert report.state
    assert (report.outcome, report.state.has_provenance) == (Outcome.SUCCESS, False)


def test_local_mode__takes_a_state_from_the_target_path_of_this_very_run(place: Place) -> None:
    write_artifacts(place.target, manifest=manifest(PRODUCTION))
    report = place.defer(lambda: PlainState(place.target))
    assert report.outcome is Outcome.SUCCESS


def test_local_mode__needs_no_git(place: Place, tmp_path: Path) -> None:
    # A PATH with dbt and nothing else; the program names its interpreter in full.
    only = tmp_path / "only"
    only.mkdir()
    (only / "dbt").symlink_to(place.dbt.folder / "dbt")
    place.path = str(only)
    report = place.defer(plain(place))
    assert (report.outcome, report.head_commit, report.project_dir) == (Outcome.SUCCESS, "", ".")


def test_local_mode__damaged_results_of_production_do_not_fail_a_build_that_is_done(
    place: Place,
) -> None:
    # Either they do not matter, or they are refused before there is any warehouse work.
    report = place.defer(plain(place, run_results='{"metadata"'))
    assert report.outcome is Outcome.SUCCESS or place.dbt.calls == []


# Signals --------------------------------------------------------------------------------------

CANCELLED = """
import signal, time
{}
os.kill(os.getppid(), signal.SIGTERM)
while True:
    time.sleep(0.01)
"""
DONE = json.dumps(run_results({A: "success"}))
ON_SIGNAL = """
def stop(number, frame):
    {}
    sys.exit(1)
signal.signal(signal.SIGINT, stop)
"""


@pytest.mark.parametrize(
    ("results", "done"),
    [
        (f"(target / 'run_results.json').write_text({DONE!r})", [A]),
        ("(target / 'run_results.json').write_text('{\"metadata\"')", []),
        ("pass", []),
    ],
    ids=["results", "truncated results", "no results"],
)
def test_cancelled__while_building_reports_what_was_done(
    place: Place, results: str, done: list[str]
) -> None:
    place.publish()
    place.dbt.lists(A, B, nodes=NODES)
    place.dbt.on("build", CANCELLED.format(ON_SIGNAL.format(results)))
    with place.interrupts.handled():
        report = place.defer()
    assert (report.outcome, report.exit_code) == (Outcome.CANCELLED, 130)
    built = [item.unique_id for item in report.nodes if item.outcome is NodeOutcome.BUILT]
    assert built == done


def test_cancelled__while_planning_builds_nothing(place: Place) -> None:
    place.publish()
    place.dbt.on("ls", CANCELLED.format(ON_SIGNAL.format("pass")))
    with place.interrupts.handled():
        report = place.defer()
    assert (report.outcome, report.exit_code) == (Outcome.CANCELLED, 130)
    assert [argv[0] for argv in place.dbt.calls] == ["ls"]


def test_cancelled__before_the_start_runs_nothing(place: Place) -> None:
    place.publish()
    with place.interrupts.handled():
        os.kill(os.getpid(), signal.SIGINT)
        report = place.defer()
    assert (report.outcome, place.dbt.calls) == (Outcome.CANCELLED, [])
