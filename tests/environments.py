"""The environments that the tests run dbt from: one for each supported version of dbt.

`make test` installs them from the locks in requirements/.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".cache"
DBT_VERSIONS = ("1.11", "1.12")
# The other engine: one program, with neither Python nor a dbtRunner.
DBT_V2 = "v2"

# What a machine behind a proxy needs to reach its package index; nothing else of ours gets in.
NETWORK = re.compile(
    r"(SSL_CERT_|REQUESTS_CA_|PIP_CERT|PIP_INDEX|UV_(DEFAULT_)?INDEX|HTTPS?_PROXY)", re.IGNORECASE
)


def dbt_bin(version: str) -> Path:
    """The folder with the `dbt` of this version, to be put on a PATH."""
    folder = CACHE / f"dbt-{version}" / "bin"
    if not (folder / "dbt").is_file():
        raise AssertionError(f"{folder}/dbt is missing: run `make environments`")
    return folder


def clean_environ(home: Path, *path: Path) -> dict[str, str]:
    """An environment with nothing of this job in it, and `path` before the system's PATH."""
    return {
        "PATH": os.pathsep.join([*map(str, path), os.environ["PATH"]]),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "DO_NOT_TRACK": "1",
        # Where dbt v2 looks for drivers, before it would download them.
        "ADBC_DRIVER_PATH": str(CACHE / "drivers"),
    }


def network() -> dict[str, str]:
    """What an installation needs of this machine's environment."""
    return {name: value for name, value in os.environ.items() if NETWORK.match(name)}
