"""Builds the stand-in for `actions/upload-artifact` from `upload-standin/`.

What act runs is one JavaScript file of some megabytes, made with esbuild from the npm packages that
package-lock.json pins, and not committed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_SOURCE = Path(__file__).with_name("upload-standin")

# Some of the bundled packages are CommonJS and call `require`, which a module does not have.
_BANNER = (
    'import { createRequire as __createRequire } from "node:module";'
    "const require = __createRequire(import.meta.url);"
)


class StandinError(Exception):
    """The stand-in could not be built."""


def build_standin(node_modules: Path, to: Path) -> Path:
    """Return the directory of the action, in the cache `to`; build it unless it is there.

    Several processes may do so at once: each builds one of its own, the first to be ready wins.
    """
    lock = node_modules / ".package-lock.json"
    if not lock.exists():
        raise StandinError(f"{node_modules} is not complete: npm ci --ignore-scripts")
    target = to / _key(lock)
    if target.is_dir():
        return target
    to.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix="building-", dir=to))
    try:
        shutil.copy(_SOURCE / "action.yml", building)
        bundle(_SOURCE / "main.mjs", building / "dist" / "index.mjs", node_modules)
        building.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def bundle(source: Path, outfile: Path, node_modules: Path) -> None:
    """Make one file of a JavaScript module and all it imports, to be run by node."""
    result = subprocess.run(
        [
            str(node_modules / ".bin" / "esbuild"),
            str(source),
            "--bundle",
            "--platform=node",
            "--format=esm",
            "--target=node20",
            "--log-level=warning",
            f"--banner:js={_BANNER}",
            f"--outfile={outfile}",
        ],
        # Where the packages are found if not in a directory above the source.
        env={**os.environ, "NODE_PATH": str(node_modules)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    if result.returncode:
        raise StandinError(f"esbuild failed:\n{result.stdout}")


def _key(lock: Path) -> str:
    """Name what goes into the bundle; with a new version of any of it, there is a new bundle."""
    digest = hashlib.sha256(_BANNER.encode())
    for file in (_SOURCE / "action.yml", _SOURCE / "main.mjs", lock):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return f"upload-artifact-{digest.hexdigest()[:16]}"
