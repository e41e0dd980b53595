"""Cleaning up after a pull request: real dbt on DuckDB, and what is left in the warehouse."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest

from ci_defer.footprint import Footprint, Relation, Schema, encode
from ci_defer.stores.directory import Directory
from ci_defer.stores.footprints import FOOTPRINT, ObjectFootprints
from tests.e2e.action_shop import PULL_REQUEST, outputs_of, pull_request_files, summary_of
from tests.e2e.action_shop import Shop as ActionShop
from tests.e2e.shop import Ran, Shop, python_with_duckdb
from tests.e2e.test_dbt_v2 import v2_shop
from tests.environments import DBT_V2, DBT_VERSIONS
from tests.harness.github import FakeGitHub
from tests.samples import Log

pytestmark = pytest.mark.dbt

DATABASE = "warehouse"
# What nobody escapes: not SQL, not Jinja, not YAML, not a workflow command.
HOSTILE = (
    *("; drop table x", "it's", "{{ 1 / 0 }}", "{% raw %}", "a--b", "Ünï", "UPPER", "back slash"),
    *("::error::x", "new\nline", "${HOME}", "#x", "a, analytics.orders"),
)
QUOTED = 'or"ders"; drop schema analytics cascade; --'


def recorded(
    relations: Iterable[tuple[str, str]], run: str = "1", production: tuple[str, ...] = ()
) -> Footprint:
    made = [
        Relation(unique_id=f"model.shop.{name}", database=DATABASE, schema=schema, identifier=name)
        for schema, name in relations
    ]
    schemas = dict.fromkeys(item.place for item in made)
    return Footprint(
        project="shop",
        pull_request=7,
        run_id=run,
        run_attempt="1",
        pr_schema="ci_pr_7",
        target="ci",
        adapter="duckdb",
        created_at="2026-01-01T00:00:00+00:00",
        relations=made,
        schemas=list(schemas),
        production_schemas=[Schema(database=DATABASE, schema=name) for name in production],
    )


def kept(shop: Shop) -> ObjectFootprints:
    return ObjectFootprints(Directory(shop.store), "shop", Log())


def statements(relations: Iterable[tuple[str, str]]) -> list[str]:
    """What makes tables, and a view for each name that starts with v_."""
    made = []
    for schema, name in relations:
        quoted = name.replace('"', '""')
        kind = "view" if name.startswith("v_") else "table"
        made.append(f'create schema if not exists "{schema}"')
        made.append(f'create {kind} "{schema}"."{quoted}" as select 1 as one')
    return [*made, "select 1"]


def build(shop: Shop, relations: Iterable[tuple[str, str]]) -> None:
    shop.sql(*statements(relations))


def relations(shop: Shop) -> set[tuple[str, str]]:
    rows = shop.sql(
        "select table_schema, table_name from information_schema.tables "
        f"where table_catalog = '{DATABASE}' and table_schema not in ('analytics', 'erp')"
    )
    return {(str(schema), str(name)) for schema, name in rows}


def schemas(shop: Shop) -> set[str]:
    rows = shop.sql(
        f"select schema_name from duckdb_schemas() where database_name = '{DATABASE}' "
        "and not internal and schema_name not in ('analytics', 'erp')"
    )
    return {str(row[0]) for row in rows}


def production(shop: Shop) -> list[tuple[object, ...]]:
    return shop.sql(
        "select table_name from information_schema.tables where table_schema = 'analytics' "
        "order by 1"
    )


def cleanup(shop: Shop, *arguments: str) -> Ran:
    place = ("--state", str(shop.store), "--pull-request", "7")
    return shop.ci_defer("cleanup", *place, *arguments)


@pytest.fixture(params=[*DBT_VERSIONS, DBT_V2])
def any_shop(
    request: pytest.FixtureRequest,
    shared_folder: Path,
    tmp_path: Path,
    shop_of: Callable[[str], Shop],
) -> Shop:
    if request.param == DBT_V2:
        return v2_shop(shared_folder).copy(tmp_path / "shop")
    return shop_of(request.param)


OWN = [("ci_pr_7", "orders"), ("ci_pr_7", "v_sales"), ("ci_pr_7_marts", "totals")]
LEFTOVERS = [("ci_pr_7", "orders__dbt_tmp"), ("ci_pr_7_marts", "totals__dbt_backup")]
EARLY = [("ci_pr_7", "gone_since")]
# Of 7 too, and where others are: nobody knows whose it is by now.
ELSEWHERE = [("shared", "of_7")]
OTHERS = [("ci_pr_71", "orders"), ("shared", "orders"), *ELSEWHERE]


def test_cleanup__drops_what_the_runs_have_built_and_nothing_else(any_shop: Shop) -> None:
    shop = any_shop
    profile = "profile: \"{{ env_var('NO_SUCH', 'shop') }}\"\nquoting: {schema: true}"
    shop.replace("dbt_project.yml", "profile: shop", profile)
    hostile = [("ci_pr_7", name) for name in (*HOSTILE, QUOTED)]
    build(shop, [*OWN, *LEFTOVERS, *EARLY, *OTHERS, *hostile])
    before = production(shop)
    kept(shop).save(recorded([*OWN, *EARLY, *ELSEWHERE, ("ci_pr_7", "never_built")], "1"))
    # Production's own, which the pull request should never have built.
    kept(shop).save(recorded([*OWN, *hostile, ("ANALYTICS", "orders")], "2"))

    looked = cleanup(shop, "--dry-run")
    assert looked.exit_code == 0, looked.output
    both = "schemas warehouse.ci_pr_7, warehouse.ci_pr_7_marts and 20 relations"
    assert f"Would drop {both} of pull request #7." in looked.stdout
    everything = {*OWN, *LEFTOVERS, *EARLY, *OTHERS, *hostile}
    assert relations(shop) == everything

    ran = cleanup(shop, "--dbt-args", "--quiet --vars '{a: 1}' --threads 1 --full-refresh")
    assert ran.exit_code == 0, ran.output
    assert relations(shop) == {*OTHERS}
    assert schemas(shop) == {"ci_pr_71", "shared"}
    assert production(shop) == before
    said = ran.ours
    assert f"Dropped {both} of pull request #7." in said
    assert "Gone already:\n  warehouse.ci_pr_7.never_built\n" in said
    spared = "  warehouse.ANALYTICS.orders\n  warehouse.shared.of_7"
    assert f"Not dropped, as it is in a schema of production or of others:\n{spared}" in said
    assert kept(shop).of(7) == []

    again = cleanup(shop)
    assert (again.exit_code, again.errors) == (0, []), again.output
    assert "Nothing to clean up" in again.stdout


@pytest.fixture
def quick_shop(shared_folder: Path, tmp_path: Path) -> Shop:
    """A shop with the dbt that starts in no time, for what is ours alone."""
    return v2_shop(shared_folder).copy(tmp_path / "shop")


def test_cleanup__of_what_is_gone_already_says_so_and_forgets_it(quick_shop: Shop) -> None:
    shop = quick_shop
    kept(shop).save(recorded(OWN))
    ran = cleanup(shop)
    assert ran.exit_code == 0, ran.output
    assert "all that this pull request has built is gone already" in ran.stdout
    assert kept(shop).of(7) == []


@pytest.mark.parametrize("any_shop", [DBT_VERSIONS[-1], DBT_V2], indirect=True)
def test_cleanup__lists_what_cannot_be_dropped_and_goes_on(any_shop: Shop) -> None:
    shop = any_shop
    build(shop, [*OWN, ("shared", "other")])
    # DuckDB drops no table that another one refers to.
    shop.sql(
        "create table ci_pr_7.a_parent (id integer primary key)",
        "create table ci_pr_7.child (id integer references ci_pr_7.a_parent (id))",
        "select 1",
    )
    kept(shop).save(recorded([*OWN, ("ci_pr_7", "a_parent")]))
    ran = cleanup(shop)
    assert ran.exit_code == 3, ran.output
    (error,) = ran.errors
    assert "Could not be dropped: warehouse.ci_pr_7.a_parent. " in error
    assert "Run the job again, or drop it by hand." in error
    # The reason is the database's, and nothing of what dbt says besides.
    assert 'main key table of the table "child"' in error
    assert "run-operation" not in error
    assert "dropping" not in error
    stuck = {("ci_pr_7", name) for name in ("a_parent", "child")}
    assert relations(shop) == {*stuck, ("shared", "other")}
    assert schemas(shop) == {"ci_pr_7", "shared"}
    assert len(kept(shop).of(7)) == 1

    shop.sql("drop table ci_pr_7.child", "select 1")
    again = cleanup(shop)
    assert again.exit_code == 0, again.output
    assert relations(shop) == {("shared", "other")}
    assert kept(shop).of(7) == []


def test_cleanup__leaves_a_schema_with_something_that_nobody_recorded(quick_shop: Shop) -> None:
    shop = quick_shop
    build(shop, [*OWN, ("ci_pr_7", "by_hand")])
    kept(shop).save(recorded(OWN))
    ran = cleanup(shop)
    assert ran.exit_code == 0, ran.output
    assert relations(shop) == {("ci_pr_7", "by_hand")}
    assert schemas(shop) == {"ci_pr_7"}
    assert "no run of this pull request has built it:\n  warehouse.ci_pr_7.by_hand" in ran.stdout
    assert len(kept(shop).of(7)) == 1


@pytest.mark.action
def test_action__cleans_up_when_the_pull_request_is_closed(
    action_shop: ActionShop, github: FakeGitHub
) -> None:
    shop = action_shop
    shop.use_dbt(DBT_VERSIONS[-1])
    shop.use_workflows(install="")
    payload = shop.open_pull_request(pull_request_files())
    mine = [("ci_pr_7", "orders"), ("ci_pr_7_marts", "totals")]
    sql(shop, *statements([*mine, ("ci_pr_71", "orders")]))
    for pull_request in (7, 71):
        name = f"ci-defer-footprint-bike_rental-{pull_request}"
        made = msgspec.structs.replace(
            recorded(mine), project="bike_rental", pull_request=pull_request
        )
        run = shop.start_run(payload)
        github.add_artifact(name, {FOOTPRINT: encode(made)}, run.id)
    text = "<!-- ci-defer: project=bike_rental@. run=4001 -->\n## ✅ 2 nodes built\n"
    github.add_comment(PULL_REQUEST, text)

    ran = shop.run_pull_request({**payload, "action": "closed"})
    assert (ran.returncode, ran.job_result) == (0, "success"), ran.log
    left = sql(shop, "select schema_name from duckdb_schemas() where schema_name like 'ci_pr%'")
    assert left == [["ci_pr_71"]]
    outputs = outputs_of(ran)
    assert outputs["outcome"] == "success"
    (comment,) = github.comments(PULL_REQUEST)
    assert outputs["comment-url"].endswith(f"/pull/{PULL_REQUEST}#issuecomment-{comment.id}")
    head, _, rest = comment.body.partition("<!-- ci-defer: end of cleanup -->\n\n")
    assert "> 🧹 Dropped schemas `warehouse.ci_pr_7`, `warehouse.ci_pr_7_marts` and 2" in head
    assert head.partition("\n")[0] + "\n" + rest == text
    assert "Dropped schemas `warehouse.ci_pr_7`" in summary_of(ran)
    # Nothing was built, so nothing is to be uploaded.
    assert [one for one in github.artifacts if one.run_id == shop.run_id] == []


def sql(shop: ActionShop, *statements: str) -> list[list[object]]:
    program = (
        "import duckdb, json, sys\n"
        "connection = duckdb.connect(sys.argv[1])\n"
        "for statement in sys.argv[2:]:\n"
        "    rows = connection.execute(statement).fetchall()\n"
        "print(json.dumps(rows))\n"
    )
    command = ["-c", program, shop.environ["DEMO_WAREHOUSE"], *statements]
    done = subprocess.run([python_with_duckdb(), *command], capture_output=True, check=True)
    return list(json.loads(done.stdout))
