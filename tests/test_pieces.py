from __future__ import annotations

import io
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_defer import pieces
from ci_defer.pieces import members

NAMES = st.text(alphabet='ab."{}[],:\\ é\n', max_size=12)
VALUES = st.recursive(
    st.none() | st.integers() | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
IDS = st.builds("{}.shop.{}".format, st.sampled_from(["model", "test", "source"]), NAMES)
GROUPS = st.dictionaries(
    st.sampled_from(["nodes", "sources", "metadata", "a.b"]),
    st.dictionaries(IDS, st.dictionaries(st.just("x") | IDS, VALUES, max_size=3), max_size=6)
    | VALUES,
    max_size=4,
)


class Every(dict[str, Any]):
    """A decoder for whatever name."""

    def __contains__(self, _: object) -> bool:
        return True

    def __missing__(self, _: str) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder()


EVERY = Every()


def read(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in members(io.BytesIO(text.encode()), EVERY):
        if isinstance(value, dict) and isinstance(found.get(name), dict):
            found[name].update(value)
        else:
            found[name] = value
    return found


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "BLOCK", 16)
    monkeypatch.setattr(pieces, "TAILS", (16, 64))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("layout", [{}, {"separators": (",", ":")}, {"indent": 2}])
def test_members__together_are_the_document(layout: dict[str, Any]) -> None:
    nodes = {f"model.shop.m{n}": {"name": f"m{n}", "config": {"meta": {}}} for n in range(20)}
    document = {
        "metadata": {"env": {}},
        "nodes": nodes,
        "sources": {"source.shop.raw.x": {"name": "x"}},
        "docs": {},
        "parent_map": {name: [] for name in nodes},
        "disabled": None,
    }
    text = json.dumps(document, **layout)
    assert read(text) == document
    parts = [name for name, _ in members(io.BytesIO(text.encode()), EVERY)]
    assert parts.count("nodes") > 3


@pytest.mark.usefixtures("small")
def test_members__of_texts_that_look_like_a_cut() -> None:
    text = '}, "model.shop.b": {'
    document = {"nodes": {f"model.shop.m{n}": {"sql": text} for n in range(5)}, "x": text}
    assert read(json.dumps(document)) == document


@given(GROUPS, st.integers(1, 40), st.sampled_from([None, 1]))
def test_members__are_the_document_or_say_that_they_cannot_be_read(
    document: dict[str, Any], block: int, indent: int | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "BLOCK", block)
        patch.setattr(pieces, "TAILS", (block, 2 * block))
        try:
            found = read(json.dumps(document, indent=indent))
        except msgspec.DecodeError:
            return
    assert found == document


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}}', '{"nodes": {"model.a": {}}', "null"])
def test_members__raise_for_what_is_no_object(text: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        read(text)
