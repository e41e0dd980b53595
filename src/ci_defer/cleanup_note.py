"""The note on the comment of a closed pull request: what its clean-up has dropped.

Owns where in the comment the note is and how it is found again. The rest of the comment stays as
it is, there is never a comment for the note alone, and GitHub's failures are never the run's.
"""

from __future__ import annotations

import re

from ci_defer.comment import MARKER, Comments
from ci_defer.errors import CiDeferError
from ci_defer.gfm import link
from ci_defer.log import Log
from ci_defer.markdown import COMMENT

START = "<!-- ci-defer: cleanup -->"
END = "<!-- ci-defer: end of cleanup -->"
NOTE = re.compile(rf"{re.escape(START)}.*?{re.escape(END)}\n*", re.DOTALL)


def note_on_comment(
    note: str, number: int, comments: Comments, *, project: str, run_url: str, log: Log
) -> str:
    """Say `note`, which is Markdown, on top of the comment of `project`; return its URL.

    `project` is as in the comment's marker (`comment.marked_project`). Empty without a comment.
    Never raises CiDeferError: the log has a line instead.
    """
    try:
        login = comments.login()
        for item in comments.comments(number):
            body = item.body or ""
            found = MARKER.match(body)
            if not (found and found["project"] == project and item.user):
                continue
            if item.user.login != login:
                continue
            said = with_note(body, f"{note} {link('What was dropped', run_url)}")
            return item.html_url if said == body else comments.edit(item.id, said).html_url
    except CiDeferError as error:
        log.warning(f"The comment on pull request #{number} does not say what was dropped: {error}")
        return ""
    log.info(f"There is no comment on pull request #{number} that could say it.")
    return ""


def with_note(body: str, note: str) -> str:
    """The body of a comment with the note below its marker, in place of an earlier one."""
    found = MARKER.match(body)
    marker = found[0] if found else ""
    rest = body[len(marker) :].lstrip("\n")
    if earlier := NOTE.match(rest):
        rest = rest[earlier.end() :]
    # What is cut is at the end, where the details are.
    head = f"{marker}\n{START}\n> {_one_line(note)}\n\n{END}\n\n"
    return head + _cut(rest, COMMENT.limit - COMMENT.measure(head))


def _one_line(note: str) -> str:
    return " ".join(note.split())


def _cut(text: str, limit: int) -> str:
    # A character counts once or twice, so this never takes too much, and soon enough.
    while (over := COMMENT.measure(text) - limit) > 0:
        text = text[: -((over + 1) // 2)]
    return text
