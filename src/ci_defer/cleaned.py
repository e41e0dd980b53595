"""What a clean-up has done, as data, and how it is said: in the log, the summary and the comment.

Pure. Names come from the warehouse and from manifests: they are escaped here for Markdown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ci_defer.characters import clean
from ci_defer.gfm import code, prose, text
from ci_defer.wording import listing, number

NOTHING = "Nothing to clean up: this pull request has built nothing into a schema of its own."
NOTHING_LEFT = "Nothing to clean up: all that this pull request has built is gone already."

MAX_NAMES = 100
MAX_NAMES_IN_NOTE = 10


@dataclass(frozen=True)
class Failure:
    """What could not be dropped, and why."""

    name: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """What became of all that the runs of one pull request have built. Names are of relations.

    `gone` was not there any more, `left` is in a schema of the pull request and nobody recorded it,
    `kept` is in a schema that is not the pull request's. Of a dry run `schemas` and `relations`
    would be dropped.
    """

    pull_request: int
    is_dry_run: bool = False
    has_built: bool = True
    schemas: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    left: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether nothing is left that a later clean-up could drop."""
        return not (self.is_dry_run or self.failures or self.left)

    def and_then(self, later: Cleaned) -> Cleaned:
        """The result of two clean-ups of the same, of which the later one knew of more."""
        return replace(
            later,
            schemas=tuple(sorted({*self.schemas, *later.schemas})),
            relations=tuple(sorted({*self.relations, *later.relations})),
            # What the first one dropped is not there for the second.
            gone=self.gone,
        )

    @property
    def headline(self) -> str:
        """All of it in one sentence, with names in backticks."""
        if not self.has_built:
            return NOTHING
        parts = []
        if self.schemas:
            noun = "schema" if len(self.schemas) == 1 else "schemas"
            parts.append(f"{noun} {listing([_quoted(name) for name in self.schemas])}")
        if self.relations:
            parts.append(number(len(self.relations), "relation"))
        if parts:
            done = "Would drop" if self.is_dry_run else "Dropped"
            return f"{done} {' and '.join(parts)} of pull request #{self.pull_request}."
        if self.failures or self.left:
            return f"Nothing of pull request #{self.pull_request} was dropped."
        return NOTHING_LEFT

    @property
    def warning(self) -> str:
        """What stays though it is in a schema of the pull request; empty when nothing does."""
        if not self.left:
            return ""
        return (
            f"No run of this pull request has built {listing(self.left)}, so the schema stays. "
            "Drop it by hand if nobody needs it."
        )

    @property
    def problem(self) -> str:
        """What could not be dropped, and what to do; empty when all was."""
        if not self.failures:
            return ""
        names = listing([failure.name for failure in self.failures])
        return (
            f"Could not be dropped: {names}. {_sentence(self.failures[0].why)} Run the job again, "
            "or drop it by hand."
        )


def render(cleaned: Cleaned) -> str:
    """What was dropped and what not, as lines of text for the log."""
    lines = [cleaned.headline.replace("`", "")]
    done = "Would drop" if cleaned.is_dry_run else "Dropped"
    for title, names in _lists(cleaned, done):
        lines += [f"{title}:", *(f"  {name}" for name in names[:MAX_NAMES]), *_more(names)]
    if cleaned.failures:
        lines.append("Could not be dropped:")
        lines += [f"  {item.name}: {item.why}" for item in cleaned.failures[:MAX_NAMES]]
        lines += _more(cleaned.failures)
    return clean("\n".join(lines))


def render_summary(cleaned: Cleaned) -> str:
    """What was dropped and what not, as Markdown for the summary of the job."""
    parts = [f"## 🧹 {_markdown(cleaned.headline)}"]
    if cleaned.failures:
        items = [f"- {code(item.name)}: {text(item.why)}" for item in cleaned.failures[:MAX_NAMES]]
        parts.append("\n".join(["Could not be dropped:\n", *items, *_more(cleaned.failures)]))
    done = "Would drop" if cleaned.is_dry_run else "Dropped"
    for title, names in _lists(cleaned, done):
        items = [f"- {code(name)}" for name in names[:MAX_NAMES]]
        parts.append("\n".join([f"{title}:\n", *items, *_more(names)]))
    return "\n\n".join(parts)


def render_note(cleaned: Cleaned) -> str:
    """What was dropped and what not, as a short paragraph of Markdown for the comment."""
    sentences = [f"🧹 {_markdown(cleaned.headline)}"]
    for title, names in (
        ("Could not be dropped", [item.name for item in cleaned.failures]),
        ("Not dropped, as no run has built it", cleaned.left),
        ("Not dropped, as it is in a schema of production or of others", cleaned.kept),
    ):
        if names:
            shown = listing([code(name) for name in names[:MAX_NAMES]], MAX_NAMES_IN_NOTE)
            sentences.append(f"{title}: {shown}.")
    return " ".join(sentences)


def _lists(cleaned: Cleaned, done: str) -> list[tuple[str, Sequence[str]]]:
    titles = (
        (done, (*cleaned.schemas, *cleaned.relations)),
        ("Gone already", cleaned.gone),
        ("Left in the schema, as no run of this pull request has built it", cleaned.left),
        ("Not dropped, as it is in a schema of production or of others", cleaned.kept),
    )
    return [(title, names) for title, names in titles if names]


def _more(names: Sequence[object]) -> list[str]:
    return [f"  and {len(names) - MAX_NAMES:,} more"] if len(names) > MAX_NAMES else []


def _quoted(name: str) -> str:
    return f"`{name}`" if "`" not in name else name


def _markdown(headline: str) -> str:
    return prose(headline)


def _sentence(why: str) -> str:
    line = " ".join(why.split())
    return line if line.endswith(".") else f"{line}."
