from __future__ import annotations

import pytest

from ci_defer.dbt.arguments import OURS, OURS_SHORT, for_parse, for_plan, split
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


@pytest.mark.parametrize("words", [(), ("--threads",), ("--sample",)])
def test_for_plan__of_a_flag_without_its_value_is_left_to_dbt(words: tuple[str, ...]) -> None:
    assert for_plan(words) == ()
