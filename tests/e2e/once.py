"""What takes long to make and never changes: made once in a session, for all its processes."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return `folder`, whose content `make` has made. To be copied or read, and not changed.

    Several processes may ask for it: the first one makes it, the others wait. When that fails,
    nobody tries again.
    """
    done = folder.with_suffix(".done")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            assert not folder.exists(), f"{folder.name} could not be made: see the first error"
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
