"""Like with like: what a manifest was made with, and which nodes look modified for that alone.

Two manifests of one commit differ when another dbt made them, or with another target, profile,
vars or environment, and dbt takes the difference for a change. Owns what counts as "made alike",
and how a false "modified" is recognised: nothing of the node changed in git. Pure: what changed in
git is given. Nothing here decides what is built.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ci_defer.bundle import ParsedWith
from ci_defer.manifest import (
    Exposure,
    Macro,
    Manifest,
    Metric,
    Node,
    SavedQuery,
    SemanticModel,
)
from ci_defer.project import PACKAGE_FILES, PACKAGE_LOCK, PROJECT_FILE, VARS_FILE
from ci_defer.report import Reason, ReasonKind
from ci_defer.selection import Explained

# What is declared in any properties file may be what these speak of.
DECLARED_ANYWHERE = (Exposure, Metric, SemanticModel, SavedQuery)
# Kinds that dbt_project.yml can bring about, and so can profiles.yml.
OF_THE_PROJECT = frozenset(ReasonKind) - {ReasonKind.BODY, ReasonKind.MACROS}
PROPERTIES = (".yml", ".yaml")
FIXTURES = (".csv", ".sql")


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What differs in git between `commit` and the files of this run, committed or not.

    Paths are from the top of the work tree; `prefix` leads from there to the dbt project, and is
    empty or ends in a slash. `tracked` are all files that git knows of; `new` are those that it
    does not know, which this job may have written itself.
    """

    commit: str
    prefix: str
    files: frozenset[str]
    tracked: frozenset[str]
    new: frozenset[str] = frozenset()

    def has(self, path: str) -> bool:
        """Whether a file of the project changed; its path is from the project's folder."""
        return path in self.in_project

    @cached_property
    def in_project(self) -> frozenset[str]:
        """The changed files of the project, from its folder."""
        return frozenset(
            path.removeprefix(self.prefix)
            for path in self.files | self.new
            if path.startswith(self.prefix)
        )

    @property
    def packages_changed(self) -> bool:
        """Whether what is declared of the packages changed."""
        # A lock that nobody committed is written by `dbt deps` in every job.
        return any(f"{self.prefix}{name}" in self.files for name in (*PACKAGE_FILES, PACKAGE_LOCK))


def differences(theirs: ParsedWith, ours: ParsedWith) -> list[str]:
    """What was another when `theirs` was made, in words; what is unknown of either is no matter.

    The target, the profile and the vars are always known: empty is the default of the project.
    """
    found = []
    if theirs.dbt_version and ours.dbt_version and theirs.dbt_version != ours.dbt_version:
        found.append(f"made by dbt {theirs.dbt_version}, and this run uses {ours.dbt_version}")
    if theirs.adapter and ours.adapter and theirs.adapter != ours.adapter:
        found.append(f"made for {theirs.adapter}, and this run uses {ours.adapter}")
    if theirs.target != ours.target:
        found.append(f"made for {_target(theirs)}, and this run uses {_target(ours)}")
    if theirs.profile != ours.profile:
        found.append(f"made with {_profile(theirs)}, and this run uses {_profile(ours)}")
    if theirs.vars_sha256 != ours.vars_sha256:
        found.append("made with other --vars")
    return found


def _target(made: ParsedWith) -> str:
    return f"target {made.target}" if made.target else "the default target"


def _profile(made: ParsedWith) -> str:
    return f"profile {made.profile}" if made.profile else "the profile of the project"


class Suspicion:
    """Which nodes look modified although nothing of theirs changed in git, and why that may be.

    `unlike` says what was another when the compared manifest was made, as `differences` has it.
    """

    def __init__(
        self,
        explained: Explained,
        manifest: Manifest,
        compared: Manifest,
        changes: Changes,
        unlike: Sequence[str] = (),
    ) -> None:
        self._explained = explained
        self._manifest = manifest
        self._compared = compared
        self._changes = changes
        self._unlike = unlike

    def of(self, unique_ids: Iterable[str]) -> dict[str, str]:
        """For each suspected node, the reason found."""
        found = {}
        for unique_id in unique_ids:
            reasons = self._explained.modified.get(unique_id)
            node = self._manifest.find(unique_id)
            # A file that git does not know may have been made by the job, from anything.
            if node and reasons and self._is_known(node) and not self._is_explained(node, reasons):
                found[unique_id] = self._why(node, reasons)
        return found

    def _is_known(self, node: Node) -> bool:
        path = f"{self._changes.prefix}{node.original_file_path}"
        return not self._is_own(node) or path in self._changes.tracked

    def _is_own(self, node: Node | Macro) -> bool:
        return node.package_name == self._manifest.metadata.project_name

    def _is_explained(self, node: Node, reasons: Sequence[Reason]) -> bool:
        """Whether git has a change that may have brought about one of the reasons."""
        if self._has_changed(node, node.original_file_path):
            return True
        if isinstance(node, DECLARED_ANYWHERE):
            return any(path.endswith(PROPERTIES) for path in self._changes.in_project)
        if node.resource_type == "unit_test" and self._has_changed_fixture():
            return True
        return any(self._is_cause(node, reason.kind) for reason in reasons)

    def _is_cause(self, node: Node, kind: ReasonKind) -> bool:
        if kind is ReasonKind.MACROS:
            return self._explained.reaches(node, self._changed_macros)
        properties = (node.patch_path or "").partition("://")[2]
        if properties and self._has_changed(node, properties):
            return True
        if kind is ReasonKind.DESCRIPTIONS:
            return any(path.endswith(".md") for path in self._changes.in_project)
        return kind in OF_THE_PROJECT and any(
            path.rpartition("/")[2] in (PROJECT_FILE, VARS_FILE, "profiles.yml")
            for path in self._changes.files
        )

    def _has_changed(self, node: Node | Macro, path: str) -> bool:
        """Whether the file changed; that of a package, if it may have."""
        if self._is_own(node):
            return self._changes.has(path)
        # A package is installed from elsewhere, or is a folder of this repository.
        return self._changes.packages_changed or any(
            changed.endswith(f"/{path}") for changed in self._changes.files
        )

    def _has_changed_fixture(self) -> bool:
        return any(
            path.endswith(FIXTURES) and "fixtures/" in path for path in self._changes.in_project
        )

    @cached_property
    def _changed_macros(self) -> frozenset[str]:
        """The changed macros whose change is in git; a macro that is gone has its old file."""
        changed = (self._explained.macro(name) for name in self._explained.changed_macros)
        return frozenset(
            macro.unique_id
            for macro in changed
            if self._has_changed(macro, macro.original_file_path)
        )

    def _why(self, node: Node, reasons: Sequence[Reason]) -> str:
        return next(self._causes(node, {reason.kind for reason in reasons}))

    def _causes(self, node: Node, kinds: Collection[ReasonKind]) -> Iterator[str]:
        """What may have made the difference, the likeliest first."""
        if self._unlike:
            yield f"the state was {'; '.join(self._unlike)}"
        if ReasonKind.NEW in kinds and node.unique_id in (self._compared.disabled or {}):
            yield "it was disabled where the state was made"
        ours, theirs = self._manifest.metadata.dbt_version, self._compared.metadata.dbt_version
        if ours != theirs:
            yield f"the state was made by dbt {theirs}, and this run uses {ours}"
        if ReasonKind.MACROS in kinds:
            yield self._of_macros(node)
        if not self._is_own(node):
            yield _of_package(node.package_name)
        if ReasonKind.BODY in kinds and self._is_same_text(node):
            yield "only white space or line ends differ"
        yield "a value of it may come from the environment: a variable, the target, the profile"

    def _of_macros(self, node: Node) -> str:
        package = self._explained.way_to_changed_macro(node)[-1].split(".")[1]
        if package == self._manifest.metadata.project_name:
            return "a macro of it comes from elsewhere than git"
        if package == "dbt" or package in self._adapters:
            return f"macros of {package} changed: another version of dbt or of its adapter"
        return _of_package(package)

    @cached_property
    def _adapters(self) -> frozenset[str]:
        adapter = self._manifest.metadata.adapter_type or ""
        # Some adapters stand on another one.
        return frozenset({f"dbt_{adapter}", "dbt_postgres", "dbt_spark"})

    def _is_same_text(self, node: Node) -> bool:
        old = self._compared.find(node.unique_id)
        if old is None or not node.raw_code:
            return False
        return node.raw_code.split() == (old.raw_code or "").split()


def _of_package(name: str) -> str:
    return (
        f"the package {name} changed, though what is declared of the packages did not: "
        f"commit {PACKAGE_LOCK}"
    )
