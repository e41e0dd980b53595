{#- Say for each schema whether it exists, and what is in it. -#}
{%- macro ci_defer_look() -%}
  {%- set token, schemas = fromjson(var('ci_defer_cleanup')) -%}
  {%- for database, schema, quoted in schemas -%}
    {%- set folds_schema = ci_defer_is_bare(ci_defer_place(database, schema, quoted), schema) -%}
    {%- set folds_identifier = ci_defer_is_bare(ci_defer_named(database, schema, quoted), 'x') -%}
    {%- set exists = ci_defer_schema_exists(database, schema, folds_schema) -%}
    {%- if exists -%}
      {%- for found_schema, identifier in ci_defer_relations(database, schema) -%}
        {%- do ci_defer_say(token, ['relation', database, schema, found_schema, identifier]) -%}
      {%- endfor -%}
    {%- endif -%}
    {%- do ci_defer_say(token, ['schema', database, schema, exists, folds_schema, folds_identifier]) -%}
  {%- endfor -%}
  {%- do ci_defer_say(token, ['end']) -%}
{%- endmacro -%}

{#- Drop relations, and the schema after them where it is told and holds nothing unexpected.

    A macro cannot catch an error of the database: before each step it says which one comes. -#}
{%- macro ci_defer_drop() -%}
  {%- set token, schemas = fromjson(var('ci_defer_cleanup')) -%}
  {%- for database, schema, quoted, found_schema, identifiers, is_whole, expected in schemas -%}
    {%- for identifier in identifiers -%}
      {%- do ci_defer_say(token, ['dropping', database, schema, identifier]) -%}
      {%- set relation = adapter.get_relation(database, found_schema, identifier) -%}
      {%- if relation -%}
        {%- do ci_defer_begin() -%}
        {%- do ci_defer_drop_relation(relation) -%}
        {%- do adapter.commit() -%}
        {%- do ci_defer_say(token, ['dropped', database, schema, identifier]) -%}
      {%- else -%}
        {%- do ci_defer_say(token, ['gone', database, schema, identifier]) -%}
      {%- endif -%}
    {%- endfor -%}
    {%- if is_whole -%}
      {%- do ci_defer_say(token, ['dropping', database, schema, none]) -%}
      {#- Dropping a schema takes what is in it along: look again. -#}
      {%- set others = [] -%}
      {%- for other_schema, identifier in ci_defer_relations(database, schema) -%}
        {%- if other_schema == found_schema and identifier not in expected -%}
          {%- do others.append(identifier) -%}
          {%- do ci_defer_say(token, ['left', database, schema, identifier]) -%}
        {%- endif -%}
      {%- endfor -%}
      {%- if not others -%}
        {%- set place = ci_defer_place(database, schema, quoted) -%}
        {%- do ci_defer_drop_schema(place) -%}
        {%- set exists = ci_defer_schema_exists(database, schema, ci_defer_is_bare(place, schema)) -%}
        {%- do ci_defer_say(token, ['kept' if exists else 'dropped', database, schema, none]) -%}
      {%- endif -%}
    {%- endif -%}
  {%- endfor -%}
  {%- do ci_defer_say(token, ['end']) -%}
{%- endmacro -%}

{%- macro ci_defer_drop_relation(relation) -%}
  {%- do return(adapter.dispatch('ci_defer_drop_relation', 'ci_defer_cleanup')(relation)) -%}
{%- endmacro -%}

{%- macro default__ci_defer_drop_relation(relation) -%}
  {%- do adapter.drop_relation(relation) -%}
{%- endmacro -%}

{#- dbt says `cascade` here, which drops what reads the relation too: a view of production's, say. -#}
{%- macro postgres__ci_defer_drop_relation(relation) -%}
  {%- call statement('ci_defer_drop', auto_begin=False) -%}
    drop {{ relation.type | replace('_', ' ') }} if exists {{ relation }} restrict
  {%- endcall -%}
{%- endmacro -%}

{%- macro ci_defer_drop_schema(place) -%}
  {%- do return(adapter.dispatch('ci_defer_drop_schema', 'ci_defer_cleanup')(place)) -%}
{%- endmacro -%}

{%- macro default__ci_defer_drop_schema(place) -%}
  {%- do adapter.drop_schema(place) -%}
{%- endmacro -%}

{%- macro postgres__ci_defer_drop_schema(place) -%}
  {%- call statement('ci_defer_drop', auto_begin=True) -%}
    drop schema if exists {{ place.include(database=False) }} restrict
  {%- endcall -%}
  {%- do adapter.commit() -%}
{%- endmacro -%}

{#- Copy tables: each one that is there, in the place of what is here, with a schema for it.

    Plain SQL, as dbt has no other way to copy a table. -#}
{%- macro ci_defer_copy() -%}
  {%- set token, copies = fromjson(var('ci_defer_cleanup')) -%}
  {%- for source, target in copies -%}
    {%- do ci_defer_say(token, ['copying', target[0], target[1], target[2]]) -%}
    {%- set there = adapter.get_relation(source[0], source[1], source[2]) -%}
    {%- set here = adapter.get_relation(target[0], target[1], target[2]) -%}
    {%- if there -%}
      {%- if here -%}
        {%- do ci_defer_begin() -%}
        {%- do adapter.drop_relation(here) -%}
        {%- do adapter.commit() -%}
      {%- endif -%}
      {%- set here = ci_defer_table(target) -%}
      {%- do adapter.create_schema(here.without_identifier()) -%}
      {%- call statement('ci_defer_copy', auto_begin=True) -%}
        create table {{ here }} as select * from {{ there }}
      {%- endcall -%}
      {%- do adapter.commit() -%}
    {%- endif -%}
    {%- do ci_defer_say(token, ['copied' if there else 'absent', target[0], target[1], target[2]]) -%}
  {%- endfor -%}
  {%- do ci_defer_say(token, ['end']) -%}
{%- endmacro -%}

{%- macro ci_defer_table(names) -%}
  {%- do return(api.Relation.create(
    database=names[0], schema=names[1], identifier=names[2], type='table'
  )) -%}
{%- endmacro -%}

{#- One line on standard output; the token tells it from what dbt and the database say. -#}
{%- macro ci_defer_say(token, step) -%}
  {%- do print(token ~ tojson(step)) -%}
{%- endmacro -%}

{#- A schema as an adapter takes it. `quoted` is the `quoting` of the user's project, if any. -#}
{%- macro ci_defer_place(database, schema, quoted) -%}
  {%- do return(ci_defer_named(database, schema, quoted).without_identifier()) -%}
{%- endmacro -%}

{%- macro ci_defer_named(database, schema, quoted) -%}
  {%- set named = api.Relation.create(database=database, schema=schema, identifier='x') -%}
  {%- if quoted is not none -%}
    {%- do return(named.quote(database=quoted[0], schema=quoted[1], identifier=quoted[2])) -%}
  {%- endif -%}
  {%- do return(named) -%}
{%- endmacro -%}

{#- Whether a relation is written without quotes around its last part. -#}
{%- macro ci_defer_is_bare(relation, last) -%}
  {%- do return((relation | string | lower).endswith(last | lower)) -%}
{%- endmacro -%}

{#- A name that dbt does not quote is folded to lower or to upper case by the warehouse. -#}
{%- macro ci_defer_schema_exists(database, schema, folds) -%}
  {%- for spelling in [schema, schema | lower, schema | upper] if folds or spelling == schema -%}
    {%- if adapter.check_schema_exists(database, spelling) -%}
      {%- do return(true) -%}
    {%- endif -%}
  {%- endfor -%}
  {%- do return(false) -%}
{%- endmacro -%}

{#- An open transaction, as `adapter.commit` wants it: dbt itself drops a relation outside of one,
    and what is not committed is lost when a later step fails. -#}
{%- macro ci_defer_begin() -%}
  {%- do return(adapter.dispatch('ci_defer_begin', 'ci_defer_cleanup')()) -%}
{%- endmacro -%}

{%- macro default__ci_defer_begin() -%}
  {%- call statement('ci_defer_begin', auto_begin=True) -%}select 1 as id{%- endcall -%}
{%- endmacro -%}
