from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from ci_defer.errors import ConfigurationError
from ci_defer.explain import explain, read_report
from ci_defer.report import Deferred, NodeOutcome, Reason, ReasonKind, Removed, encode
from tests.test_text import REPORT, node

NODE = replace(
    node("orders", NodeOutcome.BUILT),
    unique_id="model.shop.orders",
    path="models/orders.sql",
    reasons=[
        Reason(kind=ReasonKind.BODY, text="its code changed"),
        Reason(kind=ReasonKind.CONFIGS, text="config materialized: view → table"),
    ],
)
MADE = replace(
    REPORT,
    nodes=[NODE],
    deferred=[Deferred(unique_id="model.shop.customers", name="customers", relation="p.customers")],
    removed=[Removed(unique_id="model.shop.gone", name="gone", resource_type="model")],
)


@pytest.mark.parametrize("wanted", ["orders", "model.shop.orders", "models/orders.sql"])
def test_explain__says_every_reason_of_a_selected_node(wanted: str) -> None:
    assert explain(MADE, wanted).splitlines() == [
        "model.shop.orders (models/orders.sql) was selected:",
        "  body                   its code changed",
        "  configs                config materialized: view → table",
    ]


def test_explain__says_what_became_of_others() -> None:
    assert explain(MADE, "customers") == (
        "customers was not selected: this run read p.customers of production."
    )
    assert explain(MADE, "gone") == "gone is gone, and production still has it."


def test_explain__of_a_node_that_the_report_does_not_know() -> None:
    with pytest.raises(ConfigurationError, match="does not speak of 'order'") as raised:
        explain(MADE, "order")
    assert raised.value.hint == "Did you mean orders?"


def test_explain__without_anything_to_compare_with() -> None:
    report = replace(MADE, nodes=[replace(NODE, reasons=[])])
    assert explain(report, "orders").endswith("was selected: there was nothing to compare with.")


def test_read_report__is_what_defer_wrote(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(encode(MADE))
    assert read_report(path) == MADE


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff", b"[" * 100_000])
def test_read_report__of_something_else_says_why(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"report\.json"):
        read_report(path)


def test_explain__says_what_is_suspected() -> None:
    suspicion = "only white space or line ends differ"
    report = replace(MADE, nodes=[replace(NODE, suspicion=suspicion)])
    assert explain(report, "orders").splitlines() == [
        "model.shop.orders (models/orders.sql) was selected:",
        "  body                   its code changed",
        "  configs                config materialized: view → table",
        f"  suspected              nothing of it changed in git: {suspicion}",
    ]
    # It is in the report of the run, where explain finds it.
    assert json.loads(encode(report))["nodes"][0]["suspicion"] == suspicion


def test_explain__without_a_suspicion_says_nothing_of_it() -> None:
    assert "suspected" not in explain(MADE, "orders")
