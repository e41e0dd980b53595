"""The command line: commands, options, exit codes. What a command does is in `flows`.

A command loads what it works with when it is run, so that `--help` and a wrong option are answered
at once: what is imported above is what the options take.
"""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from ci_defer import __version__
from ci_defer.choices import CloneIncremental, CommentWhen, IfNoState
from ci_defer.dbt.process import Interrupts
from ci_defer.errors import CiDeferError, ExitCode
from ci_defer.runner import Runner, environment
from ci_defer.session import Session
from ci_defer.settings import AgeType, Settings, options

# The options of the registry's own client, whose command its users have at hand.
FILE_PARAMETERS = {
    "manifest.json": "manifest_path",
    "catalog.json": "catalog_path",
    "run_results.json": "run_results_path",
    "sources.json": "sources_path",
    "semantic_manifest.json": "semantic_manifest_path",
}


def file_options(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command with an option for the path of each file of a bundle."""
    for name, parameter in reversed(FILE_PARAMETERS.items()):
        command = click.option(
            f"--{parameter.replace('_', '-')}",
            parameter,
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help=f"Upload this {name} to the Altimate registry.",
        )(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ci-defer")
def cli() -> None:
    """Slim CI for dbt: build what a pull request changes, read the rest from production."""


@cli.command()
@options("onboard", "defer", "comment", "cleanup")
@click.pass_obj
def auto(session: Session, /, **values: Any) -> None:
    """Do what the event of this workflow run asks for."""
    from ci_defer import flows
    from ci_defer.wiring import event_of

    flows.auto(session, _settings(values), event_of(session))


@cli.command()
@options("onboard")
@file_options
@click.pass_obj
def onboard(session: Session, /, **values: Any) -> None:
    """Publish what production looks like at this commit.

    With the paths of files, only these are uploaded, to the Altimate registry.
    """
    from ci_defer import flows
    from ci_defer.wiring import event_of

    paths = {name: values.pop(parameter) for name, parameter in FILE_PARAMETERS.items()}
    files = {name: path for name, path in paths.items() if path}
    settings = _settings(values)
    if files:
        flows.upload(session, settings, files)
    else:
        flows.onboard(session, settings, event_of(session))


@cli.command()
@options("defer")
@click.pass_obj
def defer(session: Session, /, **values: Any) -> None:
    """Build the checked-out pull request against production's state."""
    from ci_defer import flows
    from ci_defer.wiring import event_of

    flows.defer(session, _settings(values), event_of(session))


@cli.command()
@options("comment")
@click.pass_obj
def comment(session: Session, /, **values: Any) -> None:
    """Comment for a run that could not: that of a fork or of Dependabot."""
    from ci_defer import flows
    from ci_defer.wiring import event_of

    flows.comment(session, _settings(values), event_of(session))


@cli.command()
@options("cleanup")
@click.option(
    "--pull-request",
    type=click.IntRange(min=1),
    help="The number of the pull request. Empty: the one that this run is about.",
)
@click.pass_obj
def cleanup(session: Session, /, *, pull_request: int | None, **values: Any) -> None:
    """Drop what the runs of a closed pull request have built."""
    from ci_defer import flows
    from ci_defer.wiring import event_of

    event = event_of(session)
    flows.cleanup(session, _settings(values), event, pull_request or event.pull_request)


@cli.command()
@options("explain")
@click.argument("node")
@click.option(
    "--report",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The report.json to read. Empty: that of the last run of this project.",
)
@click.pass_obj
def explain(session: Session, /, *, node: str, path: Path | None, **values: Any) -> None:
    """Say why NODE was selected in the last run: a name, a unique id or the path of a file."""
    from ci_defer import flows
    from ci_defer.explain import explain as explain_node
    from ci_defer.explain import read_report
    from ci_defer.wiring import project_of

    settings = _settings(values)
    path = path or project_of(session, settings).target_path / flows.REPORT_PATH
    session.runner.info(explain_node(read_report(path), node))


@cli.command()
@options("prune")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Keep the newest N states of every target.",
)
@click.option(
    "--older-than",
    type=AgeType(),
    default="90d",
    show_default=True,
    help="Keep everything younger than that: 12h, 90d, 8w.",
)
@click.option(
    "--dry-run/--no-dry-run",
    default=True,
    show_default=True,
    help="Only say what would be removed.",
)
@click.pass_obj
def prune(
    session: Session, /, *, keep: int, older_than: timedelta, dry_run: bool, **values: Any
) -> None:
    """Delete old production states from a bucket or a directory."""
    from ci_defer import flows

    flows.prune(session, _settings(values), keep, older_than, is_dry_run=dry_run)


@cli.command()
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Work in this new folder and keep it. Default: a temporary one.",
)
@click.pass_obj
def demo(session: Session, /, directory: Path | None) -> None:
    """Onboard and defer on an embedded DuckDB project: no credentials, no network."""
    from ci_defer import text
    from ci_defer.demo import demo as run_demo

    made = run_demo(
        directory,
        environ=session.child_environ,
        console=session.runner,
        interrupts=session.interrupts,
    )
    session.runner.info(text.render(made))
    sys.exit(made.exit_code)


def main() -> None:
    """Run the command line, and turn every error into one line and an exit code."""
    # What is read stays to the end and has no cycles: looking for some takes as long as reading.
    gc.disable()
    environ = environment()
    session = Session(environ, Runner(environ), Interrupts())
    with session.interrupts.handled():
        sys.exit(_guarded(session))


def _guarded(session: Session) -> int:
    runner = session.runner
    try:
        # Only --help and --version come back with a value: click's own exit code.
        return int(cli.main(obj=session, standalone_mode=False) or ExitCode.OK)
    except click.ClickException as error:
        runner.error(error.format_message())
        exit_code = ExitCode.CONFIGURATION
    except click.Abort:
        exit_code = ExitCode.CANCELLED
    except CiDeferError as error:
        runner.error(str(error))
        exit_code = error.exit_code
    except OSError as error:
        runner.error(f"The system refused: {error}. Is the disk full, or a file not ours?")
        exit_code = ExitCode.SERVICE
    except Exception as error:  # noqa: BLE001 - the last line of defence
        traceback.print_exc()
        runner.error(
            f"ci-defer {__version__} has a bug: {type(error).__name__}: {error}. "
            "Please open an issue with the log above."
        )
        exit_code = ExitCode.SERVICE
    from ci_defer.outputs import failed_outputs

    runner.set_outputs(failed_outputs())
    return exit_code


def _settings(values: dict[str, Any]) -> Settings:
    kinds = {
        "if_no_state": IfNoState,
        "comment": CommentWhen,
        "clone_incremental": CloneIncremental,
    }
    for name, kind in kinds.items():
        if name in values:
            values[name] = kind(values[name])
    return Settings(**values)
