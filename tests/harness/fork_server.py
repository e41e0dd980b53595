"""A program without the price of warming it up: a process that is warm, and forks per command.

dbt takes 4 seconds of CPU to be imported, and ci-defer half of one, before it does anything for a
small project. Tests that ask what a program does put `forked`'s folder on the PATH: the program in
it hands arguments, environment, working directory and open files to a server, which forks, runs the
real program's entry point in the child, and returns its exit code. What is warm, and what a child
runs, is said by a recipe: a file with the functions `warm_up`, which gets words, and `run`.

The program may also be one that another file names as its interpreter (`script`): then the first
argument is the path of that file, as for any interpreter.

As a program, run by the interpreter of the program that it serves, this file is the server. It
imports nothing of these tests, which are not there in dbt's environment.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import json
import os
import runpy
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

# What a child is given has numbers below this, what the server has opened by itself above.
RESERVED = 64
MOST_FILES = 16

CLIENT = """\
#!{python} -IS
import json, os, socket, sys
def is_passed_on(number):
    try:
        return os.get_inheritable(number)
    except OSError:
        return False
files = [number for number in map(int, os.listdir("/proc/self/fd")) if is_passed_on(number)]
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
request = {{
    "arguments": sys.argv[1:],
    "cwd": os.getcwd(),
    "environ": dict(os.environ),
    "files": files,
}}
socket.send_fds(connection, [b"!"], files)
connection.sendall(json.dumps(request).encode())
connection.shutdown(socket.SHUT_WR)
sys.exit(int(connection.recv(16)))
"""


@contextlib.contextmanager
def forked(
    folder: Path,
    name: str,
    python: Path,
    recipe: Path,
    words: Callable[[], tuple[str, ...]],
    *,
    script: str = "",
) -> Iterator[Path]:
    """A folder with a program `name` that is quick to start: `python` has run `recipe` for it.

    With a `script`, that is the program, and the one that is quick is its interpreter.

    All processes that name the same `folder` share one server, which ends when the last of them
    leaves, however it does. `words`, for the warm-up, are asked for by the one that starts it.
    """
    folder.mkdir(exist_ok=True)
    bin_folder, leash = folder / "bin", folder / "leash"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held = take(leash)
        if held is None:
            bin_folder.unlink(missing_ok=True)
            leash.unlink(missing_ok=True)
            os.mkfifo(leash)
            programs = {f"{name}-python": CLIENT, name: script} if script else {name: CLIENT}
            held = _start(leash, bin_folder, programs, python, [str(recipe), *words()])
    try:
        yield bin_folder
    finally:
        os.close(held)


def take(leash: Path) -> int | None:
    """Hold a server that runs."""
    try:
        return os.open(leash, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        # It was never made, or nobody reads from it.
        return None


def _start(
    leash: Path, bin_folder: Path, programs: dict[str, str], python: Path, recipe: list[str]
) -> int:
    """Start a server, and return from where it is held when it is ready."""
    # The address of a socket has a hundred characters at most.
    directory = Path(tempfile.mkdtemp(prefix="forks-"))
    folder = directory / "bin"
    folder.mkdir()
    for name, text in programs.items():
        program = folder / name
        address = str(directory / "socket")
        program.write_text(text.format(python=python, address=address, folder=folder))
        program.chmod(0o755)
    bin_folder.symlink_to(folder)
    reading = os.open(leash, os.O_RDONLY | os.O_NONBLOCK)
    held = os.open(leash, os.O_WRONLY)
    # A file: what the server says when it ends is for nobody.
    with leash.with_name("log").open("w+b") as log:
        # This ends when the server is ready, and leaves that behind.
        started = subprocess.run(
            [str(python), __file__, str(leash.parent.absolute()), str(directory), *recipe],
            cwd=directory,
            stdin=reading,
            stdout=log,
            stderr=log,
            check=False,
        )
        os.close(reading)
        if started.returncode:
            os.close(held)
            shutil.rmtree(directory)
            log.seek(0)
            raise AssertionError(log.read().decode())
    return held


def serve(listener: socket.socket, run: Callable[[], None], folder: Path) -> None:
    """Call `run` in a fork for each connection, until nobody holds the server of `folder`."""
    # What a child is for: its end closes the other side of the pipe.
    running: dict[int, tuple[int, socket.socket]] = {}
    while True:
        ready = select.select((0, listener.fileno(), *running), (), ())[0]
        if 0 in ready and is_let_go(folder):
            return
        for pipe in running.keys() & set(ready):
            child, connection = running.pop(pipe)
            os.close(pipe)
            _, status = os.waitpid(child, 0)
            with contextlib.suppress(BrokenPipeError):
                connection.send(str(os.waitstatus_to_exitcode(status)).encode())
            connection.close()
        if listener.fileno() in ready:
            connection, _ = listener.accept()
            _, files, _, _ = socket.recv_fds(connection, 1, MOST_FILES)
            with connection.makefile("rb") as message:
                try:
                    request = json.load(message)
                except ValueError:
                    # Who asked was killed before it had said all: nobody waits for an answer.
                    for file in files:
                        os.close(file)
                    connection.close()
                    continue
            pipe, end = _pipe()
            child = os.fork()
            if child == 0:
                listener.close()
                connection.close()
                _become(request, files)
                _end(run)
            os.close(end)
            for file in files:
                os.close(file)
            running[pipe] = child, connection


def is_let_go(folder: Path) -> bool:
    """Whether nobody holds this server, and from now on nobody can."""
    try:
        with (folder / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Somebody may have come meanwhile.
            if not select.select((0,), (), (), 0)[0]:
                return False
            (folder / "leash").unlink()
    except FileNotFoundError:
        # The folder is gone, as at the end of a session.
        pass
    return True


def _end(run: Callable[[], None]) -> NoReturn:
    code: object = None
    try:
        run()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        code = 1
    # As at the end of any program, but that nothing is torn down: it would be copied for that.
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)


def _pipe() -> tuple[int, int]:
    """A pipe whose second end is out of the way of the files of a child."""
    pipe, low = os.pipe()
    end = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, RESERVED)
    os.close(low)
    return pipe, end


def _become(request: dict[str, Any], files: list[int]) -> None:
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, RESERVED) for file in files]
    for file in files:
        os.close(file)
    for number, file in zip(request["files"], moved, strict=True):
        assert number < RESERVED
        os.dup2(file, number)
        os.close(file)
    environ, arguments = request["environ"], request["arguments"]
    os.chdir(str(request["cwd"]))
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = [*sys.argv[:1], *arguments]


def main(folder: str, directory: str, recipe: str, *words: str) -> None:
    """Warm up, and leave a server behind, which removes `directory` at its end."""
    program = runpy.run_path(recipe)
    reserved = [os.open(os.devnull, os.O_RDONLY) for _ in range(RESERVED)]
    program["warm_up"](*words)
    for file in reserved:
        os.close(file)
    threads = Path("/proc/self/task")
    if threads.exists():
        assert len(list(threads.iterdir())) == 1, "a fork would lose the other threads"
    # The children share what there is, as long as nobody writes to it: the collector would.
    gc.collect()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(Path(directory, "socket")))
    listener.listen()
    if os.fork():
        os._exit(0)
    server = os.getpid()
    try:
        serve(listener, program["run"], Path(folder))
    finally:
        if os.getpid() == server:
            shutil.rmtree(directory)


if __name__ == "__main__":
    # This folder has modules with the names of others.
    del sys.path[0]
    main(*sys.argv[1:])
