from __future__ import annotations

import stat
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ci_defer.errors import ConfigurationError
from ci_defer.profiles import PROFILES_FILE, find_profiles, own_schema, with_schema

SCHEMA = "ci_pr_23"
PLAIN = """\
shop:
  target: prod
  outputs:
    prod: {type: duckdb, path: shop.duckdb, schema: analytics}
    ci:
      type: postgres
      schema: ci
      password: "{{ env_var('DBT_ENV_SECRET_PASSWORD') }}"
"""


def changed(
    text: str, profile: str = "shop", target: str | None = "ci", **environ: str
) -> dict[str, Any]:
    made = with_schema(text, SCHEMA, profile=profile, target=target, environ=environ)
    return dict(yaml.safe_load(made))


def expected(text: str, target: str = "ci", field: str = "schema") -> dict[str, Any]:
    """What YAML makes of the text, with that one field changed."""
    document: dict[str, Any] = deepcopy(yaml.safe_load(text))
    # Anchors share: a copy of its own, first.
    outputs = dict(document["shop"]["outputs"])
    outputs[target] = {**outputs[target], field: SCHEMA}
    document["shop"] = {**document["shop"], "outputs": outputs}
    return document


@pytest.mark.parametrize("target", ["ci", "prod"])
def test_schema__of_one_target_changes_and_nothing_else(target: str) -> None:
    assert changed(PLAIN, target=target) == expected(PLAIN, target)


@pytest.mark.parametrize(
    "output",
    [
        "{type: duckdb}",
        "{type: duckdb, schema: }",
        "{type: duckdb, schema: 2024}",
        "{type: duckdb, schema: \"{{ env_var('X') }}\"}",
        "{schema: a, type: duckdb, schema: b}",
        "{type: duckdb, schema: &name a, database: *name}",
        "{type: duckdb, database: &name a, schema: *name}",
        "&other {type: duckdb, schema: a}",
        "{type: duckdb, 'schema': 'a'}",
        "{type: duckdb, ? schema : a}",
        "{type: duckdb, schema: !!str 1}",
    ],
)
def test_schema__however_it_is_written(output: str) -> None:
    text = f"shop:\n  outputs:\n    ci: {output}\n    prod: {{type: duckdb, schema: x}}\n"
    assert changed(text) == expected(text)


@pytest.mark.parametrize("output", ["{type: bigquery, dataset: x}", "{<<: *base}"])
def test_dataset__is_the_schema_of_some_adapters(output: str) -> None:
    base = "base: &base {type: bigquery, dataset: y}"
    text = f"{base}\nshop:\n  outputs:\n    ci: {output}\n"
    assert changed(text) == expected(text, field="dataset")


SHARED = """\
base: &base {type: postgres, schema: shared, host: localhost}
others: &others
  dev: {<<: *base, user: dev}
shop: &shop
  target: ci
  outputs:
    <<: *others
    prod: &prod
      <<: [*base, {threads: 4, schema: never}]
    ci: *prod
again: *shop
other: {outputs: *others}
"""


@pytest.mark.parametrize("target", ["ci", "prod", "dev"])
def test_anchors__what_they_share_with_others_stays(target: str) -> None:
    assert changed(SHARED, target=target) == expected(SHARED, target)


def test_profile__that_is_made_of_another_one() -> None:
    text = "base: &base\n  outputs:\n    ci: {schema: x}\nshop:\n  <<: *base\n  target: ci\n"
    assert changed(text) == expected(text)


@pytest.mark.parametrize(
    "scalar",
    [
        *("on", "yes", "0123", "0o17", "0x1F", "1_000", "22:22", "1e3", "2026-01-01", "~", "null"),
        *("'on'", '"0123"', "''", "'it''s'", '"a\\nb"', "büro"),
        *("\"{{ env_var('A') }}\"", '\'{{ env_var("A", "b") | as_number }}\'', '"{% if x %}"'),
        "|\n        -----BEGIN KEY-----\n        abc\n",
        ">-\n        folded\n        text\n",
        '"' + "long words " * 30 + '"',
    ],
)
def test_scalars__keep_text_style_and_type(scalar: str) -> None:
    text = f"shop:\n  outputs:\n    ci:\n      schema: x\n      value: {scalar}\n"
    assert changed(text) == expected(text)
    # Another reader of YAML, such as that of dbt v2, may take them for something else: the same.
    made = with_schema(text, SCHEMA, profile="shop", target="ci", environ={})
    assert scalars(made) == [*scalars(text.replace("schema: x\n      ", "")), *OURS]


# As they are written, with the style.
OURS = [(None, "schema"), ('"', SCHEMA)]


def scalars(document: str) -> list[tuple[str | None, str]]:
    tokens = yaml.scan(document, Loader=yaml.SafeLoader)
    return [(token.style, token.value) for token in tokens if isinstance(token, yaml.ScalarToken)]


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.dates(), st.text(), st.floats(allow_nan=False)
)
OUTPUTS = st.dictionaries(
    st.one_of(st.text(min_size=1), st.sampled_from(["schema", "dataset", "type"])),
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=5),
    max_size=6,
)


@given(OUTPUTS, OUTPUTS, st.booleans())
def test_any_profile__is_the_same_but_for_the_schema(
    ours: dict[str, Any], theirs: dict[str, Any], flow: bool
) -> None:
    document = {"shop": {"outputs": {"ci": ours, "prod": theirs, "again": ours}}}
    text = yaml.safe_dump(document, default_flow_style=flow, allow_unicode=True)
    field = "dataset" if "dataset" in ours and "schema" not in ours else "schema"
    assert changed(text) == expected(text, field=field)


@pytest.mark.parametrize(
    ("written", "environ", "target"),
    [
        ("ci", {}, "ci"),
        ("\"{{ env_var('T') }}\"", {"T": "ci"}, "ci"),
        ("\"{{env_var('T','prod')}}\"", {}, "prod"),
        ('\'{{ env_var("T", "prod") }}\'', {"T": "ci"}, "ci"),
        ("\"{{- env_var('T', 'ci') -}}\"", {}, "ci"),
    ],
)
def test_target__is_the_default_of_the_profile(
    written: str, environ: dict[str, str], target: str
) -> None:
    text = PLAIN.replace("target: prod", f"target: {written}")
    assert changed(text, target=None, **environ) == expected(text, target)


def test_target__without_a_word_is_dbts_own_default() -> None:
    text = "shop:\n  outputs:\n    default: {schema: x}\n"
    assert changed(text, target=None) == expected(text, "default")


def test_profile__may_come_from_the_environment() -> None:
    made = changed(PLAIN, profile="{{ env_var('TEA_PROFILE') }}", TEA_PROFILE="shop")
    assert made == expected(PLAIN)


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        ("shop: [", {}, r"profiles.yml is no YAML in line 1\."),
        ("- shop", {}, "holds no profiles"),
        ("", {}, "holds no profiles"),
        ("other: {}", {}, "has no profile 'shop'"),
        ("shop: text", {}, "has no profile 'shop'"),
        (PLAIN, {"target": "cii"}, r"has no target 'cii'\. Set target to one of .*: prod, ci\."),
        ("shop: {outputs: {}}", {}, r"it has none\."),
        ("shop: {target: ci}", {}, r"it has none\."),
        ("shop: {outputs: {ci: text}}", {}, "has no target 'ci'"),
        (PLAIN, {"profile": "{{ env_var('GONE') }}"}, "profile is meant cannot be told"),
        (PLAIN, {"profile": "{{ var('p') }}"}, "profile is meant cannot be told"),
        (
            PLAIN.replace("prod\n", "\"{{ 'c' ~ 'i' }}\"\n", 1),
            {"target": None},
            "target is meant cannot be told.* with the setting target",
        ),
    ],
)
def test_profiles__that_cannot_be_used(text: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        changed(text, **more)
    caught.match(message)


@pytest.mark.parametrize("prefix", ["DBT", "DBT_ENGINE"])
def test_variables__that_say_otherwise_are_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match=f"The variable {prefix}_TARGET says another"):
        changed(PLAIN, target=None, **{f"{prefix}_TARGET": "ci"})
    with pytest.raises(ConfigurationError, match=f"The variable {prefix}_PROFILE says another"):
        changed(PLAIN, **{f"{prefix}_PROFILE": "other"})
    # The setting goes before the variable, and what says the same is no matter.
    assert changed(PLAIN, **{f"{prefix}_TARGET": "prod"}) == expected(PLAIN)
    same = {f"{prefix}_TARGET": "prod", f"{prefix}_PROFILE": "shop"}
    assert changed(PLAIN, target=None, **same) == expected(PLAIN, "prod")


def test_yaml_errors__do_not_quote_the_file() -> None:
    with pytest.raises(ConfigurationError) as caught:
        changed("shop:\n  password: hunter2: hunter3\n")
    assert "hunter" not in str(caught.value)


def write(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PROFILES_FILE).write_text(PLAIN, encoding="utf-8")
    return folder


def test_find__looks_where_dbt_looks(tmp_path: Path) -> None:
    here, home = tmp_path / "here", tmp_path / "home"
    environ = {"HOME": str(home)}
    with pytest.raises(ConfigurationError, match=f"no profiles.yml in {here} or {home}/.dbt"):
        find_profiles(None, here, environ)
    write(home / ".dbt")
    assert find_profiles(None, here, environ).parent == home / ".dbt"
    write(here)
    assert find_profiles(None, here, environ).parent == here
    write(here / "named")
    environ["DBT_PROFILES_DIR"] = "named"
    assert find_profiles(None, here, environ).parent == here / "named"
    environ["DBT_ENGINE_PROFILES_DIR"] = str(write(tmp_path / "engine"))
    assert find_profiles(None, here, environ).parent == tmp_path / "engine"
    assert find_profiles(write(tmp_path / "set"), here, environ).parent == tmp_path / "set"
    with pytest.raises(ConfigurationError, match="Set profiles-dir"):
        find_profiles(tmp_path / "nowhere", here, environ)


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_copy__is_for_its_owner_alone_and_goes_away(
    tmp_path: Path, error: type[Exception] | None
) -> None:
    profiles = write(tmp_path / "user") / PROFILES_FILE
    made = own_schema(profiles, SCHEMA, profile="shop", target="ci", environ={})
    folders = []
    with pytest.raises(error) if error else nullcontext(), made as folder:
        folders.append(folder)
        copy = folder / PROFILES_FILE
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert yaml.safe_load(copy.read_text(encoding="utf-8")) == expected(PLAIN)
        (folder / ".user.yml").touch()
        if error:
            raise error
    assert [folder.exists() for folder in folders] == [False]
    assert profiles.read_text(encoding="utf-8") == PLAIN


def test_copy__is_not_made_of_what_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / PROFILES_FILE
    file.write_bytes(b"\xff\xfe\x00")
    with (
        pytest.raises(ConfigurationError, match="cannot be read"),
        own_schema(file, SCHEMA, profile="shop", target="ci", environ={}),
    ):
        pass
