{#- The pairs of schema and identifier of all that is in a schema, as far as the adapter lists it.

    Some adapters match a schema as a pattern, so others may be among them. -#}
{%- macro ci_defer_relations(database, schema) -%}
  {%- set place = ci_defer_place(database, schema, none) -%}
  {%- if dbt_version.startswith('2.') -%}
    {#- dbt v2 has one method for all warehouses. -#}
    {%- do return(ci_defer_pairs(adapter.list_relations_without_caching(place))) -%}
  {%- endif -%}
  {%- do return(adapter.dispatch('ci_defer_relations', 'ci_defer_cleanup')(place)) -%}
{%- endmacro -%}

{#- dbt Core shows macros no method for it, but the macro that most adapters list with. -#}
{%- macro default__ci_defer_relations(place) -%}
  {%- do return(ci_defer_rows(list_relations_without_caching(place), 'schema', 'name')) -%}
{%- endmacro -%}

{%- macro snowflake__ci_defer_relations(place) -%}
  {%- do return(ci_defer_rows(list_relations_without_caching(place), 'schema_name', 'name')) -%}
{%- endmacro -%}

{#- `show tables`, unlike what the adapter tries first, takes Iceberg tables too. -#}
{%- macro spark__ci_defer_relations(place) -%}
  {%- do return(ci_defer_rows(list_relations_show_tables_without_caching(place), 0, 1)) -%}
{%- endmacro -%}

{%- macro databricks__ci_defer_relations(place) -%}
  {%- do return(ci_defer_rows(show_tables(place), 0, 1)) -%}
{%- endmacro -%}

{#- Pairs from the columns of a table. Temporary views are of the session, and in no schema. -#}
{%- macro ci_defer_rows(rows, schema, name) -%}
  {%- set pairs = [] -%}
  {%- for row in rows -%}
    {%- if row[schema] -%}
      {%- do pairs.append([row[schema], row[name]]) -%}
    {%- endif -%}
  {%- endfor -%}
  {%- do return(pairs) -%}
{%- endmacro -%}

{%- macro bigquery__ci_defer_relations(place) -%}
  {%- do return(ci_defer_pairs(list_relations_without_caching(place))) -%}
{%- endmacro -%}

{%- macro athena__ci_defer_relations(place) -%}
  {%- do return(ci_defer_pairs(list_relations_without_caching(place))) -%}
{%- endmacro -%}

{%- macro ci_defer_pairs(relations) -%}
  {%- set pairs = [] -%}
  {%- for relation in relations -%}
    {%- do pairs.append([relation.schema, relation.identifier]) -%}
  {%- endfor -%}
  {%- do return(pairs) -%}
{%- endmacro -%}
