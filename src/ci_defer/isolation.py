"""A pull request in a schema of its own: where it may build, and what is remembered of it.

Knows nothing of how a profile is changed or where footprints are kept: it is handed both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime

from ci_defer import guard
from ci_defer.errors import CiDeferError
from ci_defer.event import Event
from ci_defer.footprint import Footprint, footprint_of
from ci_defer.log import Log
from ci_defer.manifest import Manifest, Node
from ci_defer.pr_schema import SchemaTemplate
from ci_defer.reparse import EngineFor


@dataclass(frozen=True)
class Isolation:
    """What it takes to build a pull request into a schema of its own.

    `engines(schema)` is a context in which there are engines that build into that schema, and
    `remember` keeps what a run is about to build there for the clean-up.
    """

    template: SchemaTemplate
    engines: Callable[[str], AbstractContextManager[EngineFor]]
    remember: Callable[[Footprint], None]


@dataclass(frozen=True, kw_only=True)
class OwnSchema:
    """The schema of one run, for as long as `engine_for` can build into it.

    `key` is the setting `project`. `note` is told what the report has to say.
    """

    name: str
    engine_for: EngineFor
    remember: Callable[[Footprint], None]
    event: Event
    key: str
    target: str
    started: datetime
    note: Callable[[str], None]
    log: Log

    def check(self, plan: Sequence[Node], production: Manifest | None, *, adapter: str) -> None:
        """Raise ConfigurationError when a plan (`guard.built_of`) would leave the schema."""
        guard.keep_to_schema(plan, production, self.name, adapter=adapter)

    def keep(self, nodes: Sequence[Node], production: Manifest | None, *, adapter: str) -> None:
        """Keep for the clean-up what is about to be built, or what was built of that."""
        if not (self.event.queued_pull_request or self.event.pull_request):
            self.log.info(f"Nobody will drop {self.name}: this run is of no pull request.")
            return
        made = footprint_of(
            nodes,
            production,
            key=self.key,
            event=self.event,
            pr_schema=self.name,
            target=self.target,
            adapter=adapter,
            created_at=self.started.isoformat(timespec="seconds"),
        )
        try:
            self.remember(made)
        except CiDeferError as error:
            self.note(
                f"What this run builds is not on record for the clean-up: {error.message} It will "
                "parse the pull request again to know it."
            )


@contextmanager
def own_schema(
    isolation: Isolation,
    *,
    event: Event,
    commit: str,
    branch: str,
    key: str,
    target: str,
    started: datetime,
    note: Callable[[str], None],
    log: Log,
) -> Iterator[OwnSchema]:
    """Give a run its schema; `commit` and `branch` are what is checked out. Raises CiDeferError."""
    name = isolation.template.render(event, commit=commit, branch=branch)
    with isolation.engines(name) as engine_for:
        log.info(f"This run builds into the schema {name}.")
        yield OwnSchema(
            name=name,
            engine_for=engine_for,
            remember=isolation.remember,
            event=event,
            key=key,
            target=target,
            started=started,
            note=note,
            log=log,
        )
