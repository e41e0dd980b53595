"""The files of the tea shop's dbt project, by path."""

from __future__ import annotations

FILES = {
    ".gitignore": "target/\nlogs/\n*.duckdb\n*.duckdb.wal\n.user.yml\n",
    "dbt_project.yml": """\
name: shop
version: "1.0"
profile: shop
flags:
  send_anonymous_usage_stats: false
on-run-end: select 'closing time'
models:
  shop:
    staging:
      +materialized: view
    marts:
      +materialized: table
""",
    "profiles.yml": """\
shop:
  target: prod
  outputs:
    prod:
      type: duckdb
      path: warehouse.duckdb
      schema: analytics
      threads: 2
    ci:
      type: duckdb
      path: warehouse.duckdb
      schema: ci_pr
      threads: 2
""",
    "macros/cents_to_euros.sql": """\
{% macro cents_to_euros(column) %}({{ column }} / 100.0){% endmacro %}
""",
    "seeds/raw_customers.csv": """\
customer_id,customer_name,city
1,Ada,Utrecht
2,Bram,Delft
3,Cleo,Leiden
""",
    "seeds/raw_orders.csv": """\
order_id,customer_id,ordered_on,amount_cents,state
1,1,2024-05-01,1250,paid
2,1,2024-05-02,800,paid
3,2,2024-05-02,2100,paid
4,3,2024-05-03,400,cancelled
""",
    "models/sources.yml": """\
sources:
  - name: erp
    schema: erp
    tables:
      - name: deliveries
        data_tests:
          - not_null:
              name: deliveries_have_an_order
              arguments:
                column_name: order_id
""",
    "models/staging/stg_customers.sql": """\
select customer_id, trim(customer_name) as customer_name, city
from {{ ref('raw_customers') }}
""",
    "models/staging/stg_orders.sql": """\
select
    order_id,
    customer_id,
    cast(ordered_on as date) as ordered_on,
    {{ cents_to_euros('amount_cents') }} as amount,
    state
from {{ ref('raw_orders') }}
""",
    "models/staging/staging.yml": """\
models:
  - name: stg_customers
    description: One row for each customer.
    columns:
      - name: customer_id
        data_tests: [unique, not_null]
  - name: stg_orders
    description: One row for each order.
    columns:
      - name: order_id
        data_tests: [unique]
      - name: state
        data_tests:
          - accepted_values:
              arguments:
                values: [paid, cancelled]
unit_tests:
  - name: orders_are_in_euros
    model: stg_orders
    given:
      - input: ref('raw_orders')
        rows:
          - {order_id: 1, customer_id: 1, ordered_on: 2024-05-01, amount_cents: 250, state: paid}
    expect:
      rows:
        - {order_id: 1, amount: 2.5}
""",
    "models/marts/int_paid_orders.sql": """\
{{ config(materialized='ephemeral') }}
select order_id, customer_id, ordered_on, amount
from {{ ref('stg_orders') }}
where state = 'paid'
""",
    "models/marts/orders.sql": """\
select paid.order_id, paid.customer_id, customers.customer_name, paid.ordered_on, paid.amount
from {{ ref('int_paid_orders') }} as paid
join {{ ref('stg_customers') }} as customers using (customer_id)
""",
    "models/marts/customer_totals.sql": """\
select customer_id, count(*) as orders, sum(amount) as total
from {{ ref('orders') }}
group by customer_id
""",
    "models/marts/daily_sales.sql": """\
{{ config(materialized='incremental', unique_key='ordered_on') }}
select ordered_on, sum(amount) as total
from {{ ref('orders') }}
{% if is_incremental() %}
where ordered_on >= (select max(ordered_on) from {{ this }})
{% endif %}
group by ordered_on
""",
    "models/marts/punctuality.sql": """\
select deliveries.is_on_time, count(*) as orders
from {{ source('erp', 'deliveries') }} as deliveries
join {{ ref('orders') }} as orders using (order_id)
group by deliveries.is_on_time
""",
    "models/marts/all_days.sql": """\
select cast(range as date) as date_day
from range(timestamp '2024-05-01', timestamp '2024-06-01', interval 1 day)
""",
    "models/marts/marts.yml": """\
models:
  - name: orders
    columns:
      - name: order_id
        data_tests: [unique]
  - name: customer_totals
    columns:
      - name: customer_id
        data_tests:
          - unique
          - relationships:
              arguments:
                to: ref('stg_customers')
                field: customer_id
  - name: all_days
    time_spine:
      standard_granularity_column: date_day
    columns:
      - name: date_day
        granularity: day
exposures:
  - name: sales_report
    type: dashboard
    owner: {name: Ada}
    depends_on: [ref('daily_sales')]
""",
    "models/marts/semantic.yml": """\
semantic_models:
  - name: sales
    model: ref('orders')
    defaults:
      agg_time_dimension: ordered_on
    entities:
      - {name: order, type: primary, expr: order_id}
    dimensions:
      - name: ordered_on
        type: time
        type_params: {time_granularity: day}
    measures:
      - {name: revenue, agg: sum, expr: amount}
metrics:
  - name: revenue
    label: Revenue
    type: simple
    type_params: {measure: revenue}
saved_queries:
  - name: revenue_by_day
    query_params:
      metrics: [revenue]
      group_by: ["TimeDimension('order__ordered_on', 'day')"]
""",
    "snapshots/customers.yml": """\
snapshots:
  - name: customer_history
    relation: ref('stg_customers')
    config:
      unique_key: customer_id
      strategy: check
      check_cols: [city]
""",
    "tests/no_large_orders.sql": """\
{{ config(severity='warn') }}
select order_id from {{ ref('orders') }} where amount > 1000
""",
}
