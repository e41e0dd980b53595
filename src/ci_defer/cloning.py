"""Clone what runs in increments from production, before it is built.

Whatever goes wrong here is no reason to stop: what was not cloned is built in full, and the report
says so. Which nodes are cloned is decided by `clones`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from ci_defer.bundle import RUN_RESULTS, Bundle
from ci_defer.clearance import Item
from ci_defer.clones import Clones
from ci_defer.dbt import Engine, Invocation, Selection
from ci_defer.dbt.output import error_message
from ci_defer.dbt.warehouse import Warehouse
from ci_defer.errors import Cancelled, CiDeferError
from ci_defer.footprint import Relation
from ci_defer.manifest import Manifest, Node, read_run_results
from ci_defer.wording import listing

# An error ends the operation, which then goes on behind what failed.
ATTEMPTS = 4
# dbt's word for a node that was cloned, or that has been before.
SUCCESS = "success"


@dataclass(frozen=True, kw_only=True)
class Cloner:
    """Clones from `production` in one run.

    `ran` is told of every dbt command, `note` of what the report has to say.
    """

    production: Bundle
    engine: Engine
    warehouse: Warehouse
    target_path: Path
    ran: Callable[[Invocation], None]
    note: Callable[[str], None]

    def clone(self, wanted: Clones) -> frozenset[str]:
        """Do it, and return the unique ids of what is there now. Raises Cancelled."""
        for note in wanted.notes:
            self.note(note)
        if wanted.nodes:
            return self._clone(wanted)
        if wanted.copies:
            return self._copy(wanted.copies)
        return frozenset()

    def _clone(self, wanted: Clones) -> frozenset[str]:
        ran = self.engine.clone(Selection(select=wanted.select, state=self.production.directory))
        self.ran(ran)
        if ran.interrupted:
            raise Cancelled("Cancelled while dbt was to clone.")
        results = self.target_path / RUN_RESULTS
        done: AbstractSet[str] = frozenset()
        if results.is_file():
            cloned = read_run_results(results).results
            asked = {node.unique_id for node in wanted.nodes}
            # dbt takes a name for that of a folder, too.
            done = asked & frozenset(item.unique_id for item in cloned if item.status == SUCCESS)
            # Those of the build are to be told from these.
            results.unlink()
        why = error_message(ran.tail) if ran.exit_code else ""
        self._say_what_is_left(wanted.nodes, done, why)
        return frozenset(done)

    def _copy(self, nodes: Sequence[Node]) -> frozenset[str]:
        """Copy one after the other, past what cannot be copied."""
        rest: dict[Item, tuple[Relation, Relation]] = {
            (here.place, here.identifier): (_recorded(self.production.relations, node), here)
            for node in nodes
            for here in (Relation.of(node),)
        }
        done: set[str] = set()
        why = ""
        for _ in range(ATTEMPTS):
            try:
                copied = self.warehouse.copy(list(rest.values()))
            except Cancelled:
                raise
            except CiDeferError as error:
                why = error.message
                break
            done |= {rest[item][1].unique_id for item in copied.done}
            why = why or copied.why
            settled = copied.done | copied.absent | {copied.failed}
            rest = {item: pair for item, pair in rest.items() if item not in settled}
            if not (rest and copied.failed):
                break
        self._say_what_is_left(nodes, done, why)
        return frozenset(done)

    def _say_what_is_left(self, nodes: Sequence[Node], done: AbstractSet[str], why: str) -> None:
        left = [node.name for node in nodes if node.unique_id not in done]
        if left:
            reason = why.partition("\n")[0]
            self.note(f"Not cloned, so built in full: {listing(left)}. {reason}".strip())


def _recorded(production: Manifest, node: Node) -> Relation:
    return Relation.of(production.nodes[node.unique_id])
