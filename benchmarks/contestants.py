"""What is compared: what people run on a pull request, and the same with ci-defer.

Each contestant is one or two programs, measured one after the other. After a run it says what it
has built; the benchmark fails where that is not what it has to be.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Failed, Usage, measure
from benchmarks.repository import (
    CHANGED,
    PARTIAL_PARSE,
    UNTOUCHED,
    Place,
    add_partial_parse,
    add_state_of_main,
    add_store_without_partial_parse,
    ci_defer,
)
from tests.environments import ROOT

HAND_WRITTEN = Path(__file__).parent / "hand_written"
SCHEMA = "ci_pr_{number}"
# The step that makes the environment, and the one that does the work.
SET_UP, WORK = "set-up", "work"
FINE = frozenset({"success", "pass"})


@dataclass(frozen=True)
class Step:
    """A program of a run. `folder` is where it runs."""

    name: str
    command: tuple[str, ...]
    folder: Path
    environ: dict[str, str]


@dataclass(frozen=True)
class Contestant:
    """One way to run a pull request.

    `needs` adds what the place has to have once, `before` puts it into the fresh checkout, and
    neither is measured. `key` is what the tables and the option --only call it.
    """

    key: str
    title: str
    steps: Callable[[Place], Iterator[Step]]
    branch: str = CHANGED
    needs: Callable[[Place], None] | None = None
    before: Callable[[Place], None] | None = None
    # With the latest manifest of main, what main has changed is built, too.
    builds_more: bool = False


@dataclass(frozen=True)
class Run:
    """One run: what its steps took, and what it has built.

    `commands` are the seconds that ci-defer says its dbt commands took, None without ci-defer.
    """

    usage: dict[str, Usage]
    built: frozenset[str]
    commands: float | None = None

    @property
    def whole(self) -> Usage:
        """All steps, one after the other."""
        first, *others = self.usage.values()
        for other in others:
            first += other
        return first

    @property
    def own(self) -> float:
        """The seconds of processor time of the program itself: with ci-defer, not those of dbt."""
        return self.usage[WORK].own


def run(contestant: Contestant, place: Place) -> Run:
    """Run it once, in a checkout of its own. Raises Failed."""
    _check_out(contestant, place)
    usage = {
        step.name: measure(step.command, step.folder, step.environ, place.log)
        for step in contestant.steps(place)
    }
    report = place.target / "ci-defer" / "report.json"
    commands = _commands(report) if report.is_file() else None
    return Run(usage, _built(place, contestant), commands)


def warm_up(contestant: Contestant, place: Place) -> None:
    """Run its set-up, if it has one, so that the installer has downloaded all of it. Not measured.

    Both installers start from a warm cache then: what the network gives differs from run to run.
    """
    _check_out(contestant, place)
    for step in contestant.steps(place):
        if step.name == SET_UP:
            measure(step.command, step.folder, step.environ, place.log, is_alone=True)


def check(place: Place, runs: Mapping[Contestant, Run]) -> None:
    """See that all runs of one round have built what they have to. Raises Failed."""
    alike = {
        contestant: made.built
        for contestant, made in runs.items()
        if contestant.branch == CHANGED and not contestant.builds_more
    }
    models = {place.changed} | place.project.below(place.changed)
    for contestant, built in alike.items():
        first = next(iter(alike.values()))
        names = {name.rpartition(".")[2] for name in built if name.startswith("model.")}
        if built != first or names != models:
            raise Failed(f"{contestant.title} built {sorted(built)}, and not {sorted(first)}.")
    for contestant, made in runs.items():
        if contestant.branch == UNTOUCHED and made.built:
            raise Failed(f"{contestant.title} built {sorted(made.built)}.")
        if contestant.builds_more and not all(made.built > built for built in alike.values()):
            raise Failed(f"{contestant.title} built only {sorted(made.built)}.")


def _check_out(contestant: Contestant, place: Place) -> None:
    place.clone(contestant.branch)
    place.runner_temp.mkdir()
    if contestant.before:
        contestant.before(place)


def _built(place: Place, contestant: Contestant) -> frozenset[str]:
    path = place.target / "run_results.json"
    if contestant.branch == UNTOUCHED and not path.is_file():
        return frozenset()
    results = _read(path)["results"]
    wrong = [result for result in results if result["status"] not in FINE]
    if wrong:
        raise Failed(f"{contestant.title}: {wrong[0]['unique_id']} {wrong[0]['message']}")
    return frozenset(result["unique_id"] for result in results)


def _commands(report: Path) -> float:
    return float(sum(command["seconds"] for command in _read(report)["commands"]))


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _hand_written(place: Place) -> Iterator[Step]:
    environ = place.environ(
        with_dbt=False,
        VENV=str(place.runner_temp / "venv"),
        LOCK=str(place.lock),
        LATEST=str(place.state_of_main),
        RUNNER_TEMP=str(place.runner_temp),
    )
    for name, script in ((SET_UP, "setup.sh"), (WORK, "job.sh")):
        yield Step(name, ("bash", str(HAND_WRITTEN / script)), place.folder, environ)


def _bare(place: Place) -> Iterator[Step]:
    state = ("--defer", "--state", str(place.state_of_production))
    command = ("dbt", "build", "--select", "state:modified+", *state, "--target", "ci")
    yield Step(WORK, command, place.folder, place.environ())


def _defer(
    store: Path, branch: str, place: Place, *, with_dbt: bool = True, **more: str
) -> dict[str, str]:
    settings = {"STATE": str(store), "TARGET": "ci", "PR_SCHEMA": SCHEMA, **more}
    return place.job(branch, with_dbt=with_dbt, **settings)


def _ci_defer(place: Place) -> Iterator[Step]:
    environ = _defer(place.store, CHANGED, place)
    yield Step(WORK, ci_defer("defer"), place.checkout, environ)


def _action(place: Place) -> Iterator[Step]:
    """The steps of action.yml. `install` is the lock that the other environments are made from."""
    install = f"--no-deps --require-hashes --requirement {place.lock}"
    environ = _defer(place.store, CHANGED, place, with_dbt=False, MODE="defer", INSTALL=install)
    for name, script in ((SET_UP, "install.sh"), (WORK, "run.sh")):
        yield Step(name, ("bash", str(place.action / "action" / script)), place.checkout, environ)


def _download_action(place: Place) -> None:
    """A fresh copy of this checkout, as a runner downloads it: nothing of it has byte code."""
    if place.action.exists():
        shutil.rmtree(place.action)
    for name in ("action", "requirements", "src"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, place.action / name, ignore=ignored)


def _untouched(place: Place) -> Iterator[Step]:
    environ = _defer(place.store, UNTOUCHED, place)
    yield Step(WORK, ci_defer("defer"), place.checkout, environ)


def _without_partial_parse(place: Place) -> Iterator[Step]:
    environ = _defer(place.store_without_partial_parse, CHANGED, place)
    yield Step(WORK, ci_defer("defer"), place.checkout, environ)


def _restore_partial_parse(place: Place) -> None:
    place.target.mkdir()
    shutil.copyfile(place.partial_parse, place.target / PARTIAL_PARSE)


HAND = Contestant("a", "hand-written", _hand_written, needs=add_state_of_main, builds_more=True)
BARE = Contestant("b", "bare dbt, cold", _bare)
WARM = Contestant(
    "c",
    "bare dbt, main's partial parse restored",
    _bare,
    needs=add_partial_parse,
    before=_restore_partial_parse,
)
DEFER = Contestant("d", "ci-defer", _ci_defer)
ACTION = Contestant("e", "ci-defer, as the action", _action, before=_download_action)
NOTHING = Contestant("f", "ci-defer, project untouched", _untouched, branch=UNTOUCHED)
WITHOUT = Contestant(
    "g",
    "ci-defer, no partial parse in the state",
    _without_partial_parse,
    needs=add_store_without_partial_parse,
)
ALL = (HAND, BARE, WARM, DEFER, ACTION, NOTHING, WITHOUT)
