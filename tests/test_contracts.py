"""What has to agree although it stands in several files: nothing else would notice."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import ci_defer
from ci_defer import report
from ci_defer.bundle import ARTIFACTS
from ci_defer.cli import FILE_PARAMETERS, cli
from ci_defer.outputs import OUTPUTS
from ci_defer.settings import Settings, default_text, option_name, variable_name
from tests.environments import ROOT

ACTION_FILE = ROOT / "action.yml"
ACTION = yaml.safe_load(ACTION_FILE.read_text(encoding="utf-8"))
STEPS = ACTION["runs"]["steps"]
FIELDS = {option_name(field): field for field in dataclasses.fields(Settings)}
# Read by the scripts of the action, and no setting of the command line.
OF_THE_ACTION = {"mode": "auto", "install": ""}
# Set for the steps that upload, besides the outputs of the action.
OF_THE_UPLOAD = (
    "artifact-name",
    "artifact-path",
    "artifact-retention-days",
    "report-artifact-name",
    "footprint-artifact-name",
    "footprint-path",
)
SCRIPTS = sorted((ROOT / "action").glob("*.sh"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def step(identifier: str) -> dict[str, Any]:
    [found] = [item for item in STEPS if item.get("id") == identifier]
    return dict(found)


# action.yml and the settings --------------------------------------------------------------------


def test_inputs__are_the_settings() -> None:
    assert set(ACTION["inputs"]) == {*FIELDS, *OF_THE_ACTION}


@pytest.mark.parametrize("name", [*FIELDS, *OF_THE_ACTION])
def test_inputs__have_the_defaults_of_the_settings(name: str) -> None:
    expected = OF_THE_ACTION.get(name)
    if expected is None:
        expected = default_text(FIELDS[name])
    if name == "github-token":
        expected = "${{ github.token }}"
    assert ACTION["inputs"][name]["default"] == expected


def test_inputs__each_one_reaches_the_command_line_as_its_variable() -> None:
    forwarded = {
        f"CI_DEFER_{name.upper().replace('-', '_')}": f"${{{{ inputs.{name} }}}}"
        for name in ACTION["inputs"]
    }
    assert step("run")["env"] == forwarded
    assert {variable_name(field) for field in FIELDS.values()} <= set(forwarded)


def test_outputs__are_those_that_every_command_sets() -> None:
    assert {name: item["value"] for name, item in ACTION["outputs"].items()} == {
        name: f"${{{{ steps.run.outputs.{name} }}}}" for name in OUTPUTS
    }


def expressions(value: Any) -> Iterator[str]:
    """Every expression in a part of action.yml; `if` needs no ${{ }}."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "if":
                yield str(inner)
            else:
                yield from expressions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from expressions(inner)
    elif isinstance(value, str):
        yield from re.findall(r"\$\{\{(.*?)\}\}", value, re.DOTALL)


REFERENCES = [
    reference
    for expression in expressions(ACTION)
    for reference in re.findall(r"\b(?:inputs|steps|env|github)(?:\.[\w-]+)+", expression)
]


def test_references__are_found() -> None:
    assert {"inputs.mode", "steps.run.outputs.artifact-path", "github.token"} <= set(REFERENCES)


def test_references__are_declared() -> None:
    declared = {f"inputs.{name}" for name in ACTION["inputs"]}
    declared |= {f"steps.run.outputs.{name}" for name in (*OUTPUTS, *OF_THE_UPLOAD)}
    declared |= {"github.token"}
    assert set(REFERENCES) - declared == set()


def test_references__are_all_that_expressions_hold() -> None:
    # Nothing that the pattern above would not see, such as inputs['mode'] or toJSON(github).
    for expression in expressions(ACTION):
        known = r"\b(?:inputs|steps|github)(?:\.[\w-]+)+|!=|''|\balways\(\)|&&|\s"
        rest = re.sub(known, "", expression)
        assert rest == "", expression


def test_upload_outputs__are_set_by_the_code() -> None:
    setting = (MODULES[name] for name in ("flows", "stores.footprints"))
    nodes = (node for module in setting for node in ast.walk(module))
    strings = {node.value for node in nodes if isinstance(node, ast.Constant)}
    assert set(OF_THE_UPLOAD) <= strings


def test_run__holds_no_expression_and_names_its_shell() -> None:
    for item in STEPS:
        if "run" in item:
            assert "${{" not in item["run"]
            assert item["shell"] == "bash"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts__never_read_inputs_from_the_runners_variables(script: Path) -> None:
    # A composite action gets no INPUT_*: what is there is of somebody else.
    assert "INPUT_" not in script.read_text(encoding="utf-8")


def test_scripts__read_only_variables_that_their_step_gives_them() -> None:
    used = {
        name
        for script in SCRIPTS
        for name in re.findall(r"\bCI_DEFER_\w+", script.read_text(encoding="utf-8"))
    }
    install, *_ = [item for item in STEPS if "install.sh" in item.get("run", "")]
    assert used == {"CI_DEFER_MODE", "CI_DEFER_INSTALL"}
    assert set(install["env"]) == {"CI_DEFER_INSTALL"}


@pytest.mark.parametrize("file", [ACTION_FILE, *WORKFLOWS], ids=lambda path: path.name)
def test_uses__are_pinned_by_a_commit_with_its_version_beside(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    uses = [match[1] for line in lines if (match := re.match(r"\s*(?:- )?uses:\s*(.*)", line))]
    pinned = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*")
    assert uses
    assert [item for item in uses if not item.startswith("./") and not pinned.fullmatch(item)] == []


# README -----------------------------------------------------------------------------------------


def readme_table(header: str) -> dict[str, list[str]]:
    """The rows of the table in the README whose first column is `header`, by the name in them."""
    lines = iter((ROOT / "README.md").read_text(encoding="utf-8").splitlines())
    rows = {}
    for line in lines:
        if not line.startswith(f"| {header} |"):
            continue
        next(lines)
        while (row := next(lines, "")).startswith("| `"):
            name, *cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
            rows[name.strip("`")] = cells
    return rows


def test_readme__names_every_input_with_its_default() -> None:
    defaults = {name: item["default"] for name, item in ACTION["inputs"].items()}
    assert {name: cells[0] for name, cells in readme_table("input").items()} == {
        name: f"`{default}`" if default else "" for name, default in defaults.items()
    }


def test_readme__names_every_output() -> None:
    assert sorted(readme_table("output")) == sorted(ACTION["outputs"])


def test_report_schema__is_the_one_of_the_code() -> None:
    written = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
    headings = {key: written[key] for key in ("$id", "title", "$schema") if key in written}
    assert written == report.schema() | headings


# The command line -------------------------------------------------------------------------------

COMMANDS = {name: command for name, command in cli.commands.items() if name != "demo"}


def test_modes__of_the_action_are_commands() -> None:
    assert set(cli.commands) == {
        *("auto", "onboard", "defer", "comment", "cleanup"),
        *("demo", "explain", "prune"),
    }


def settings_options(command: str) -> list[click.Parameter]:
    """The options of a command, without those that it has for itself."""
    own = {
        "onboard": {*FILE_PARAMETERS.values()},
        "prune": {"keep", "older_than", "dry_run"},
        "explain": {"node", "path"},
        "cleanup": {"pull_request"},
    }
    others = own.get(command, set())
    return [option for option in cli.commands[command].params if option.name not in others]


@pytest.mark.parametrize("name", COMMANDS)
def test_commands__take_settings_and_nothing_else(name: str) -> None:
    for option in settings_options(name):
        assert isinstance(option, click.Option)
        field = FIELDS[option.opts[0].removeprefix("--")]
        assert (option.name, option.envvar) == (
            field.name,
            f"CI_DEFER_{field.name.upper()}",
        )
        assert option.help == field.metadata["help"]


def test_commands__take_the_settings_of_their_mode() -> None:
    def taken(command: str) -> set[str]:
        return {str(option.name) for option in settings_options(command)}

    assert taken("auto") == {field.name for field in FIELDS.values()}
    for mode in ("onboard", "defer", "prune", "explain", "cleanup"):
        fields = FIELDS.values()
        assert taken(mode) == {field.name for field in fields if mode in field.metadata["modes"]}


def test_onboard__takes_the_files_of_the_registrys_own_client() -> None:
    options = {option.name: option for option in cli.commands["onboard"].params}
    assert set(FILE_PARAMETERS) == set(ARTIFACTS)
    for parameter in FILE_PARAMETERS.values():
        option = options[parameter]
        assert isinstance(option, click.Option)
        # No variable: a value that is left in a job's environment must not change what it does.
        assert (option.opts, option.envvar) == ([f"--{parameter.replace('_', '-')}"], None)


def test_demo__has_no_setting() -> None:
    assert [option.opts for option in cli.commands["demo"].params] == [["--directory"]]


# The wheel --------------------------------------------------------------------------------------


def test_wheel__holds_the_dbt_projects_that_are_part_of_the_package(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", tmp_path], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    projects = [PACKAGE / "cleanup_project", PACKAGE / "demo_project"]
    files = [path for project in projects for path in project.rglob("*") if path.is_file()]
    assert {path.relative_to(PACKAGE.parent).as_posix() for path in files} <= packed
    assert "ci_defer/cleanup_project/macros/steps.sql" in packed


# Layers -----------------------------------------------------------------------------------------

PURE = {
    *(
        "account",
        "addresses",
        "annotations",
        "archive",
        "blind_spots",
        "bundle",
        "characters",
        "choices",
        "cleaned",
        "clearance",
        "clones",
        "comparison",
        "dbt",
        "dbt.arguments",
        "dbt.output",
        "errors",
        "event",
        "explain",
        "findings",
        "footprint",
        "gfm",
        "guard",
        "impact",
        "lineage",
        "locations",
        "log",
    ),
    *(
        "manifest",
        "markdown",
        "names",
        "outputs",
        "page",
        "pieces",
        "pr_schema",
        "project",
        "report",
        "rules",
        "rules_v2",
        "selection",
    ),
    *("stores.compression", "stores.objects", "stores.pointer"),
    *("text", "untouched", "wording"),
}
EDGE = {
    *("dbt.ahead", "dbt.commands", "dbt.driver", "dbt.process", "dbt.saved_parse", "dbt.warehouse"),
    *("git", "profiles", "pulls"),
    *("rest", "runner", "web"),
    *("stores", "stores.altimate", "stores.artifact", "stores.bucket", "stores.bundles"),
    *("stores.directory", "stores.footprints", "stores.google", "stores.plain", "stores.services"),
}
USE_CASE = {
    "assembly",
    "base_commit",
    "checkout",
    "cleanup",
    "cleanup_note",
    "cloning",
    "comment",
    "comparable",
    "defer",
    "demo",
    "isolation",
    "newest",
    "onboard",
    "packages",
    "pending",
    "plan",
    "prune",
    "reparse",
    "state",
}
# A program of its own, for the interpreter of the user's dbt.
INSIDE = "dbt.inside"
OUTERMOST = {"", "__main__", "cli", "flows", "session", "settings", "wiring"}
# What a pure module may import of other packages.
LIBRARIES = {"backports", "compression", "msgspec", "yaml"}
# Of the standard library, what a pure module has no use for.
VERSION_OF_PYTHON = {"stores.compression": {"sys"}}
IMPURE = {"os", "socket", "subprocess", "signal", "sys", "tempfile", "threading", "time"}

PACKAGE = Path(inspect.getfile(ci_defer)).parent


def modules() -> dict[str, ast.Module]:
    """Every module of the package, by its name below `ci_defer`; the package itself is ''."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def imported(tree: ast.Module) -> Iterator[str]:
    """The full names of the modules that are imported anywhere in a module."""
    for item in ast.walk(tree):
        if isinstance(item, ast.Import):
            yield from (alias.name for alias in item.names)
        elif isinstance(item, ast.ImportFrom):
            assert item.level == 0
            base = item.module or ""
            for alias in item.names:
                full = f"{base}.{alias.name}"
                yield full if full.removeprefix("ci_defer.") in MODULES else base


def own_imports(name: str) -> set[str]:
    ours = (full for full in imported(MODULES[name]) if full.partition(".")[0] == "ci_defer")
    return {full.removeprefix("ci_defer").removeprefix(".") for full in ours}


def other_imports(name: str) -> set[str]:
    packages = {full.partition(".")[0] for full in imported(MODULES[name])}
    return packages - {"ci_defer", "__future__"}


def test_layers__every_module_is_in_one() -> None:
    assert sorted([*PURE, *EDGE, *USE_CASE, *OUTERMOST, INSIDE]) == sorted(MODULES)


@pytest.mark.parametrize("name", sorted(PURE))
def test_layers__pure_modules_import_pure_modules_and_what_needs_no_machine(name: str) -> None:
    assert own_imports(name) - PURE == set()
    assert other_imports(name) - LIBRARIES - set(sys.stdlib_module_names) == set()
    assert other_imports(name) & IMPURE - VERSION_OF_PYTHON.get(name, set()) == set()


@pytest.mark.parametrize("name", sorted(EDGE))
def test_layers__edges_import_no_edge_but_those_of_their_own_package(name: str) -> None:
    family = {other for other in EDGE if other.partition(".")[0] == name.partition(".")[0]}
    # The package itself holds the version and nothing else.
    # `web` is the one way to speak HTTP.
    # Of the program its own side takes what both must do in the same way.
    assert own_imports(name) - PURE - family - {"", "web", INSIDE} == set()


def test_layers__a_store_imports_no_other_store() -> None:
    stores = {name for name in EDGE if name.startswith("stores.")}
    # What the login to a bucket takes is a module of its own.
    of_buckets = {"stores.services", "stores.google"}
    assert [name for name in stores if own_imports(name) & {*stores, "stores"} - of_buckets] == []


@pytest.mark.parametrize("name", sorted(USE_CASE))
def test_layers__use_cases_import_everything_but_the_command_line(name: str) -> None:
    assert own_imports(name) & {"__main__", "cli", "settings"} == set()
    assert "click" not in other_imports(name)


def test_layers__the_program_for_the_interpreter_of_dbt_needs_nothing_of_ours() -> None:
    assert own_imports(INSIDE) == set()
    # What dbt itself is made of.
    packages = {"click", "dbt", "dbt_common", "mashumaro", "networkx"}
    assert other_imports(INSIDE) - set(sys.stdlib_module_names) == packages
    imported_by = {name for name in MODULES if INSIDE in own_imports(name)}
    assert imported_by == {"dbt.driver", "dbt.saved_parse"}


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {INSIDE}))
def test_layers__nobody_imports_dbt(name: str) -> None:
    assert "dbt" not in other_imports(name)
    assert not any("dbt_" in package for package in other_imports(name))


@pytest.mark.parametrize(
    ("package", "expected"),
    [("subprocess", {"dbt.process", "git"}), ("click", {"cli", "runner", "settings", INSIDE})],
)
def test_layers__what_only_some_may_import(package: str, expected: set[str]) -> None:
    assert {name for name in MODULES if package in other_imports(name)} == expected


def test_layers__only_the_runner_reads_the_environment() -> None:
    readers = {
        name
        for name, tree in MODULES.items()
        for item in ast.walk(tree)
        if isinstance(item, ast.Attribute) and item.attr in ("environ", "getenv", "environb")
        if isinstance(item.value, ast.Name) and item.value.id == "os"
    }
    assert readers == {"runner", INSIDE}
