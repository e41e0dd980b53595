"""Where in the files of a project something is: the line of a test, the line of an error.

Pure: gets the text of files, and gives line numbers from 1. A line that cannot be told for sure
is None, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import yaml

from ci_defer.manifest import Node

# DuckDB, PostgreSQL and Redshift quote the line of the statement that they complain about.
QUOTED_LINE = re.compile(r"^\s*LINE \d+: (?P<text>.*)$", re.MULTILINE)
# dbt, when Jinja does not compile: the line is one of the file.
JINJA_LINE = re.compile(r"^\s+line (?P<number>\d+)$", re.MULTILINE)

TEST_KEYS = ("data_tests", "tests")

# libyaml reads a large file ten times faster, where PyYAML was built with it.
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def error_line(node: Node, message: str) -> int | None:
    """The line of the node's own file that a message of the database or of dbt names.

    A database counts the lines of the statement that dbt made, so only a line that it quotes, and
    that stands in the file exactly once, can be told.
    """
    source = (node.raw_code or "").splitlines()
    if match := QUOTED_LINE.search(message):
        # A long line is quoted in part, with dots for the rest.
        quoted = match["text"].strip().removeprefix("...").removesuffix("...").strip()
        found = [number for number, line in enumerate(source, 1) if quoted and quoted in line]
        return found[0] if len(found) == 1 else None
    if "Compilation Error" in message and (match := JINJA_LINE.search(message)):
        number = int(match["number"])
        return number if number <= len(source) else None
    return None


class Declarations:
    """The tests that a YAML file, whose text is given, declares. Broken YAML declares nothing."""

    def __init__(self, text: str) -> None:
        try:
            root = yaml.compose(text, Loader=Loader)
        except (yaml.YAMLError, RecursionError):
            root = None
        self._root = root if isinstance(root, yaml.MappingNode) else None

    def line(self, node: Node) -> int | None:
        """The line where a generic test or a unit test is declared; None when it may be another."""
        if self._root is None:
            return None
        if node.resource_type == "unit_test":
            found = _named(_sequence(self._root, "unit_tests"), node.name)
            return _line(found)
        if node.test_metadata is None:
            return None
        owner = self._tested(node)
        if owner is None:
            return None
        column = _named(_sequence(owner, "columns"), node.column_name) if node.column_name else None
        for place in (column, owner):
            if place is not None and (entries := _declared(place, node)):
                return _line(entries[0]) if len(entries) == 1 else None
        return None

    def _tested(self, node: Node) -> yaml.MappingNode | None:
        """The model, or the table of a source, that a generic test is of."""
        tested = node.attached_node or next(iter(node.depends_on.nodes), "")
        # model.package.name, model.package.name.v2, source.package.source.table
        kind, _, rest = tested.partition(".")
        _, _, name = rest.partition(".")
        if self._root is None:
            return None
        if kind == "source":
            source, _, table = name.partition(".")
            tables = _named(_sequence(self._root, "sources"), source)
            return _named(_sequence(tables, "tables"), table) if tables else None
        return _named(_sequence(self._root, f"{kind}s"), name.partition(".")[0])


def _declared(place: yaml.MappingNode, node: Node) -> list[yaml.Node]:
    """The entries that may be the test: the one with its name, else all of its kind without one."""
    kind = node.test_metadata.name if node.test_metadata else ""
    unnamed = []
    for key in TEST_KEYS:
        for entry in _sequence(place, key):
            name = _given_name(entry)
            if kind not in _kinds(entry):
                continue
            if name == node.name:
                return [entry]
            if name is None:
                unnamed.append(entry)
    return unnamed


def _kinds(entry: yaml.Node) -> set[str]:
    """What kind of test an entry is: `unique`, `dbt_utils.at_least_one: {...}`, `test_name: x`."""
    names = {entry.value} if isinstance(entry, yaml.ScalarNode) else set(_keys(entry))
    if isinstance(entry, yaml.MappingNode) and (named := _value(entry, "test_name")):
        names = {named}
    return {str(name).rpartition(".")[2] for name in names}


def _given_name(entry: yaml.Node) -> str | None:
    """The name that a person gave to a test, beside its kind or below it."""
    if not isinstance(entry, yaml.MappingNode):
        return None
    below = (value for _, value in entry.value if isinstance(value, yaml.MappingNode))
    names = (_value(mapping, "name") for mapping in (entry, *below))
    return next((name for name in names if name is not None), None)


def _named(mappings: Iterable[yaml.Node], name: str) -> yaml.MappingNode | None:
    return next(
        (
            node
            for node in mappings
            if isinstance(node, yaml.MappingNode) and _value(node, "name") == name
        ),
        None,
    )


def _sequence(mapping: yaml.MappingNode, key: str) -> list[yaml.Node]:
    for name, value in mapping.value:
        if name.value == key and isinstance(value, yaml.SequenceNode):
            return list(value.value)
    return []


def _value(mapping: yaml.MappingNode, key: str) -> str | None:
    for name, value in mapping.value:
        if name.value == key and isinstance(value, yaml.ScalarNode):
            return str(value.value)
    return None


def _keys(node: yaml.Node) -> list[str]:
    if not isinstance(node, yaml.MappingNode):
        return []
    return [str(name.value) for name, _ in node.value]


def _line(node: yaml.Node | None) -> int | None:
    return node.start_mark.line + 1 if node is not None else None
