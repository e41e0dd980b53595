from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_defer.cleaned import Cleaned, Failure, render, render_note, render_summary
from ci_defer.cleanup_note import END, START, note_on_comment, with_note
from ci_defer.errors import CiDeferError
from ci_defer.markdown import COMMENT
from ci_defer.pulls import Comment
from tests.hostile import TEXT
from tests.samples import Log

MARKER = "<!-- ci-defer: project=shop@. run=12 -->\n"
REST = "## ✅ 3 nodes built\n\nand so on\n"
URL = "https://github.com/acme/shop/actions/runs/9"


def test_note__is_below_the_marker_and_the_rest_stays() -> None:
    body = with_note(MARKER + REST, "Dropped it.")
    assert body == f"{MARKER}{START}\n> Dropped it.\n\n{END}\n\n{REST}"


@given(st.lists(TEXT, min_size=1, max_size=3), TEXT)
def test_note__replaces_an_earlier_one(notes: list[str], rest: str) -> None:
    def name(text: str) -> str:
        return render_note(Cleaned(pull_request=7, schemas=(text,)))

    body = MARKER + rest
    for note in notes:
        body = with_note(body, name(note))
    assert body == with_note(MARKER + rest, name(notes[-1]))
    assert body.count(START) == body.count(END) == 1


@given(st.integers(0, 500), st.sampled_from(["x", "\U0001f389", "é\n"]))
def test_note__never_makes_the_comment_too_long(spare: int, character: str) -> None:
    size = COMMENT.limit - len(MARKER) - spare
    rest = (character * size)[: size // COMMENT.measure(character)]
    body = with_note(MARKER + rest, "Dropped it.")
    assert COMMENT.measure(body) <= COMMENT.limit
    # Nothing is lost that had room.
    assert COMMENT.limit - COMMENT.measure(body) < 4 or rest.lstrip("\n") in body


@given(st.lists(TEXT, max_size=4), st.lists(TEXT, max_size=2), st.booleans())
def test_note__is_one_line_whatever_the_names_are(
    names: list[str], reasons: list[str], is_dry_run: bool
) -> None:
    made = Cleaned(
        pull_request=7,
        is_dry_run=is_dry_run,
        schemas=tuple(names),
        left=tuple(names),
        kept=tuple(names),
        failures=tuple(Failure(why, why) for why in reasons),
    )
    note = render_note(made)
    assert "\n" not in note
    assert not re.search(r"<!--.*ci-defer", re.sub(r"(`+).+?\1", "", note))
    assert render(made)
    assert render_summary(made).startswith("## 🧹 ")


class Comments:
    def __init__(self, *bodies: str | None, login: str = "bot") -> None:
        self.listed = [
            msgspec.convert(
                {
                    "id": number,
                    "html_url": f"https://x.io/{number}",
                    "body": body,
                    "user": None if body is None else {"login": login},
                },
                Comment,
            )
            for number, body in enumerate(bodies)
        ]
        self.edited: list[tuple[int, str]] = []

    def login(self) -> str:
        return "bot"

    def comments(self, number: int) -> list[Comment]:
        assert number == 7
        return self.listed

    def edit(self, comment_id: int, body: str) -> Comment:
        self.edited.append((comment_id, body))
        return self.listed[comment_id]

    def create(self, number: int, body: str) -> Comment:
        raise AssertionError("a note never makes a comment")

    def delete(self, comment_id: int) -> None:
        raise AssertionError("nor deletes one")


def noted(comments: Comments, log: Log | None = None) -> str:
    return note_on_comment(
        "Dropped it.", 7, comments, project="shop@.", run_url=URL, log=log or Log()
    )


def test_edit__is_of_our_comment_of_this_project() -> None:
    other = MARKER.replace("shop@", "other@")
    comments = Comments("hello", None, other + REST, MARKER + REST)
    assert noted(comments) == "https://x.io/3"
    ((number, body),) = comments.edited
    assert number == 3
    assert body.endswith(REST)
    assert f"> Dropped it. [What was dropped]({URL})" in body


@pytest.mark.parametrize(
    "comments", [Comments(), Comments("hello"), Comments(MARKER + REST, login="mallory")]
)
def test_edit__of_no_comment_makes_none(comments: Comments) -> None:
    assert noted(comments) == ""
    assert comments.edited == []


def test_edit__that_would_change_nothing_is_not_made() -> None:
    first = Comments(MARKER + REST)
    noted(first)
    second = Comments(first.edited[0][1])
    assert noted(second) == "https://x.io/0"
    assert second.edited == []


def test_edit__that_github_refuses_is_a_warning() -> None:
    class Refusing(Comments):
        def edit(self, comment_id: int, body: str) -> Comment:
            raise CiDeferError("GitHub said no.")

    log = Log()
    assert noted(Refusing(MARKER + REST), log) == ""
    assert log.warnings == [
        "The comment on pull request #7 does not say what was dropped: GitHub said no."
    ]


def test_words__of_what_was_done() -> None:
    made = Cleaned(pull_request=7, schemas=("db.ci_pr_7",), relations=("db.ci_pr_7.a",))
    assert made.headline == "Dropped schema `db.ci_pr_7` and 1 relation of pull request #7."
    assert made.problem == ""
    failed = Cleaned(
        pull_request=7, failures=(Failure("db.s.a", "Dependency Error:\n  it is used"),)
    )
    assert failed.headline == "Nothing of pull request #7 was dropped."
    assert failed.problem == (
        "Could not be dropped: db.s.a. Dependency Error: it is used. Run the job again, or drop it "
        "by hand."
    )
