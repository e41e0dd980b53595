"""The machine we run on: a runner of GitHub Actions, or a terminal.

The only place that reads the environment. Owns the log, workflow commands, outputs and the step
summary, and escapes everything that goes into one of them.

Source: https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from ci_defer.annotations import Annotation
from ci_defer.errors import ConfigurationError
from ci_defer.wording import duration, size

# GitHub drops a summary that is larger, all of it.
SUMMARY_LIMIT = 1024 * 1024
# Often enough to see that it goes on.
SECONDS_BETWEEN_LINES = 10
CUT = b"\n\nThe rest did not fit: it is in report.json and in the log.\n"


def environment() -> dict[str, str]:
    """A copy of the environment of this process."""
    return dict(os.environ)


class Runner:
    """Writes to the log, and on GitHub Actions to outputs, annotations and the summary."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._on_actions = environ.get("GITHUB_ACTIONS") == "true"

    @property
    def on_actions(self) -> bool:
        return self._on_actions

    def payload(self) -> dict[str, Any]:
        """The payload of the event; empty outside of GitHub Actions."""
        path = self._environ.get("GITHUB_EVENT_PATH", "")
        if not path:
            return {}
        try:
            payload = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"The payload of the event cannot be read: {error}.") from None
        return payload if isinstance(payload, dict) else {}

    def temporary_directory(self) -> Path:
        """Where files go that must outlive this process, but not the job."""
        return Path(self._environ.get("RUNNER_TEMP") or tempfile.gettempdir())

    def info(self, text: str) -> None:
        """A line of ours in the log. What it quotes cannot become a workflow command."""
        _write(_inert(text) if self._on_actions else text)

    def notice(self, text: str) -> None:
        self._annotate("notice", text)

    def warning(self, text: str) -> None:
        self._annotate("warning", text)

    def error(self, text: str) -> None:
        self._annotate("error", text)

    @contextlib.contextmanager
    def passthrough(self) -> Iterator[Callable[[bytes], None]]:
        """Yield a function that writes bytes which are not ours to the log, as they are.

        On GitHub Actions workflow commands in them are switched off by a random token: a model
        may print `::add-mask::`, but it cannot know the token.
        """
        sys.stdout.flush()
        token = secrets.token_hex(16)
        last = b"\n"

        def write(chunk: bytes) -> None:
            nonlocal last
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            last = chunk[-1:] or last

        if self._on_actions:
            _write(f"::stop-commands::{token}")
        try:
            yield write
        finally:
            if last != b"\n":
                _write("")
            if self._on_actions:
                _write(f"::{token}::")

    @contextlib.contextmanager
    def progress(self, doing: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar on a terminal; elsewhere a line at the start, one at the end, some in between."""
        on_terminal = sys.stdout.isatty() and not self._on_actions
        shown = _bar(doing, total) if on_terminal else _lines(self.info, doing, total)
        with shown as advance:
            yield advance

    def set_outputs(self, outputs: Mapping[str, str]) -> None:
        """Set outputs of the step. Does nothing outside of GitHub Actions."""
        path = self._environ.get("GITHUB_OUTPUT", "")
        if not path:
            return
        lines = []
        for name, value in outputs.items():
            # A random delimiter, so that no value can end its own block and start another one.
            delimiter = f"ci_defer_{secrets.token_hex(16)}"
            lines.append(f"{name}<<{delimiter}\n{value}\n{delimiter}\n")
        with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write("".join(lines))

    def add_summary(self, markdown: str) -> None:
        """Append to the step summary, cut to what GitHub keeps. Does nothing elsewhere."""
        path = self._environ.get("GITHUB_STEP_SUMMARY", "")
        if not path:
            return
        content = (markdown.rstrip("\n") + "\n").encode("utf-8", "backslashreplace")
        with Path(path).open("ab") as file:
            file.write(_cut_to_limit(content, SUMMARY_LIMIT - file.tell()))

    def annotate(self, annotation: Annotation) -> None:
        """Annotate a file. Does nothing outside of GitHub Actions."""
        if self._on_actions:
            properties = {"file": annotation.path, "line": annotation.line or ""}
            where = "".join(
                f"{name}={_escape_property(str(value))},"
                for name, value in properties.items()
                if value
            )
            title = f"title={_escape_property(annotation.title)}"
            _write(f"::{annotation.level} {where}{title}::{_escape_data(annotation.message)}")

    def _annotate(self, level: str, text: str) -> None:
        if self._on_actions:
            _write(f"::{level} title=ci-defer::{_escape_data(text)}")
        else:
            _write(f"{level.capitalize()}: {text}", to_stderr=level == "error")


@contextlib.contextmanager
def _bar(doing: str, total: int) -> Iterator[Callable[[int], None]]:
    """Progress on a terminal."""
    lock = threading.Lock()
    with click.progressbar(length=total, label=doing) as shown:

        def advance(count: int) -> None:
            with lock:
                shown.update(count)

        yield advance


@contextlib.contextmanager
def _lines(say: Callable[[str], None], doing: str, total: int) -> Iterator[Callable[[int], None]]:
    """Progress in a log: how much there is to move, and now and then how far it has come."""
    lock = threading.Lock()
    done = 0
    started = said = time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, said
        with lock:
            done += count
            if time.monotonic() - said >= SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                say(f"{doing}: {size(done)} of {size(total)}.")

    say(f"{doing}: {size(total)}.")
    yield advance
    say(f"{doing}: done in {duration(time.monotonic() - started)}.")


def _cut_to_limit(content: bytes, limit: int) -> bytes:
    """Whole lines of `content` that fit, and a line that says so when it was cut."""
    if len(content) <= limit:
        return content
    kept = content[: max(0, limit - len(CUT))]
    return kept[: kept.rfind(b"\n") + 1] + CUT


def _write(line: str, *, to_stderr: bool = False) -> None:
    stream = sys.stderr if to_stderr else sys.stdout
    # A lone surrogate or a terminal that is not UTF-8 must not end the run.
    encoding = stream.encoding or "utf-8"
    stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def _inert(text: str) -> str:
    """`text` with no line that the runner would take for a workflow command.

    The runner trims a line before it looks for `::` at its start, and looks for the older
    `##[command]` anywhere: a zero-width space after the first character ends both.
    """
    lines = text.splitlines() or [""]
    return "\n".join(_inert_line(line) for line in lines)


def _inert_line(line: str) -> str:
    if line.lstrip().startswith("::"):
        line = line.replace("::", ":\u200b:", 1)
    return line.replace("##[", "#\u200b#[")


def _escape_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")
