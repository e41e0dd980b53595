"""What can be wrong before anything is built: one line that says what to do, never a traceback.

On one version of dbt: the words are dbt's, that they are shown is ours.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.shop import Ran, Shop, outputs, python_with_duckdb

pytestmark = pytest.mark.dbt


def failing(shop: Shop, exit_code: int, *arguments: str) -> Ran:
    """Run defer as a step of a workflow, and check what is the same for every error."""
    file = shop.root / "outputs"
    on_actions = shop.with_environ(GITHUB_ACTIONS="true", GITHUB_OUTPUT=str(file))
    ran = on_actions.defer(*arguments)
    assert ran.exit_code == exit_code, ran.output
    assert "Traceback" not in ran.ours
    assert len(ran.errors) == 1, ran.output
    assert outputs(file)["outcome"] == "error"
    return ran


def annotation(ran: Ran) -> str:
    """The text of the one annotation."""
    return ran.errors[0].partition("ci-defer::")[2].replace("%0A", "\n")


def change(shop: Shop) -> None:
    shop.replace("models/marts/customer_totals.sql", "count(*)", "count(order_id)")


def program(folder: Path, script: str) -> Path:
    """A folder with a `dbt` that is this shell script."""
    folder.mkdir()
    (folder / "dbt").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / "dbt").chmod(0o755)
    return folder


# No dbt


def test_dbt__is_not_there(one_shop: Shop, tmp_path: Path) -> None:
    one_shop.pull_request(change)

    ran = failing(one_shop.with_dbt(tmp_path / "nothing"), 2)

    assert "no dbt on the PATH" in annotation(ran)
    assert "install" in annotation(ran)


def test_dbt__is_a_shim_of_a_version_manager(one_shop: Shop, tmp_path: Path) -> None:
    one_shop.pull_request(change)
    shim = program(tmp_path / "shims", "echo 'pyenv: dbt: command not found' >&2; exit 127")

    ran = failing(one_shop.with_dbt(shim), 2)

    assert str(shim / "dbt") in annotation(ran)
    assert "install" in annotation(ran)


def test_dbt__is_a_file_for_another_machine(one_shop: Shop, tmp_path: Path) -> None:
    one_shop.pull_request(change)
    folder = program(tmp_path / "bin", "")
    (folder / "dbt").write_bytes(b"\x7fELF of another architecture")

    ran = failing(one_shop.with_dbt(folder), 2)

    assert str(folder / "dbt") in annotation(ran)


# The project and the profile


BROKEN: dict[str, tuple[Callable[[Shop], None], str]] = {
    "no-project": (lambda shop: shop.remove("dbt_project.yml"), "dbt_project.yml"),
    "project-is-not-yaml": (
        lambda shop: shop.write("dbt_project.yml", "name: [shop\n"),
        "dbt_project.yml",
    ),
    "project-has-no-name": (lambda shop: shop.write("dbt_project.yml", "profile: shop\n"), "name"),
    "unknown-adapter": (
        lambda shop: shop.write(
            "profiles.yml", shop.read("profiles.yml").replace("type: duckdb", "type: gooseberry")
        ),
        "gooseberry",
    ),
    "profile-without-outputs": (lambda shop: shop.write("profiles.yml", "shop: {}\n"), "empty"),
    "undefined-variable": (
        lambda shop: shop.write(
            "profiles.yml",
            shop.read("profiles.yml").replace("ci_pr", "\"{{ env_var('TEA_SCHEMA') }}\""),
        ),
        "TEA_SCHEMA",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_project__is_broken(one_shop: Shop, kind: str) -> None:
    edit, said = BROKEN[kind]
    one_shop.pull_request(edit)

    ran = failing(one_shop, 2)

    assert said in annotation(ran)


def test_target__is_not_in_the_profile(one_shop: Shop) -> None:
    one_shop.pull_request(change)

    ran = failing(one_shop, 2, "--target", "staging")

    assert "staging" in annotation(ran)


def test_profiles_dir__has_no_profile(one_shop: Shop, tmp_path: Path) -> None:
    one_shop.pull_request(change)

    ran = failing(one_shop, 2, "--profiles-dir", str(tmp_path / "nothing"))

    assert "nothing" in annotation(ran)


# Settings


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--if-no-state", "guess"), "'guess'"),
        (("--comment", "sometimes"), "'sometimes'"),
        (("--project", "../shop"), "'../shop'"),
        (("--select", "--full-refresh"), "dbt-args"),
        (("--state", "ftp://host/state"), "ftp://host/state"),
        (("--favour-state",), "--favour-state"),
        (("--dbt-args", "--select orders"), "--select"),
        (("--dbt-args", "--target=prod"), "--target"),
        (("--dbt-args", "-sorders"), "--select"),
        (("--dbt-args", "--no-write-json"), "--no-write-json"),
        (("--dbt-args", "--vars '{"), "dbt-args"),
    ],
)
def test_setting__is_refused(one_shop: Shop, arguments: tuple[str, ...], said: str) -> None:
    ran = failing(one_shop, 2, *arguments)

    assert said in annotation(ran)


def test_dbt_args__are_refused_by_dbt(one_shop: Shop) -> None:
    one_shop.pull_request(change)

    ran = failing(one_shop, 2, "--dbt-args", "--no-such-flag")

    # The first line is the headline: the usage of a command that nobody typed says nothing.
    headline = annotation(ran).partition("\n")[0]
    assert "No such option '--no-such-flag'" in headline
    assert "Usage:" not in headline
    assert "dbt-args" in annotation(ran)


def test_setting__a_variable_is_refused_by_its_name(one_shop: Shop) -> None:
    ran = failing(one_shop.with_environ(CI_DEFER_FAVOR_STATE="perhaps"), 2)

    assert "perhaps" in annotation(ran)
    assert "favor-state" in annotation(ran)


# The database


def test_database__is_locked_by_another_process(one_shop: Shop) -> None:
    one_shop.pull_request(change)
    hold = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print(); sys.stdin.read()"

    with subprocess.Popen(
        [python_with_duckdb(), "-uc", hold, one_shop.warehouse],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n"
        ran = failing(one_shop, 3)
        holder.communicate()

    assert "Could not set lock on file" in annotation(ran)
    report = one_shop.report()
    assert report["outcome"] == "error"
    assert "Could not set lock on file" in report["problem"]["message"]
    assert "Could not set lock on file" in one_shop.summary()
    assert report["selected_count"] > 0


# In a terminal


def test_terminal__one_line_to_standard_error(one_shop: Shop) -> None:
    ran = one_shop.defer("--if-no-state", "guess")

    assert ran.exit_code == 2
    assert ran.stderr.startswith("Error: ")
    assert ran.stderr.count("\n") == 1
    assert "::error" not in ran.output
