"""dbt makes the same of a project from a saved parse as it does in full.

The differential test: a project with one of everything is published as the default branch does it,
is edited, and is then parsed by a real dbt in another folder and for another schema, once in full
with plain commands and once from the saved parse. The manifests, the selections, and what is read
of the manifest without its file must be the same.

The ordinary run has the edits in bundles. With CI_DEFER_LONG=<number of random cases> each edit is
also tried alone, there and back.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import msgspec
import pytest

from ci_defer import comparable
from ci_defer.dbt import inside
from tests.e2e import warm_inside
from tests.e2e.reasons_engines import Refused, going_together, servers
from tests.e2e.reasons_project import (
    CHAIN,
    EDITS,
    GONE,
    MARTS,
    PROJECT,
    SEMANTIC,
    SOURCES,
    STAGING,
    STG,
    TOOLS,
    Edit,
    Project,
    both,
    config_of,
    create,
    more,
    move,
    put,
    random_edit,
    text,
    told,
)
from tests.e2e.shop import Shop, production
from tests.e2e.warm_parses import OURS, Dbt, Saved, Warm, in_schema, wrong
from tests.environments import dbt_bin
from tests.harness.fork_server import forked

pytestmark = pytest.mark.dbt

LONG = int(os.environ.get("CI_DEFER_LONG", "0"))
BUNDLES = 6

PAID = "models/marts/paid.sql"

# What dbt does wrong in a partial parse, and it or we see: then the parse is not used.
FAULTS_OF_DBT = (
    # It breaks when a group or a node goes at the same time as what speaks of it.
    "an error occurred. Switching to full reparse.",
    # It brings back what was taken out of yml when what that depends on has changed, too.
    "is gone, and dbt still has it",
)

# What the edits of test_reasons have not, because dbt does not compare it.
MORE_EDITS: dict[str, Edit] = {
    "whitespace-in-description": put(STAGING, *STG, "description", to="One  row for each  order."),
    "whitespace-in-docs": text("models/docs.md", "What it is.", "What  it\nis."),
    "whitespace-in-test": text("tests/no_large_orders.sql", "select * ", "select  * "),
    "line-ends": text(CHAIN, "\n", "\r\n"),
    "line-ends-of-sql": text("models/marts/orders.sql", "\n", "\r\n"),
    "fixture": more("tests/fixtures/three.csv", "4\n"),
    "docs-of-column": text("models/docs.md", "What the column is.", "It is a column."),
    "seed-on": put("seeds/off.yml", "seeds", "off", "config", "enabled", to=True),
    "seed-without-properties": move("seeds/off.yml", None),
    "seed-off": put("seeds/seeds.yml", "seeds", "countries", "config", "enabled", to=False),
    "model-on": text("models/marts/off.sql", "enabled=false", "enabled=true"),
    "model-off": config_of("documented", enabled=False),
    "model-off-in-sql": more(PAID, "{{ config(enabled=false) }}\n"),
    "model-ignored": create(".dbtignore", "models/marts/paid.sql\n"),
    "model-of-package": create("dbt_packages/tools/models/other.sql", "select 2 as n\n"),
    "model-of-package-gone": move("dbt_packages/tools/models/tool.sql", None),
    "test-of-package": text(TOOLS, "is null", "is  null"),
    "selectors": create(
        "selectors.yml", "selectors: [{name: some, definition: {method: tag, value: staged}}]\n"
    ),
    "python-config": text("models/marts/scored.py", '"table")', '"table", tags=["x"])'),
    "python-ref": text("models/marts/scored.py", '"orders"', '"daily"'),
    "unit-test-gone": put(STAGING, "unit_tests", "customers_have_countries", to=GONE),
    "exposure-gone": put(MARTS, "exposures", "board", to=GONE),
    "saved-query-gone": put(SEMANTIC, "saved_queries", "weekly", to=GONE),
    "metric-gone": put(SEMANTIC, "metrics", "average", to=GONE),
    "source-gone": put(SOURCES, "sources", "erp", "tables", "deliveries", to=GONE),
    "sources-by-another-name": put(SOURCES, "sources", "erp", "tables", "orders", "quoting", to={}),
    "function-by-itself": move("functions/functions.yml", None),
    "alias-macro": create(
        "macros/alias.sql",
        "{% macro generate_alias_name(name=none, node=none) %}"
        "{{ default__generate_alias_name(name, node) }}{% endmacro %}\n",
    ),
    "variable-with-default": told(environ={"SHOP_SCHEMA": "erp", "COLOUR": "blue"}),
    "default-of-variable": text("models/marts/coloured.sql", "'red'", "'blue'"),
}
ALL_EDITS: dict[str, Edit] = {name: edit for name, (edit, _) in EDITS.items()} | MORE_EDITS


@pytest.fixture(scope="session")
def dbt_of(
    shared_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Dbt]]:
    """dbt Core of a version, which answers quickly."""
    with servers(shared_folder) as core, TemporaryDirectory() as temporary:
        opened = []

        @cache
        def start(version: str) -> Dbt:
            def words() -> tuple[str, ...]:
                made = Shop(production(shared_folder, version), dbt_bin(version))
                state = made.plain_state(Path(temporary, f"state-{version}"))
                return inside.__file__, str(made.project), str(state)

            folder = shared_folder / f"inside-dbt-{version}"
            recipe = Path(warm_inside.__file__)
            server = forked(folder, "dbt", dbt_bin(version) / "python", recipe, words)
            opened.append(server)
            work = tmp_path_factory.mktemp(f"warm-{version}")
            return Dbt(core.connect(version), version, server.__enter__(), work)

        yield start
        for server in opened:
            server.__exit__(None, None, None)


@pytest.fixture
def dbt(dbt_version: str, dbt_of: Callable[[str], Dbt]) -> Dbt:
    return dbt_of(dbt_version)


def edited(project: Project, *edits: Edit) -> Project:
    changed = project.copy()
    both(*edits)(changed)
    return changed


def compared(dbt: Dbt, now: Project, saved: Saved, **changes: object) -> Warm:
    """What comes of a project from the saved parse, which is what comes of it in full."""
    folder = dbt.write(in_schema(now, OURS))
    full = dbt.parse(now, folder)
    selected = dbt.select(now, folder, saved)
    warm = dbt.go_on(now, folder, saved, **changes)
    differences = list(wrong(warm, full, selected, saved))
    assert not differences, f"{differences}, parsed {warm.in_full or 'from the saved parse'}"
    assert warm.notices == []
    dbt.forget(folder)
    return warm


def why_in_full(now: Project, before: Project) -> str:
    """Why a project is parsed in full after another one: the rules of dbt, and one of ours."""
    if now.flags != before.flags:
        return "config vars, config profile, or config target have changed"
    if written(now) != written(before):
        return "a project config has changed"
    known = {"not_null", "generate_alias_name", "generate_schema_name", *macros_of(before).values()}
    added = {key: name for key, name in macros_of(now).items() if key not in macros_of(before)}
    if any(name in known for name in added.values()):
        return "may be called instead of another one"
    names = ("macros/generate_schema_name.sql", "macros/alias.sql")
    if any(now.texts.get(file) != before.texts.get(file) for file in names):
        return "change detected to override macro"
    return ""


def macros_of(project: Project) -> dict[tuple[str, str], str]:
    """The names of macros as they are called, by file and by name."""
    found = {}
    for file, content in project.texts.items():
        for name in re.findall(r"{% macro (\w+)", content):
            found[file, name] = name.rpartition("__")[2].removeprefix("test_")
    return found


def written(project: Project) -> tuple[object, ...]:
    """The text of each dbt_project.yml."""
    names = (PROJECT, f"dbt_packages/tools/{PROJECT}")
    return (project.heading, project.style, *(str(project.documents[name]) for name in names))


# Edits --------------------------------------------------------------------------------------------


def is_partial(name: str, project: Project) -> bool:
    now = edited(project, ALL_EDITS[name])
    return not (why_in_full(now, project) or why_in_full(project, now))


@pytest.mark.parametrize("bundle", range(BUNDLES))
def test_bundle_of_edits__is_parsed_from_a_saved_parse(dbt: Dbt, bundle: int) -> None:
    names = [*ALL_EDITS]
    Random(7).shuffle(names)
    drawn = [
        (name, ALL_EDITS[name]) for name in names[bundle::BUNDLES] if is_partial(name, dbt.base)
    ]

    def there(project: Project) -> tuple[Project, Warm]:
        return project, compared(dbt, project, dbt.saved_base)

    (now, warm), applied = going_together(dbt.base, drawn, there)
    back = compared(dbt, dbt.base, dbt.publish(now))
    for made in (warm, back):
        assert not made.in_full or made.in_full.endswith(FAULTS_OF_DBT), applied


def is_said(warm: Warm, why: str) -> bool:
    return why in warm.in_full if why else not warm.in_full


def alone() -> list[str]:
    return [*ALL_EDITS] if LONG else ["yml-comment", "var-of-command", "macro-of-schema-gone"]


@pytest.mark.parametrize("name", alone())
def test_edit_alone__is_parsed_from_a_saved_parse_unless_dbt_refuses(dbt: Dbt, name: str) -> None:
    now = edited(dbt.base, ALL_EDITS[name])
    try:
        there = compared(dbt, now, dbt.saved_base)
        back = compared(dbt, dbt.base, dbt.publish(now))
    except Refused as error:
        pytest.skip(f"dbt does not take it: {error}")
    assert is_said(there, why_in_full(now, dbt.base))
    assert is_said(back, why_in_full(dbt.base, now))


DESCRIBED = {
    "macros/macros.yml": "macros: [{name: outer, description: x}]\n",
    "models/marts/more.yml": "models: [{name: paid, description: x}]\n",
    "models/marts/config.yml": "models: [{name: paid, config: {materialized: view, tags: [x]}}]\n",
    "models/marts/columns.yml": "models: [{name: paid, columns: [{name: n, data_type: int}]}]\n",
    "seeds/large.yml": "seeds: [{name: large, description: x}]\n",
    "tests/tests.yml": "data_tests: [{name: no_large_orders, description: x}]\n",
    "analyses/analyses.yml": "analyses: [{name: study, description: x}]\n",
}


@pytest.mark.parametrize("file", DESCRIBED)
def test_described_in_a_new_file__is_changed_in_place(dbt: Dbt, file: str) -> None:
    # dbt does not parse again what the file describes: it writes into what it had saved. What it
    # selects by `state:modified` is compared with what it was before.
    now = edited(dbt.base, create(file, DESCRIBED[file]))
    assert compared(dbt, now, dbt.saved_base).in_full == ""


@pytest.mark.parametrize("seed", range(LONG or 2))
def test_random_edits__are_parsed_from_a_saved_parse(dbt: Dbt, seed: int) -> None:
    random = Random(seed)
    drawn = [random_edit(random, dbt.version) for _ in range(random.randrange(4))]
    saved, first = going_together(dbt.base, drawn, dbt.publish)
    drawn = [random_edit(random, dbt.version) for _ in range(random.randint(1, 5))]

    def then(project: Project) -> tuple[Project, Warm]:
        return project, compared(dbt, project, saved)

    (now, warm), second = going_together(saved.project, drawn, then)
    is_known = is_said(warm, why_in_full(now, saved.project))
    assert is_known or warm.in_full.endswith(FAULTS_OF_DBT), f"before {first}, then {second}"


# What must not be gone on from --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"database": "other"}, "the database is memory, not other"),
        ({"versions": {"python": "3.0"}}, "was"),
        ({"texts": "/nowhere/texts.json"}, "No such file"),
        ({"file": __file__}, ""),
        ({"carries_over": False}, "profile has changed"),
    ],
)
def test_terms__that_are_not_those_of_here_are_a_full_parse(
    dbt: Dbt, changes: dict[str, object], why: str
) -> None:
    now = edited(dbt.base, ALL_EDITS["body"])
    warm = compared(dbt, now, dbt.saved_base, **changes)
    assert warm.in_full
    assert why in warm.in_full
    assert warm.answer["wrote"] == ""


def test_schema_of_the_target__is_gone_on_from_where_it_is_the_same(dbt: Dbt) -> None:
    tied = edited(dbt.base, more("models/marts/daily.sql", "-- {{ target.schema }}\n"))
    assert dbt.publish(tied).published.ties == "models/marts/daily.sql speaks of `target`"
    saved = dbt.publish(tied, schema=OURS)
    now = edited(tied, ALL_EDITS["body"])
    assert compared(dbt, now, saved).in_full == ""


def test_clock_of_the_default_branch__may_be_ahead(dbt: Dbt) -> None:
    saved = dbt.publish(dbt.base)
    file = saved.folder / "partial_parse.msgpack"
    document = msgspec.msgpack.decode(file.read_bytes())
    for group in ("nodes", "sources", "macros", "exposures", "metrics", "saved_queries"):
        for item in document[group].values():
            item["created_at"] = 4e9
    file.write_bytes(msgspec.msgpack.encode(document))
    edits = (ALL_EDITS["body"], ALL_EDITS["description"], ALL_EDITS["macro-three-deep"])
    assert compared(dbt, edited(dbt.base, *edits), saved).in_full == ""


@pytest.mark.parametrize("environ", [{"SHOP_SCHEMA": "erp"}, {"SHOP_SCHEMA": "erp", "COLOUR": ""}])
def test_variables__of_the_same_value_let_all_be_as_it_was(
    dbt: Dbt, environ: dict[str, str]
) -> None:
    warm = compared(dbt, edited(dbt.base, told(environ=environ)), dbt.saved_base)
    made = json.loads(Path(warm.answer["wrote"]).read_text())
    assert not warm.in_full
    assert [*made["nodes"]] == (["model.shop.coloured"] if "COLOUR" in environ else [])


def test_manifest_of_main__that_is_not_what_it_was_is_not_written_on(dbt: Dbt) -> None:
    saved = dbt.publish(dbt.base)
    (saved.theirs / "manifest.json").write_text("{}")
    now = edited(dbt.base, ALL_EDITS["body"])
    folder = dbt.write(in_schema(now, OURS))
    full, warm = dbt.parse(now, folder), dbt.go_on(now, folder, saved)
    assert warm.in_full == ""
    assert not comparable.difference(full / "manifest.json", warm.target / "manifest.json")


ENDING = "{%- endmacro %}\n"
SHORTENED = "{% macro generate_schema_name(name, node) -%}{{ name or target.schema[:2] }}" + ENDING
LOUD = "{% macro generate_schema_name(name, node) -%}{{ name or target.schema | upper }}" + ENDING
PREFIX = "{% macro generate_alias_name(name=none, node=none) -%}{{ target.schema[:2] }}_"
PREFIX += "{{ default__generate_alias_name(name, node) }}" + ENDING


@pytest.mark.parametrize(
    ("file", "macro", "component"),
    [
        ("macros/generate_schema_name.sql", SHORTENED, "schema"),
        ("macros/generate_schema_name.sql", LOUD, "schema"),
        ("macros/alias.sql", PREFIX, "alias"),
    ],
)
def test_names_that_are_not_the_schema_itself__are_doubted(
    dbt: Dbt, file: str, macro: str, component: str
) -> None:
    saved = dbt.publish(edited(dbt.base, create(file, macro)))
    warm = compared(dbt, edited(saved.project, ALL_EDITS["body"]), saved)
    assert f"for the {component} of" in warm.answer["distrusted"]
