"""Whether git alone can say that a pull request changes nothing of the dbt project.

Then dbt has nothing to select, and need not be started to say so. Pure: what changed is given. Owns
which files a project is made of besides those in its folder, and which selections are empty where
nothing changed. In doubt the answer is no: dbt will know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ci_defer.comparison import Changes
from ci_defer.project import PACKAGE_FILES, PACKAGE_LOCK, PROJECT_FILE

# A union of these is empty when nothing is new or modified, whatever hangs on it.
OF_CHANGES = re.compile(r"@?(?:\d*\+)?state:(?:new|modified(?:\.\w+)?)(?:\+\d*)?")
# What leads out of the folder of the project: a path upwards, or an absolute one.
LEADS_OUT = re.compile(r"""\.\.|(?::(?!//)|\[|,|-)\s*["']?(?:/|[A-Za-z]:\\)""")


def is_untouched(
    changes: Changes,
    select: Sequence[str],
    *,
    read_text: Callable[[str], str | None],
    has_links: bool,
    profiles: str,
) -> bool:
    """Whether nothing that dbt would compare is another than at the commit of `changes`.

    `read_text` gives a file of the project by its path in it, None when there is none; `has_links`
    says that there are symbolic links in it. `profiles` is the folder of profiles.yml from the top
    of the work tree, empty when it is not in there.
    """
    if not select or not all(_is_of_changes(word) for word in select):
        return False
    if changes.in_project or has_links:
        return False
    if profiles and any(path.startswith(f"{profiles}/") for path in changes.files | changes.new):
        return False
    texts = {name: read_text(name) or "" for name in (PROJECT_FILE, *PACKAGE_FILES)}
    if any(LEADS_OUT.search(text) for text in texts.values()):
        return False
    # What is installed of packages without a lock may be another version every day.
    has_packages = any("packages" in texts[name] for name in PACKAGE_FILES)
    return not has_packages or f"{changes.prefix}{PACKAGE_LOCK}" in changes.tracked


def _is_of_changes(word: str) -> bool:
    """Whether a word of --select is empty without changes: of an intersection, one part is."""
    return any(OF_CHANGES.fullmatch(part) for part in word.split(","))
