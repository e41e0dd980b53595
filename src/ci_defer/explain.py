"""What the last report says of one node: why it was selected, or what became of it else. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from ci_defer.characters import clean
from ci_defer.errors import ConfigurationError
from ci_defer.report import NodeReport, Report, decode

MAX_SIMILAR = 5


def explain(report: Report, wanted: str) -> str:
    """Answer for a node by its name, its unique id, or the path of its file.

    Raises ConfigurationError when the report does not speak of such a node.
    """
    lines = [line for node in report.nodes if _is(node, wanted) for line in _selected(node)]
    lines += [
        f"{item.name} was not selected: this run read {item.relation} of production."
        for item in report.deferred
        if wanted in (item.name, item.unique_id)
    ]
    lines += [
        f"{item.name} is {'disabled' if item.disabled else 'gone'}, and production still has it."
        for item in report.removed
        if wanted in (item.name, item.unique_id, item.path)
    ]
    if not lines:
        raise ConfigurationError(
            f"The report of {report.started_at} does not speak of {wanted!r}: it was not selected.",
            _similar(report, wanted),
        )
    return clean("\n".join(lines))


def read_report(path: Path) -> Report:
    """Read a report.json. Raises ConfigurationError when there is none that we can read."""
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(
            f"There is no report to read: {path}: {error.strerror}.",
            "Run ci-defer defer first, or name a report with --report.",
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} is no report of this ci-defer: {error}.") from None


def _is(node: NodeReport, wanted: str) -> bool:
    return wanted in (node.name, node.unique_id, node.path)


def _selected(node: NodeReport) -> Iterator[str]:
    if not node.reasons:
        yield f"{node.unique_id} ({node.path}) was selected: there was nothing to compare with."
        return
    yield f"{node.unique_id} ({node.path}) was selected:"
    for reason in node.reasons:
        yield f"  {reason.kind.value:<22} {reason.text}"
    if node.suspicion:
        yield f"  {'suspected':<22} nothing of it changed in git: {node.suspicion}"


def _similar(report: Report, wanted: str) -> str:
    names = sorted({node.name for node in report.nodes if wanted.lower() in node.name.lower()})
    return f"Did you mean {', '.join(names[:MAX_SIMILAR])}?" if names else ""
