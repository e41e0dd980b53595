"""The reasons that we give for a selection are those that dbt selected for.

The differential test: a small project with one of everything (reasons_project) is edited and
parsed by a real dbt, which then lists what each of its state selectors chooses. What
`selection.Explained` says of the same two manifests must come to the same sets, node for node.

dbt Core and dbt v2 have rules of their own, and the same edits. What one of them cannot answer for
is left out by the lists in reasons_project, each with its reason; that all others were tried is
asserted.

The ordinary run has each edit in a bundle with others and some random ones. With
CI_DEFER_LONG=<number of random cases> each edit is also tried alone, there and back.
"""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ci_defer.manifest import Manifest, read_manifest
from ci_defer.report import ReasonKind
from ci_defer.selection import Explained, default_of_compares_unrendered
from tests.e2e.reasons_engines import Engine, Program, Refused, going_together, servers
from tests.e2e.reasons_project import (
    EDITS,
    NEVER_NEW_TO_V2,
    OVERLOAD,
    OVERLOAD_BODY,
    PROJECT,
    REFUSED,
    REFUSED_BY_VERSION,
    SAVED_QUERIES_OF_V2,
    SEMANTIC_OF_V2,
    UNSTEADY,
    Edit,
    Project,
    base,
    edits_of,
    put,
    random_edit,
)
from tests.environments import DBT_V2, DBT_VERSIONS

pytestmark = pytest.mark.dbt

LONG = int(os.environ.get("CI_DEFER_LONG", "0"))
SHORT = 3
VERSIONS = (*DBT_VERSIONS, DBT_V2)
BUNDLES = 5
SINGLES = 2

SUB_SELECTORS = (
    ReasonKind.BODY,
    ReasonKind.CONFIGS,
    ReasonKind.DESCRIPTIONS,
    ReasonKind.RELATION,
    ReasonKind.MACROS,
    ReasonKind.CONTRACT,
)
# dbt has no `same_body` for a unit test: only `state:modified` knows of its checksum.
OURS_ALONE = {ReasonKind.BODY: "unit_test."}
# A generic test has the sub-selectors of every node, and `state:modified` itself asks it for
# `configs`, for its fqn and for macros alone: what the others say of it selects nothing.
NOT_OF_GENERIC_TESTS = {ReasonKind.BODY, ReasonKind.RELATION, ReasonKind.DESCRIPTIONS}


class Dbt:
    """A version of dbt, and the folder for all that it parses."""

    def __init__(self, engine: Engine, version: str, folder: Path) -> None:
        self.call = engine.call
        self.version = version
        self._folder = folder
        self._count = 0

    def parse(self, project: Project) -> Parsed:
        """Raises Refused when dbt does not take the project."""
        self._count += 1
        made = Parsed(self, project, self._folder / str(self._count))
        project.write(made.folder)
        self.call("parse", target=str(made.target), **made.arguments)
        return made

    @cached_property
    def base(self) -> Parsed:
        return self.parse(base(self.version))

    @cached_property
    def edits(self) -> Mapping[str, tuple[Edit, str]]:
        return edits_of(self.version)


@dataclass(frozen=True)
class Parsed:
    """A project that dbt has parsed, and its manifest.

    The document is the manifest as JSON, for what is checked without any of our own code.
    """

    dbt: Dbt
    project: Project
    folder: Path

    @property
    def target(self) -> Path:
        return self.folder / "target"

    @property
    def arguments(self) -> dict[str, Any]:
        told = {"environ": self.project.environ, "flags": self.project.flags}
        return {"project": str(self.folder), **told}

    @cached_property
    def manifest(self) -> Manifest:
        return read_manifest(self.target / "manifest.json")

    @cached_property
    def document(self) -> Mapping[str, Any]:
        document: Mapping[str, Any] = json.loads((self.target / "manifest.json").read_bytes())
        return document

    @property
    def compares_unrendered(self) -> bool:
        flags = self.project.documents[PROJECT]["flags"]
        default = default_of_compares_unrendered(self.dbt.version)
        return bool(flags.get("state_modified_compare_more_unrendered_values", default))

    def selected(self, before: Parsed, *arguments: str) -> frozenset[str]:
        """What `dbt ls` lists with the manifest of `before` as its state. May raise Refused."""
        listed = self.dbt.call(
            "select",
            target=str(self.target),
            state=str(before.target),
            arguments=list(arguments),
            **self.arguments,
        )
        return frozenset(listed)

    def forget(self) -> None:
        self.dbt.call("forget", target=str(self.target))


@pytest.fixture(scope="session")
def start_dbt(
    tmp_path_factory: pytest.TempPathFactory, shared_folder: Path
) -> Iterator[Callable[[str], Dbt]]:
    with servers(shared_folder) as core:

        @cache
        def start(version: str) -> Dbt:
            folder = tmp_path_factory.mktemp(f"dbt-{version}")
            engine = Program(folder) if version == DBT_V2 else core.connect(version)
            return Dbt(engine, version, folder)

        yield start


@pytest.fixture(params=VERSIONS)
def dbt(request: pytest.FixtureRequest, start_dbt: Callable[[str], Dbt]) -> Dbt:
    return start_dbt(request.param)


# What must hold -----------------------------------------------------------------------------------


class Comparison:
    """dbt's answers and ours for one project and the state before it."""

    def __init__(self, now: Parsed, before: Parsed) -> None:
        self.now = now
        self.before = before
        self.explained = Explained(
            now.manifest, before.manifest, compares_unrendered=now.compares_unrendered
        )
        self.modified = now.selected(before, "--select", "state:modified", *ALONE)
        self.differences: list[str] = []

    def kinds(self) -> frozenset[str]:
        """The kinds of all reasons, in the words of the report."""
        found = self.explained.modified.items()
        listed = [reasons for name, reasons in found if name.partition(".")[0] != "operation"]
        return frozenset(reason.kind.value for reasons in listed for reason in reasons)

    def check(self) -> None:
        """Note all differences in what is modified, and how."""
        self._modified()
        new = self._new()
        self._sub_selectors(new)
        self._ways_to_macros()

    def check_downstream(self, random: Random) -> None:
        """Note all differences in what is said of the nodes that are only reached."""
        everything = self.now.selected(self.before, "--select", "state:modified+")
        for unique_id in self._resources():
            kinds = [reason.kind for reason in self.explained.reasons(unique_id)]
            if unique_id in everything and (not kinds or ReasonKind.CHOSEN in kinds):
                self._note("is selected without a reason", [unique_id])
            # A new source is no change to dbt, and new all the same.
            if unique_id not in everything and kinds not in ([ReasonKind.CHOSEN], [ReasonKind.NEW]):
                self._note("has a reason and is not selected", [unique_id])
        excluded = random.choice(sorted(everything) or ["model.shop.orders"])
        name = excluded.split(".")[2]
        fewer = self.now.selected(
            self.before,
            "--select",
            "state:modified+",
            "--exclude",
            random.choice((name, f"{name}+")),
        )
        for unique_id in fewer:
            if ReasonKind.CHOSEN in [reason.kind for reason in self.explained.reasons(unique_id)]:
                self._note(f"is selected without {name} and without a reason", [unique_id])
        self._causes(everything)

    def _resources(self) -> list[str]:
        # dbt lists no hooks.
        ours = self.now.manifest.resources()
        return [node.unique_id for node in ours if node.resource_type != "operation"]

    def _note(self, what: str, unique_ids: Iterable[str]) -> None:
        for unique_id in sorted(unique_ids):
            said = [
                f"{reason.kind.value}: {reason.text}"
                for reason in self.explained.reasons(unique_id)
            ]
            self.differences.append(f"{unique_id} {what}; we say: {said}")

    def _same(self, what: str, ours: Collection[str], theirs: Collection[str]) -> None:
        self._note(f"is {what} to dbt, and not to us", {*theirs} - {*ours})
        self._note(f"is {what} to us, and not to dbt", {*ours} - {*theirs})

    def _modified(self) -> None:
        ours = {name for name in self.explained.modified if name.partition(".")[0] != "operation"}
        self._same("state:modified", ours, self.modified)

    def _new(self) -> frozenset[str]:
        new = self.now.selected(self.before, "--select", "state:new", *ALONE)
        ours = {
            name
            for name in self._resources()
            if ReasonKind.NEW in [reason.kind for reason in self.explained.reasons(name)]
        }
        if self.now.dbt.version == DBT_V2:
            new |= {name for name in ours if name.startswith(NEVER_NEW_TO_V2)}
        self._same("state:new", ours, new)
        return new

    def _sub_selectors(self, new: frozenset[str]) -> None:
        documents = self.now.document["nodes"]
        generic = {name for name in documents if documents[name].get("test_metadata")}
        # No need to ask how nothing was modified.
        for kind in SUB_SELECTORS if self.modified else ():
            theirs = self.now.selected(
                self.before, "--select", f"state:modified.{kind.value}", *ALONE
            )
            theirs = theirs & self.modified - new
            if kind in NOT_OF_GENERIC_TESTS:
                theirs -= generic
            ours = {
                name
                for name, reasons in self.explained.modified.items()
                if kind in [reason.kind for reason in reasons]
                and not name.startswith((OURS_ALONE.get(kind, "operation."), "operation."))
            }
            self._same(f"state:modified.{kind.value}", ours - new, theirs)

    def _ways_to_macros(self) -> None:
        """The way that is said is one, and no other is shorter."""
        ours, theirs = self.now.document["macros"], self.before.document["macros"]
        changed = {
            name
            for name in {**ours, **theirs}
            if ours.get(name, {}).get("macro_sql") != theirs.get(name, {}).get("macro_sql")
        }
        for unique_id, reasons in self.explained.modified.items():
            for reason in reasons:
                if reason.kind is not ReasonKind.MACROS:
                    continue
                match = re.fullmatch(
                    r"macro (\S+) (?:changed|is new|is gone)(?:, used through (.+))?", reason.text
                )
                assert match, reason.text
                way = [*(match[2].split(" → ") if match[2] else ()), match[1]]
                # dbt v2 has the block of a snapshot among the macros, under its own kind of name.
                way = [name if name in ours else f"macro.{name}" for name in way]
                node = self.now.manifest.find(unique_id)
                assert node is not None
                calls = [node.depends_on.macros] + [
                    ours[name]["depends_on"]["macros"] for name in way[:-1]
                ]
                if not all(name in called for name, called in zip(way, calls, strict=True)):
                    self._note("does not call the macros in this way", [unique_id])
                if way[-1] not in changed:
                    self._note("uses a macro that did not change", [unique_id])
                steps = distances(
                    dict.fromkeys((name for name in node.depends_on.macros if name), 1),
                    lambda name: ours[name]["depends_on"]["macros"] if name in ours else [],
                )
                if min(steps[name] for name in changed if name in steps) != len(way):
                    self._note("has a shorter way to a changed macro", [unique_id])

    def _causes(self, everything: Collection[str]) -> None:
        """The causes that are named are all that are as near as that, and none is nearer."""
        children = self.now.document["child_map"]
        steps_from = {
            name: distances({name: 0}, lambda name: children.get(name, []))
            for name in self.modified
        }
        for unique_id in everything:
            for reason in self.explained.reasons(unique_id):
                if reason.kind is not ReasonKind.DOWNSTREAM:
                    continue
                match = re.fullmatch(
                    r"(?:tests|downstream of) (.+?)(?: and (\d+) more)?(?: \((\d+) steps\))?",
                    reason.text,
                )
                assert match, reason.text
                far = {
                    name: steps[unique_id]
                    for name, steps in steps_from.items()
                    if unique_id in steps
                }
                nearest = [name for name in far if far[name] == min(far.values())]
                named = match[1].split(", ")
                known = [node.name for name in nearest if (node := self.now.manifest.find(name))]
                if (
                    min(far.values(), default=0) != int(match[3] or 1)
                    or not {*named} <= {*known}
                    or len(named) + int(match[2] or 0) != len(nearest)
                ):
                    self._note(f"is downstream of {nearest}", [unique_id])


# A test comes with the node that it tests, unless it is told not to.
ALONE = ("--indirect-selection", "empty")


def distances(
    start: Mapping[str, int], following: Callable[[str], Iterable[str | None]]
) -> dict[str, int]:
    """How many steps it is to everything that can be reached."""
    found = dict(start)
    queue = deque(found)
    while queue:
        name = queue.popleft()
        for other in following(name):
            if other and other not in found:
                found[other] = found[name] + 1
                queue.append(other)
    return found


def edited(project: Project, edits: Iterable[Edit]) -> Project:
    made = project.copy()
    for edit in edits:
        edit(made)
    return made


def report(dbt: Dbt, edits: object, differences: Iterable[str]) -> str:
    return "\n".join([f"dbt {dbt.version}, edits: {edits}", *differences])


# The tests ----------------------------------------------------------------------------------------


def bundles(edits: Iterable[str]) -> list[list[str]]:
    """All edits, each once, in a few projects: those that leave one another alone, by chance."""
    names = sorted(edits)
    Random(0).shuffle(names)
    return [names[start::BUNDLES] for start in range(BUNDLES)]


@pytest.mark.parametrize("bundle", range(BUNDLES))
def test_edits_together__have_the_reasons_of_dbt(dbt: Dbt, bundle: int) -> None:
    left = {name: dbt.edits[name][0] for name in bundles(dbt.edits)[bundle]}
    while left:
        # Those that do not go with the others have a project of their own.
        compared, applied = going_together(
            dbt.base.project, left.items(), lambda project: compare(dbt, project, dbt.base)
        )
        assert applied, f"dbt {dbt.version} takes none of {list(left)}"
        compared.check()
        compared.check_downstream(Random(bundle))
        compared.now.forget()
        assert not compared.differences, report(dbt, applied, compared.differences)
        left = {name: edit for name, edit in left.items() if name not in applied}


@pytest.mark.parametrize("seed", range(LONG or SHORT))
def test_random_edits__have_the_reasons_of_dbt(dbt: Dbt, seed: int) -> None:
    random = Random(seed)
    start = base(dbt.version)
    # dbt's own default, and either value of the flag that changes how sources are compared.
    if (unrendered := random.choice((None, True, False))) is not None:
        flag = "state_modified_compare_more_unrendered_values"
        put(PROJECT, "flags", flag, to=unrendered)(start)
    drawn = [random_edit(random, dbt.version) for _ in range(random.randrange(4))]
    before, first = going_together(start, drawn, dbt.parse)
    drawn = [random_edit(random, dbt.version) for _ in range(random.randint(1, 5))]
    compared, second = going_together(
        before.project, drawn, lambda project: compare(dbt, project, before)
    )
    compared.check()
    compared.check_downstream(random)
    compared.now.forget()
    before.forget()
    edits = f"seed {seed}, unrendered {unrendered}, before {first}, then {second}"
    assert not compared.differences, report(dbt, edits, compared.differences)


def one_by_one() -> list[tuple[str, str]]:
    """Each version and the edits to try alone: bundles have them all, one by one it is minutes."""
    found = []
    for version in VERSIONS:
        names = [*edits_of(version)]
        found += [(version, name) for name in names[:: 1 if LONG else len(names) // SINGLES]]
    return found


@pytest.mark.parametrize(("dbt", "name"), one_by_one(), indirect=["dbt"])
def test_edit_alone__has_the_reasons_of_dbt(dbt: Dbt, name: str) -> None:
    edit, kinds = dbt.edits[name]
    now = dbt.parse(edited(dbt.base.project, [edit]))
    there, back = Comparison(now, dbt.base), Comparison(dbt.base, now)
    for compared in (there, back):
        compared.check()
        compared.check_downstream(Random(name))
    now.forget()
    differences = there.differences + back.differences
    assert not differences, report(dbt, name, differences)
    assert " ".join(sorted(there.kinds())) == kinds


@pytest.mark.parametrize("name", UNSTEADY)
def test_value_that_json_changes__is_modified_to_dbt_for_ever(dbt: Dbt, name: str) -> None:
    # dbt compares what it has parsed with what it reads from JSON, where a date is a text. We
    # have JSON of both: what is said then is in test_selection.py.
    project = edited(dbt.base.project, [UNSTEADY[name]])
    flag = "state_modified_compare_more_unrendered_values"
    put(PROJECT, "flags", flag, to=name != "tuple-in-sql")(project)
    try:
        before, now = dbt.parse(project), dbt.parse(project)
    except Refused:
        # dbt v2 panics.
        assert (dbt.version, name) in {
            ("1.11", "numbers-as-keys"),
            ("1.11", "tuple-in-sql"),
            (DBT_V2, "numbers-as-keys"),
        }
        return
    # dbt v2 takes a date for a text, and everything for what JSON has for it.
    assert len(Comparison(now, before).modified) == (0 if dbt.version == DBT_V2 else 1)
    before.forget()
    now.forget()


def test_overload_of_a_function__has_the_reasons_of_dbt(start_dbt: Callable[[str], Dbt]) -> None:
    dbt = start_dbt("1.12")
    before = dbt.parse(edited(dbt.base.project, [OVERLOAD]))
    now = dbt.parse(edited(before.project, [OVERLOAD_BODY]))
    compared = Comparison(now, before)
    compared.check()
    now.forget()
    before.forget()
    assert not compared.differences, report(dbt, "the body of an overload", compared.differences)


@pytest.mark.parametrize("name", SAVED_QUERIES_OF_V2)
def test_semantic_layer_of_v2__has_the_reasons_of_dbt(
    start_dbt: Callable[[str], Dbt], name: str
) -> None:
    dbt = start_dbt(DBT_V2)
    before = dbt.parse(edited(dbt.base.project, [SEMANTIC_OF_V2]))
    now = dbt.parse(edited(before.project, [SAVED_QUERIES_OF_V2[name]]))
    compared = Comparison(now, before)
    # In what way is not asked: of a metric, which it does not read from the state, it says each.
    compared._modified()
    compared._new()
    assert not compared.differences, report(dbt, name, compared.differences)
    assert {"metric.shop.revenue", "semantic_model.shop.sales"} <= compared.modified
    assert len(compared.modified) == (2 if name == "nothing" else 3)


@pytest.mark.parametrize(
    ("dbt", "name"),
    [(version, name) for version, names in REFUSED_BY_VERSION.items() for name in names],
    indirect=["dbt"],
)
def test_breaking_change_of_a_contract__ends_dbt(dbt: Dbt, name: str) -> None:
    # So that there is no selection to give reasons for.
    edit = REFUSED[name] if name in REFUSED else EDITS[name][0]
    now = dbt.parse(edited(dbt.base.project, [edit]))
    with pytest.raises(Refused, match="breaking change to an enforced contract"):
        now.selected(dbt.base, "--select", "state:modified")
    now.forget()


def compare(dbt: Dbt, project: Project, before: Parsed) -> Comparison:
    """Raises Refused when dbt does not compare it, as when it breaks a versioned contract."""
    now = dbt.parse(project)
    try:
        return Comparison(now, before)
    except Refused:
        now.forget()
        raise
