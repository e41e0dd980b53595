"""Failures and warnings as annotations at the lines of the files that they are about.

Pure. Owns which ones are worth the few places that GitHub has: it shows ten errors and ten
warnings of a step, and drops the others.
https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from ci_defer.characters import clean
from ci_defer.report import BAD, NodeOutcome, NodeReport, Report
from ci_defer.wording import number

MAX_OF_A_LEVEL = 10
MAX_MESSAGE = 2_000
MAX_TITLE = 200


@dataclass(frozen=True)
class Annotation:
    """`level` is error or warning; `path` is from the top of the repository, and may be empty."""

    level: str
    title: str
    message: str
    path: str = ""
    line: int | None = None


def annotate(report: Report) -> list[Annotation]:
    """The most important ones first: each cause once, then the other nodes, then warnings."""
    # The problem of a run is an error of its own in the log.
    room = MAX_OF_A_LEVEL - (1 if report.problem else 0)
    warned = (node for node in report.nodes if node.outcome is NodeOutcome.WARNED)
    return [
        *islice(_errors(report), room),
        *islice(_warnings(report, warned), MAX_OF_A_LEVEL),
    ]


def _errors(report: Report) -> Iterator[Annotation]:
    said = set()
    for cause, nodes in report.failures():
        said.add(nodes[0].unique_id)
        others = len(nodes) - 1
        more = f"\n{number(others, 'more node')} failed for this reason." if others else ""
        yield _annotation(report, "error", nodes[0], cause.message, more)
    for node in report.nodes:
        if node.outcome in BAD and node.unique_id not in said:
            yield _annotation(report, "error", node, node.message)


def _warnings(report: Report, nodes: Iterable[NodeReport]) -> Iterator[Annotation]:
    return (_annotation(report, "warning", node, node.message) for node in nodes)


def _annotation(
    report: Report, level: str, node: NodeReport, message: str, more: str = ""
) -> Annotation:
    rows = f", {number(node.failures, 'row')}" if node.failures else ""
    title = f"{node.name}: {node.status or node.outcome.value}{rows}"
    path = _path(report, node)
    return Annotation(
        level=level,
        title=" ".join(clean(title).split())[:MAX_TITLE],
        message=clean(message)[:MAX_MESSAGE].strip() + more or title,
        path=path,
        # A line of no file would be shown as one of the workflow.
        line=node.line if path else None,
    )


def _path(report: Report, node: NodeReport) -> str:
    """Where GitHub finds the file; nowhere when it is of an installed package."""
    if not node.path or not report.is_own(node):
        return ""
    return report.path_in_repository(node.path)
