"""A wire that can be cut: a loopback proxy that loses the connection at a word of the client's, for real."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum

from tests.fixtures_sql import Shop

CANCEL_REQUEST = (16).to_bytes(4, "big") + (80_877_102).to_bytes(4, "big")


class Cut(Enum):
    """When a connection is lost."""

    BEFORE = "the server never hears the word"
    AFTER = "the server does as told, and its reply is swallowed"


class Wire:
    """Passes everything on between clients and the server, until the word comes."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._word: bytes | None = None
        self._cut = Cut.AFTER
        self._port = 0
        self.cuts = 0
        """How often it was cut."""
        self.deaf = False
        """True: requests to cancel are swallowed."""
        self.cancels = 0
        """How many of those came."""

    @property
    def url(self) -> str:
        """Connection string of the shop's login along this wire."""
        return f"postgresql://{self._shop.login}@127.0.0.1:{self._port}/{self._shop.database}?sslmode=disable"

    def cut_at(self, word: bytes, cut: Cut) -> None:
        """Lose the next connection that says `word`, once."""
        self._word, self._cut = word, cut

    async def _upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._shop.pooler is not None:
            return await asyncio.open_connection("127.0.0.1", self._shop.pooler.port)
        server = self._shop.server
        return await asyncio.open_unix_connection(f"{server.socket_dir}/.s.PGSQL.{server.port}")

    async def connected(self, client: asyncio.StreamReader, reply: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its end."""
        answers, server = await self._upstream()
        back = asyncio.create_task(self._pass_on(answers, reply))
        try:
            while data := await client.read(65_536):
                if data.startswith(CANCEL_REQUEST):
                    self.cancels += 1
                    if self.deaf:
                        continue
                if self._word is not None and self._word in data:
                    self._word = None
                    back.cancel()
                    if self._cut is Cut.AFTER:
                        with suppress(asyncio.CancelledError):
                            await back
                        server.write(data)
                        await answers.read(1)
                    self.cuts += 1
                    return
                server.write(data)
        except ConnectionError:
            return
        finally:
            back.cancel()
            for writer in (server, reply):
                writer.transport.abort()

    async def _pass_on(self, answers: asyncio.StreamReader, reply: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await answers.read(65_536):
                reply.write(data)
        reply.close()

    @asynccontextmanager
    async def up(self) -> AsyncIterator["Wire"]:
        """Listen on a free loopback port."""
        listener = await asyncio.start_server(self.connected, "127.0.0.1", 0)
        self._port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
