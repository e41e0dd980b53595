"""What a use-case works with, made from the settings, the event and the machine.

Puts objects together; decides nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ci_defer.account import FILE as ACCOUNT_FILE
from ci_defer.account import Account, find_account
from ci_defer.bundle import ParsedWith
from ci_defer.cleanup import footprint_of_checkout
from ci_defer.comparable import Comparing
from ci_defer.dbt import Engine, Operation, arguments
from ci_defer.dbt.commands import DbtSettings
from ci_defer.dbt.driver import DriverEngine
from ci_defer.dbt.warehouse import Warehouse
from ci_defer.event import Event, read_event
from ci_defer.footprint import Footprint
from ci_defer.git import Git
from ci_defer.isolation import Isolation
from ci_defer.manifest import Manifest
from ci_defer.newest import newest_manifest
from ci_defer.profiles import find_profiles, own_schema
from ci_defer.project import Project, connection_of, read_project
from ci_defer.reparse import EngineFor
from ci_defer.session import Session
from ci_defer.settings import Settings
from ci_defer.stores import ARTIFACT, Footprints, Surroundings, open_footprints, open_source

if TYPE_CHECKING:
    from ci_defer.rest import GitHubRest


def event_of(session: Session) -> Event:
    """What started this run."""
    return read_event(session.environ, session.runner.payload())


def project_of(session: Session, settings: Settings) -> Project:
    """The dbt project that the settings name. Raises ConfigurationError."""
    environ = session.environ
    target_path = environ.get("DBT_ENGINE_TARGET_PATH") or environ.get("DBT_TARGET_PATH")
    return read_project(settings.project_dir, target_path=target_path)


def engines(
    session: Session,
    settings: Settings,
    project: Project,
    *,
    profiles_dir: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> EngineFor:
    """Makes engines for `project` and for other checkouts of it, with one profile for all.

    `profiles_dir` is another folder of profiles.yml than that of the settings, `variables` are
    those that dbt gets besides those of this process.
    """
    words = arguments.split(settings.dbt_args)
    profiles_dir = profiles_dir or settings.profiles_dir
    profiles_dir = profiles_dir.absolute() if profiles_dir else None

    def engine_for(checkout: Project, target: str | None) -> Engine:
        return DriverEngine(
            DbtSettings(
                project_dir=checkout.directory,
                target_path=checkout.target_path,
                working_directory=project.directory,
                profiles_dir=profiles_dir,
                target=target,
                arguments=words,
            ),
            environ={**session.child_environ, **(variables or {})},
            console=session.runner,
            interrupts=session.interrupts,
        )

    return engine_for


@contextlib.contextmanager
def engines_in_schema(
    session: Session,
    settings: Settings,
    project: Project,
    schema: str,
    *,
    target: str | None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[EngineFor]:
    """Makes engines whose `target` has another schema, as long as the context lasts."""
    environ = session.child_environ
    profiles = find_profiles(settings.profiles_dir, project.directory, environ)
    made = own_schema(
        profiles,
        schema,
        profile=as_parsed(settings, target).profile or project.profile,
        target=target,
        environ=environ,
    )
    with made as folder:
        yield engines(session, settings, project, profiles_dir=folder, variables=variables)


def comparing(
    session: Session, settings: Settings, project: Project, variables: Mapping[str, str]
) -> Comparing:
    """How pull requests parse the project: for pr-target, or for the target of production."""
    target = settings.pr_target or settings.target

    def in_schema(schema: str) -> contextlib.AbstractContextManager[EngineFor]:
        return engines_in_schema(
            session, settings, project, schema, target=target, variables=variables
        )

    return Comparing(
        parsed_with=as_parsed(settings, target),
        in_schema=in_schema,
        is_asked_for=settings.pr_target is not None,
        saves=is_warm(session, settings),
    )


def is_warm(session: Session, settings: Settings) -> bool:
    """Whether dbt may go on from a saved parse."""
    return arguments.parses_partially(arguments.split(settings.dbt_args), session.environ)


def warehouses(
    session: Session, settings: Settings, project: Project
) -> Callable[[str], Warehouse]:
    """Reaches the warehouse of a target, with the profile of `project`."""
    engine_for = engines(session, settings, project)

    def warehouse_for(target: str) -> Warehouse:
        def run(folder: Path, macro: str) -> Operation:
            engine = engine_for(project.in_folder(folder), target or settings.target)
            return engine.run_operation(macro)

        return Warehouse(connection_of(project), run)

    return warehouse_for


def footprints_of(
    session: Session, settings: Settings, key: str, around: Surroundings
) -> Footprints:
    """Where the footprints of the pull requests of this project are kept."""
    return open_footprints(settings.state, key, around, session.runner.set_outputs)


def isolation_of(
    session: Session, settings: Settings, project: Project, around: Surroundings
) -> Isolation | None:
    """What it takes to build into a schema of its own; None without the setting."""
    if settings.pr_schema is None:
        return None
    key = settings.project or project.name
    return Isolation(
        settings.pr_schema,
        partial(engines_in_schema, session, settings, project, target=settings.target),
        footprints_of(session, settings, key, around).save,
    )


def checkout_footprint(
    session: Session,
    settings: Settings,
    project: Project,
    git: Git,
    *,
    event: Event,
    pull_request: int,
) -> Callable[[], Footprint] | None:
    """Says what the checked-out pull request could have built; None without the setting."""
    template = settings.pr_schema
    if template is None:
        return None
    event = dataclasses.replace(event, pull_request=pull_request)

    def parsed() -> Footprint:
        schema = template.render(event, commit=git.commit("HEAD") or "", branch=git.branch())
        target = settings.target
        with engines_in_schema(session, settings, project, schema, target=target) as engine_for:
            return footprint_of_checkout(
                project,
                engine_for(project, settings.target),
                schema,
                key=settings.project or project.name,
                event=event,
                target=settings.target or "",
                log=session.runner,
            )

    return parsed


def newest_production(
    session: Session, settings: Settings, project: Project, around: Surroundings
) -> Manifest | None:
    """Production's newest manifest, as far as it can be read from here."""
    if settings.state == ARTIFACT and around.rest is None:
        return None
    key = settings.project or project.name
    source = open_source(settings.state, key, around)
    return newest_manifest(source, project_name=project.name, log=session.runner)


def as_parsed(settings: Settings, target: str | None) -> ParsedWith:
    """How dbt parses with these settings, for `target`."""
    return arguments.parsed_with(target, arguments.split(settings.dbt_args))


def git_of(session: Session, settings: Settings, project: Project, event: Event) -> Git:
    """Git in the project's work tree, with the job's token for its own server."""
    token = settings.github_token
    credential = (event.server_url, token) if event.server_url and token else None
    return Git(project.directory, session.child_environ, credential)


def rest_of(session: Session, settings: Settings, event: Event) -> GitHubRest | None:
    """GitHub's REST API, or None outside of a workflow run with a token."""
    if not (event.api_url and event.repository and settings.github_token):
        return None
    # The libraries that speak HTTP take longer to load than all of ours.
    from ci_defer.rest import GitHubRest  # noqa: PLC0415

    return GitHubRest(event.api_url, event.repository, settings.github_token, log=session.runner)


def surroundings(
    session: Session,
    settings: Settings,
    event: Event,
    git: Git | None,
    rest: GitHubRest | None,
) -> Surroundings:
    """What a store may need of this run."""
    runner = session.runner
    return Surroundings(
        branch=event.state_branch,
        target=settings.production_target,
        is_on_enterprise_server=event.is_on_enterprise_server,
        outbox=runner.temporary_directory() if runner.on_actions else None,
        rest=rest,
        log=runner,
        account=lambda: account_of(session, settings),
        is_ancestor=git.is_ancestor if git else lambda _one, _other: False,
        environ=session.environ,
    )


def account_of(session: Session, settings: Settings) -> Account:
    """The account at the Altimate registry. Raises ConfigurationError when there is none."""
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
