"""A proxy before the API that loses every connection a moment after it was made, in the middle of what is said then."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CUT_SECONDS = 0.2


class CuttingProxy:
    """Passes on what both sides say; what the server says after 200 ms arrives by half."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: set[asyncio.Task[None]] = set()
        self.url = ""
        self.cuts = 0
        """Connections that were lost so far."""

    async def connected(self, client: asyncio.StreamReader, reply: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its loss."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        answer, server = await asyncio.open_connection("127.0.0.1", self._port)
        asking = asyncio.create_task(_pass_on(client, server))
        try:
            try:
                async with asyncio.timeout(CUT_SECONDS):
                    await _pass_on(answer, reply)
            except TimeoutError:
                async with asyncio.timeout(CUT_SECONDS):
                    piece = await answer.read(65_536)
                    reply.write(piece[: len(piece) // 2])
                    self.cuts += 1
        except (TimeoutError, ConnectionError):
            pass  # nobody said anything more
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            server.transport.abort()
            reply.transport.close()
            self._open.discard(task)

    async def close(self) -> None:
        """Lose what is open."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65_536):
        writer.write(piece)
        await writer.drain()


@asynccontextmanager
async def cutting(port: int) -> AsyncIterator[CuttingProxy]:
    """A proxy before this port of loopback."""
    proxy = CuttingProxy(port)
    server = await asyncio.start_server(proxy.connected, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
