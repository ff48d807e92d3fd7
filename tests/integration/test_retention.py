"""Sessions are deleted some time after their end, if that is wanted: those alone, wholly, and once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from temporalio.client import Client

from activities.retention import BY, Retention
from conductor_ai import names
from conductor_ai.errors import Unavailable
from conductor_ai.stores.erasing import EraseVerdict, Erasing
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.postgres import Database
from tests.fixtures_servers import wait_until
from tests.places import ORG, Place
from tests.rig import answer, rig


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the shared Redis."""
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


async def ended(place: Place, days_ago: float) -> str:
    """A session that ended so long ago."""
    session_id = await place.session()
    await place.answered(session_id, "run", 1)
    await place.finish(session_id, "run")
    await place.value(
        "UPDATE conductor.sessions SET ended_at = ended_at - make_interval(secs => $2) WHERE id = $1 RETURNING id",
        session_id,
        days_ago * 86_400,
    )
    return session_id


async def left(place: Place, *sessions: str) -> list[bool]:
    """Which of these are still there."""
    return [
        bool(await place.value("SELECT EXISTS (SELECT FROM conductor.sessions WHERE id = $1)", session_id))
        for session_id in sessions
    ]


async def test_only_what_is_due(database: Database, hot: Hot, redis: Redis) -> None:
    """What ended long enough ago goes, with its copy and with a line in the audit; what is open or younger stays."""
    place = Place(database)
    old, young, never = await ended(place, 31), await ended(place, 29), await place.session()
    await hot.put(ORG, await place.view(old))
    assert await Retention(Erasing(database), hot, 30).round() >= 1
    assert await left(place, old, young, never) == [False, True, True]
    assert not await redis.hget(names.snapshot_key(ORG, old), "document")
    assert await place.value("SELECT by FROM conductor.audit WHERE subject = $1", old) == BY
    assert await Retention(Erasing(database), hot, 30).round() == 0


async def test_nothing_goes_while_redis_is_away(database: Database) -> None:
    """A copy that may be there would outlive the session: it is deleted in a later round."""
    place = Place(database)
    old = await ended(place, 400)
    away = Hot("redis://127.0.0.1:9")
    with pytest.raises(Unavailable):
        await Retention(Erasing(database), away, 300).round()
    await away.close()
    assert await left(place, old) == [True]
    assert await Retention(Erasing(database), Hot(None), 300).round() == 1


async def test_workers_share_the_work(database: Database, hot: Hot) -> None:
    """Several at once: each session is deleted once, and nobody stumbles over another's."""
    place = Place(database)
    old = [await ended(place, 3_001) for _ in range(12)]
    counts = await asyncio.gather(*(Retention(Erasing(database), hot, 3_000).round() for _ in range(4)))
    assert sum(counts) == len(old)
    assert not any(await left(place, *old))


async def test_one_that_cannot_be_deleted_keeps_no_other(database: Database, hot: Hot) -> None:
    """A fault with one session is logged; the round goes on, and ends."""
    place = Place(database)
    bad, good = await ended(place, 2_001), await ended(place, 2_002)

    class Faulty(Erasing):
        async def erase(self, org_id: str, session_id: str, **more: Any) -> EraseVerdict:
            if session_id == bad:
                raise RuntimeError("a fault")
            return await super().erase(org_id, session_id, **more)

    assert await Retention(Faulty(database), hot, 2_000).round() == 1
    assert await left(place, bad, good) == [True, False]
    assert await Retention(Erasing(database), hot, 2_000).round() == 1


async def test_a_worker_does_it_by_itself(temporal: Client, store_url: str, task_queue: str) -> None:
    """With CONDUCTOR_RETENTION_DAYS a worker deletes a session soon after its time; unset, it deletes nothing."""
    async with rig(temporal, store_url, task_queue, replies=[answer()]) as r:
        assert r.parts.reconciler._retention is None
        session_id = await r.start()
        await r.ended(session_id)
    async with rig(temporal, store_url, task_queue, run=False, retention_days=0.1 / 86_400) as r:
        place = Place(r.parts.database)

        async def gone() -> bool:
            return await left(place, session_id) == [False]

        working = asyncio.create_task(r.parts.reconciler.run())
        await wait_until(gone, "the session to be deleted", 20)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
