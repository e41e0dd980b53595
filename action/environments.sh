# shellcheck shell=bash disable=SC2034
# Sourced by install.sh and run.sh: where the action's environments are.

if [[ "${RUNNER_OS:-}" == Windows ]]; then
  echo "::error title=ci-defer::ci-defer runs on Linux and macOS. Use runs-on: ubuntu-latest."
  exit 2
fi

# Not in the workspace, which is the user's, and not in the action's own checkout.
root="${RUNNER_TEMP:?is set on every runner}/ci-defer"
own="$root/own"

# Two dbt projects of one job may ask for two versions: an environment for each text of `install`.
dbt=""
install="${CI_DEFER_INSTALL:-}"
if [[ -n "${install//[[:space:]]/}" ]]; then
  sum="$(cksum <<<"$install")"
  dbt="$root/dbt-${sum%% *}"
fi
