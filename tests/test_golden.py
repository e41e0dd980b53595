from __future__ import annotations

import pytest

from tests.golden_reports import GOLDEN, REPORTS, page
from tests.harness import gfm


def test_golden__there_is_a_page_for_every_report() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(REPORTS)


@pytest.mark.parametrize("name", REPORTS)
def test_golden__pages_are_as_they_were_looked_at(name: str) -> None:
    # When this is meant to change: `python -m tests.golden_reports`, and look at the pictures.
    assert page(name) == (GOLDEN / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", REPORTS)
def test_golden__pages_are_sound(name: str) -> None:
    markdown = page(name)
    html = gfm.render(markdown)
    assert gfm.unbalanced(markdown) == []
    assert [*gfm.mentions(html), *gfm.references(html), *gfm.emoji(html)] == []
    assert all(url.startswith(f"{REPORTS[name].repository_url}/") for url in gfm.links(html))
