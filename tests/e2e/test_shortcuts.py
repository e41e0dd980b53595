"""The shortcuts of `inside` make what dbt makes, and leave to it what they do not know.

What they come to in a run is compared by test_driver and test_warm_parse.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ci_defer.dbt import inside
from tests.e2e import shortcuts
from tests.e2e.shop import Shop, production
from tests.environments import clean_environ, dbt_bin

pytestmark = pytest.mark.dbt


@pytest.fixture(scope="session")
def facts_of(
    shared_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, Any]]:
    @cache
    def ask(version: str) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp(f"shortcuts-{version}")
        state = Shop(production(shared_folder, version), dbt_bin(version)).plain_state(
            folder / "state"
        )
        done = subprocess.run(
            [dbt_bin(version) / "python", shortcuts.__file__, inside.__file__, str(state)],
            cwd=folder,
            env=clean_environ(folder),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout.splitlines()[-1]))

    return ask


@pytest.fixture
def facts(dbt_version: str, facts_of: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return facts_of(dbt_version)


def test_shortcuts__are_all_taken(facts: dict[str, Any]) -> None:
    assert facts["notices"] == []


def test_defaults__are_described_as_dbt_does(facts: dict[str, Any]) -> None:
    assert facts["classes"] > 50
    assert facts["other schemas"] == []


def test_relations__are_what_dbt_defers_to(facts: dict[str, Any]) -> None:
    assert facts["stands for a manifest"] == "_Relations"
    assert facts["deferred"] > 5
    assert facts["deferred otherwise"] == []


def test_relations__are_read_in_full_where_dbt_wants_more(facts: dict[str, Any]) -> None:
    assert facts["deferred otherwise after a surprise"] == []


def test_relations__of_another_version_are_left_to_dbt(facts: dict[str, Any]) -> None:
    assert facts["of another dbt"] == "Manifest"
    assert facts["of another schema"].startswith("IncompatibleSchemaError: ")


def test_relations__that_are_damaged_are_left_to_dbt(facts: dict[str, Any]) -> None:
    assert facts["damaged"].startswith("DbtRuntimeError: ")
    assert "as JSON" in facts["damaged"]
