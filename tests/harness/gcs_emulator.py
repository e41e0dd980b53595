"""gcp-storage-emulator, without the file in which it keeps what it knows. A program.

The emulator writes that file anew with each change, with all objects there are. In memory nobody
ever reads it, and late in a session of tests it is most of what a request costs.
"""

from __future__ import annotations

from gcp_storage_emulator.__main__ import main  # type: ignore[import-untyped]
from gcp_storage_emulator.storage import Storage  # type: ignore[import-untyped]


def _forget(_storage: Storage) -> None:
    """Take the place of the method that writes the file."""


if __name__ == "__main__":
    Storage._write_config_to_file = _forget
    main()
