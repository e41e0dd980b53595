"""The benchmark: its project, what it calculates, and its tables. How long it takes is no test."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from benchmarks.contestants import ACTION, BARE, DEFER, HAND, SET_UP, WORK, Run
from benchmarks.figures import exponent, paired_ratio
from benchmarks.measure import Failed, Usage, measure
from benchmarks.project import LAST_LINE, make_project
from benchmarks.table import Group, Project, comparison, slope
from tests.environments import clean_environ, dbt_bin

MIB = 1024 * 1024
VERSIONS = {"dbt-core": "1.12.0", "dbt-duckdb": "1.11.1"}


def used(wall: float, *, own: float = 0.0, tree: int = 300) -> Usage:
    return Usage(wall, wall - 1, own, 200 * MIB, tree * MIB)


def a_run(*, set_up: float | None = None, work: float, dbt: float | None = None) -> Run:
    usage = {} if set_up is None else {SET_UP: used(set_up, tree=100)}
    own = work - dbt if dbt else 0.0
    return Run(usage | {WORK: used(work, own=own)}, frozenset({"model.benchmark.one"}), dbt)


# The project.


def test_project__same_arguments_same_files() -> None:
    assert make_project(60) == make_project(60)


def test_project__is_the_same_everywhere() -> None:
    # A model, written out: what other Pythons and other machines have to make of it, too.
    assert make_project(30).files["models/intermediate/orders/int_orders_003.sql"] == EXPECTED_MODEL


@pytest.mark.parametrize("count", [30, 100, 1000])
def test_project__has_the_shape_that_it_says(count: int) -> None:
    project = make_project(count)
    assert len(project.models) == count
    assert len([path for path in project.files if path.endswith(".sql")]) > count
    assert project.tests / count == pytest.approx(1.5, abs=0.45)
    assert len(project.raw_tables) / count == pytest.approx(0.4, abs=0.05)
    assert len(set(project.raw_tables)) == len(project.raw_tables)


def test_project__the_usual_change_reaches_some_models_and_not_the_others() -> None:
    project = make_project(1000)
    changed = project.usual_change()
    assert 5 <= len(project.below(changed)) <= 9
    others = project.others(changed, 10)
    assert len(set(others)) == 10
    for other in others:
        assert changed not in project.below(other) | project.above(other) | {other}


def test_changed__is_another_body_of_the_same_model() -> None:
    project = make_project(30)
    path, text = project.changed("stg_orders_000")
    assert project.files[path].endswith(LAST_LINE)
    assert text != project.files[path]
    assert text.startswith(project.files[path].removesuffix(LAST_LINE))


@pytest.mark.dbt
def test_project__parses_with_dbt(tmp_path: Path, dbt_version: str) -> None:
    project = make_project(30)
    project.write(tmp_path)
    done = subprocess.run(
        [dbt_bin(dbt_version) / "dbt", "parse", "--target", "ci"],
        cwd=tmp_path,
        env=clean_environ(tmp_path / "home", dbt_bin(dbt_version)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "warn" not in done.stdout.lower()
    manifest = json.loads((tmp_path / "target" / "manifest.json").read_text(encoding="utf-8"))
    kinds = [node["resource_type"] for node in manifest["nodes"].values()]
    assert (kinds.count("model"), kinds.count("seed")) == (30, 5)
    assert kinds.count("test") == project.tests
    assert len(manifest["sources"]) == len(project.raw_tables)
    # What the benchmark expects to be built is what dbt would build.
    changed = f"model.benchmark.{project.usual_change()}"
    left, found = [changed], set()
    while left:
        for name in manifest["child_map"][left.pop()]:
            if name.startswith("model.") and name not in found:
                found.add(name)
                left.append(name)
    assert {name.rpartition(".")[2] for name in found} == project.below(project.usual_change())


# What is calculated.


def test_paired_ratio__is_the_median_of_the_rounds() -> None:
    # In the third round the machine was slow, for both.
    assert paired_ratio([2, 3, 40], [1, 2, 10]) == 2


def test_paired_ratio__of_runs_without_a_partner_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired_ratio([1, 2], [1])


@pytest.mark.parametrize("power", [0, 1, 1.5, 2])
def test_exponent(power: float) -> None:
    points = [(models, 3 * models**power) for models in (1000, 5000, 10_000)]
    assert exponent(points) == pytest.approx(power)


def test_whole_run__adds_times_and_takes_the_larger_memory() -> None:
    whole = a_run(set_up=10, work=5).whole
    assert (whole.wall, whole.cpu, whole.process, whole.tree) == (15, 13, 200 * MIB, 300 * MIB)


# What is measured.


def test_measure__ends_what_is_left_running_of_one_that_is_alone(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    command = ["bash", "-c", f"exec 3>{pipe}; sleep 1000 &"]
    measure(command, tmp_path, clean_environ(tmp_path), tmp_path / "log.txt", is_alone=True)
    os.set_blocking(reader, True)
    # The end, which comes when nobody could write any more.
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_measure__sees_the_children(tmp_path: Path) -> None:
    allocate = "python3 -c 'import time; held = bytearray(50 * 2**20); time.sleep(0.5)'"
    command = ["bash", "-c", f"{allocate} & {allocate} & wait"]
    usage = measure(command, tmp_path, clean_environ(tmp_path), tmp_path / "log")
    assert usage.wall >= 0.5
    assert 50 * MIB <= usage.process < 100 * MIB <= usage.tree


WORKING = "import time\nwhile time.process_time() < {}: pass\n"


def test_measure__tells_the_program_from_what_it_starts(tmp_path: Path) -> None:
    child = f"import subprocess; subprocess.run(['python3', '-c', {WORKING.format(0.7)!r}])\n"
    command = ["python3", "-c", WORKING.format(0.3) + child]
    usage = measure(command, tmp_path, clean_environ(tmp_path), tmp_path / "log")
    assert 0.2 <= usage.own < 0.7
    assert usage.cpu >= 1.0


def test_measure__program_that_fails_is_shown(tmp_path: Path) -> None:
    command = ["bash", "-c", "echo because; exit 3"]
    with pytest.raises(Failed, match=r"(?s)ended with 3:\nbecause"):
        measure(command, tmp_path, clean_environ(tmp_path), tmp_path / "log")


# The tables.


def test_comparison() -> None:
    runs = {
        HAND: [a_run(set_up=20, work=10), a_run(set_up=20, work=12)],
        BARE: [a_run(work=4), a_run(work=6)],
        DEFER: [a_run(work=6, dbt=5.5), a_run(work=6, dbt=5)],
        ACTION: [a_run(set_up=2, work=8, dbt=7), a_run(set_up=2, work=6, dbt=5)],
    }
    assert comparison(Group(VERSIONS, Project(1000, 1505, 384), runs)) == EXPECTED_TABLE


def test_slope__is_fitted_from_1000_models_on() -> None:
    runs = {
        100: [a_run(work=5, dbt=4)],
        1000: [a_run(work=6, dbt=4)],
        10_000: [a_run(work=60, dbt=40)],
    }
    assert slope(VERSIONS, runs) == EXPECTED_SLOPE


EXPECTED_MODEL = """\
with read_0 as (
    select * from {{ ref('stg_orders_001') }}
),

read_1 as (
    select * from {{ ref('stg_orders_003') }}
),

read_2 as (
    select * from {{ ref('stg_orders_005') }}
),

joined as (
    select
        read_0.id,
        read_0.parent_id,
        read_0.amount as amount,
        read_0.status as status,
        read_0.updated_at
    from read_0
    left join read_1 on read_1.id = read_0.id
    left join read_2 on read_2.id = read_0.id
)

select * from joined
where id is not null
"""
EXPECTED_TABLE = """\
### 1,000 models, dbt-core 1.12.0, dbt-duckdb 1.11.1

1,505 data tests, 384 sources; 1 node built

|  | wall s | CPU s | largest process MiB | all processes MiB | wall ÷ (b) |
| --- | ---: | ---: | ---: | ---: | ---: |
| (a) hand-written, whole job | 31.0 (30.0 to 32.0) | 29.0 (28.0 to 30.0) | 200 (200 to 200) | 300 (300 to 300) |  |
| (a) after the set-up | 11.0 (10.0 to 12.0) | 10.0 (9.0 to 11.0) | 200 (200 to 200) | 300 (300 to 300) | 2.25 |
| (b) bare dbt, cold | 5.0 (4.0 to 6.0) | 4.0 (3.0 to 5.0) | 200 (200 to 200) | 300 (300 to 300) | 1.00 |
| (d) ci-defer | 6.0 (6.0 to 6.0) | 5.0 (5.0 to 5.0) | 200 (200 to 200) | 300 (300 to 300) | 1.25 |
| (e) ci-defer, as the action, whole job | 9.0 (8.0 to 10.0) | 7.0 (6.0 to 8.0) | 200 (200 to 200) | 300 (300 to 300) |  |
| (e) after the set-up | 7.0 (6.0 to 8.0) | 6.0 (5.0 to 7.0) | 200 (200 to 200) | 300 (300 to 300) | 1.50 |

- Median (lowest to highest). Ratios: the median of those of the single rounds.
- Of the CPU time of (d), 0.75 (0.50 to 1.00) s are ci-defer's own; the rest is dbt's.
- Peak memory, (d) ÷ (b): 1.00 of the largest process, 1.00 of all together.
- Time, (e) ÷ (a): 0.29 of the whole job, 0.65 after the set-up.
"""  # noqa: E501 - the rows of a table
EXPECTED_SLOPE = """\
### ci-defer's own part, dbt-core 1.12.0, dbt-duckdb 1.11.1

| models | wall s | dbt's commands s | ci-defer's own CPU s |
| --- | ---: | ---: | ---: |
| 100 | 5.0 | 4.0 | 1.0 |
| 1,000 | 6.0 | 4.0 | 2.0 |
| 10,000 | 60.0 | 40.0 | 20.0 |

It grows with the number of models to the power of 1.00, from 1,000 to 10,000 models.
"""
