"""A way to Postgres of somebody's own, which can be cut and mended while everybody else's stays."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit


class Line:
    """Passes everything on between clients and the server at `url`, unless it is cut."""

    def __init__(self, url: str) -> None:
        self._server = urlsplit(url)
        self._port = 0
        self._open: set[asyncio.StreamWriter] = set()
        self.cut_off = False

    @property
    def url(self) -> str:
        """The connection string along this line."""
        login = self._server.netloc.rpartition("@")[0]
        return urlunsplit(self._server._replace(netloc=f"{login}@127.0.0.1:{self._port}"))

    def cut(self) -> None:
        """Lose every connection, and take no further one."""
        self.cut_off = True
        for writer in self._open:
            writer.transport.abort()

    def mend(self) -> None:
        """Take connections again."""
        self.cut_off = False

    async def _connected(self, client: asyncio.StreamReader, reply: asyncio.StreamWriter) -> None:
        if self.cut_off:
            reply.transport.abort()
            return
        answers, server = await asyncio.open_connection(self._server.hostname, self._server.port)
        both = {reply, server}
        self._open |= both
        try:
            await asyncio.gather(_pass_on(client, server), _pass_on(answers, reply))
        finally:
            self._open -= both
            for writer in both:
                writer.transport.abort()

    @asynccontextmanager
    async def up(self) -> AsyncIterator["Line"]:
        """Listen on a free loopback port."""
        listener = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            self.cut()


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(65_536):
            target.write(data)
    target.close()
