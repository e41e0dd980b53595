"""What the numbers were measured with: versions, commit, date, machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import datetime, timezone

from tests.environments import ROOT, dbt_bin

VERSIONS = """
import json
from importlib.metadata import distributions
names = ("dbt", "dbt-core", "dbt-duckdb", "duckdb")
found = {found.name: found.version for found in distributions()}
print(json.dumps({name: found[name] for name in names if name in found}))
"""


def about() -> dict[str, str]:
    """The facts about this checkout and this machine, by name."""
    changed = " and changes" if _output("git", "status", "--porcelain") else ""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "ci-defer": _output("git", "rev-parse", "--short=12", "HEAD") + changed,
        "Python": platform.python_version(),
        "cores": str(os.cpu_count()),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def versions(dbt: str) -> dict[str, str]:
    """The versions of what is in the environment of a dbt."""
    return dict(json.loads(_output(str(dbt_bin(dbt) / "python"), "-c", VERSIONS)))


def _output(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
