from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_defer.dbt import Connection, inside
from ci_defer.dbt.saved_parse import Published, decides_by_schema, publish, speaks_of_target
from ci_defer.errors import InvalidBundle

SCHEMA = "ci_pr_000000042"
ROOT = "/home/runner/work/shop/shop"
USER = "0f3a2f60-0c1c-4f2e-9d7e-3b2d1f7a9c55"


def model(name: str, **more: Any) -> dict[str, Any]:
    basic = {
        "unique_id": f"model.shop.{name}",
        "original_file_path": f"models/{name}.sql",
        "schema": SCHEMA,
        "relation_name": f'"db"."{SCHEMA}"."{name}"',
        "raw_code": "select 1",
        "config": {"schema": None},
    }
    return {**basic, **more}


def macro(name: str, sql: str, **more: Any) -> dict[str, Any]:
    basic = {"name": name, "package_name": "shop", "original_file_path": "macros/a.sql"}
    return {**basic, "macro_sql": sql, **more}


def document(**more: Any) -> dict[str, Any]:
    """A saved parse, as far as it is looked at."""
    path = {"project_root": ROOT, "searched_path": "models", "relative_path": "a.sql"}
    hashes = {
        name: {"name": "sha256", "checksum": name}
        for name in ("vars_hash", "profile_hash", "project_env_vars_hash")
    }
    basic: dict[str, Any] = {
        "nodes": {"model.shop.a": model("a"), "seed.shop.b": model("b", root_path=ROOT)},
        "disabled": {"seed.shop.c": [model("c", root_path=ROOT)]},
        "functions": {},
        "saved_queries": {
            "saved_query.shop.q": {"exports": [{"config": {"schema_name": SCHEMA}}]},
        },
        "macros": {},
        "files": {"shop://models/a.sql": {"path": path, "checksum": {"checksum": "1"}}},
        "metadata": {"user_id": USER, "env": {"RUN": "a plain value"}},
        "env_vars": {"TOKEN": "t0p-s3cret", "COLOUR": "DBT_DEFAULT_PLACEHOLDER"},
        "state_check": hashes,
    }
    return {**basic, **more}


def published(
    made: dict[str, Any], *project_texts: tuple[str, str], is_placeholder: bool = True
) -> Published:
    return publish(
        msgspec.msgpack.encode(made),
        Connection(schema=SCHEMA, database="db", versions={"python": "3.11"}),
        is_placeholder=is_placeholder,
        project_texts=project_texts,
    )


def test_publish__leaves_out_what_is_of_the_machine_and_of_the_user() -> None:
    made = published(document())
    for secret in (ROOT, USER, "a plain value", "t0p-s3cret", "/home"):
        assert secret.encode() not in made.packed
    left = msgspec.msgpack.decode(made.packed)
    assert left["env_vars"] == {"TOKEN": "", "COLOUR": "DBT_DEFAULT_PLACEHOLDER"}
    assert left["nodes"]["seed.shop.b"]["root_path"] == "."
    assert left["disabled"]["seed.shop.c"][0]["root_path"] == "."
    assert "root_path" not in left["nodes"]["model.shop.a"]


def test_publish__has_the_hashes_in_another_form() -> None:
    made = published(document())
    left = msgspec.msgpack.decode(made.packed)["state_check"]
    assert left["vars_hash"]["checksum"] == "vars_hash"
    for name in ("profile_hash", "project_env_vars_hash"):
        assert left[name]["checksum"] == inside.slow_digest(name, made.terms.salt)


def test_publish__leaves_the_hash_of_no_variable_as_it_is() -> None:
    of_nothing = hashlib.sha256(b"").hexdigest()
    made = document()
    made["state_check"]["project_env_vars_hash"]["checksum"] = of_nothing
    left = msgspec.msgpack.decode(published(made).packed)["state_check"]
    assert left["project_env_vars_hash"]["checksum"] == of_nothing


def test_publish__has_another_salt_each_time() -> None:
    one, other = published(document()), published(document())
    assert one.terms.salt != other.terms.salt
    assert one.terms.variables_digest != other.terms.variables_digest
    assert len(bytes.fromhex(one.terms.salt)) == 16


def test_publish__has_no_digest_without_variables() -> None:
    assert published(document(env_vars={})).terms.variables_digest == ""
    unset = {"COLOUR": "DBT_DEFAULT_PLACEHOLDER"}
    assert published(document(env_vars=unset)).terms.variables_digest == ""


# Two digests that take long are made for each.
@settings(max_examples=10)
@given(
    st.dictionaries(
        st.text("ABC", min_size=1), st.text("vwxyz\x00é'\"{}", min_size=8, max_size=40), min_size=1
    )
)
def test_publish__has_no_value_of_a_variable(values: dict[str, str]) -> None:
    made = document(env_vars=values, metadata={"user_id": USER, "env": values})
    terms = published(made)
    raw = terms.packed + msgspec.json.encode((terms.terms, terms.texts, terms.ties))
    for value in values.values():
        assert value.encode() not in raw
        assert value.encode("unicode_escape") not in raw


def test_publish__knows_each_file_by_a_digest(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.sql").write_text("select 1")
    made = document()
    made["files"]["shop://models/a.sql"]["path"]["project_root"] = str(tmp_path)
    made["files"]["shop://models/b.sql"] = {
        "path": {"project_root": str(tmp_path), "searched_path": "models", "relative_path": "b"}
    }
    assert published(made).texts == {
        "shop://models/a.sql": inside.digest_of_file(str(tmp_path / "models" / "a.sql")),
        "shop://models/b.sql": "",
    }


# What ties a parse to its connection --------------------------------------------------------------


def test_publish__carries_over_where_only_names_have_the_schema() -> None:
    made = published(document())
    assert (made.ties, made.terms.carries_over) == ("", True)
    assert (made.terms.schema, made.terms.database) == (SCHEMA, "db")


def test_publish__with_a_schema_of_somebody_looks_for_no_ties() -> None:
    code = model("a", raw_code="{{ target.schema }}")
    made = published(document(nodes={"model.shop.a": code}), is_placeholder=False)
    assert (made.ties, made.terms.carries_over) == ("", False)


SPEAKS = "{{ target.schema }}"


@pytest.mark.parametrize(
    ("made", "ties"),
    [
        (
            {"nodes": {"model.shop.a": model("a", raw_code=SPEAKS)}},
            "models/a.sql speaks of `target`",
        ),
        (
            {"disabled": {"model.shop.a": [model("a", raw_code=SPEAKS)]}},
            "models/a.sql speaks of `target`",
        ),
        (
            {"functions": {"function.shop.a": model("a", raw_code=SPEAKS)}},
            "models/a.sql speaks of `target`",
        ),
        ({"macros": {"macro.shop.a": macro("a", SPEAKS)}}, "macro a speaks of `target`"),
        (
            {"macros": {"macro.dbt_utils.a": macro("a", SPEAKS, package_name="dbt_utils")}},
            "macro a speaks of `target`",
        ),
        (
            {"nodes": {"model.shop.a": model("a", config={"meta": {"at": [SCHEMA.upper()]}})}},
            "the schema is in nodes.model.shop.a.config.meta.at.*",
        ),
        (
            {"nodes": {"model.shop.a": model("a", alias=f"{SCHEMA}_a")}},
            "the schema is in nodes.model.shop.a.alias",
        ),
        (
            {"nodes": {"model.shop.a": model("a", meta={SCHEMA: 1})}},
            f"the schema is in nodes.model.shop.a.meta.{SCHEMA}",
        ),
        (
            {"sources": {"source.shop.s.t": {"schema": SCHEMA}}},
            "the schema is in sources.source.shop.s.t.schema",
        ),
        (
            {"disabled": {"model.shop.a": [model("a", alias=SCHEMA)]}},
            "the schema is in disabled.model.shop.a.*.alias",
        ),
        (
            {"nodes": {"model.shop.a": model("a", raw_code="{% if this.schema == 'x' %}")}},
            "models/a.sql goes by the schema of `this`",
        ),
    ],
)
def test_publish__says_what_ties_it(made: dict[str, Any], ties: str) -> None:
    found = published(document(**made))
    assert (found.ties, found.terms.carries_over) == (ties, False)


def test_publish__is_tied_by_yml_and_by_project_files() -> None:
    path = {"project_root": ROOT, "searched_path": "models", "relative_path": "a.yml"}
    dfy = {"sources": [{"name": "s", "schema": SPEAKS}]}
    made = document(files={"shop://models/a.yml": {"path": path, "dfy": dfy}})
    assert published(made).ties == "shop://models/a.yml speaks of `target`"
    text = ("dbt_project.yml", "on-run-end: ['grant usage on schema {{ target.schema }}']")
    assert published(document(), text).ties == "dbt_project.yml speaks of `target`"


@pytest.mark.parametrize(
    "item",
    [
        macro("generate_schema_name", SPEAKS),
        macro("generate_alias_name", SPEAKS),
        macro("generate_database_name", SPEAKS),
        macro("default__generate_schema_name", SPEAKS),
        macro("a", SPEAKS, package_name="dbt"),
        macro("a", SPEAKS, package_name="dbt_duckdb"),
        macro("a", "{% if target.name == 'ci' %}target{% endif %}"),
    ],
)
def test_publish__is_not_tied_by_what_makes_names_or_comes_with_dbt(item: dict[str, Any]) -> None:
    assert published(document(macros={"macro.shop.a": item})).ties == ""


@pytest.mark.parametrize(
    "text",
    [
        "{{ target.schema }}",
        "{{target['schema']}}",
        "{{ target.get('schema') }}",
        "{%- set t = target -%}",
        "{{ f(target) }}",
        "{{ context['target'] }}",
        "{{ target.names }}",
        "{{ target\n.schema }}",
        # Where Jinja seems to end before it does.
        "{{ config(meta={'a': {'b': 1}}, enabled=target.schema == 'x') }}",
        "{{ '}}' ~ target.schema }}",
        '{% set a = "%}" ~ target.schema %}',
        "{% set a = {'b': {}} %}{{ target.schema }}",
        r"{{ 'it\'s }}' ~ target.schema }}",
        "{# it's {{ #} {{ target.schema }}",
        "{{ target.schema",
    ],
)
def test_speaks_of_target__finds_any_way_to_speak_of_it(text: str) -> None:
    assert speaks_of_target(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "select target.schema from target",
        "{{ target.name }}",
        "{{ target . type }}",
        "{{ target.profile_name }}",
        "{{ my.target.schema }}",
        "{{ targets }}",
        "{{ x_target }}",
        "select {{ x }}, target.schema, {{ y }}",
        "{# target.schema #}",
        "{{ {'a': {'b': 1}} }} target.schema {{ x }}",
    ],
)
def test_speaks_of_target__knows_what_is_the_same_for_all(text: str) -> None:
    assert not speaks_of_target(text)


@given(st.text("{}%'\"\\# a", max_size=30), st.text("{}%'\"\\# a", max_size=30))
def test_speaks_of_target__ends_with_any_text(before: str, after: str) -> None:
    speaks_of_target(f"{before}target.schema{after}")


@pytest.mark.parametrize(
    ("text", "decides"),
    [
        ("{% if this.schema == 'a' %}", True),
        ("{%- elif model.schema in x -%}", True),
        ("{{ 'a' if this['schema'] == 'b' else 'c' }}", True),
        ("{% if is_incremental() %} select max(at) from {{ this }} {% endif %}", False),
        ("{{ this.schema }}", False),
        ("if this.schema {{ x }}", False),
    ],
)
def test_decides_by_schema(text: str, *, decides: bool) -> None:
    assert decides_by_schema(text) is decides


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode([]),
        msgspec.msgpack.encode({}),
        msgspec.msgpack.encode(document(env_vars=None)),
        msgspec.msgpack.encode(document(files={"a": {}})),
        msgspec.msgpack.encode(document(nodes=[1])),
        msgspec.msgpack.encode(document(state_check={})),
        msgspec.msgpack.encode(document())[:-5],
    ],
)
def test_publish__of_anything_else_is_an_error(packed: bytes) -> None:
    with pytest.raises(InvalidBundle, match="is not as dbt Core writes it"):
        publish(packed, Connection(schema="s"), is_placeholder=True, project_texts=())


# Digests ------------------------------------------------------------------------------------------


def test_digest_of_file__is_of_each_byte(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"a  b\r\n")
    first = inside.digest_of_file(str(file))
    file.write_bytes(b"a b\n")
    assert len(first) == 16
    assert inside.digest_of_file(str(file)) != first
    assert inside.digest_of_file(str(tmp_path)) == ""
    assert inside.digest_of_file(str(tmp_path / "b")) == ""


def test_slow_digest__tells_texts_and_salts_apart() -> None:
    digest = inside.slow_digest("a", "00" * 16)
    assert inside.slow_digest("a", "00" * 16) == digest
    assert inside.slow_digest("b", "00" * 16) != digest
    assert inside.slow_digest("a", "01" * 16) != digest


# Elsewhere ----------------------------------------------------------------------------------------


def file_of(searched: str, relative: str, kind: str = "schema") -> SimpleNamespace:
    path = SimpleNamespace(searched_path=searched, relative_path=relative, project_root="")
    return SimpleNamespace(
        path=path,
        project_name="shop",
        parse_file_type=kind,
        checksum=SimpleNamespace(checksum="as it was"),
    )


def moved(tmp_path: Path, file: SimpleNamespace, texts: dict[str, str]) -> SimpleNamespace:
    """The file after it was moved to a project in `tmp_path`."""
    listed = tmp_path / "texts.json"
    listed.write_bytes(msgspec.json.encode(texts))
    loader = SimpleNamespace(all_projects={"shop": SimpleNamespace(project_root=str(tmp_path))})
    saved = inside.SavedParse({"texts": str(listed), "stands_for": ""})
    saved._move(SimpleNamespace(files={"id": file}, disabled={}), loader)
    return file


def test_move__leaves_what_is_the_same_to_the_last_character(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("a: 1")
    texts = {"id": inside.digest_of_file(str(tmp_path / "a.yml"))}
    file = moved(tmp_path, file_of("", "a.yml"), texts)
    assert file.path.project_root == str(tmp_path)
    assert file.path.modification_time == (tmp_path / "a.yml").stat().st_mtime
    assert file.checksum.checksum == "as it was"


@pytest.mark.parametrize("texts", [{}, {"id": ""}, {"id": "0" * 16}])
def test_move__lets_all_else_be_parsed_again(tmp_path: Path, texts: dict[str, str]) -> None:
    (tmp_path / "a.yml").write_text("a: 1")
    file = moved(tmp_path, file_of("", "a.yml"), texts)
    assert (file.path.modification_time, file.checksum.checksum) == (-1.0, "")


@pytest.mark.parametrize("relative", ["../pipe", "models/../../pipe", "{}/pipe", ".."])
@pytest.mark.parametrize("searched", ["models", "", "..", "{}"])
def test_move__touches_nothing_outside_of_the_project(
    tmp_path: Path, searched: str, relative: str
) -> None:
    project = tmp_path / "a" / "project"
    project.mkdir(parents=True)
    # To read from one never ends.
    for folder in (tmp_path, tmp_path / "a"):
        os.mkfifo(folder / "pipe")
    file = file_of(searched.format(tmp_path), relative.format(tmp_path))
    texts = {"id": inside.digest_of_file(str(project))}
    made = threading.Thread(target=moved, args=(project, file, texts), daemon=True)
    made.start()
    made.join(10)
    assert not made.is_alive()
    assert (file.path.modification_time, file.checksum.checksum) == (-1.0, "")
