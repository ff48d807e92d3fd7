"""Look-up and connection: the two places where this package touches the network, both replaceable."""

import asyncio
import errno
import socket
import ssl
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

    def __init__(self, threads: int = 64) -> None:
        """`threads`: look-ups at once. A name server of the asked host's own can hold each of them for half a minute."""
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


class Meter:
    """Counts what came over one connection, framing included: heads, chunk sizes and trailers cost time as bodies do."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    @property
    def over(self) -> bool:
        """True once more came than may."""
        return self._left < 0

    def count(self, data: bytes) -> bytes:
        """The data itself.

        Raises:
            httpcore.ReadError: it is too much.
        """
        self._left -= len(data)
        if self.over:
            raise httpcore.ReadError("more came than an answer may take")
        return data


class Metered(httpcore.AsyncNetworkStream):
    """Another stream, and a meter for what is read from it."""

    def __init__(self, inner: httpcore.AsyncNetworkStream, meter: Meter) -> None:
        self._inner = inner
        self._meter = meter

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._meter.count(await self._inner.read(max_bytes, timeout))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return Metered(await self._inner.start_tls(ssl_context, server_hostname, timeout), self._meter)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class Pinned(httpcore.AsyncNetworkBackend):
    """A network that knows only the addresses that were checked, whatever host httpcore asks for."""

    def __init__(self, connect: Connect, addresses: Sequence[str], port: int, deadline: float, limit: int) -> None:
        """`deadline` by the loop's clock; `limit`: bytes that may come over the connection."""
        self.meter = Meter(limit)
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
                    self._opened = Metered(await self._connect(address, self._port), self.meter)
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
