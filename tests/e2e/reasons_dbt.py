"""dbt's own answers, for test_reasons: parses projects, and lists what selectors choose of them.

Run by dbt's own interpreter, so it may import dbt and not ci-defer. It reads one JSON request a
line and writes one JSON answer a line. dbt takes 5 seconds to be imported and half a second to
parse a small project, and a listing from a parsed manifest takes a tenth: so one process serves
all requests, and keeps the manifests.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
from typing import Any


class Answers:
    """What dbt says of projects, each named by the folder that its artifacts are written to."""

    def __init__(self) -> None:
        self._runner = importlib.import_module("dbt.cli.main").dbtRunner
        self._parsed: dict[str, Any] = {}
        # dbt's own switch for its own tests: it parses the Jinja of its macros once.
        importlib.import_module("dbt_common.tests").enable_test_caching()
        # It reads the state for each listing anew, which takes most of the time of a listing.
        manifest = importlib.import_module("dbt.artifacts.schemas.manifest").WritableManifest
        manifest.read_and_check_versions = functools.lru_cache(maxsize=4)(
            manifest.read_and_check_versions
        )

    def parse(self, *, project: str, target: str, flags: list[str]) -> None:
        """Write the manifest.json of a project, and keep what dbt has made of it."""
        # A partial parse would depend on what was parsed before.
        ran = self._runner().invoke(
            ["--quiet", "--no-partial-parse", "parse", *_where(project, target), *flags]
        )
        if not ran.success:
            raise ValueError(f"dbt does not parse it: {ran.exception}")
        self._parsed[target] = ran.result

    def select(
        self, *, project: str, target: str, state: str, flags: list[str], arguments: list[str]
    ) -> list[str]:
        """List the unique ids that `dbt ls` with these arguments chooses."""
        resources = ("--resource-type", "all", "--output", "json", "--output-keys", "unique_id")
        where = ("ls", *_where(project, target), *resources, "--state", state)
        ran = self._runner(manifest=self._parsed[target]).invoke(
            ["--quiet", *where, *arguments, *flags]
        )
        if not ran.success:
            raise ValueError(f"dbt does not list it: {ran.exception}")
        return [json.loads(line)["unique_id"] for line in ran.result]

    def forget(self, *, target: str) -> None:
        """Drop what is kept of a project."""
        self._parsed.pop(target, None)


def _where(project: str, target: str) -> list[str]:
    places = ("--project-dir", project, "--profiles-dir", project, "--target-path", target)
    return [*places, "--log-path", target]


def serve() -> None:
    """Answer until standard input ends."""
    # dbt prints what it lists: the answers have a stream of their own.
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        dbt = Answers()
        for line in sys.stdin:
            request = json.loads(line)
            os.environ.update(request.pop("environ", {}))
            answer: dict[str, Any]
            try:
                answer = {"result": getattr(dbt, request.pop("call"))(**request)}
            except ValueError as error:
                answer = {"error": str(error)}
            answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    serve()
