from __future__ import annotations

import enum
import re
import time
import types
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ci_defer.gfm import MAX_BLOCK
from ci_defer.markdown import (
    COMMENT,
    MAX_NODES_IN_SIGHT,
    MAX_NODES_OF_CAUSE,
    MAX_NODES_OF_OPEN_GRAPH,
    MAX_PASSED_OVER,
    MAX_WARNINGS,
    SUMMARY,
    render,
    render_published,
)
from ci_defer.page import Page, characters, octets
from ci_defer.report import (
    Cause,
    Change,
    Counts,
    Deferred,
    Exposure,
    NodeOutcome,
    NodeReport,
    Outcome,
    PassedOver,
    Problem,
    Reason,
    ReasonKind,
    Removed,
    Report,
    State,
)
from ci_defer.wording import NOT_REACHED
from tests.harness import gfm
from tests.hostile import COMMIT, TEXT, controls, written
from tests.samples import packed

HEAD, BASE = "a" * 40, "b" * 40
REPOSITORY = "https://github.com/o/r"

REPORT = Report(
    outcome=Outcome.SUCCESS,
    headline="1 node built",
    project="shop",
    project_dir=".",
    started_at="2026-01-02T12:00:00+00:00",
    seconds=1.0,
    head_commit=HEAD,
    repository_url=REPOSITORY,
    run_url=f"{REPOSITORY}/actions/runs/1",
)
STATE = State(
    location="/s",
    has_provenance=True,
    commit=BASE,
    created_at="2026-01-02T10:00:00+00:00",
    age_commits=1,
)
PUBLISHED = "published 2 hours ago (2026-01-02 10:00 UTC)"


def node(
    name: str, outcome: NodeOutcome = NodeOutcome.BUILT, *, reason: str = "", **more: Any
) -> NodeReport:
    if reason:
        more["reasons"] = [Reason(kind=ReasonKind.CONFIGS, text=reason)]
    basic = {"unique_id": f"model.shop.{name}", "resource_type": "model", "materialized": "table"}
    return NodeReport(**{**basic, "name": name, "status": "said", **more}, outcome=outcome)


def failing(*nodes: NodeReport, message: str = "no such\ntable", **more: Any) -> Report:
    """A report in which all these nodes fail for one reason."""
    cause = Cause(message=message, unique_ids=[item.unique_id for item in nodes])
    basic = replace(REPORT, outcome=Outcome.FAILURE, headline="It failed")
    return replace(basic, **{"nodes": list(nodes), "causes": [cause], **more})


def shown(report: Report, page: Page = COMMENT) -> str:
    return gfm.render(written(render(report, page)))


def table(report: Report, first: str, page: Page = COMMENT) -> list[list[str]]:
    """The table whose header has this as its first word; no line of it is left out."""
    [found] = [rows for rows in gfm.tables(shown(report, page)) if first in rows[0]]
    return found


def summaries(report: Report, page: Page = COMMENT) -> list[str]:
    return [fold.summary for fold in gfm.folds(shown(report, page))]


# The page ---------------------------------------------------------------------------------------

FULL = failing(
    node("a", NodeOutcome.ERRORED, compiled_code="select 1", change=Change.MODIFIED),
    node("b", NodeOutcome.SKIPPED, parents=["model.shop.a"]),
    problem=Problem(message="What went wrong", hint="What to do"),
    warnings=["A warning"],
    passed_over=[PassedOver(commit="c" * 40, reason="It is damaged.")],
    counts=Counts(errored=1, skipped=1),
    state=STATE,
    removed=[Removed(unique_id="model.shop.r", name="r", resource_type="model")],
    exposures=[Exposure(unique_id="exposure.shop.e", name="e", parents=["model.shop.b"])],
    deferred=[Deferred(unique_id="model.shop.d", name="d", relation='"prod"."d"')],
)


def test_render__says_first_what_matters_most() -> None:
    seen = gfm.text(shown(FULL))
    parts = [
        *("It failed", "errors", "What went wrong", "What to do", "A warning"),
        *("no such", "Compiled SQL", "2 nodes selected or run", "1 node of production is gone"),
        *("1 exposure downstream", "Lineage of", "1 node read from production", "was not used"),
        "project shop",
    ]
    places = [seen.index(part) for part in parts]
    assert places == sorted(places)


def test_render__of_little_is_little() -> None:
    html = shown(replace(REPORT, run_url="", repository_url=""))
    assert gfm.text(html).split("\n") == ["✅ 1 node built", "project shop · 1.0 s", ""]


@pytest.mark.parametrize("outcome", Outcome)
def test_render__has_one_heading_with_a_sign_and_the_headline(outcome: Outcome) -> None:
    first, _, _ = gfm.text(shown(replace(REPORT, outcome=outcome))).partition("\n")
    assert re.fullmatch(r"\S+ 1 node built", first)


def test_render__counts_what_was_not_reached() -> None:
    stopped = node("a", NodeOutcome.NOT_RUN, message=NOT_REACHED, status="")
    other = node("b", NodeOutcome.NOT_RUN, message="a source is read, not built", status="")
    rows = table(replace(REPORT, nodes=[stopped, other]), "not reached")
    assert rows == [["not reached", "time"], ["1", "1.0 s"]]


def test_render__counts_what_there_is() -> None:
    counts = Counts(built=1234, passed=2, no_op=3)
    assert table(replace(REPORT, counts=counts), "built") == [
        ["built", "tests passed", "time"],
        ["1,234", "2", "1.0 s"],
    ]


# Failures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("project_dir", "line", "expected"),
    [
        (".", 7, f"{REPOSITORY}/blob/{HEAD}/models/a%20b.sql#L7"),
        ("", None, f"{REPOSITORY}/blob/{HEAD}/models/a%20b.sql"),
        ("dbt/shop", 7, f"{REPOSITORY}/blob/{HEAD}/dbt/shop/models/a%20b.sql#L7"),
    ],
)
def test_failure__links_to_the_line(project_dir: str, line: int | None, expected: str) -> None:
    failed = node("a", NodeOutcome.ERRORED, path="models/a b.sql", line=line, package="shop")
    html = shown(failing(failed, project_dir=project_dir, project_name="shop"))
    assert expected in gfm.links(html)
    assert f"models/a b.sql{f':{line}' if line else ''}" in gfm.text(html)


@pytest.mark.parametrize(
    ("path", "package", "more"),
    [
        ("models/a.sql", "shop", {"repository_url": ""}),
        ("models/a.sql", "shop", {"head_commit": ""}),
        ("models/a.sql", "shop", {"head_commit": "HEAD"}),
        ("../../../../login", "shop", {}),
        # It is in no commit of this repository.
        ("models/a.sql", "dbt_utils", {}),
    ],
)
def test_failure__of_an_unknown_place_has_no_link(
    path: str, package: str, more: dict[str, str]
) -> None:
    failed = node("a", NodeOutcome.ERRORED, path=path, package=package)
    html = shown(failing(failed, run_url="", project_name="shop", **more))
    assert path in gfm.text(html)
    assert gfm.links(html) == []


def test_failure__shows_place_message_and_folded_sql() -> None:
    failed = node(
        "a",
        NodeOutcome.ERRORED,
        path="models/a.sql",
        line=2,
        compiled_path="target/compiled/a.sql",
        compiled_code="select *\nfrom a",
    )
    html = shown(failing(failed))
    assert "❌ a (table)\nmodels/a.sql:2\nno such\ntable\n" in gfm.text(html)
    assert gfm.code_blocks(html) == [("", "no such\ntable\n"), ("sql", "select *\nfrom a\n")]
    assert gfm.Fold("Compiled SQL", 0, open=False) in gfm.folds(html)
    assert "target/compiled/a.sql" in gfm.text(html)


@pytest.mark.parametrize(("failures", "said"), [(1, "1 failing row"), (1234, "1,234 failing rows")])
def test_failure__of_a_test_counts_its_rows(failures: int, said: str) -> None:
    failed = node("t", NodeOutcome.FAILED, resource_type="test", failures=failures)
    assert f"❌ t (test, {said})\n" in gfm.text(shown(failing(failed)))


@pytest.mark.parametrize(
    ("failures", "message", "blocks"),
    [
        (3, "Got 3 results, configured to fail if != 0", 0),
        (1, "Got 1 result, configured to fail if != 0", 0),
        (3, "Got 3 results, configured to fail if >10", 0),
        # What dbt says of a unit test, and a database of any test, is more.
        (3, "actual differs from expected:\n...", 1),
        (None, "Got 3 results, configured to fail if != 0", 1),
    ],
)
def test_failure__says_nothing_twice(failures: int | None, message: str, blocks: int) -> None:
    failed = node("t", NodeOutcome.FAILED, resource_type="test", failures=failures)
    assert len(gfm.code_blocks(shown(failing(failed, message=message)))) == blocks


def test_failures__of_one_cause_are_one_with_the_sql_of_the_first() -> None:
    nodes = [
        node(name, NodeOutcome.ERRORED, path=f"{name}.sql", compiled_code=f"select '{name}'")
        for name in ("a", "b")
    ]
    html = shown(failing(*nodes))
    assert gfm.elements(html)["h3"] == 1
    # The reason first: it is what they have in common.
    reason = "❌ 2 nodes failed for one reason\nno such\ntable\n\n\n"
    assert f"{reason}a (table) · a.sql\nb (table) · b.sql\n" in gfm.text(html)
    assert gfm.code_blocks(html) == [("", "no such\ntable\n"), ("sql", "select 'a'\n")]
    assert "Compiled SQL of the first of them" in summaries(failing(*nodes))


@pytest.mark.parametrize("count", [MAX_NODES_IN_SIGHT, MAX_NODES_OF_CAUSE, 300])
def test_failures__of_one_cause_are_named_up_to_a_number(count: int) -> None:
    nodes = [node(f"n{index}", NodeOutcome.ERRORED) for index in range(count)]
    html = shown(failing(*nodes))
    named = min(count, MAX_NODES_OF_CAUSE)
    # One more line says how many are not named.
    assert gfm.elements(html)["li"] == named + (count > named)
    folded = [fold.summary for fold in gfm.folds(html) if "more of them" in fold.summary]
    more = count - MAX_NODES_IN_SIGHT
    assert folded == ([f"{more} more of them"] if more else [])
    rest = f"and {count - named} more in the summary of the job"
    assert (rest in gfm.text(html)) == (count > named)


def test_failures__come_in_the_order_of_their_causes() -> None:
    nodes = [node(name, NodeOutcome.ERRORED) for name in ("a", "b")]
    causes = [
        Cause(message=f"about {name}", unique_ids=[f"model.shop.{name}"]) for name in ("b", "a")
    ]
    blocks = gfm.code_blocks(shown(replace(failing(*nodes), causes=causes)))
    assert blocks == [("", "about b\n"), ("", "about a\n")]


# Lists ------------------------------------------------------------------------------------------


def test_nodes__are_all_there_the_worst_first() -> None:
    outcomes = [NodeOutcome.NOT_RUN, NodeOutcome.BUILT, NodeOutcome.SKIPPED, NodeOutcome.FAILED]
    nodes = [node(outcome.name.lower(), outcome) for outcome in outcomes]
    rows = table(replace(REPORT, nodes=nodes), "node")
    assert [row[1] for row in rows] == ["node", "failed", "skipped", "built", "not_run"]


def test_nodes__say_why_they_were_selected() -> None:
    nodes = [
        node("a", change=Change.MODIFIED, reason="its file differs", seconds=2.0),
        node("b", change=Change.DOWNSTREAM),
        node("c"),
        node("t", NodeOutcome.FAILED, resource_type="test", failures=2, status="fail"),
        node("e", NodeOutcome.NOT_RUN, message="ephemeral", status=""),
    ]
    assert table(replace(REPORT, nodes=nodes), "node") == [
        ["", "node", "type", "result", "time", "selected as"],
        ["❌", "t", "test", "fail (2 rows)", "", ""],
        ["✅", "a", "table", "said", "2.0 s", "its file differs"],
        ["✅", "b", "table", "said", "", "downstream"],
        ["✅", "c", "table", "said", "", ""],
        ["▫️", "e", "table", "not-run: ephemeral", "", ""],
    ]


def test_nodes__without_a_state_have_no_column_for_it() -> None:
    assert table(replace(REPORT, nodes=[node("a")]), "node")[0][-1] == "time"


def test_nodes__a_reason_of_many_is_said_once() -> None:
    macro, column = "the macro cents changed", "its columns differ"
    nodes = [
        *(node(f"m{index}", reason=macro) for index in range(4)),
        *(node(f"c{index}", reason=column) for index in range(3)),
    ]
    report = replace(REPORT, nodes=nodes)
    assert [row[-1] for row in table(report, "node")[1:]] == ["(1)"] * 4 + [column] * 3
    seen = gfm.text(shown(report))
    assert seen.count(macro) == 1
    assert f"(1) 4 nodes: {macro}" in seen


def test_removed__what_is_still_read_comes_first() -> None:
    removed = [
        Removed(unique_id="model.shop.a", name="a", resource_type="model", path="a.sql"),
        Removed(unique_id="model.shop.b", name="b", resource_type="seed", disabled=True),
        Removed(
            unique_id="model.shop.c",
            name="c",
            resource_type="model",
            read_by=[f"model.shop.x.v{index}" for index in range(5)],
        ),
    ]
    report = replace(REPORT, removed=removed)
    assert table(report, "was in") == [
        ["node", "type", "how", "was in", "read in production by"],
        ["c", "model", "removed", "", "x.v0, x.v1, x.v2 and 2 more"],
        ["a", "model", "removed", "a.sql", ""],
        ["b", "seed", "disabled for this target", "", ""],
    ]
    title = "3 nodes of production are gone, and 1 of them was read by what is still here"
    assert gfm.Fold(title, 0, open=True) in gfm.folds(shown(report))
    harmless = replace(REPORT, removed=removed[:2])
    title = "2 nodes of production are gone"
    assert gfm.Fold(title, 0, open=False) in gfm.folds(shown(harmless))


def test_exposures__have_an_owner_and_a_file() -> None:
    exposure = Exposure(
        unique_id="e", name="revenue", type="dashboard", owner="@finance", path="models/e.yml"
    )
    report = replace(REPORT, exposures=[exposure])
    assert table(report, "exposure") == [
        ["exposure", "type", "owner", "declared in"],
        ["revenue", "dashboard", "@finance", "models/e.yml"],
    ]
    assert f"{REPOSITORY}/blob/{HEAD}/models/e.yml" in gfm.links(shown(report))
    assert gfm.mentions(shown(report)) == []


def test_deferred__have_their_relation_and_how_production_fared() -> None:
    item = Deferred(unique_id="d", name="d", relation='"p"."d"', production_status="error")
    assert table(replace(REPORT, deferred=[item]), "relation of production")[1] == [
        "d",
        '"p"."d"',
        "error",
    ]


@pytest.mark.parametrize(
    ("count", "is_open"), [(MAX_NODES_OF_OPEN_GRAPH, True), (MAX_NODES_OF_OPEN_GRAPH + 1, False)]
)
def test_lineage__is_open_while_it_is_small(count: int, is_open: bool) -> None:
    nodes = [node(f"n{index}", parents=["model.shop.n0"]) for index in range(count)]
    html = shown(replace(REPORT, state=STATE, nodes=nodes))
    assert gfm.Fold(f"Lineage of {count} nodes", 0, open=is_open) in gfm.folds(html)
    assert [language for language, _ in gfm.code_blocks(html)] == ["mermaid"]


# Around -----------------------------------------------------------------------------------------


def test_problem__is_said_with_its_details_and_what_to_do() -> None:
    problem = Problem(message="It broke\nhere\nand there", hint="Mend it")
    html = shown(replace(REPORT, problem=problem))
    assert "It broke\n" in gfm.text(html)
    assert gfm.code_blocks(html) == [("", "here\nand there\n")]
    assert "Mend it\n" in gfm.text(html)


def test_problem__code_in_what_to_do_is_code() -> None:
    problem = Problem(message="It broke", hint="Run `dbt parse` or `dbt ls`.")
    html = shown(replace(REPORT, problem=problem))
    assert "Run dbt parse or dbt ls.\n" in gfm.text(html)
    assert gfm.elements(html)["code"] == 3


def test_problem__that_is_the_headline_is_said_once() -> None:
    html = shown(replace(REPORT, headline="It broke", problem=Problem(message="It broke")))
    assert gfm.text(html).count("It broke") == 1


def test_warnings__are_quoted_and_capped() -> None:
    few = replace(REPORT, warnings=[f"careful {index}" for index in range(MAX_WARNINGS)])
    many = replace(REPORT, warnings=[*few.warnings, "one", "two"])
    assert all(warning in gfm.text(shown(few)) for warning in few.warnings)
    assert "more warning" not in gfm.text(shown(few))
    assert "2 more warnings in report.json" in gfm.text(shown(many))


def test_passed_over__the_nearest_are_named_with_a_link() -> None:
    items = [
        PassedOver(commit=str(index) * 40, reason=f"It is damaged {index}.")
        for index in range(MAX_PASSED_OVER + 1)
    ]
    html = shown(replace(REPORT, passed_over=items))
    assert "The state of commit 000000000000 was not used. It is damaged 0." in gfm.text(html)
    assert f"{REPOSITORY}/commit/{'0' * 40}" in gfm.links(html)
    assert f"damaged {MAX_PASSED_OVER}" not in gfm.text(html)


def test_state__that_is_not_of_the_base_commit_is_explained() -> None:
    said = "What 1 commit changed before the base commit may be built here too"
    assert said in gfm.text(shown(replace(REPORT, state=STATE)))
    same = replace(REPORT, state=replace(STATE, age_commits=0))
    assert "may be built here" not in gfm.text(shown(same))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (
            STATE,
            f"compared with commit bbbbbbbbbbbb, 1 commit before the base commit, {PUBLISHED}",
        ),
        (
            replace(STATE, age_commits=0),
            f"compared with commit bbbbbbbbbbbb, {PUBLISHED}",
        ),
        (
            State(
                location="",
                has_provenance=True,
                reparsed=True,
                commit=BASE,
                reason="There is no state.",
            ),
            "compared with commit bbbbbbbbbbbb, which was parsed again: There is no state.",
        ),
        (
            State(location="/s", has_provenance=False),
            "compared with the manifest in /s, of an unknown commit",
        ),
        (
            State(
                location="registry",
                has_provenance=False,
                is_compared_apart=True,
                commit=BASE,
                created_at=STATE.created_at,
            ),
            (
                "compared with the base commit, parsed again · production is the latest manifest "
                "in registry, of commit bbbbbbbbbbbb, made 2 hours ago (2026-01-02 10:00 UTC)"
            ),
        ),
        (
            State(
                location="registry",
                has_provenance=False,
                is_compared_apart=True,
                created_at=STATE.created_at,
            ),
            (
                "compared with the base commit, parsed again · production is the latest manifest "
                "in registry, of an unknown commit, made 2 hours ago (2026-01-02 10:00 UTC)"
            ),
        ),
    ],
)
def test_footer__says_which_state_and_how_old(state: State, expected: str) -> None:
    # The time is among the counts, where there are any.
    assert f"project shop · {expected} · run · 1.0 s" in gfm.text(
        shown(replace(REPORT, state=state))
    )


def test_footer__has_versions_links_and_what_was_saved() -> None:
    html = shown(
        replace(
            REPORT,
            state=STATE,
            dbt_version="1.11.0",
            adapter="duckdb",
            target="ci",
            seconds_saved=75.0,
        )
    )
    assert gfm.text(html).endswith(
        "dbt 1.11.0 (duckdb) · target ci · run · 1.0 s · about 1 min 15 s of warehouse work saved\n"
    )
    assert gfm.links(html) == [f"{REPOSITORY}/commit/{BASE}", f"{REPOSITORY}/actions/runs/1"]


def test_footer__says_why_dbt_parsed_in_full() -> None:
    why = "dbt-duckdb is 1.11 here, and was 1.10"
    html = shown(replace(REPORT, dbt_version="1.11.0", adapter="duckdb", parsed_in_full=why))
    assert f"dbt 1.11.0 (duckdb) · parsed in full ({why})" in gfm.text(html)


def test_links__need_the_address_of_the_repository() -> None:
    assert gfm.links(shown(replace(FULL, repository_url="", run_url=""))) == []
    assert gfm.links(shown(FULL)) != []


def test_render_published__says_what_and_where(tmp_path: Path) -> None:
    html = gfm.render(render_published(packed(tmp_path, "a", "b"), "/store/shop"))
    assert gfm.text(html).split("\n") == [
        "📦 Production state published",
        "Commit aaaaaaaaaaaa, 2 resources, /store/shop",
        "dbt 1.11.0 (duckdb)",
        "",
    ]


# Limits -----------------------------------------------------------------------------------------

# Their names alone are more than either page holds.
MANY = 4_000
FILLERS = {
    "letters": "x",
    "four bytes": "\U0001f389",
    "backticks": "`",
    "escaped": ":",
    "pipes": "|",
    "lines": "a\n",
}


def huge(filler: str, causes: int, *, length: int = 100_000, name: int = 300) -> Report:
    """Everything failed, everything was removed, and everybody wrote a novel about it."""
    message, long = (filler * length)[:length], filler * name
    nodes = [
        node(
            f"{index}{long}",
            NodeOutcome.ERRORED,
            unique_id=f"model.shop.{index}",
            path=f"models/{index}.sql",
            parents=["model.shop.0"],
            message=message,
            reason=f"{index % 5} {long}",
            compiled_code=message if index < 50 else "",
        )
        for index in range(MANY)
    ]
    return replace(
        REPORT,
        outcome=Outcome.FAILURE,
        headline=f"{MANY} nodes failed {long}",
        counts=Counts(errored=MANY),
        problem=Problem(message=f"{long}\n{message}", hint=message),
        nodes=nodes,
        causes=[
            Cause(
                # No block shows more, and each one is a text of its own: it would be gigabytes.
                message=f"cause {index} {message[: 2 * MAX_BLOCK]}",
                unique_ids=[item.unique_id for item in nodes[index::causes]],
            )
            for index in range(causes)
        ],
        state=replace(STATE, location=message),
        removed=[
            Removed(unique_id=f"model.shop.r{index}", name=f"{index}{long}", resource_type=long)
            for index in range(MANY)
        ],
        deferred=[
            Deferred(unique_id=f"model.shop.d{index}", name=f"{index}{long}", relation=message)
            for index in range(MANY)
        ],
        exposures=[
            Exposure(unique_id=f"exposure.shop.e{index}", name=f"{index}{long}", owner=message)
            for index in range(MANY)
        ],
        warnings=[message] * MANY,
        passed_over=[PassedOver(commit=HEAD, reason=message)] * MANY,
    )


def left_out(seen: str, noun: str) -> list[int]:
    return [int(found.replace(",", "")) for found in re.findall(rf"([\d,]+) more {noun}", seen)]


@pytest.mark.parametrize("causes", [MANY, 1])
@pytest.mark.parametrize("page", [COMMENT, SUMMARY], ids=["comment", "summary"])
@pytest.mark.parametrize("filler", FILLERS)
def test_limits__hold_and_what_is_left_out_is_counted(filler: str, page: Page, causes: int) -> None:
    made = render(huge(FILLERS[filler], causes), page)
    assert page.measure(made) <= page.limit
    if page is COMMENT:
        assert len(made.encode("utf-16-le")) // 2 <= 65_536
    assert gfm.unbalanced(made) == []
    html = gfm.render(made)
    seen = gfm.text(html)
    assert f"{MANY} nodes failed" in seen
    [counts, *tables] = gfm.tables(html)
    assert counts[1][0] == f"{MANY:,}"
    # The first failure is said, in a block that ends.
    assert any(content.startswith("cause 0 ") for _, content in gfm.code_blocks(html))
    failures = seen.count("\n❌ ") - len(left_out(seen, "reason"))
    if causes == MANY:
        assert failures + sum(left_out(seen, "reason")) == MANY
    else:
        assert f"{MANY:,} nodes failed for one reason" in seen
        [more] = left_out(seen, "in ")
        assert MAX_NODES_OF_CAUSE + more == MANY
    # Nodes, removed, exposures and deferred, each with its header.
    assert len(tables) == 4
    rows = sum(len(found) - 1 for found in tables)
    assert rows + sum(left_out(seen, "rows?")) == 4 * MANY
    assert all(len({len(row) for row in found}) == 1 for found in tables)
    # The graph has no parts that could be left out: there it is, or there is no room for it.
    drawn = [int(found) for found in re.findall(r"Lineage of (\d+) nodes", seen)]
    assert sum(drawn + left_out(seen, "nodes not drawn")) in ((3 * MANY,) if drawn else (0,))


def test_limits__many_reasons_do_not_take_the_table_away() -> None:
    nodes = [
        node(f"n{index}", reason=f"downstream of {index // 4} {'x' * 200}")
        for index in range(2_000)
    ]
    seen = gfm.text(shown(replace(REPORT, nodes=nodes)))
    assert "2,000 nodes selected or run" in seen


def test_limits__long_paths_do_not_take_the_first_failure_away() -> None:
    # As long as Linux has them; each byte of such a letter takes three characters in an address.
    nodes = [
        node(f"n{index}", NodeOutcome.ERRORED, path=f"models/{index}{'é/' * 1_300}.sql")
        for index in range(MAX_NODES_OF_CAUSE)
    ]
    html = shown(failing(*nodes))
    assert ("", "no such\ntable\n") in gfm.code_blocks(html)


def test_measures__are_those_of_github() -> None:
    assert (characters("a\u00e9\U0001f389"), octets("a\u00e9\U0001f389\ud800")) == (4, 13)
    assert characters("\U0001f389" * 10) == len(("\U0001f389" * 10).encode("utf-16-le")) // 2


def test_speed__ten_thousand_nodes_take_less_than_a_second() -> None:
    report = huge("x:", 10_000, length=1_000, name=30)
    times = []
    for _ in range(3):
        # Of this process: other tests run at the same time.
        start = time.process_time()
        render(report, COMMENT)
        times.append(time.process_time() - start)
    assert min(times) < 1, f"the best of three took {min(times):.2f} s"


# Everything at once -----------------------------------------------------------------------------

IDS = st.sampled_from(["model.shop.a", "model.shop.b", "test.shop.t", "exposure.shop.e"]) | TEXT
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "repository_url": st.sampled_from(["", REPOSITORY]),
    "run_url": st.sampled_from(["", f"{REPOSITORY}/actions/runs/1"]),
    "head_commit": st.sampled_from([HEAD, "HEAD"]) | TEXT,
    "commit": st.just(BASE) | TEXT,
    "unique_id": IDS,
    "unique_ids": st.lists(IDS, max_size=3),
    "parents": st.lists(IDS, max_size=3),
    "read_by": st.lists(IDS, max_size=5),
    "resource_type": st.sampled_from(["model", "test", "exposure"]) | TEXT,
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that a report is made of; what is text is hostile."""
    if typing.get_origin(kind) is typing.Annotated:
        return values(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return st.one_of(*map(values, typing.get_args(kind)))
    if typing.get_origin(kind) is list:
        return st.lists(values(typing.get_args(kind)[0]), max_size=2)
    if issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        made = {
            item.name: FIELDS[item.name] if item.name in FIELDS else values(item.type)
            for item in fields
        }
        return st.builds(kind, **made)
    if issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    basic: dict[type, st.SearchStrategy[Any]] = {
        str: TEXT,
        bool: st.booleans(),
        int: st.integers(0, 10_000_000),
        float: st.floats(0, 1e6),
        type(None): st.none(),
    }
    return basic[kind]


TINY = Page(2_000, characters, 2, "elsewhere")
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)


@pytest.mark.parametrize("page", [COMMENT, SUMMARY, TINY], ids=["comment", "summary", "tiny"])
@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(values(Report))
def test_render__of_anything_is_a_page_on_which_nothing_is_live(page: Page, report: Report) -> None:
    made = render(report, page)
    html = gfm.render(written(made))
    assert controls(made) == []
    assert gfm.unbalanced(written(made)) == []
    assert gfm.mentions(html) == []
    assert [found for found in gfm.references(html) if not COMMIT.search(found)] == []
    assert gfm.emoji(html) == []
    foreign = [url for url in gfm.links(html) if not url.startswith(f"{REPOSITORY}/")]
    assert foreign == []
    assert not any(".." in url.split("/") for url in gfm.links(html))
    elements = gfm.elements(html)
    assert (elements["h1"], elements["h2"], elements["h4"], elements["img"]) == (0, 1, 0, 0)
    assert elements["sub"] in (1, 2)
    assert elements["h3"] <= len(report.causes)
    for rows in gfm.tables(html):
        assert len({len(row) for row in rows}) == 1
