"""The API of a test on a real socket, as `conductor api` serves it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn

from api.connections import Impatient
from api.leaving import Leaving
from tests.fixtures_api import Api


@asynccontextmanager
async def listening(api: Api, port: int = 0) -> AsyncIterator[int]:
    """Yields the port, on loopback; a free one unless one is given."""
    transport = api.http._transport
    assert isinstance(transport, httpx.ASGITransport)
    config = uvicorn.Config(
        transport.app, host="127.0.0.1", port=port, lifespan="off", log_config=None, http=Impatient, ws="none"
    )
    server = Leaving(config, api.deps.fanout.close)
    running = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.01)
        yield int(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        await running
