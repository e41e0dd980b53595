"""What dbt's own classes make with the shortcuts of `inside` and without, for test_shortcuts.

Run by dbt's own interpreter, so it may import dbt and not ci-defer. Its arguments are the path of
inside.py and that of a folder with a manifest.json. It prints a document of JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Where the classes are that yml is validated with.
VALIDATED = ("dbt.contracts.project", "dbt.contracts.graph.unparsed", "dbt.artifacts.resources")


def module_of(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("inside", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def schemas() -> dict[str, Any]:
    """The JSON Schema of each class."""
    build = importlib.import_module("mashumaro.jsonschema").build_json_schema
    made = {}
    for module in map(importlib.import_module, VALIDATED):
        for name, found in vars(module).items():
            if isinstance(found, type) and hasattr(found, "json_schema"):
                # Bases of others have no schema.
                with contextlib.suppress(NotImplementedError):
                    made[f"{module.__name__}.{name}"] = build(found).to_dict()
    return made


def states(folder: str) -> Any:
    """What dbt reads of a folder, as its commands do."""
    runnable = importlib.import_module("dbt.task.runnable")
    return runnable.PreviousState(
        state_path=Path(folder), target_path=Path("target"), project_root=Path.cwd()
    ).manifest


def deferred(manifest: Any) -> dict[str, Any]:
    """What each node may be deferred to."""
    return {key: getattr(node, "defer_relation", None) for key, node in manifest.nodes.items()}


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return sorted(key for key in {*one, *other} if one.get(key) != other.get(key))


def facts(program: str, folder: str) -> Iterator[tuple[str, Any]]:
    inside = module_of(program)
    importlib.import_module("dbt.cli.main")
    # A command of dbt sets it before it reads a state.
    flags = importlib.import_module("dbt.flags").get_flags()
    flags.state_modified_compare_more_unrendered_values = False
    plain_schemas = schemas()
    theirs = states(folder)
    theirs.merge_from_artifact(states(folder))

    dbt = inside.Dbt()
    yield "notices", dbt.notices
    yield "classes", len(plain_schemas)
    yield "other schemas", differing(plain_schemas, schemas())

    def read(*, only_deferred_to: bool) -> Any:
        # As in a new process.
        dbt._states.clear()
        dbt._only_deferred_to = folder if only_deferred_to else ""
        return states(folder)

    ours, others = read(only_deferred_to=False), read(only_deferred_to=False)
    stand = read(only_deferred_to=True)
    yield "stands for a manifest", type(stand).__name__
    ours.merge_from_artifact(stand)
    yield "deferred", sum(relation is not None for relation in deferred(theirs).values())
    yield "deferred otherwise", differing(deferred(theirs), deferred(ours))

    # A dbt that asks for what nobody has thought of.
    for node in stand.nodes.values():
        del node.alias
    others.merge_from_artifact(stand)
    yield "deferred otherwise after a surprise", differing(deferred(theirs), deferred(others))

    path = Path(folder, "manifest.json")
    refusals = importlib.import_module("dbt_common.exceptions").DbtBaseException
    for name, text in changed(path.read_text()):
        path.write_text(text)
        try:
            yield name, type(read(only_deferred_to=True)).__name__
        except refusals as error:
            yield name, f"{type(error).__name__}: {error}"


def changed(text: str) -> Iterator[tuple[str, str]]:
    """The manifest as other versions, or accidents, have it."""
    document = SimpleNamespace(**json.loads(text))
    yield "damaged", text[:-100]
    yield (
        "of another dbt",
        json.dumps({**vars(document), "metadata": {**document.metadata, "dbt_version": "1.5.0"}}),
    )
    schema = "https://schemas.getdbt.com/dbt/manifest/v99.json"
    yield (
        "of another schema",
        json.dumps(
            {**vars(document), "metadata": {**document.metadata, "dbt_schema_version": schema}}
        ),
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dict(facts(*sys.argv[1:]))))
