"""ci-defer for a fork_server: imported, with what it imports for a bucket.

Tests that are about processes (signals, a full disk, what is imported from where) use
`python -m ci_defer`.
"""

from __future__ import annotations

import importlib
import runpy

MODULES = (
    "ci_defer.cli",
    "ci_defer.flows",
    "ci_defer.rest",
    "ci_defer.stores.altimate",
    "ci_defer.stores.bucket",
)


def warm_up() -> None:
    """Import it."""
    for module in MODULES:
        importlib.import_module(module)


def run() -> None:
    """Run the command line."""
    runpy.run_module("ci_defer", run_name="__main__", alter_sys=True)
