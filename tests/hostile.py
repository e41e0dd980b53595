"""Text that somebody else wrote, at its worst: what GitHub, browsers and terminals react to."""

from __future__ import annotations

import re
import unicodedata

from hypothesis import strategies as st

WORDS = (
    *("@org/team", "@octocat", "#123", "GH-1", "gh-1", "o/r#1"),
    *("https://x.io", "HTTP://x.io", "www.x.io", "ftp://x.io", "a@b.io", "mailto:a@b.io"),
    *(":tada:", "</details>", "<details>", "<script>", "<!--", "-->", "<b>", "&lt;", "&#64;"),
    *("```", "````", "~~~", "~~a~~", "**a**", "[a](http://x.io)", "![a](b)", "[^1]", "[x] "),
    *("# ", "> ", "- ", "1. ", "1) ", "    ", "==", "---", "$a$", "::error::x", "%%{init"),
    *("\u202e", "\u200f", "\u200b", "\u2028", "\U0001f389", "\ud800", "\0", "\x85", "\t"),
    *("\n", "\r\n", "\r", "\x1b[31m", "\x1b]0;title\x07", "|", "\\", "`", "*", "_"),
)
LETTERS = "\\`|*_<>[]()!#@&:~-+.=$\n\r\t\0\x1b\x85\u2028\u202e\u200fab1 \u00e9/\"'%^{};,?"

# A commit that GitHub would link is only a number to us; there is no way to tell them apart.
COMMIT = re.compile("[0-9a-fA-F]{7}")

TEXT = (
    st.lists(st.sampled_from(WORDS) | st.text(st.sampled_from(LETTERS), max_size=6), max_size=8)
    .map("".join)
    .filter(lambda value: not COMMIT.search(value))
)

REORDERING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
OF_NO_WIDTH = re.compile("[\u200b\u2060\ufeff]")


def controls(value: str) -> list[str]:
    """Characters that control a terminal or reorder text, but not line feeds."""
    return [
        character
        for character in value
        if character != "\n"
        and (unicodedata.category(character) == "Cc" or character in REORDERING)
    ]


def written(value: str) -> str:
    """As it is in a file: a lone surrogate has no bytes."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def words(value: str) -> str:
    """What people read, whatever the spaces are."""
    return " ".join(OF_NO_WIDTH.sub("", written(value)).split())
