"""What pull requests need of a commit to be compared with it, and to be parsed fast: `compare/`.

Made on the default branch, where nobody waits for it: the manifest as pull requests parse it, and
dbt's own saved parse, which is tried here before it is published. Owns when that is good enough.
Knows nothing of bundles' other files or of stores.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from ci_defer.bundle import MANIFEST, PARTIAL_PARSE, TEXTS, Bundle, ParsedWith, ParseTerms
from ci_defer.dbt import Parsed, SavedParse
from ci_defer.dbt.saved_parse import Published, publish
from ci_defer.errors import Cancelled, CiDeferError, InvalidBundle
from ci_defer.log import Log
from ci_defer.packages import install_packages
from ci_defer.project import PROJECT_FILE, Project
from ci_defer.reparse import EngineFor

# Of a manifest.json, what is of the moment and not of the project.
OF_THE_MOMENT = frozenset({"created_at"})


@dataclass(frozen=True)
class Comparable:
    """A folder with the manifest, and how it was made; `terms` when a saved parse is beside it."""

    folder: Path
    parsed_with: ParsedWith
    terms: ParseTerms | None


@dataclass(frozen=True, kw_only=True)
class Comparing:
    """How to parse as pull requests do.

    `in_schema` is a context in which there are engines for another schema than that of the target.
    `is_asked_for` says that somebody named the target; `saves` that dbt's saved parse is wanted.
    """

    parsed_with: ParsedWith
    in_schema: Callable[[str], AbstractContextManager[EngineFor]]
    is_asked_for: bool
    saves: bool


def comparable(
    project: Project, comparing: Comparing, to: Path, *, engine_for: EngineFor, log: Log
) -> Comparable | None:
    """Make `compare/` in new folders below `to`; None when dbt cannot, which the log says.

    Production's state is what matters: pull requests only take longer without this.
    """
    made = _Maker(project, comparing, to, engine_for, log)
    saves = comparing.saves and engine_for(project, None).saves_parses()
    if not (saves or comparing.is_asked_for):
        return None
    try:
        plain = made.parse("compare", engine_for)
    except Cancelled:
        raise
    except CiDeferError as error:
        if comparing.is_asked_for:
            log.warning(
                f"{error.message.rstrip('.')}. {error.hint} "
                "Until then pull requests parse the base commit again, each one."
            )
        return None
    terms = made.save_parse(plain) if saves and plain.connection else None
    if terms is None and not comparing.is_asked_for:
        return None
    return Comparable(to / "compare", comparing.parsed_with, terms)


def saved_parse_in(folder: Path, terms: ParseTerms) -> SavedParse:
    """The saved parse that lies beside the manifest in `folder`."""
    return SavedParse(
        file=folder / PARTIAL_PARSE, texts=folder / TEXTS, stands_for=folder, terms=terms
    )


@dataclass(frozen=True)
class _Maker:
    project: Project
    comparing: Comparing
    to: Path
    engine_for: EngineFor
    log: Log

    def parse(self, name: str, engine_for: EngineFor, saved: SavedParse | None = None) -> Parsed:
        """Parse into a new folder: others may be about to read production's in the target path."""
        folder = self.to / name
        folder.mkdir()
        target = self.comparing.parsed_with.target
        # An empty one is the profile's default.
        engine = engine_for(replace(self.project, target_path=folder), target or None)
        with closing(engine):
            install_packages(self.project, engine, self.log, ran=lambda _: None)
            parsed = engine.parse(saved)
            parsed.invocation.check(
                f"parse the project for pr-target {target}", "Correct the setting pr-target."
            )
        Bundle(folder, None).read()
        return parsed

    def save_parse(self, plain: Parsed) -> ParseTerms | None:
        """Put a saved parse beside the manifest: for any schema, else for that of the target."""
        self.log.info("Making the saved parse that pull requests go on from.")
        attempts: dict[str, Callable[[], Published]] = {
            "any schema": self._for_any_schema,
            "the schema of the target": lambda: self._published("compare", plain),
        }
        for what, make in attempts.items():
            try:
                published = make()
                why_not = published.ties or self._try(published)
                if not why_not:
                    return published.terms
            except Cancelled:
                raise
            except (CiDeferError, OSError) as error:
                why_not = str(error)
            self.log.info(f"There is no saved parse for {what}: {why_not.rstrip('.')}.")
        for name in (PARTIAL_PARSE, TEXTS):
            (self.to / "compare" / name).unlink(missing_ok=True)
        return None

    def _for_any_schema(self) -> Published:
        # It looks like the names of others, in case that something goes by how they begin.
        placeholder = f"ci_pr_{secrets.randbelow(10**9):09}"
        with self.comparing.in_schema(placeholder) as engine_for:
            parsed = self.parse("any", engine_for)
        return self._published("any", parsed, is_placeholder=True)

    def _published(self, name: str, parsed: Parsed, *, is_placeholder: bool = False) -> Published:
        try:
            packed = (self.to / name / PARTIAL_PARSE).read_bytes()
        except FileNotFoundError:
            raise InvalidBundle("dbt has saved none") from None
        if parsed.connection is None:
            raise InvalidBundle("dbt does not say what it was connected to")
        roots = [self.project.directory, *sorted(self.project.packages_path.glob("*/"))]
        texts = [(root / PROJECT_FILE) for root in roots if (root / PROJECT_FILE).is_file()]
        return publish(
            packed,
            parsed.connection,
            is_placeholder=is_placeholder,
            # In what other encoding, only dbt knows.
            project_texts=[(str(file), file.read_text("utf-8", "replace")) for file in texts],
        )

    def _try(self, published: Published) -> str:
        """Write it, and see that dbt makes the same manifest of it; why not, when it does not."""
        folder = self.to / "compare"
        (folder / PARTIAL_PARSE).write_bytes(published.packed)
        (folder / TEXTS).write_text(json.dumps(published.texts), encoding="utf-8")
        name = f"tried-{published.terms.carries_over}"
        tried = self.parse(name, self.engine_for, saved_parse_in(folder, published.terms))
        return tried.in_full or difference(folder / MANIFEST, self.to / name / MANIFEST)


def difference(one: Path, other: Path) -> str:
    """Where two files of manifest.json differ first; empty when they say the same of a project."""
    ours, theirs = (msgspec.json.decode(path.read_bytes()) for path in (one, other))
    for manifest in (ours, theirs):
        # When it was made, and by which invocation.
        manifest.pop("metadata", None)
        # The nodes of a group are in the order that they were parsed in.
        for unique_ids in (manifest.get("group_map") or {}).values():
            unique_ids.sort()
    return next(_differences(ours, theirs), "")


def _differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    if one == other:
        return
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other} - OF_THE_MOMENT):
            if key in one and key in other:
                yield from _differences(one[key], other[key], f"{where}.{key}".lstrip("."))
            else:
                yield f"{where}.{key}".lstrip(".")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for ours, theirs in zip(one, other, strict=True):
            yield from _differences(ours, theirs, where)
    else:
        yield where
