"""What a command loads, shown by a real process: what takes long to load is loaded when used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ci_defer.stores.bundles import BundleStore
from ci_defer.stores.directory import Directory
from tests.samples import PROJECT, FakeDbt, Log, Repository, node, packed

MAIN = """\
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
from ci_defer.cli import main
main()
"""
# HTTP, object stores, and what only some of their users need.
NETWORK = {"requests", "urllib3", "tenacity", "obstore", "google.auth", "github", "rich"}
A, B = "model.shop.a", "model.shop.b"


def loaded_by(*words: str, environ: dict[str, str], cwd: Path) -> set[str]:
    ran = subprocess.run(
        [sys.executable, "-c", MAIN, *words],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return set(json.loads(ran.stderr.splitlines()[-1]))


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("defer", "--help")])
def test_help__loads_neither_what_commands_do_nor_the_network(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    loaded = loaded_by(*words, environ={}, cwd=tmp_path)
    assert "ci_defer.settings" in loaded
    others = {"yaml", "ci_defer.flows", "ci_defer.wiring", "ci_defer.stores", "ci_defer.web"}
    assert loaded & (NETWORK | others) == set()


def test_defer__without_github_and_a_bucket_loads_no_network(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    (repository.path / ".gitignore").write_text("target/\n")
    (repository.path / "dbt_project.yml").write_text(f"name: {PROJECT}\n")
    base = repository.commit("model_0")
    repository.branch("feature")
    repository.commit("model")
    store = BundleStore(Directory(tmp_path / "store"), PROJECT, log=Log())
    store.put(packed(tmp_path, "a", "b", commit=base))
    dbt = FakeDbt(tmp_path / "bin")
    nodes = [node(name, relation_name=f'"db"."ci"."{name[-1]}"') for name in (A, B)]
    dbt.lists(A, nodes=nodes)
    dbt.builds({A: "success"}, nodes=nodes)
    environ = {**repository.environ, "PATH": dbt.path}
    words = ("defer", "--state", str(tmp_path / "store"), "--target", "prod")
    loaded = loaded_by(*words, environ=environ, cwd=repository.path)
    assert len(dbt.calls) == 2
    assert "ci_defer.defer" in loaded
    assert loaded & (NETWORK | {"ci_defer.web", "ci_defer.rest"}) == set()
