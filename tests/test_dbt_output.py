from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ci_defer.characters import strip_ansi
from ci_defer.dbt.output import MESSAGE_LINES, error_message, listed_ids

NOISE = st.lists(st.sampled_from([*'{}[]":, \\', "unique_id", "null", "\x1b[0m", "x", "1e9"])).map(
    "".join
)
IDS = st.text(st.sampled_from('a.{}"\\\n\u00e9 '), max_size=8)


@given(st.lists(IDS.map(lambda value: (value, json.dumps({"unique_id": value})))), st.lists(NOISE))
@example([("model.shop.a", '  {"unique_id": "model.shop.a"}\r')], ["{", "{}", '{"unique_id": 1}'])
def test_listed_ids__are_those_of_dbt_in_its_order(
    entries: list[tuple[str, str]], noise: list[str]
) -> None:
    noise = [line for line in noise if not listed_ids([line])]
    lines = [line for _, line in entries]
    expected = tuple(value for value, _ in entries)
    assert listed_ids(noise + lines) == expected
    assert listed_ids([item for line in lines for item in (line, *noise)]) == expected


@given(st.lists(NOISE))
def test_listed_ids__of_anything_are_texts(lines: list[str]) -> None:
    assert all(type(value) is str for value in listed_ids(lines))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        '"unique_id"',
        '{"unique_id": null}',
        '{"unique_id": ["a"]}',
        '{"name": "a"}',
        '{"unique_id": "a"',
        'x {"unique_id": "a"}',
        '{"a": ' * 100_000,
    ],
    ids=lambda line: line[:20] or "empty",
)
def test_listed_ids__passes_over_what_is_no_listing(line: str) -> None:
    assert listed_ids([line, '{"unique_id": "b"}']) == ("b",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2K\x1b[1Ga", "a"),
        ("[31m", "[31m"),
    ],
)
def test_strip_ansi__takes_sequences_and_nothing_else(text: str, expected: str) -> None:
    assert strip_ansi(text) == expected


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("", "dbt printed nothing."),
        ("\n \n", "dbt printed nothing."),
        (
            "02:52:30  Run\n02:52:31  Encountered an error:\nCompilation Error\n  'a' needs 'b'",
            "Compilation Error: 'a' needs 'b'",
        ),
        (
            "02:52:31  [ERROR]: Encountered an error:\nRuntime Error\n  no profile",
            "Runtime Error: no profile",
        ),
        (
            (
                "02:52:31  Encountered an error while running operation: Database Error\n"
                "  a is used\n\n  > in macro drop (macros/a.sql)\n  > called by <Unknown>"
            ),
            "Database Error: a is used",
        ),
        (
            "Encountered an error:\nfirst\n02:52:32  Encountered an error:\nsecond",
            "second",
        ),
        (
            "Encountered an error:\nbad\nTraceback (most recent call last):\n  File x\nValueError",
            "bad",
        ),
        ("02:52:31.123456  one\n\n02:52:32  two", "one\ntwo"),
        (
            "Usage: dbt build\nTry 'dbt build -h'\n\nError: No such option: --x",
            "No such option: --x",
        ),
    ],
)
def test_error_message__is_the_error_without_decoration(tail: str, expected: str) -> None:
    assert error_message(tail) == expected


def test_error_message__of_a_traceback_alone_is_not_empty() -> None:
    tail = (
        'Encountered an error:\nTraceback (most recent call last):\n  File "x.py", line 1, in y\nE'
    )
    assert "Traceback" in error_message(tail)


def test_error_message__is_short() -> None:
    lines = [f"line {number}" for number in range(100)]
    assert error_message("\n".join(lines)).splitlines() == lines[-MESSAGE_LINES:]
    after = error_message("\n".join(["Encountered an error:", *lines]))
    assert after.splitlines() == lines[:MESSAGE_LINES]


LIST_OF_V2 = """\
dbt-fusion 2.0.0-preview.196

=================== Errors and Warnings ====================
[warning] [SemanticModelDeprecated (dbt1157)]: The legacy YAML.
[error] [DependencyNotFound (dbt1048)]: Ref 'nowhere' not found in project.
  --> models/orders.sql:1:15
   0: <unknown>
  13: start_thread
             at ./nptl/pthread_create.c:442:8

[warning] [UpcomingReferenceDeprecation (dbt1073)]: While compiling 'paid'.
[error] [UnusedConfigKey (dbt1060)]: Ignored unexpected key `"meta"`.
suggestion: Run 'dbt deps' to see the latest packages.

==================== Execution Summary =====================
Finished 'parse' with 2 warnings and 2 errors for target 'ci' [17ms]
"""
USAGE_OF_V2 = """\
error: unexpected argument '--emptyy' found

  tip: a similar argument exists: '--empty'

Usage: dbt build [OPTIONS]

For more information, try '--help'.
"""


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (
            LIST_OF_V2,
            """\
[DependencyNotFound (dbt1048)]: Ref 'nowhere' not found in project.
  --> models/orders.sql:1:15
[UnusedConfigKey (dbt1060)]: Ignored unexpected key `"meta"`.""",
        ),
        (USAGE_OF_V2, "unexpected argument '--emptyy' found"),
    ],
)
def test_error_message__of_dbt_v2__is_its_errors_alone(tail: str, expected: str) -> None:
    assert error_message(tail) == expected
