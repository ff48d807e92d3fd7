"""The process that outlives a killed supervisor for a moment, to end what it left behind.

Run by path with `python -I -S guard.py TOKEN`; standard library only. Standard input is a pipe from the supervisor:
one JSON object a line, `{"pid": …, "start": …, "death": …}`, for each child. End of file means that the supervisor is
gone, by whatever way. Then every child gets its `death` signal, and every process that belongs to the stack is killed:
those in a child's session, and those whose environment carries `CONDUCTOR_STACK=TOKEN` (grandchildren that made a
session of their own). It holds the data directory's lock meanwhile, so that a new stack cannot start beside the rest of
the old one. It ends when nothing is left, or after 15 seconds.
"""

import json
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "CONDUCTOR_STACK"
GRACE_SECONDS = 3.0
"""How long a child with a gentler signal than SIGKILL may take (Postgres ends its backends first)."""
LIMIT_SECONDS = 15.0


@dataclass(frozen=True)
class Watched:
    """A child of the supervisor, leader of its own session."""

    pid: int
    start: int
    """Start time in clock ticks since boot: tells the child from a later process with the same number."""
    death: int
    """Signal that ends it."""


def start_of(pid: int) -> int | None:
    """The start time of a live process in clock ticks, or None when there is none (a zombie counts as none)."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else int(fields[19])
    return None


def members(token: str, sessions: frozenset[int]) -> list[int]:
    """Every live process, except this one, in one of `sessions` or marked with `token`."""
    mark = f"{MARK}={token}".encode()
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are enough
        if not name.isdigit() or int(name) == os.getpid() or start_of(int(name)) is None:
            continue
        with suppress(OSError):
            if os.getsid(int(name)) in sessions:
                found.append(int(name))
                continue
            if mark in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                found.append(int(name))
    return found


def end(token: str, watched: list[Watched]) -> None:
    """Ends all that is left of the stack."""
    left = [child for child in watched if start_of(child.pid) == child.start]
    sessions = frozenset(child.pid for child in watched)
    for child in left:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(child.pid, child.death)
    began = time.monotonic()
    while time.monotonic() - began < LIMIT_SECONDS:
        patient = time.monotonic() - began < GRACE_SECONDS
        gentle = {child.pid for child in left if child.death != signal.SIGKILL} if patient else set()
        gentle = {pid for pid in gentle if start_of(pid) is not None}
        remaining = members(token, sessions)
        if not remaining and not gentle:
            return
        for pid in remaining:
            if pid not in gentle:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def main(token: str) -> int:
    """Waits for the end of the supervisor, then ends its children."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: dict[int, Watched] = {}
    for line in sys.stdin:
        with suppress(ValueError, TypeError):  # A line cut off by the death of the writer is the last one.
            child = Watched(**json.loads(line))
            watched[child.pid] = child
    end(token, list(watched.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
