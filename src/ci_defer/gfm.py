"""GitHub-flavoured Markdown: pieces that are safe whatever text is in them.

Pure. Text that comes from dbt, git or the user goes through `text`, `code` or `block`, which make
it inert: nothing in it can end a table, open HTML, mention a person or link an issue. Knows
nothing of reports.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from ci_defer.characters import clean

# Names and sentences; what is longer than this is not read in a table.
MAX_INLINE = 300
MAX_BLOCK = 3_000

PUNCTUATION = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&$:])")
BACKTICKS = re.compile(r"`+")
# cmark-gfm knows no code span of more than 80 backticks, and counts a fence in one byte.
LONG_RUN = re.compile(r"`{70}(?=`)")
# A person, an issue in both its forms, an advisory, an emoji; all of them escaped by now.
UNLINKED = re.compile(r"(@|\\#|\\:|GH(?:SA)?\\-)", re.IGNORECASE)
ADDRESS = re.compile(r"https?://[^\s<>()\[\]\\\"'`|]+")


def text(value: str, limit: int = MAX_INLINE) -> str:
    """`value` as inert inline text, on one line, cut to `limit` characters."""
    escaped = PUNCTUATION.sub(r"\\\1", _line(value, limit))
    # Mentions and emoji are found after Markdown is rendered, so an escape would not stop them.
    return UNLINKED.sub("\\1\u200b", escaped)


def prose(value: str, limit: int = MAX_INLINE) -> str:
    """A sentence of ours as inert inline text, with code spans where it has paired backticks."""
    parts = value[:limit].split("`")
    if len(parts) % 2 == 0:
        return text(value, limit)
    return "".join(
        # Split off, the spaces beside a code span would be lost.
        code(part) if index % 2 else _spaced(part)
        for index, part in enumerate(parts)
    )


def _spaced(part: str) -> str:
    before = " " if part[:1].isspace() else ""
    after = " " if part[-1:].isspace() and part.strip() else ""
    return f"{before}{text(part)}{after}"


def code(value: str, limit: int = MAX_INLINE) -> str:
    """`value` as an inline code span, on one line; in a table it takes `code_cell`."""
    line = _broken(_line(value, limit)) or " "
    fence = "`" * (_longest_run(line) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def code_cell(value: str, limit: int = MAX_INLINE) -> str:
    """`value` as a code span inside a table, where a pipe would end the cell even in code."""
    return code(value, limit).replace("|", "\\|")


def block(value: str, language: str = "", *, limit: int = MAX_BLOCK) -> str:
    """`value` as a fenced code block, cut to `limit` characters."""
    content = clean(_head(value, limit))
    left_out = max(0, len(value) - limit)
    if left_out:
        content = f"{content[:limit]}\n… {left_out:,} more characters"
    content = _broken(content)
    fence = "`" * max(3, _longest_run(content) + 1)
    return f"{fence}{language}\n{content}\n{fence}"


def link(label: str, url: str) -> str:
    """A link with a label that is Markdown already; the label alone when the URL is not safe."""
    return f"[{label}]({url})" if ADDRESS.fullmatch(url) else label


def path_in_url(path: str) -> str:
    """A path of a repository as part of a URL."""
    return quote(path, errors="surrogatepass")


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of cells that are Markdown already."""
    return "\n".join([table_head(header), *(table_row(row) for row in rows)])


def table_head(header: Iterable[str]) -> str:
    """The first two lines of a table."""
    columns = tuple(header)
    return f"{table_row(columns)}\n{'| --- ' * len(columns)}|"


def table_row(cells: Iterable[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"


def folded(title: str, content: str, *, is_open: bool = False) -> str:
    """Content behind a title that is ours: it is HTML there, where no escape of ours would help."""
    opened = " open" if is_open else ""
    return f"<details{opened}><summary>{title}</summary>\n\n{content}\n\n</details>"


def _line(value: str, limit: int) -> str:
    line = " ".join(clean(_head(value, limit)).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _head(value: str, limit: int) -> str:
    """As much of a text as can matter: control sequences may take some of it away."""
    return value if len(value) <= 2 * limit else value[: 2 * limit]


def _broken(value: str) -> str:
    """`value` with no run of backticks that is too long for a fence around it."""
    return LONG_RUN.sub("\\g<0>\u200b", value)


def _longest_run(value: str) -> int:
    return max((len(run) for run in BACKTICKS.findall(value)), default=0)
