"""Where the state comes from outside of GitHub: plain manifests, directory stores, or nowhere.

On one version of dbt: which state is taken is decided before dbt runs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ci_defer.stores.compression import compressed
from tests.e2e.shop import Shop, names, outputs

pytestmark = pytest.mark.dbt

TOTALS = "models/marts/customer_totals.sql"


def change_totals(shop: Shop) -> None:
    shop.replace(TOTALS, "count(*)", "count(order_id)")


def change_daily_sales(shop: Shop) -> None:
    shop.replace("models/marts/daily_sales.sql", "sum(amount) as", "sum(amount + 0) as")


def built(shop: Shop) -> set[str]:
    return {item["name"] for item in shop.report()["nodes"] if item["outcome"] == "built"}


# A plain state: a manifest from anywhere


def directory(shop: Shop) -> Path:
    return shop.plain_state(shop.root / "production")


def file(shop: Shop) -> Path:
    return shop.plain_state(shop.root / "production") / "manifest.json"


def own_target(shop: Shop) -> Path:
    """dbt itself would write its new manifest over this one, and find nothing modified."""
    shutil.copyfile(shop.bundle()["manifest.json"], shop.target / "manifest.json")
    return Path("target")


@pytest.mark.parametrize("place", [directory, file, own_target])
def test_plain_state__is_compared_with_and_deferred_to(
    one_shop: Shop, place: Callable[[Shop], Path]
) -> None:
    one_shop.pull_request(change_totals)
    state = place(one_shop)

    ran = one_shop.ci_defer("defer", "--state", str(state), "--target", "ci")

    assert ran.exit_code == 0, ran.output
    report = one_shop.report()
    assert built(one_shop) == {"customer_totals"}
    assert {"orders", "stg_customers"} == names(report["deferred"])
    assert not report["state"]["has_provenance"]
    assert "unknown commit" in one_shop.summary()


def test_plain_state__is_damaged(one_shop: Shop) -> None:
    one_shop.pull_request(change_totals)
    manifest = file(one_shop)
    manifest.write_bytes(manifest.read_bytes()[:5000])

    ran = one_shop.ci_defer("defer", "--state", str(manifest), "--target", "ci")

    assert ran.exit_code == 3, ran.output
    assert len(ran.errors) == 1
    assert "truncated or not JSON" in ran.errors[0]
    assert "Traceback" not in ran.stderr
    assert one_shop.report()["outcome"] == "error"
    assert one_shop.report()["commands"] == []


# A store whose bundle is damaged


def damage(shop: Shop) -> None:
    manifest = shop.bundle()["manifest.json"].read_bytes()
    damaged = manifest.replace(b"customer_totals", b"customer_t0tals")
    shop.stored("manifest.json.zst").write_bytes(b"".join(compressed([damaged])))


def test_damaged_bundle__is_never_used(one_shop: Shop) -> None:
    one_shop.pull_request(change_totals)
    damage(one_shop)

    ran = one_shop.defer("--if-no-state", "fail")

    assert ran.exit_code == 3, ran.output
    assert len(ran.errors) == 1
    assert "is not the file that was published" in ran.output
    assert "Traceback" not in ran.stderr
    assert one_shop.report()["outcome"] == "no-state"
    assert one_shop.report()["commands"] == []


# No state at all


def test_no_state__the_base_commit_is_parsed_again(one_shop: Shop) -> None:
    base = one_shop.git("rev-parse", "HEAD")
    one_shop.pull_request(change_totals)
    shutil.rmtree(one_shop.store)

    # ci is compared with ci, and production is where target prod has it.
    ran = one_shop.defer("--production-target", "prod")

    assert ran.exit_code == 0, ran.output
    report = one_shop.report()
    assert built(one_shop) == {"customer_totals"}
    assert report["base_commit"] == base
    assert report["state"]["reparsed"]
    assert {item["relation"] for item in report["deferred"]} == {
        '"warehouse"."analytics"."orders"',
        '"warehouse"."analytics"."stg_customers"',
    }
    assert one_shop.git("worktree", "list").count("\n") == 0
    assert one_shop.git("status", "--porcelain") == ""


def test_no_state__full_builds_everything(one_shop: Shop) -> None:
    one_shop.pull_request(change_totals)
    shutil.rmtree(one_shop.store)
    # A partial parse from elsewhere knows where the seeds were there: dbt-duckdb reads them so.
    shutil.rmtree(one_shop.target)

    ran = one_shop.defer("--if-no-state", "full")

    assert ran.exit_code == 0, ran.output
    report = one_shop.report()
    assert {"raw_orders", "stg_orders", "orders", "customer_totals", "daily_sales"} <= built(
        one_shop
    )
    assert report["state"] is None
    assert report["deferred"] == []
    assert "no production state" in ran.output


def test_no_state__skip_builds_nothing(one_shop: Shop) -> None:
    one_shop.pull_request(change_totals)
    shutil.rmtree(one_shop.store)

    ran = one_shop.defer("--if-no-state", "skip")

    assert ran.exit_code == 0, ran.output
    assert one_shop.report()["outcome"] == "no-state"
    assert one_shop.report()["commands"] == []
    assert "Nothing was built" in one_shop.summary()


def test_no_state__fail_is_red(one_shop: Shop) -> None:
    one_shop.pull_request(change_totals)
    shutil.rmtree(one_shop.store)

    ran = one_shop.defer("--if-no-state", "fail")

    assert ran.exit_code == 3, ran.output
    assert len(ran.errors) == 1
    assert "onboard" in ran.errors[0]
    assert one_shop.report()["outcome"] == "no-state"


# The commit decides, not the clock


def test_behind_main__is_compared_with_its_own_base_commit(one_shop: Shop, tmp_path: Path) -> None:
    """A newer state of main would select what others have changed there."""
    first = one_shop.git("rev-parse", "HEAD")
    change_daily_sales(one_shop)
    one_shop.commit("Somebody else's change, merged later")
    assert not (one_shop.target / "manifest.json").exists()
    published = one_shop.onboard()
    assert published.exit_code == 0, published.output
    assert "There is no manifest.json" in published.stdout
    assert "parsing the project for target prod" in published.stdout
    one_shop.branch("pull-request", first)
    change_totals(one_shop)
    one_shop.commit()

    deferring = one_shop.with_environ(GITHUB_OUTPUT=str(tmp_path / "outputs"))
    ran = deferring.defer()

    assert ran.exit_code == 0, ran.output
    assert built(one_shop) == {"customer_totals"}
    report = one_shop.report()
    assert report["base_commit"] == report["state"]["commit"] == first
    found = outputs(tmp_path / "outputs")
    assert found["state-commit"] == first
    assert found["state-age-commits"] == "0"
    assert found["outcome"] == "success"


def test_base_commit_without_state__an_ancestor_stands_in(one_shop: Shop, tmp_path: Path) -> None:
    first = one_shop.git("rev-parse", "HEAD")
    change_daily_sales(one_shop)
    second = one_shop.commit("Not published")
    one_shop.pull_request(change_totals)

    deferring = one_shop.with_environ(GITHUB_OUTPUT=str(tmp_path / "outputs"))
    ran = deferring.defer()

    assert ran.exit_code == 0, ran.output
    # The older state cannot know of the change in between: said, not hidden.
    assert built(one_shop) == {"customer_totals", "daily_sales"}
    report = one_shop.report()
    assert report["base_commit"] == second
    assert report["state"]["commit"] == first
    assert report["state"]["age_commits"] == 1
    assert "1 commit before the base commit" in one_shop.summary()
    assert outputs(tmp_path / "outputs")["state-age-commits"] == "1"


def test_onboard__without_anything_to_publish_to(one_shop: Shop) -> None:
    """The store must not be a folder that holds a manifest of its own."""
    plain = directory(one_shop)

    ran = one_shop.ci_defer("onboard", "--state", str(plain), "--target", "prod")

    assert ran.exit_code == 2, ran.output
    assert len(ran.errors) == 1
    assert names_of(plain) == {"manifest.json"}


def names_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
