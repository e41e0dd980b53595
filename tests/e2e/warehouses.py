"""The warehouses that the ledger is played on, each through the driver of its adapter."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.ledger import Content, Key
from tests.e2e.shop import TIMEOUT, python_with_duckdb
from tests.environments import dbt_bin
from tests.harness.postgres_server import PostgresServer
from tests.harness.spark_server import SparkServer

# In the words of information_schema.
KINDS = {"BASE TABLE": "table", "VIEW": "view"}

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
        return {
            (schema, name): (KINDS[kind], sorted(found, key=repr))
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


@dataclass(frozen=True)
class Postgres:
    """A database of its own for each test, on the one server."""

    server: PostgresServer
    database: str
    production: str = "analytics"

    @property
    def dbt(self) -> Path:
        return dbt_bin("postgres")

    def output(self, schema: str) -> dict[str, Any]:
        secret = "{{ env_var('DBT_ENV_SECRET_PASSWORD') }}"
        return {**self.server.output(self.database, schema), "password": secret}

    def environ(self) -> Mapping[str, str]:
        return {"DBT_ENV_SECRET_PASSWORD": self.server.password}

    def contents(self) -> dict[Key, Content]:
        listed = self.server.sql(
            self.database,
            "select table_schema, table_name, table_type from information_schema.tables "
            "where table_schema not in ('information_schema', 'pg_catalog')",
        )
        return {
            (schema, name): (KINDS[kind], self._rows(f'select * from "{schema}"."{name}"'))
            for schema, name, kind in listed
        }

    def schemas(self) -> set[str]:
        listed = self.server.sql(
            self.database,
            r"select nspname from pg_namespace where nspname not like 'pg\_%' "
            "and nspname not in ('information_schema', 'public')",
        )
        return {name for (name,) in listed}

    def execute(self, *statements: str) -> None:
        self.server.sql(self.database, *statements)

    @contextmanager
    def holding(self, lock: int) -> Iterator[None]:
        """Hold an advisory lock, which a query then waits for."""
        with self.server.session(self.database) as send:
            send(f"select pg_advisory_lock({lock})")
            yield

    def is_waited_for(self, lock: int) -> bool:
        """Whether a query waits for the lock."""
        query = f"select 1 from pg_locks where locktype = 'advisory' and objid = {lock}"
        return bool(self.server.sql(self.database, f"{query} and not granted"))

    def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        rows = self.server.sql(self.database, statement)
        # psql knows text alone.
        typed = [tuple(int(v) if v.isdecimal() else v for v in row) for row in rows]
        return sorted(typed, key=repr)


@dataclass(frozen=True)
class Spark:
    """Schemas of its own for a test, on the one server."""

    server: SparkServer
    production: str

    @property
    def dbt(self) -> Path:
        return dbt_bin("spark")

    def output(self, schema: str) -> dict[str, Any]:
        return self.server.output(schema)

    def environ(self) -> Mapping[str, str]:
        return {}

    def contents(self) -> dict[Key, Content]:
        found = {}
        for schema in self.schemas():
            views = {str(row[1]) for row in self.server.sql(f"show views in {schema}")}
            for row in self.server.sql(f"show tables in {schema}"):
                name = str(row[1])
                rows = self.server.sql(f"select * from {schema}.{name}")
                kind = "view" if name in views else "table"
                found[schema, name] = (kind, sorted(rows, key=repr))
        return found

    def schemas(self) -> set[str]:
        listed = {str(name) for (name,) in self.server.sql("show schemas")}
        return {name for name in listed if self.production in name or "ci_pr" in name}

    def execute(self, *statements: str) -> None:
        self.server.sql(*statements)
