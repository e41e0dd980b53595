from __future__ import annotations

import pytest

from tests.harness import gfm


def test_tables__have_their_cells() -> None:
    html = gfm.render("| a | b |\n| --- | --- |\n| `x \\| y` | **1** \\| 2 |\n")
    assert gfm.tables(html) == [[["a", "b"], ["x | y", "1 | 2"]]]


def test_tables__pipe_in_a_code_span_ends_the_cell() -> None:
    html = gfm.render("| a | b |\n| --- | --- |\n| `x | y` | 1 |\n")
    assert gfm.tables(html) == [[["a", "b"], ["`x", "y`"]]]


@pytest.mark.parametrize(
    ("markdown", "seen"),
    [
        ("a <script>alert(1)</script> b", "a <script>alert(1)</script> b\n"),
        ("a <style>b</style>", "a <style>b</style>\n"),
        ("<img src=x onerror=alert(1)>a", "a\n"),
        ("a <!-- hidden --> b", "a  b\n"),
        ('<b onclick="x" style="y" class="z">a</b>', "a\n"),
        ("<svg><b>a</b></svg>", "a\n"),
    ],
)
def test_render__takes_away_what_could_run_or_deceive(markdown: str, seen: str) -> None:
    html = gfm.render(markdown)
    assert gfm.text(html) == seen
    assert not {"script", "style", "svg"} & set(gfm.elements(html))
    assert "<!--" not in html
    for attribute in ("onerror", "onclick", "style=", "class="):
        assert attribute not in html


def test_render__keeps_what_github_allows() -> None:
    html = gfm.render('<sub>a</sub> <kbd align="left" id="x">b</kbd> ~~c~~\nd')
    assert gfm.elements(html) == {"p": 1, "sub": 1, "kbd": 1, "del": 1, "br": 1}
    assert '<kbd align="left" id="user-content-x">' in html


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("@octocat", ["@octocat"]),
        ("\\@octocat", ["@octocat"]),
        ("&#64;octocat", ["@octocat"]),
        ("@<!-- -->octocat", ["@octocat"]),
        ("cc @acme/data-team, @a-b.", ["@acme/data-team", "@a-b"]),
        ("(@octocat)", ["@octocat"]),
        ("_@octocat_", ["@octocat"]),
        ("\u200b@octocat", ["@octocat"]),
        ("\u00e9@octocat", ["@octocat"]),
        ("@octocat.com", []),
        ("a@octocat", []),
        ("@\u200boctocat", []),
        ("@\u2060octocat", []),
        ("`@octocat`", []),
        ("```\n@octocat\n```", []),
        ("[@octocat](https://example.com)", []),
        ("@<b>octocat</b>", []),
    ],
)
def test_mentions(markdown: str, expected: list[str]) -> None:
    assert gfm.mentions(gfm.render(markdown)) == expected


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("see #1, #2", ["#1", "#2"]),
        ("\\#1", ["#1"]),
        ("&#35;1", ["#1"]),
        ("GH-12 gh-13", ["GH-12", "gh-13"]),
        ("acme/shop#26 and octocat#7", ["acme/shop#26", "octocat#7"]),
        (
            "fixes a5c3785ed8d6a35868bc169f07e40e889087fd2e",
            ["a5c3785ed8d6a35868bc169f07e40e889087fd2e"],
        ),
        ("acme/shop@a5c3785", ["acme/shop@a5c3785"]),
        ("a5c3785..b5c3785", ["a5c3785..b5c3785"]),
        ("1234567 rows", ["1234567"]),
        ("GHSA-abcd-ef12-gh34", ["GHSA-abcd-ef12-gh34"]),
        ("1,234,567 rows", []),
        ("#a #\u200b1 GH-\u200b12 xGH-1", []),
        ("`#1` <pre>#1</pre>", []),
    ],
)
def test_references(markdown: str, expected: list[str]) -> None:
    assert gfm.references(gfm.render(markdown)) == expected


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("www.example.com", ["http://www.example.com"]),
        ("https://example.com/a_b", ["https://example.com/a_b"]),
        ("http://example.com", ["http://example.com"]),
        ("ftp://example.com", [""]),
        ("me@example.com", ["mailto:me@example.com"]),
        ("mailto:me@example.com", ["mailto:me@example.com"]),
        ("xmpp:me@example.com", [""]),
        ("<https://example.com>", ["https://example.com"]),
        ("[a](javascript:alert\\(1\\))", [""]),
        ("`www.example.com`", []),
    ],
)
def test_links(markdown: str, expected: list[str]) -> None:
    assert gfm.links(gfm.render(markdown)) == expected


def test_emoji__are_found_after_escapes_are_gone() -> None:
    html = gfm.render(":tada: \\:tada\\: `:tada:` 12:30:15 :\u200btada:")
    assert gfm.emoji(html) == [":tada:", ":tada:", ":30:"]


def test_code_blocks__have_a_language_and_their_text() -> None:
    html = gfm.render("```sql\nselect '<b>'\n  | 1\n```\n\n    indented\n")
    assert gfm.code_blocks(html) == [("sql", "select '<b>'\n  | 1\n"), ("", "indented\n")]


FOLDED = "<details><summary>1 < 2</summary>\n\n{}\n\n</details>\n\nafter\n"


def test_folds__know_what_they_are_in() -> None:
    inner = "<details open><summary><b>inner</b></summary>\n\n- a\n\n</details>"
    html = gfm.render(FOLDED.format(inner))
    assert gfm.folds(html) == [gfm.Fold("1 < 2", 0, open=False), gfm.Fold("inner", 1, open=True)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("- a\n\n| b |\n| - |\n| c |\n\n---\n![d](e)", []),
        ("```\n</details>\n```", []),
        ("\\</details>", []),
        ("</details>", ["</details> closes nothing"]),
        ("<details>", ["<details> is not closed"]),
        ("a <b>", ["<b> is not closed before </p>"]),
        ("a </details>", ["<p> is not closed before </details>", "</p> closes nothing"]),
    ],
)
def test_unbalanced__are_tags_that_end_in_the_wrong_place(
    content: str, expected: list[str]
) -> None:
    assert gfm.unbalanced(FOLDED.format(content))[: len(expected) or 1] == expected
