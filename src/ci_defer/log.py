"""What a use-case may ask of the log. `runner.Runner` is the implementation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class Log(Protocol):
    """Lines of ours."""

    def info(self, text: str) -> None: ...

    def warning(self, text: str) -> None: ...


class TransferLog(Log, Protocol):
    """A log that also shows how far a transfer has come."""

    def progress(self, doing: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Show how far `doing` has come; the function takes how many of `total` bytes came now.

        It may be called from several threads.
        """
        ...


class Console(TransferLog, Protocol):
    """A log that also takes what other programs print."""

    def passthrough(self) -> AbstractContextManager[Callable[[bytes], None]]:
        """A function that writes output which is not ours, byte for byte."""
        ...
