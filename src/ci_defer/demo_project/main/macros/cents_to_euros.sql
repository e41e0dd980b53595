{#- Decimal, not float: revenue is summed and compared, and must not drift. -#}
{% macro cents_to_euros(column_name) -%}
    cast({{ column_name }} / 100.0 as decimal(10, 2))
{%- endmacro %}
