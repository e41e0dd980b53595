from __future__ import annotations

import msgspec
import pytest

from ci_defer.report import (
    Cause,
    Command,
    Counts,
    Deferred,
    NodeOutcome,
    NodeReport,
    Outcome,
    Problem,
    Removed,
    Report,
    State,
    decode,
    encode,
    schema,
)

FULL = Report(
    outcome=Outcome.FAILURE,
    headline="1 node failed",
    project="shop",
    project_dir=".",
    started_at="2026-01-02T03:04:05+00:00",
    seconds=1.5,
    problem=Problem(message="m", hint="h", exit_code=1),
    state=State(location="/store", has_provenance=True, commit="a" * 40, age_commits=0),
    selected_count=1,
    counts=Counts(errored=1, not_run=2),
    nodes=[
        NodeReport(
            unique_id="model.shop.a",
            name="a",
            resource_type="model",
            outcome=NodeOutcome.ERRORED,
            status="error",
            failures=3,
        ),
        NodeReport(
            unique_id="model.shop.b", name="b", resource_type="model", outcome=NodeOutcome.NO_OP
        ),
    ],
    causes=[Cause(message="no", unique_ids=["model.shop.a"])],
    deferred=[Deferred(unique_id="model.shop.c", name="c", relation="db.c")],
    removed=[Removed(unique_id="model.shop.d", name="d", resource_type="model", disabled=True)],
    warnings=["w"],
    commands=[Command(arguments=["dbt", "build"], exit_code=1, seconds=1.0)],
    seconds_saved=2.5,
)


def report(outcome: Outcome, problem: Problem | None = None) -> Report:
    return msgspec.structs.replace(FULL, outcome=outcome, problem=problem)


def test_encode__is_what_decode_reads() -> None:
    assert decode(encode(FULL)) == FULL


def test_encode__is_readable_and_has_dashes_in_its_words() -> None:
    text = encode(FULL).decode()
    assert text.startswith('{\n  "outcome": "failure",\n')
    assert text.endswith("}\n")
    assert '"outcome": "no-op"' in text
    assert '"not_run": 2' in text


@pytest.mark.parametrize("raw", [b"{}", b'{"outcome": "fine"}', b"", b"null"])
def test_decode__refuses_what_is_no_report(raw: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(raw)


def test_schema__names_every_field_and_the_version() -> None:
    made = schema()
    report_schema = made["$defs"]["Report"]
    assert set(report_schema["properties"]) == set(Report.__struct_fields__)
    assert report_schema["properties"]["schema_version"]["default"] == 1
    assert report_schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome.SUCCESS, 0),
        (Outcome.NO_CHANGES, 0),
        (Outcome.NO_STATE, 0),
        (Outcome.FAILURE, 1),
        (Outcome.CANCELLED, 130),
    ],
)
def test_exit_code__of_each_outcome(outcome: Outcome, expected: int) -> None:
    assert report(outcome).exit_code == expected


@pytest.mark.parametrize("expected", [1, 2, 3])
def test_exit_code__is_that_of_the_problem(expected: int) -> None:
    assert report(Outcome.ERROR, Problem(message="m", exit_code=expected)).exit_code == expected


def test_failed__are_the_nodes_that_make_it_red() -> None:
    assert [node.name for node in FULL.failed] == ["a"]
