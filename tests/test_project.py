from __future__ import annotations

from pathlib import Path

import pytest

from ci_defer.errors import ConfigurationError
from ci_defer.project import PROJECT_FILE, Project, connection_of, read_project


def written(folder: Path, text: str) -> Path:
    (folder / PROJECT_FILE).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("declared", "told", "expected"),
    [
        ("", None, "target"),
        ("target-path: out", None, "out"),
        ("target-path: out", "elsewhere", "elsewhere"),
        ("target-path: out", "/absolute", "/absolute"),
        ("target-path: \"{{ env_var('X') }}\"", None, "target"),
        ("target-path: 3", None, "target"),
    ],
)
def test_read_project__target_path(
    tmp_path: Path, declared: str, told: str | None, expected: str
) -> None:
    written(tmp_path, f"name: shop\n{declared}\n")
    assert read_project(tmp_path, target_path=told) == Project(
        tmp_path, "shop", tmp_path / expected, tmp_path / "dbt_packages"
    )


@pytest.mark.parametrize(
    ("file", "text", "installed", "expected"),
    [
        ("packages.yml", "packages: [{local: ../p}]", False, True),
        ("dependencies.yml", "packages: [{local: ../p}]", False, True),
        ("packages.yml", "packages: [{local: ../p}]", True, False),
        ("dependencies.yml", "projects: [{name: other}]", False, False),
        ("packages.yml", "packages: []", False, False),
        ("packages.yml", "packages: [", False, True),
        ("other.yml", "packages: [{local: ../p}]", False, False),
    ],
)
def test_lacks_packages(
    tmp_path: Path, file: str, text: str, installed: bool, expected: bool
) -> None:
    written(tmp_path, "name: shop\npackages-install-path: deps\n")
    (tmp_path / file).write_text(text)
    if installed:
        (tmp_path / "deps").mkdir()
    assert read_project(tmp_path).lacks_packages() is expected


def test_read_project__of_a_relative_folder_is_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(written(tmp_path, "name: shop"))
    assert read_project(Path()).directory == tmp_path


def test_read_project__reads_the_name_and_leaves_jinja_to_dbt(tmp_path: Path) -> None:
    written(tmp_path, '\ufeffname: shop\nmodels:\n  +schema: "{{ target.name }}"\n')
    assert read_project(tmp_path).name == "shop"


def test_read_project__names_the_setting_when_there_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"dbt_project\.yml.*project-dir"):
        read_project(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a list",
        "version: 2",
        "name:",
        "name: 5",
        "name: ''",
        "name: [",
        "name: shop\n\tkey: a tab",
        "name: shop\nvars: {start: 2024-13-45}",
        "name: shop\nvars: !!python/object:os.system {}",
        "\x00",
    ],
)
def test_read_project__refuses_what_is_no_project(tmp_path: Path, text: str) -> None:
    written(tmp_path, text)
    with pytest.raises(ConfigurationError, match=PROJECT_FILE):
        read_project(tmp_path)


def test_read_project__refuses_other_encodings(tmp_path: Path) -> None:
    (tmp_path / PROJECT_FILE).write_bytes("name: caf\u00e9".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_project(tmp_path)


@pytest.mark.parametrize("name", ["../shop", "/shop", "a/b", "shop two"])
def test_read_project__refuses_a_name_that_dbt_refuses(tmp_path: Path, name: str) -> None:
    # The name becomes a folder of the store.
    written(tmp_path, f"name: {name}")
    with pytest.raises(ConfigurationError, match="name"):
        read_project(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("profile: warehouse", {"profile": "warehouse"}),
        (
            "profile: \"{{ env_var('PROFILE') }}\"\nquoting: {schema: true, database: x}",
            {"profile": "{{ env_var('PROFILE') }}", "quoting": {"schema": True}},
        ),
        ("profile: 3\nquoting: yes", {}),
    ],
)
def test_connection__is_what_the_project_says_of_it(
    tmp_path: Path, text: str, expected: dict[str, object]
) -> None:
    written(tmp_path, f"name: shop\n{text}\n")
    assert connection_of(read_project(tmp_path)) == expected
