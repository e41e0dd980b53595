"""What Mermaid itself, the version that package-lock.json pins, makes of a text.

It runs in Node.js with a document from jsdom, which has no layout: nothing is drawn here. Settings
are those of GitHub as far as it tells: `securityLevel: strict`.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

_SCRIPT = Path(__file__).with_name("mermaid.mjs")
_TIMEOUT = 120


class MermaidError(Exception):
    """Mermaid could not be run, or did not understand the text."""


class Vertex(msgspec.Struct, frozen=True):
    """A box of a flowchart."""

    id: str
    label: str
    """As people see it: entity codes like `#35;` are the characters they stand for."""
    shape: str
    """As Mermaid names it: `square`, `round`, `stadium`, `hexagon`; nothing for the default."""
    classes: tuple[str, ...]
    markdown: bool
    """Whether the label was in backticks, so that stars in it would mean something."""
    link: str


class Edge(msgspec.Struct, frozen=True):
    """An arrow of a flowchart."""

    start: str
    end: str
    label: str


class Subgraph(msgspec.Struct, frozen=True):
    """A frame around some boxes."""

    id: str
    title: str
    vertices: tuple[str, ...]


class _Class(msgspec.Struct):
    name: str
    styles: tuple[str, ...]


class _Answer(msgspec.Struct):
    problem: str | None = None
    type: str = ""
    vertices: tuple[Vertex, ...] = ()
    edges: tuple[Edge, ...] = ()
    subgraphs: tuple[Subgraph, ...] = ()
    classes: tuple[_Class, ...] = ()


@dataclass(frozen=True)
class Graph:
    """What Mermaid understood of a flowchart; of another diagram only the type is here."""

    type: str
    vertices: Mapping[str, Vertex]
    edges: tuple[Edge, ...]
    subgraphs: tuple[Subgraph, ...]
    classes: Mapping[str, tuple[str, ...]]
    """What `classDef` says, for each class."""

    @property
    def labels(self) -> dict[str, str]:
        return {vertex.id: vertex.label for vertex in self.vertices.values()}


def problems(graphs: Sequence[str]) -> list[str | None]:
    """For each text, what Mermaid says is wrong with it, if anything. Takes seconds, once."""
    return [answer.problem for answer in _ask(graphs)]


def graphs(texts: Sequence[str]) -> list[Graph]:
    """What Mermaid understands, all in one process. Raises for the first one that it does not."""
    made = []
    for text, answer in zip(texts, _ask(texts), strict=True):
        if answer.problem is not None:
            raise MermaidError(f"{answer.problem}\n{text}")
        made.append(
            Graph(
                type=answer.type,
                vertices={vertex.id: vertex for vertex in answer.vertices},
                edges=answer.edges,
                subgraphs=answer.subgraphs,
                classes={found.name: found.styles for found in answer.classes},
            )
        )
    return made


def graph(text: str) -> Graph:
    """As `graphs`, for one."""
    return graphs([text])[0]


def _ask(texts: Sequence[str]) -> list[_Answer]:
    node = shutil.which("node")
    if node is None:
        raise MermaidError("node is not on PATH")
    result = subprocess.run(
        [node, str(_SCRIPT)],
        input=msgspec.json.encode(texts),
        capture_output=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if result.returncode:
        raise MermaidError(f"is `make environments` done? {result.stderr.decode()}")
    return msgspec.json.decode(result.stdout, type=list[_Answer])
