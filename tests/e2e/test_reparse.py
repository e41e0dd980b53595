"""Without a published state: the base commit parsed again, with the packages that it declares."""

from __future__ import annotations

import pytest

from tests.e2e.shop import Shop

pytestmark = pytest.mark.dbt

PACKAGE = "name: spices\nversion: '1.0'\n"
DECLARED = "packages:\n  - local: packages/spices\n"


def add_package(shop: Shop, macro: str) -> None:
    """A package in the repository, and a model that uses its macro."""
    shop.write("packages/spices/dbt_project.yml", PACKAGE)
    shop.write("packages/spices/macros/spice.sql", macro)
    shop.write("packages.yml", DECLARED)
    shop.write("models/spiced.sql", "select {{ spices.spice() }} as spice\n")
    shop.write(".gitignore", shop.read(".gitignore") + "dbt_packages/\npackage-lock.yml\n")


def test_packages__are_installed_for_both_commits(one_shop: Shop) -> None:
    add_package(one_shop, "{% macro spice() %}'cinnamon'{% endmacro %}")
    base = one_shop.commit("Use a package")
    one_shop.pull_request(
        lambda shop: shop.write("models/spiced.sql", "select {{ spices.spice() }} as my_spice\n")
    )
    worktrees = one_shop.git("worktree", "list")
    nowhere = str(one_shop.root / "empty")
    ran = one_shop.defer("--state", nowhere, "--production-target", "prod")
    assert ran.exit_code == 0, ran.output
    report = one_shop.report()
    assert report["state"]["commit"] == report["base_commit"] == base
    assert (report["selected_count"], report["nodes"][0]["name"]) == (1, "spiced")
    assert [command["arguments"][1] for command in report["commands"]] == [
        *("deps", "parse", "parse"),  # of the base commit
        *("deps", "ls", "build"),  # of the pull request
    ]
    assert report["warnings"] == []
    assert one_shop.git("worktree", "list") == worktrees


def test_production_target__missing_is_a_warning(one_shop: Shop) -> None:
    one_shop.pull_request(lambda shop: shop.write("notes.md", "Nothing of dbt's.\n"))
    ran = one_shop.defer("--state", str(one_shop.root / "empty"))
    assert ran.exit_code == 0, ran.output
    report = one_shop.report()
    assert report["outcome"] == "no-changes"
    assert "production-target is not set" in report["warnings"][0]


def test_base_commit__that_is_broken_leaves_no_worktree(one_shop: Shop) -> None:
    one_shop.write("models/broken.sql", "select * from {{ ref('no_such_model') }}\n")
    one_shop.commit("Break main")
    one_shop.pull_request(lambda shop: shop.remove("models/broken.sql"))
    worktrees = one_shop.git("worktree", "list")
    ran = one_shop.defer("--state", str(one_shop.root / "empty"))
    assert ran.exit_code == 2
    (error,) = ran.errors
    assert "dbt cannot parse the base commit" in error
    assert "set if-no-state to full or skip" in ran.output
    assert one_shop.git("worktree", "list") == worktrees


def test_packages__that_only_the_pull_request_declares(one_shop: Shop) -> None:
    one_shop.pull_request(
        lambda shop: add_package(shop, "{% macro spice() %}'cinnamon'{% endmacro %}")
    )
    ran = one_shop.defer("--state", str(one_shop.root / "empty"), "--production-target", "prod")
    assert ran.exit_code == 0, ran.output
    report = one_shop.report()
    assert [command["arguments"][1] for command in report["commands"]] == [
        *("parse", "parse"),
        *("deps", "ls", "build"),
    ]
    assert report["nodes"][0]["name"] == "spiced"
    assert report["selected_count"] == 1


def test_vars__are_those_of_this_run_for_both_commits(one_shop: Shop) -> None:
    one_shop.write("models/steeped.sql", "select {{ var('minutes') }} as minutes\n")
    one_shop.commit("A model that cannot be parsed without its var")
    one_shop.pull_request(lambda shop: shop.write("notes.md", "Nothing of dbt's.\n"))
    nowhere = str(one_shop.root / "empty")
    ran = one_shop.defer("--state", nowhere, "--dbt-args", "--vars '{minutes: 4}' --no-use-colors")
    assert ran.exit_code == 0, ran.output
    report = one_shop.report()
    assert report["outcome"] == "no-changes"
    for command in report["commands"]:
        assert {"--vars", "{minutes: 4}", "--no-use-colors"} <= set(command["arguments"])


def test_report__says_why_and_what_was_passed_over(one_shop: Shop) -> None:
    base = one_shop.git("rev-parse", "HEAD")
    (one_shop.store / "shop" / "prod" / base / "state.json").write_text("{}")
    one_shop.pull_request(lambda shop: shop.write("notes.md", "Nothing of dbt's.\n"))
    ran = one_shop.defer("--production-target", "prod")
    assert ran.exit_code == 0, ran.output
    report = one_shop.report()
    assert report["state"]["reparsed"]
    assert "no sound state of the base commit" in report["state"]["reason"]
    (passed,) = report["passed_over"]
    assert (passed["commit"], "is not a state.json" in passed["reason"]) == (base, True)
    assert "parsed again" in one_shop.summary()
