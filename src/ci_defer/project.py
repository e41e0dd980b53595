"""The dbt project on disk: its name and where dbt writes its artifacts.

Reads dbt_project.yml as plain YAML. Jinja in it is dbt's to resolve, so this module reads
only the fields that dbt itself takes without rendering context of a run, and `profile` as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ci_defer.errors import ConfigurationError

PROJECT_FILE = "dbt_project.yml"
PACKAGE_FILES = ("packages.yml", "dependencies.yml")
PACKAGE_LOCK = "package-lock.yml"
VARS_FILE = "vars.yml"


@dataclass(frozen=True)
class Project:
    """A dbt project. All paths are absolute; `profile` is as it is written, maybe Jinja."""

    directory: Path
    name: str
    target_path: Path
    packages_path: Path
    profile: str = ""

    def in_folder(self, directory: Path) -> Project:
        """What takes the place of this project for a while, connected as it is."""
        return replace(self, directory=directory, target_path=directory / "target")

    def lacks_packages(self) -> bool:
        """Whether the project declares packages, and `dbt deps` has not been run."""
        return not self.packages_path.is_dir() and any(
            _declares_packages(self.directory / name) for name in PACKAGE_FILES
        )


def read_project(directory: Path, *, target_path: str | None = None) -> Project:
    """Read the dbt project in `directory`.

    `target_path` is what the environment says (`DBT_TARGET_PATH`); it wins over the
    `target-path` of the project, as in dbt.
    Raises ConfigurationError when there is no readable project.
    """
    directory = directory.absolute()
    file = directory / PROJECT_FILE
    document = _read(file)
    name = document.get("name")
    # dbt's own rule; the name also becomes a folder of the store.
    if not isinstance(name, str) or not re.fullmatch(r"[^\W\d]\w*", name):
        raise ConfigurationError(
            f"{file} has no `name` of letters, digits and underscores.",
            "Every dbt project needs one.",
        )
    return Project(
        directory,
        name,
        directory / (target_path or _plain(document, "target-path", "target")),
        directory / _plain(document, "packages-install-path", "dbt_packages"),
        str(document.get("profile") or ""),
    )


def connection_of(project: Project) -> dict[str, Any]:
    """What another dbt project has to say in its dbt_project.yml to be connected as this one is.

    The name of the profile may be Jinja, which is the same there. Raises ConfigurationError.
    """
    document = _read(project.directory / PROJECT_FILE)
    connection: dict[str, Any] = {}
    if isinstance(profile := document.get("profile"), str):
        connection["profile"] = profile
    if isinstance(quoting := document.get("quoting"), dict):
        flags = {name: value for name, value in quoting.items() if isinstance(value, bool)}
        connection["quoting"] = flags
    return connection


def _read(file: Path) -> dict[str, Any]:
    try:
        document: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no {PROJECT_FILE} in {file.parent}.",
            "Set project-dir to the folder of the dbt project.",
        ) from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(
            f"{file} cannot be read: {reason}.", "Run `dbt parse` there to see what dbt says of it."
        ) from error
    return document if isinstance(document, dict) else {}


def _plain(document: dict[str, Any], key: str, default: str) -> str:
    """A path of dbt_project.yml, unless it is Jinja."""
    value = document.get(key)
    return value if isinstance(value, str) and "{{" not in value else default


def _declares_packages(file: Path) -> bool:
    try:
        document: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, yaml.YAMLError):
        # dbt says better than we what is wrong with it.
        return True
    return isinstance(document, dict) and bool(document.get("packages"))
