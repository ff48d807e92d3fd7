"""Redis is a copy: replaced only by what is newer, never believed alone, and losing it costs no answer."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from api.reading import Reader
from api.rings import Rings
from conductor_ai import names
from conductor_ai.contracts.status import Status
from conductor_ai.contracts.views import SessionView
from conductor_ai.errors import NotFound
from conductor_ai.stores.hot import Hot, HotCopies
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.snapshots import Snapshots
from tests.places import ORG, Place, call


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the shared Redis."""
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def hot(redis_url: str) -> AsyncIterator[Hot]:
    """The product's side of it."""
    made = Hot(redis_url)
    yield made
    await made.close()


async def test_older_never_replaces_newer(database: Database, hot: Hot, redis: Redis) -> None:
    """Two writers finish in the wrong order: a plain SET ends with the old document, ours with the new one."""
    place = Place(database)
    session_id = await place.session()
    old = await place.view(session_id)
    await place.answered(session_id, "run", 1)
    new = await place.view(session_id)
    for view in (new, old):
        await redis.set(f"naive:{session_id}", view.version, ex=60)
        await hot.put(ORG, view)
    stored = await hot.get(ORG, session_id)
    assert await redis.get(f"naive:{session_id}") == str(old.version)
    assert stored == new
    key = names.snapshot_key(ORG, session_id)
    assert await redis.hget(key, "version") == str(new.version)
    assert 0 < await redis.ttl(key) <= names.HOT_TTL_SECONDS


async def test_many_writers_in_any_order(database: Database, hot: Hot) -> None:
    """All versions at once, in any order: the highest stays."""
    place = Place(database)
    session_id = await place.session()
    view = await place.view(session_id)
    versions = [3, 9, 1, 7, 20, 2, 19, 5]
    await asyncio.gather(*(hot.put(ORG, view.model_copy(update={"version": version})) for version in versions))
    stored = await hot.get(ORG, session_id)
    assert stored is not None
    assert stored.version == 20


async def test_a_commit_leaves_a_copy(database: Database, hot: Hot) -> None:
    """The announcer refreshes after each commit; at the end the copy is the last version."""
    place = Place(database, HotCopies(hot, Snapshots(database)))
    session_id = await place.session()
    for number in range(1, 6):
        await place.answered(session_id, "run", number, call())
    assert isinstance(place.announcer, HotCopies)
    await place.announcer.close()
    assert await hot.get(ORG, session_id) == await place.view(session_id)


async def test_reads_are_right_whatever_redis_holds(database: Database, hot: Hot, redis: Redis) -> None:
    """An old copy, a broken copy, none at all, and another org's question: the answer is always that of the rows."""
    place = Place(database)
    reader = Reader(place.snapshots, hot, Rings(hot))
    session_id = await place.session()
    await hot.put(ORG, await place.view(session_id))
    await place.answered(session_id, "run", 1)
    key = names.snapshot_key(ORG, session_id)
    stale = await hot.get(ORG, session_id)
    assert stale is not None
    assert stale.status is Status.PENDING  # what a reader of Redis alone would have said
    assert (await reader.read(ORG, session_id)).status is Status.RUNNING
    await reader.close()
    await redis.hset(key, "document", "{}")
    assert (await reader.read(ORG, session_id)).status is Status.RUNNING
    await redis.delete(key)
    assert (await reader.read(ORG, session_id)).status is Status.RUNNING
    await reader.close()
    copy = await hot.get(ORG, session_id)
    assert copy is not None
    assert copy.status is Status.RUNNING
    with pytest.raises(NotFound):
        await reader.read("org_other", session_id)


async def test_what_this_process_answered_before_is_never_taken_for_the_present(
    database: Database, hot: Hot, redis: Redis
) -> None:
    """A document that is kept is answered again only while Postgres says that its version is the present one."""
    place = Place(database)
    reader = Reader(place.snapshots, hot, Rings(hot))
    session_id = await place.session()

    async def said() -> SessionView:
        return SessionView.model_validate_json((await reader.document(ORG, session_id)).json)

    assert (await said()).status is Status.PENDING
    assert await reader.document(ORG, session_id) is await reader.document(ORG, session_id)
    await place.answered(session_id, "run", 1)
    assert await said() == await place.view(session_id)
    await redis.flushall()
    assert await said() == await place.view(session_id)
    with pytest.raises(NotFound):
        await reader.document("org_other", session_id)
    await reader.close()


async def test_without_redis_nothing_fails(database: Database) -> None:
    """No Redis set, and one that is away: writes and reads go on."""
    for url in (None, "redis://127.0.0.1:9"):
        hot = Hot(url)
        copies = HotCopies(hot, Snapshots(database))
        place = Place(database, copies)
        session_id = await place.session()
        await place.answered(session_id, "run", 1)
        reader = Reader(place.snapshots, hot, Rings(hot))
        assert (await reader.read(ORG, session_id)).version > 1
        assert await hot.ping() is not None
        await copies.close()
        await reader.close()
        await hot.close()
