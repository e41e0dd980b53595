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

{#- The youngest first: what reads another one is always younger, and dropped before it. Functions,
    which views may call, come last. -#}
{%- macro postgres__ci_defer_relations(place) -%}
  {%- set found = run_query(
    'select nspname as schema, name from ('
    ~ 'select relnamespace as namespace, relname as name, 0 as kind, oid from pg_class '
    ~ "where relkind in ('r', 'p', 'v', 'm', 'f') union all "
    ~ 'select pronamespace, proname, 1, oid from pg_proc'
    ~ ') as made join pg_namespace on pg_namespace.oid = namespace '
    ~ "where lower(nspname) = lower('" ~ place.schema ~ "') order by kind, made.oid desc"
  ) -%}
  {%- do return(ci_defer_rows(found, 'schema', 'name')) -%}
{%- endmacro -%}

{#- It is built on the adapter of PostgreSQL, and has other catalogs. -#}
{%- macro redshift__ci_defer_relations(place) -%}
  {%- do return(default__ci_defer_relations(place)) -%}
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
