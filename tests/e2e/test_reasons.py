"""The reasons that we give for a selection are those that dbt selected for.

The differential test: a small project with one of everything (reasons_project) is edited and
parsed by a real dbt, which then lists what each of its state selectors chooses. What
`selection.Explained` says of the same two manifests must come to the same sets, node for node.

The ordinary run has each edit in a bundle with others and some random ones. With
CI_DEFER_LONG=<number of random cases> each edit is also tried alone, there and back.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ci_defer.manifest import Manifest, read_manifest
from ci_defer.report import ReasonKind
from ci_defer.selection import Explained, default_of_compares_unrendered
from tests.e2e.reasons_project import (
    EDITS,
    KINDS_OF_VERSION,
    OVERLOAD,
    OVERLOAD_BODY,
    PROJECT,
    REFUSED,
    UNSTEADY,
    Edit,
    NotApplicable,
    Project,
    base,
    put,
    random_edit,
)
from tests.environments import clean_environ, dbt_bin

pytestmark = pytest.mark.dbt

LONG = int(os.environ.get("CI_DEFER_LONG", "0"))
SHORT = 3
BUNDLES = 14

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


class Refused(Exception):
    """dbt ended with an error."""


class Dbt:
    """The process that answers for dbt: see reasons_dbt."""

    def __init__(self, process: subprocess.Popen[str], version: str, folder: Path) -> None:
        self._process = process
        self.version = version
        self._folder = folder
        self._count = 0

    def call(self, name: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"call": name, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "dbt's process has ended"
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    def parse(self, project: Project) -> Parsed:
        """Raises Refused when dbt does not take the project."""
        self._count += 1
        made = Parsed(self, project, self._folder / str(self._count))
        project.write(made.folder)
        self.call("parse", target=str(made.target), **made.arguments)
        return made

    @cached_property
    def base(self) -> Parsed:
        return self.parse(base())


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


@pytest.fixture(scope="module")
def start_dbt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Dbt]]:
    started: dict[str, Dbt] = {}
    with ExitStack() as processes:

        def start(version: str) -> Dbt:
            if version not in started:
                folder = tmp_path_factory.mktemp(f"dbt-{version}")
                process = subprocess.Popen(
                    [dbt_bin(version) / "python", Path(__file__).with_name("reasons_dbt.py")],
                    cwd=folder,
                    env=clean_environ(folder),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                processes.callback(_end, process)
                started[version] = Dbt(process, version, folder)
            return started[version]

        yield start


def _end(process: subprocess.Popen[str]) -> None:
    process.communicate()


@pytest.fixture
def dbt(dbt_version: str, start_dbt: Callable[[str], Dbt]) -> Dbt:
    return start_dbt(dbt_version)


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
        self._same("state:new", ours, new)
        return new

    def _sub_selectors(self, new: frozenset[str]) -> None:
        documents = self.now.document["nodes"]
        generic = {name for name in documents if documents[name].get("test_metadata")}
        for kind in SUB_SELECTORS:
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
                way = [f"macro.{name}" for name in way]
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


def bundles() -> list[tuple[str, ...]]:
    """All edits, each once, in a few projects: those that leave one another alone, by chance."""
    names = sorted(EDITS)
    Random(0).shuffle(names)
    return [tuple(names[start::BUNDLES]) for start in range(BUNDLES)]


@pytest.mark.parametrize("bundle", range(BUNDLES))
def test_edits_together__have_the_reasons_of_dbt(dbt: Dbt, bundle: int) -> None:
    now, applied = parse_edited(
        dbt, dbt.base.project, [(name, EDITS[name][0]) for name in bundles()[bundle]]
    )
    assert len(applied) > 3, applied
    compared = Comparison(now, dbt.base)
    compared.check()
    compared.check_downstream(Random(bundle))
    now.forget()
    assert not compared.differences, report(dbt, applied, compared.differences)


@pytest.mark.parametrize("seed", range(LONG or SHORT))
def test_random_edits__have_the_reasons_of_dbt(dbt: Dbt, seed: int) -> None:
    random = Random(seed)
    start = base()
    # dbt's own default, and either value of the flag that changes how sources are compared.
    if (unrendered := random.choice((None, True, False))) is not None:
        flag = "state_modified_compare_more_unrendered_values"
        put(PROJECT, "flags", flag, to=unrendered)(start)
    drawn = [random_edit(random) for _ in range(random.randrange(4))]
    before, first = parse_edited(dbt, start, drawn)
    drawn = [random_edit(random) for _ in range(random.randint(1, 5))]
    now, second = parse_edited(dbt, before.project, drawn)
    edits = f"seed {seed}, unrendered {unrendered}, before {first}, then {second}"
    try:
        compared = Comparison(now, before)
        compared.check()
        compared.check_downstream(random)
    except Refused as refused:
        # Such as a breaking change of a versioned contract: dbt says so, and builds nothing.
        pytest.skip(f"{edits}: {refused}")
    finally:
        now.forget()
        before.forget()
    assert not compared.differences, report(dbt, edits, compared.differences)


# The bundles have them all; one by one they take minutes.
@pytest.mark.parametrize("name", EDITS if LONG else [*EDITS][:: len(EDITS) // 4])
def test_edit_alone__has_the_reasons_of_dbt(dbt: Dbt, name: str) -> None:
    edit, kinds = EDITS[name]
    now = dbt.parse(edited(dbt.base.project, [edit]))
    there, back = Comparison(now, dbt.base), Comparison(dbt.base, now)
    for compared in (there, back):
        compared.check()
        compared.check_downstream(Random(name))
    now.forget()
    differences = there.differences + back.differences
    assert not differences, report(dbt, name, differences)
    kinds = KINDS_OF_VERSION.get((name, dbt.version), kinds)
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
        assert (dbt.version, name) in {("1.11", "numbers-as-keys"), ("1.11", "tuple-in-sql")}
        return
    assert len(Comparison(now, before).modified) == 1
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


@pytest.mark.parametrize("name", REFUSED)
def test_breaking_change_of_a_versioned_contract__ends_dbt(dbt: Dbt, name: str) -> None:
    # So that there is no selection to give reasons for.
    now = dbt.parse(edited(dbt.base.project, [REFUSED[name]]))
    with pytest.raises(Refused, match="breaking change to an enforced contract"):
        now.selected(dbt.base, "--select", "state:modified")
    now.forget()


def parse_edited(
    dbt: Dbt, project: Project, edits: Iterable[tuple[str, Edit]]
) -> tuple[Parsed, list[str]]:
    """The project with as many of the edits as go together, and their names."""
    wanted = list(edits)
    while True:
        made, applied = project.copy(), []
        for name, edit in wanted:
            tried = made.copy()
            try:
                edit(tried)
            except NotApplicable:
                continue
            made = tried
            applied.append(name)
        try:
            return dbt.parse(made), applied
        except Refused:
            # Which of them dbt does not take is not told: the later half goes.
            if not applied:
                raise
            keep = applied[: len(applied) // 2]
            wanted = [(name, edit) for name, edit in wanted if name in keep]
