from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ci_defer.locations import Declarations, error_line
from ci_defer.manifest import Node
from tests.samples import node

SQL = """\
{{ config(materialized='table') }}

select
    order_id,
    custmer_id, -- of the shop
    amount
from {{ ref('stg_orders') }}
where amount > 0

union all

select order_id, 0, amount
from {{ ref('stg_refunds') }}
where amount > 0
"""


def model(raw_code: str | None = SQL) -> Node:
    return msgspec.convert(node("model.shop.orders", raw_code=raw_code), Node)


# The line of an error ---------------------------------------------------------------------------

DUCKDB = """\
Runtime Error in model orders (models/orders.sql)
  Binder Error: Referenced column "custmer_id" not found in FROM clause!
  Candidate bindings: "customer_id"

  LINE 13:     custmer_id, -- of the shop
               ^"""
POSTGRES = """\
Database Error in model orders (models/orders.sql)
  column "custmer_id" does not exist
  LINE 21:     custmer_id, -- of the shop
               ^
  HINT:  Perhaps you meant to reference the column "stg_orders.customer_id".
  compiled code at target/run/shop/models/orders.sql"""


@pytest.mark.parametrize("message", [DUCKDB, POSTGRES])
def test_error_line__is_the_one_that_the_database_quotes(message: str) -> None:
    assert error_line(model(), message) == 5


@pytest.mark.parametrize(
    ("quoted", "expected"),
    [
        ("custmer_id, -- of the shop", 5),
        ("...stmer_id, -- of the sh...", 5),
        ("...stmer_id, -- of the shop", 5),
        ("    custmer_id, -- of ...", 5),
        ("select order_id, 0, amount", 12),
        # Twice in the file, or in what the file was compiled to only.
        ("where amount > 0", None),
        ('from "db"."pr"."stg_orders"', None),
        ("", None),
        ("...", None),
        ("   ", None),
    ],
)
def test_error_line__only_of_what_is_in_the_file_once(quoted: str, expected: int | None) -> None:
    message = f"Runtime Error in model orders (models/orders.sql)\n  no\n  LINE 3: {quoted}\n   ^"
    assert error_line(model(), message) == expected


JINJA = """\
Compilation Error in model orders (models/orders.sql)
  expected token 'end of print statement', got 'stg_orders'
    line {}
      from {{{{ ref('stg_orders' }}}}"""


@pytest.mark.parametrize(("line", "expected"), [(1, 1), (7, 7), (14, 14), (15, None)])
def test_error_line__is_the_one_of_jinja(line: int, expected: int | None) -> None:
    assert error_line(model(), JINJA.format(line)) == expected


@pytest.mark.parametrize(
    "message",
    [
        "",
        "Got 2 results, configured to fail if != 0",
        "Database Error in model orders (models/orders.sql)\n  cannot connect",
        # Snowflake counts the lines of the statement that dbt made of the file.
        "001003 (42000): SQL compilation error:\nsyntax error line 7 at position 2",
        "Runtime Error in model orders\n    line 7\n  x",
    ],
)
def test_error_line__is_none_where_nobody_tells(message: str) -> None:
    assert error_line(model(), message) is None


@pytest.mark.parametrize("raw_code", [None, ""])
def test_error_line__is_none_without_the_file(raw_code: str | None) -> None:
    assert error_line(model(raw_code), DUCKDB) is None
    assert error_line(model(raw_code), JINJA.format(1)) is None


# The line of a test -----------------------------------------------------------------------------

YAML = """\
version: 2

models:
  - name: orders
    description: not_null
    data_tests:
      - dbt_utils.unique_combination_of_columns:
          arguments:
            combination_of_columns: [id, day]
      - name: orders_add_up
        test_name: expression_is_true
        expression: a = b
    columns:
      - name: id
        data_tests:
          - unique
          - not_null:
              config:
                severity: warn
      - name: status
        tests:
          - accepted_values:
              name: known_status
              values: [a, b]

  - name: customers
    columns:
      - name: id
        data_tests: [unique, not_null]

  - name: bikes
    latest_version: 2
    columns:
      - name: id
        data_tests:
          - unique
    versions:
      - v: 1
      - v: 2

sources:
  - name: raw
    tables:
      - name: orders
        columns:
          - name: id
            data_tests:
              - relationships:
                  arguments: {to: ref('orders'), field: id}

unit_tests:
  - name: rounds_half_up
    model: orders
"""


def generic(
    test: str,
    tested: str = "model.shop.orders",
    column: str | None = None,
    namespace: str | None = None,
    **more: Any,
) -> Node:
    fields = {
        "attached_node": tested if tested.startswith("model") else None,
        "depends_on": {"nodes": [tested]},
        "test_metadata": {"name": test, "namespace": namespace},
        "column_name": column,
    }
    made = node(f"test.shop.{test}_{column}.1a2b", **{**fields, **more})
    return msgspec.convert(made, Node)


def line(found: Node, text: str = YAML) -> str | None:
    """What stands in the line that was found."""
    number = Declarations(text).line(found)
    return text.splitlines()[number - 1].strip() if number else None


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (generic("unique", column="id"), 16),
        (generic("not_null", column="id"), 17),
        (generic("accepted_values", column="status", name="known_status"), 22),
        (generic("unique_combination_of_columns", namespace="dbt_utils"), 7),
        (generic("unique", "model.shop.customers", "id"), 29),
        (generic("not_null", "model.shop.customers", "id"), 29),
        (generic("unique", "model.shop.bikes.v2", "id"), 36),
        (generic("relationships", "source.shop.raw.orders", "id"), 48),
    ],
)
def test_declarations__of_generic_tests(test: Node, expected: int) -> None:
    assert Declarations(YAML).line(test) == expected


@pytest.mark.parametrize(
    "test",
    [
        generic("not_null", column="status"),
        generic("unique", "model.shop.payments", "id"),
        generic("unique", "source.shop.raw.refunds", "id"),
        generic("unique"),
        generic("unique", "model.shop.customers"),
    ],
)
def test_declarations__of_what_is_not_there_are_none(test: Node) -> None:
    assert Declarations(YAML).line(test) is None


def test_declarations__of_a_model_and_a_source_of_the_same_name_are_told_apart() -> None:
    text = """\
sources:
  - name: raw
    tables:
      - name: orders
        columns: [{name: id, data_tests: [unique]}]
models:
  - name: orders
    columns: [{name: id, data_tests: [unique]}]
"""
    tested = ("source.shop.raw.orders", "model.shop.orders")
    tests = [generic("unique", unique_id, "id") for unique_id in tested]
    assert [Declarations(text).line(test) for test in tests] == [5, 8]


def test_declarations__with_the_name_of_the_test_beside_it() -> None:
    test = generic("expression_is_true", name="orders_add_up")
    assert line(test) == "- name: orders_add_up"


def test_declarations__two_of_a_kind_are_told_apart_by_their_names() -> None:
    text = """\
models:
  - name: orders
    columns:
      - name: status
        data_tests:
          - accepted_values:
              name: first
              values: [a]
          - accepted_values:
              name: second
              values: [b]
"""
    first = generic("accepted_values", column="status", name="first")
    second = generic("accepted_values", column="status", name="second")
    assert [Declarations(text).line(test) for test in (first, second)] == [6, 9]


def test_declarations__two_of_a_kind_without_names_cannot_be_told_apart() -> None:
    column = "{name: id, data_tests: [unique, unique: {config: {where: a}}]}"
    text = f"models:\n  - name: orders\n    columns: [{column}]\n"
    assert Declarations(text).line(generic("unique", column="id")) is None


def test_declarations__of_unit_tests() -> None:
    test = msgspec.convert(
        node("unit_test.shop.orders.rounds_half_up", name="rounds_half_up"), Node
    )
    assert line(test) == "- name: rounds_half_up"
    other = msgspec.convert(node("unit_test.shop.orders.other", name="other"), Node)
    assert line(other) is None


def test_declarations__of_singular_tests_and_models_are_none() -> None:
    for unique_id in ("test.shop.orders", "model.shop.orders"):
        found = msgspec.convert(node(unique_id, name="orders"), Node)
        assert Declarations(YAML).line(found) is None


BROKEN = [
    "",
    "a: [",
    "models: 'orders'",
    "models: {name: orders, columns: id}",
    "- name: orders\n  columns: [id]\n  data_tests: unique",
    "? [a, b]\n: c\n",
    "a: *unknown",
    "\0",
    "a: 1\n---\nb: 2",
    "[" * 5_000,
    "name: [orders]",
]


@pytest.mark.parametrize("text", BROKEN)
def test_declarations__of_broken_yaml_are_none(text: str) -> None:
    assert Declarations(text).line(generic("unique", column="id")) is None


def test_declarations__behind_an_alias_are_where_they_are_written() -> None:
    text = """\
x: &tests
  - unique
models:
  - name: orders
    columns:
      - name: id
        data_tests: *tests
"""
    assert Declarations(text).line(generic("unique", column="id")) == 2


def test_declarations__of_aliases_in_a_circle_come_to_an_end() -> None:
    text = "models: &all\n  - name: orders\n    data_tests:\n      - unique\n    more: *all\n"
    assert Declarations(text).line(generic("unique")) == 4
    assert Declarations(text).line(generic("not_null")) is None


def test_declarations__of_aliases_of_aliases_take_no_time() -> None:
    # Each line doubles what it would be with the aliases in it: 2 ** 60 of them.
    doubled = "".join(
        f"a{index + 1}: &a{index + 1} [*a{index}, *a{index}]\n" for index in range(60)
    )
    text = f"a0: &a0 [x]\n{doubled}models:\n  - name: orders\n    data_tests: [unique]\n"
    assert Declarations(text).line(generic("unique")) == 64
