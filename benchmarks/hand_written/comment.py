"""The comment of the workflow that people write by hand: a table of what dbt has run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

results = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["results"]
rows = [
    f"| {result['unique_id'].split('.')[2]} | {result['status']} | {result['execution_time']:.1f} |"
    for result in results
]
print("\n".join(("| node | status | seconds |", "| --- | --- | --- |", *rows)))
