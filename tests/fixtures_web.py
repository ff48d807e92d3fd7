"""A host on loopback that says exactly what a test wants, and an egress client that takes it for a public one.

No public address is ever dialled: look-ups come from a table, and the connector maps public-looking addresses to
loopback ports, remembering which address it was asked for.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpcore

from activities.egress.client import Egress

PUBLIC = "11.22.33.44"
OTHER_PUBLIC = "55.66.77.88"
PUBLIC_V6 = "2a00:1450:4001:81b::200e"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]
"""Gets the request that was read: head and body as they came."""


@dataclass
class Site:
    """One listening host."""

    port: int
    requests: list[bytes] = field(default_factory=list)
    """Every request in full, as it came over the wire."""
    connections: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client has hung up."""


def answer(body: bytes = b"", *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """A whole HTTP/1.1 answer; `length` lies about the body if given."""
    size = len(body) if length is None else length
    head = [f"HTTP/1.1 {status}", f"Content-Length: {size}", "Connection: close", *headers]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One request: its head, and the body if its length is said."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return head + await reader.readexactly(int(value))
    return head


@asynccontextmanager
async def serving(
    says: bytes | Handler, tls: ssl.SSLContext | None = None, *, greets: bool = False
) -> AsyncIterator[Site]:
    """A host on loopback that answers every request with the same bytes, or as a function says.

    With `greets` it speaks first, as SSH does, and hangs up.
    """
    tasks: set[asyncio.Task[Any]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        site.connections += 1
        try:
            request = b"" if greets else await read_request(reader)
            site.requests += [] if greets else [request]
            if isinstance(says, bytes):
                writer.write(says)
                await writer.drain()
            else:
                await says(reader, writer, request)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # The client hung up or the test is over: both are what the test arranged.
        finally:
            site.gone.set()
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    site = Site(port=server.sockets[0].getsockname()[1])
    try:
        yield site
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


class Names:
    """A name server from a table. A name with several answer lists gives the next one at each look-up."""

    def __init__(self, table: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._left = {name: list(answers) for name, answers in table.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        answers = self._left.get(host, [])
        return answers.pop(0) if len(answers) > 1 else answers[0] if answers else ()


class Dialler:
    """A connector that reaches only what is in its table, and remembers every address it was asked for."""

    def __init__(self, table: Mapping[str, int]) -> None:
        self._ports = dict(table)
        self.dialled: list[tuple[str, int]] = []

    async def __call__(self, address: str, port: int) -> httpcore.AsyncNetworkStream:
        self.dialled.append((address, port))
        if address not in self._ports:
            raise httpcore.ConnectError("refused")
        return await httpcore.AnyIOBackend().connect_tcp("127.0.0.1", self._ports[address])


@dataclass
class Web:
    """A client with the world that it sees."""

    egress: Egress
    names: Names
    dialler: Dialler


def web_with(
    site: Site | None = None, names: Mapping[str, Sequence[Sequence[str]]] | None = None, **settings: Any
) -> Web:
    """A client for which `example.org` and two public addresses are the given host."""
    table = Names({"example.org": [[PUBLIC]]} if names is None else names)
    dialler = Dialler({} if site is None else dict.fromkeys((PUBLIC, OTHER_PUBLIC, PUBLIC_V6), site.port))
    return Web(Egress(resolve=table, connect=dialler, **settings), table, dialler)
