"""The command line: commands, their flow, exit codes. Decides nothing; `wiring` makes the parts."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click

from ci_defer import __version__, cleaned, markdown, report, text
from ci_defer.annotations import annotate
from ci_defer.bundle import MANIFEST
from ci_defer.cleaned import Cleaned
from ci_defer.cleanup import cleanup as run_cleanup
from ci_defer.cleanup_note import note_on_comment
from ci_defer.clones import CloneIncremental
from ci_defer.comment import Commented, CommentWhen, marked_project
from ci_defer.comment import comment as write_comment
from ci_defer.dbt.arguments import has_full_refresh, split
from ci_defer.dbt.process import Interrupts
from ci_defer.defer import DeferSettings, Isolation
from ci_defer.defer import defer as run_defer
from ci_defer.demo import demo as run_demo
from ci_defer.errors import CiDeferError, ConfigurationError, ExitCode
from ci_defer.event import Event, mode_of, read_finished_run
from ci_defer.explain import explain as explain_node
from ci_defer.explain import read_report
from ci_defer.manifest import COMMIT_IN_MANIFEST, COMMIT_VARIABLE, read_manifest
from ci_defer.onboard import onboard as run_onboard
from ci_defer.outputs import (
    cleanup_outputs,
    comment_outputs,
    failed_outputs,
    onboard_outputs,
    report_outputs,
)
from ci_defer.pending import artifact_name, comment_pending
from ci_defer.prune import prune as run_prune
from ci_defer.pulls import Pulls
from ci_defer.runner import Runner, environment
from ci_defer.settings import AgeType, Settings, options
from ci_defer.state import IfNoState
from ci_defer.stores import (
    ALTIMATE,
    ARTIFACT,
    open_registry,
    open_source,
    open_store,
)
from ci_defer.stores.artifact import ArtifactStore
from ci_defer.stores.bundles import BundleStore
from ci_defer.wiring import (
    Session,
    account_of,
    as_parsed,
    checkout_footprint,
    engines,
    engines_in_schema,
    event_of,
    footprints_of,
    git_of,
    newest_production,
    project_of,
    rest_of,
    surroundings,
    warehouses,
)
from ci_defer.wording import days, number

REPORT_FOLDER = "ci-defer"
REPORT_FILE = "report.json"


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
    settings = _settings(values)
    event = event_of(session)
    mode = mode_of(event)
    session.runner.info(f"ci-defer {__version__}: {event.name} -> {mode}")
    if mode == "onboard":
        _onboard(session, settings, event)
    elif mode == "defer":
        _defer(session, settings, event)
    elif mode == "cleanup" and settings.pr_schema:
        _cleanup(session, settings, event, event.pull_request)
    elif mode == "cleanup":
        # Nobody is asked for rights that only a schema of its own takes.
        session.runner.info("Nothing to clean up: pr-schema is not set.")
        session.runner.set_outputs(cleanup_outputs(Cleaned(pull_request=0, has_built=False), ""))
    else:
        _comment(session, settings, event)


@cli.command()
@options("onboard")
@file_options
@click.pass_obj
def onboard(session: Session, /, **values: Any) -> None:
    """Publish what production looks like at this commit.

    With the paths of files, only these are uploaded, to the Altimate registry.
    """
    paths = {name: values.pop(parameter) for name, parameter in FILE_PARAMETERS.items()}
    files = {name: path for name, path in paths.items() if path}
    settings = _settings(values)
    if files:
        _upload(session, settings, files)
    else:
        _onboard(session, settings, event_of(session))


@cli.command()
@options("defer")
@click.pass_obj
def defer(session: Session, /, **values: Any) -> None:
    """Build the checked-out pull request against production's state."""
    _defer(session, _settings(values), event_of(session))


@cli.command()
@options("comment")
@click.pass_obj
def comment(session: Session, /, **values: Any) -> None:
    """Comment for a run that could not: that of a fork or of Dependabot."""
    _comment(session, _settings(values), event_of(session))


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
    event = event_of(session)
    _cleanup(session, _settings(values), event, pull_request or event.pull_request)


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
    settings = _settings(values)
    path = path or project_of(session, settings).target_path / REPORT_FOLDER / REPORT_FILE
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
    _prune(session, _settings(values), keep, older_than, is_dry_run=dry_run)


@cli.command()
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Work in this new folder and keep it. Default: a temporary one.",
)
@click.pass_obj
def demo(session: Session, /, directory: Path | None) -> None:
    """Onboard and defer on an embedded DuckDB project: no credentials, no network."""
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


def _onboard(session: Session, settings: Settings, event: Event) -> None:
    project = project_of(session, settings)
    git = git_of(session, settings, project, event)
    key = settings.project or project.name
    around = surroundings(session, settings, event, git, None)
    store = open_store(settings.state, key, around)
    # Says of which commit a manifest is, also where only the manifest is kept.
    engine_for = engines(
        session, settings, project, variables={COMMIT_VARIABLE: git.commit("HEAD") or ""}
    )
    published = run_onboard(
        project,
        store,
        key=key,
        target=settings.target,
        compare=as_parsed(settings, settings.pr_target) if settings.pr_target else None,
        event=event,
        git=git,
        engine_for=engine_for,
        log=session.runner,
    )
    session.runner.info(
        f"Published the state of commit {published.commit[:12]} to {store.location}."
    )
    session.runner.add_summary(markdown.render_published(published.bundle, store.location))
    outputs = onboard_outputs(published.commit, store.location)
    if isinstance(store, ArtifactStore):
        outputs |= {
            "artifact-name": store.artifact_name,
            "artifact-path": published.location,
            "artifact-retention-days": str(settings.retention_days),
        }
    session.runner.set_outputs(outputs)


def _upload(session: Session, settings: Settings, files: dict[str, Path]) -> None:
    runner = session.runner
    if MANIFEST not in files:
        raise ConfigurationError(
            "There is no --manifest-path.", "The registry reads the other files beside a manifest."
        )
    if settings.state not in (ALTIMATE, ARTIFACT):
        raise ConfigurationError(
            f"Files are uploaded to the Altimate registry, not to state: {settings.state}.",
            "Leave out --state, or the paths of files.",
        )
    manifest = read_manifest(files[MANIFEST])
    registry = open_registry(account_of(session, settings), runner)
    registry.upload(files)
    runner.info(f"Published {number(len(files), 'file')} to {registry.location}.")
    commit = manifest.metadata.env.get(COMMIT_IN_MANIFEST, "")
    runner.set_outputs(onboard_outputs(commit, registry.location))


def _defer(session: Session, settings: Settings, event: Event) -> None:
    runner = session.runner
    project = project_of(session, settings)
    rest = rest_of(session, settings, event)
    git = git_of(session, settings, project, event)
    key = settings.project or project.name
    around = surroundings(session, settings, event, git, rest)
    made = run_defer(
        project,
        DeferSettings(
            key=key,
            select=settings.select,
            exclude=settings.exclude,
            favor_state=settings.favor_state,
            allow_production=settings.allow_production,
            if_no_state=settings.if_no_state,
            target=settings.target,
            production_target=settings.production_target,
            parsed_with=as_parsed(settings, settings.target),
            pr_schema=settings.pr_schema,
            clone_incremental=settings.clone_incremental,
            clone_snapshots=settings.clone_snapshots,
            with_full_refresh=has_full_refresh(split(settings.dbt_args)),
        ),
        lambda: open_source(settings.state, key, around),
        event=event,
        git=git,
        history=rest,
        engine_for=engines(session, settings, project),
        isolation=Isolation(
            engines=partial(engines_in_schema, session, settings, project),
            remember=footprints_of(session, settings, key, around).save,
        ),
        log=runner,
    )
    summary = markdown.render(made)
    path = _write_report(made, summary, project.target_path / REPORT_FOLDER)
    runner.add_summary(summary)
    runner.info(text.render(made))
    if made.problem:
        runner.error(f"{made.problem.message} {made.problem.hint}".strip())
    for annotation in annotate(made):
        runner.annotate(annotation)
    commented = Commented()
    if event.pull_request and rest:
        commented = write_comment(
            made,
            event.pull_request,
            Pulls(rest),
            when=settings.comment,
            run_id=int(event.run_id or 0),
            log=runner,
        )
    outputs = report_outputs(
        made, path, comment_url=commented.url, comment_pending=commented.is_pending
    )
    if commented.is_pending:
        outputs["report-artifact-name"] = artifact_name(made.project)
    runner.set_outputs(outputs)
    sys.exit(made.exit_code)


def _cleanup(session: Session, settings: Settings, event: Event, pull_request: int | None) -> None:
    runner = session.runner
    if pull_request is None:
        raise ConfigurationError(
            "There is no pull request to clean up after.",
            "Run it on `pull_request: types: [closed]`, or say --pull-request.",
        )
    project = project_of(session, settings)
    key = settings.project or project.name
    rest = rest_of(session, settings, event)
    git = git_of(session, settings, project, event)
    around = surroundings(session, settings, event, git, rest)
    made = run_cleanup(
        pull_request,
        footprints=footprints_of(session, settings, key, around),
        parse_checkout=checkout_footprint(
            session, settings, project, git, event=event, pull_request=pull_request
        ),
        production=lambda: newest_production(session, settings, project, around),
        warehouse_for=warehouses(session, settings, project),
        is_dry_run=settings.dry_run,
        log=runner,
    )
    runner.info(cleaned.render(made))
    runner.add_summary(cleaned.render_summary(made))
    if made.warning:
        runner.warning(made.warning)
    url = ""
    is_told = settings.comment is not CommentWhen.OFF and not settings.dry_run
    if rest and made.has_built and is_told:
        url = note_on_comment(
            cleaned.render_note(made),
            pull_request,
            Pulls(rest),
            project=marked_project(key, git.prefix().rstrip("/") or "."),
            run_url=event.run_url,
            log=runner,
        )
    runner.set_outputs(cleanup_outputs(made, url))
    if made.problem:
        runner.error(made.problem)
        sys.exit(ExitCode.SERVICE)


def _prune(
    session: Session, settings: Settings, keep: int, older_than: timedelta, *, is_dry_run: bool
) -> None:
    runner = session.runner
    key = settings.project or project_of(session, settings).name
    store = open_store(
        settings.state, key, surroundings(session, settings, event_of(session), None, None)
    )
    if not isinstance(store, BundleStore):
        raise ConfigurationError(
            f"state: {settings.state} cannot be pruned: artifacts expire by themselves, and the "
            "registry keeps one state.",
            "Use --state s3://…, gs://…, az://… or a directory.",
        )
    runner.info(
        f"{store.location}: the newest {keep} of every target stay, and everything younger than "
        f"{days(older_than)}."
    )
    pruned = run_prune(store, keep=keep, older_than=older_than, is_dry_run=is_dry_run, log=runner)
    done = "Would remove" if is_dry_run else "Removed"
    runner.info(
        f"{done} {number(pruned.removed, 'state')} and {number(pruned.leftovers, 'leftover')}; "
        f"{number(pruned.kept, 'state')} kept."
    )
    if is_dry_run:
        runner.info("This was a dry run. Add --no-dry-run to remove them.")


def _comment(session: Session, settings: Settings, event: Event) -> None:
    rest = rest_of(session, settings, event)
    if rest is None:
        raise ConfigurationError(
            "Only a workflow run with a token can comment.", "Check the input github-token."
        )
    commented = comment_pending(
        event,
        read_finished_run(session.runner.payload()),
        rest,
        Pulls(rest),
        when=settings.comment,
        log=session.runner,
    )
    session.runner.set_outputs(comment_outputs(commented.url))


def _write_report(made: report.Report, summary: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / REPORT_FILE
    path.write_bytes(report.encode(made))
    (folder / "summary.md").write_text(summary, encoding="utf-8")
    return path
