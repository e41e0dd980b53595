"""Runs the real `datapilot`, the client that our own has to equal."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.environments import CACHE, clean_environ

_OPTIONS = {
    "manifest": "--manifest-path",
    "catalog": "--catalog-path",
    "run_results": "--run-results-path",
    "sources": "--sources-path",
    "semantic_manifest": "--semantic-manifest-path",
}


def onboard(
    files: Mapping[str, Path],
    *arguments: str,
    home: Path,
    url: str,
    token: str,
    instance: str,
    environment: str = "PROD",
) -> subprocess.CompletedProcess[str]:
    """Upload files, by their type, with `datapilot dbt onboard`; it takes some 5 s to start.

    `arguments` name the integration. What it would ask for otherwise is given, so it prompts for
    nothing; a prompt would find its input at an end. It exits with 0 after most errors: read what
    it printed. It uploads in the order of its options, whatever the order of `files`.
    """
    datapilot = CACHE / "datapilot" / "bin" / "datapilot"
    if not datapilot.is_file():
        raise AssertionError(f"{datapilot} is missing: run `make environments`")
    options = [text for kind, path in files.items() for text in (_OPTIONS[kind], str(path))]
    return subprocess.run(
        [
            *(str(datapilot), "dbt", "onboard"),
            *("--backend-url", url, "--token", token, "--instance-name", instance),
            # Has a default, and is asked for nevertheless.
            *("--dbt_core_integration_environment", environment),
            *arguments,
            *options,
        ],
        cwd=home,
        env=clean_environ(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
