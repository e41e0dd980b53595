"""The command line: commands, wiring, exit codes. Decides nothing."""

from __future__ import annotations

import dataclasses
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ci_defer import __version__, markdown, report, text
from ci_defer.account import FILE as ACCOUNT_FILE
from ci_defer.account import Account, find_account
from ci_defer.annotations import annotate
from ci_defer.bundle import MANIFEST
from ci_defer.comment import Commented, CommentWhen
from ci_defer.comment import comment as write_comment
from ci_defer.dbt import arguments
from ci_defer.dbt.commands import CommandEngine, DbtSettings
from ci_defer.dbt.process import Interrupts
from ci_defer.defer import DeferSettings
from ci_defer.defer import defer as run_defer
from ci_defer.demo import demo as run_demo
from ci_defer.errors import CiDeferError, ConfigurationError, ExitCode, NotAvailableYet
from ci_defer.event import Event, mode_of, read_event, read_finished_run
from ci_defer.git import Git
from ci_defer.manifest import COMMIT_IN_MANIFEST, COMMIT_VARIABLE, read_manifest
from ci_defer.onboard import onboard as run_onboard
from ci_defer.outputs import (
    comment_outputs,
    failed_outputs,
    idle_outputs,
    onboard_outputs,
    report_outputs,
)
from ci_defer.pending import artifact_name, comment_pending
from ci_defer.project import Project, read_project
from ci_defer.pulls import Pulls
from ci_defer.reparse import EngineFor
from ci_defer.rest import GitHubRest
from ci_defer.runner import Runner, environment
from ci_defer.settings import PREFIX, Settings, options
from ci_defer.state import IfNoState
from ci_defer.stores import (
    ALTIMATE,
    ARTIFACT,
    Surroundings,
    open_registry,
    open_source,
    open_store,
)
from ci_defer.stores.artifact import ArtifactStore
from ci_defer.wording import number

REPORT_FOLDER = "ci-defer"


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


@dataclasses.dataclass(frozen=True)
class Session:
    """What every command works with: the machine, the signals, the event."""

    environ: dict[str, str]
    runner: Runner
    interrupts: Interrupts

    @property
    def child_environ(self) -> dict[str, str]:
        """The environment of the programs we run. Our settings, tokens among them, stay here."""
        return {name: value for name, value in self.environ.items() if not name.startswith(PREFIX)}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ci-defer")
def cli() -> None:
    """Slim CI for dbt: build what a pull request changes, read the rest from production."""


@cli.command()
@options("onboard", "defer", "comment")
@click.pass_obj
def auto(session: Session, /, **values: Any) -> None:
    """Do what the event of this workflow run asks for."""
    settings = _settings(values)
    event = _event(session)
    mode = mode_of(event)
    session.runner.info(f"ci-defer {__version__}: {event.name} -> {mode}")
    if mode == "onboard":
        _onboard(session, settings, event)
    elif mode == "defer":
        _defer(session, settings, event)
    elif mode == "cleanup":
        # Only a schema of its own (pr-schema, refused above) leaves anything behind.
        session.runner.info("Nothing to clean up: pull requests have no schema of their own.")
        session.runner.set_outputs(idle_outputs())
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
        _onboard(session, settings, _event(session))


@cli.command()
@options("defer")
@click.pass_obj
def defer(session: Session, /, **values: Any) -> None:
    """Build the checked-out pull request against production's state."""
    _defer(session, _settings(values), _event(session))


@cli.command()
@options("comment")
@click.pass_obj
def comment(session: Session, /, **values: Any) -> None:
    """Comment for a run that could not: that of a fork or of Dependabot."""
    _comment(session, _settings(values), _event(session))


@cli.command()
def cleanup() -> None:
    """Drop what a closed pull request has built (not available yet)."""
    raise NotAvailableYet("mode: cleanup")


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
    for name, kind in (("if_no_state", IfNoState), ("comment", CommentWhen)):
        if name in values:
            values[name] = kind(values[name])
    settings = Settings(**values)
    settings.refuse_unavailable()
    return settings


def _event(session: Session) -> Event:
    return read_event(session.environ, session.runner.payload())


def _project(session: Session, settings: Settings) -> Project:
    environ = session.environ
    target_path = environ.get("DBT_ENGINE_TARGET_PATH") or environ.get("DBT_TARGET_PATH")
    return read_project(settings.project_dir, target_path=target_path)


def _engine_for(
    session: Session, settings: Settings, project: Project, **environ: str
) -> EngineFor:
    """Makes engines for `project` and for other checkouts of it, with one profile for all.

    `environ` has variables that dbt gets besides those of this process.
    """
    words = arguments.split(settings.dbt_args)
    profiles_dir = settings.profiles_dir.absolute() if settings.profiles_dir else None

    def engine_for(checkout: Project, target: str | None) -> CommandEngine:
        return CommandEngine(
            DbtSettings(
                project_dir=checkout.directory,
                target_path=checkout.target_path,
                working_directory=project.directory,
                profiles_dir=profiles_dir,
                target=target,
                arguments=words,
            ),
            environ={**session.child_environ, **environ},
            console=session.runner,
            interrupts=session.interrupts,
        )

    return engine_for


def _git(session: Session, settings: Settings, project: Project, event: Event) -> Git:
    token = settings.github_token
    credential = (event.server_url, token) if event.server_url and token else None
    return Git(project.directory, session.child_environ, credential)


def _rest(session: Session, settings: Settings, event: Event) -> GitHubRest | None:
    if not (event.api_url and event.repository and settings.github_token):
        return None
    return GitHubRest(event.api_url, event.repository, settings.github_token, log=session.runner)


def _surroundings(
    session: Session,
    settings: Settings,
    event: Event,
    git: Git,
    rest: GitHubRest | None,
) -> Surroundings:
    runner = session.runner
    return Surroundings(
        branch=event.state_branch,
        target=settings.production_target,
        is_on_enterprise_server=event.is_on_enterprise_server,
        outbox=runner.temporary_directory() if runner.on_actions else None,
        rest=rest,
        log=runner,
        account=lambda: _account(session, settings),
        is_ancestor=git.is_ancestor,
        environ=session.environ,
    )


def _onboard(session: Session, settings: Settings, event: Event) -> None:
    project = _project(session, settings)
    git = _git(session, settings, project, event)
    key = settings.project or project.name
    around = _surroundings(session, settings, event, git, None)
    store = open_store(settings.state, key, around)
    # Says of which commit a manifest is, also where only the manifest is kept.
    engine_for = _engine_for(
        session, settings, project, **{COMMIT_VARIABLE: git.commit("HEAD") or ""}
    )
    published = run_onboard(
        project,
        store,
        key=key,
        target=settings.target,
        event=event,
        git=git,
        engine=engine_for(project, settings.target),
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
    registry = open_registry(_account(session, settings), runner)
    registry.upload(files)
    runner.info(f"Published {number(len(files), 'file')} to {registry.location}.")
    commit = manifest.metadata.env.get(COMMIT_IN_MANIFEST, "")
    runner.set_outputs(onboard_outputs(commit, registry.location))


def _account(session: Session, settings: Settings) -> Account:
    environ = session.environ
    file = Path(environ.get("HOME") or environ.get("USERPROFILE") or ".") / ACCOUNT_FILE
    return find_account(
        token=settings.altimate_token,
        instance=settings.altimate_instance,
        integration=settings.altimate_integration,
        environment=settings.altimate_environment,
        url=settings.altimate_url,
        environ=environ,
        file=file.read_bytes() if file.is_file() else None,
    )


def _defer(session: Session, settings: Settings, event: Event) -> None:
    runner = session.runner
    project = _project(session, settings)
    rest = _rest(session, settings, event)
    git = _git(session, settings, project, event)
    key = settings.project or project.name
    around = _surroundings(session, settings, event, git, rest)
    made = run_defer(
        project,
        DeferSettings(
            key=key,
            select=settings.select,
            exclude=settings.exclude,
            favor_state=settings.favor_state,
            if_no_state=settings.if_no_state,
            target=settings.target,
            production_target=settings.production_target,
        ),
        lambda: open_source(settings.state, key, around),
        event=event,
        git=git,
        history=rest,
        engine_for=_engine_for(session, settings, project),
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


def _comment(session: Session, settings: Settings, event: Event) -> None:
    rest = _rest(session, settings, event)
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
    path = folder / "report.json"
    path.write_bytes(report.encode(made))
    (folder / "summary.md").write_text(summary, encoding="utf-8")
    return path
