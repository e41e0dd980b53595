"""What a use-case may ask of the log. `runner.Runner` is the implementation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class Log(Protocol):
    """Lines of ours."""

    def info(self, text: str) -> None: ...

    def warning(self, text: str) -> None: ...


class Console(Log, Protocol):
    """A log that also takes what other programs print."""

    def passthrough(self) -> AbstractContextManager[Callable[[bytes], None]]:
        """A function that writes output which is not ours, byte for byte."""
        ...
