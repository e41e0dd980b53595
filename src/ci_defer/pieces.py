"""A large JSON object, read piece by piece: only one piece of its text is in memory at a time.

Pure. Owns where such a file is cut: between two entries of an object that is a member of the
outermost one, as `nodes` of a manifest is. A cut is guessed, and then proven: a piece that was cut
anywhere else is no JSON. Knows nothing of what the members are.
"""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import msgspec

BLOCK = 256 * 1024
# How far from the end of a block a cut is looked for: few entries are larger.
TAILS = (8 * 1024, 128 * 1024)
# The end of an entry, and the beginning of the next one, whose key is a unique id.
BETWEEN = re.compile(rb'\}(\s*,\s*)"[a-z_]+\.[^"\\]*"\s*:\s*\{')

OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def members(
    file: BinaryIO, decoders: Mapping[str, msgspec.json.Decoder[Any]]
) -> Iterator[tuple[str, Any]]:
    """The members of the object in `file` that there are decoders for.

    A large one comes in parts, each with some entries. Raises msgspec.DecodeError where the file is
    no JSON object, cannot be read in pieces, or is not what the decoders expect.
    """
    member = ""
    for piece, is_last in _pieces(file):
        if not is_last and member in decoders:
            # Most pieces hold entries of one member: then there is nothing after its end.
            with contextlib.suppress(_NotOneObject):
                yield member, _entries(piece, decoders[member])
                continue
        opening = b"{%s: {" % msgspec.json.encode(member) if member else b""
        found = OBJECT.decode(b"".join((opening, piece, b"" if is_last else b"}}")))
        for name, raw in found.items():
            if name in decoders:
                yield name, decoders[name].decode(raw)
        # The cut is in the last one, which goes on in the next piece.
        member = next(reversed(found), "")


class _NotOneObject(Exception):
    """A piece goes on behind the end of a member."""


def _entries(piece: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    try:
        return decoder.decode(b"{%s}" % piece)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        raise _NotOneObject from None


def _pieces(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """The text without the commas at its cuts, and whether this is the last piece of it."""
    rest = b""
    # What has no cut is read in ever larger blocks, as each is joined to what is there.
    while block := file.read(max(BLOCK, len(rest))):
        rest += block
        if between := _last_cut(rest):
            yield rest[: between.start(1)], False
            rest = rest[between.end(1) :]
    yield rest, True


def _last_cut(text: bytes) -> re.Match[bytes] | None:
    """The last place where the text may be cut, looked for near its end first."""
    for tail in TAILS:
        cuts = deque(BETWEEN.finditer(text, max(0, len(text) - tail)), maxlen=1)
        if cuts:
            return cuts[0]
    return None
