"""Production's newest manifest, of whatever commit: what a clean-up must not touch.

A pull request is compared with the state of its base commit (`state`); what is in production's
schemas now is said by the newest one.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from ci_defer.errors import InvalidBundle, StateNotFound
from ci_defer.log import Log
from ci_defer.manifest import Manifest
from ci_defer.stores import Latest, Store

# Damaged ones are passed over; after some of them something else is wrong.
ATTEMPTS = 5


def newest_manifest(source: Store | Latest, *, project_name: str, log: Log) -> Manifest | None:
    """Read it, or return None when nothing was ever published.

    Raises CiDeferError when there is a state and it cannot be read: then nobody knows what is
    production's.
    """
    with TemporaryDirectory(prefix="ci-defer-") as directory:
        if isinstance(source, Latest):
            try:
                return source.get(Path(directory), project_name=project_name).manifest
            except StateNotFound:
                return None
        refused = None
        for number, commit in enumerate(islice(source.newest(), ATTEMPTS)):
            to = Path(directory, str(number))
            to.mkdir()
            try:
                return source.get(commit, to, project_name=project_name).manifest
            except InvalidBundle as error:
                log.warning(f"The state of commit {commit[:12]} is passed over: {error.message}")
                refused = error
        if refused:
            raise refused
    return None
