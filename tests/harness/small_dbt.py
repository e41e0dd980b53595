"""A dbt project of three models for whatever adapter: what a test of a warehouse starts from."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.environments import clean_environ, dbt_bin

# JSON is YAML.
PROJECT = {
    "name": "small",
    "version": "1.0",
    "profile": "small",
    "flags": {"send_anonymous_usage_stats": False},
}

MODELS = {
    "looked_at": "{{ config(materialized='view') }} select 1 as id",
    "kept": "{{ config(materialized='table') }} select id from {{ ref('looked_at') }}",
    "grown": (
        "{{ config(materialized='incremental', incremental_strategy='append') }} "
        "select id from {{ ref('kept') }}"
    ),
}


@dataclass(frozen=True)
class SmallDbt:
    """The project in `folder`, and the environment of dbt that runs it."""

    folder: Path
    environment: str

    @classmethod
    def make(cls, folder: Path, environment: str, output: Mapping[str, object]) -> SmallDbt:
        profiles = {"small": {"target": "it", "outputs": {"it": output}}}
        (folder / "models").mkdir(parents=True)
        (folder / "dbt_project.yml").write_text(json.dumps(PROJECT))
        (folder / "profiles.yml").write_text(json.dumps(profiles))
        for name, text in MODELS.items():
            (folder / "models" / f"{name}.sql").write_text(text)
        return cls(folder, environment)

    def run(self, *arguments: str) -> str:
        """What a command says that must succeed."""
        programs = dbt_bin(self.environment)
        done = subprocess.run(
            [str(programs / "dbt"), "--no-use-colors", *arguments],
            cwd=self.folder,
            env=clean_environ(self.folder, programs),
            capture_output=True,
            encoding="utf-8",
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def results(self) -> dict[str, str]:
        """The status of each model, as the last command left it."""
        text = (self.folder / "target" / "run_results.json").read_text(encoding="utf-8")
        results: list[dict[str, Any]] = json.loads(text)["results"]
        return {result["unique_id"].rpartition(".")[2]: result["status"] for result in results}
