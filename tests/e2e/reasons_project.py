"""A small dbt project with one of everything that dbt compares, and the edits that change it.

Documents of yml are kept as data, so that an edit names what it sets; all else is text. The edits
come in two sorts: `EDITS`, each with a name and with the kinds of reasons that it must cause, and
`random_edit`, which sets any config at any place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.environments import DBT_V2, DBT_VERSIONS


class NotApplicable(Exception):
    """What an edit would change is not there: another edit has taken it."""


@dataclass
class Project:
    """The files of a project, and what dbt is told beside them."""

    texts: dict[str, str]
    documents: dict[str, Any]
    environ: dict[str, str] = field(default_factory=lambda: {"SHOP_SCHEMA": "erp"})
    flags: list[str] = field(default_factory=list)
    style: dict[str, Any] = field(default_factory=lambda: {"indent": 2, "sort_keys": False})
    heading: str = ""

    def copy(self) -> Project:
        return copy.deepcopy(self)

    def write(self, folder: Path) -> None:
        """Write all files below a folder that is not there yet."""
        files = {
            path: self.heading + yaml.safe_dump(document, **self.style)
            for path, document in self.documents.items()
        }
        for path, text in {**self.texts, **files}.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)


TEXTS = {
    "macros/chain.sql": """\
{% macro outer(column) %}{{ middle(column) }}{% endmacro %}
{% macro middle(column) %}{{ inner(column) }}{% endmacro %}
{% macro inner(column) %}({{ column }} + 0){% endmacro %}
{% macro never_used() %}1{% endmacro %}
""",
    "macros/cents.sql": """\
{% macro cents(column) %}{{ tools.rounded(column ~ ' / 100.0') }}{% endmacro %}
""",
    "macros/circle.sql": """\
{% macro ping(n) %}{% if n %}{{ pong(n - 1) }}{% else %}1{% endif %}{% endmacro %}
{% macro pong(n) %}{{ ping(n) }}{% endmacro %}
""",
    "macros/generate_schema_name.sql": """\
{% macro generate_schema_name(name, node) %}{{ name or target.schema }}{% endmacro %}
""",
    "macros/hooks.sql": "{% macro noted() %}select 'noted'{% endmacro %}\n",
    "dbt_packages/tools/macros/tools.sql": """\
{% macro rounded(column) %}round({{ tools.scaled(column) }}){% endmacro %}
{% macro scaled(column) %}({{ column }} * 1){% endmacro %}
{% test not_blank(model, column_name) %}
select * from {{ model }} where {{ tools.scaled(column_name) }} is null
{% endtest %}
""",
    "dbt_packages/tools/models/tool.sql": "select 1 as n\n",
    "tests/generic/is_positive.sql": """\
{% test is_positive(model, column_name, least=0) %}
select * from {{ model }} where {{ middle(column_name) }} < {{ least }}
{% endtest %}
""",
    "tests/no_large_orders.sql": """\
{{ config(severity='warn') }}
select * from {{ ref('orders') }} where amount > 1000
""",
    "models/docs.md": """\
{% docs said %}What it is.{% enddocs %}
{% docs of_column %}What the column is.{% enddocs %}
""",
    "models/staging/stg_orders.sql": """\
{{ config(materialized='view', tags=['staged']) }}
select order_id, customer_id, {{ cents('amount') }} as amount from {{ source('erp', 'orders') }}
""",
    "models/staging/stg_customers.sql": """\
select customer_id, {{ outer('country_id') }} as country_id from {{ source('crm', 'customers') }}
""",
    "models/marts/orders.sql": """\
select order_id, customer_id, amount, cast('2024-01-01' as date) as ordered_on
from {{ ref('stg_orders') }} join {{ ref('short') }} using (customer_id)
where '{{ var("currency") }}' = 'eur' and '{{ env_var("SHOP_SCHEMA") }}' <> ''
""",
    "models/marts/short.sql": """\
{{ config(materialized='ephemeral') }}
select customer_id from {{ ref('stg_customers') }}
""",
    "models/marts/daily.sql": """\
{{ config(materialized='incremental', unique_key='ordered_on', pre_hook="{{ noted() }}") }}
select ordered_on, sum(amount) as amount from {{ ref('orders') }} group by 1
{% if is_incremental() %} having ordered_on > '2024-01-01' {% endif %}
""",
    "models/marts/documented.sql": "select order_id, amount from {{ ref('orders') }}\n",
    "models/marts/agreed.sql": "select 1 as id, 'a' as name\n",
    "models/marts/agreed_view.sql": "select 1 as id, 'a' as name\n",
    "models/marts/price_v1.sql": "select 1 as price\n",
    "models/marts/price_v2.sql": "select 2 as price\n",
    "models/marts/promise_v1.sql": "select 1 as price\n",
    "models/marts/paid.sql": "select price, {{ ping(1) }} as n from {{ ref('price') }}\n",
    "models/marts/days.sql": "select cast('2024-01-01' as date) as date_day\n",
    "models/marts/scored.py": """\
def model(dbt, session):
    dbt.config(materialized="table")
    return dbt.ref("orders")
""",
    "models/marts/areas.sql": "select {{ function('area') }}(2) as area\n",
    "analyses/study.sql": "select {{ outer('amount') }} from {{ ref('orders') }}\n",
    "functions/area.sql": "x * x\n",
    "seeds/countries.csv": "country_id,name\n1,Netherlands\n2,Belgium\n",
    # dbt compares no data above 1 MiB.
    "seeds/large.csv": "n\n" + "1234567\n" * 140_000,
    "snapshots/as_block.sql": """\
{% snapshot kept_orders %}
{{ config(unique_key='order_id', strategy='check', check_cols=['amount']) }}
select * from {{ ref('stg_orders') }}
{% endsnapshot %}
""",
}

DOCUMENTS = """\
dbt_project.yml:
  name: shop
  version: "1.0"
  profile: shop
  flags: {send_anonymous_usage_stats: false}
  vars: {currency: eur}
  on-run-end: ["{{ noted() }}"]
  models:
    shop:
      staging: {+docs: {node_color: gold}}
      marts: {+materialized: table}
  seeds:
    shop: {+quote_columns: false}
  snapshots:
    shop: {+meta: {kept: true}}
profiles.yml:
  shop:
    target: dev
    outputs:
      dev: {type: duckdb, path: ":memory:", schema: analytics}
packages.yml:
  packages: [{local: dbt_packages/tools}]
dbt_packages/tools/dbt_project.yml:
  name: tools
  version: "1.0"
  models: {tools: {+materialized: view}}
models/sources.yml:
  sources:
    - name: erp
      schema: "{{ env_var('SHOP_SCHEMA') }}"
      description: The ledger.
      tables:
        - name: orders
          columns:
            - name: order_id
              data_tests: [not_null]
        - name: deliveries
          identifier: deliveries_2024
          external: {location: "s3://bucket/", file_format: parquet, rest: 1}
    - name: crm
      schema: "{{ target.schema }}"
      quoting: {schema: true}
      loaded_at_field: loaded_at
      config:
        freshness: {warn_after: {count: 12, period: hour}}
      tables: [{name: customers}]
models/staging/staging.yml:
  models:
    - name: stg_orders
      description: One row for each order.
      config: {meta: {owner: ada}, grants: {select: [reader]}}
      columns:
        - name: order_id
          data_tests:
            - unique
            - tools.not_blank: {name: orders_are_not_blank}
        - name: amount
          data_tests:
            - is_positive:
                arguments: {least: 1}
                config: {severity: warn, where: "amount > 0"}
    - name: stg_customers
      columns: [{name: customer_id, data_tests: [{not_null: {name: customers_are_there}}]}]
  unit_tests:
    - name: customers_have_countries
      model: short
      given:
        - input: ref('stg_customers')
          rows: [{customer_id: 1}]
      expect:
        rows: [{customer_id: 1}]
models/marts/marts.yml:
  groups:
    - {name: finance, owner: {name: Ada, email: ada@example.org}}
    - {name: sales, owner: {name: Bo}}
  models:
    - name: orders
      description: All orders.
      access: public
      config: {group: finance, alias: all_orders, schema: sales}
    - name: documented
      description: "{{ doc('said') }}"
      config: {persist_docs: {relation: true, columns: true}}
      columns:
        - {name: order_id, description: "{{ doc('of_column') }}"}
        - {name: amount, description: How much.}
    - name: agreed
      config: {contract: {enforced: true}, materialized: table}
      constraints: [{type: check, expression: id > 0}]
      columns:
        - {name: id, data_type: int, constraints: [{type: not_null}]}
        - {name: name, data_type: varchar(3)}
    - name: agreed_view
      config: {contract: {enforced: true}, materialized: view}
      columns:
        - {name: id, data_type: int}
        - {name: name, data_type: varchar}
    - name: price
      latest_version: 1
      columns: [{name: price, data_type: int}]
      versions: [{v: 1, deprecation_date: 2030-01-01}, {v: 2}]
    - name: promise
      config: {contract: {enforced: true}}
      columns: [{name: price, data_type: int}]
      versions: [{v: 1}]
    - name: days
      time_spine: {standard_granularity_column: date_day}
      columns: [{name: date_day, granularity: day}]
  exposures:
    - name: board
      type: dashboard
      label: The board
      maturity: low
      url: https://example.org/board
      description: For the board.
      owner: {name: Ada, email: ada@example.org, chat: "#finance"}
      depends_on: [ref('daily'), ref('orders')]
      config: {meta: {seen: often}, tags: [board]}
models/semantic.yml:
  semantic_models:
    - name: sales
      model: ref('orders')
      description: Sales.
      defaults: {agg_time_dimension: ordered_on}
      entities:
        - {name: order, type: primary, expr: order_id}
      dimensions:
        - {name: ordered_on, type: time, type_params: {time_granularity: day}}
        - {name: customer_id, type: categorical}
      measures:
        - {name: revenue, agg: sum, expr: amount}
        - {name: orders, agg: count, expr: order_id}
      config: {meta: {owner: ada}}
  metrics:
    - name: revenue
      label: Revenue
      description: All of it.
      type: simple
      type_params: {measure: revenue}
      config: {meta: {owner: ada}}
    - name: orders
      label: Orders
      type: simple
      type_params: {measure: orders}
    - name: average
      label: Average
      type: ratio
      type_params: {numerator: revenue, denominator: orders}
  saved_queries:
    - name: weekly
      label: Weekly
      description: Once a week.
      query_params:
        metrics: [revenue]
        group_by: ["TimeDimension('order__ordered_on', 'day')"]
        where: ["{{ Dimension('order__customer_id') }} > 0"]
      config: {cache: {enabled: true}, tags: [weekly]}
      exports:
        - {name: to_table, config: {export_as: table, schema: exported, alias: weekly}}
seeds/seeds.yml:
  seeds:
    - name: countries
      description: Countries.
      config: {column_types: {country_id: integer}}
snapshots/snapshots.yml:
  snapshots:
    - name: kept_customers
      relation: ref('stg_customers')
      config: {unique_key: customer_id, strategy: check, check_cols: all, schema: kept}
functions/functions.yml:
  functions:
    - name: area
      description: Of a square.
      arguments: [{name: x, data_type: float}]
      returns: {data_type: float}
"""


def base(version: str) -> Project:
    project = Project(texts=dict(TEXTS), documents=yaml.safe_load(DOCUMENTS))
    if version == DBT_V2:
        FOR_V2(project)
    return project


# How an edit says what it changes -----------------------------------------------------------------

Edit = Callable[[Project], None]
GONE = object()

PROJECT = "dbt_project.yml"
SOURCES, STAGING = "models/sources.yml", "models/staging/staging.yml"
MARTS, SEMANTIC = "models/marts/marts.yml", "models/semantic.yml"
SEEDS, SNAPSHOTS, FUNCTIONS = (
    "seeds/seeds.yml",
    "snapshots/snapshots.yml",
    "functions/functions.yml",
)
CHAIN, TOOLS = "macros/chain.sql", "dbt_packages/tools/macros/tools.sql"


def at(document: Any, key: str | int) -> Any:
    """The value of a key; in a list the item of that name, in place."""
    if isinstance(document, list) and isinstance(key, str):
        for item in document:
            if isinstance(item, dict) and item.get("name") == key:
                return item
        raise NotApplicable(key)
    if isinstance(document, dict):
        return document.setdefault(key, {})
    try:
        return document[key]
    except (IndexError, KeyError, TypeError) as error:
        raise NotApplicable(key) from error


def put(path: str, *keys: str | int, to: Any) -> Edit:
    """Set, or with GONE remove, what `keys` lead to in a document."""

    def edit(project: Project) -> None:
        if path not in project.documents:
            raise NotApplicable(path)
        document = project.documents[path]
        for key in keys[:-1]:
            document = at(document, key)
        last: Any = keys[-1]
        if to is not GONE:
            if not isinstance(document, (dict, list)):
                raise NotApplicable(path)
            document[last] = copy.deepcopy(to)
        elif isinstance(document, list) and isinstance(last, str):
            document.remove(at(document, last))
        else:
            try:
                del document[last]
            except (IndexError, KeyError, TypeError) as error:
                raise NotApplicable(path) from error

    return edit


def add(path: str, *keys: str | int, item: Any) -> Edit:
    """Append to a list of a document."""

    def edit(project: Project) -> None:
        document = project.documents.get(path, {})
        for key in keys[:-1]:
            document = at(document, key)
        if not isinstance(document, (dict, list)):
            raise NotApplicable(path)
        if isinstance(document, dict):
            document = document.setdefault(str(keys[-1]), [])
        else:
            document = at(document, keys[-1])
        if not isinstance(document, list):
            raise NotApplicable(path)
        document.append(copy.deepcopy(item))

    return edit


def text(path: str, old: str, new: str) -> Edit:
    """Replace a part of a file; all that is there when `old` is empty."""

    def edit(project: Project) -> None:
        if old not in project.texts.get(path, ""):
            raise NotApplicable(path)
        project.texts[path] = project.texts[path].replace(old, new) if old else new

    return edit


def more(path: str, end: str) -> Edit:
    """Write something at the end of a file."""

    def edit(project: Project) -> None:
        if path not in project.texts:
            raise NotApplicable(path)
        project.texts[path] += end

    return edit


def create(path: str, content: str) -> Edit:
    def edit(project: Project) -> None:
        project.texts[path] = content

    return edit


def move(path: str, to: str | None) -> Edit:
    """Move a file; delete it when there is no place to move it to."""

    def edit(project: Project) -> None:
        files: dict[str, Any] = project.texts if path in project.texts else project.documents
        if path not in files:
            raise NotApplicable(path)
        content = files.pop(path)
        if to is not None:
            files[to] = content

    return edit


def both(*edits: Edit) -> Edit:
    def edit(project: Project) -> None:
        for one in edits:
            one(project)

    return edit


def told(**changes: Any) -> Edit:
    """Change what is beside the files."""

    def edit(project: Project) -> None:
        for name, value in changes.items():
            setattr(project, name, value)

    return edit


def config_of(model: str, **values: Any) -> Edit:
    return both(*(put(MARTS, "models", model, "config", key, to=values[key]) for key in values))


STG = ("models", "stg_orders")
ORDERS = ("models", "orders")
ERP, CRM = ("sources", "erp", "tables"), ("sources", "crm")
BOARD = ("exposures", "board")
SALES = ("semantic_models", "sales")
REVENUE = ("metrics", "revenue")
WEEKLY = ("saved_queries", "weekly")
UNIT = ("unit_tests", "customers_have_countries")
POSITIVE = (*STG, "columns", "amount", "data_tests", 0, "is_positive")
IS_THERE = ("columns", "customer_id", "data_tests", 0, "not_null")
AREA = ("functions", "area")
KEPT = ("snapshots", "kept_customers", "config")

# Each edit by its name, and the kinds of reasons that are found anywhere in the project.
EDITS: dict[str, tuple[Edit, str]] = {
    # Nothing that dbt compares.
    "nothing": (both(), ""),
    "yml-key-order": (told(style={"indent": 2, "sort_keys": True}), ""),
    "yml-indentation": (told(style={"indent": 6, "sort_keys": False}), ""),
    "yml-comment": (told(heading="# A comment.\n\n"), ""),
    "description": (put(STAGING, *STG, "description", to="Other."), ""),
    "source-description": (put(SOURCES, "sources", "erp", "description", to="Other."), ""),
    "tags-in-yml": (put(STAGING, *STG, "config", "tags", to=["x"]), ""),
    "tags-in-project": (put(PROJECT, "models", "shop", "+tags", to=["x"]), ""),
    "group": (config_of("orders", group="sales"), ""),
    "group-owner": (put(MARTS, "groups", "finance", "owner", "email", to="b@example.org"), ""),
    "data-of-large-seed": (more("seeds/large.csv", "7\n"), ""),
    "macro-never-used": (text(CHAIN, "never_used() %}1", "never_used() %}2"), ""),
    "macro-new": (create("macros/other.sql", "{% macro other() %}1{% endmacro %}\n"), ""),
    "var-in-project": (put(PROJECT, "vars", "currency", to="usd"), ""),
    "var-of-command": (told(flags=["--vars", "{currency: usd}"]), ""),
    "unit-test-description": (put(STAGING, *UNIT, "description", to="Other."), ""),
    "version-of-project": (put(PROJECT, "version", to="2.0"), ""),
    "hook-of-project": (put(PROJECT, "on-run-end", to=["select 1"]), ""),
    "model-gone": (move("models/marts/paid.sql", None), ""),
    "seed-gone": (move("seeds/large.csv", None), ""),
    "snapshot-gone": (move("snapshots/as_block.sql", None), ""),
    "test-gone": (put(STAGING, *STG, "columns", "amount", "data_tests", to=[]), ""),
    "metric-type-params": (
        put(SEMANTIC, "metrics", "average", "type_params", "numerator", to="orders"),
        "",
    ),
    "doc-block-not-persisted": (put(STAGING, *STG, "description", to="{{ doc('said') }}"), ""),
    # The body.
    "body": (more("models/marts/paid.sql", "limit 1\n"), "body"),
    "body-whitespace": (text("models/marts/paid.sql", "select ", "select  "), "body"),
    "body-last-newline": (more("models/marts/paid.sql", "\n\n"), ""),
    "body-comment": (more("models/marts/paid.sql", "-- x\n"), "body"),
    "body-of-python": (more("models/marts/scored.py", "\n\nX = 1\n"), "body"),
    "body-of-singular-test": (more("tests/no_large_orders.sql", "limit 9\n"), "body"),
    "body-of-analysis": (more("analyses/study.sql", "limit 1\n"), "body"),
    "body-of-snapshot": (
        text("snapshots/as_block.sql", "select *", "select 1 as one, *"),
        "body",
    ),
    "body-of-function": (text("functions/area.sql", "", "x * x * 1\n"), "body"),
    "relation-of-snapshot": (
        put(SNAPSHOTS, "snapshots", "kept_customers", "relation", to="ref('stg_orders')"),
        "body",
    ),
    "data-of-seed": (more("seeds/countries.csv", "3,France\n"), "body"),
    "unit-test-expectation": (
        put(STAGING, *UNIT, "expect", "rows", to=[{"customer_id": 2}]),
        "body",
    ),
    "unit-test-input": (
        put(STAGING, *UNIT, "given", 0, "rows", to=[{"customer_id": 2}]),
        "body",
    ),
    "unit-test-overrides": (
        put(STAGING, *UNIT, "overrides", to={"vars": {"currency": "usd"}}),
        "body",
    ),
    # Configs.
    "materialized-in-sql": (
        text("models/staging/stg_orders.sql", "'view'", "'table'"),
        "body configs",
    ),
    "materialized-in-yml": (put(STAGING, *STG, "config", "materialized", to="table"), ""),
    "materialized-in-yml-alone": (config_of("orders", materialized="view"), "configs"),
    "materialized-in-project": (
        put(PROJECT, "models", "shop", "marts", "+materialized", to="view"),
        "configs contract",
    ),
    "materialized-explicitly-as-it-is": (config_of("documented", materialized="table"), ""),
    "config-with-jinja": (
        put(PROJECT, "models", "shop", "+enabled", to="{{ target.name == 'dev' }}"),
        "configs",
    ),
    "tags-in-sql": (text("models/staging/stg_orders.sql", "['staged']", "['x']"), "body"),
    "meta": (put(STAGING, *STG, "config", "meta", "owner", to="bo"), "configs"),
    "meta-of-columns": (put(STAGING, *STG, "columns", "amount", "meta", to={"a": 1}), ""),
    "meta-in-project": (put(PROJECT, "snapshots", "shop", "+meta", to={"kept": 2}), "configs"),
    "meta-beside-config": (put(MARTS, *ORDERS, "meta", to={"other": 1}), "configs"),
    "grants": (put(STAGING, *STG, "config", "grants", "select", to=["x"]), "configs"),
    "docs": (config_of("orders", docs={"show": False}), "configs"),
    "docs-in-project": (
        put(PROJECT, "models", "shop", "staging", "+docs", "node_color", to="red"),
        "configs",
    ),
    "event-time": (config_of("orders", event_time="ordered_on"), "configs"),
    "hook-in-yml": (config_of("orders", pre_hook="select 1"), "configs"),
    "hook-with-hyphen": (config_of("orders", **{"post-hook": "select 1"}), "configs"),
    "hook-in-project": (put(PROJECT, "models", "+post-hook", to=["select 1"]), "configs"),
    "hook-in-sql": (
        text("models/marts/daily.sql", 'pre_hook="{{ noted() }}"', 'pre_hook="select 1"'),
        "body configs",
    ),
    "column-types": (
        put(SEEDS, "seeds", "countries", "config", "column_types", to={"name": "text"}),
        "configs",
    ),
    "seed-in-project": (put(PROJECT, "seeds", "shop", "+quote_columns", to=True), "configs"),
    "unknown-config": (config_of("orders", bespoke={"a": [1]}), "configs"),
    "config-set-to-null": (config_of("orders", full_refresh=None), "configs"),
    "config-is-a-date": (config_of("orders", begin="2024-01-01"), "configs"),
    "persist-docs-on": (config_of("orders", persist_docs={"relation": True}), "configs"),
    "persist-docs-off": (config_of("documented", persist_docs={}), "configs"),
    "disabled-and-on": (config_of("orders", enabled=True), "configs"),
    "snapshot-strategy": (put(SNAPSHOTS, *KEPT, "check_cols", to=["country_id"]), "configs"),
    "snapshot-meta-columns": (
        put(SNAPSHOTS, *KEPT, "snapshot_meta_column_names", to={"dbt_valid_to": "till"}),
        "configs",
    ),
    "test-severity": (put(STAGING, *POSITIVE, "config", "severity", to="error"), "configs"),
    "test-where": (put(STAGING, *POSITIVE, "config", "where", to=GONE), "configs"),
    "test-sql-header": (put(STAGING, *POSITIVE, "config", "sql_header", to="set a=1"), ""),
    "test-tags": (put(STAGING, *POSITIVE, "config", "tags", to=["x"]), ""),
    "test-meta": (put(STAGING, *POSITIVE, "config", "meta", to={"a": 1}), ""),
    "test-store-failures": (
        put(STAGING, *POSITIVE, "config", "store_failures", to=True),
        "configs",
    ),
    "test-schema": (put(STAGING, *POSITIVE, "config", "schema", to="x"), ""),
    "test-description": (put(STAGING, *POSITIVE, "description", to="x"), ""),
    "tests-in-project": (put(PROJECT, "data_tests", "+severity", to="warn"), "configs"),
    "tests-persist-docs": (
        both(
            put(PROJECT, "data_tests", "+persist_docs", to={"relation": True}),
            create("tests/tests.yml", "data_tests: [{name: no_large_orders, description: x}]\n"),
        ),
        "",
    ),
    "function-config": (put(FUNCTIONS, *AREA, "config", to={"volatility": "stable"}), "configs"),
    # Where it is built.
    "schema": (config_of("orders", schema="other"), "relation"),
    "schema-in-project": (put(PROJECT, "models", "+schema", to="all"), "relation"),
    "schema-gone": (config_of("orders", schema=GONE), "relation"),
    "alias": (config_of("orders", alias="orders_all"), "relation"),
    "database": (config_of("orders", database="memory"), "relation"),
    "schema-of-seed": (put(SEEDS, "seeds", "countries", "config", "schema", to="x"), "relation"),
    "schema-of-snapshot": (put(SNAPSHOTS, *KEPT, "schema", to="x"), "relation"),
    "schema-of-target": (
        put("profiles.yml", "shop", "outputs", "dev", "schema", to="ci"),
        "",
    ),
    "env-var": (told(environ={"SHOP_SCHEMA": "erp2"}), ""),
    # Macros.
    "macro": (text("macros/cents.sql", "100.0", "100.00"), "macros"),
    "macro-three-deep": (text(CHAIN, "+ 0", "+ 00"), "macros"),
    "macro-in-the-middle": (text(CHAIN, "{{ inner(column) }}", "{{ inner(column) }} "), "macros"),
    "macro-whitespace": (text(CHAIN, "+ 0)", "+ 0 )"), "macros"),
    "macro-description": (
        create("macros/macros.yml", "macros: [{name: outer, description: x}]\n"),
        "",
    ),
    "macro-calls-another": (
        text(CHAIN, "{{ inner(column) }}", "{{ column }}"),
        "macros",
    ),
    "macro-of-package": (text(TOOLS, "* 1", "* 1.0"), "macros"),
    "macro-in-circle": (text("macros/circle.sql", "{{ ping(n) }}", "{{ ping( n ) }}"), "macros"),
    "macro-of-hook": (text("macros/hooks.sql", "'noted'", "'seen'"), "macros"),
    "macro-of-schema": (
        text("macros/generate_schema_name.sql", "target.schema", "target.schema | trim"),
        "",
    ),
    "macro-of-schema-gone": (move("macros/generate_schema_name.sql", None), ""),
    "macro-overrides-that-of-dbt": (
        create(
            "macros/tests.sql",
            "{% macro default__test_not_null(model, column_name) %}select 1{% endmacro %}\n",
        ),
        "macros",
    ),
    "macro-moved": (move("macros/cents.sql", "macros/money/cents.sql"), ""),
    "macro-replaced": (
        both(
            text(CHAIN, "inner(column) }}", "innermost(column) }}"),
            text(CHAIN, "macro inner(", "macro innermost("),
        ),
        "macros",
    ),
    "generic-test-macro": (
        text("tests/generic/is_positive.sql", "select *", "select 1"),
        "macros",
    ),
    # Moved, new.
    "model-moved": (move("models/marts/paid.sql", "models/marts/deep/paid.sql"), "moved"),
    "model-renamed": (move("models/marts/paid.sql", "models/marts/paid_all.sql"), "new"),
    "seed-moved": (move("seeds/countries.csv", "seeds/x/countries.csv"), "moved"),
    "large-seed-moved": (move("seeds/large.csv", "seeds/x/large.csv"), "body moved"),
    "snapshot-moved": (move("snapshots/as_block.sql", "snapshots/x/as_block.sql"), "moved"),
    "singular-test-moved": (
        move("tests/no_large_orders.sql", "tests/x/no_large_orders.sql"),
        "moved",
    ),
    "analysis-moved": (move("analyses/study.sql", "analyses/x/study.sql"), "moved"),
    "yml-moved": (move(STAGING, "models/staging.yml"), "moved"),
    "semantic-yml-moved": (move(SEMANTIC, "models/x/semantic.yml"), ""),
    "sources-yml-moved": (move(SOURCES, "models/x/sources.yml"), "moved"),
    "function-moved": (move("functions/area.sql", "functions/x/area.sql"), "moved"),
    "model-new": (create("models/marts/more.sql", "select {{ outer('1') }} as n\n"), "new"),
    "test-new": (add(STAGING, *STG, "columns", "amount", "data_tests", item="not_null"), "new"),
    "test-arguments": (put(STAGING, *POSITIVE, "arguments", "least", to=2), "new"),
    "singular-test-new": (create("tests/other.sql", "select 1 where false\n"), "new"),
    "unit-test-new": (
        add(
            STAGING,
            "unit_tests",
            item={
                "name": "other",
                "model": "short",
                "given": [{"input": "ref('stg_customers')", "rows": [{"customer_id": 3}]}],
                "expect": {"rows": [{"customer_id": 3}]},
            },
        ),
        "new",
    ),
    "test-renamed": (
        put(STAGING, "models", "stg_customers", *IS_THERE, "name", to="customers_are_here"),
        "new",
    ),
    "source-new": (add(SOURCES, *ERP, item={"name": "returns"}), ""),
    "exposure-new": (
        add(MARTS, "exposures", item={"name": "x", "type": "ml", "owner": {"email": "a@b.c"}}),
        "",
    ),
    "metric-new": (
        add(
            SEMANTIC,
            "metrics",
            item={
                "name": "extra",
                "label": "Extra",
                "type": "simple",
                "type_params": {"measure": "orders"},
            },
        ),
        "",
    ),
    "version-added": (
        both(
            add(MARTS, "models", "price", "versions", item={"v": 3}),
            create("models/marts/price_v3.sql", "select 3 as price\n"),
        ),
        "new",
    ),
    # Contracts.
    "contract-on": (
        both(
            config_of("documented", contract={"enforced": True}),
            put(MARTS, "models", "documented", "columns", "order_id", "data_type", to="int"),
            put(MARTS, "models", "documented", "columns", "amount", "data_type", to="float"),
        ),
        "configs contract",
    ),
    "contract-off": (config_of("agreed", contract={"enforced": False}), "configs contract"),
    "contract-removed": (config_of("agreed", contract=GONE), "configs contract"),
    "contract-type": (
        put(MARTS, "models", "agreed", "columns", "id", "data_type", to="text"),
        "contract",
    ),
    "contract-length": (
        put(MARTS, "models", "agreed", "columns", "name", "data_type", to="varchar(10)"),
        "contract",
    ),
    "contract-column-new": (
        add(MARTS, "models", "agreed", "columns", item={"name": "x", "data_type": "int"}),
        "contract",
    ),
    "contract-column-gone": (
        put(MARTS, "models", "agreed", "columns", "name", to=GONE),
        "contract",
    ),
    "contract-column-constraint": (
        put(MARTS, "models", "agreed", "columns", "id", "constraints", to=[]),
        "contract",
    ),
    "contract-constraint": (put(MARTS, "models", "agreed", "constraints", to=GONE), "contract"),
    "contract-constraint-of-view": (
        put(
            MARTS, "models", "agreed_view", "constraints", to=[{"type": "check", "expression": "1"}]
        ),
        "",
    ),
    "column-type-without-contract": (
        put(MARTS, "models", "price", "columns", "price", "data_type", to="text"),
        "",
    ),
    # Descriptions that dbt writes into the database.
    "description-persisted": (
        put(MARTS, "models", "documented", "description", to="Other."),
        "persisted_descriptions",
    ),
    "doc-block-persisted": (
        text("models/docs.md", "What it is.", "Other."),
        "persisted_descriptions",
    ),
    "column-description-persisted": (
        put(MARTS, "models", "documented", "columns", "amount", "description", to="Other."),
        "persisted_descriptions",
    ),
    "column-persisted-new": (
        add(MARTS, "models", "documented", "columns", item={"name": "x"}),
        "persisted_descriptions",
    ),
    "column-order": (
        lambda project: project.documents[MARTS]["models"][1]["columns"].reverse(),
        "",
    ),
    # Access and versions.
    "access": (put(MARTS, *ORDERS, "access", to="protected"), "access configs"),
    "access-in-config": (
        config_of("documented", access="private", group="finance"),
        "access configs",
    ),
    "latest-version": (put(MARTS, "models", "price", "latest_version", to=2), "access"),
    "deprecation-date": (
        put(MARTS, "models", "price", "versions", 0, "deprecation_date", to="2031-01-01"),
        "access",
    ),
    "deprecation-date-as-text": (
        put(MARTS, "models", "price", "versions", 0, "deprecation_date", to="2030-01-01"),
        "",
    ),
    # Sources.
    "source-schema": (put(SOURCES, *CRM, "schema", to="crm"), "relation"),
    "source-schema-as-rendered": (put(SOURCES, *CRM, "schema", to="analytics"), "relation"),
    "source-database": (put(SOURCES, *CRM, "database", to="other"), "relation"),
    "source-identifier": (put(SOURCES, *ERP, "deliveries", "identifier", to="x"), "relation"),
    "source-quoting": (put(SOURCES, *CRM, "quoting", "schema", to=False), "property"),
    "source-quoting-of-table": (
        put(SOURCES, *ERP, "orders", "quoting", to={"identifier": True}),
        "property",
    ),
    "source-freshness": (
        put(SOURCES, *CRM, "config", "freshness", "warn_after", "count", to=6),
        "configs property",
    ),
    "source-freshness-gone": (put(SOURCES, *CRM, "config", to=GONE), "configs property"),
    "source-freshness-null": (
        put(SOURCES, *CRM, "config", "freshness", to=None),
        "configs property",
    ),
    "source-freshness-beside-config": (
        put(SOURCES, *ERP, "orders", "freshness", to={"warn_after": {"count": 1, "period": "day"}}),
        "configs property",
    ),
    "source-loaded-at-field": (put(SOURCES, *CRM, "loaded_at_field", to="at"), "configs property"),
    "source-loaded-at-query": (
        both(
            put(SOURCES, *CRM, "loaded_at_field", to=GONE),
            put(SOURCES, *CRM, "loaded_at_query", to="select 1"),
        ),
        "configs property",
    ),
    "source-external": (
        put(SOURCES, *ERP, "deliveries", "external", "location", to="s3://other/"),
        "property",
    ),
    "source-external-extra": (
        put(SOURCES, *ERP, "deliveries", "external", "rest", to=2),
        "property",
    ),
    "source-external-gone": (put(SOURCES, *ERP, "deliveries", "external", to=GONE), "property"),
    "source-meta": (put(SOURCES, *ERP, "orders", "config", "meta", to={"a": 1}), "configs"),
    "source-meta-beside-config": (put(SOURCES, *ERP, "orders", "meta", to={"a": 1}), "configs"),
    "source-tags": (put(SOURCES, *ERP, "orders", "tags", to=["x"]), "configs"),
    "source-tags-in-config": (put(SOURCES, *ERP, "orders", "config", "tags", to=["x"]), "configs"),
    "source-event-time": (put(SOURCES, *CRM, "config", "event_time", to="at"), "configs"),
    "source-loader": (put(SOURCES, *CRM, "loader", to="fivetran"), ""),
    "source-column": (add(SOURCES, *ERP, "orders", "columns", item={"name": "x"}), ""),
    "source-in-project": (put(PROJECT, "sources", "shop", "+meta", to={"a": 1}), ""),
    # Exposures.
    "exposure-type": (put(MARTS, *BOARD, "type", to="ml"), "property"),
    "exposure-owner": (put(MARTS, *BOARD, "owner", "name", to="Bo"), "property"),
    "exposure-owner-email": (put(MARTS, *BOARD, "owner", "email", to=["a@b.c"]), "property"),
    "exposure-owner-extra": (put(MARTS, *BOARD, "owner", "chat", to="#other"), "property"),
    "exposure-maturity": (put(MARTS, *BOARD, "maturity", to="high"), "property"),
    "exposure-url": (put(MARTS, *BOARD, "url", to="https://example.org"), "property"),
    "exposure-description": (put(MARTS, *BOARD, "description", to="x"), "property"),
    "exposure-label": (put(MARTS, *BOARD, "label", to="x"), "property"),
    "exposure-depends-on": (put(MARTS, *BOARD, "depends_on", to=["ref('daily')"]), "property"),
    "exposure-depends-on-order": (
        put(MARTS, *BOARD, "depends_on", to=["ref('orders')", "ref('daily')"]),
        "",
    ),
    "exposure-meta": (put(MARTS, *BOARD, "config", "meta", to={}), "configs"),
    "exposure-meta-beside-config": (put(MARTS, *BOARD, "meta", to={"a": 1}), ""),
    "exposure-tags": (put(MARTS, *BOARD, "config", "tags", to=["x"]), "configs"),
    # Metrics, semantic models, saved queries.
    "metric-type": (
        put(SEMANTIC, *REVENUE, "type", to="cumulative"),
        "property",
    ),
    "metric-description": (put(SEMANTIC, *REVENUE, "description", to="x"), "property"),
    "metric-label": (put(SEMANTIC, *REVENUE, "label", to="x"), "property"),
    "metric-filter": (
        put(SEMANTIC, *REVENUE, "filter", to="{{ Dimension('order__customer_id') }} > 1"),
        "",
    ),
    "metric-meta": (put(SEMANTIC, *REVENUE, "config", "meta", to={"a": 1}), "configs"),
    "metric-group": (put(SEMANTIC, *REVENUE, "config", "group", to="sales"), ""),
    "metric-tags": (put(SEMANTIC, *REVENUE, "config", "tags", to=["x"]), "configs"),
    "metric-unknown-config": (put(SEMANTIC, *REVENUE, "config", "bespoke", to=1), "configs"),
    "semantic-model-model": (put(SEMANTIC, *SALES, "model", to="ref('documented')"), "property"),
    "semantic-model-description": (put(SEMANTIC, *SALES, "description", to="x"), "property"),
    "semantic-model-label": (put(SEMANTIC, *SALES, "label", to="x"), ""),
    "semantic-model-defaults": (
        both(
            put(SEMANTIC, *SALES, "defaults", to=GONE),
            put(SEMANTIC, *SALES, "measures", "revenue", "agg_time_dimension", to="ordered_on"),
            put(SEMANTIC, *SALES, "measures", "orders", "agg_time_dimension", to="ordered_on"),
        ),
        "property",
    ),
    "semantic-model-entity": (
        add(SEMANTIC, *SALES, "entities", item={"name": "customer", "type": "foreign"}),
        "property",
    ),
    "semantic-model-dimension": (
        put(SEMANTIC, *SALES, "dimensions", "customer_id", "label", to="x"),
        "property",
    ),
    "semantic-model-measure": (
        put(SEMANTIC, *SALES, "measures", "revenue", "agg", to="max"),
        "property",
    ),
    "semantic-model-measure-meta": (
        put(SEMANTIC, *SALES, "measures", "revenue", "config", to={"meta": {"a": 1}}),
        "property",
    ),
    "semantic-model-primary-entity": (
        both(
            put(SEMANTIC, *SALES, "entities", to=[]),
            put(SEMANTIC, *SALES, "primary_entity", to="order"),
        ),
        "property",
    ),
    "semantic-model-meta": (
        put(SEMANTIC, *SALES, "config", "meta", to={"a": 1}),
        "configs property",
    ),
    "semantic-model-group": (
        put(SEMANTIC, *SALES, "config", "group", to="sales"),
        "configs property",
    ),
    "semantic-model-unknown-config": (
        put(SEMANTIC, *SALES, "config", "bespoke", to=1),
        "configs",
    ),
    "saved-query-metrics": (
        put(SEMANTIC, *WEEKLY, "query_params", "metrics", to=["orders"]),
        "property",
    ),
    "saved-query-group-by": (
        put(SEMANTIC, *WEEKLY, "query_params", "group_by", to=["Dimension('order__customer_id')"]),
        "property",
    ),
    "saved-query-where": (put(SEMANTIC, *WEEKLY, "query_params", "where", to=GONE), "property"),
    "saved-query-order-by": (
        put(SEMANTIC, *WEEKLY, "query_params", "order_by", to=["Metric('revenue')"]),
        "",
    ),
    "saved-query-limit": (put(SEMANTIC, *WEEKLY, "query_params", "limit", to=3), ""),
    "saved-query-description": (put(SEMANTIC, *WEEKLY, "description", to="x"), "property"),
    "saved-query-label": (put(SEMANTIC, *WEEKLY, "label", to="x"), "property"),
    "saved-query-tags": (put(SEMANTIC, *WEEKLY, "config", "tags", to=["x"]), "configs property"),
    "saved-query-cache": (
        put(SEMANTIC, *WEEKLY, "config", "cache", "enabled", to=False),
        "configs",
    ),
    "saved-query-meta": (put(SEMANTIC, *WEEKLY, "config", "meta", to={"a": 1}), "configs"),
    "saved-query-group": (
        put(SEMANTIC, *WEEKLY, "config", "group", to="sales"),
        "configs property",
    ),
    "saved-query-unknown-config": (put(SEMANTIC, *WEEKLY, "config", "bespoke", to=1), "configs"),
    "saved-query-export-name": (put(SEMANTIC, *WEEKLY, "exports", 0, "name", to="x"), "property"),
    "saved-query-export-alias": (
        put(SEMANTIC, *WEEKLY, "exports", 0, "config", "alias", to="x"),
        "property",
    ),
    "saved-query-export-schema": (
        put(SEMANTIC, *WEEKLY, "exports", 0, "config", "schema", to="x"),
        "property",
    ),
    "saved-query-export-as": (
        put(SEMANTIC, *WEEKLY, "exports", 0, "config", "export_as", to="view"),
        "property",
    ),
    "saved-query-export-new": (
        add(SEMANTIC, *WEEKLY, "exports", item={"name": "x", "config": {"export_as": "table"}}),
        "property",
    ),
    "saved-query-export-gone": (put(SEMANTIC, *WEEKLY, "exports", to=[]), "property"),
    # Functions.
    "function-argument": (
        put(FUNCTIONS, *AREA, "arguments", "x", "data_type", to="int"),
        "property",
    ),
    "function-argument-description": (
        put(FUNCTIONS, *AREA, "arguments", "x", "description", to="a"),
        "property",
    ),
    "function-returns": (put(FUNCTIONS, *AREA, "returns", "data_type", to="int"), "property"),
    "function-description": (put(FUNCTIONS, *AREA, "description", to="x"), ""),
}

# What ends `ls` and `build` of dbt v2 with an error, where dbt Core only warns.
BREAKING_TO_V2 = frozenset({"contract-removed"})

# Edits that dbt cannot answer for: it ends with an error, in `ls` as in `build`.
REFUSED: dict[str, Edit] = {
    "contract-of-version-off": put(
        MARTS, "models", "promise", "config", "contract", "enforced", to=False
    ),
    "contract-of-version-type": put(
        MARTS, "models", "promise", "columns", "price", "data_type", to="text"
    ),
    "contract-of-version-gone": both(
        move("models/marts/promise_v1.sql", None), put(MARTS, "models", "promise", to=GONE)
    ),
}

REFUSED_BY_VERSION = {
    **{version: [*REFUSED] for version in DBT_VERSIONS},
    # It sees no columns, and breaks as well where dbt Core only warns.
    DBT_V2: ["contract-of-version-off", *sorted(BREAKING_TO_V2)],
}

# Projects that dbt Core finds modified when nothing is: JSON does not keep the value as it was.
UNSTEADY: dict[str, Edit] = {
    "numbers-as-keys": put(STAGING, *STG, "config", "meta", to={1: "a"}),
    "date-in-meta": put(STAGING, *STG, "config", "meta", to={"since": date(2024, 1, 1)}),
    "begin": config_of("orders", begin=date(2024, 1, 1)),
    "tuple-in-sql": more("models/marts/paid.sql", "{{ config(unique_key=('price', 'n')) }}\n"),
}

# dbt 1.12 has them, each in a file of its own.
OVERLOAD = both(
    create("functions/area_of_two.sql", "x * y\n"),
    put(
        FUNCTIONS,
        *AREA,
        "overloads",
        to=[
            {
                "defined_in": "area_of_two",
                "arguments": [
                    {"name": "x", "data_type": "float"},
                    {"name": "y", "data_type": "float"},
                ],
                "returns": {"data_type": "float"},
            }
        ],
    ),
)
OVERLOAD_BODY = text("functions/area_of_two.sql", "x * y", "y * x")

# Where the kinds of an edit depend on the version of dbt.
KINDS_OF_VERSION = {
    # It compares what was written, and 1.11 what came of it.
    ("source-schema-as-rendered", "1.11"): "",
    ("env-var", "1.11"): "relation",
    ("schema-of-target", "1.11"): "relation",
    ("test-sql-header", "1.12"): "configs",
}

# dbt v2 -------------------------------------------------------------------------------------------

# It wants these two in `config`, and then there are edits for them there.
FOR_V2 = both(
    put(SOURCES, *CRM, "loaded_at_field", to=GONE),
    put(SOURCES, *CRM, "config", "loaded_at_field", to="loaded_at"),
    put(MARTS, *ORDERS, "access", to=GONE),
    put(MARTS, *ORDERS, "config", "access", to="public"),
)
EDITS_OF_V2: dict[str, tuple[Edit, str]] = {
    "v2-loaded-at-field": (put(SOURCES, *CRM, "config", "loaded_at_field", to="at"), "configs"),
    "v2-loaded-at-query": (
        both(
            put(SOURCES, *CRM, "config", "loaded_at_field", to=GONE),
            put(SOURCES, *CRM, "config", "loaded_at_query", to="select 1"),
        ),
        "configs",
    ),
    "v2-access": (put(MARTS, *ORDERS, "config", "access", to="protected"), "configs"),
    "v2-meta-and-quoting-of-source": (
        both(
            put(SOURCES, *CRM, "config", "meta", to={"a": 1}),
            put(SOURCES, *CRM, "quoting", "schema", to=False),
        ),
        "configs",
    ),
    "v2-schema-of-singular-test": (
        text("tests/no_large_orders.sql", "severity=", "schema='x', severity="),
        "relation",
    ),
    "v2-cluster-by": (config_of("orders", cluster_by=["amount"]), "configs"),
    "v2-quotes-in-description": (
        put(MARTS, "models", "documented", "description", to="What   it\nis."),
        "",
    ),
}
# What it does not read, and the names of the edits that begin so: the semantic layer as dbt Core
# writes it. It has another form for it, which dbt Core 1.11 does not read.
UNREAD_BY_V2 = ("metric-", "semantic-", "saved-query-")
# What it refuses to parse: keys of yml that it knows at another place, or not at all.
REFUSED_BY_V2 = frozenset(
    {
        *("access", "exposure-meta-beside-config", "hook-with-hyphen", "meta-beside-config"),
        *("meta-of-columns", "source-freshness-beside-config", "source-loaded-at-field"),
        *("source-loaded-at-query", "source-meta-beside-config", "source-tags"),
        *("tests-persist-docs", "unknown-config"),
    }
)
# What it takes for modified and not for new, and people for new. We say new.
NEVER_NEW_TO_V2 = ("exposure.", "metric.", "semantic_model.", "saved_query.")

# The semantic layer as it reads it. Kept apart: a metric is modified to it in every run.
SEMANTIC_OF_V2 = both(
    put(SEMANTIC, "semantic_models", to=GONE),
    put(SEMANTIC, "metrics", to=GONE),
    put(MARTS, *ORDERS, "semantic_model", to={"enabled": True, "name": "sales"}),
    put(MARTS, *ORDERS, "agg_time_dimension", to="ordered_on"),
    put(
        MARTS,
        *ORDERS,
        "columns",
        to=[
            {"name": "order_id", "entity": {"type": "primary", "name": "order"}},
            {"name": "ordered_on", "granularity": "day", "dimension": {"type": "time"}},
        ],
    ),
    put(
        MARTS,
        *ORDERS,
        "metrics",
        to=[
            {
                "name": "revenue",
                "label": "Revenue",
                "type": "simple",
                "agg": "sum",
                "expr": "amount",
            }
        ],
    ),
    put(
        SEMANTIC,
        "saved_queries",
        to=[
            {
                "name": "weekly",
                "query_params": {
                    "metrics": ["revenue"],
                    "group_by": ["TimeDimension('order__ordered_on', 'day')"],
                },
            }
        ],
    ),
)
SAVED_QUERIES_OF_V2 = {
    "nothing": both(),
    "description": put(SEMANTIC, *WEEKLY, "description", to="x"),
    "group": put(SEMANTIC, *WEEKLY, "config", "group", to="sales"),
    "group-by": put(SEMANTIC, *WEEKLY, "query_params", "group_by", to=[]),
    "new": add(
        SEMANTIC,
        "saved_queries",
        item={"name": "x", "query_params": {"metrics": ["revenue"]}},
    ),
}

# What an edit causes where it is not what it causes in dbt Core.
KINDS_OF_V2 = {
    "body-whitespace": "",
    "body-of-singular-test": "",
    "body-of-snapshot": "body macros",
    "unit-test-expectation": "",
    "unit-test-input": "",
    "unit-test-overrides": "",
    "materialized-in-project": "configs",
    "config-with-jinja": "",
    "meta-in-project": "",
    "event-time": "",
    "config-set-to-null": "",
    "disabled-and-on": "",
    "persist-docs-on": "configs persisted_descriptions",
    "persist-docs-off": "configs persisted_descriptions",
    "test-severity": "",
    "test-where": "",
    "test-store-failures": "",
    "test-tags": "configs",
    "tests-in-project": "",
    "test-meta": "configs",
    "schema-of-target": "relation",
    "env-var": "relation",
    "macro-of-package": "",
    "macro-of-hook": "",
    "macro-overrides-that-of-dbt": "",
    "model-moved": "",
    "analysis-moved": "",
    "function-moved": "",
    "source-new": "new",
    "exposure-new": "new",
    "contract-on": "contract",
    "contract-type": "",
    "contract-length": "",
    "contract-column-new": "",
    "contract-column-gone": "",
    "contract-off": "contract",
    "contract-column-constraint": "",
    "contract-constraint": "",
    "column-persisted-new": "",
    "latest-version": "",
    "deprecation-date": "",
    "source-schema-as-rendered": "",
    "access-in-config": "configs",
    "source-quoting": "",
    "source-quoting-of-table": "",
    "source-freshness-gone": "configs",
    "source-freshness": "configs",
    "source-freshness-null": "configs",
    "source-external-extra": "",
    "source-external": "",
    "source-external-gone": "",
    "source-meta": "",
    "source-tags-in-config": "",
    "exposure-type": "",
    "source-loader": "property",
    "exposure-description": "",
    "exposure-depends-on": "",
    "exposure-meta": "",
    "exposure-tags": "",
    "function-argument": "",
    "function-argument-description": "",
    "function-returns": "",
    "test-renamed": "moved",
}


def edits_of(version: str) -> dict[str, tuple[Edit, str]]:
    """All edits that a version of dbt can answer for, and their kinds."""
    if version != DBT_V2:
        return {
            name: (edit, KINDS_OF_VERSION.get((name, version), kinds))
            for name, (edit, kinds) in EDITS.items()
        }
    left_out = REFUSED_BY_V2 | BREAKING_TO_V2
    return EDITS_OF_V2 | {
        name: (edit, KINDS_OF_V2.get(name, kinds))
        for name, (edit, kinds) in EDITS.items()
        if name not in left_out and not name.startswith(UNREAD_BY_V2)
    }


# What `random_edit` sets anywhere. Some of it dbt refuses at some places.
VALUES: dict[str, list[Any]] = {
    "materialized": ["view", "table", "incremental"],
    "tags": [["a"], ["a", "b"], "c"],
    "meta": [{"a": 1}, {"a": {"b": [1, 2]}}, {}],
    "grants": [{"select": ["x"]}],
    "docs": [{"show": False}],
    "group": ["sales", "finance"],
    "event_time": ["ordered_on"],
    "pre_hook": ["select 1", ["select 1", "select 2"]],
    "post-hook": ["select 2", "{{ noted() }}"],
    "schema": ["a", "b", "{{ target.name }}"],
    "alias": ["one", "two"],
    "database": ["memory"],
    "enabled": [False, True],
    "full_refresh": [True, False, None],
    "persist_docs": [{"relation": True}, {"columns": True}, {"relation": True, "columns": True}],
    "contract": [{"enforced": True}, {"enforced": False}],
    "access": ["private", "public"],
    "bespoke": [1, "x", [1], {"a": None}],
}
PLACES: list[tuple[str, tuple[str, ...]]] = [
    (STAGING, (*STG, "config")),
    (STAGING, ("models", "stg_customers", "config")),
    *(
        (MARTS, ("models", name, "config"))
        for name in ("orders", "documented", "agreed", "agreed_view", "price", "days")
    ),
    (SEEDS, ("seeds", "countries", "config")),
    (SNAPSHOTS, KEPT),
    (FUNCTIONS, (*AREA, "config")),
]
FOLDERS = [
    ("models",),
    ("models", "shop"),
    ("models", "shop", "marts"),
    ("models", "tools"),
    ("seeds",),
    ("snapshots", "shop"),
    ("data_tests",),
    ("functions",),
]
SQL = [path for path in TEXTS if path.startswith("models/") and path.endswith(".sql")]


def random_edit(random: Random, version: str) -> tuple[str, Edit]:
    """An edit and what to call it."""
    if random.random() < 0.6:
        edits = edits_of(version)
        name = random.choice(list(edits))
        return name, edits[name][0]
    key = random.choice(list(VALUES))
    value = random.choice(VALUES[key])
    place = random.randrange(3)
    if place == 0:
        path, keys = random.choice(PLACES)
        return f"{path} {'.'.join(keys)}.{key}={value!r}", put(path, *keys, key, to=value)
    if place == 1:
        folder = random.choice(FOLDERS)
        name = f"+{key}"
        return f"{PROJECT} {'.'.join(folder)}.{name}={value!r}", put(
            PROJECT, *folder, name, to=value
        )
    path = random.choice(SQL)
    config = f"{{{{ config(**{{{key!r}: {value!r}}}) }}}}\n"
    if key.isidentifier():
        config = f"{{{{ config({key}={value!r}) }}}}\n"
    return f"{path}: {config.strip()}", more(path, config)
