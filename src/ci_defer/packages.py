"""The packages of a dbt project: installed when they are declared and not there yet."""

from __future__ import annotations

from collections.abc import Callable

from ci_defer.dbt import Engine, Invocation
from ci_defer.log import Log
from ci_defer.project import Project


def install_packages(
    project: Project, engine: Engine, log: Log, ran: Callable[[Invocation], None]
) -> None:
    """Run `dbt deps` when the project has packages and none is installed.

    `ran` is told of the command. Raises ProjectError.
    """
    if not project.lacks_packages():
        return
    log.info("The packages of the dbt project are not installed: running dbt deps.")
    done = engine.deps()
    ran(done)
    done.check("install the packages", "Look at packages.yml, and at the network of the job.")
