"""What each command does: one flow each, from the settings and the event to the outputs.

Calls the use-cases and shows what they say: log, summary, comment, outputs, exit code. How a
command is spelled is known by `cli`, how its parts are made by `wiring`.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from ci_defer import __version__, cleaned, markdown, report, text
from ci_defer.annotations import annotate
from ci_defer.bundle import MANIFEST
from ci_defer.choices import CommentWhen
from ci_defer.cleaned import Cleaned
from ci_defer.cleanup import cleanup as run_cleanup
from ci_defer.cleanup_note import note_on_comment
from ci_defer.comment import Commented, marked_project
from ci_defer.comment import comment as write_comment
from ci_defer.dbt.arguments import has_full_refresh, split, stores_failures
from ci_defer.defer import DeferSettings
from ci_defer.defer import defer as run_defer
from ci_defer.errors import ConfigurationError, ExitCode
from ci_defer.event import Event, mode_of, read_finished_run
from ci_defer.manifest import COMMIT_IN_MANIFEST, COMMIT_VARIABLE, read_manifest
from ci_defer.onboard import onboard as run_onboard
from ci_defer.outputs import (
    cleanup_outputs,
    comment_outputs,
    onboard_outputs,
    report_outputs,
)
from ci_defer.pending import artifact_name, comment_pending
from ci_defer.prune import prune as run_prune
from ci_defer.pulls import Pulls
from ci_defer.session import Session
from ci_defer.settings import Settings
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
    account_of,
    as_parsed,
    checkout_footprint,
    comparing,
    engines,
    event_of,
    footprints_of,
    git_of,
    is_warm,
    isolation_of,
    newest_production,
    project_of,
    rest_of,
    surroundings,
    warehouses,
)
from ci_defer.wording import days, number

# Below the target path of the project.
REPORT_PATH = Path("ci-defer", "report.json")


def auto(session: Session, settings: Settings, event: Event) -> None:
    """Do what the event asks for. Raises CiDeferError."""
    mode = mode_of(event)
    session.runner.info(f"ci-defer {__version__}: {event.name} -> {mode}")
    if mode == "onboard":
        onboard(session, settings, event)
    elif mode == "defer":
        defer(session, settings, event)
    elif mode == "comment":
        comment(session, settings, event)
    elif settings.pr_schema:
        cleanup(session, settings, event, event.pull_request)
    else:
        # Nobody is asked for rights that only a schema of its own takes.
        session.runner.info("Nothing to clean up: pr-schema is not set.")
        session.runner.set_outputs(cleanup_outputs(Cleaned(pull_request=0, has_built=False), ""))


def onboard(session: Session, settings: Settings, event: Event) -> None:
    """Publish the state of the commit that is checked out. Raises CiDeferError."""
    project = project_of(session, settings)
    git = git_of(session, settings, project, event)
    key = settings.project or project.name
    around = surroundings(session, settings, event, git, None)
    store = open_store(settings.state, key, around)
    # Says of which commit a manifest is, also where only the manifest is kept.
    variables = {COMMIT_VARIABLE: git.commit("HEAD") or ""}
    engine_for = engines(session, settings, project, variables=variables)
    published = run_onboard(
        project,
        store,
        key=key,
        target=settings.target,
        comparing=comparing(session, settings, project, variables),
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


def upload(session: Session, settings: Settings, files: dict[str, Path]) -> None:
    """Upload files, by the name that dbt gives them, to the registry. Raises CiDeferError."""
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


def defer(session: Session, settings: Settings, event: Event) -> None:
    """Build the checked-out pull request, report, and exit with the report's code."""
    # What dbt still has to write is waited for when the comment is there.
    with ExitStack() as at_the_end:
        exit_code = _defer(session, settings, event, at_the_end)
    sys.exit(exit_code)


def _defer(session: Session, settings: Settings, event: Event, at_the_end: ExitStack) -> int:
    """Defer and report, to the exit code."""
    runner = session.runner
    project = project_of(session, settings)
    rest = rest_of(session, settings, event)
    git = git_of(session, settings, project, event)
    key = settings.project or project.name
    around = surroundings(session, settings, event, git, rest)
    words = split(settings.dbt_args)
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
            clone_incremental=settings.clone_incremental,
            clone_snapshots=settings.clone_snapshots,
            with_full_refresh=has_full_refresh(words, session.environ),
            stores_failures=stores_failures(words, session.environ),
            is_warm=is_warm(session, settings),
            profiles_dir=settings.profiles_dir,
        ),
        lambda: open_source(settings.state, key, around),
        event=event,
        git=git,
        history=rest,
        engine_for=engines(session, settings, project),
        isolation=isolation_of(session, settings, project, around),
        log=runner,
        at_the_end=at_the_end,
    )
    summary = markdown.render(made)
    path = _write_report(made, summary, project.target_path / REPORT_PATH)
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
    return made.exit_code


def cleanup(session: Session, settings: Settings, event: Event, pull_request: int | None) -> None:
    """Drop what a pull request has built; exits when something could not be dropped."""
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


def prune(
    session: Session, settings: Settings, keep: int, older_than: timedelta, *, is_dry_run: bool
) -> None:
    """Delete old states. Raises CiDeferError."""
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


def comment(session: Session, settings: Settings, event: Event) -> None:
    """Comment for the finished run that the event is about. Raises CiDeferError."""
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


def _write_report(made: report.Report, summary: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(report.encode(made))
    path.with_name("summary.md").write_text(summary, encoding="utf-8")
    return path
