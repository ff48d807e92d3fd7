"""One stack for one data directory."""

import fcntl
import os
import time
from asyncio import sleep
from pathlib import Path

from conductor_ai.embedded.guard import start_of
from conductor_ai.errors import ConfigurationError

GUARD_SECONDS = 20.0
"""How long the guard of a killed stack may take to end its children; it holds the lock meanwhile."""


def _holder(path: Path) -> int | None:
    text = path.read_text(encoding="ascii").strip()
    return int(text) if text.isdigit() else None


class DataLock:
    """The kernel's lock on `data_dir`/lock: it goes with its last holder, however that one dies."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        """Handed to the guard, which so keeps the lock until the last child is gone."""

    @classmethod
    async def take(cls, data_dir: Path) -> "DataLock":
        """Takes the lock; waits only for the guard of a stack that has been killed.

        Raises:
            ConfigurationError: a stack runs there.
        """
        path = data_dir / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + GUARD_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = _holder(path)
                alive = holder is not None and start_of(holder) is not None
                if alive or time.monotonic() > until:
                    os.close(descriptor)
                    raise ConfigurationError(
                        f"Conductor already runs on {data_dir}{f' (process {holder})' if alive else ''}. Stop it "
                        "first, or choose another directory with CONDUCTOR_DATA_DIR."
                    ) from None
            await sleep(0.02)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Gives this process's share of the lock back."""
        os.close(self.descriptor)
