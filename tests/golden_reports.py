"""Reports of a project that rents bicycles, and their pages in tests/golden.

    python -m tests.golden_reports

writes the pages anew. Look at them, also with `make pictures`, before they are committed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ci_defer import findings, wording
from ci_defer.markdown import COMMENT, render
from ci_defer.report import (
    Change,
    Deferred,
    Exposure,
    NodeOutcome,
    NodeReport,
    Outcome,
    PassedOver,
    Problem,
    Reason,
    ReasonKind,
    Removed,
    Report,
    State,
)
from tests.harness import gfm
from tests.hostile import written

GOLDEN = Path(__file__).with_name("golden")

HEAD = "3f2a9c51d7e84b06a1c2f9d8e7b6a5948372615e"
BASE = "9d41c07be2f35a684c1d0e9b8a7f6e5d4c3b2a19"
STATE_COMMIT = "c81e5f0a72d94b3e8f6a1b2c3d4e5f60718293a4"

STATE = State(
    location="artifact ci-defer-state-bikes",
    has_provenance=True,
    commit=BASE,
    branch="main",
    created_at="2026-03-10T06:12:40+00:00",
    dbt_version="1.11.2",
    age_commits=0,
)
REPORT = Report(
    outcome=Outcome.SUCCESS,
    headline="",
    project="bikes",
    project_name="bikes",
    project_dir="transform",
    started_at="2026-03-10T09:41:07+00:00",
    seconds=48.3,
    dbt_version="1.11.2",
    adapter="postgres",
    target="ci",
    head_commit=HEAD,
    base_commit=BASE,
    repository_url="https://github.com/velo-city/analytics",
    run_url="https://github.com/velo-city/analytics/actions/runs/14208837121",
    state=STATE,
)

# Who reads whom in the project; what is not here reads nothing that is ours.
PARENTS = {
    "stg_rentals": (),
    "stg_stations": (),
    "stg_bikes": (),
    "int_rentals_with_stations": ("stg_rentals", "stg_stations"),
    "fct_rentals": ("int_rentals_with_stations", "dim_customers"),
    "fct_revenue": ("fct_rentals", "exchange_rates"),
    "dim_customers": (),
    "dim_bikes": ("stg_bikes",),
}
FOLDERS = {"stg": "staging", "int": "intermediate", "fct": "marts", "dim": "marts"}


KINDS = {
    Change.NEW: ReasonKind.NEW,
    Change.MODIFIED: ReasonKind.BODY,
    Change.DOWNSTREAM: ReasonKind.DOWNSTREAM,
}


def model(
    name: str, outcome: NodeOutcome = NodeOutcome.BUILT, *, reason: str = "", **more: Any
) -> NodeReport:
    """A model, with the words of dbt for its outcome."""
    if reason:
        more["reasons"] = [Reason(kind=KINDS[more["change"]], text=reason)]
    path = f"models/{FOLDERS.get(name[:3], 'marts')}/{name}.sql"
    words = {
        NodeOutcome.BUILT: "success",
        NodeOutcome.ERRORED: "error",
        NodeOutcome.SKIPPED: "skipped",
        NodeOutcome.NOT_RUN: "",
    }
    basic: dict[str, Any] = {
        "unique_id": f"model.bikes.{name}",
        "resource_type": "model",
        "status": words[outcome],
        "package": "bikes",
        "path": path,
        "materialized": "view" if name.startswith("stg") else "table",
        "relation": f'"bikes"."pr_118"."{name}"',
        "parents": [f"model.bikes.{parent}" for parent in PARENTS.get(name, ())],
        "seconds": 0.0 if outcome in (NodeOutcome.SKIPPED, NodeOutcome.NOT_RUN) else 1.8,
        "compiled_path": f"target/compiled/bikes/{path}",
    }
    return NodeReport(**{**basic, "name": name, **more}, outcome=outcome)


def generic_test(
    kind: str, column: str, of: str, outcome: NodeOutcome = NodeOutcome.PASSED, **more: Any
) -> NodeReport:
    """A generic test of a column of a model."""
    name = f"{kind}_{of}_{column}"
    basic: dict[str, Any] = {
        "unique_id": f"test.bikes.{name}.5b1c6f2e0a",
        "resource_type": "test",
        "status": {"passed": "pass", "failed": "fail", "warned": "warn"}.get(outcome.value, ""),
        "package": "bikes",
        "path": f"models/{FOLDERS[of[:3]]}/_{FOLDERS[of[:3]]}.yml",
        "parents": [f"model.bikes.{of}"],
        "seconds": 0.0 if outcome is NodeOutcome.SKIPPED else 0.3,
        "compiled_path": f"target/compiled/bikes/models/_{FOLDERS[of[:3]]}.yml/{name}.sql",
    }
    return NodeReport(**{**basic, "name": name, **more}, outcome=outcome)


def completed(nodes: Iterable[NodeReport], **more: Any) -> Report:
    """The report of a build that dbt has finished."""
    found = list(nodes)
    counts = findings.count(found)
    failed = bool(counts.failed or counts.errored)
    basic = replace(
        REPORT,
        outcome=Outcome.FAILURE if failed else Outcome.SUCCESS,
        headline=wording.failure(found, counts) if failed else wording.success(counts),
        selected_count=len(found),
        counts=counts,
        nodes=found,
        causes=findings.causes(found),
    )
    return replace(basic, **more)


MODIFIED: dict[str, Any] = {"change": Change.MODIFIED, "reason": "its SQL differs"}
DOWNSTREAM: dict[str, Any] = {"change": Change.DOWNSTREAM, "reason": "downstream of stg_rentals"}
DASHBOARD = Exposure(
    unique_id="exposure.bikes.weekly_revenue",
    name="weekly_revenue",
    type="dashboard",
    owner="Finance",
    path="models/marts/_exposures.yml",
    parents=["model.bikes.fct_revenue"],
)
STATIONS = Deferred(
    unique_id="model.bikes.stg_stations",
    name="stg_stations",
    relation='"bikes"."prod"."stg_stations"',
    production_status="success",
)
CUSTOMERS = Deferred(
    unique_id="model.bikes.dim_customers",
    name="dim_customers",
    relation='"bikes"."prod"."dim_customers"',
    production_status="success",
)


def success() -> Report:
    return completed(
        [
            model("stg_rentals", **MODIFIED),
            generic_test("not_null", "rental_id", "stg_rentals"),
            generic_test("unique", "rental_id", "stg_rentals"),
            model("int_rentals_with_stations", seconds=3.4, **DOWNSTREAM),
            model(
                "fct_rentals", materialized="incremental", cloned=True, seconds=21.7, **DOWNSTREAM
            ),
            generic_test("not_null", "station_id", "fct_rentals"),
            generic_test("relationships", "customer_id", "fct_rentals"),
            model("fct_revenue", change=Change.NEW, reason="new", seconds=6.1),
        ],
        deferred=[CUSTOMERS, STATIONS],
        exposures=[DASHBOARD],
        pr_schema="ci_pr_412",
        seconds_saved=1_264.0,
    )


def success_first_run_reparsed() -> Report:
    return completed(
        [model("dim_bikes", **MODIFIED), generic_test("unique", "bike_id", "dim_bikes")],
        seconds=71.2,
        state=State(
            location=wording.REPARSED,
            has_provenance=True,
            reparsed=True,
            reason="No state of this project is published on main yet.",
            commit=BASE,
            dbt_version="1.11.2",
            age_commits=0,
        ),
        warnings=[wording.NO_PRODUCTION_TARGET],
    )


RENTALS_SQL = """\
with rentals as (
    select * from "bikes"."pr_118"."int_rentals_with_stations"
)

select
    rentals.rental_id,
    rentals.customer_id,
    customers.segment,
    rentals.statoin_id,
    rentals.ended_at - rentals.started_at as duration
from rentals
left join "bikes"."prod"."dim_customers" as customers using (customer_id)
"""
RENTALS_ERROR = """\
Database Error in model fct_rentals (models/marts/fct_rentals.sql)
  column rentals.statoin_id does not exist
  LINE 14:     rentals.statoin_id,
               ^
  HINT:  Perhaps you meant to reference the column "rentals.station_id".
  compiled code at target/compiled/bikes/models/marts/fct_rentals.sql"""


def failure_one_model() -> Report:
    return completed(
        [
            model("int_rentals_with_stations", seconds=3.4, **MODIFIED),
            model(
                "fct_rentals",
                NodeOutcome.ERRORED,
                message=RENTALS_ERROR,
                compiled_code=RENTALS_SQL.strip(),
                line=9,
                seconds=0.4,
                **MODIFIED,
            ),
            generic_test("not_null", "station_id", "fct_rentals", NodeOutcome.SKIPPED),
            model(
                "fct_revenue",
                NodeOutcome.SKIPPED,
                change=Change.DOWNSTREAM,
                reason="downstream of fct_rentals",
            ),
        ],
        deferred=[CUSTOMERS, STATIONS],
        exposures=[DASHBOARD],
    )


UNIQUE_SQL = """\
select
    rental_id as unique_field,
    count(*) as n_records

from "bikes"."pr_118"."stg_rentals"
where rental_id is not null
group by rental_id
having count(*) > 1"""


def failure_tests() -> Report:
    rows = "Got {} results, configured to fail if != 0"
    return completed(
        [
            model("stg_rentals", **MODIFIED),
            generic_test("not_null", "rental_id", "stg_rentals"),
            generic_test(
                "unique",
                "rental_id",
                "stg_rentals",
                NodeOutcome.FAILED,
                message=rows.format(1_412),
                failures=1_412,
                compiled_code=UNIQUE_SQL,
                line=12,
            ),
            generic_test(
                "relationships",
                "station_id",
                "stg_rentals",
                NodeOutcome.FAILED,
                message="Got 1 result, configured to fail if != 0",
                failures=1,
                compiled_code="select station_id from ...",
                line=19,
            ),
            generic_test(
                "accepted_values",
                "tariff",
                "stg_rentals",
                NodeOutcome.WARNED,
                message=rows.format(7),
                failures=7,
                line=24,
            ),
            model("int_rentals_with_stations", NodeOutcome.SKIPPED, **DOWNSTREAM),
            model("fct_rentals", NodeOutcome.SKIPPED, **DOWNSTREAM),
        ],
        deferred=[STATIONS],
    )


SLOTS = """\
Database Error in model {0} (models/staging/{0}.sql)
  connection to server at "warehouse.velo-city.example" (10.20.0.7), port 5432 failed: FATAL:  \
remaining connection slots are reserved for roles with the SUPERUSER attribute"""


def failure_one_cause_many_nodes() -> Report:
    names = [f"stg_station_{index:02}_status" for index in range(1, 25)]
    return completed(
        [
            *(
                model(
                    name, NodeOutcome.ERRORED, message=SLOTS.format(name), seconds=30.1, **MODIFIED
                )
                for name in names
            ),
            model(
                "fct_station_status",
                NodeOutcome.SKIPPED,
                parents=[f"model.bikes.{name}" for name in names],
                change=Change.DOWNSTREAM,
                reason="downstream of stg_station_01_status and 23 more",
            ),
        ],
        seconds=122.0,
    )


def nothing_changed() -> Report:
    return replace(
        REPORT,
        outcome=Outcome.NO_CHANGES,
        headline=wording.nothing_selected([]),
        seconds=9.1,
        seconds_saved=1_322.0,
    )


def only_removed() -> Report:
    removed = [
        Removed(
            unique_id="model.bikes.stg_weather",
            name="stg_weather",
            resource_type="model",
            path="models/staging/stg_weather.sql",
        ),
        Removed(
            unique_id="model.bikes.fct_rain_days",
            name="fct_rain_days",
            resource_type="model",
            path="models/marts/fct_rain_days.sql",
            read_by=["model.bikes.fct_forecast", "exposure.bikes.weather_board"],
        ),
        Removed(
            unique_id="seed.bikes.holidays",
            name="holidays",
            resource_type="seed",
            path="seeds/holidays.csv",
            disabled=True,
        ),
    ]
    return replace(
        REPORT,
        outcome=Outcome.NO_CHANGES,
        headline=wording.nothing_selected(removed),
        seconds=9.4,
        removed=removed,
    )


def cancelled() -> Report:
    nodes = [
        model("stg_rentals", **MODIFIED),
        model(
            "int_rentals_with_stations",
            NodeOutcome.NOT_RUN,
            message=wording.NOT_REACHED,
            **DOWNSTREAM,
        ),
        model("fct_rentals", NodeOutcome.NOT_RUN, message=wording.NOT_REACHED, **DOWNSTREAM),
    ]
    return completed(nodes, outcome=Outcome.CANCELLED, headline=wording.CANCELLED, seconds=17.0)


PROFILE = """\
dbt could not read the project: Runtime Error
Env var required but not provided: 'DBT_PASSWORD'
  in profiles.yml, profile "bikes", target "ci\""""


def error_before_build() -> Report:
    problem = Problem(
        message=PROFILE,
        hint="Run `dbt parse` with the same target to see it on your machine, and check dbt-args.",
        exit_code=2,
    )
    return replace(
        REPORT,
        outcome=Outcome.ERROR,
        headline=PROFILE.partition("\n")[0],
        problem=problem,
        seconds=6.2,
        dbt_version="",
        adapter="",
    )


def state_passed_over_and_old() -> Report:
    return completed(
        [model("dim_bikes", **MODIFIED), generic_test("unique", "bike_id", "dim_bikes")],
        state=replace(
            STATE, commit=STATE_COMMIT, created_at="2026-02-19T06:10:02+00:00", age_commits=37
        ),
        passed_over=[
            PassedOver(
                commit=BASE,
                reason="manifest.json is not the file that was published: its checksum differs.",
            ),
            PassedOver(
                commit="5e0d7c6b5a49382716f5e4d3c2b1a09f8e7d6c5b",
                reason="manifest.json has manifest schema version 11; ci-defer knows 12.",
            ),
        ],
        deferred=[replace(STATIONS, production_status="error")],
        warnings=findings.warnings(
            [], [replace(STATIONS, production_status="error")], finished=True
        ),
    )


def wide_change_with_many_reasons() -> Report:
    cities = ("berlin", "bern", "bonn", "bremen", "dresden", "essen", "graz", "koeln")
    stages = ("rentals", "stations", "bikes", "repairs", "invoices", "payments", "refunds", "trips")
    macro = "a macro that it calls differs: macro.bikes.cents_to_euros"
    staging = [
        model(f"stg_{city}_{stage}", change=Change.MODIFIED, reason=macro)
        for city in cities
        for stage in stages
    ]
    marts = [
        model(
            f"fct_{stage}",
            parents=[f"model.bikes.stg_{city}_{stage}" for city in cities],
            change=Change.DOWNSTREAM,
            reason=f"downstream of stg_berlin_{stage} and 7 more",
        )
        for stage in stages
    ]
    other = [
        model("dim_tariffs", change=Change.MODIFIED, reason="its SQL and its description differ"),
        model("fct_deposits", change=Change.NEW, reason="new"),
        model("dim_regions", change=Change.MODIFIED, reason="a column's data type differs"),
        model(
            "fct_year",
            parents=[f"model.bikes.fct_{stage}" for stage in stages],
            change=Change.DOWNSTREAM,
            reason="downstream of fct_rentals and 7 more",
        ),
    ]
    return completed([*staging, *marts, *other], seconds=311.0, exposures=[DASHBOARD])


def hostile_names() -> Report:
    name = "@velo-city/data #118 | <b>`rm`</b> </details> :tada: [x](https://example.com)"
    message = f"```\n@octocat {name}\n\x1b[31mred\x1b[0m \u202e\n</details>"
    nodes = [
        model(
            name,
            NodeOutcome.ERRORED,
            path=f"models/{name}.sql",
            message=message,
            compiled_code=f"select '```' -- {name}",
            **MODIFIED,
        ),
        model(
            "fct_rentals",
            parents=[f"model.bikes.{name}"],
            **{**DOWNSTREAM, "reason": f"below {name}"},
        ),
    ]
    return completed(
        nodes,
        project=name,
        target=name,
        warnings=[f"Careful with {name}"],
        removed=[Removed(unique_id="model.bikes.x", name=name, resource_type=name, path=name)],
        exposures=[
            Exposure(
                unique_id="exposure.bikes.x",
                name=name,
                type="dashboard",
                owner="@velo-city/finance",
                parents=["model.bikes.fct_rentals"],
            )
        ],
        deferred=[Deferred(unique_id="model.bikes.y", name=name, relation=name)],
    )


REPORTS: dict[str, Report] = {
    make.__name__: make()
    for make in (
        success,
        success_first_run_reparsed,
        failure_one_model,
        failure_tests,
        failure_one_cause_many_nodes,
        nothing_changed,
        only_removed,
        cancelled,
        error_before_build,
        state_passed_over_and_old,
        wide_change_with_many_reasons,
        hostile_names,
    )
}


def page(name: str) -> str:
    """The comment of a report, as it is in its file."""
    return written(render(REPORTS[name], COMMENT))


def mermaid_blocks(markdown: str) -> list[str]:
    """The sources of the graphs on a page."""
    blocks = gfm.code_blocks(gfm.render(markdown))
    return [content for language, content in blocks if language == "mermaid"]


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for path in GOLDEN.glob("*.md"):
        path.unlink()
    for name in REPORTS:
        (GOLDEN / f"{name}.md").write_text(page(name), encoding="utf-8")


if __name__ == "__main__":
    main()
