"""The order of copies, with a warehouse in memory; real ones are in e2e/test_isolation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from ci_defer.bundle import Bundle
from ci_defer.clearance import Item
from ci_defer.clones import Clones
from ci_defer.cloning import ATTEMPTS, Cloner
from ci_defer.dbt.warehouse import Copied, Warehouse
from ci_defer.errors import Cancelled, CiDeferError, DbtError
from ci_defer.footprint import Relation
from ci_defer.manifest import Manifest
from tests import samples

NAMES = ("a", "b", "c", "d", "e", "f")


class Tables:
    """A warehouse. What is `stuck` ends the operation, what is `absent` is not in production."""

    def __init__(
        self,
        *,
        stuck: Sequence[str] = (),
        absent: Sequence[str] = (),
        error: CiDeferError | None = None,
    ) -> None:
        self.stuck, self.absent, self.error = stuck, absent, error
        self.operations: list[list[str]] = []

    def copy(self, pairs: Sequence[tuple[Relation, Relation]]) -> Copied:
        self.operations.append([to.identifier for _, to in pairs])
        if self.error:
            raise self.error
        done: set[Item] = set()
        absent: set[Item] = set()
        for source, to in pairs:
            assert (source.schema, to.schema) == ("prod", "ci")
            item = (to.place, to.identifier)
            if to.identifier in self.stuck:
                return Copied(frozenset(done), frozenset(absent), item, "no rights\nmore of it")
            (absent if to.identifier in self.absent else done).add(item)
        return Copied(frozenset(done), frozenset(absent))


def manifest(schema: str) -> Manifest:
    nodes = [
        samples.node(f"model.shop.{name}", database="db", schema=schema, alias=name)
        for name in NAMES
    ]
    return msgspec.convert(samples.manifest(nodes), Manifest)


def copied(tables: Tables, tmp_path: Path) -> tuple[str, list[str]]:
    """The names of what was copied, and what the report is told."""
    theirs = samples.write_artifacts(
        tmp_path / "state", manifest=msgspec.to_builtins(manifest("prod"))
    )
    notes: list[str] = []
    ours = manifest("ci")
    cloner = Cloner(
        production=Bundle(theirs, None),
        engine=cast("Any", None),
        warehouse=cast("Warehouse", tables),
        target_path=tmp_path,
        ran=lambda _: None,
        note=notes.append,
    )
    done = cloner.clone(Clones(copies=tuple(ours.nodes.values())))
    return "".join(sorted(unique_id[-1] for unique_id in done)), notes


def test_copies__are_made_in_one_operation(tmp_path: Path) -> None:
    tables = Tables()
    assert copied(tables, tmp_path) == ("abcdef", [])
    assert len(tables.operations) == 1


def test_copies__skip_what_production_lacks(tmp_path: Path) -> None:
    tables = Tables(absent="bc")
    assert copied(tables, tmp_path) == ("adef", ["Not cloned, so built in full: b, c."])
    assert len(tables.operations) == 1


def test_copies__go_on_behind_what_fails(tmp_path: Path) -> None:
    tables = Tables(stuck="bd", absent="e")
    done, [note] = copied(tables, tmp_path)
    assert done == "acf"
    assert note == "Not cloned, so built in full: b, d, e. no rights"
    assert tables.operations == [list("abcdef"), list("cdef"), list("ef")]


def test_copies__are_given_up_when_most_of_them_fail(tmp_path: Path) -> None:
    tables = Tables(stuck="abcdef")
    done, [note] = copied(tables, tmp_path)
    assert (done, len(tables.operations)) == ("", ATTEMPTS)
    assert note == "Not cloned, so built in full: a, b, c and 3 more. no rights"


def test_copies__that_dbt_cannot_begin_are_no_reason_to_stop(tmp_path: Path) -> None:
    tables = Tables(error=DbtError("dbt cannot copy anything: no connection."))
    done, [note] = copied(tables, tmp_path)
    assert (done, len(tables.operations)) == ("", 1)
    assert note.endswith("a, b, c and 3 more. dbt cannot copy anything: no connection.")


def test_copies__that_are_cancelled_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        copied(Tables(error=Cancelled("Cancelled.")), tmp_path)
