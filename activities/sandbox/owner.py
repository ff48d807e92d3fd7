"""Which worker a container belongs to, and whether that worker is still alive."""

import secrets
import socket
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Life(StrEnum):
    """What can be said of another worker from here."""

    ALIVE = "alive"
    DEAD = "dead"
    ELSEWHERE = "elsewhere"
    """On another machine, or in another process namespace: only the deadline tells."""


@dataclass(frozen=True)
class Owner:
    """One sandbox object of one worker process. A pid alone would do for another process after a restart."""

    machine: str
    """Host name and process namespace."""
    pid: int
    started: str
    """When the process started, in clock ticks since boot."""
    nonce: str

    @staticmethod
    def myself() -> "Owner":
        """A new owner in this process."""
        pid, started = _process("self")
        return Owner(_machine(), pid, started, secrets.token_hex(4))

    @staticmethod
    def parse(text: str) -> "Owner | None":
        """The owner that a label names, or None if it is none of ours."""
        machine, *rest = text.split("|")
        if len(rest) != 3 or not rest[0].isdigit():
            return None
        return Owner(machine, int(rest[0]), rest[1], rest[2])

    def __str__(self) -> str:
        return f"{self.machine}|{self.pid}|{self.started}|{self.nonce}"

    def life(self) -> Life:
        """Whether the process of this owner still runs."""
        if not self.started or self.machine != _machine():
            return Life.ELSEWHERE
        return Life.ALIVE if _process(str(self.pid)) == (self.pid, self.started) else Life.DEAD


def _machine() -> str:
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = "-"  # not Linux: nobody is found dead, deadlines alone count
    return f"{socket.gethostname()}/{namespace}"


def _process(name: str) -> tuple[int, str]:
    """Pid and start time of a process of /proc; zero and nothing if there is none."""
    try:
        stat = Path("/proc", name, "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0, ""
    pid, _, rest = stat.partition(" ")
    fields = rest.rpartition(")")[2].split()  # the name of the program, in brackets, may hold anything
    return int(pid), "" if fields[0] == "Z" else fields[19]
