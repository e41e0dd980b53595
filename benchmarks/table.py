"""The runs as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.contestants import ACTION, BARE, DEFER, HAND, WORK, Contestant, Run
from benchmarks.figures import exponent, paired_ratio
from benchmarks.measure import Usage
from ci_defer.wording import number

MIB = 1024 * 1024
# Below that, what does not depend on the size is most of it.
LARGE = 1000

Row = Sequence[str]


@dataclass(frozen=True)
class Project:
    """What the project of some runs has."""

    models: int
    tests: int
    sources: int


@dataclass(frozen=True)
class Group:
    """All runs of one project with one dbt: of each contestant as many, round by round."""

    versions: Mapping[str, str]
    project: Project
    runs: Mapping[Contestant, Sequence[Run]]


def heading(facts: Mapping[str, str]) -> str:
    """What all of it was measured with."""
    return " · ".join(f"{name} {value}" for name, value in facts.items())


def comparison(group: Group) -> str:
    """The table of one group, and the ratios that are not in it."""
    rows = [row for contestant in group.runs for row in _rows(group, contestant)]
    titles = ("", "wall s", "CPU s", "largest process MiB", "all processes MiB", "wall ÷ (b)")
    lines = [f"### {_title(group)}", "", _table(titles, rows), "", *_notes(group)]
    return "\n".join(lines) + "\n"


def slope(versions: Mapping[str, str], runs: Mapping[int, Sequence[Run]]) -> str:
    """How ci-defer's own part grows with the number of models."""
    rows, points = [], []
    for models, made in runs.items():
        own = [run.own for run in made]
        points.append((models, median(own)))
        wall = _spread([run.whole.wall for run in made])
        dbt = _spread([run.commands or 0 for run in made])
        rows.append((f"{models:,}", wall, dbt, _spread(own)))
    large = [point for point in points if point[0] >= LARGE]
    fitted = large if len(large) > 1 else points
    lines = [f"### ci-defer's own part, {_versions(versions)}", ""]
    lines += [_table(("models", "wall s", "dbt's commands s", "ci-defer's own CPU s"), rows), ""]
    if len(fitted) > 1:
        sizes = f"from {fitted[0][0]:,} to {fitted[-1][0]:,} models"
        lines.append(f"It grows with the number of models to the power of {exponent(fitted):.2f}")
        lines[-1] += f", {sizes}."
    return "\n".join(lines) + "\n"


def _rows(group: Group, contestant: Contestant) -> list[Row]:
    runs = group.runs[contestant]
    name = f"({contestant.key}) {contestant.title}"
    if len(runs[0].usage) == 1:
        return [_row(name, [run.whole for run in runs], group)]
    return [
        _row(f"{name}, whole job", [run.whole for run in runs], group, compared=False),
        _row(f"({contestant.key}) after the set-up", [run.usage[WORK] for run in runs], group),
    ]


def _row(name: str, used: Sequence[Usage], group: Group, *, compared: bool = True) -> Row:
    ratio = ""
    if compared and BARE in group.runs:
        bare = [run.whole.wall for run in group.runs[BARE]]
        ratio = f"{paired_ratio([one.wall for one in used], bare):.2f}"
    return (
        name,
        _spread([one.wall for one in used]),
        _spread([one.cpu for one in used]),
        _spread([one.process / MIB for one in used], digits=0),
        _spread([one.tree / MIB for one in used], digits=0),
        ratio,
    )


def _notes(group: Group) -> list[str]:
    """What the columns do not say."""
    notes = ["Median (lowest to highest). Ratios: the median of those of the single rounds."]
    if DEFER in group.runs:
        own = _spread([run.own for run in group.runs[DEFER]], digits=2)
        notes.append(f"Of the CPU time of (d), {own} s are ci-defer's own; the rest is dbt's.")
    if DEFER in group.runs and BARE in group.runs:
        process = _ratio(group, DEFER, BARE, lambda run: run.whole.process)
        tree = _ratio(group, DEFER, BARE, lambda run: run.whole.tree)
        notes.append(
            f"Peak memory, (d) ÷ (b): {process:.2f} of the largest process, {tree:.2f} of all "
            "together."
        )
    if ACTION in group.runs and HAND in group.runs:
        whole = _ratio(group, ACTION, HAND, lambda run: run.whole.wall)
        work = _ratio(group, ACTION, HAND, lambda run: run.usage[WORK].wall)
        notes.append(f"Time, (e) ÷ (a): {whole:.2f} of the whole job, {work:.2f} after the set-up.")
    return [f"- {note}" for note in notes]


def _ratio(
    group: Group, ours: Contestant, theirs: Contestant, value: Callable[[Run], float]
) -> float:
    return paired_ratio([*map(value, group.runs[ours])], [*map(value, group.runs[theirs])])


def _title(group: Group) -> str:
    project = group.project
    built = sorted({len(run.built) for run in group.runs.get(BARE, ())})
    nodes = f"; {number(built[0], 'node')} built" if built else ""
    return (
        f"{project.models:,} models, {_versions(group.versions)}\n\n"
        f"{project.tests:,} data tests, {project.sources:,} sources{nodes}"
    )


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _spread(values: Sequence[float], *, digits: int = 1) -> str:
    """The median, and the lowest and the highest value where there are several."""
    middle = f"{median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _table(titles: Row, rows: Sequence[Row]) -> str:
    lines = [titles, ["---"] + ["---:"] * (len(titles) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
