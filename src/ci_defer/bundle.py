"""The bundle: the dbt artifacts of one commit, with their provenance, verified.

Owns which files make up production's state, what `state.json` says, and what has to be true
before a bundle is used. Knows nothing of where bundles are kept (`stores`) or of how they are
compared. A bundle is a directory; whoever holds a `Bundle` holds verified files. They are read when
they are asked for: moving a bundle from here to there takes no more memory than its blocks.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ci_defer.errors import InvalidBundle
from ci_defer.manifest import (
    Manifest,
    RunResults,
    read_manifest,
    read_relations,
    read_run_results,
)

MANIFEST = "manifest.json"
RUN_RESULTS = "run_results.json"
STATE = "state.json"
OPTIONAL_FILES = (RUN_RESULTS, "catalog.json", "sources.json", "semantic_manifest.json")
ARTIFACTS = (MANIFEST, *OPTIONAL_FILES)
# Published for others: no pull request reads them.
UNREAD = frozenset({"catalog.json", "semantic_manifest.json"})
# What `result:` and `source_status:` select by.
RESULTS = (RUN_RESULTS, "sources.json")
# What pull requests are compared with: the same commit, parsed as they parse it.
COMPARE = "compare"
COMPARE_MANIFEST = f"{COMPARE}/{MANIFEST}"
# What dbt Core goes on from instead of parsing in full, and a digest of each text in it.
PARTIAL_PARSE = "partial_parse.msgpack"
TEXTS = "texts.json"
SAVED_PARSE = (f"{COMPARE}/{PARTIAL_PARSE}", f"{COMPARE}/{TEXTS}")
FILES = (*ARTIFACTS, COMPARE_MANIFEST, *SAVED_PARSE)

# `args.which` of run_results.json; dbt v2 may leave it out.
BUILDING_COMMANDS = frozenset({"build", "run", "seed", "snapshot", "retry", None})

# A full object id of git.
COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")

SCHEMA_VERSION = 1
# Of all files of a bundle together: those of 50,000 models have 500 MB.
MAX_SIZE = 4 * 1024**3
# A real state.json has about 1 kB: anything larger is not one of ours.
STATE_SIZE_LIMIT = 64 * 1024


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file must be: SHA-256 of its bytes in hex, and their number."""

    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    size: Annotated[int, msgspec.Meta(ge=0)]


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a state comes from: what git and the workflow run know, and dbt does not.

    `commit` is a full object id, `committed_at` its time by the clock of its committer, ISO 8601
    in UTC, or empty when unknown; `project_dir` is the folder of dbt_project.yml from the top of
    the repository, `.` for the top itself, and empty when unknown; `repository` is `owner/name`;
    the rest is empty outside of a workflow run.
    """

    commit: str
    committed_at: str = ""
    project_dir: str = ""
    branch: str = ""
    repository: str = ""
    run_id: str = ""
    run_attempt: str = ""


class ParsedWith(msgspec.Struct, frozen=True, kw_only=True):
    """What a manifest depends on besides the files of its commit.

    Empty: the default, of the profile or of dbt_project.yml; for the version and the adapter,
    unknown. Of the vars, which may hold secrets, there is only the SHA-256.
    """

    dbt_version: str = ""
    adapter: str = ""
    target: str = ""
    profile: str = ""
    vars_sha256: str = ""


class ParseTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a saved parse of dbt was made with, and under which terms it may be used.

    `schema` and `database` are those of its connection. `carries_over` says that another
    connection with the same database may go on from it. `versions` are those of Python and of the
    packages that made it. `salt` is for the digests of what is not published: the hashes in the
    file, and `variables_digest`, of the environment variables that it depends on.
    """

    schema: str
    database: str | None
    carries_over: bool
    versions: Mapping[str, str]
    salt: str
    variables_digest: str


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """state.json. `created_at` is ISO 8601 in UTC; `files` maps file name to its record.

    `flags` are the dbt flags that decide what counts as modified; a flag that dbt did not
    record is absent, and of the vars, which may hold secrets, there is only the SHA-256.
    `compare` says how the manifest in `compare/` was made, if there is one; `saved_parse` goes with
    the saved parse beside it.
    A newer ci-defer may add fields: unknown ones are skipped, and only another `schema_version`
    makes a state unreadable.
    """

    schema_version: int
    project: str
    project_name: str
    origin: Origin
    created_at: str
    dbt_version: str
    adapter: str
    target: str
    flags: Mapping[str, Any]
    files: Mapping[str, FileRecord]
    compare: ParsedWith | None = None
    saved_parse: ParseTerms | None = None

    @property
    def parsed_with(self) -> ParsedWith:
        """How production's own manifest was made."""
        return ParsedWith(
            dbt_version=self.dbt_version,
            adapter=self.adapter,
            target=self.target,
            profile=str(self.flags.get("profile", "")),
            vars_sha256=str(self.flags.get("vars_sha256", "")),
        )


@dataclass(frozen=True)
class Bundle:
    """A directory of verified artifacts. `provenance` is None for a manifest from elsewhere."""

    directory: Path
    provenance: Provenance | None

    @cached_property
    def manifest(self) -> Manifest:
        """Raises InvalidBundle when this version of ci-defer cannot read it."""
        return read_manifest(self.directory / MANIFEST)

    @cached_property
    def relations(self) -> Manifest:
        """The manifest as far as it says where nodes are. Raises InvalidBundle."""
        # Most bundles are compared with, and then all of it has been read.
        if "manifest" in self.__dict__:
            return self.manifest
        return read_relations(self.directory / MANIFEST)

    @cached_property
    def results(self) -> RunResults | None:
        """run_results.json, whatever command wrote it. Raises InvalidBundle."""
        # A file that state.json does not list was never verified.
        listed = self.provenance is None or RUN_RESULTS in self.provenance.files
        path = self.directory / RUN_RESULTS
        return read_run_results(path) if listed and path.is_file() else None

    @property
    def run_results(self) -> RunResults | None:
        """The results of production's own run, when the bundle has them.

        None as well when they are of a command that builds nothing: `dbt compile` and
        `dbt run-operation` write the same file.
        """
        if self.results and self.results.args.which in BUILDING_COMMANDS:
            return self.results
        return None

    @cached_property
    def compare(self) -> Bundle | None:
        """The manifest in `compare/`, when the bundle has one."""
        is_there = self.provenance is not None and self.provenance.compare is not None
        return Bundle(self.directory / COMPARE, None) if is_there else None

    def with_results(self) -> Bundle | None:
        """`compare`, with the results of production beside its manifest: `result:` reads them."""
        if self.compare and self.provenance:
            for name in RESULTS:
                copy = self.compare.directory / name
                if name in self.provenance.files and not copy.exists():
                    shutil.copyfile(self.directory / name, copy)
        return self.compare

    @property
    def saved_parse(self) -> ParseTerms | None:
        """The terms of the saved parse in `compare/`, when the bundle has one."""
        return self.provenance.saved_parse if self.provenance else None

    def read(self) -> None:
        """Read all of it now that defer will ask for, most likely. Raises InvalidBundle."""
        _ = self.results
        if self.compare:
            _ = self.relations
            self.compare.read()
        else:
            _ = self.manifest

    def described(self, directory: Path, provenance: Provenance) -> Bundle:
        """The same files in another directory; what was read of them is not read again."""
        bundle = Bundle(directory, provenance)
        bundle.__dict__.update(manifest=self.manifest, results=self.results)
        return bundle


def pack(
    artifacts: Path,
    to: Path,
    *,
    project: str,
    project_name: str,
    origin: Origin,
    created_at: str,
    target: str | None,
    compare: tuple[Path, ParsedWith] | None = None,
    saved_parse: ParseTerms | None = None,
) -> Bundle:
    """Copy dbt's artifacts from `artifacts` into the empty directory `to`, and describe them.

    `project` is the key of the store, `project_name` is what the manifest must say. `target` is
    the one we were told; without it, the one that dbt recorded. `compare` is a folder with the
    manifest for `compare/`, and how it was made: what the manifest itself says is filled in.
    With `saved_parse` the folder has that, too.
    Raises InvalidBundle when an artifact is not what it should be; `to` is then of no use.
    """
    found = Bundle(artifacts, None)
    _check_name(found.manifest.metadata.project_name, project_name)
    manifest, results = found.manifest, found.results
    for name in ARTIFACTS:
        if (artifacts / name).is_file():
            shutil.copyfile(artifacts / name, to / name)
    compared_with = _add_compare(*compare, to, project_name) if compare else None
    if compare and saved_parse:
        for name in (PARTIAL_PARSE, TEXTS):
            shutil.copyfile(compare[0] / name, to / COMPARE / name)
    provenance = Provenance(
        schema_version=SCHEMA_VERSION,
        project=project,
        project_name=project_name,
        origin=origin,
        created_at=created_at,
        dbt_version=manifest.metadata.dbt_version,
        adapter=manifest.metadata.adapter_type or "",
        target=target or (results.args.target if results else None) or "",
        flags=_comparison_flags(results),
        files={name: _record(to / name) for name in FILES if (to / name).is_file()},
        compare=compared_with,
        saved_parse=saved_parse,
    )
    (to / STATE).write_bytes(encode_state(provenance))
    return found.described(to, provenance)


def unpack(directory: Path, *, project_name: str) -> Bundle:
    """Verify the bundle in `directory`, which nobody else writes to.

    Without state.json it is a bundle without provenance: then its files are read, which is all
    that can be checked. Raises InvalidBundle.
    """
    if (directory / STATE).is_file():
        provenance = decode_state(directory / STATE)
        for name, record in provenance.files.items():
            verify(directory / name, record)
        _check_name(provenance.project_name, project_name)
        return Bundle(directory, provenance)
    bundle = Bundle(directory, None)
    _check_name(bundle.manifest.metadata.project_name, project_name)
    bundle.read()
    return bundle


def without_unread(provenance: Provenance) -> Provenance:
    """The provenance of the files that a pull request may read."""
    files = {name: file for name, file in provenance.files.items() if name not in UNREAD}
    return msgspec.structs.replace(provenance, files=files)


def encode_state(provenance: Provenance) -> bytes:
    """The bytes of state.json."""
    return msgspec.json.format(msgspec.json.encode(provenance), indent=2) + b"\n"


def decode_state(path: Path) -> Provenance:
    """Read a state.json. Raises InvalidBundle when it is not one that this version can read."""
    try:
        if path.stat().st_size > STATE_SIZE_LIMIT:
            raise InvalidBundle(f"{path} is larger than {STATE_SIZE_LIMIT:,} bytes.")
        raw = path.read_bytes()
        version = msgspec.json.decode(raw, type=_Versioned).schema_version
        if version != SCHEMA_VERSION:
            raise InvalidBundle(
                f"{path} has state schema version {version}; this ci-defer reads {SCHEMA_VERSION}.",
                "Use the same version of ci-defer for onboard and defer.",
            )
        provenance = msgspec.json.decode(raw, type=Provenance)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidBundle(f"{path} is not a state.json of ci-defer: {error}.") from error
    # The names become paths: only ours may.
    if unknown := set(provenance.files) - set(FILES):
        raise InvalidBundle(f"{path} names files that no bundle has: {sorted(unknown)}.")
    if MANIFEST not in provenance.files:
        raise InvalidBundle(f"{path} names no {MANIFEST}.")
    if (COMPARE_MANIFEST in provenance.files) != (provenance.compare is not None):
        raise InvalidBundle(f"{path} does not say how {COMPARE_MANIFEST} was made, or names none.")
    if (set(SAVED_PARSE) <= set(provenance.files)) != (provenance.saved_parse is not None):
        raise InvalidBundle(f"{path} does not say how {SAVED_PARSE[0]} was made, or names none.")
    return provenance


def verify(path: Path, record: FileRecord) -> None:
    """Raise InvalidBundle unless the file has the recorded size and SHA-256."""
    try:
        actual = _record(path)
    except OSError as error:
        raise InvalidBundle(f"{path.name} cannot be read: {error.strerror}.") from error
    if actual != record:
        raise InvalidBundle(
            f"{path.name} is not the file that was published: {actual.size:,} bytes with SHA-256 "
            f"{actual.sha256[:12]}, expected {record.size:,} with {record.sha256[:12]}.",
            "Run onboard again on the base branch.",
        )


class _Versioned(msgspec.Struct):
    schema_version: int


def _record(path: Path) -> FileRecord:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1024 * 1024):
            digest.update(block)
        return FileRecord(digest.hexdigest(), file.tell())


def _check_name(actual: str | None, expected: str) -> None:
    if actual != expected:
        raise InvalidBundle(
            f"{MANIFEST} belongs to the dbt project {actual!r}, not to {expected!r}.",
            "Check project-dir and state.",
        )


def _add_compare(made: Path, parsed_with: ParsedWith, to: Path, project_name: str) -> ParsedWith:
    manifest = Bundle(made, None).manifest
    _check_name(manifest.metadata.project_name, project_name)
    (to / COMPARE).mkdir()
    shutil.copyfile(made / MANIFEST, to / COMPARE_MANIFEST)
    return msgspec.structs.replace(
        parsed_with,
        dbt_version=manifest.metadata.dbt_version,
        adapter=manifest.metadata.adapter_type or "",
    )


def digest_of_vars(values: Any) -> str:
    """The SHA-256 of the vars of a command line, empty when there are none.

    The same for what YAML has read and for what dbt has written as JSON, where keys are text.
    """
    if not values:
        return ""
    # Not msgspec: it sorts no keys of several types, and knows no half of a surrogate pair.
    text = json.dumps(
        _with_text_keys(values),
        sort_keys=True,
        default=str,
        ensure_ascii=False,
        separators=(",", ":"),
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {_key(key): _with_text_keys(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_text_keys(inner) for inner in value]
    if isinstance(value, str):
        # PyYAML leaves an escaped emoji as two halves.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _key(key: Any) -> str:
    """A key as JSON writes it."""
    return key if isinstance(key, str) else json.dumps(key, default=str).strip('"')


def _comparison_flags(results: RunResults | None) -> dict[str, Any]:
    if results is None:
        return {}
    more_unrendered = results.args.state_modified_compare_more_unrendered_values
    flags = {
        "vars_sha256": digest_of_vars(results.args.vars) or None,
        "profile": results.args.profile,
        "state_modified_compare_more_unrendered_values": more_unrendered,
    }
    return {name: value for name, value in flags.items() if value is not None}
