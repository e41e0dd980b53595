"""The warehouses that the ledger is played on, each through the driver of its adapter."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.ledger import Content, Key
from tests.e2e.shop import TIMEOUT, python_with_duckdb

# A program for the interpreter of an adapter: statements in, the rows of each one out.
PROGRAM = """
import json, sys
{connect}
answers = []
for statement in json.load(sys.stdin):
    cursor.execute(statement)
    answers.append([list(row) for row in cursor.fetchall()] if cursor.description else [])
print(json.dumps(answers, default=str))
"""


def ask(python: Path, connect: str, statements: list[str]) -> list[list[tuple[Any, ...]]]:
    """The rows of each statement; `connect` is Python that makes a `cursor`."""
    done = subprocess.run(
        [python, "-c", PROGRAM.format(connect=connect)],
        input=json.dumps(statements),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [[tuple(row) for row in rows] for rows in json.loads(done.stdout)]


@dataclass(frozen=True)
class DuckDb:
    """A file of its own for each test."""

    file: Path
    dbt: Path
    production: str = "analytics"

    def output(self, schema: str) -> dict[str, Any]:
        path = "{{ env_var('LEDGER_FILE') }}"
        return {"type": "duckdb", "path": path, "schema": schema, "threads": 2}

    def environ(self) -> Mapping[str, str]:
        return {"LEDGER_FILE": str(self.file)}

    def contents(self) -> dict[Key, Content]:
        [listed] = self._ask(
            "select table_schema, table_name, table_type from information_schema.tables"
        )
        rows = self._ask(*(f'select * from "{schema}"."{name}"' for schema, name, _ in listed))
        kinds = {"BASE TABLE": "table", "VIEW": "view"}
        return {
            (schema, name): (kinds[kind], sorted(found, key=repr))
            for (schema, name, kind), found in zip(listed, rows, strict=True)
        }

    def schemas(self) -> set[str]:
        [listed] = self._ask(
            "select schema_name from information_schema.schemata where catalog_name = "
            "current_database() and schema_name not in ('main', 'information_schema', 'pg_catalog')"
        )
        return {name for (name,) in listed}

    def execute(self, *statements: str) -> None:
        self._ask(*statements)

    def _ask(self, *statements: str) -> list[list[tuple[Any, ...]]]:
        connect = f"import duckdb\ncursor = duckdb.connect({str(self.file)!r})"
        return ask(python_with_duckdb(), connect, list(statements))
