#!/usr/bin/env bash
# The set-up of the workflow that people write by hand. The lock has the versions of the environment
# that the others run with, so pip has nothing to resolve: the fastest that pip can do. It is also
# what dbt Core 1.12 takes where only the index can be reached, see tool.uv in pyproject.toml.

set -euo pipefail
python3 -m venv "$VENV"
"$VENV/bin/python" -m pip install --quiet --no-deps --require-hashes --requirement "$LOCK"
