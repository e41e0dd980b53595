"""Makes openapi-slice.json: the part of GitHub's description of its REST API that `rest` answers.

    python -m tests.harness.make_openapi_slice PACKAGE

PACKAGE is the directory of the unpacked npm package @octokit/openapi (`npm pack`, then `tar`). Only
`generated/api.github.com.json`, `package.json` and `LICENSE` are read; the package itself is
hundreds of megabytes and no dependency of this project.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from tests.harness.openapi import SLICE

_REPO = "/repos/{owner}/{repo}"
OPERATIONS = {
    _REPO: ("get",),
    f"{_REPO}/actions/artifacts": ("get",),
    f"{_REPO}/actions/artifacts/{{artifact_id}}": ("get",),
    f"{_REPO}/actions/artifacts/{{artifact_id}}/{{archive_format}}": ("get",),
    f"{_REPO}/actions/runs": ("get",),
    f"{_REPO}/actions/runs/{{run_id}}": ("get",),
    f"{_REPO}/actions/runs/{{run_id}}/artifacts": ("get",),
    f"{_REPO}/commits": ("get",),
    f"{_REPO}/commits/{{commit_sha}}/pulls": ("get",),
    f"{_REPO}/commits/{{ref}}": ("get",),
    f"{_REPO}/compare/{{basehead}}": ("get",),
    f"{_REPO}/issues/comments/{{comment_id}}": ("get", "patch", "delete"),
    f"{_REPO}/issues/{{issue_number}}/comments": ("get", "post"),
    f"{_REPO}/pulls": ("get",),
    f"{_REPO}/pulls/{{pull_number}}": ("get",),
    "/user": ("get",),
}

# For people, not for a validator. `externalDocs` stays: error messages of the API link to it.
_TEXTS = {"description", "summary", "example", "examples", "title", "tags"}


def make_slice(document: Mapping[str, Any], source: Mapping[str, str]) -> dict[str, Any]:
    """Take the operations of the API out of `document`, with everything that they refer to."""
    paths = {
        path: _without_texts({method: document["paths"][path][method] for method in methods})
        for path, methods in sorted(OPERATIONS.items())
    }
    components: dict[str, dict[str, Any]] = {}
    pending = sorted(_references(paths))
    while pending:
        _, _, kind, name = pending.pop().split("/")
        if name not in components.setdefault(kind, {}):
            component = _without_texts(document["components"][kind][name])
            components[kind][name] = component
            pending += sorted(_references(component))
    responses = [operation["responses"] for path in paths.values() for operation in path.values()]
    for response in chain(*(table.values() for table in [*responses, components["responses"]])):
        if "$ref" not in response:
            response["description"] = ""  # OpenAPI wants it.
    return {
        "openapi": document["openapi"],
        "info": {"title": "A slice of GitHub's REST API", "version": source["version"]},
        "x-source": dict(source),
        "servers": document["servers"],
        "paths": paths,
        "components": {
            kind: dict(sorted(entries.items())) for kind, entries in sorted(components.items())
        },
    }


def _without_texts(value: Any, *, names: bool = False) -> Any:
    """Copy without texts and extensions; with `names`, the keys are names and all of them stay."""
    if isinstance(value, list):
        return [_without_texts(item) for item in value]
    if not isinstance(value, dict):
        return value
    copy = {
        key: _without_texts(
            item, names=not names and key in ("properties", "responses", "content", "headers")
        )
        for key, item in value.items()
        if names or (key not in _TEXTS and not key.startswith("x-"))
    }
    if copy.get("nullable") is True and "oneOf" in copy and "type" not in copy and not names:
        # What GitHub means by it; for OpenAPI, `nullable` does nothing without a type.
        copy["oneOf"].append({"type": "string", "nullable": True, "enum": [None]})
    return copy


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _references(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "$ref" and isinstance(item, str):
                yield item
            else:
                yield from _references(item)


def main() -> None:
    """Write the slice beside `openapi`, one path or component a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("package", type=Path)
    package: Path = parser.parse_args().package
    about = json.loads((package / "package.json").read_text("utf-8"))
    document = json.loads((package / "generated" / "api.github.com.json").read_text("utf-8"))
    source = {
        "package": about["name"],
        "version": about["version"],
        "license": (package / "LICENSE").read_text("utf-8").strip(),
    }
    SLICE.write_text(_text(make_slice(document, source)), encoding="utf-8")


def _text(document: Mapping[str, Any]) -> str:
    def table(entries: Mapping[str, Any], indent: str) -> str:
        lines = (f"{indent}{json.dumps(key)}: {_line(entries[key])}" for key in entries)
        return ",\n".join(lines)

    parts = [
        f"{json.dumps(key)}: {_line(value)}"
        for key, value in document.items()
        if key not in ("paths", "components")
    ]
    parts.append(f'"paths": {{\n{table(document["paths"], "  ")}\n}}')
    kinds = [
        f'  "{kind}": {{\n{table(entries, "    ")}\n  }}'
        for kind, entries in document["components"].items()
    ]
    parts.append('"components": {\n' + ",\n".join(kinds) + "\n}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _line(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


if __name__ == "__main__":
    main()
