"""Bells: nobody sleeps through a change, and nobody waits for ever for a Redis that is away."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from api import rings as module
from api.rings import Rings
from tests.fixtures_servers import wait_until


class _Source:
    """Rings that a test sends; None is Redis going away."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[str | None] = asyncio.Queue()
        self.connections = 0

    async def rings(self) -> AsyncIterator[tuple[str, int]]:
        self.connections += 1
        while (session_id := await self.sent.get()) is not None:
            yield session_id, 1
        raise RedisConnectionError("gone")


async def test_only_its_own_session_wakes_a_reader() -> None:
    """A ring wakes all who wait for that session and nobody else."""
    source = _Source()
    rings = Rings(source)
    running = asyncio.create_task(rings.run())
    with rings.listening("a") as first, rings.listening("a") as second, rings.listening("b") as other:
        waiting = [asyncio.create_task(bell.wait(30)) for bell in (first, second, other)]
        await source.sent.put("a")
        await asyncio.wait(waiting[:2])
        assert not waiting[2].done()
        other.ring()
        await waiting[2]
    assert rings._bells == {}
    running.cancel()


async def test_a_ring_before_the_wait_counts() -> None:
    """A change between taking the bell and waiting is not slept through; it counts once."""
    rings = Rings(_Source())
    with rings.listening("a") as bell:
        bell.ring()
        async with asyncio.timeout(0.5):
            await bell.wait(30)
        waiting = asyncio.create_task(bell.wait(0.2))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await waiting


async def test_without_a_ring_it_is_time_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits longer than a look's time, however long the caller would."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    with Rings(_Source()).listening("a") as bell:
        async with asyncio.timeout(1):
            await bell.wait(30)


async def test_redis_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener outlives Redis and hears again when it is back."""
    monkeypatch.setattr(module, "RECONNECT_SECONDS", 0.01)
    source = _Source()
    rings = Rings(source)
    running = asyncio.create_task(rings.run())
    await source.sent.put(None)

    async def again() -> bool:
        return source.connections == 2

    await wait_until(again, "the second connection")
    with rings.listening("a") as bell:
        await source.sent.put("a")
        async with asyncio.timeout(0.9):
            await bell._rung.wait()
    running.cancel()


async def test_no_redis_at_all() -> None:
    """Without a Redis there is nothing to listen to: the listener ends by itself."""

    class _Nothing:
        async def rings(self) -> AsyncIterator[tuple[str, int]]:
            nothing: tuple[tuple[str, int], ...] = ()
            for item in nothing:
                yield item

    async with asyncio.timeout(1):
        await Rings(_Nothing()).run()
