"""dbt's saved parse (partial_parse.msgpack), made fit to be published and to be used elsewhere.

dbt Core keeps what it has parsed, and parses only what changed when everything else is the same:
version, vars, profile, target, connection. In another checkout of the same project three things
stand against that, and this module sees to them: the file holds the paths of the checkout, the
values of environment variables, and the schema of the connection, which is another one for every
pull request. `inside` does the other half, in the process of dbt that reads it.

A connection reaches a parse by two ways: as the names of relations, which can be told, and through
Jinja's `target`, which cannot. So a parse is carried over to another connection only when no Jinja
speaks of `target`, but for its name, which is the same, and the macros that make the names.

Source of the format, and of what makes dbt parse in full: dbt-core's `dbt/parser/manifest.py`
(`build_manifest_state_check`, `is_partial_parsable`) and `dbt/parser/partial.py`.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ci_defer.bundle import PARTIAL_PARSE, ParseTerms
from ci_defer.dbt import Connection
from ci_defer.dbt.inside import digest_of_file, slow_digest
from ci_defer.errors import InvalidBundle

# What dbt saves for a variable that is not set, and has a default.
UNSET = "DBT_DEFAULT_PLACEHOLDER"
# dbt's hash of the variables that dbt_project.yml reads, when it reads none.
OF_NOTHING = hashlib.sha256(b"").hexdigest()

# What tells where Jinja ends: it does not within a text, or with braces that are still open.
OPENING = re.compile(r"\{[{%]")
TOKEN = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|%\}|[{}]""", re.DOTALL)
# Any way to speak of the target but by what is the same for all who use it.
TARGET = re.compile(r"(?<![\w.])target\b(?!\s*\.\s*(?:name|type|profile_name)\b)")
# A decision by the schema that a relation has, which leaves no trace of the schema.
DECISION = re.compile(r"\b(?:el)?if\b")
SCHEMA_OF_THIS = re.compile(r"\b(?:this|model)\s*(?:\.\s*schema\b|\[)")
# What they make is held against dbt's own answer, where it is used.
MAKES_NAMES = re.compile(r"(?:\w+__)?generate_(?:schema|database|alias)_name")

# What of a node holds the schema of the connection, or may: collection, and path in an item of it.
# An asterisk stands for each item of a list.
NAMES = frozenset(
    {("schema",), ("relation_name",)}
    | {("node_relation", "schema_name"), ("node_relation", "relation_name")}
    | {("exports", "*", "config", "schema_name")}
)
WITH_NAMES = frozenset({"nodes", "semantic_models", "saved_queries", "unit_tests", "functions"})


@dataclass(frozen=True)
class Published:
    """A saved parse without secrets. `texts` has a digest of each file that it was made from.

    `ties` says what ties it to its own connection; empty when nothing does.
    """

    packed: bytes
    texts: Mapping[str, str]
    terms: ParseTerms
    ties: str


def publish(
    packed: bytes,
    connection: Connection,
    *,
    is_placeholder: bool,
    project_texts: Iterable[tuple[str, str]],
) -> Published:
    """Take out of a saved parse what nobody may know.

    `is_placeholder` says that the schema of the connection is one that is found nowhere else.
    `project_texts` are the dbt_project.yml of the project and its packages, by their paths. Reads
    the files that it was made from, for their digests. Raises InvalidBundle when it is not one.
    """
    try:
        document = msgspec.msgpack.decode(packed)
        ties = ""
        if is_placeholder:
            ties = next(_ties(document, connection.schema, project_texts), "")
        salt = secrets.token_hex(16)
        values = _take_values(document)
        for name in ("profile_hash", "project_env_vars_hash"):
            hashed = document["state_check"][name]
            # Where dbt_project.yml reads no variable, there is nothing to guess.
            if hashed["checksum"] != OF_NOTHING:
                hashed["checksum"] = slow_digest(hashed["checksum"], salt)
        files = document["files"].items()
        texts = {file_id: digest_of_file(_path(file["path"])) for file_id, file in files}
        terms = ParseTerms(
            schema=connection.schema,
            database=connection.database,
            carries_over=is_placeholder and not ties,
            versions=connection.versions,
            salt=salt,
            variables_digest=slow_digest(json.dumps(values), salt) if values else "",
        )
        _take_roots(document)
        # Variables by plain value, and who ran dbt: it is made anew where the parse is used.
        document["metadata"].update(env={}, user_id=None)
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidBundle(f"{PARTIAL_PARSE} is not as dbt Core writes it: {error!r}.") from error
    return Published(msgspec.msgpack.encode(document), texts, terms, ties)


def _path(path: Mapping[str, str]) -> str:
    return "/".join((path["project_root"], path["searched_path"], path["relative_path"]))


def _take_values(document: Any) -> dict[str, str]:
    """The environment variables that the parse depends on; in the document they lose their values.

    One without a value stays as it is: what took its place is in the project's own text.
    """
    variables = document["env_vars"]
    taken = {name: value for name, value in sorted(variables.items()) if value != UNSET}
    variables.update(dict.fromkeys(taken, ""))
    return taken


def _take_roots(document: Any) -> None:
    """The paths of this machine: they are put in anew where the parse is used."""
    for file in document["files"].values():
        file["path"]["project_root"] = ""
    for node in (*document["nodes"].values(), *_flat(document["disabled"].values())):
        if node.get("root_path"):
            node["root_path"] = "."


def _ties(document: Any, schema: str, project_texts: Iterable[tuple[str, str]]) -> Iterator[str]:
    """What ties a parse to its connection, in words."""
    for where, text in (*project_texts, *_texts(document)):
        if speaks_of_target(text):
            yield f"{where} speaks of `target`"
        if decides_by_schema(text):
            yield f"{where} goes by the schema of `this`"
    for collection, items in document.items():
        for key, path in _places(items, schema.lower()):
            if collection in WITH_NAMES and path in NAMES:
                continue
            if collection == "disabled" and path[1:] in NAMES:
                continue
            yield f"the schema is in {'.'.join((collection, key, *path))}"


def speaks_of_target(text: str) -> bool:
    """Whether any Jinja in `text` may read of the target what is not the same for all."""
    # Most texts have no such word.
    return "target" in text and any(TARGET.search(found) for found in _jinja(text))


def decides_by_schema(text: str) -> bool:
    """Whether any Jinja in `text` may go by the schema that the connection gives a relation."""
    return "if" in text and any(
        DECISION.search(found) and SCHEMA_OF_THIS.search(found) for found in _jinja(text)
    )


def _jinja(text: str) -> Iterator[str]:
    """All expressions and statements in a text; comments are taken for text."""
    end = 0
    while opening := OPENING.search(text, end):
        start, end = opening.start(), _end_of_jinja(text, opening.end(), opening[0])
        yield text[start:end]


def _end_of_jinja(text: str, start: int, opening: str) -> int:
    """Where Jinja ends that was opened before `start`: as Jinja's own lexer does it."""
    depth = 0
    for token in TOKEN.finditer(text, start):
        if token[0] == "%}":
            if opening == "{%":
                return token.end()
        elif token[0] == "{":
            depth += 1
        elif token[0] == "}":
            if not depth and opening == "{{":
                return token.end() + 1
            depth = max(depth - 1, 0)
    return len(text)


def _texts(document: Any) -> Iterator[tuple[str, str]]:
    """Where Jinja may be: macros, SQL and Python, and the strings in YAML."""
    for macro in document["macros"].values():
        is_of_dbt = not macro["original_file_path"] or _is_of_dbt(macro["package_name"])
        if not is_of_dbt and not MAKES_NAMES.fullmatch(macro["name"]):
            yield f"macro {macro['name']}", macro["macro_sql"]
    with_code = (document["nodes"].values(), document.get("functions", {}).values())
    for node in _flat((*with_code, *document["disabled"].values())):
        yield str(node.get("original_file_path")), node.get("raw_code") or ""
    for file_id, file in document["files"].items():
        for text in _strings(file.get("dfy")):
            yield file_id, text


def _is_of_dbt(package: str) -> bool:
    """Whether a package comes with dbt or its adapter: they read of the target as dbt runs."""
    return package == "dbt" or package in OF_ADAPTERS


# The adapters' own packages of macros. dbt_utils and its like are packages of users.
OF_ADAPTERS = frozenset(
    f"dbt_{name}"
    for name in (
        *("athena", "bigquery", "clickhouse", "databricks", "dremio", "duckdb", "fabric"),
        *("materialize", "mysql", "oracle", "postgres", "redshift", "singlestore", "snowflake"),
        *("spark", "sqlite", "sqlserver", "synapse", "teradata", "trino", "vertica"),
    )
)


def _flat(lists: Iterable[Iterable[Any]]) -> Iterator[Any]:
    for items in lists:
        yield from items


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings(key)
            yield from _strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _strings(inner)


def _places(value: Any, wanted: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Where a string holds `wanted`, in any letter case: key of the item, and path in it."""
    if not isinstance(value, dict):
        value = {"": value}
    for key, item in value.items():
        for path in _paths(item, wanted):
            yield str(key), path


def _paths(value: Any, wanted: str) -> Iterator[tuple[str, ...]]:
    if isinstance(value, str):
        if wanted in value.lower():
            yield ()
    elif isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(key, str) and wanted in key.lower():
                yield (key,)
            yield from ((str(key), *path) for path in _paths(inner, wanted))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from (("*", *path) for path in _paths(inner, wanted))
