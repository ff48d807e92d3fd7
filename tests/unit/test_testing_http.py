"""The loopback server under the fake models: it stops without leaving anything behind."""

import asyncio

import pytest

from conductor_ai.testing.http import Answer, LoopbackServer, Received


async def _hello(_request: Received) -> Answer:
    return Answer(text="hello")


async def test_stopping_waits_for_connections_that_still_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection in the middle of closing is not left to be cancelled with the loop, which asyncio reports as an error."""
    closing, may_close = asyncio.Event(), asyncio.Event()
    really_closed = asyncio.StreamWriter.wait_closed

    async def slowly(writer: asyncio.StreamWriter) -> None:
        closing.set()
        await may_close.wait()
        await really_closed(writer)

    server = LoopbackServer(_hello)
    await server.start()
    host, port = server.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    monkeypatch.setattr(asyncio.StreamWriter, "wait_closed", slowly)
    writer.close()
    await closing.wait()
    stopping = asyncio.create_task(server.stop())
    done, _ = await asyncio.wait({stopping}, timeout=0.2)
    assert not done
    may_close.set()
    await stopping
