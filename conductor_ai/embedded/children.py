"""Children that die with their parent, and the guard that makes sure of it."""

import asyncio
import json
import os
import pwd
import secrets
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from conductor_ai.embedded.guard import MARK, Watched, start_of
from conductor_ai.errors import ConfigurationError

LAUNCH = Path(__file__).with_name("launch.py")
GUARD = Path(__file__).with_name("guard.py")
LOG_BYTES = 10_000_000
"""A log that has grown beyond this is set aside as `.1` when its program starts again."""


@dataclass(frozen=True)
class Account:
    """Whom a child runs as."""

    uid: int
    gid: int


def unprivileged() -> Account | None:
    """The account for servers that refuse to run as root, or need not; None when this process is not root."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


def python_environment() -> dict[str, str]:
    """An environment in which another Python finds what this one imports."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}


def require_linux() -> None:
    """Raises:
    ConfigurationError: on a system without /proc and parent-death signals.
    """
    if sys.platform != "linux":
        raise ConfigurationError(
            "The one-command stack needs Linux: only there can it promise that nothing is left running. Start the "
            "servers with docker compose and set DATABASE_URL, REDIS_URL and TEMPORAL_ADDRESS."
        )


def log_tail(log: Path, lines: int = 5) -> str:
    """The last lines of a child's log, for a message to a person."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return "\n".join(text.splitlines()[-lines:])


class Child:
    """A running program: leader of its own session, killed by the kernel when its parent dies."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id, also that of its session and group."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs, as far as the event loop knows."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Its exit code, once it has ended; negative for a signal."""
        return await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def stop(self, number: signal.Signals, *, grace: float, hurry: asyncio.Event | None = None) -> None:
        """Asks it to end, waits up to `grace` seconds or until `hurry`, then kills it and what is left of its group."""
        self.send(number)
        ended = asyncio.create_task(self._process.wait())
        hurried = asyncio.create_task((hurry or asyncio.Event()).wait())
        try:
            await asyncio.wait((ended, hurried), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurried.cancel()
            if not ended.done():
                self.send(signal.SIGKILL)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        await ended


class Guard:
    """The other end of `guard.py`: tell it of every child, and it ends them when this process dies."""

    def __init__(self, log: Path, *, keep_open: int | None = None) -> None:
        self.token = secrets.token_hex(16)
        """Marks every process of the stack, in its environment."""
        self._log = log
        self._keep_open = keep_open
        self._watched: dict[int, Watched] = {}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The guard's own process id, while it runs."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Starts the guard, or another when the first was killed, and tells it of every child there is."""
        fds = () if self._keep_open is None else (self._keep_open,)
        with open_log(self._log) as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(GUARD), self.token,
                stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log, env={}, start_new_session=True, pass_fds=fds,
            )  # fmt: skip
        for child in self._watched.values():
            self._tell(child)

    async def wait(self) -> None:
        """Returns when the guard has ended, which it does on its own only after `stop`."""
        if self._process is not None:
            await self._process.wait()

    def watch(self, pid: int, death: signal.Signals) -> None:
        """From now on the child `pid` ends by `death` when this process does."""
        start = start_of(pid)
        if start is not None:
            self._watched[pid] = Watched(pid, start, int(death))
            self._tell(self._watched[pid])

    def forget(self, pid: int) -> None:
        """That child has ended. A guard that knew of it tells it from a later one by its start time."""
        self._watched.pop(pid, None)

    async def stop(self) -> None:
        """Lets the guard do its work now, and waits for it: afterwards nothing of the stack runs."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()

    def _tell(self, child: Watched) -> None:
        if self._process is not None and self._process.stdin is not None and self._process.returncode is None:
            line = json.dumps({"pid": child.pid, "start": child.start, "death": child.death})
            self._process.stdin.write(f"{line}\n".encode())


def open_log(path: Path) -> "LogFile":
    """The log file of a child, for appending, readable for its owner alone."""
    return LogFile(path)


class LogFile:
    """Opens a log for the moment in which a child inherits it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> int:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._path.exists() and self._path.stat().st_size > LOG_BYTES:
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


async def spawn(
    command: Sequence[str],
    *,
    name: str,
    environ: Mapping[str, str],
    log: Path,
    guard: Guard | None = None,
    death: signal.Signals = signal.SIGKILL,
    account: Account | None = None,
    stdin: bytes | None = None,
    pass_fds: Sequence[int] = (),
    cwd: Path | None = None,
) -> Child:
    """Starts `command` (an absolute path first) so that it gets `death` when this process dies.

    The kernel ties it to the thread that forks: call this from the thread whose end should end the child, which in
    practice is the one that runs the event loop.
    """
    require_linux()
    marked = {**environ, MARK: guard.token} if guard is not None else dict(environ)
    uid, gid = (account.uid, account.gid) if account is not None else (-1, -1)
    launch = (sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), str(int(death)), str(uid), str(gid))
    with open_log(log) as output:
        process = await asyncio.create_subprocess_exec(
            *launch, *command,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=output, stderr=output, env=marked, start_new_session=True, pass_fds=tuple(pass_fds), cwd=cwd,
        )  # fmt: skip
    if guard is not None:
        guard.watch(process.pid, death)
    if stdin is not None and process.stdin is not None:
        process.stdin.write(stdin)
        process.stdin.close()
    return Child(name, process, log)
