"""dbt for a fork_server: a real one, warm.

dbt takes 4 seconds of CPU to be imported, and 2 more to generate the code that reads and writes
its artifacts. The server has run one `dbt ls` through dbt's `dbtRunner`, which is made for several
commands in one process; every command gets a fork of that state. It takes the place of the Python
that the script `dbt` names as its interpreter, so it runs whatever is run with that: dbt's own
entry point, and the several commands in one process of ci_defer.dbt.inside.
Tests that are about processes (signals, missing programs, the action's installation) use the
ordinary `dbt`, and `make demo` does.
"""

from __future__ import annotations

import importlib
import runpy
import shutil
import sys
from pathlib import Path

# As installers write it, for fork_server.
SCRIPT = """\
#!{folder}/dbt-python
import sys
from dbt.cli.main import cli
if __name__ == "__main__":
    sys.exit(cli())
"""

# What `dbt build` imports when it is called. Not every version has all of them.
MODULES = ("dbt.task.build", "dbt.adapters.duckdb")

# What dbt validates the files of a project with: it generates a schema for the first of each kind.
SCHEMAS = {
    "dbt.artifacts.resources": ("ExposureConfig", "ModelConfig", "SeedConfig", "TestConfig"),
    "dbt.contracts.graph.nodes": ("GenericTestNode", "ModelNode", "SeedNode", "SingularTestNode"),
    "dbt.contracts.graph.unparsed": (
        "UnparsedExposure",
        "UnparsedMacroUpdate",
        "UnparsedModelUpdate",
        "UnparsedNodeUpdate",
        "UnparsedSingularTestUpdate",
        "UnparsedUnitTest",
    ),
}


def warm_up(project: str, state: str) -> None:
    """Import dbt, and let it list what differs from a state, in a working directory to write to.

    `project` is a dbt project with the partial parse of target ci, and `state` the folder of a
    manifest.json.
    """
    for module in MODULES:
        importlib.import_module(module)
    for module, names in SCHEMAS.items():
        for name in names:
            getattr(importlib.import_module(module), name).json_schema()
    # A partial parse is written again only where a file has changed, as in most tests.
    encode = importlib.import_module("dbt.parser.manifest").extended_mashumaro_encoder
    manifest = importlib.import_module("dbt.contracts.graph.manifest").Manifest
    parsed = Path(project, "target", "partial_parse.msgpack").read_bytes()
    manifest.from_msgpack(parsed).to_msgpack(encode)
    runner = importlib.import_module("dbt.cli.main").dbtRunner()
    # With a partial parse: a whole one connects to DuckDB, whose threads do not survive a fork.
    shutil.copytree(Path(project, "target"), "target")
    paths = ("--project-dir", project, "--profiles-dir", project, "--target", "ci")
    here = ("--target-path", str(Path("target").absolute()), "--log-path", str(Path.cwd()))
    comparing = ("--select", "state:modified+", "--state", state)
    listed = runner.invoke(["--quiet", "ls", *comparing, *paths, *here])
    assert listed.success, listed.exception


def run() -> None:
    """Run a file as the interpreter would: the first argument."""
    del sys.argv[0]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
