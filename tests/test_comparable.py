from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ci_defer.bundle import MANIFEST, PARTIAL_PARSE, TEXTS, ParsedWith
from ci_defer.comparable import Comparable, Comparing, comparable, difference
from ci_defer.dbt import Connection, Invocation, Parsed, SavedParse, commands
from ci_defer.errors import Cancelled
from ci_defer.project import Project
from tests.samples import Log, manifest, node
from tests.test_saved_parse import document, model

MODEL = "model.shop.a"
OURS = "ci_of_ada"


@dataclass
class Dbt:
    """An engine that parses at once, and what becomes of it.

    `changes_at` has the numbers of the parses that make another manifest, and `saved` makes the
    saved parse. `exit_codes` are by schema, and why no parse goes on from a saved one (`in_full`)
    by whether that carries over.
    """

    changes_at: tuple[int, ...] = ()
    saved: Callable[[str], dict[str, Any]] | None = lambda schema: document_in(schema)  # noqa: PLW0108 - defined below
    exit_codes: dict[str, int] = field(default_factory=dict)
    in_full: dict[bool, str] = field(default_factory=dict)
    cancels: bool = False
    has_connection: bool = True
    parsed: list[str] = field(default_factory=list)
    closed: int = 0

    def engine_for(self, schema: str) -> Callable[[Project, str | None], Any]:
        return lambda project, target: Engine(self, project, target, schema)

    @contextmanager
    def in_schema(self, schema: str) -> Iterator[Callable[[Project, str | None], Any]]:
        yield self.engine_for(schema)


class Engine(commands.CommandEngine):
    def __init__(self, dbt: Dbt, project: Project, target: str | None, schema: str) -> None:
        self.dbt, self.project, self.target, self.schema = dbt, project, target, schema

    def saves_parses(self) -> bool:
        return True

    def parse(self, saved: SavedParse | None = None) -> Parsed:
        if self.dbt.cancels and self.dbt.parsed:
            raise Cancelled("Cancelled.")
        kind = "placeholder" if self.schema != OURS else OURS
        self.dbt.parsed.append(f"{kind} from {saved.terms.schema[:6]}" if saved else kind)
        to = self.project.target_path
        is_other = len(self.dbt.parsed) in self.dbt.changes_at
        config = {"materialized": "view" if is_other else "table"}
        made = manifest([node(MODEL, schema=self.schema, config=config)])
        (to / MANIFEST).write_text(json.dumps(made))
        if self.dbt.saved:
            packed = msgspec.msgpack.encode(self.dbt.saved(self.schema))
            (to / PARTIAL_PARSE).write_bytes(packed)
        exit_code = self.dbt.exit_codes.get(kind, 0)
        connection = Connection(schema=self.schema, versions={"python": "3"})
        return Parsed(
            Invocation(("dbt", "parse"), exit_code, 1.0, "It broke.", interrupted=False),
            self.dbt.in_full.get(saved.terms.carries_over, "") if saved else "",
            connection if self.dbt.has_connection else None,
        )

    def close(self) -> None:
        self.dbt.closed += 1


def document_in(schema: str, **more: Any) -> dict[str, Any]:
    names = {"schema": schema, "relation_name": f"db.{schema}.a"}
    return document(nodes={MODEL: model("a", **names, **more)}, disabled={}, saved_queries={})


def made_by(
    dbt: Dbt, tmp_path: Path, *, is_asked_for: bool = False, saves: bool = True
) -> tuple[Comparable | None, Log]:
    project = Project(tmp_path, "shop", tmp_path / "target", tmp_path / "dbt_packages")
    log = Log()
    to = tmp_path / "made"
    to.mkdir()
    comparing = Comparing(
        parsed_with=ParsedWith(dbt_version="1.12.0", adapter="duckdb", target="ci"),
        in_schema=dbt.in_schema,
        is_asked_for=is_asked_for,
        saves=saves,
    )
    made = comparable(project, comparing, to, engine_for=dbt.engine_for(OURS), log=log)
    assert dbt.closed >= len(dbt.parsed)
    return made, log


def files_of(made: Comparable) -> set[str]:
    return {path.name for path in made.folder.iterdir()}


def test_comparable__is_published_for_any_schema_after_it_was_tried(tmp_path: Path) -> None:
    dbt = Dbt()
    made, _ = made_by(dbt, tmp_path)
    assert made
    assert made.terms
    assert made.terms.carries_over
    assert made.terms.schema.startswith("ci_pr_")
    assert dbt.parsed == [OURS, "placeholder", f"{OURS} from ci_pr_"]
    assert files_of(made) == {MANIFEST, PARTIAL_PARSE, TEXTS}


@pytest.mark.parametrize(
    ("dbt", "why"),
    [
        (
            Dbt(saved=lambda schema: document_in(schema, raw_code="{{ target.schema }}")),
            "models/a.sql speaks of `target`",
        ),
        (Dbt(exit_codes={"placeholder": 2}), "dbt cannot parse the project"),
        (Dbt(in_full={True: "profile has changed"}), "profile has changed"),
        (Dbt(changes_at=(3,)), "nodes.model.shop.a.config.materialized"),
    ],
)
def test_comparable__falls_back_to_the_schema_of_the_target(
    tmp_path: Path, dbt: Dbt, why: str
) -> None:
    made, log = made_by(dbt, tmp_path)
    assert made
    assert made.terms
    assert (made.terms.schema, made.terms.carries_over) == (OURS, False)
    assert dbt.parsed[-1] == f"{OURS} from {OURS[:6]}"
    assert files_of(made) == {MANIFEST, PARTIAL_PARSE, TEXTS}
    [line] = [line for line in log.lines if line.startswith("There is no saved parse")]
    assert line.startswith("There is no saved parse for any schema: ")
    assert why in line


@pytest.mark.parametrize("is_asked_for", [False, True])
@pytest.mark.parametrize(
    ("dbt", "why"),
    [
        (Dbt(changes_at=(3, 4)), "nodes.model.shop.a.config.materialized"),
        (Dbt(saved=None), "dbt has saved none"),
        (Dbt(saved=lambda schema: {}), "is not as dbt Core writes it"),
        (Dbt(in_full={True: "it is not", False: "it is not"}), "it is not"),
    ],
)
def test_comparable__publishes_no_saved_parse_that_is_not_as_good(
    tmp_path: Path, dbt: Dbt, why: str, *, is_asked_for: bool
) -> None:
    dbt = replace(dbt, parsed=[])
    made, log = made_by(dbt, tmp_path, is_asked_for=is_asked_for)
    assert (made is not None) is is_asked_for
    if made:
        assert made.terms is None
        assert files_of(made) == {MANIFEST}
    lines = [line for line in log.lines if line.startswith("There is no saved parse")]
    assert len(lines) == 2
    assert all(why in line for line in lines)
    assert log.warnings == []


@pytest.mark.parametrize("is_asked_for", [False, True])
def test_comparable__that_dbt_cannot_make_is_worth_a_warning_where_it_is_asked_for(
    tmp_path: Path, *, is_asked_for: bool
) -> None:
    dbt = Dbt(exit_codes={OURS: 2})
    made, log = made_by(dbt, tmp_path, is_asked_for=is_asked_for)
    assert made is None
    assert dbt.parsed == [OURS]
    assert len(log.warnings) == is_asked_for
    assert dbt.closed == 1


@pytest.mark.parametrize("has_connection", [False, True])
def test_comparable__without_partial_parses_is_a_manifest(
    tmp_path: Path, *, has_connection: bool
) -> None:
    dbt = Dbt(has_connection=has_connection)
    made, _ = made_by(dbt, tmp_path, is_asked_for=True, saves=not has_connection)
    assert made
    assert made.terms is None
    assert dbt.parsed == [OURS]


def test_comparable__is_not_made_for_nothing(tmp_path: Path) -> None:
    made, log = made_by(Dbt(), tmp_path, saves=False)
    assert (made, log.warnings) == (None, [])


def test_comparable__ends_when_it_is_cancelled(tmp_path: Path) -> None:
    dbt = Dbt(cancels=True)
    with pytest.raises(Cancelled):
        made_by(dbt, tmp_path)
    assert dbt.parsed == [OURS]
    assert dbt.closed == 2


def test_comparable__reads_projects_in_any_encoding(tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_bytes(b"name: caf\xe9 # {{ target.schema }}")
    made, log = made_by(Dbt(), tmp_path)
    assert made
    assert any("dbt_project.yml speaks of `target`" in line for line in log.lines)


@pytest.mark.parametrize(
    ("one", "other", "where"),
    [
        ({}, {}, ""),
        ({"metadata": 1}, {"metadata": 2}, ""),
        ({"nodes": {"a": {"created_at": 1}}}, {"nodes": {"a": {"created_at": 2}}}, ""),
        ({"group_map": {"a": ["x", "y"]}}, {"group_map": {"a": ["y", "x"]}}, ""),
        ({"group_map": {"a": ["x"]}}, {"group_map": {"a": ["y"]}}, "group_map.a"),
        ({"nodes": {"a": 1}}, {"nodes": {}}, "nodes.a"),
        ({"nodes": {"a": [1, 2]}}, {"nodes": {"a": [2, 1]}}, "nodes.a"),
        ({"disabled": {"a": [{"created_at": 1}]}}, {"disabled": {"a": [{"created_at": 2}]}}, ""),
        ({"a": {"b": [{"c": 1}]}}, {"a": {"b": [{"c": 1}, {}]}}, "a.b"),
    ],
)
def test_difference(tmp_path: Path, one: Any, other: Any, where: str) -> None:
    files = [tmp_path / name for name in ("one", "other")]
    for file, manifest_of in zip(files, (one, other), strict=True):
        file.write_text(json.dumps(manifest_of))
    assert difference(*files) == where
