"""The dbt project on disk: its name and where dbt writes its artifacts.

Reads dbt_project.yml as plain YAML. Jinja in it is dbt's to resolve, so this module reads
only the two fields that dbt itself takes without rendering context of a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ci_defer.errors import ConfigurationError

PROJECT_FILE = "dbt_project.yml"
DEFAULT_TARGET_PATH = "target"


@dataclass(frozen=True)
class Project:
    """A dbt project. Both paths are absolute."""

    directory: Path
    name: str
    target_path: Path


def read_project(directory: Path, *, target_path: str | None = None) -> Project:
    """Read the dbt project in `directory`.

    `target_path` is what the environment says (`DBT_TARGET_PATH`); it wins over the
    `target-path` of the project, as in dbt.
    Raises ConfigurationError when there is no readable project.
    """
    directory = directory.absolute()
    file = directory / PROJECT_FILE
    try:
        document: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no {PROJECT_FILE} in {directory}.",
            "Set project-dir to the folder of the dbt project.",
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(
            f"{file} cannot be read: {reason}.", "Run `dbt parse` there to see what dbt says of it."
        ) from error
    name = document.get("name") if isinstance(document, dict) else None
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"{file} has no `name`.", "Every dbt project needs one.")
    declared = document.get("target-path")
    if not isinstance(declared, str) or "{{" in declared:
        declared = DEFAULT_TARGET_PATH
    return Project(directory, name, directory / (target_path or declared))
