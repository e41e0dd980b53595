"""The words that some settings choose from. Pure.

Apart from what acts on them: the command line shows them in its help, and loads nothing else.
"""

from __future__ import annotations

from enum import Enum


class CommentWhen(str, Enum):
    """When there is to be a comment. One that is there already is always kept up to date."""

    ALWAYS = "always"
    CHANGES = "changes"
    FAILURES = "failures"
    OFF = "off"


class IfNoState(str, Enum):
    """What to do when there is no production state."""

    REPARSE = "reparse"
    FULL = "full"
    SKIP = "skip"
    FAIL = "fail"


class CloneIncremental(str, Enum):
    """Whether incremental models are cloned first, and copied where that would make a view."""

    FALSE = "false"
    TRUE = "true"
    COPY = "copy"
