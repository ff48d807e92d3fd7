"""Code in namespaces of its own, made by bubblewrap: no engine, no image, 10 to 20 ms."""

import os
import pwd
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from activities.sandbox.base import (
    MEMORY_BYTES,
    OPEN_FILES,
    PROCESSES,
    TMP_BYTES,
    Check,
    Language,
    LanguageUnavailable,
    SandboxJob,
    SandboxOutcome,
)
from activities.sandbox.bpf import NoFilter, compiled
from activities.sandbox.process import Spawn, kill_group, run_process
from activities.sandbox.program import ENVIRONMENT, hard_stop, launcher, transfer
from activities.sandbox.trial import try_languages
from conductor_ai.errors import ToolUnavailable

SHM_BYTES = 1024 * 1024
"""Size of `/dev/shm`, which semaphores need."""

ADDRESS_BYTES = 512 * MEMORY_BYTES
"""Of one process: room for three memories of WebAssembly. The kernel's tables for so much take as much memory as `data` allows."""

USERS = range(61184, 65520)
"""Uids that systemd sets aside for short-lived users: no account has one of them for long."""

SYSTEM_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Directories that are links into /usr on most systems, and directories of their own on a few."""


class BubblewrapSandbox:
    """Runs code under bwrap. The limits on memory hold for each process, not for all together."""

    name = "bubblewrap"

    def __init__(
        self,
        program: str = "/usr/bin/bwrap",
        interpreters: Mapping[Language, str] | None = None,
        missing: Mapping[Language, str] | None = None,
    ) -> None:
        """`interpreters`: absolute paths under /usr, the only directory of the host that is visible inside.
        `missing`: why the other languages have none. Without both, the machine is searched (see `interpreters`)."""
        self._program = program
        if interpreters is None:
            interpreters, missing = find_interpreters()
        self._interpreters = dict(interpreters)
        self._missing = dict(missing or {})
        self._users: set[int] = set()

    def describe(self) -> str:
        return " ".join(
            [
                "bubblewrap: own namespaces and no network, a seccomp filter, read-only /usr, "
                f"{TMP_BYTES >> 20} MB of /tmp, {MEMORY_BYTES >> 20} MB of memory for each process.",
                *self._missing.values(),
            ]
        )

    async def check(self) -> Check:
        try:
            compiled()
        except NoFilter as error:
            return Check.failed(f"bubblewrap cannot be used: {error}")
        if shutil.which(self._program) is None:
            return Check.failed(
                f"bubblewrap is not installed: there is no {self._program} (Debian and Ubuntu: apt install bubblewrap)."
            )
        found = await try_languages(self)
        self._missing.update(found.missing)
        return found

    async def run(self, job: SandboxJob, /) -> SandboxOutcome:
        interpreter = self._interpreters.get(job.language)
        if interpreter is None:
            raise LanguageUnavailable(self._missing.get(job.language, f"{job.language} is not available."))
        try:
            program = compiled()
        except NoFilter as error:
            raise ToolUnavailable(f"bubblewrap cannot be used: {error}") from error
        with self._user() as uid, tempfile.TemporaryFile() as seccomp:
            seccomp.write(program)
            seccomp.seek(0)
            argv = [self._program, *_namespaces(seccomp.fileno()), "--", *_limits(job), *_inside(job, interpreter)]
            spawn = Spawn(argv=argv, environment={}, uid=uid, pass_fds=(seccomp.fileno(),))
            return await run_process(spawn, transfer(job), job.timeout_seconds, kill_group)

    async def reap(self) -> int:
        """Nothing: the kernel ends a sandbox together with the worker (`--die-with-parent`)."""
        return 0

    async def close(self) -> None:
        """Nothing is held."""

    @contextmanager
    def _user(self) -> Iterator[int | None]:
        """A uid that nobody else has, if the worker is root; else None, the worker's own.

        Root is exempt from the limit on processes, and two sandboxes of one user would share it.
        """
        if os.geteuid() != 0:
            yield None
            return
        accounts = {entry.pw_uid for entry in pwd.getpwall()}
        uid = random.choice([uid for uid in USERS if uid not in accounts and uid not in self._users])  # noqa: S311 - no secret
        self._users.add(uid)
        try:
            yield uid
        finally:
            self._users.discard(uid)


def find_interpreters() -> tuple[dict[Language, str], dict[Language, str]]:
    """The interpreters under /usr, and for each language without one why not."""
    found: dict[Language, str] = {}
    missing: dict[Language, str] = {}
    for language, name in ((Language.PYTHON, "python3"), (Language.JAVASCRIPT, "node")):
        path = shutil.which(name, path="/usr/bin:/usr/local/bin")
        elsewhere = shutil.which(name)
        if path is not None and Path(path).resolve().is_relative_to("/usr"):
            found[language] = path
        elif path is not None or elsewhere is not None:
            missing[language] = (
                f"{language} is not available: {name} is installed outside of /usr, which is all that the sandbox sees "
                "of this machine. Install the system's own package."
            )
        else:
            missing[language] = f"{language} is not available: {name} is not installed (looked for under /usr)."
    return found, missing


def _namespaces(seccomp_fd: int) -> list[str]:
    argv = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    argv += ["--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--seccomp", str(seccomp_fd)]
    argv += ["--ro-bind", "/usr", "/usr"]
    for name in SYSTEM_LINKS:
        path = Path("/", name)
        if path.is_symlink():
            argv += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            argv += ["--ro-bind", str(path), str(path)]
    # Debian's names of programs may be links through here (node, python3 …); the linker's cache finds their libraries.
    argv += ["--ro-bind-try", "/etc/alternatives", "/etc/alternatives", "--ro-bind-try", "/etc/ld.so.cache"]
    argv += ["/etc/ld.so.cache", "--proc", "/proc", "--dev", "/dev"]
    # Shared memory from /dev/zero is counted by no limit of a process. /dev/full reads the same and cannot be mapped.
    argv += ["--dev-bind", "/dev/full", "/dev/zero"]
    argv += ["--size", str(SHM_BYTES), "--perms", "1777", "--tmpfs", "/dev/shm"]  # noqa: S108 - inside
    argv += ["--size", str(TMP_BYTES), "--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108 - inside
    # Both are memory without a limit as bubblewrap makes them, and belong to the code's user.
    argv += ["--remount-ro", "/dev", "--remount-ro", "/"]
    # Through /proc one process writes to the memory of another: so to the clock that ends all of them.
    argv += ["--remount-ro", "/proc", "--chdir", "/tmp"]  # noqa: S108 - inside
    for name, value in (ENVIRONMENT | {"PATH": "/usr/local/bin:/usr/bin:/bin"}).items():
        argv += ["--setenv", name, value]
    return argv


def _limits(job: SandboxJob) -> list[str]:
    """What is used is limited by `data`. The address space has a wide limit of its own, for node reserves far more than it uses."""
    return [
        "prlimit",
        f"--data={MEMORY_BYTES}",
        f"--as={ADDRESS_BYTES}",
        f"--cpu={hard_stop(job.timeout_seconds)}",
        f"--nproc={PROCESSES}",
        f"--fsize={TMP_BYTES}",
        f"--nofile={OPEN_FILES}",
        "--core=0",
        "--",
    ]


def _inside(job: SandboxJob, interpreter: str) -> list[str]:
    return launcher(job.language, interpreter, "/tmp")  # noqa: S108 - inside
