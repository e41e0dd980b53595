"""Text that others wrote, made safe to show: no escape sequences, no control characters. Pure."""

from __future__ import annotations

import re

# ECMA-48 control sequences: colours, cursor movements, window titles.
ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
# Controls (but not line feeds), and characters that reorder or hide text.
UNSAFE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def strip_ansi(text: str) -> str:
    """`text` without terminal control sequences."""
    return ANSI.sub("", text)


def clean(text: str) -> str:
    """`text` with line feeds alone for line ends, and a space for every other control."""
    unified = strip_ansi(text).replace("\r\n", "\n").replace("\r", "\n")
    return UNSAFE.sub(" ", unified)
