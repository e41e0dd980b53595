"""Markdown as GitHub shows it: rendered by GitHub's own parser, cleaned, searched for references.

The parser is cmark-gfm itself. The allow-list and the patterns are those that GitHub published in
html-pipeline; what it runs today may differ in details. So where two readings are possible, the one
taken here lets more through and finds more: a test that finds nothing live then shows something.

The functions that look into HTML take what `render` returns. Beautiful Soup reads it, as it has its
types with it and is looked after; the sanitizer has balanced all tags before, so that Python's own
parser underneath finds the same tree as a browser.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from html.parser import HTMLParser

import nh3
from bs4 import BeautifulSoup
from bs4.element import PageElement
from cmarkgfm.cmark import Options, markdown_to_html_with_extensions  # type: ignore[import-untyped]

_EXTENSIONS = ["table", "strikethrough", "autolink", "tagfilter", "tasklist"]
# A comment keeps its line breaks; raw HTML goes through, to the sanitizer.
_OPTIONS = (
    Options.CMARK_OPT_UNSAFE
    | Options.CMARK_OPT_GITHUB_PRE_LANG
    | Options.CMARK_OPT_HARDBREAKS
    | Options.CMARK_OPT_FOOTNOTES
)

_TAGS = """
h1 h2 h3 h4 h5 h6 br b i strong em a pre code img tt div ins del sup sub p ol ul table thead tbody
tfoot blockquote dl dt dd kbd q samp var hr ruby rt rp li tr td th s strike summary details caption
figure figcaption abbr bdo cite dfn mark small span time wbr
"""
# Not in the published list: GitHub documents pictures, and draws the boxes of task lists.
_MORE_TAGS = """
picture source input
"""
_ATTRIBUTES = """
abbr accept accept-charset accesskey action align alt aria-describedby aria-hidden aria-label
aria-labelledby axis border cellpadding cellspacing char charoff charset checked clear cols colspan
color compact coords datetime dir disabled enctype for frame headers height hreflang hspace id ismap
label lang maxlength media method multiple name nohref noshade nowrap open progress prompt readonly
rev role rows rowspan rules scope selected shape size span start summary tabindex title type usemap
valign value width itemprop
"""
_MORE_ATTRIBUTES = {
    "a": {"href"},
    "img": {"src", "longdesc"},
    "source": {"srcset"},
    "div": {"itemscope", "itemtype"},
    "blockquote": {"cite"},
    "del": {"cite"},
    "ins": {"cite"},
    "q": {"cite"},
}
_SANITIZER = nh3.Cleaner(
    tags={*_TAGS.split(), *_MORE_TAGS.split()},
    clean_content_tags={"script", "style"},
    attributes={"*": {*_ATTRIBUTES.split()}, **_MORE_ATTRIBUTES},
    url_schemes={"http", "https", "mailto", "github-windows", "github-mac"},
    link_rel="nofollow",
    id_prefix="user-content-",
)

# Nothing is looked for in these.
_VERBATIM = {"pre", "code", "a"}

# The possessive group of html-pipeline, for Python 3.10. Underscores are in the names of managed
# users. A word is ASCII to Ruby: `é@octocat` is a mention.
_MENTION = re.compile(
    r"""
    (?<!\w)
    (?:
      @[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9_-]*\b                # a team
    |
      @(?=(?P<login>[a-z0-9][a-z0-9_-]*))(?P=login)
      (?!/)
      (?= \.+[ \t\W] | \.+$ | [^0-9a-zA-Z_.] | $ )
    )
    """,
    re.IGNORECASE | re.VERBOSE | re.MULTILINE | re.ASCII,
)
_REFERENCE = re.compile(
    r"""
    (?: (?:^|(?<=[\s(\[{])) [\w-]+/?[.\w-]*\#\d+\b )           # user/repository#1, user#1
    | (?: (?<!\w) (?:gh-|\#)\d+\b )                            # #1, GH-1
    | (?: (?:^|(?<=[\s(\[{])) (?:[\w-]+/?[\w.-]*)?@[0-9a-f]{7,40}\b )  # user/repository@commit
    | (?: (?:^|(?<=[({@\s\[])) [0-9a-f]{7,40}(?:\.{2,3}[0-9a-f]{7,40})?\b )  # commit, a..b
    | (?: (?<!\w) GHSA(?:-[0-9a-z]{4}){3}\b )                  # advisory
    """,
    re.IGNORECASE | re.VERBOSE | re.MULTILINE | re.ASCII,
)
_EMOJI = re.compile(r":[a-z0-9_+-]+:", re.IGNORECASE)
_INVISIBLE = re.compile("[\u200b\u2060\ufeff]")
# They have no end tag.
_VOID = {"br", "hr", "img", "input", "source", "wbr"}


@dataclass(frozen=True)
class Fold:
    """A <details> element."""

    summary: str
    """What is seen while it is closed."""
    depth: int
    """In how many others it is."""
    open: bool


def render(markdown: str) -> str:
    """The HTML of a comment, before people and issues in it are linked."""
    return _SANITIZER.clean(_unclean(markdown))


def unbalanced(markdown: str) -> list[str]:
    """The tags, before they are sanitized, that close nothing or are not closed where they should.

    Nothing of this can be seen in what `render` returns, as the sanitizer repairs it in its way.
    """
    reader = _Balance()
    reader.feed(_unclean(markdown))
    reader.close()
    return reader.problems + [f"<{name}> is not closed" for name in reader.open]


def text(html: str) -> str:
    """What is seen, folded or not, but for characters of no width."""
    return _seen(_soup(html))


def mentions(html: str) -> list[str]:
    """The people and teams that are notified, if they exist: `@user` or `@organization/team`."""
    return [found for part in _texts(html) for found in _found(_MENTION, part)]


def references(html: str) -> list[str]:
    """What is linked if it exists: issues, commits and advisories."""
    return [found for part in _texts(html) for found in _found(_REFERENCE, part)]


def emoji(html: str) -> list[str]:
    """What becomes a picture if there is one of this name, as `:tada:`."""
    return [found for part in _texts(html) for found in _found(_EMOJI, part)]


def tables(html: str) -> list[list[list[str]]]:
    """The text of each cell of each row of each table."""
    return [
        [
            [_seen(cell).strip() for cell in row.find_all(["th", "td"])]
            for row in table.find_all("tr")
        ]
        for table in _soup(html).find_all("table")
    ]


def elements(html: str) -> Counter[str]:
    """How many there are of each element."""
    return Counter(tag.name for tag in _soup(html).find_all())


def links(html: str) -> list[str]:
    """Where each link leads.

    One to a scheme that GitHub does not allow is an empty string: `ftp://` is found, then removed.
    """
    return [str(tag.get("href", "")) for tag in _soup(html).find_all("a")]


def code_blocks(html: str) -> list[tuple[str, str]]:
    """The language of each block of code (or nothing) and its text, as it is."""
    return [(str(tag.get("lang", "")), tag.get_text()) for tag in _soup(html).find_all("pre")]


def folds(html: str) -> list[Fold]:
    """Each <details>, in the order they open."""
    return [
        Fold(
            summary=_seen(summary).strip() if (summary := tag.find("summary")) else "",
            depth=len(tag.find_parents("details")),
            open=tag.has_attr("open"),
        )
        for tag in _soup(html).find_all("details")
    ]


class _Balance(HTMLParser):
    """Follows which tags are open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # To a browser the slash means nothing, so an element that can have content stays open.
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID:
            return
        if tag not in self.open:
            self.problems.append(f"</{tag}> closes nothing")
            return
        while (last := self.open.pop()) != tag:
            self.problems.append(f"<{last}> is not closed before </{tag}>")


def _unclean(markdown: str) -> str:
    return str(markdown_to_html_with_extensions(markdown, _OPTIONS, _EXTENSIONS))


@lru_cache(maxsize=8)
def _soup(html: str) -> BeautifulSoup:
    """Nobody changes it."""
    return BeautifulSoup(html, "html.parser")


def _texts(html: str) -> list[str]:
    """The texts in which GitHub looks for people, issues, commits and emoji."""
    return [
        str(part)
        for part in _soup(html).find_all(string=True)
        if not _VERBATIM.intersection(parent.name for parent in part.parents)
    ]


def _found(pattern: re.Pattern[str], part: str) -> list[str]:
    return [match[0] for match in pattern.finditer(part)]


def _seen(part: PageElement) -> str:
    return _INVISIBLE.sub("", part.get_text())
