"""Redis only rings: who listens looks into Postgres. Deltas say which attempt they belong to."""

import asyncio
from typing import Any

from redis.asyncio import Redis
from temporalio.client import Client

from conductor_ai import names
from conductor_ai.contracts.models import ModelReply, ModelRequest, Usage
from conductor_ai.errors import Code, ModelFailure
from conductor_ai.stores.hot import Hot, HotCopies
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.snapshots import Snapshots
from conductor_ai.testing.scripted import Listener, ScriptedProvider
from tests.places import ORG, Place
from tests.rig import answer, rig


class Halfway(ScriptedProvider):
    """Breaks off in the middle of its first answer."""

    async def complete(self, request: ModelRequest, listener: Listener, /) -> ModelReply:
        """Half an answer, then a whole one."""
        if not self.requests:
            self.requests.append(request)
            listener.usage(Usage(input=50, output=1))
            listener.delta("Hel")
            raise ModelFailure("Broken.", code=Code.MODEL_UNAVAILABLE, retryable=True, retry_after=0.01)
        return await super().complete(request, listener)


async def test_a_dead_attempts_deltas_can_be_told_apart(
    temporal: Client, store_url: str, task_queue: str, redis_url: str
) -> None:
    """Attempt 1 said half a sentence before it broke: joined blindly the reader sees it twice; by attempt, once."""
    provider = Halfway([answer("Hello")])
    async with rig(temporal, store_url, task_queue, provider=provider, redis_url=redis_url) as r:
        session_id = await r.start()
        await r.ended(session_id)
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        key = names.deltas_key(ORG, session_id)
        entries: Any = await redis.xrange(key)
        ttl = await redis.ttl(key)
    deltas = [fields for _, fields in entries]
    assert "".join(d["text"] for d in deltas) == "HelHello"
    last = max((int(d["call_no"]), int(d["attempt"])) for d in deltas)
    assert last == (1, 2)
    assert "".join(d["text"] for d in deltas if (int(d["call_no"]), int(d["attempt"])) == last) == "Hello"
    assert 0 < ttl <= names.HOT_TTL_SECONDS


async def test_a_ring_follows_the_commit(database: Database, redis_url: str) -> None:
    """Whoever is rung finds the version in Postgres: the ring never comes before the commit."""
    hot = Hot(redis_url)
    place = Place(database, HotCopies(hot, Snapshots(database)))
    session_id = await place.session()
    seen: list[tuple[int, int]] = []
    rings = hot.rings()

    async def listen() -> None:
        async for rung, version in rings:
            if rung == session_id:
                seen.append((version, await place.snapshots.version(ORG, session_id) or 0))
                if version >= last:
                    return

    last = 10**9
    listening = asyncio.create_task(listen())
    async with Redis.from_url(redis_url) as redis, asyncio.timeout(10):
        while not (await redis.pubsub_numsub(names.RING_CHANNEL))[0][1]:
            await asyncio.sleep(0.01)
    for number in range(1, 6):
        last = 10**9 if number < 5 else await place.snapshots.version(ORG, session_id) or 0
        await place.answered(session_id, "run", number)
    await asyncio.wait_for(listening, 10)
    assert isinstance(place.announcer, HotCopies)
    await place.announcer.close()
    await hot.close()
    assert seen
    assert all(found >= version for version, found in seen)
