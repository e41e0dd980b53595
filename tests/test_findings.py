from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ci_defer import findings
from ci_defer.manifest import Compiled, Manifest, RunResults
from ci_defer.report import Counts, Deferred, NodeOutcome, NodeReport
from tests.samples import manifest, node, run_results

A, B, C, D = (f"model.shop.{name}" for name in "abcd")


def read(*nodes: Mapping[str, Any], **more: Any) -> Manifest:
    return msgspec.json.decode(json.dumps({**manifest(nodes), **more}), type=Manifest)


def compiled(*nodes: Mapping[str, Any]) -> dict[str, Compiled]:
    return {made["unique_id"]: msgspec.convert(made, Compiled) for made in nodes}


def results(*entries: Mapping[str, Any], **statuses: str) -> RunResults:
    """Results of models by name, or whole entries."""
    basic = run_results({f"model.shop.{name}": status for name, status in statuses.items()})
    basic["results"] += entries
    return msgspec.json.decode(json.dumps(basic), type=RunResults)


def reported(name: str, outcome: NodeOutcome = NodeOutcome.BUILT, **more: Any) -> NodeReport:
    basic = {
        "unique_id": f"model.shop.{name}",
        "name": name,
        "resource_type": "model",
        "outcome": outcome,
        "status": "error" if outcome is NodeOutcome.ERRORED else "success",
    }
    return NodeReport(**{**basic, **more})


def node_reports(
    planned: Sequence[str],
    made: Manifest,
    found: RunResults | None,
    ran: Mapping[str, Compiled] | None = None,
    *,
    finished: bool = True,
) -> list[NodeReport]:
    return findings.node_reports(
        planned, made, found, compiled=ran or {}, finished=finished, project_dir=Path("/srv/shop")
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("success", NodeOutcome.BUILT),
        ("pass", NodeOutcome.PASSED),
        ("warn", NodeOutcome.WARNED),
        ("fail", NodeOutcome.FAILED),
        ("error", NodeOutcome.ERRORED),
        ("ERROR", NodeOutcome.ERRORED),
        ("runtime error", NodeOutcome.ERRORED),
        ("partial success", NodeOutcome.ERRORED),
        ("skipped", NodeOutcome.SKIPPED),
        ("no-op", NodeOutcome.NO_OP),
        ("reused", NodeOutcome.NO_OP),
        ("a word of tomorrow", NodeOutcome.OTHER),
    ],
)
def test_node_reports__outcome_of_each_status(status: str, expected: NodeOutcome) -> None:
    [report] = node_reports([A], read(node(A)), results(a=status))
    assert (report.outcome, report.status) == (expected, status)


def test_node_reports__hold_what_dbt_said() -> None:
    made = node(A, compiled_path="target/compiled/a.sql", original_file_path="models/a.sql")
    entry = {
        "unique_id": A,
        "status": "fail",
        "execution_time": 1.23456,
        "message": "Got 2 results",
        "failures": 2,
    }
    assert node_reports([], read(made), results(entry), compiled(made)) == [
        NodeReport(
            unique_id=A,
            name="a",
            resource_type="model",
            outcome=NodeOutcome.FAILED,
            status="fail",
            package="shop",
            path="models/a.sql",
            materialized="table",
            relation='"db"."prod"."a"',
            seconds=1.235,
            message="Got 2 results",
            failures=2,
            compiled_path="target/compiled/a.sql",
        )
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/srv/shop/target/compiled/a.sql", "target/compiled/a.sql"),
        ("/srv/shop-2/target/compiled/a.sql", "/srv/shop-2/target/compiled/a.sql"),
        ("target/compiled/a.sql", "target/compiled/a.sql"),
    ],
)
def test_node_reports__compiled_path_is_from_the_project_directory(
    path: str, expected: str
) -> None:
    made = node(A, compiled_path=path)
    [report] = node_reports([], read(made), results(a="success"), compiled(made))
    assert report.compiled_path == expected


def test_node_reports__are_in_the_order_of_the_run_then_of_the_plan() -> None:
    made = read(*map(node, (A, B, C, D)))
    reports = node_reports([A, B, C, D], made, results(c="success", a="success"))
    assert [report.unique_id for report in reports] == [C, A, B, D]


def test_node_reports__a_hook_is_no_built_node() -> None:
    hook = "operation.shop.shop-on-run-end-0"
    made = read(node(hook, resource_type="operation"))
    entries = results({"unique_id": hook, "status": "success"})
    [report] = node_reports([], made, entries)
    assert report.outcome is NodeOutcome.HOOK


def test_node_reports__an_ephemeral_model_has_no_result_but_an_error() -> None:
    # dbt v2 writes one for each that is read, selected or not.
    made = read(*(node(name, config={"materialized": "ephemeral"}) for name in (A, B, C)))
    reports = node_reports([B], made, results(a="skipped", b="skipped", c="error"))
    assert [(report.name, report.outcome) for report in reports] == [
        ("c", NodeOutcome.ERRORED),
        ("b", NodeOutcome.NOT_RUN),
    ]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"message": "Error", "failures": 1}, "Got 1 result"),
        ({"message": "Error", "failures": 1200}, "Got 1,200 results"),
        ({"message": "Error", "failures": None}, "Error"),
        ({"message": "Got 2 results", "failures": 2}, "Got 2 results"),
    ],
)
def test_node_reports__a_failed_test_of_dbt_v2_says_how_much_failed(
    entry: dict[str, Any], expected: str
) -> None:
    [report] = node_reports([], read(), results({"unique_id": A, "status": "fail", **entry}))
    assert report.message == expected


def test_node_reports__of_what_the_manifest_does_not_hold_are_named_by_the_id() -> None:
    entries = results({"unique_id": "test.shop.not_null_x.1a2b", "status": "pass"})
    [report] = node_reports([], read(), entries)
    assert (report.resource_type, report.name, report.outcome) == (
        "test",
        "1a2b",
        NodeOutcome.PASSED,
    )


@pytest.mark.parametrize(
    ("made", "finished", "expected"),
    [
        (node(A), False, "dbt stopped before it"),
        (node(A), True, "dbt build did not run it"),
        (node(A, config={"materialized": "ephemeral"}), True, findings.EPHEMERAL),
        (node("source.shop.raw.x"), True, "a source is read, not built"),
        (node("exposure.shop.x"), True, "dbt build does not run exposures"),
    ],
)
def test_node_reports__say_why_there_is_no_result(
    made: dict[str, Any], finished: bool, expected: str
) -> None:
    [report] = node_reports([made["unique_id"]], read(made), None, finished=finished)
    assert (report.outcome, report.message, report.status) == (NodeOutcome.NOT_RUN, expected, "")


def test_count__each_outcome_once() -> None:
    nodes = [reported(outcome.value, outcome) for outcome in NodeOutcome]
    assert findings.count(nodes) == Counts(**dict.fromkeys(Counts.__struct_fields__, 1))
    assert findings.count([]) == Counts()


def failed(name: str, message: str, **more: Any) -> NodeReport:
    relation = f'"db"."pr"."{name}"'
    return reported(name, NodeOutcome.ERRORED, message=message, relation=relation, **more)


def groups(*nodes: NodeReport) -> list[list[str]]:
    return [
        [unique_id.rpartition(".")[2] for unique_id in cause.unique_ids]
        for cause in findings.causes(nodes)
    ]


def test_causes__group_by_what_the_database_said_largest_first() -> None:
    nodes = [failed("x1", "no such column"), *(failed(f"y{n}", "cannot connect") for n in range(3))]
    assert groups(*nodes, reported("fine")) == [["y0", "y1", "y2"], ["x1"]]
    assert findings.causes(nodes)[0].message == "cannot connect"


def test_causes__names_of_the_node_itself_do_not_tell_messages_apart() -> None:
    heading = "Database Error in model {0} (models/{0}.sql)\n"
    message = heading + '  relation "db"."pr"."{0}" is locked\n  compiled code at target/{0}.sql'
    assert groups(*(failed(name, message.format(name)) for name in ("orders", "users"))) == [
        ["orders", "users"]
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("user", "orders"), "could not connect as user dbt"),
        (("a", "b"), "Database is down"),
        (("base", "orders"), "Database is down"),
    ],
)
def test_causes__the_same_message_is_one_cause_whatever_the_nodes_are_called(
    names: tuple[str, ...], message: str
) -> None:
    assert groups(*(failed(name, message) for name in names)) == [list(names)]


def test_causes__other_messages_are_other_causes() -> None:
    assert groups(failed("a1", "no column x"), failed("a2", "no column y")) == [["a1"], ["a2"]]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "Database Error in model a (models/a.sql)\n  no table\n  compiled code at x.sql",
            "no table",
        ),
        ("Runtime Error in seed a.b (seeds/b.csv)\n  bad\n    row", "bad\n  row"),
        ("Got 2 results, configured to fail if != 0", "Got 2 results, configured to fail if != 0"),
        ("Database Error in model a (models/a.sql)", "Database Error in model a (models/a.sql)"),
        ("", "error"),
    ],
)
def test_essence__is_the_message_without_what_the_report_shows_anyway(
    message: str, expected: str
) -> None:
    assert findings.essence(failed("a", message)) == expected


def refers(unique_id: str, sql: str, *parents: str, **more: Any) -> dict[str, Any]:
    return node(unique_id, compiled_code=sql, depends_on={"nodes": list(parents)}, **more)


PRODUCTION = read(node(B), node(C), node("source.shop.raw.x"))


def deferred(*nodes: dict[str, Any], ran: tuple[str, ...] = ("a",)) -> list[str]:
    reports = [reported(name) for name in ran]
    found = findings.deferred(
        reports, read(*nodes), PRODUCTION, results(b="success"), compiled(*nodes)
    )
    return [item.unique_id for item in found]


def test_deferred__is_what_the_compiled_sql_reads_from_production() -> None:
    reads = refers(A, 'select * from "db"."prod"."b" join "db"."pr"."c" using (id)', B, C)
    found = findings.deferred(
        [reported("a")],
        read(reads, node(B), node(C)),
        PRODUCTION,
        results(b="error"),
        compiled(reads),
    )
    assert found == [
        Deferred(unique_id=B, name="b", relation='"db"."prod"."b"', production_status="error")
    ]


@pytest.mark.parametrize(
    ("relation", "sql", "expected"),
    [
        ("db.prod.b", "from db.prod.b", True),
        ("db.prod.b", "from db.prod.b;", True),
        ("db.prod.b", "from (db.prod.b)", True),
        ("db.prod.b", "select db.prod.b.id from x", True),
        ("db.prod.b", "from db.prod.b_v2", False),
        ("db.prod.b", "from other_db.prod.b", False),
        ("prod.b", "from db.prod.b", False),
        ("`p-1`.`prod`.`b`", "from `p-1`.`prod`.`b`", True),
        ('"db"."prod"."b"', 'from "db"."prod"."bb"', False),
    ],
)
def test_deferred__the_relation_must_stand_there_as_a_whole(
    relation: str, sql: str, expected: bool
) -> None:
    production = read(node(B, relation_name=relation))
    reads = refers(A, sql, B)
    found = findings.deferred(
        [reported("a")], read(reads, node(B)), production, None, compiled(reads)
    )
    assert bool(found) == expected


def test_deferred__looks_through_ephemeral_parents() -> None:
    sql = 'with x as (select * from "db"."prod"."b") select * from x'
    between = node(D, config={"materialized": "ephemeral"}, depends_on={"nodes": [B]})
    assert deferred(refers(A, sql, D), between, node(B)) == [B]


def test_deferred__never_lists_what_this_run_built_or_what_did_not_run() -> None:
    sql = 'select * from "db"."prod"."b"'
    assert deferred(refers(A, sql, B), node(B), ran=("a", "b")) == []
    assert deferred(refers(A, sql, B), node(B), ran=()) == []


def test_deferred__never_lists_sources_and_survives_cycles() -> None:
    source = node("source.shop.raw.x")
    sql = "select * from " + source["relation_name"]
    loop = node(D, config={"materialized": "ephemeral"}, depends_on={"nodes": [D]})
    assert deferred(refers(A, sql, source["unique_id"], D), source, loop) == []


def test_warnings__of_unit_tests_that_did_not_run() -> None:
    idle = [
        reported(f"t{n}", NodeOutcome.NOT_RUN, resource_type="unit_test", status="")
        for n in range(5)
    ]
    [warning] = findings.warnings(idle, [], finished=True)
    assert "t0, t1, t2 and 2 more" in warning
    assert findings.warnings(idle, [], finished=False) == []


@pytest.mark.parametrize(
    ("status", "warned"),
    [("success", False), ("", False), ("warn", False), ("error", True), ("skipped", True)],
)
def test_warnings__of_relations_that_productions_own_run_did_not_build(
    status: str, warned: bool
) -> None:
    item = Deferred(unique_id=B, name="b", relation="b", production_status=status)
    assert bool(findings.warnings([], [item], finished=True)) == warned


def test_seconds_saved__is_what_production_spent_on_the_rest() -> None:
    production = results(a="success", b="success", c="error")
    assert findings.seconds_saved([A], production) == 4.0
    assert findings.seconds_saved([A, B, C], production) == 0.0
    assert findings.seconds_saved([A], None) is None


# What production spends -----------------------------------------------------------------------


def test_production_seconds__are_of_what_is_planned() -> None:
    # Each node of the samples takes 2 s.
    production = results(a="success", b="error", c="success")
    assert findings.production_seconds([A, B], production) == 4.0
    assert findings.production_seconds([A, D], production) == 2.0
    # A node that is named twice is built once.
    assert findings.production_seconds([A, A], production) == 2.0
    assert findings.production_seconds(iter([C]), production) == 2.0


def test_production_seconds__and_those_saved_are_all_of_the_run() -> None:
    production = results(a="success", b="success", c="success")
    spent = findings.production_seconds([A], production)
    saved = findings.seconds_saved([A], production)
    assert spent is not None
    assert saved is not None
    assert (spent, saved) == (2.0, 4.0)


def test_production_seconds__are_unknown_without_results_and_none_of_new_nodes() -> None:
    assert findings.production_seconds([A], None) is None
    assert findings.production_seconds([D], results(a="success")) == 0.0
    assert findings.production_seconds([], results(a="success")) == 0.0


def test_production_seconds__are_rounded_for_people() -> None:
    entries = [
        {"unique_id": unique_id, "status": "success", "execution_time": 0.333}
        for unique_id in (A, B, C)
    ]
    assert findings.production_seconds([A, B, C], results(*entries)) == 1.0
    assert findings.production_seconds([A], results(*entries)) == 0.3
