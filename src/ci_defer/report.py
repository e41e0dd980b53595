"""The report: all that one run of defer has to say, as data, and its JSON.

Owns the shape of report.json and its version. Knows nothing of how it is shown (`markdown`,
`text`) or of how it comes about (`findings`). The JSON Schema in docs/report.schema.json is
made from the classes below; a field that changes its meaning or goes raises SCHEMA_VERSION.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ci_defer.errors import ExitCode

SCHEMA_VERSION = 1


class Outcome(str, Enum):
    """How the run ended, in one word."""

    SUCCESS = "success"
    FAILURE = "failure"
    NO_CHANGES = "no-changes"
    NO_STATE = "no-state"
    ERROR = "error"
    CANCELLED = "cancelled"


class NodeOutcome(str, Enum):
    """What became of one node. dbt's own word for it is the node's `status`."""

    BUILT = "built"
    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    ERRORED = "errored"
    SKIPPED = "skipped"
    NO_OP = "no-op"
    HOOK = "hook"
    NOT_RUN = "not-run"
    OTHER = "other"


class Change(str, Enum):
    """How a selected node stands to the compared state."""

    NEW = "new"
    MODIFIED = "modified"
    DOWNSTREAM = "downstream"


class ReasonKind(str, Enum):
    """What a reason is of: dbt's sub-selector of `state:modified` where there is one.

    `new`, `body`, `configs`, `relation`, `contract`, `persisted_descriptions` and `macros` are
    dbt's words. dbt has none for a moved file, for access, version and deprecation, and for what
    sources, exposures, metrics, semantic models and saved queries have of their own.
    """

    NEW = "new"
    BODY = "body"
    CONFIGS = "configs"
    RELATION = "relation"
    CONTRACT = "contract"
    DESCRIPTIONS = "persisted_descriptions"
    MACROS = "macros"
    MOVED = "moved"
    ACCESS = "access"
    PROPERTY = "property"
    DOWNSTREAM = "downstream"
    CHOSEN = "chosen"


BAD = frozenset({NodeOutcome.FAILED, NodeOutcome.ERRORED})
TESTS = frozenset({"test", "unit_test"})


# No run has more; a report from elsewhere may claim anything.
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Number = Annotated[int, Meta(ge=0, le=1_000_000_000)]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything in a report."""


class Problem(Part, frozen=True, kw_only=True):
    """Why the run could not do its work: what happened and what to do."""

    message: str
    hint: str = ""
    exit_code: int = ExitCode.SERVICE


class Reason(Part, frozen=True, kw_only=True):
    """One reason why a node was selected."""

    kind: ReasonKind
    text: Annotated[str, Meta(description="in words, with old and new values cut when long")]


class NodeReport(Part, frozen=True, kw_only=True):
    """One node that dbt selected or ran, and every hook that ran."""

    unique_id: str
    name: str
    resource_type: str
    outcome: NodeOutcome
    status: Annotated[str, Meta(description="dbt's own word; empty when dbt has no result")] = ""
    package: str = ""
    path: Annotated[str, Meta(description="of the file, from the project directory")] = ""
    line: Annotated[Number | None, Meta(description="in that file, from 1; null when unknown")] = (
        None
    )
    change: Annotated[
        Change | None, Meta(description="null when there was nothing to compare with")
    ] = None
    reasons: Annotated[list[Reason], Meta(description="why it was selected")] = []
    suspicion: Annotated[
        str,
        Meta(description="why it may only look modified: nothing of it changed in git; else empty"),
    ] = ""
    parents: Annotated[
        list[str], Meta(description="unique ids of what it reads and this report speaks of")
    ] = []
    materialized: str = ""
    cloned: Annotated[
        bool, Meta(description="cloned from production first, so that it ran as an increment")
    ] = False
    relation: Annotated[str, Meta(description="as the database names it, quoted")] = ""
    seconds: Seconds = 0.0
    message: Annotated[str, Meta(description="of the database or of dbt, cut when huge")] = ""
    failures: Annotated[Number | None, Meta(description="rows that a test found")] = None
    compiled_path: Annotated[str, Meta(description="from the project directory")] = ""
    compiled_code: Annotated[str, Meta(description="the SQL of a failed node, cut when huge")] = ""

    @property
    def why(self) -> str:
        """Why it was selected, in words; empty when there was nothing to compare with."""
        return "; ".join(reason.text for reason in self.reasons)


class Cause(Part, frozen=True, kw_only=True):
    """One error, and the nodes that failed with it, most important first."""

    message: str
    unique_ids: list[str]


class Deferred(Part, frozen=True, kw_only=True):
    """A relation of production that was read in place of one that was not built."""

    unique_id: str
    name: str
    relation: str
    production_status: Annotated[
        str, Meta(description="dbt's word in production's own run; empty when unknown")
    ] = ""


class Removed(Part, frozen=True, kw_only=True):
    """A resource of production that the pull request does not have any more."""

    unique_id: str
    name: str
    resource_type: str
    path: str = ""
    disabled: Annotated[bool, Meta(description="it is there, but disabled for this target")] = False
    read_by: Annotated[
        list[str],
        Meta(description="unique ids of what reads it in production, and is still here"),
    ] = []


class State(Part, frozen=True, kw_only=True):
    """The production state that was used. Without provenance only the location is known."""

    location: str
    has_provenance: bool
    commit: str = ""
    branch: str = ""
    created_at: str = ""
    dbt_version: str = ""
    reparsed: Annotated[
        bool, Meta(description="nothing was published: the base commit was parsed again")
    ] = False
    reason: Annotated[str, Meta(description="why the base commit was parsed again")] = ""
    is_compared_apart: Annotated[
        bool,
        Meta(description="only read from; the comparison is with a manifest made as this run's"),
    ] = False
    compared_because: Annotated[
        str, Meta(description="why it was parsed again for the comparison; empty when it was not")
    ] = ""
    age_commits: Annotated[
        Number | None, Meta(description="first-parent commits from the base commit back to it")
    ] = None


class Exposure(Part, frozen=True, kw_only=True):
    """An exposure downstream of what was selected: who will see the change."""

    unique_id: str
    name: str
    type: str = ""
    owner: str = ""
    path: str = ""
    parents: Annotated[
        list[str], Meta(description="unique ids of what it reads and this report speaks of")
    ] = []


class PassedOver(Part, frozen=True, kw_only=True):
    """A commit nearer to the base commit than the state that was used, and why not that one."""

    commit: str
    reason: str


class Command(Part, frozen=True, kw_only=True):
    """A dbt command that was run."""

    arguments: list[str]
    exit_code: int
    seconds: Seconds


class Counts(Part, frozen=True, kw_only=True):
    """How many nodes had each outcome."""

    built: Number = 0
    passed: Number = 0
    warned: Number = 0
    failed: Number = 0
    errored: Number = 0
    skipped: Number = 0
    no_op: Number = 0
    hook: Number = 0
    not_run: Number = 0
    other: Number = 0


class Report(Part, frozen=True, kw_only=True):
    """One run of `ci-defer defer`. Times are wall seconds, instants ISO 8601 in UTC."""

    outcome: Outcome
    headline: Annotated[str, Meta(description="the outcome in one sentence")]
    project: str
    project_name: Annotated[str, Meta(description="the name in dbt_project.yml")] = ""
    project_dir: Annotated[str, Meta(description="from the top of the repository; '.' for it")]
    started_at: str
    seconds: Seconds
    schema_version: int = SCHEMA_VERSION
    ci_defer_version: str = ""
    dbt_version: str = ""
    adapter: str = ""
    target: str = ""
    pr_schema: Annotated[
        str, Meta(description="the pull request's own schema; empty when it has none")
    ] = ""
    head_commit: str = ""
    base_commit: str = ""
    repository_url: str = ""
    run_url: str = ""
    problem: Problem | None = None
    state: State | None = None
    passed_over: Annotated[
        list[PassedOver], Meta(description="states that could not be used, nearest first")
    ] = []
    selected_count: Annotated[Number, Meta(description="nodes that dbt selected")] = 0
    counts: Counts = Counts()
    nodes: list[NodeReport] = []
    causes: list[Cause] = []
    deferred: list[Deferred] = []
    removed: list[Removed] = []
    exposures: list[Exposure] = []
    warnings: Annotated[list[str], Meta(description="what a green result does not prove")] = []
    commands: list[Command] = []
    parsed_in_full: Annotated[
        str, Meta(description="why dbt did not go on from the saved parse of the state")
    ] = ""
    production_seconds: Annotated[
        Seconds | None, Meta(description="what production's run spent on the selected nodes")
    ] = None
    seconds_saved: Annotated[
        Seconds | None, Meta(description="what production's run spent on nodes not built here")
    ] = None

    def is_own(self, node: NodeReport) -> bool:
        """Whether the node is of this project: the paths of a package lead nowhere from here."""
        return not node.package or not self.project_name or node.package == self.project_name

    def path_in_repository(self, path: str) -> str:
        """A path of the project, from the top of the repository."""
        return path if self.project_dir in ("", ".") else f"{self.project_dir}/{path}"

    def failures(self) -> list[tuple[Cause, list[NodeReport]]]:
        """Each cause with its nodes, as far as this report holds them."""
        by_id = {node.unique_id: node for node in self.nodes}
        pairs = (
            (cause, [by_id[name] for name in cause.unique_ids if name in by_id])
            for cause in self.causes
        )
        return [(cause, nodes) for cause, nodes in pairs if nodes]

    @property
    def exit_code(self) -> int:
        """The exit code of the command line for this report."""
        if self.problem:
            return self.problem.exit_code
        if self.outcome is Outcome.CANCELLED:
            return ExitCode.CANCELLED
        return ExitCode.NODES_FAILED if self.outcome is Outcome.FAILURE else ExitCode.OK

    @property
    def failed(self) -> list[NodeReport]:
        """The nodes that make the run red."""
        return [node for node in self.nodes if node.outcome in BAD]


# Worst first: what a person has to act on must not be below what is fine.
SEVERITY = {
    outcome: rank
    for rank, outcome in enumerate(
        (
            NodeOutcome.ERRORED,
            NodeOutcome.FAILED,
            NodeOutcome.WARNED,
            NodeOutcome.SKIPPED,
            NodeOutcome.BUILT,
            NodeOutcome.PASSED,
        )
    )
}


def worst_first(nodes: Iterable[NodeReport]) -> list[NodeReport]:
    """The nodes by severity; within one outcome the order of the run stays."""
    return sorted(nodes, key=lambda node: SEVERITY.get(node.outcome, len(SEVERITY)))


def encode(report: Report) -> bytes:
    """The bytes of report.json."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def decode(raw: bytes) -> Report:
    """Read a report.json. Raises msgspec.DecodeError when it does not have our shape."""
    report = msgspec.json.decode(raw, type=Report)
    if report.schema_version != SCHEMA_VERSION:
        raise msgspec.ValidationError(
            f"schema version {report.schema_version}, and this ci-defer reads {SCHEMA_VERSION}"
        )
    return report


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of report.json."""
    return msgspec.json.schema(Report)
