"""Names of schemas and relations, compared. Pure.

Databases differ in which quotes they use, and in whether they look at the case. Here both are
passed over: to take two names for one too often is the lesser evil where it is about what must not
be touched.
"""

from __future__ import annotations

import re

QUOTES = '"`[]'


def plain(name: str) -> str:
    """A name without quotes and case."""
    # Production has thousands of them, and str.translate takes several times as long.
    for quote in QUOTES:
        name = name.replace(quote, "")
    return name.casefold()


def carries(schema: str, pr_schema: str) -> bool:
    """Whether the name of a schema holds that of a pull request's schema as a word of its own.

    `ci_pr_2_marts` and `x_ci_pr_2` carry `ci_pr_2`; `ci_pr_23` does not. Nothing carries an empty
    name.
    """
    word = plain(pr_schema)
    # An underscore is between words here.
    pattern = rf"(?<![^\W_]){re.escape(word)}(?![^\W_])"
    return bool(word) and re.search(pattern, plain(schema)) is not None
