"""`make benchmark`: what a pull request costs with ci-defer and without, measured side by side.

The contestants, each in a fresh clone of the same pull request:

  a  the workflow that people write by hand: venv, pip, the latest manifest of main as state,
     dbt deps, dbt ls, dbt build, a script for the comment
  b  dbt build --select state:modified+ --defer alone, with the state of the right commit
  c  the same with the partial parse of main restored
  d  ci-defer defer with a schema for the pull request
  e  the same as the action runs it, with its installation: to be compared with (a)
  f  ci-defer defer where nothing of the dbt project has changed
  g  (d) with a state that has no partial parse

They take turns, a b c d a b c d, so that all of them get their share of what else the machine does.
Outside of the measurement: the clone, the download of the state, the API of GitHub; there is no
token, so nobody comments. The dbt of (b), (c), (d), (f) and (g) is installed and has byte code;
(a) and (e) install it, from the same lock, with warm caches of pip and uv.

Linux only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import contestants, table
from benchmarks.contestants import ALL, BARE, DEFER, WARM, WITHOUT, Contestant, Run
from benchmarks.machine import about, versions
from benchmarks.measure import Failed
from benchmarks.repository import Place, prepare
from tests.environments import CACHE, DBT_V2, DBT_VERSIONS

SIZES = (100, 1_000, 5_000)
SIZES_OF_SLOPE = (100, 1_000, 5_000, 10_000)
# Fewer have no ten models that main could change.
FEWEST = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark. Tables go to standard output as they are ready, progress to stderr."""
    options = _parser().parse_args(arguments)
    sizes = options.models or (SIZES_OF_SLOPE if options.slope else SIZES)
    if min(sizes) < FEWEST:
        _parser().error(f"--models must be {FEWEST} or more")
    # So that what runs is ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    facts = about()
    print(f"{table.heading(facts)}\n", flush=True)
    raw: list[dict[str, Any]] = []
    for dbt in options.dbt:
        installed = versions(dbt)
        home = options.folder / "home"
        places = [Place(options.folder / f"{dbt}-{n}", home, dbt, n) for n in sizes]
        try:
            if options.slope:
                of_sizes = {place.models: _slope(place, options.runs) for place in places}
                print(table.slope(installed, of_sizes), flush=True)
                raw += [_raw(installed, size, {DEFER: made}) for size, made in of_sizes.items()]
                continue
            for place in places:
                group = _compare(place, _chosen(options, dbt), options.runs, installed)
                print(table.comparison(group), flush=True)
                raw.append(_raw(installed, place.models, group.runs))
        except Failed as failed:
            print(f"dbt {dbt}: {failed}", file=sys.stderr)
            return 1
    if options.json:
        options.json.write_text(json.dumps({**facts, "runs": raw}, indent=2), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = [*DBT_VERSIONS, DBT_V2]
    add = parser.add_argument
    add("--models", type=int, nargs="+", metavar="N", help="sizes of the projects (100 1000 5000)")
    add("--dbt", nargs="+", choices=known, default=known, help="versions of dbt (all)")
    add("--runs", type=int, default=5, metavar="N", help="rounds (5)")
    add("--only", metavar="KEYS", help="these contestants, such as bd; (b) is always there")
    add("--without-partial-parse", action="store_true", help="(g), too")
    add("--slope", action="store_true", help="only (d): how ci-defer's own part grows")
    add("--json", type=Path, metavar="FILE", help="write the raw numbers: seconds and bytes")
    folder = CACHE / "benchmark"
    add("--folder", type=Path, default=folder, help="where to work (.cache/benchmark)")
    return parser


def _chosen(options: argparse.Namespace, dbt: str) -> list[Contestant]:
    keys = options.only or "abcdef"
    if options.without_partial_parse:
        keys += WITHOUT.key
    # dbt v2 has no partial parse that could be restored.
    return [
        one
        for one in ALL
        if one is BARE or (one.key in keys and not (one is WARM and dbt == DBT_V2))
    ]


def _compare(
    place: Place, chosen: Sequence[Contestant], rounds: int, installed: dict[str, str]
) -> table.Group:
    _prepare(place, chosen)
    made: dict[Contestant, list[Run]] = {contestant: [] for contestant in chosen}
    for number in range(rounds):
        for contestant in chosen:
            made[contestant].append(_run(contestant, place, f"round {number + 1} of {rounds}"))
        contestants.check(place, {contestant: runs[-1] for contestant, runs in made.items()})
    project = place.project
    size = table.Project(len(project.models), project.tests, len(project.raw_tables))
    return table.Group(installed, size, made)


def _slope(place: Place, rounds: int) -> list[Run]:
    _prepare(place, [DEFER])
    made = [_run(DEFER, place, f"round {number + 1} of {rounds}") for number in range(rounds)]
    for run in made:
        contestants.check(place, {DEFER: run})
    return made


def _prepare(place: Place, chosen: Iterable[Contestant]) -> None:
    _say(place, "preparing")
    prepare(place)
    for contestant in chosen:
        if contestant.needs:
            contestant.needs(place)
        contestants.warm_up(contestant, place)


def _run(contestant: Contestant, place: Place, doing: str) -> Run:
    made = contestants.run(contestant, place)
    _say(place, f"{doing}: {contestant.key} {made.whole.wall:.1f} s")
    return made


def _say(place: Place, text: str) -> None:
    print(f"dbt {place.dbt}, {place.models:,} models, {text}", file=sys.stderr, flush=True)


def _raw(
    installed: dict[str, str], models: int, runs: Mapping[Contestant, Sequence[Run]]
) -> dict[str, Any]:
    """The numbers of one table, as they were measured."""
    return {
        "versions": installed,
        "models": models,
        "contestants": {
            contestant.key: [
                {
                    "steps": {name: dataclasses.asdict(used) for name, used in run.usage.items()},
                    "dbt_commands": run.commands,
                    "built": len(run.built),
                }
                for run in made
            ]
            for contestant, made in runs.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
