"""Ctrl-C and SIGTERM: dbt cancels its query, the report says cancelled, nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.shop import Shop, node, outputs
from tests.environments import dbt_bin

pytestmark = pytest.mark.dbt

# Hours of work, which DuckDB gives up within a second when it is asked to. It waits for a line in
# a named pipe first: so a test knows that the query runs, not only that dbt is about to start it.
ENDLESS = """\
-- depends_on: {{ ref('orders') }}
{{ config(materialized='table') }}
select count(*) as n
from read_csv('go', columns={'word': 'varchar'}, auto_detect=false, header=false) as go,
    range(10000000000) as one(x), range(1000) as other(y)
where (x * y) % 7 = 3
"""
STARTED = "START sql table model ci_pr.endless"

# Far beyond the second that it takes, far below what the query would.
SECONDS = 60


def endless(shop: Shop) -> None:
    shop.replace("models/marts/orders.sql", "\njoin", "\nleft join")
    shop.write("models/marts/endless.sql", ENDLESS)
    shop.write(".git/info/exclude", "go\n")
    os.mkfifo(shop.project / "go")


@contextmanager
def deferring(shop: Shop) -> Iterator[subprocess.Popen[str]]:
    """`ci-defer defer`, started as a shell in the foreground does: with signals not ignored."""
    command = [sys.executable, "-m", "ci_defer", "defer", "--state", str(shop.store)]
    with subprocess.Popen(
        [*command, "--target", "ci"],
        cwd=shop.project,
        env=shop.full_environ(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What it prints up to the line that holds `text`."""
    assert process.stdout is not None
    read = []
    for line in process.stdout:
        read.append(line)
        if text in line:
            return "".join(read)
    raise AssertionError(f"{text!r} was never printed:\n{''.join(read)}")


def wait_for_the_query(process: subprocess.Popen[str], shop: Shop) -> None:
    """Return when DuckDB is at work on the endless model."""
    read_until(process, STARTED)
    # Opened as soon as there is a reader.
    with (shop.project / "go").open("w") as pipe:
        pipe.write("go\n")


def ended(process: subprocess.Popen[str]) -> str:
    """The rest of what it prints, once it has ended."""
    output, _ = process.communicate(timeout=SECONDS)
    return output


def running(shop: Shop) -> list[str]:
    """The command lines of processes that work on this shop."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(str(shop.root) in word for word in words):
            found.append(" ".join(words))
    return found


@pytest.mark.both_versions
def test_sigint__dbt_cancels_and_the_report_says_so(
    plain_shop: Shop, dbt_version: str, tmp_path: Path
) -> None:
    # Both versions: what dbt does about a signal is its own.
    shop = plain_shop.with_dbt(dbt_bin(dbt_version))
    shop = shop.with_environ(GITHUB_OUTPUT=str(tmp_path / "outputs"))
    shop.pull_request(endless)

    with deferring(shop) as process:
        wait_for_the_query(process, shop)
        process.send_signal(signal.SIGINT)
        output = ended(process)

    assert process.returncode == 130, output
    assert running(shop) == []
    report = shop.report()
    assert report["outcome"] == "cancelled"
    assert node(report, "orders")["outcome"] == "built"
    assert node(report, "endless")["outcome"] not in ("built", "passed")
    assert "cancelled" in report["headline"].lower()
    # dbt 1.11 may well show its own traceback.
    assert "Traceback" not in output.partition("ci-defer · shop · CANCELLED")[2]
    assert outputs(tmp_path / "outputs")["outcome"] == "cancelled"
    assert shop.sql("select count(*) from ci_pr.orders") == [(3,)]


def test_sigterm__is_as_good_as_sigint(plain_shop: Shop) -> None:
    plain_shop.pull_request(endless)

    with deferring(plain_shop) as process:
        wait_for_the_query(process, plain_shop)
        process.send_signal(signal.SIGTERM)
        output = ended(process)

    assert process.returncode == 130, output
    assert running(plain_shop) == []
    report = plain_shop.report()
    assert report["outcome"] == "cancelled"
    # SIGTERM as such would have killed dbt before it wrote any result.
    assert node(report, "orders")["outcome"] == "built"
    assert plain_shop.sql("select count(*) from ci_pr.orders") == [(3,)]


def test_two_signals__dbt_is_killed_and_there_is_a_report(plain_shop: Shop) -> None:
    plain_shop.pull_request(endless)

    with deferring(plain_shop) as process:
        wait_for_the_query(process, plain_shop)
        # Two kinds, as the runner of GitHub Actions sends them: equal ones may become one.
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        output = ended(process)

    assert process.returncode == 130, output
    assert running(plain_shop) == []
    assert plain_shop.report()["outcome"] == "cancelled"
    assert "Traceback" not in output.partition("ci-defer · shop · CANCELLED")[2]
    assert plain_shop.sql("select 1") == [(1,)]


def test_sigint__while_dbt_plans(plain_shop: Shop) -> None:
    plain_shop.pull_request(endless)

    with deferring(plain_shop) as process:
        read_until(process, "+ dbt ls")
        process.send_signal(signal.SIGINT)
        output = ended(process)

    assert process.returncode == 130, output
    assert running(plain_shop) == []
    report = plain_shop.report()
    assert report["outcome"] == "cancelled"
    assert report["nodes"] == []
    assert "+ dbt build" not in output
