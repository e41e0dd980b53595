"""Clean-up: drop what a pull request has built, after it is closed.

The order of a run: what its runs have recorded, minus what is production's; what of that is in the
warehouse; drop it, step by step, past what cannot be dropped; say what became of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from ci_defer.bundle import MANIFEST
from ci_defer.cleaned import Cleaned, Failure
from ci_defer.clearance import Found, Item, Order, clearance, places_of, without
from ci_defer.dbt import Engine
from ci_defer.dbt.warehouse import Dropped
from ci_defer.errors import Cancelled, CiDeferError
from ci_defer.event import Event
from ci_defer.footprint import Drops, Footprint, Schema, footprint_of, what_to_drop
from ci_defer.guard import all_built
from ci_defer.log import Log
from ci_defer.manifest import Manifest, read_manifest
from ci_defer.names import carries
from ci_defer.packages import install_packages
from ci_defer.project import Project
from ci_defer.stores import Footprints
from ci_defer.wording import number

# An error ends the operation, which then goes on behind what failed.
ATTEMPTS = 6
NOT_TRIED = f"not tried: {ATTEMPTS} others had failed by then"
STILL_THERE = "dbt dropped it without an error, and it is still there"


class Warehouse(Protocol):
    """What this module needs of `dbt.warehouse.Warehouse`."""

    def look(self, places: Sequence[Schema]) -> dict[Schema, Found]: ...

    def drop(self, orders: Sequence[Order]) -> Dropped: ...


def cleanup(
    pull_request: int,
    *,
    footprints: Footprints,
    parse_checkout: Callable[[], Footprint] | None,
    production: Callable[[], Manifest | None],
    warehouse_for: Callable[[str], Warehouse],
    is_dry_run: bool,
    log: Log,
) -> Cleaned:
    """Drop what the runs of a pull request have built, and say what became of it.

    `parse_checkout` says what the pull request that is checked out would build: asked when no run
    has recorded anything, or when there is more than was recorded, as a run leaves it that was
    killed. `production` reads its newest manifest, if there is one. `warehouse_for` reaches the one
    of a target; an empty one is the default of the profile.

    Raises CiDeferError when the records, production's manifest or the warehouse cannot be read.
    """
    recorded = footprints.of(pull_request)
    is_known = True
    if recorded:
        log.info(f"{number(len(recorded), 'run')} of pull request #{pull_request} on record.")
    elif parse_checkout:
        log.info(
            f"No run of pull request #{pull_request} is on record: parsing what it would build."
        )
        recorded, parse_checkout = [parse_checkout()], None
        is_known = False
    if not any(footprint.relations for footprint in recorded):
        return Cleaned(pull_request=pull_request, is_dry_run=is_dry_run, has_built=False)
    clean = partial(
        _clean,
        pull_request,
        production=production(),
        warehouse_for=warehouse_for,
        is_dry_run=is_dry_run,
        log=log,
    )
    cleaned = clean(recorded)
    if not is_known:
        # Most of what it could have built it never has.
        cleaned = replace(cleaned, gone=())
    if cleaned.left and parse_checkout:
        log.info(
            "There is more than the runs have recorded: parsing what the pull request would build."
        )
        try:
            cleaned = cleaned.and_then(clean([*recorded, parse_checkout()]))
        except Cancelled:
            raise
        except CiDeferError as error:
            log.warning(f"It cannot be parsed, so what nobody recorded stays: {error.message}")
    if cleaned.is_done:
        footprints.forget(pull_request)
    return cleaned


def _clean(
    pull_request: int,
    recorded: Sequence[Footprint],
    *,
    production: Manifest | None,
    warehouse_for: Callable[[str], Warehouse],
    is_dry_run: bool,
    log: Log,
) -> Cleaned:
    """Drop what these footprints name, target by target."""
    # What one target's runs know of production holds for all of them.
    guard = [place for footprint in recorded for place in footprint.production_schemas]
    by_target: dict[str, list[Footprint]] = {}
    for footprint in recorded:
        by_target.setdefault(footprint.target, []).append(footprint)
    parts = [
        _of_target(
            what_to_drop(group, production, guard),
            warehouse_for(target),
            is_dry_run=is_dry_run,
            log=log,
        )
        for target, group in by_target.items()
    ]
    return _together(pull_request, parts, is_dry_run=is_dry_run)


def footprint_of_checkout(
    project: Project,
    engine: Engine,
    pr_schema: str,
    *,
    key: str,
    event: Event,
    target: str,
    log: Log,
) -> Footprint:
    """What the pull request that is checked out could have built into its schema.

    All of the project, as nobody knows what was selected. Raises CiDeferError when dbt cannot parse
    it.
    """
    install_packages(project, engine, log, ran=lambda _: None)
    with closing(engine):
        parsed = engine.parse().invocation
    parsed.check("parse the pull request", "Drop its schema by hand, if there is one.")
    manifest = read_manifest(project.target_path / MANIFEST)
    own = [node for node in all_built(manifest) if carries(node.schema or "", pr_schema)]
    return footprint_of(
        own,
        None,
        key=key,
        event=event,
        pr_schema=pr_schema,
        target=target,
        adapter=manifest.metadata.adapter_type or "",
        created_at="",
    )


def _of_target(
    drops: Drops, warehouse: Warehouse, *, is_dry_run: bool, log: Log
) -> tuple[Drops, _Outcome]:
    """Drop what the runs with one target have built."""
    places = places_of(drops)
    plan = clearance(drops, warehouse.look(places) if places else {})
    outcome = _Outcome(gone=set(plan.gone), left=list(plan.left), failed=dict(plan.refused))
    if is_dry_run:
        outcome.done = {item for order in plan.orders for item in order.items()}
    else:
        outcome.carry_out(plan.orders, warehouse, log)
    outcome.forgive()
    return drops, outcome


@dataclass
class _Outcome:
    """What has become of each item so far."""

    gone: set[Item]
    left: list[Item]
    failed: dict[Item, str]
    done: set[Item] = field(default_factory=set)

    def carry_out(self, orders: Sequence[Order], warehouse: Warehouse, log: Log) -> None:
        """Drop what the orders say, past what cannot be dropped."""
        for _ in range(ATTEMPTS):
            if not orders:
                return
            dropped = warehouse.drop(orders)
            for item in sorted(dropped.done, key=name_of):
                log.info(f"Dropped {name_of(item)}.")
            self.done |= dropped.done
            self.gone |= dropped.gone
            self.left += dropped.left
            self.failed |= dict.fromkeys(dropped.kept, STILL_THERE)
            settled = {*dropped.done, *dropped.gone, *dropped.kept}
            settled |= {(place, None) for place, _ in dropped.left}
            if dropped.failed:
                log.warning(f"{name_of(dropped.failed)} could not be dropped: {dropped.why}")
                self.failed[dropped.failed] = dropped.why
                settled.add(dropped.failed)
            orders = without(orders, settled)
        self.failed |= {item: NOT_TRIED for order in orders for item in order.items()}

    def forgive(self) -> None:
        """Take for dropped what has gone with its schema."""
        whole = {place for place, identifier in self.done if identifier is None}
        self.done |= {item for item in self.failed if item[0] in whole}
        self.failed = {item: why for item, why in self.failed.items() if item[0] not in whole}


def name_of(item: Item) -> str:
    """A relation or a schema, as a person would write it."""
    place, identifier = item
    return str(place) if identifier is None else f"{place}.{identifier}"


def _together(
    pull_request: int, parts: Iterable[tuple[Drops, _Outcome]], *, is_dry_run: bool
) -> Cleaned:
    """The result of all targets. What one of them dropped, another one finds gone."""
    parts = list(parts)
    done = {item for _, outcome in parts for item in outcome.done}
    gone = {item for _, outcome in parts for item in outcome.gone} - done
    failed = {item: why for _, outcome in parts for item, why in outcome.failed.items()}
    return Cleaned(
        pull_request=pull_request,
        is_dry_run=is_dry_run,
        schemas=_names(item for item in done if item[1] is None),
        relations=_names(item for item in done if item[1] is not None),
        gone=_names(gone),
        failures=tuple(Failure(name_of(item), why) for item, why in failed.items()),
        left=_names(item for _, outcome in parts for item in outcome.left),
        kept=tuple(sorted({str(item) for drops, _ in parts for item in drops.kept})),
    )


def _names(items: Iterable[Item]) -> tuple[str, ...]:
    return tuple(sorted(map(name_of, set(items))))
