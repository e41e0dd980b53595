from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given

from ci_defer.characters import clean
from ci_defer.gfm import (
    MAX_BLOCK,
    MAX_INLINE,
    block,
    code,
    code_cell,
    folded,
    link,
    path_in_url,
    prose,
    table,
    text,
)
from tests.harness import gfm
from tests.hostile import COMMIT, TEXT, controls, words, written

LINE_BREAK = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")

# How text gets onto a page, with the limit of its length as the second argument.
Make = Callable[..., str]
MAKERS = (text, code, code_cell)

# Where it may stand there.
PLACES: dict[str, Callable[[str], str]] = {
    "cell": lambda made: table(("a", "b"), [("first", made), (made, "last")]),
    "heading": lambda made: f"## before {made}",
    "start of a list item": lambda made: f"- {made}\n- next",
    "list item": lambda made: f"- before {made}\n- next",
    "quote": lambda made: f"> before {made}\n\nnext",
    "fold": lambda made: folded("title", f"before {made}"),
}


def live(html: str) -> list[str]:
    """What GitHub would make something of."""
    references = [found for found in gfm.references(html) if not COMMIT.search(found)]
    return [*gfm.mentions(html), *references, *gfm.emoji(html), *gfm.links(html)]


# Text and code ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS)
@given(TEXT)
@example("\\|")
@example("`")
@example("a\\|b")
@example("``` |")
@example("<img src=x onerror=alert(1)>")
def test_inline__is_one_line_without_controls(make: Make, value: str) -> None:
    made = make(value)
    assert not LINE_BREAK.search(made)
    assert controls(made) == []


@pytest.mark.parametrize(
    ("make", "place"),
    [
        *((text, place) for place in PLACES),
        *((code, place) for place in PLACES if place != "cell"),
        (code_cell, "cell"),
    ],
)
@given(TEXT)
@example("\\|")
@example("|" * 5)
@example("@org/team")
@example("<!-- </details>")
@example("\ud800 \U0001f389")
def test_inline__is_inert_and_shows_what_it_was_given(make: Make, place: str, value: str) -> None:
    markdown = written(PLACES[place](make(value)))
    html = gfm.render(markdown)
    said = words(clean(value))
    assert live(html) == []
    assert gfm.unbalanced(markdown) == []
    if said:
        # An empty paragraph is none.
        assert gfm.elements(html) == gfm.elements(gfm.render(PLACES[place](make("x"))))
    assert said in words(gfm.text(html))


@pytest.mark.parametrize("make", [text, code_cell])
@given(TEXT, TEXT)
def test_inline__never_leaves_its_cell(make: Make, value: str, other: str) -> None:
    markdown = table(("a", "b"), [(make(value), make(other)), (make(other), "last")])
    [rows] = gfm.tables(gfm.render(written(markdown)))
    cells = [[words(cell) for cell in row] for row in rows]
    assert cells == [
        ["a", "b"],
        [words(clean(value)), words(clean(other))],
        [words(clean(other)), "last"],
    ]


def test_text__links_no_advisory() -> None:
    assert live(gfm.render(text("GHSA-abcd-ef12-gh34"))) == []


def test_code__shows_a_pipe_as_it_is_outside_of_tables() -> None:
    assert gfm.text(gfm.render(f"- {code('a|b')}")).strip() == "a|b"


def test_text__stays_readable() -> None:
    assert text("2 nodes built,\n  1 test passed") == "2 nodes built, 1 test passed"
    assert text("") == ""


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("control", ["", "\x1b[31m"])
def test_inline__is_cut_where_it_gets_too_long(make: Make, control: str) -> None:
    made = gfm.text(gfm.render(make(control + "x" * (MAX_INLINE + 1)))).strip()
    assert made == "x" * (MAX_INLINE - 1) + "…"
    assert gfm.text(gfm.render(make("x" * MAX_INLINE))).strip() == "x" * MAX_INLINE
    assert gfm.text(gfm.render(make("x" * 10, 5))).strip() == "xxxx…"


@pytest.mark.parametrize("make", [text, code_cell])
def test_inline__that_is_cut_is_inert(make: Make) -> None:
    for size in range(20):
        made = make(f"{'x' * size}`|*@octocat|``|\\|</b>", 20)
        [rows] = gfm.tables(gfm.render(table(("a", "b"), [(made, "last")])))
        assert [len(row) for row in rows] == [2, 2]
        assert live(gfm.render(made)) == []


@given(TEXT)
@example("@`x`octocat #`1`1 :`a`tada:")
@example("`@octocat")
@example("``` `` `")
def test_prose__is_inert(value: str) -> None:
    markdown = written(f"> before {prose(value)}\n\nnext")
    html = gfm.render(markdown)
    assert live(html) == []
    assert gfm.unbalanced(markdown) == []
    assert set(gfm.elements(html)) <= {"blockquote", "p", "code"}
    assert gfm.elements(html)["p"] == 2


def test_prose__has_code_where_backticks_are_in_pairs() -> None:
    html = gfm.render(prose("Run `dbt parse`, or `dbt ls` in a/b_c_d."))
    assert gfm.text(html).strip() == "Run dbt parse, or dbt ls in a/b_c_d."
    assert gfm.elements(html)["code"] == 2
    alone = "It's 5` long"
    assert gfm.text(gfm.render(prose(alone))).strip() == alone


# Blocks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["", "sql"])
@given(TEXT)
@example("```\n</details>\n````")
@example("x" * MAX_BLOCK + "````")
@example("\n\n")
def test_block__ends_where_it_is_meant_to(language: str, value: str) -> None:
    made = block(value, language)
    markdown = written(folded("title", f"{made}\n\nafter"))
    html = gfm.render(markdown)
    [(said_language, content)] = gfm.code_blocks(html)
    assert said_language == language
    if len(value) <= MAX_BLOCK:
        assert content == f"{written(clean(value))}\n"
    assert gfm.elements(html)["p"] == 1
    assert gfm.unbalanced(markdown) == []
    assert live(html) == []
    assert controls(made) == []


# cmark counts no more than 80 backticks around a span, and 255 around a block.
@pytest.mark.parametrize("count", [1, 79, 80, 81, 200])
def test_code__of_many_backticks_is_inert(count: int) -> None:
    html = gfm.render(f"- {code('`' * count + ' @octocat https://x.io')}")
    assert live(html) == []


@pytest.mark.parametrize("count", [3, 254, 255, 256, MAX_BLOCK - 20])
def test_block__of_many_backticks_is_inert(count: int) -> None:
    html = gfm.render(block("`" * count + "\n@octocat <b>"))
    assert live(html) == []
    assert len(gfm.code_blocks(html)) == 1


def test_block__is_cut_and_says_how_much_is_missing() -> None:
    made = block("x" * (MAX_BLOCK + 1234))
    assert "x" * MAX_BLOCK + "\n… 1,234 more characters\n" in made
    assert block("xyz", limit=1) == "```\nx\n… 2 more characters\n```"


def test_block__is_without_colours() -> None:
    assert block("\x1b[31mno table\x1b[0m\r\nat all") == "```\nno table\nat all\n```"


# The rest ---------------------------------------------------------------------------------------


def test_link__leads_there() -> None:
    html = gfm.render(link(code("a|b"), "https://example.com/a%20b#L3"))
    assert gfm.links(html) == ["https://example.com/a%20b#L3"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "javascript:alert(1)",
        "https://example.com/ x",
        "https://example.com/)",
        "https://example.com/\n",
        'https://example.com/"x',
        "https://example.com/<b>",
        "https://example.com/|",
        "ftp://example.com",
        "example.com",
    ],
)
def test_link__to_what_is_no_safe_address_is_its_label(url: str) -> None:
    assert link("label", url) == "label"


@given(TEXT)
def test_path_in_url__stays_one_address(value: str) -> None:
    path = written(value)
    url = f"https://example.com/o/r/blob/main/{path_in_url(path)}"
    assert gfm.links(gfm.render(table(("a", "b"), [(link("x", url), "y")]))) == [url]


def test_path_in_url__of_a_lone_surrogate() -> None:
    # A name of a file that is not UTF-8 is one in Python.
    path = path_in_url("a\udc80.sql")
    assert link("x", f"https://example.com/{path}").startswith("[x]")


def test_table__has_its_rows() -> None:
    made = table(("a", ""), [("1", ""), ("", "2")])
    assert gfm.tables(gfm.render(made)) == [[["a", ""], ["1", ""], ["", "2"]]]


def test_folded__is_closed_unless_it_is_said_to_be_open() -> None:
    markdown = f"{folded('a', '- b')}\n\n{folded('c', 'd', is_open=True)}\n\nafter"
    html = gfm.render(markdown)
    assert gfm.folds(html) == [gfm.Fold("a", 0, open=False), gfm.Fold("c", 0, open=True)]
    assert gfm.unbalanced(markdown) == []
    # Markdown in it is read as such.
    assert gfm.elements(html)["li"] == 1


def test_tests__texts_hold_what_would_be_found() -> None:
    # Else nothing above could fail.
    found = live(gfm.render("@org/team #123 GH-1 :tada: https://x.io www.x.io a@b.io"))
    assert len(found) == 7
