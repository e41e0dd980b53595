#!/usr/bin/env bash
# Run ci-defer in the mode CI_DEFER_MODE, with the dbt that install.sh installed, if it did.
# Called by action.yml; all settings come as CI_DEFER_* variables.

set -euo pipefail
# shellcheck source=action/environments.sh
source "$(dirname "${BASH_SOURCE[0]}")/environments.sh"

if [[ -n "$dbt" ]]; then
  PATH="$dbt/bin:$PATH"
  export PATH
fi
# -I: neither PYTHON* variables nor modules in the workspace reach our interpreter.
exec "$own/bin/python" -I -m ci_defer -- "${CI_DEFER_MODE:-auto}"
