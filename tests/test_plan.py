"""The plan: which manifest is compared with, by a real git and a dbt that only looks at names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ci_defer.bundle import Bundle, Origin, ParsedWith, pack
from ci_defer.dbt import Invocation, Selection
from ci_defer.dbt.arguments import parsed_with
from ci_defer.dbt.process import Interrupts
from ci_defer.errors import Cancelled, InvalidBundle, ProjectError
from ci_defer.git import Git
from ci_defer.plan import Plan, Planner, changes_since
from ci_defer.project import read_project
from ci_defer.reparse import reparse
from ci_defer.state import FoundState
from tests.samples import (
    CREATED_AT,
    PROJECT,
    FakeDbt,
    Log,
    Repository,
    engines,
    manifest,
    node,
    run_results,
    write_artifacts,
)
from tests.test_dbt_commands import option

A, B = "model.shop.a", "model.shop.b"
PR = ParsedWith(target="ci")
# It selects what a state:modified of bodies and configs would, and fails like dbt when asked to.
LISTS = """
ours = {ours!r}
(target / "manifest.json").write_text(json.dumps(ours))
state = sys.argv[sys.argv.index("--state") + 1] if "--state" in sys.argv else ""
theirs = json.loads(pathlib.Path(state, "manifest.json").read_text()) if state else {{}}
metadata = theirs.get("metadata", ours["metadata"])
if {fails!r} and metadata["dbt_version"] != ours["metadata"]["dbt_version"]:
    print("Encountered an error:\\nincompatible state")
    sys.exit(2)
for name, node in ours["nodes"].items():
    old = theirs.get("nodes", {{}}).get(name, {{}})
    if any(old.get(key) != node.get(key) for key in ("raw_code", "unrendered_config")):
        print(json.dumps({{"unique_id": name}}))
"""


def models(**configs: str) -> list[dict[str, Any]]:
    """A model for each name, with that as its one config."""
    return [
        node(
            f"model.shop.{name}",
            raw_code="select 1",
            original_file_path=f"models/{name}.sql",
            unrendered_config={"meta": value},
        )
        for name, value in configs.items()
    ]


def made_by(version: str, nodes: list[dict[str, Any]]) -> dict[str, Any]:
    document = manifest(nodes)
    document["metadata"]["dbt_version"] = version
    return document


# Rendered for production, and for pull requests.
FOR_PRODUCTION, FOR_PR = models(a="prod", b="prod"), models(a="ci", b="ci")


class Place:
    """A pull request that changed the model b; dbt parses every commit as a pull request does."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.repository = Repository(tmp_path / "repository")
        folder = self.repository.path
        (folder / "models").mkdir()
        (folder / ".gitignore").write_text("target/\n")
        (folder / "dbt_project.yml").write_text(f"name: {PROJECT}\n")
        self.repository.commit("models/a.sql")
        self.base = self.repository.commit("models/b.sql")
        self.repository.branch("feature")
        (folder / "models/b.sql").write_text("changed")
        self.repository.commit("README.md")
        self.dbt = FakeDbt(tmp_path / "bin")
        self.log = Log()
        self.interrupts = Interrupts()
        self.notes: list[str] = []
        self.ran: list[Invocation] = []
        self.parsed: list[str] = []
        self.environ = {**self.repository.environ, "PATH": self.dbt.path}
        self.lists(models(a="ci", b="changed"))
        self.dbt.parses(manifest(FOR_PR))

    def lists(self, nodes: list[dict[str, Any]], version: str = "1.11.0", **more: Any) -> None:
        script = LISTS.format(ours=made_by(version, nodes), fails=more.get("fails", False))
        self.dbt.on("ls", script)

    def state(
        self,
        document: Mapping[str, Any],
        *,
        compare: tuple[Mapping[str, Any], ParsedWith] | None = None,
        commit: str = "",
        target: str = "prod",
        **args: Any,
    ) -> FoundState:
        """A bundle of production; `args` are dbt's own when it built that."""
        artifacts = write_artifacts(
            self.tmp_path / "artifacts",
            manifest=document,
            run_results=run_results(target=target, **args),
        )
        made = None
        if compare:
            made = (write_artifacts(self.tmp_path / "made", manifest=compare[0]), compare[1])
        to = self.tmp_path / "state"
        to.mkdir()
        bundle = pack(
            artifacts,
            to,
            project=PROJECT,
            project_name=PROJECT,
            origin=Origin(commit=commit or self.base),
            created_at=CREATED_AT,
            target=None,
            compare=made,
        )
        return FoundState(bundle, bundle, "the store", 0)

    def plain(self, document: Mapping[str, Any]) -> FoundState:
        bundle = Bundle(write_artifacts(self.tmp_path / "state", manifest=document), None)
        return FoundState(bundle, bundle, "the folder", None)

    def planner(self, made: ParsedWith = PR, base: str | None = None) -> Planner:
        project = read_project(self.repository.path)
        git = Git(project.directory, self.environ)

        engine_for = engines(project.directory, self.environ, self.log, self.interrupts)

        def parse_again(commit: str) -> Bundle:
            self.parsed.append(commit)
            to = self.tmp_path / f"again-{len(self.parsed)}"
            to.mkdir()
            [bundle] = reparse(
                commit,
                project,
                [lambda checkout: engine_for(checkout, made.target or None)],
                to,
                git=git,
                log=self.log,
                ran=self.ran.append,
            )
            return bundle

        def selection_of(found: FoundState | None) -> Selection:
            if found is None:
                return Selection()
            apart = found.production.directory if found.is_compared_apart else None
            return Selection(
                select=("state:modified+",), state=found.compared.directory, defer_state=apart
            )

        return Planner(
            project=project,
            parsed_with=made,
            selection_of=selection_of,
            base=self.base if base is None else base,
            changes_since=partial(changes_since, git=git, log=self.log),
            engine=engine_for(project, made.target or None),
            parse_again=parse_again,
            ran=self.ran.append,
            note=self.notes.append,
            log=self.log,
        )

    def plan(self, found: FoundState | None, made: ParsedWith = PR, **more: Any) -> Plan:
        return self.planner(made, **more).plan(found)

    @property
    def commands(self) -> list[str]:
        return [argv[0] for argv in self.dbt.calls]

    @property
    def again(self) -> Path:
        """The manifest of the commit that was parsed again."""
        return self.tmp_path / "again-1" / "parsed-0"

    def compared(self, call: int = -1) -> tuple[str, str]:
        """`--state` and `--defer-state` of a call of dbt."""
        argv = self.dbt.calls[call]
        deferred = option(argv, "--defer-state")[0] if "--defer-state" in argv else ""
        return option(argv, "--state")[0], deferred


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# Alike from the start -------------------------------------------------------------------------


def test_plan__without_a_state_selects_from_everything(place: Place) -> None:
    plan = place.plan(None)
    assert plan.unique_ids == (A, B)
    assert (plan.found, plan.suspected, plan.changes) == (None, {}, None)
    assert place.commands == ["ls"]
    assert [*plan.manifest.nodes] == [A, B]


def test_plan__compares_with_production_when_that_was_made_alike(place: Place) -> None:
    found = place.state(manifest(FOR_PR), target="ci")
    plan = place.plan(found)
    assert plan.unique_ids == (B,)
    assert plan.found is found
    assert place.commands == ["ls"]
    assert place.compared() == (str(place.tmp_path / "state"), "")
    assert (plan.suspected, place.notes, place.parsed) == ({}, [], [])
    assert [ran.arguments[1] for ran in place.ran] == ["ls"]


def test_plan__says_what_changed_in_git(place: Place) -> None:
    changes = place.plan(place.state(manifest(FOR_PR), target="ci")).changes
    assert changes
    assert (changes.commit, changes.prefix) == (place.base, "")
    assert changes.files == {"README.md", "models/b.sql"}
    assert changes.tracked == {
        *(".gitignore", "README.md", "dbt_project.yml"),
        *("models/a.sql", "models/b.sql"),
    }


def test_plan__forgets_what_an_earlier_run_left(place: Place) -> None:
    target = place.repository.path / "target"
    write_artifacts(target, manifest=manifest(FOR_PRODUCTION), run_results=run_results())
    place.dbt.on("ls", "print('Encountered an error:\\nbad profile'); sys.exit(2)")
    with pytest.raises(ProjectError, match="cannot read the project: bad profile"):
        place.plan(place.state(manifest(FOR_PR), target="ci"))
    assert list(target.iterdir()) == []
    assert place.commands == ["ls"]


def test_compare__is_compared_with_and_production_deferred_to(place: Place) -> None:
    found = place.state(manifest(FOR_PRODUCTION), compare=(manifest(FOR_PR), PR))
    plan = place.plan(found)
    assert plan.unique_ids == (B,)
    state = place.tmp_path / "state"
    assert place.compared() == (str(state / "compare"), str(state))
    # dbt looks for the results that `result:` selects by beside the manifest of --state.
    results = [folder / "run_results.json" for folder in (state, state / "compare")]
    assert results[0].read_bytes() == results[1].read_bytes()
    assert (place.commands, place.notes, plan.suspected) == (["ls"], [], {})
    assert plan.found
    assert (plan.found.production, plan.found.unlike) == (found.production, ())
    assert (plan.found.compared_because, plan.found.is_parsed_again) == ("", False)


def test_compare__is_left_where_production_itself_was_made_alike(place: Place) -> None:
    # A bundle that both can use: production's is the one that was built.
    found = place.state(manifest(FOR_PR), target="ci", compare=(manifest(FOR_PRODUCTION), PR))
    assert place.plan(found).unique_ids == (B,)
    assert place.compared() == (str(place.tmp_path / "state"), "")


# Parsed again ---------------------------------------------------------------------------------


def test_another_target__parses_the_commit_again(place: Place) -> None:
    found = place.state(manifest(FOR_PRODUCTION))
    plan = place.plan(found)
    because = "The state was made for target prod, and this run uses target ci."
    assert plan.unique_ids == (B,)
    assert place.commands == ["parse", "ls"]
    assert option(place.dbt.calls[0], "--target") == ["ci"]
    assert place.compared() == (str(place.again), str(place.tmp_path / "state"))
    assert plan.found
    assert (plan.found.compared_because, plan.found.unlike) == (because, ())
    assert plan.found.production == found.production
    assert (plan.suspected, place.notes, place.parsed) == ({}, [], [place.base])
    assert f"{because} So commit {place.base[:12]} is parsed again, to compare with it." in (
        place.log.lines
    )
    assert [ran.arguments[1] for ran in place.ran] == ["parse", "ls"]


def test_another_target__parses_the_commit_of_the_state_and_not_the_base(place: Place) -> None:
    older = place.repository.git.first_parents(place.base, 2)[1]
    plan = place.plan(place.state(manifest(FOR_PRODUCTION), commit=older))
    assert place.parsed == [older]
    assert plan.changes
    assert plan.changes.commit == older
    assert "models/b.sql" in plan.changes.files


def test_a_compare_that_is_another_too__is_not_used(place: Place) -> None:
    other = (manifest(FOR_PRODUCTION), ParsedWith(target="staging"))
    plan = place.plan(place.state(manifest(FOR_PRODUCTION), compare=other))
    assert place.commands == ["parse", "ls"]
    assert place.compared()[0] == str(place.again)
    assert plan.found
    # What is said is of the nearer one.
    assert plan.found.compared_because == (
        "The state was made for target staging, and this run uses target ci."
    )


@pytest.mark.parametrize(
    ("ours", "recorded", "is_alike"),
    [
        ((), {}, True),
        (("--vars", "{day: 1}"), {"vars": {"day": 1}}, True),
        (("--vars", "{b: 1, a: 2}"), {"vars": {"a": 2, "b": 1}}, True),
        (("--vars=day: 1",), {"vars": {"day": 1}}, True),
        (("--vars", "{}"), {}, True),
        (("--vars", "{day: 2026-01-01}"), {"vars": {"day": "2026-01-01"}}, True),
        (("--profile", "x"), {"profile": "x"}, True),
        (("--vars", "{day: 1}"), {}, False),
        ((), {"vars": {"day": 1}}, False),
        (("--vars", "{day: 2}"), {"vars": {"day": 1}}, False),
        (("--profile", "x"), {}, False),
        (("--profile", "x"), {"profile": "y"}, False),
    ],
)
def test_vars_and_profile__have_to_be_the_same(
    place: Place, ours: tuple[str, ...], recorded: dict[str, Any], is_alike: bool
) -> None:
    found = place.state(manifest(FOR_PR), target="ci", **recorded)
    plan = place.plan(found, parsed_with("ci", ours))
    assert plan.unique_ids == (B,)
    assert place.commands == (["ls"] if is_alike else ["parse", "ls"])


def test_a_dbt_of_another_version__is_found_after_the_listing(place: Place) -> None:
    place.lists(models(a="ci", b="changed"), "1.12.0")
    place.dbt.parses(made_by("1.12.0", FOR_PR))
    # To 1.12, what 1.11 wrote is something else altogether.
    plan = place.plan(place.state(manifest(FOR_PRODUCTION), target="ci"))
    assert place.commands == ["ls", "parse", "ls"]
    assert plan.unique_ids == (B,)
    assert place.compared(0) == (str(place.tmp_path / "state"), "")
    assert place.compared() == (str(place.again), str(place.tmp_path / "state"))
    assert plan.found
    assert plan.found.compared_because == (
        "The state was made by dbt 1.11.0, and this run uses 1.12.0."
    )
    assert (plan.suspected, place.notes) == ({}, [])


def test_a_compare_of_another_version__is_parsed_again_too(place: Place) -> None:
    place.lists(models(a="ci", b="changed"), "1.12.0")
    place.dbt.parses(made_by("1.12.0", FOR_PR))
    found = place.state(manifest(FOR_PRODUCTION), compare=(manifest(FOR_PRODUCTION), PR))
    assert place.plan(found).unique_ids == (B,)
    assert place.commands == ["ls", "parse", "ls"]
    assert place.compared() == (str(place.again), str(place.tmp_path / "state"))


def test_a_listing_that_fails_with_a_state_of_another_version__is_made_anew(place: Place) -> None:
    place.lists(models(a="ci", b="changed"), "1.12.0", fails=True)
    place.dbt.parses(made_by("1.12.0", FOR_PR))
    plan = place.plan(place.state(manifest(FOR_PRODUCTION), target="ci"))
    assert place.commands == ["ls", "parse", "ls"]
    assert plan.unique_ids == (B,)
    assert [ran.exit_code for ran in place.ran] == [2, 0, 0]


def test_a_listing_that_fails_for_another_reason__is_not(place: Place) -> None:
    place.dbt.on(
        "ls",
        f"(target / 'manifest.json').write_text({json.dumps(manifest(FOR_PR))!r})\n"
        "print('Encountered an error:\\nno such selector'); sys.exit(2)",
    )
    with pytest.raises(ProjectError, match="no such selector"):
        place.plan(place.state(manifest(FOR_PR), target="ci"))
    assert place.commands == ["ls"]


# Evidence -------------------------------------------------------------------------------------


def test_evidence__of_a_false_positive_parses_the_commit_again(place: Place) -> None:
    # The same target, and yet another value: a variable of the environment.
    plan = place.plan(place.state(manifest(FOR_PRODUCTION), target="ci"))
    assert place.commands == ["ls", "parse", "ls"]
    assert (plan.unique_ids, plan.suspected) == ((B,), {})
    assert place.compared() == (str(place.again), str(place.tmp_path / "state"))
    assert plan.found
    assert plan.found.compared_because == (
        "1 node looked modified, though nothing of that changed in git since commit "
        f"{place.base[:12]}."
    )


def test_evidence__that_stays_is_said_and_never_parsed_twice(place: Place) -> None:
    place.dbt.parses(manifest(FOR_PRODUCTION))
    plan = place.plan(place.state(manifest(FOR_PRODUCTION), target="ci"))
    assert place.commands == ["ls", "parse", "ls"]
    assert plan.unique_ids == (A, B)
    assert [*plan.suspected] == [A]
    assert place.parsed == [place.base]


def test_evidence__against_what_was_parsed_again_before_is_only_said(place: Place) -> None:
    place.dbt.parses(manifest(FOR_PRODUCTION))
    plan = place.plan(place.state(manifest(FOR_PRODUCTION)))
    assert place.commands == ["parse", "ls"]
    assert [*plan.suspected] == [A]


def test_evidence__against_a_compare_parses_again(place: Place) -> None:
    found = place.state(manifest(FOR_PRODUCTION), compare=(manifest(FOR_PRODUCTION), PR))
    plan = place.plan(found)
    assert place.commands == ["ls", "parse", "ls"]
    assert plan.unique_ids == (B,)
    assert place.compared() == (str(place.again), str(place.tmp_path / "state"))


def test_evidence__is_what_git_knows_and_nothing_else(place: Place) -> None:
    # A change that is not committed is a change.
    (place.repository.path / "models/a.sql").write_text("changed")
    plan = place.plan(place.state(manifest(FOR_PRODUCTION), target="ci"))
    assert (place.commands, plan.unique_ids, plan.suspected) == (["ls"], (A, B), {})


def test_evidence__there_is_none_where_git_does_not_know_the_commit(place: Place) -> None:
    plan = place.plan(place.state(manifest(FOR_PRODUCTION), target="ci", commit="f" * 40))
    assert place.commands == ["ls"]
    assert (plan.unique_ids, plan.suspected, plan.changes) == ((A, B), {}, None)
    assert any("What changed since commit ffffffffffff is not known" in x for x in place.log.lines)


def test_a_shallow_clone__fetches_the_commit(place: Place) -> None:
    origin = place.repository
    origin.run("config", "uploadpack.allowAnySHA1InWant", "true")
    place.repository = origin.checked_out(place.tmp_path / "clone", "feature")
    place.repository.run("remote", "add", "origin", origin.path.as_uri())
    assert place.repository.git.commit(place.base) is None
    plan = place.plan(place.state(manifest(FOR_PRODUCTION)))
    assert place.commands == ["parse", "ls"]
    assert plan.unique_ids == (B,)
    assert plan.changes
    assert plan.changes.files == {"README.md", "models/b.sql"}


# What cannot be parsed again ------------------------------------------------------------------


FAILS = "print('Encountered an error:\\nno such profile'); sys.exit(2)"


def test_where_it_cannot_be_parsed_again__the_comparison_stays_and_a_note_says_so(
    place: Place,
) -> None:
    place.dbt.on("parse", FAILS)
    plan = place.plan(place.state(manifest(FOR_PRODUCTION)))
    assert place.commands == ["parse", "ls"]
    assert plan.unique_ids == (A, B)
    assert place.compared() == (str(place.tmp_path / "state"), "")
    unlike = "made for target prod, and this run uses target ci"
    assert plan.found
    assert plan.found.unlike == (unlike,)
    assert (plan.found.compared_because, plan.found.is_parsed_again) == ("", False)
    assert plan.suspected == {A: f"the state was {unlike}"}
    [note] = place.notes
    assert note.startswith(
        f"The state was {unlike}. It cannot be parsed again to compare like with like, so nodes "
        "may be built that only look modified. "
    )
    assert note.endswith("no such profile")


def test_where_it_cannot_be_parsed_again__the_nearest_compare_stays(place: Place) -> None:
    place.dbt.on("parse", FAILS)
    other = (manifest(FOR_PR), ParsedWith(target="staging"))
    plan = place.plan(place.state(manifest(FOR_PRODUCTION), compare=other))
    state = place.tmp_path / "state"
    assert place.compared() == (str(state / "compare"), str(state))
    assert plan.found
    assert plan.found.unlike == ("made for target staging, and this run uses target ci",)
    assert len(place.notes) == 1


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        ("dbt", "no such profile"),
        ("no manifest", "dbt parse wrote no manifest.json"),
        ("no commit", "it cannot be fetched"),
        ("renamed", "is 'other', this one is 'shop'"),
    ],
)
def test_where_it_cannot_be_parsed_again__it_is_tried_once(
    place: Place, failure: str, expected: str
) -> None:
    commit = ""
    if failure == "dbt":
        place.dbt.on("parse", FAILS)
    elif failure == "no manifest":
        place.dbt.on("parse", "")
    elif failure == "no commit":
        commit = "f" * 40
    else:
        (place.repository.path / "dbt_project.yml").write_text("name: other")
        place.repository.commit("x")
        place.repository.run("branch", "--force", "main")
        commit = place.repository.run("rev-parse", "HEAD")
        (place.repository.path / "dbt_project.yml").write_text(f"name: {PROJECT}")
    plan = place.plan(place.state(manifest(FOR_PRODUCTION), commit=commit))
    assert len(place.parsed) == 1
    [note] = place.notes
    assert expected in note
    assert place.commands[-1] == "ls"
    assert place.commands.count("ls") == 1
    assert plan.found
    assert plan.found.unlike
    # Nothing is left behind in the repository.
    assert place.repository.run("worktree", "list").count("\n") == 0


def test_where_it_cannot_be_parsed_again__evidence_stays_too(place: Place) -> None:
    place.dbt.on("parse", FAILS)
    plan = place.plan(place.state(manifest(FOR_PRODUCTION), target="ci"))
    assert place.commands == ["ls", "parse"]
    assert (plan.unique_ids, [*plan.suspected]) == ((A, B), [A])
    [note] = place.notes
    assert note.startswith("1 node looked modified, though nothing of that changed in git")


def test_where_it_cannot_be_parsed_again__another_version_is_the_reason(place: Place) -> None:
    place.lists(models(a="ci", b="changed"), "1.12.0")
    place.dbt.on("parse", FAILS)
    plan = place.plan(place.state(manifest(FOR_PRODUCTION), target="ci"))
    assert place.commands == ["ls", "parse"]
    reason = "the state was made by dbt 1.11.0, and this run uses 1.12.0"
    assert plan.suspected == {A: reason}
    assert len(place.notes) == 1


def test_where_it_cannot_be_parsed_again__and_dbt_refuses_the_state_that_is_the_error(
    place: Place,
) -> None:
    place.lists(models(a="ci", b="changed"), "1.12.0", fails=True)
    place.dbt.on("parse", FAILS)
    with pytest.raises(ProjectError, match="incompatible state"):
        place.plan(place.state(manifest(FOR_PRODUCTION), target="ci"))
    assert place.commands == ["ls", "parse"]
    assert len(place.notes) == 1


def test_a_cancelled_parse__cancels_the_plan(place: Place) -> None:
    place.dbt.on(
        "parse",
        "import signal, time\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(1))\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "time.sleep(30)",
    )
    with place.interrupts.handled(), pytest.raises(Cancelled):
        place.plan(place.state(manifest(FOR_PRODUCTION)))
    assert (place.commands, place.notes) == (["parse"], [])


def test_a_killed_parse__leaves_the_comparison_as_it_was(place: Place) -> None:
    place.dbt.on("parse", "import signal; os.kill(os.getpid(), signal.SIGKILL)")
    plan = place.plan(place.state(manifest(FOR_PRODUCTION)))
    assert plan.unique_ids == (A, B)
    assert len(place.notes) == 1


# A state without provenance -------------------------------------------------------------------


def test_a_plain_state__is_compared_with_as_it_is(place: Place) -> None:
    plan = place.plan(place.plain(manifest(FOR_PR)))
    assert (place.commands, plan.unique_ids) == (["ls"], (B,))
    assert place.compared() == (str(place.tmp_path / "state"), "")
    # Of which commit it is, nobody knows: so nothing is suspected.
    assert (plan.suspected, plan.changes, place.notes) == ({}, None, [])
    shutil.rmtree(place.tmp_path / "state")
    plan = place.plan(place.plain(manifest(FOR_PRODUCTION)))
    assert (place.commands, plan.unique_ids) == (["ls", "ls"], (A, B))
    assert plan.suspected == {}


@pytest.mark.parametrize("fails", [False, True])
def test_a_plain_state__of_another_version_parses_the_base_again(place: Place, fails: bool) -> None:
    place.lists(models(a="ci", b="changed"), "1.12.0", fails=fails)
    place.dbt.parses(made_by("1.12.0", FOR_PR))
    plan = place.plan(place.plain(manifest(FOR_PRODUCTION)))
    assert place.commands == ["ls", "parse", "ls"]
    assert (place.parsed, plan.unique_ids) == ([place.base], (B,))
    # From here on it is known what changed.
    assert plan.changes
    assert plan.changes.commit == place.base


def test_a_plain_state__of_another_version_without_a_base_is_said(place: Place) -> None:
    place.lists(models(a="ci", b="changed"), "1.12.0")
    plan = place.plan(place.plain(manifest(FOR_PRODUCTION)), base="")
    assert (place.commands, place.parsed) == (["ls"], [])
    assert (plan.unique_ids, plan.suspected) == ((A, B), {})
    [note] = place.notes
    assert note.endswith("Nobody knows of which commit the state is.")


def test_a_plain_state__of_another_adapter_is_parsed_again(place: Place) -> None:
    document = manifest(FOR_PRODUCTION)
    document["metadata"]["adapter_type"] = "snowflake"
    plan = place.plan(place.plain(document))
    assert place.commands == ["ls", "parse", "ls"]
    assert plan.found
    assert plan.found.compared_because == (
        "The state was made for snowflake, and this run uses duckdb."
    )


# Apart from the start -------------------------------------------------------------------------


def test_compare_apart__is_for_a_state_that_is_of_any_commit(place: Place) -> None:
    planner = place.planner()
    found = planner.compare_apart(place.plain(manifest(FOR_PRODUCTION)), "It is any.", "of any")
    plan = planner.plan(found)
    assert place.commands == ["parse", "ls"]
    assert (place.parsed, plan.unique_ids, plan.suspected) == ([place.base], (B,), {})
    assert place.compared() == (str(place.again), str(place.tmp_path / "state"))
    assert found.unlike == ()


def test_compare_apart__that_fails_is_not_tried_again(place: Place) -> None:
    place.dbt.on("parse", FAILS)
    place.lists(models(a="ci", b="changed"), "1.12.0")
    planner = place.planner()
    found = planner.compare_apart(place.plain(manifest(FOR_PRODUCTION)), "It is any.", "of any")
    plan = planner.plan(found)
    assert place.commands == ["parse", "ls"]
    assert plan.found
    assert (plan.found.unlike, len(place.notes)) == (("of any",), 1)


def test_a_state_that_was_parsed_again_for_lack_of_another__is_not_parsed_once_more(
    place: Place,
) -> None:
    bundle = Bundle(write_artifacts(place.tmp_path / "x", manifest=manifest(FOR_PRODUCTION)), None)
    found = FoundState(bundle, bundle, "the base commit", 0, reparsed_because="There is none.")
    plan = place.plan(found)
    assert place.commands == ["ls"]
    assert plan.found is found
    assert [*plan.suspected] == [A]


def test_a_state_that_cannot_be_read__is_an_error(place: Place) -> None:
    found = place.plain(manifest(FOR_PR))
    (place.tmp_path / "state" / "manifest.json").write_text("{")
    place.dbt.lists(B, nodes=FOR_PR)
    with pytest.raises(InvalidBundle):
        place.plan(found)
