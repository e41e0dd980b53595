"""A large JSON object, read piece by piece: only one piece of its text is in memory at a time.

Pure. Owns where such a file is cut: between two entries of an object that is a member of the
outermost one, as `nodes` of a manifest is. A cut is guessed, and then proven: a piece that was cut
anywhere else is no JSON. Knows nothing of what the members are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

BLOCK = 512 * 1024
# Where the last cut of a block is looked for: few entries are larger.
TAIL = 128 * 1024
# The end of an entry, and the beginning of the next one, whose key is a unique id.
BETWEEN = re.compile(rb'\}(\s*,\s*)"[a-z_]+\.[^"\\]*"\s*:\s*\{')

OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def members(file: BinaryIO) -> Iterator[tuple[str, msgspec.Raw]]:
    """The members of the object in `file`; a large one comes in parts, each with some entries.

    Raises msgspec.DecodeError where the file is no JSON object, or cannot be read in pieces.
    """
    member = ""
    for piece, is_last in _pieces(file):
        opening = b"{%s: {" % msgspec.json.encode(member) if member else b""
        found = OBJECT.decode(b"".join((opening, piece, b"" if is_last else b"}}")))
        yield from found.items()
        # The cut is in the last one, which goes on in the next piece.
        member = next(reversed(found), "")


def _pieces(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """The text without the commas at its cuts, and whether this is the last piece of it."""
    rest = b""
    # What has no cut is read in ever larger blocks, as each is joined to what is there.
    while block := file.read(max(BLOCK, len(rest))):
        rest += block
        between = None
        for between in BETWEEN.finditer(rest, max(0, len(rest) - TAIL)):  # noqa: B007 - the last
            pass
        if between:
            yield rest[: between.start(1)], False
            rest = rest[between.end(1) :]
    yield rest, True
