#!/usr/bin/env bash
# The workflow that people write by hand, after its set-up: the latest manifest of main, what is
# selected for the log, the build, and a table for the comment.

set -euo pipefail
export PATH="$VENV/bin:$PATH"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

mkdir -p "$RUNNER_TEMP/state"
cp "$LATEST/manifest.json" "$RUNNER_TEMP/state/"
dbt deps
dbt ls --select state:modified+ --state "$RUNNER_TEMP/state" --target ci
dbt build --select state:modified+ --defer --state "$RUNNER_TEMP/state" --target ci
python "$here/comment.py" target/run_results.json >"$RUNNER_TEMP/comment.md"
