from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from ci_defer.markdown import MAX_MESSAGE, MAX_ROWS, block, code, render, render_published
from ci_defer.markdown import text as inline
from ci_defer.report import (
    Cause,
    Deferred,
    NodeOutcome,
    NodeReport,
    Outcome,
    Problem,
    Removed,
    Report,
    State,
)
from tests.samples import packed

# What Markdown, HTML, GitHub and terminals react to, and some letters.
HOSTILE = st.text(
    st.sampled_from([*"\\`|*_<>[]()!#@&:~-+.=$\n\r\t\0\x1b\x85\u2028\u202e\u200fab1 \u00e9"]),
    max_size=30,
)
LINE_BREAK = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


def controls(value: str) -> list[str]:
    """Characters that control a terminal or reorder text, but not line feeds."""
    reordering = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return [
        character
        for character in value
        if character != "\n"
        and (unicodedata.category(character) == "Cc" or character in reordering)
    ]


def unescaped(value: str, characters: str) -> list[str]:
    """The characters of this kind that no backslash takes the meaning from."""
    return re.findall(rf"[{re.escape(characters)}]", re.sub(r"\\[!-/:-@\[-`{-~]", "", value))


@given(HOSTILE)
@example("\\|")
@example("<img src=x onerror=alert(1)>")
def test_text__has_no_line_break_no_control_and_no_live_markup(value: str) -> None:
    made = inline(value)
    assert not LINE_BREAK.search(made)
    assert controls(made) == []
    assert unescaped(made, "|`*_<>[]()!#&~:$") == []


@given(HOSTILE)
def test_text__says_what_it_was_given(value: str) -> None:
    shown = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", inline(value)).replace("\u200b", "")
    kept = [character for character in value if character.isalnum()]
    # A whole escape sequence of a terminal goes, letters and all.
    assert [character for character in shown if character.isalnum()] == kept or "\x1b" in value


@pytest.mark.parametrize(
    ("value", "live"),
    [
        ("@octocat", "@octocat"),
        ("@org/team", "@org"),
        ("#26", "#26"),
        ("o/r#26", "#26"),
        ("GH-26", "GH-26"),
        ("https://example.com", "https://"),
        ("www.example.com", "www.example"),
        ("a@example.com", "@example"),
        (":tada:", ":tada:"),
    ],
)
def test_text__mentions_nobody_and_links_nothing(value: str, live: str) -> None:
    # GitHub looks for these after Markdown has taken the escapes away.
    made = inline(value)
    as_seen = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", made)
    assert live not in (as_seen if live[0] in "@#G" else made)


def test_text__stays_readable() -> None:
    assert inline("2 nodes built,\n  1 test passed") == "2 nodes built, 1 test passed"
    assert inline("") == ""


@given(HOSTILE)
@example("`")
@example("a\\|b")
@example("``` |")
def test_code__is_one_span_on_one_line(value: str) -> None:
    made = code(value)
    assert not LINE_BREAK.search(made)
    assert controls(made) == []
    fence = re.match("`+", made)
    assert fence
    opened, inner = len(fence[0]), made[len(fence[0]) : -len(fence[0])]
    # No other run of backticks has this length: the span ends where it is meant to.
    assert made.endswith(fence[0])
    assert opened not in [len(run) for run in re.findall("`+", inner)]
    assert inner[:1] != "`"
    assert inner[-1:] != "`"
    assert inner
    # Cells are split before anything else is read, at every pipe that has no backslash before it.
    assert not re.search(r"(?<!\\)\|", inner)


@given(HOSTILE, st.sampled_from(["", "sql"]))
@example("```\n</details>\n````", "")
@example("x" * MAX_MESSAGE + "````", "")
@example("`" * (MAX_MESSAGE + 5), "")
def test_block__ends_where_it_is_meant_to(value: str, language: str) -> None:
    made = block(value, language)
    first, *content, last = made.split("\n")
    assert first == last + language
    assert set(last) == {"`"}
    assert len(last) >= 3
    assert all(len(run) < len(last) for line in content for run in re.findall("`+", line))
    assert controls(made) == []


def test_block__is_cut_and_says_how_much_is_missing() -> None:
    made = block("x" * (MAX_MESSAGE + 1234))
    assert "x" * MAX_MESSAGE + "\n… 1,234 more characters\n" in made


def test_block__is_without_colours() -> None:
    assert block("\x1b[31mno table\x1b[0m\r\nat all") == "```\nno table\nat all\n```"


def node(name: str, outcome: NodeOutcome = NodeOutcome.BUILT, **more: str | int) -> NodeReport:
    basic = {"unique_id": f"model.shop.{name}", "resource_type": "model", "materialized": "table"}
    fields = {**basic, "name": name, "status": "said", **more}
    return NodeReport(**fields, outcome=outcome)  # type: ignore[arg-type]


REPORT = Report(
    outcome=Outcome.SUCCESS,
    headline="1 node built",
    project="shop",
    project_dir=".",
    started_at="",
    seconds=1.0,
)


def table_rows(markdown: str) -> list[list[str]]:
    """The cells of every line of a table, as GitHub splits them."""
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in markdown.splitlines()
        if line.startswith("|")
    ]


def test_render__puts_the_worst_first_and_everything_into_the_table() -> None:
    outcomes = [NodeOutcome.NOT_RUN, NodeOutcome.BUILT, NodeOutcome.SKIPPED, NodeOutcome.FAILED]
    nodes = [node(outcome.name.lower(), outcome) for outcome in outcomes]
    made = render(replace(REPORT, nodes=nodes))
    names = [row[1] for row in table_rows(made) if len(row) == 5]
    assert names == ["node", "---", "`failed`", "`skipped`", "`built`", "`not_run`"]


def test_render__shows_the_cause_once_with_all_its_nodes() -> None:
    nodes = [
        node(name, NodeOutcome.ERRORED, path=f"models/{name}.sql", compiled_path=f"t/{name}.sql")
        for name in ("a", "b")
    ]
    causes = [Cause(message="no such\ntable", unique_ids=[item.unique_id for item in nodes])]
    made = render(replace(REPORT, nodes=nodes, causes=causes))
    assert "2 nodes failed for one reason" in made
    assert "- ❌ `a` (model), in `models/a.sql`, compiled SQL: `t/a.sql`\n- ❌ `b`" in made
    assert made.count("```\nno such\ntable\n```") == 1


def test_render__says_which_state_and_how_old() -> None:
    state = State(
        location="/s", has_provenance=True, commit="a" * 40, created_at="2026", age_commits=1
    )
    assert "commit `aaaaaaaaaaaa`, 1 commit before the base commit" in render(
        replace(REPORT, state=state)
    )
    plain = State(location="/s", has_provenance=False)
    assert "the manifest in `/s`, of an unknown commit" in render(replace(REPORT, state=plain))


def test_render__shows_problem_hint_and_warnings() -> None:
    made = render(
        replace(
            REPORT,
            outcome=Outcome.ERROR,
            problem=Problem(message="It broke\nhere and there", hint="Mend it"),
            warnings=["careful"],
        )
    )
    for expected in ("**It broke**", "```\nhere and there\n```", "\n\nMend it\n", "> ⚠️ careful"):
        assert expected in made


def test_render__cuts_tables_and_says_so() -> None:
    nodes = [node(f"n{number}") for number in range(MAX_ROWS + 3)]
    made = render(replace(REPORT, nodes=nodes))
    assert "3 more nodes are in the report" in made
    assert f"`n{MAX_ROWS}`" not in made


@given(HOSTILE, st.sampled_from(Outcome))
def test_render__of_hostile_words_keeps_its_shape(value: str, outcome: Outcome) -> None:
    nodes = [
        node(value, NodeOutcome.FAILED, status=value, path=value, materialized=value),
        node("fine", NodeOutcome.NOT_RUN, message=value, resource_type=value),
    ]
    hostile = replace(
        REPORT,
        outcome=outcome,
        headline=value,
        project=value,
        target=value,
        dbt_version=value,
        adapter=value,
        problem=Problem(message=value, hint=value),
        state=State(location=value, has_provenance=True, commit=value, created_at=value),
        nodes=nodes,
        causes=[Cause(message=value, unique_ids=[f"model.shop.{value}"])],
        deferred=[Deferred(unique_id="x", name=value, relation=value, production_status=value)],
        removed=[Removed(unique_id="x", name=value, resource_type=value, path=value)],
        warnings=[value],
    )
    made = render(hostile)
    outside = re.sub(r"(?ms)^(`{3,})\n.*?^\1$", "", made)
    assert controls(made) == []
    # Totals and nodes, removed, deferred: a header, a line and the rows, all of one width.
    widths = [len(row) for row in table_rows(outside)]
    assert widths[3:] == [5] * 4 + [4] * 3 + [3] * 3
    assert len(set(widths[:3])) == 1
    assert re.findall(r"(?m)^</?details>", outside) == ["<details>", "</details>"] * 3
    assert outside.count("\n## ") == 0


def test_render_published__says_what_and_where(tmp_path: Path) -> None:
    made = render_published(packed(tmp_path, "a", "b"), "/store/shop")
    assert made.startswith("## 📦 Production state published\n")
    assert "Commit `aaaaaaaaaaaa`, 2 resources, `/store/shop`" in made
    assert r"dbt 1\.11\.0 (duckdb)" in made
