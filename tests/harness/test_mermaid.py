from __future__ import annotations

import pytest

from tests.harness.mermaid import Edge, MermaidError, Subgraph, graph, graphs, problems

pytestmark = pytest.mark.action

FLOWCHART = """\
flowchart LR
  subgraph g["changed"]
    n0["stg_orders"]:::built --> n1(["a #60;b#62; #34;c#34; #35;1"])
  end
  n1 -. "why" .-> n2{{"`**x**`"}}
  click n2 "https://example.com/"
  classDef built fill:#dafbe1,stroke:#1a7f37
"""


def test_graph__has_what_mermaid_understood() -> None:
    made = graph(FLOWCHART)
    assert made.type == "flowchart-v2"
    assert made.labels == {"n0": "stg_orders", "n1": 'a <b> "c" #1', "n2": "**x**"}
    assert [vertex.shape for vertex in made.vertices.values()] == ["square", "stadium", "hexagon"]
    assert [vertex.markdown for vertex in made.vertices.values()] == [False, False, True]
    assert made.vertices["n0"].classes == ("built",)
    assert made.vertices["n2"].link == "https://example.com/"
    assert made.edges == (Edge("n0", "n1", ""), Edge("n1", "n2", "why"))
    assert made.subgraphs == (Subgraph("g", "changed", ("n1", "n0")),)
    assert made.classes == {"built": ("fill:#dafbe1", "stroke:#1a7f37")}


def test_problems__are_in_the_order_of_the_graphs() -> None:
    found = problems(["flowchart LR\n  a[b", FLOWCHART, "sequenceDiagram\n  A->>B: c", "x", ""])
    assert [problem is None for problem in found] == [False, True, True, False, False]
    assert "Parse error" in str(found[0])
    assert "No diagram type detected" in str(found[3])


def test_problems__of_nothing_are_none() -> None:
    assert problems([]) == []


def test_graphs__say_which_one_is_wrong() -> None:
    with pytest.raises(MermaidError, match=r"(?s)Parse error.*a\[b"):
        graphs([FLOWCHART, "flowchart LR\n  a[b"])


HOSTILE = [
    '"]; click n0 "javascript:alert(1)"',
    "<img src=x onerror=alert(1)>",
    "`**bold**` _em_",
    "end",
    "1. list",
    "#35; #quot; &lt;",
    "%%{init: {}}%%",
    "style a:#b;c",
    "a\nb\\nc",
    "\u00e9 \U0001f389",
]


def test_graph__characters_written_as_numbers_mean_nothing() -> None:
    labels = [
        "".join(
            character if character.isascii() and character.isalnum() else f"#{ord(character)};"
            for character in hostile
        )
        for hostile in HOSTILE
    ]
    texts = [f'flowchart LR\n  n0["{label}"]:::built --> n1["end"]\n' for label in labels]
    for hostile, made in zip(HOSTILE, graphs(texts), strict=True):
        assert made.labels == {"n0": hostile, "n1": "end"}
        assert made.vertices["n0"].link == ""
        assert made.edges == (Edge("n0", "n1", ""),)
