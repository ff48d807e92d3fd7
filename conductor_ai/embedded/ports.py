"""Loopback ports: finding a free one, and telling whose it is."""

import asyncio
import errno
import os
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

LOOPBACK = "127.0.0.1"
LISTEN = "0A"
"""TCP_LISTEN in /proc/net/tcp."""


def free_ports(count: int) -> list[int]:
    """Different loopback ports that nothing listens on at this moment; whoever uses one checks that it got it."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def free_port() -> int:
    """One such port."""
    return free_ports(1)[0]


def listener() -> socket.socket:
    """A listening socket on a free loopback port, to be handed to a child: no moment in which another takes the port."""
    ours = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    ours.bind((LOOPBACK, 0))
    ours.listen(128)
    return ours


def is_free(host: str, port: int) -> bool:
    """Whether no other server listens on that address now (port 0 always is free).

    Raises:
        OSError: the address is not this machine's, or the port is not for this user.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do it: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def _listening_inodes(port: int) -> frozenset[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{fields[9]}]")
    return frozenset(found)


def listens_in_session(port: int, session: int) -> bool:
    """Whether a process of `session` (a child's process id) holds the listening socket of `port`.

    Anybody may answer on a port; only this tells that the child does which was started for it.
    """
    inodes = _listening_inodes(port)
    if not inodes:
        return False
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            if os.getsid(int(entry.name)) != session:
                continue
            for descriptor in (entry / "fd").iterdir():
                if os.readlink(descriptor) in inodes:  # noqa: PTH115 - not a path: socket:[inode]
                    return True
    return False


def holds_listener(pid: int, port: int) -> bool:
    """Whether the process `pid` has the listening socket of `port` open, as its maker or because it was handed over."""
    inodes = _listening_inodes(port)
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if os.readlink(descriptor) in inodes:  # noqa: PTH115 - not a path: socket:[inode]
                    return True
    return False


async def http_get(
    host: str, port: int, path: str, *, timeout: float = 2.0, name: str | None = None
) -> tuple[int, bytes]:
    """Status and body of a small GET to a server of this machine; (0, b"") when it does not answer in time.

    `name` is sent as the Host header in place of host and port.

    Enough for readiness checks without importing an HTTP client into the supervisor.
    """
    with suppress(OSError, TimeoutError, ValueError, IndexError):
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(
                    f"GET {path} HTTP/1.0\r\nHost: {name or f'{host}:{port}'}\r\nConnection: close\r\n\r\n".encode()
                )
                await writer.drain()
                head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
                return int(head.split(b" ", 2)[1]), body
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    return 0, b""
