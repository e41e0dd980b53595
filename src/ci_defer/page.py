"""What a page of Markdown can hold: its limit, in the unit that GitHub counts, and what is left.

Pure. Knows nothing of what is written on the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ci_defer.gfm import folded, table_head
from ci_defer.wording import number

SEPARATOR = "\n\n"
GAP = len(SEPARATOR)


def characters(value: str) -> int:
    """Characters as a comment is limited by: no fewer than GitHub counts, whichever way."""
    return len(value) + sum(character > "\uffff" for character in value)


def octets(value: str) -> int:
    """Bytes, as a summary is limited by."""
    return len(value.encode("utf-8", "backslashreplace"))


@dataclass(frozen=True)
class Page:
    """Where a report is shown. `limit` is in the unit of `measure`, `rows` is that of a table.

    `rest` says where everything is that does not fit.
    """

    limit: int
    measure: Callable[[str], int]
    rows: int
    rest: str

    def without(self, taken: str) -> Page:
        """What is left of the page beside something else."""
        return replace(self, limit=self.limit - self.measure(taken))

    def room(self, taken: Iterable[str]) -> Room:
        """What is left of the page beside these parts."""
        return Room(self, self.limit - sum(self.measure(part) + GAP for part in taken))


@dataclass
class Room:
    """What is left of a page."""

    page: Page
    left: int

    def fits(self, part: str) -> bool:
        """Whether there is room for the part."""
        return self.page.measure(part) + GAP <= self.left

    def take(self, part: str) -> bool:
        """Whether the part fits; if so, its room is gone."""
        if not self.fits(part):
            return False
        self.left -= self.page.measure(part) + GAP
        return True

    def part(self, share: float, render: Callable[[Room], str]) -> str:
        """A part of the page in a share of what is left; what it does not use stays."""
        made = render(Room(self.page, int(self.left * share)))
        return made if made and self.take(made) else ""

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Iterable[str],
        total: int,
        *,
        note: str = "",
        is_open: bool = False,
    ) -> str:
        """A folded table of as many of its rows as there is room for.

        What is left out is counted below it; without room for any row the title says it all.
        """
        head = f"{note}{SEPARATOR if note else ''}{table_head(columns)}"
        if not self.take(folded(title, head, is_open=is_open) + self._left_out(total)):
            short = f"{title}: {self.page.rest}."
            return short if self.fits(short) else ""
        taken: list[str] = []
        for row in rows:
            if len(taken) == self.page.rows or not self.take(row):
                break
            taken.append(row)
        lines = [head, *taken]
        if len(taken) < total:
            lines.append(self._left_out(total - len(taken)))
        return folded(title, "\n".join(lines), is_open=is_open)

    def _left_out(self, count: int) -> str:
        return f"\n{number(count, 'more row')} {self.page.rest}."
