"""Projects that are parsed in full and from a saved parse, by a real dbt, for test_warm_parse.

The answers of plain commands are those of `reasons_dbt`; what goes on from a saved parse runs in a
fork of a process that has dbt imported (`warm_inside`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from ci_defer import comparable
from ci_defer.dbt import Connection
from ci_defer.dbt.saved_parse import Published, publish
from ci_defer.manifest import Manifest, read_difference, read_manifest
from tests.e2e.reasons_engines import TIMEOUT, Engine
from tests.e2e.reasons_project import (
    PROJECT,
    SEMANTIC,
    SOURCES,
    STAGING,
    WEEKLY,
    Edit,
    Project,
    add,
    base,
    both,
    create,
    put,
)
from tests.environments import clean_environ

# Of the saved parse, of the target of pull requests, and of one.
PLACEHOLDER = "ci_pr_000000042"
THEIRS = "ci"
OURS = "pr_77"

SELECTING = ("--select", "state:modified+")
LISTING = ("--resource-type", "all", "--output", "json", "--output-keys", "unique_id")
# What of a manifest is not of the project.
OF_NO_PROJECT = {"metadata"}


def document(path: str, content: Any) -> Edit:
    def edit(project: Project) -> None:
        project.documents[path] = content

    return edit


# What ties a parse to its connection is left out, and what has a schema of it, or a root, is added.
UNTIED = both(
    put(SOURCES, "sources", "crm", "schema", to="customers"),
    add(SEMANTIC, *WEEKLY, "exports", item={"name": "to_view", "config": {"export_as": "view"}}),
    create("seeds/off.csv", "n\n1\n"),
    document("seeds/off.yml", {"seeds": [{"name": "off", "config": {"enabled": False}}]}),
    create("models/marts/off.sql", "{{ config(enabled=false) }} select 1 as n\n"),
    create("models/marts/coloured.sql", "select '{{ env_var('COLOUR', 'red') }}' as colour\n"),
    create("tests/fixtures/three.csv", "customer_id\n3\n"),
    add(
        STAGING,
        "unit_tests",
        item={
            "name": "from_a_fixture",
            "model": "short",
            "given": [{"input": "ref('stg_customers')", "format": "csv", "fixture": "three"}],
            "expect": {"rows": [{"customer_id": 3}]},
        },
    ),
)


def untied(version: str) -> Project:
    """The project of test_reasons, of which a parse can be carried over to other schemas."""
    project = base(version)
    UNTIED(project)
    return project


def in_schema(project: Project, schema: str) -> Project:
    """The project with this schema in its profile."""
    changed = project.copy()
    put("profiles.yml", "shop", "outputs", "dev", "schema", to=schema)(changed)
    return changed


@dataclass(frozen=True)
class Saved:
    """A project as the default branch publishes it: its own folder is gone.

    `folder` has the manifest in our schema, that a plain command compares with, and `theirs` the
    one that is published.
    """

    folder: Path
    theirs: Path
    published: Published
    project: Project

    def terms(self, **changes: Any) -> dict[str, Any]:
        """What `inside` is told."""
        paths = {
            "file": self.folder / "partial_parse.msgpack",
            "texts": self.folder / "texts.json",
            "stands_for": self.theirs,
        }
        told = msgspec.to_builtins(self.published.terms)
        return {**told, **{name: str(path) for name, path in paths.items()}, **changes}


@dataclass(frozen=True)
class Warm:
    """What came of a project that was parsed from a saved parse."""

    answer: Mapping[str, Any]
    selected: frozenset[str]
    target: Path
    notices: list[str]

    @property
    def in_full(self) -> str:
        """Why dbt has not gone on from it, or must not have."""
        return str(self.answer["parsed"] or self.answer["distrusted"])


class Dbt:
    """A version of dbt, and the folder for all that it parses."""

    def __init__(self, engine: Engine, version: str, bin_folder: Path, folder: Path) -> None:
        self.version = version
        self._call = engine.call
        self._bin = bin_folder
        self._folder = folder
        self._count = 0

    @cached_property
    def base(self) -> Project:
        return untied(self.version)

    @cached_property
    def saved_base(self) -> Saved:
        return self.publish(self.base)

    @cached_property
    def connection(self) -> Connection:
        """What this dbt is connected to, but for the schema."""
        project = self.write(self.base)
        request = {"arguments": self.arguments("parse", project=project), "restore": None, "to": ""}
        answer = self._converse(self.base, [request])["answers"][0]
        return msgspec.convert(answer["connection"], Connection)

    def write(self, project: Project) -> Path:
        self._count += 1
        folder = self._folder / str(self._count)
        project.write(folder)
        return folder

    def parse(self, project: Project, folder: Path, target: str = "target") -> Path:
        """Parse in full with a plain command; where the artifacts are. Raises Refused."""
        to = folder / target
        self._call("parse", target=str(to), project=str(folder), **told(project))
        return to

    def publish(self, project: Project, *, schema: str = PLACEHOLDER) -> Saved:
        """Publish a saved parse, and the manifests to compare with and to defer to. May refuse."""
        main = self.write(in_schema(project, schema))
        parsed = self.parse(project, main)
        texts = [main / PROJECT, main / "dbt_packages" / "tools" / PROJECT]
        published = publish(
            (parsed / "partial_parse.msgpack").read_bytes(),
            msgspec.structs.replace(self.connection, schema=schema),
            is_placeholder=schema == PLACEHOLDER,
            project_texts=[(file.name, file.read_text()) for file in texts],
        )
        self.forget(main)
        shutil.rmtree(main)
        state = self.write(in_schema(project, OURS))
        made = self.parse(project, state)
        shutil.copytree(made, state / "compare")
        shutil.copytree(made, state / "prod")
        self._call("forget", target=str(made))
        (state / "compare" / "partial_parse.msgpack").write_bytes(published.packed)
        (state / "compare" / "texts.json").write_text(json.dumps(published.texts))
        other = self.write(in_schema(project, THEIRS))
        theirs = shutil.copytree(self.parse(project, other), state / "theirs")
        self.forget(other)
        return Saved(state / "compare", theirs, published, project)

    def select(self, project: Project, folder: Path, saved: Saved) -> frozenset[str]:
        """What a plain `dbt ls` selects, with files. May refuse."""
        listed = self._call(
            "select",
            target=str(folder / "target"),
            project=str(folder),
            state=str(saved.folder),
            arguments=[*SELECTING, "--defer", "--defer-state", str(saved.folder.parent / "prod")],
            **told(project),
        )
        return frozenset(listed)

    def go_on(self, project: Project, folder: Path, saved: Saved, **changes: Any) -> Warm:
        """Parse a project that is in `folder` from a saved parse, and list what it selects."""
        prod = str(saved.folder.parent / "prod")
        deferring = ("--state", str(saved.theirs), "--defer", "--defer-state", prod)
        listing = self.arguments(
            *("ls", *SELECTING, *deferring, *LISTING, *project.flags), project=folder, target="warm"
        )
        to = folder / "difference.json"
        request = {"arguments": listing, "restore": saved.terms(**changes), "to": str(to)}
        made = self._converse(project, [request])
        lines = [line for line in made["output"].splitlines() if line.startswith("{")]
        return Warm(
            answer=made["answers"][0],
            selected=frozenset(json.loads(line)["unique_id"] for line in lines),
            target=folder / "warm",
            notices=made["notices"],
        )

    def arguments(self, *command: Any, project: Path, target: str = "driven") -> list[str]:
        places = ("--project-dir", project, "--profiles-dir", project)
        artifacts = ("--target-path", project / target, "--log-path", project / target)
        return [*map(str, (*command, *places, *artifacts)), "--quiet"]

    def forget(self, folder: Path) -> None:
        """Drop what dbt keeps of a project in a folder."""
        self._call("forget", target=str(folder / "target"))

    def _converse(self, project: Project, requests: list[dict[str, Any]]) -> dict[str, Any]:
        answers = self._folder / "answers.json"
        answers.unlink(missing_ok=True)
        done = subprocess.run(
            [self._bin / "dbt", answers],
            input=json.dumps(requests),
            cwd=self._folder,
            env={**clean_environ(self._folder), **project.environ},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert answers.is_file(), f"{done.stdout}{done.stderr}"
        return {**json.loads(answers.read_text()), "output": done.stdout}


def told(project: Project) -> dict[str, Any]:
    return {"environ": project.environ, "flags": project.flags}


def wrong(warm: Warm, full: Path, selected: frozenset[str], saved: Saved) -> Iterator[str]:
    """What a parse from a saved parse makes otherwise than a full one."""
    if warm.answer["exit_code"]:
        yield f"dbt ends with {warm.answer['exit_code']}"
    if warm.answer["exit_code"] or warm.answer["distrusted"]:
        # A plain command is run instead.
        return
    if warm.selected != selected:
        yield f"selects {sorted(warm.selected ^ selected)} otherwise"
    if where := comparable.difference(full / "manifest.json", warm.target / "manifest.json"):
        yield f"the manifest has {where} otherwise"
    if wrote := warm.answer["wrote"]:
        theirs = read_manifest(full / "manifest.json")
        ours = read_difference(Path(wrote), read_manifest(saved.theirs / "manifest.json"))
        yield from (f"merged, {where} is other" for where in fields_that_differ(ours, theirs))


def fields_that_differ(ours: Manifest, theirs: Manifest) -> Iterator[str]:
    for group in Manifest.__struct_fields__:
        if group in OF_NO_PROJECT:
            continue
        one, other = getattr(ours, group) or {}, getattr(theirs, group) or {}
        for key in sorted({*one, *other}):
            if without_time(one.get(key)) != without_time(other.get(key)):
                yield f"{group}.{key}"


def without_time(item: Any) -> Any:
    """Of a disabled node, which is a document, all but when it was made."""
    if isinstance(item, list):
        return [{k: v for k, v in node.items() if k != "created_at"} for node in item]
    return item
