"""What runs inside of dbt, for a fork_server: several commands of one process, from a saved parse.

As a command it reads requests (`ci_defer.dbt.inside`) as JSON from its standard input and writes
the answers to the file that is its argument. dbt is as warm as in warm_dbt.
"""

from __future__ import annotations

import importlib.util
import json
import runpy
import sys
from pathlib import Path
from typing import Any

inside: Any = None


def warm_up(program: str, project: str, state: str) -> None:
    """Import `program`, which is inside.py, and warm dbt up as warm_dbt does."""
    global inside  # noqa: PLW0603 - the fork server knows two functions
    spec = importlib.util.spec_from_file_location("inside", program)
    assert spec
    assert spec.loader
    inside = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(inside)
    beside = Path(__file__).with_name("warm_dbt.py")
    runpy.run_path(str(beside))["warm_up"](project, state)


def run() -> None:
    requests = json.load(sys.stdin)
    to = Path(sys.argv[1])
    dbt = inside.Dbt()
    answers = [dbt.run(**request) for request in requests]
    dbt.write()
    to.write_text(json.dumps({"answers": answers, "notices": dbt.notices}))
