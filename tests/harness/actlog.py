"""What a run of act reported, as data: `act --json` in, `ActRun` out. Pure: no input or output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from tests.harness.commands import Command, obeyed

StepPath: TypeAlias = tuple[str, ...]
"""The id of a job, of one of its steps, of a step of the composite action which that step uses, ...

A step without an id has its index for one.
"""

Level: TypeAlias = Literal["error", "warning", "notice"]


@dataclass(frozen=True)
class Annotation:
    """One `::error::`, `::warning::` or `::notice::` that GitHub would have shown."""

    level: Level
    message: str
    file: str | None
    line: int | None
    end_line: int | None
    title: str | None
    step: StepPath


@dataclass(frozen=True)
class ActRun:
    """One finished run of a workflow.

    Nothing is masked here, in the log neither: a test that a secret is not printed would otherwise
    pass whatever was printed. `masks` has the values that steps asked to mask.
    """

    returncode: int
    job_results: Mapping[str, str]
    """Job id to `success` or `failure`."""
    outcomes: Mapping[StepPath, str]
    """Each step that ran, to `success` or `failure`; a skipped step is not here."""
    outputs: Mapping[StepPath, Mapping[str, str]]
    """Each step that ran, to its outputs; those of a composite action are the declared ones."""
    annotations: Sequence[Annotation]
    summaries: Sequence[str]
    """The step summaries, one for each step that wrote one, in order."""
    log: str
    """The lines that the steps printed, workflow commands as they wrote them."""
    masks: Sequence[str]
    diagnostics: str
    """All that act printed: for the message of a test that fails, not to be relied on."""

    @property
    def job_result(self) -> str:
        """`success` when every job succeeded, `failure` otherwise."""
        results = set(self.job_results.values())
        return "success" if results == {"success"} else "failure"

    def step_outputs(self, *ids: str) -> Mapping[str, str]:
        """Return the outputs of the one step whose path, the job left out, is `ids`."""
        return self.outputs[self._path(ids)]

    def step_outcome(self, *ids: str) -> str:
        """Return the outcome of the one step whose path, the job left out, is `ids`."""
        return self.outcomes[self._path(ids)]

    def _path(self, ids: tuple[str, ...]) -> StepPath:
        paths = [path for path in self.outcomes if path[1:] == ids]
        if len(paths) != 1:
            known = sorted("/".join(path) for path in self.outcomes)
            raise KeyError(f"{len(paths)} steps are {'/'.join(ids)!r}; those that ran: {known}")
        return paths[0]


def read_run(
    returncode: int, entries: Sequence[Mapping[str, Any]], *, drained: str, diagnostics: str = ""
) -> ActRun:
    """Make an `ActRun` of the objects that act printed.

    `drained` begins the line that ends the output of a step (see `toolbox`).
    """
    composites = {
        path[:end] for entry in entries if (path := _path_of(entry)) for end in range(2, len(path))
    }
    outcomes: dict[StepPath, str] = {}
    outputs: dict[StepPath, dict[str, str]] = {}
    printed: dict[tuple[StepPath, str], list[str]] = {}
    summaries: list[str] = []
    job_results: dict[str, str] = {}
    for entry in entries:
        if "jobResult" in entry:
            job_results[entry["jobID"]] = entry["jobResult"]
        path = _path_of(entry)
        if path is None:
            continue
        # For a composite action act reads the files of its last step once more, when it is through:
        # it reports that step's summary and outputs as those of the composite too. GitHub does not.
        again = path in composites and path in outcomes
        line = _printed_line(entry)
        if line is not None:
            printed.setdefault((path, entry.get("stage", "")), []).append(line)
        elif entry.get("command") == "set-output" and not again:
            outputs.setdefault(path, {})[entry["name"]] = entry["arg"]
        elif entry.get("command") == "summary" and not again:
            summaries.append(entry["content"])
        elif "stepResult" in entry and entry.get("stage") == "Main":
            outcomes[path] = entry["stepResult"]
            outputs.setdefault(path, {})

    log: list[str] = []
    commands: list[tuple[StepPath, Command]] = []
    for (path, _), lines in printed.items():
        kept = without_marks(lines, drained)
        log += kept
        commands += [(path, command) for command in obeyed(kept)]
    return ActRun(
        returncode=returncode,
        job_results=job_results,
        outcomes=outcomes,
        outputs=outputs,
        annotations=[
            _annotation(command, path)
            for path, command in commands
            if command.name in ("error", "warning", "notice")
        ],
        summaries=summaries,
        log="\n".join(log),
        masks=[command.data for _, command in commands if command.name == "add-mask"],
        diagnostics=diagnostics,
    )


def without_marks(lines: Iterable[str], drained: str) -> list[str]:
    """Take out the lines that begin with `drained`, each with the line break written before it."""
    kept: list[str] = []
    for line in lines:
        if not line.startswith(drained):
            kept.append(line)
        elif kept and not kept[-1]:
            # The mark starts with a line break, in case the step left its last line open. It
            # did not: so the line break made an empty line which the step did not write.
            kept.pop()
    return kept


def _path_of(entry: Mapping[str, Any]) -> StepPath | None:
    ids = entry.get("stepID")
    return (entry["jobID"], *ids) if ids else None


def _printed_line(entry: Mapping[str, Any]) -> str | None:
    """Return the line that a step printed, whether act took it for a command or not."""
    if "raw" in entry:
        return cast("str", entry["raw"]).rstrip("\r\n")
    if entry.get("raw_output"):
        return cast("str", entry["msg"]).rstrip("\r\n")
    return None


def _annotation(command: Command, step: StepPath) -> Annotation:
    def number(key: str) -> int | None:
        value = command.properties.get(key, "")
        return int(value) if value.isdecimal() else None

    return Annotation(
        level=cast("Level", command.name),
        message=command.data,
        file=command.properties.get("file"),
        line=number("line"),
        end_line=number("endline"),
        title=command.properties.get("title"),
        step=step,
    )
