"""What changed although dbt does not select it: dbt does not compare everything that matters. Pure.

Vars, environment variables, seeds over the size that dbt reads, packages, macros whose use dbt
does not see, and what is gone. Each is a sentence for the report. Nothing is built for it: a
person decides. Source of the list: `same_contents` of dbt-core, and its documentation of
`state:modified`, "caveats".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import yaml

from ci_defer.comparison import Changes
from ci_defer.manifest import FileHash, Macro, Manifest, Node
from ci_defer.project import PACKAGE_FILES, PACKAGE_LOCK, PROJECT_FILE, VARS_FILE
from ci_defer.report import Removed
from ci_defer.selection import Explained
from ci_defer.wording import listing

ENV_VAR = re.compile(r"\benv_var\(\s*['\"](\w+)['\"]")
NAMING = re.compile(r"(?:\w+__)?generate_(?:schema|alias|database)_name")
MATERIALIZATION = re.compile(r"materialization_(\w+?)_[a-z0-9]+")
VARS_OPTION = re.compile(r"--vars(?![\w-])")
# They speak of variables, and set none.
PROSE = (".md", ".rst", ".txt")
# A file that a person wrote; beyond that it is data.
MAX_FILES = 100
MAX_TEXT = 200_000


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Files by their path from the top of the work tree, as they were and as they are now.

    None where there is none, or no text.
    """

    before: Callable[[str], str | None]
    now: Callable[[str], str | None]


class BlindSpots:
    """What changed since the compared state, and is not in the plan."""

    def __init__(
        self,
        planned: Collection[str],
        manifest: Manifest,
        explained: Explained,
        changes: Changes,
        texts: Texts,
    ) -> None:
        self._planned = frozenset(planned)
        self._manifest = manifest
        self._explained = explained
        self._changes = changes
        self._texts = texts

    def warnings(self, gone: Iterable[Removed]) -> Iterator[str]:
        """A sentence or two for each."""
        yield from self._vars()
        yield from self._environment()
        yield from self._seeds()
        yield from self._packages()
        yield from self._macros()
        yield from _gone(gone)

    def _vars(self) -> Iterator[str]:
        for name in (PROJECT_FILE, VARS_FILE):
            if not self._changes.has(name):
                continue
            before, now = (
                self._vars_of(text) for text in self._both(f"{self._changes.prefix}{name}")
            )
            for package, variable in {**before, **now}:
                # As JSON, for 1 and true are the same to Python alone.
                if before.get((package, variable)) == now.get((package, variable)):
                    continue
                pattern = re.compile(rf"\bvar\(\s*['\"]{re.escape(variable)}['\"]")
                if names := self._users(pattern, package=package):
                    yield (
                        f"The var {variable} changed in {name}, and dbt does not compare vars. "
                        f"Not selected, though it is used there: {listing(names)}."
                    )

    def _environment(self) -> Iterator[str]:
        variables: set[str] | None = None
        with_vars: dict[str, None] = {}
        for path, line in self._lines_outside_of_dbt():
            # Most pull requests change nothing outside of dbt.
            variables = self._variables() if variables is None else variables
            for name in sorted(variables & set(re.findall(r"\w+", line))):
                variables.remove(name)
                pattern = re.compile(rf"\benv_var\(\s*['\"]{re.escape(name)}['\"]")
                if names := self._users(pattern):
                    yield (
                        f"{path} changed where it speaks of the environment variable {name}, which "
                        "dbt does not compare. Not selected, though it is used there: "
                        f"{listing(names)}."
                    )
            if VARS_OPTION.search(line):
                with_vars[path] = None
        for path in with_vars:
            yield (
                f"{path} changed where it gives --vars to dbt, which does not compare vars: "
                "what uses them was not selected for that."
            )

    def _variables(self) -> set[str]:
        """The environment variables that the project asks for."""
        texts = [text for node in self._manifest.resources() for text in _texts_of(node)]
        texts += [macro.macro_sql for macro in self._own_macros()]
        return {name for text in texts if "env_var" in text for name in ENV_VAR.findall(text)}

    def _seeds(self) -> Iterator[str]:
        names = [
            node.name
            for node in self._manifest.nodes.values()
            if node.resource_type == "seed"
            and isinstance(node.checksum, FileHash)
            and node.checksum.name == "path"
            and self._changes.has(node.original_file_path)
            and node.unique_id not in self._planned
        ]
        if names:
            yield (
                f"The seed {listing(names)} changed, but is larger than dbt reads to compare, so "
                "it was not selected. Add it to select, or raise dbt's limit for seeds."
            )

    def _packages(self) -> Iterator[str]:
        if not self._changes.packages_changed:
            return
        said: dict[str, None] = {}
        for name in (PACKAGE_LOCK, *PACKAGE_FILES):
            if f"{self._changes.prefix}{name}" not in self._changes.files:
                continue
            before, now = (_versions(text) for text in self._both(f"{self._changes.prefix}{name}"))
            for package in {**before, **now}:
                old, new = before.get(package, "not there"), now.get(package, "gone")
                if old != new:
                    said.setdefault(f"{package} {old} → {new}")
            if said:
                break
        if said:
            yield (
                f"Packages changed: {listing([*said])}. dbt selects what their macros and models "
                "reach, and not what they change by hooks, materializations or dispatch."
            )

    def _macros(self) -> Iterator[str]:
        """Changed macros that dbt does not know anybody to use, and somebody does."""
        for unique_id, became in self._explained.changed_macros.items():
            macro = self._explained.macro(unique_id)
            if not self._is_own(macro):
                continue
            if NAMING.fullmatch(macro.name):
                if not all(node.unique_id in self._planned for node in self._built()):
                    yield (
                        f"The macro {macro.name} {became}, which names relations: dbt selects "
                        "nothing for that, and what was not selected stays where it is."
                    )
            elif names := self._unseen_users(unique_id, macro):
                yield (
                    f"The macro {macro.name} {became}, and dbt does not see all of its uses. Not "
                    f"selected, though it is named there: {listing(names)}."
                )

    def _unseen_users(self, unique_id: str, macro: Macro) -> list[str]:
        if match := MATERIALIZATION.fullmatch(macro.name):
            users = [node for node in self._built() if node.materialized == match[1]]
            return [node.name for node in users if node.unique_id not in self._planned]
        # Those whose use dbt sees are in the plan, unless the user has left them out.
        return self._users(re.compile(rf"\b{re.escape(macro.name)}\b"), but=unique_id)

    def _vars_of(self, text: str) -> dict[tuple[str, str], str]:
        """The vars of a file as JSON, by package and name; those of all packages under ""."""
        declared = _document(text).get("vars")
        packages = {macro.package_name for macro in self._manifest.macros.values()}
        packages |= {node.package_name for node in self._manifest.resources()}
        found: dict[tuple[str, str], str] = {}
        for key, value in declared.items() if isinstance(declared, dict) else ():
            if isinstance(value, dict) and key in packages:
                found |= {(key, str(name)): _as_json(inner) for name, inner in value.items()}
            else:
                found["", str(key)] = _as_json(value)
        return found

    def _users(self, pattern: re.Pattern[str], *, but: str = "", package: str = "") -> list[str]:
        """The names of nodes that are not planned and use what is found, also through macros."""
        macros = {
            name
            for name, macro in self._manifest.macros.items()
            if name != but and self._is_own(macro) and pattern.search(macro.macro_sql)
        }
        return [
            node.name
            for node in self._manifest.resources()
            if node.unique_id not in self._planned
            and node.resource_type != "operation"
            and package in ("", node.package_name)
            and (but == "" or not self._explained.reaches(node, {but}))
            and (
                any(pattern.search(text) for text in _texts_of(node))
                or (macros and self._explained.reaches(node, macros))
            )
        ]

    def _lines_outside_of_dbt(self) -> Iterator[tuple[str, str]]:
        """Lines that came or went in changed files that dbt does not read."""
        dbt_reads = {node.original_file_path for node in self._manifest.resources()}
        dbt_reads |= {
            (node.patch_path or "").partition("://")[2] for node in self._manifest.resources()
        }
        dbt_reads |= {macro.original_file_path for macro in self._manifest.macros.values()}
        dbt_reads |= {PROJECT_FILE, VARS_FILE, PACKAGE_LOCK, *PACKAGE_FILES}
        ours = {f"{self._changes.prefix}{path}" for path in dbt_reads}
        others = sorted(self._changes.files - ours)
        written = [path for path in others if not path.endswith(PROSE)]
        for path in written[:MAX_FILES]:
            before, now = (dict.fromkeys(text.splitlines()) for text in self._both(path))
            for line in {**before, **now}:
                if line not in before or line not in now:
                    yield path, line

    def _both(self, path: str) -> tuple[str, str]:
        """A file as it was and as it is: empty where there is none, or too much to look at."""
        before, now = self._texts.before(path) or "", self._texts.now(path) or ""
        is_large = len(before) + len(now) > MAX_TEXT
        return ("", "") if is_large else (before, now)

    def _own_macros(self) -> Iterator[Macro]:
        return (macro for macro in self._manifest.macros.values() if self._is_own(macro))

    def _is_own(self, macro: Macro) -> bool:
        return macro.package_name == self._manifest.metadata.project_name

    def _built(self) -> Iterator[Node]:
        return (node for node in self._manifest.nodes.values() if node.relation_name)


def _gone(gone: Iterable[Removed]) -> Iterator[str]:
    for item in gone:
        if item.read_by and not item.disabled:
            names = [unique_id.split(".", 2)[-1] for unique_id in item.read_by]
            yield f"{item.name} is gone, and what read it in production remains: {listing(names)}."


def _texts_of(node: Node) -> Sequence[str]:
    """What a person wrote of a node, where Jinja may stand."""
    declared = msgspec.json.encode(node.unrendered_config).decode()
    schema = getattr(node, "unrendered_schema", None) or ""
    database = getattr(node, "unrendered_database", None) or ""
    return node.raw_code or "", declared.replace('\\"', '"'), schema, database


def _document(text: str) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _versions(text: str) -> dict[str, str]:
    """What is declared of each package: its version, revision or folder."""
    listed = _document(text).get("packages")
    found = {}
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict):
            keys = ("package", "git", "local", "tarball", "private", "name")
            name = next((str(entry[key]) for key in keys if key in entry), "")
            if folder := entry.get("subdirectory"):
                name = f"{name}/{folder}"
            version = entry.get("revision", entry.get("version", ""))
            found[name] = str(version)
    return found
