from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_defer.bundle import ParsedWith, digest_of_vars
from ci_defer.dbt.arguments import (
    OURS,
    OURS_SHORT,
    for_operation,
    for_parse,
    for_plan,
    has_full_refresh,
    parsed_with,
    parses_partially,
    split,
    stores_failures,
)
from ci_defer.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("  \n ", ()),
        ("--threads 8\n--fail-fast", ("--threads", "8", "--fail-fast")),
        ("""--vars '{"day": "2026-01-01"}'""", ("--vars", '{"day": "2026-01-01"}')),
        ("--vars \"{a: 'b c'}\"", ("--vars", "{a: 'b c'}")),
        ("-x -d", ("-x", "-d")),
        ("--event-time-start=2026-01-01", ("--event-time-start=2026-01-01",)),
        ("$(rm -rf /) `x` *", ("$(rm", "-rf", "/)", "`x`", "*")),
    ],
)
def test_split__as_a_shell_would(text: str, expected: tuple[str, ...]) -> None:
    assert split(text) == expected


@pytest.mark.parametrize("text", ["--vars '{a: 1}", 'x "', "x \\"])
def test_split__refuses_an_open_quote(text: str) -> None:
    with pytest.raises(ConfigurationError, match="dbt-args cannot be split"):
        split(text)


@pytest.mark.parametrize("flag", OURS)
@pytest.mark.parametrize("form", ["{}", "{} x", "{}=x", "--threads 4 {}"])
def test_split__refuses_what_would_override_ours(flag: str, form: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        split(form.format(flag))
    assert caught.value.message == f"dbt-args may not hold {flag}, which ci-defer sets itself."
    assert caught.value.hint == f"Use {OURS[flag]}."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((f"-{letter}", flag) for letter, flag in OURS_SHORT.items()),
        ("-sorders", "--select"),
        ("-xs orders", "--select"),
        ("-xtprod", "--target"),
    ],
)
def test_split__refuses_the_short_forms_also_in_a_cluster(text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=f"may not hold {expected},"):
        split(text)


@pytest.mark.parametrize(
    "text",
    ["--full-refresh", "--no-partial-parse", "--selectors", "--store-failures", "-f", "-q", "-"],
)
def test_split__takes_what_is_not_ours(text: str) -> None:
    assert split(text) == (text,)


WORDS = split(
    "--threads 8 --full-refresh --vars '{a: 1}' --event-time-start=2026 --sample '3 days' "
    "--resource-type model --fail-fast"
)


def test_for_plan__leaves_out_what_only_build_takes() -> None:
    assert for_plan(WORDS) == ("--vars", "{a: 1}", "--resource-type", "model", "--fail-fast")


def test_for_parse__leaves_out_what_selects_too() -> None:
    assert for_parse(WORDS) == ("--threads", "8", "--vars", "{a: 1}", "--fail-fast")


def test_for_parse__leaves_out_all_values_of_a_flag_that_takes_several() -> None:
    words = split("--resource-type model seed --exclude-resource-type=test unit_test --fail-fast")
    assert for_parse(words) == ("--fail-fast",)


def test_for_operation__lets_it_print() -> None:
    words = (*WORDS, "--no-print", "-q", "--quiet", "--profile", "x")
    kept = ("--threads", "8", "--vars", "{a: 1}", "--fail-fast", "--profile", "x")
    assert for_operation(words) == kept


@pytest.mark.parametrize("words", [(), ("--threads",), ("--sample",)])
def test_for_plan__of_a_flag_without_its_value_is_left_to_dbt(words: tuple[str, ...]) -> None:
    assert for_plan(words) == ()


# How dbt parses -------------------------------------------------------------------------------


def of_vars(text: str) -> str:
    """The digest, told by the bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ParsedWith()),
        ("--fail-fast --threads 4", ParsedWith()),
        ("--profile x", ParsedWith(profile="x")),
        ("--profile=x", ParsedWith(profile="x")),
        ("--profile=a=b", ParsedWith(profile="a=b")),
        ("--profile x --threads 4 --profile y", ParsedWith(profile="y")),
        ("--profile=x --profile y", ParsedWith(profile="y")),
        ("--profile x --profile=y", ParsedWith(profile="y")),
        ("--profile", ParsedWith()),
        ("--profile-x y", ParsedWith()),
        ("--vars '{day: 1}'", ParsedWith(vars_sha256=of_vars('{"day":1}'))),
        ("--vars='{day: 1}'", ParsedWith(vars_sha256=of_vars('{"day":1}'))),
        ("--vars 'day: 1'", ParsedWith(vars_sha256=of_vars('{"day":1}'))),
        ("--vars '{\"day\": 1}'", ParsedWith(vars_sha256=of_vars('{"day":1}'))),
        ("--vars '{b: x=y, a: 2}'", ParsedWith(vars_sha256=of_vars('{"a":2,"b":"x=y"}'))),
        ("--vars='{b: x=y}'", ParsedWith(vars_sha256=of_vars('{"b":"x=y"}'))),
        ("--vars '{a: {c: [1, null], b: é}}'", of_vars('{"a":{"b":"é","c":[1,null]}}')),
        ("--vars '{day: 2026-01-02}'", of_vars('{"day":"2026-01-02"}')),
        ("--vars '{a: 1}' --vars '{b: 2}'", of_vars('{"b":2}')),
        ("--vars '{a: 1}' --vars='{b: 2}'", of_vars('{"b":2}')),
        ("--vars='{a: 1}' --vars '{b: 2}'", of_vars('{"b":2}')),
        ("--vars '{}'", ParsedWith()),
        ("--vars ''", ParsedWith()),
        ("--vars=", ParsedWith()),
        ("--vars", ParsedWith()),
        ("--vars '{a: 1}' --vars '{}'", ParsedWith()),
        # What is wrong with them is dbt's to say: they are only like nothing else.
        ("--vars '{a: '", of_vars('"{a: "')),
        ("--vars 'a: b: c'", of_vars('"a: b: c"')),
    ],
)
def test_parsed_with__is_what_the_last_of_each_flag_says(
    text: str, expected: ParsedWith | str
) -> None:
    if isinstance(expected, str):
        expected = ParsedWith(vars_sha256=expected)
    assert parsed_with(None, split(text)) == expected


@pytest.mark.parametrize(("target", "expected"), [(None, ""), ("", ""), ("ci", "ci")])
def test_parsed_with__has_the_target_that_was_told(target: str | None, expected: str) -> None:
    assert parsed_with(target, ()) == ParsedWith(target=expected)


def test_parsed_with__never_holds_the_vars_themselves() -> None:
    assert "secret" not in repr(parsed_with("ci", ("--vars", "{key: secret}")))
    assert "secret" not in repr(parsed_with("ci", ("--vars", "{key: secret")))


# What YAML takes as it is: the rest of Unicode is escaped, in another way than JSON does it.
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.sampled_from("é…😀"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_parsed_with__of_vars_is_what_dbt_records_of_them(values: dict[str, object]) -> None:
    # JSON is YAML, and run_results.json is what production's digest is made from.
    word = json.dumps(values, ensure_ascii=False)
    expected = ParsedWith(vars_sha256=digest_of_vars(json.loads(word)))
    assert parsed_with(None, ("--vars", word)) == expected
    assert parsed_with(None, (f"--vars={word}",)) == expected


@pytest.mark.parametrize(
    "text", ["{tiers: {1: gold}}", "{1: a}", "{no: 1}", "{2026-01-01: x}", "{null: 1}"]
)
def test_parsed_with__of_keys_that_are_no_text(text: str) -> None:
    # dbt takes them: `{{ var('tiers')[1] }}`. Its JSON then has them as text.
    assert parsed_with(None, ("--vars", text)).vars_sha256


@pytest.mark.parametrize(
    "text", ["{day: 2026-02-30}", "[" * 5000, '{"a": "\\ud83d\\ude00"}'], ids=str.__len__
)
def test_parsed_with__of_vars_that_are_none_is_left_to_dbt(text: str) -> None:
    assert parsed_with(None, ("--vars", text)).vars_sha256


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("--threads 4 --fail-fast", False),
        ("--full-refresh", True),
        ("-f", True),
        ("-xf", True),
        ("--no-full-refresh", False),
        ("--full-refresh --no-full-refresh", False),
        ("--no-full-refresh -f", True),
        ("--favor", False),
    ],
)
def test_full_refresh__is_told_from_the_flags(text: str, expected: bool) -> None:
    assert has_full_refresh(split(text), {}) == expected
    # A flag goes before the variable.
    others = {"DBT_FULL_REFRESH": "1"} if not expected else {"DBT_FULL_REFRESH": "0"}
    asked = "refresh" in text or expected
    assert has_full_refresh(split(text), others) == (expected if asked else True)


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("", {}, False),
        ("--store-failures", {}, True),
        ("", {"DBT_STORE_FAILURES": "1"}, True),
        ("", {"DBT_ENGINE_STORE_FAILURES": "True"}, True),
        ("", {"DBT_STORE_FAILURES": "false"}, False),
        ("", {"DBT_ENGINE_STORE_FAILURES": "0", "DBT_STORE_FAILURES": "1"}, False),
    ],
)
def test_stores_failures__by_the_flag_or_its_variable(
    text: str, environ: dict[str, str], expected: bool
) -> None:
    assert stores_failures(split(text), environ) == expected


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("", {}, True),
        ("--no-partial-parse", {}, False),
        ("--no-partial-parse --partial-parse", {}, True),
        ("", {"DBT_PARTIAL_PARSE": "false"}, False),
        ("", {"DBT_ENGINE_PARTIAL_PARSE": "0"}, False),
        ("", {"DBT_ENGINE_PARTIAL_PARSE": "1", "DBT_PARTIAL_PARSE": "0"}, True),
        ("", {"DBT_PARTIAL_PARSE": ""}, True),
        ("--partial-parse", {"DBT_PARTIAL_PARSE": "False"}, True),
    ],
)
def test_partial_parse__is_dbt_s_default(
    text: str, environ: dict[str, str], expected: bool
) -> None:
    assert parses_partially(split(text), environ) is expected
