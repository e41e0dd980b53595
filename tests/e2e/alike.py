"""What a run leaves behind, without what differs between any two: to compare one with another."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from difflib import unified_diff
from pathlib import Path
from typing import Any

from tests.e2e.shop import Shop

# For those who work on dbt; and a saved parse of the state is gone on from, and not written again.
# The spans of one test are in the file of another, now and then: six of sixty builds of one project
# by dbt v2 differed in that, with two threads (2.0.0-preview.196).
LEFT_OUT = re.compile(
    r"^(graph\.gpickle|graph_summary\.json|partial_parse\.msgpack|perf_info\.json)$"
    r"|\.macro_spans\.json$"
)

# What is another one each time, by the name of its field.
PASSING = {
    *("execution_time", "elapsed_time", "started_at", "completed_at", "generated_at", "created_at"),
    *("invocation_id", "invocation_started_at", "run_started_at", "thread_id", "seconds", "_added"),
    *("started", "ended", "duration_seconds", "build_seconds", "total_seconds", "user_id"),
    "parsed_in_full",
    # Where production parsed it: dbt does not mend that in a partial parse, a saved one is mended.
    "root_path",
    # Of a model's source file: found when it is checked out.
    *("modification_time", "last_updated", "latest_partition"),
}


def in_target_path(shop: Shop) -> dict[str, Any]:
    """What is in the target path: documents and queries, by their paths below it."""

    def text(value: str) -> str:
        return normal_text(value, shop.root)

    def files_of(folder: Path, pattern: str) -> list[Path]:
        files = [path for path in folder.rglob(pattern) if path.is_file()]
        return [path for path in files if not LEFT_OUT.search(path.name)]

    documents = files_of(shop.target, "*.json")
    folders = [shop.target / "compiled", shop.target / "run"]
    queries = [path for folder in folders for path in files_of(folder, "*")]
    files = {path: path.read_text(encoding="utf-8") for path in [*documents, *queries]}
    return {
        str(path.relative_to(shop.target)): normal(json.loads(content), text)
        if path in documents
        else text(content)
        for path, content in files.items()
    }


def changed(theirs: str, ours: str) -> str:
    lines = unified_diff(theirs.splitlines(), ours.splitlines(), n=0, lineterm="")
    return "\n".join(list(lines)[2:])


def differences(theirs: Any, ours: Any, path: str = "") -> Iterator[str]:
    """Where two documents differ, and how."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in {**theirs, **ours}:
            yield from differences(theirs.get(key), ours.get(key), f"{path}/{key}")
    elif isinstance(theirs, str) and isinstance(ours, str) and theirs != ours:
        yield f"{path}: {changed(theirs, ours)}"
    elif theirs != ours:
        yield f"{path}: {theirs!r} != {ours!r}"


def normal_text(text: str, root: Path) -> str:
    """Without folders, times and ids."""
    text = text.replace(str(root), "ROOT")
    text = re.sub(r"ci_defer_[0-9a-f]{32}", "DELIMITER", text)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)
    text = re.sub(r"(/ci-defer-(?:profiles-)?|\b[0-9a-f]{12}-)[a-z0-9_]{8}\b", r"\1X", text)
    text = re.sub(r"0x[0-9a-f]{6,}", "ADDRESS", text)
    text = re.sub(r"(?<=__dbt_tmp)\d{20}", "TIME", text)
    text = re.sub(r'(?<="pid": )\d+|(?<="execution_time": )[\d.e-]+', "N", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?", "TIME", text)
    text = re.sub(r"\d\d:\d\d:\d\d(\.\d+)?", "TIME", text)
    text = re.sub(r"\b\d+(\.\d+)?( ?m?s\b| seconds| min\b)", "DURATION", text)
    return re.sub(r"\.{4,}", "....", text)


def normal(value: Any, text: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {text(key): normal(item, text) for key, item in value.items() if key not in PASSING}
    if isinstance(value, list):
        items = [normal(item, text) for item in value]
        # Results: in the order in which they came.
        has_ids = all(isinstance(item, dict) and "unique_id" in item for item in items)
        return sorted(items, key=lambda item: str(item["unique_id"])) if has_ids else items
    return text(value) if isinstance(value, str) else value
