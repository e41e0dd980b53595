"""What every command works with: the machine, the signals, the environment."""

from __future__ import annotations

import dataclasses

from ci_defer.dbt.process import Interrupts
from ci_defer.runner import Runner
from ci_defer.settings import PREFIX


@dataclasses.dataclass(frozen=True)
class Session:
    """What every command works with: the machine, the signals, the event."""

    environ: dict[str, str]
    runner: Runner
    interrupts: Interrupts

    @property
    def child_environ(self) -> dict[str, str]:
        """The environment of the programs we run. Our settings, tokens among them, stay here."""
        return {name: value for name, value in self.environ.items() if not name.startswith(PREFIX)}
