"""Look-up and connection: the two places where this package touches the network, both replaceable."""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpcore

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""From a host name to its addresses, best first. Raises OSError (`socket.gaierror`) as the system does."""

Connect = Callable[[str, int], Awaitable[httpcore.AsyncNetworkStream]]
"""From a literal address and a port to an open connection. Raises `httpcore.ConnectError`."""

MAX_ADDRESSES = 4
"""Addresses of one name that are tried, one after the other, until one accepts."""

_OWN_TROUBLE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Errors of `connect` that are about this machine and not about the host."""


class SystemResolver:
    """`getaddrinfo` in threads of its own, so that a slow name server cannot use up asyncio's."""

    def __init__(self, threads: int = 8) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="egress-resolve")

    async def __call__(self, host: str) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _getaddrinfo, host)
        return tuple(dict.fromkeys(str(address[0]) for *_, address in found))

    def close(self) -> None:
        """Let the threads go; a look-up under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _getaddrinfo(host: str) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))


async def connect_tcp(address: str, port: int) -> httpcore.AsyncNetworkStream:
    """Open a TCP connection to a literal address: nothing is looked up."""
    return await httpcore.AnyIOBackend().connect_tcp(address, port)


class OwnTrouble(Exception):
    """This machine cannot open another connection just now."""


class Pinned(httpcore.AsyncNetworkBackend):
    """A network that knows only the addresses that were checked, whatever host httpcore asks for."""

    def __init__(self, connect: Connect, addresses: Sequence[str], port: int, deadline: float) -> None:
        self._connect = connect
        self._addresses = addresses[:MAX_ADDRESSES]
        self._port = port
        self._deadline = deadline
        self._opened: httpcore.AsyncNetworkStream | None = None

    @property
    def connected(self) -> bool:
        """True once an address has accepted."""
        return self._opened is not None

    async def aclose(self) -> None:
        """Close the connection, in whatever state its user left it (httpcore forgets it if cancelled in TLS)."""
        if self._opened is not None:
            await self._opened.aclose()

    async def connect_tcp(self, *_asked: Any, **_options: Any) -> httpcore.AsyncNetworkStream:
        """Try the addresses in order, each with its share of the time that is left."""
        failure: Exception = httpcore.ConnectError("no address")
        for tried, address in enumerate(self._addresses):
            now = asyncio.get_running_loop().time()
            share = (self._deadline - now) / (len(self._addresses) - tried)
            try:
                async with asyncio.timeout(share):
                    self._opened = await self._connect(address, self._port)
                    return self._opened
            except (httpcore.ConnectError, httpcore.ConnectTimeout, OSError, TimeoutError) as error:
                if any(cause.errno in _OWN_TROUBLE for cause in _system_errors(error)):
                    raise OwnTrouble from error
                failure = error
        if isinstance(failure, TimeoutError | httpcore.ConnectTimeout):
            raise httpcore.ConnectTimeout("no address answered in time") from failure
        raise httpcore.ConnectError("no address accepts connections") from failure


def _system_errors(error: BaseException | None) -> Iterator[OSError]:
    while error is not None:
        if isinstance(error, OSError):
            yield error
        error = error.__cause__ or error.__context__
