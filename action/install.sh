#!/usr/bin/env bash
# Install ci-defer from its locked requirements into an environment of its own and, when the input
# `install` asks for it, the user's dbt into another one. Called by action.yml.

set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
checkout="$(dirname "$here")"
# shellcheck source=action/environments.sh
source "$here/environments.sh"

fail() {
  echo "::endgroup::"
  echo "::error title=ci-defer::$1"
  exit "$2"
}

# A uv that the job has already is as good; otherwise the locked one, from the runner's Python.
find_uv() {
  if command -v uv; then return; fi
  if [[ ! -x "$root/uv/bin/uv" ]]; then
    # An active virtual environment may have no pip; making one with pip takes longer.
    own_pip python3 --target "$root/uv" >&2 || {
      python3 -m venv --clear "$root/uv" >&2 && own_pip "$root/uv/bin/python" >&2 || return 1
    }
  fi
  echo "$root/uv/bin/uv"
}

# The user's settings for pip are for their packages. Those for its index stay.
own_pip() {
  local python="$1"
  shift
  env -u PIP_TARGET -u PIP_USER -u PIP_PREFIX -u PIP_REQUIRE_VIRTUALENV -u PIP_CONSTRAINT \
    PIP_ROOT_USER_ACTION=ignore "$python" -m pip install --quiet --disable-pip-version-check \
    --no-deps --require-hashes --requirement "$checkout/requirements/uv.txt" "$@"
}

# Settings of the job's own uv that would change what ours installs. Indexes and caches stay.
own_uv() {
  env -u UV_PYTHON -u UV_SYSTEM_PYTHON -u UV_EXCLUDE_NEWER -u UV_CONSTRAINT -u UV_OVERRIDE \
    -u UV_BUILD_CONSTRAINT -u UV_PRERELEASE -u UV_RESOLUTION -u UV_NO_BINARY -u UV_NO_BUILD \
    -u UV_ONLY_BINARY -u UV_COMPILE_BYTECODE -u UV_NO_VERIFY_HASHES -u UV_PROJECT \
    -u UV_PROJECT_ENVIRONMENT -u UV_WORKING_DIR -u UV_ENV_FILE \
    "$uv" --directory "$checkout" "$@"
}

install_own() {
  own_uv venv --quiet --clear --python '>=3.10' "$own"
  # What a lock names is the same wherever it comes from: with a warm cache nobody need be asked.
  sync_own --offline 2>/dev/null || sync_own
  # ci-defer itself stays where it is; building and copying it takes longer than its dependencies.
  local packages
  packages="$("$own/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
  echo "$checkout/src" >"$packages/ci_defer.pth"
  # Python compiles what is imported first: while dbt is installed there is time for that.
  "$own/bin/python" -I -c 'import ci_defer.flows'
  touch "$own/installed"
}

sync_own() {
  own_uv pip sync --quiet --require-hashes --python "$own" "$@" requirements/action.txt
}

install_dbt() {
  local requirements
  # Words, without a shell's globbing: dbt-core==1.11.* holds a star.
  IFS=$' \t\n' read -r -d '' -a requirements <<<"$install" || true
  "$uv" venv --quiet --clear --python python3 "$dbt"
  "$uv" pip install --python "$dbt" "${requirements[@]}"
  # Begin to compile what dbt will import. It goes on in a process of its own.
  "$dbt/bin/python" -I "$checkout/src/ci_defer/dbt/inside.py" || true
  touch "$dbt/installed"
}

echo "::group::Install ci-defer"
mkdir -p "$root"
uv="$(find_uv)" || fail "uv cannot be installed with python3 and pip. Add actions/setup-python or \
astral-sh/setup-uv before ci-defer." 3
# Side by side: most of either is waiting for packages. In a subshell of its own, set -e works although
# the result is tested.
own_pid="" dbt_pid=""
if [[ ! -e "$own/installed" ]]; then
  (set -e; install_own) &
  own_pid=$!
fi
if [[ -n "$dbt" && ! -e "$dbt/installed" ]]; then
  (set -e; install_dbt) &
  dbt_pid=$!
fi
own_result=0 dbt_result=0
[[ -z "$own_pid" ]] || wait "$own_pid" || own_result=$?
[[ -z "$dbt_pid" ]] || wait "$dbt_pid" || dbt_result=$?
((own_result == 0)) || fail "ci-defer cannot be installed: the log above says why. Is the package index \
reachable?" 3
((dbt_result == 0)) || fail "dbt cannot be installed. Check the input install: it holds requirements for \
pip, such as dbt-core~=1.11.0 dbt-snowflake~=1.11." 2
echo "::endgroup::"
