"""The hot store on every Redis that it may meet: a real server, the fake one of the embedded stack, and none at all."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from conductor_ai import names
from conductor_ai.contracts.status import Phase, Status
from conductor_ai.contracts.views import SessionView, TimesView
from conductor_ai.embedded.redis import EmbeddedRedis
from conductor_ai.names import new_id
from conductor_ai.stores.hot import DOCUMENT_MAX_BYTES, Hot
from conductor_ai.stores.writing import Committed
from tests.fixtures_servers import wait_until

ORG = "org_hot"


def view(session_id: str, version: int, title: str = "") -> SessionView:
    """A small snapshot."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return SessionView(
        session_id=session_id,
        status=Status.RUNNING,
        phase=Phase.THINKING,
        waiting_for=None,
        model="demo",
        title=title,
        metadata={},
        tools=(),
        max_steps=1,
        step_count=0,
        steps=(),
        input_tokens=0,
        output_tokens=0,
        total_cost_usd=0.0,
        final_answer=None,
        stop_reason=None,
        error=None,
        pending_approvals=(),
        retry=None,
        times=TimesView(created_at=now, started_at=None, ended_at=None, updated_at=now, deadline_at=None),
        version=version,
        warnings=(),
    )


@pytest.fixture(params=["real", "fake"])
async def url(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> AsyncIterator[str]:
    """A real server, or the one that is embedded where there is none."""
    if request.param == "real":
        yield redis_url
        return
    server = EmbeddedRedis(server=None, log=tmp_path / "redis.log")
    await server.start()
    try:
        yield server.url
    finally:
        await server.stop()


@pytest.fixture
async def hot(url: str) -> AsyncIterator[Hot]:
    """The store on it."""
    store = Hot(url)
    try:
        yield store
    finally:
        await store.close()


async def test_a_copy_comes_back(hot: Hot) -> None:
    """What is put is read back equal; another org's name finds nothing."""
    session_id = new_id("sess")
    await hot.put(ORG, view(session_id, 3, "äöü \u2028"))
    assert await hot.get(ORG, session_id) == view(session_id, 3, "äöü \u2028")
    assert await hot.get("org_other", session_id) is None


async def test_an_older_copy_never_replaces_a_newer(hot: Hot) -> None:
    """Writers finish in any order; the highest version stays."""
    session_id = new_id("sess")
    await asyncio.gather(*(hot.put(ORG, view(session_id, version)) for version in (2, 9, 4, 7, 1)))
    found = await hot.get(ORG, session_id)
    assert found is not None
    assert found.version == 9


async def test_every_key_has_a_time_to_live(hot: Hot, url: str) -> None:
    """Snapshots and deltas vanish by themselves, and deltas are capped."""
    session_id = new_id("sess")
    await hot.put(ORG, view(session_id, 1))
    for number in range(5):
        await hot.delta(ORG, session_id, 1, 1, f"piece {number}")
    async with redis.asyncio.Redis.from_url(url, decode_responses=True) as client:
        for key in (names.snapshot_key(ORG, session_id), names.deltas_key(ORG, session_id)):
            assert 0 < await client.ttl(key) <= names.HOT_TTL_SECONDS
        pieces: Any = await client.xrange(names.deltas_key(ORG, session_id))
        assert [fields["text"] for _, fields in pieces] == [f"piece {number}" for number in range(5)]


async def test_what_is_erased_stays_erased(hot: Hot, url: str) -> None:
    """An attempt that still talks and a writer that comes late leave nothing of a session that was erased; not in another one."""
    session_id, other = new_id("sess"), new_id("sess")
    for each in (session_id, other):
        await hot.put(ORG, view(each, 3))
        await hot.delta(ORG, each, 1, 1, "before")
    assert await hot.erase(ORG, session_id)
    for each in (session_id, other):
        await hot.delta(ORG, each, 1, 1, "after")
        await hot.put(ORG, view(each, 4))
    assert await hot.get(ORG, session_id) is None
    assert (await hot.get(ORG, other)) == view(other, 4)
    async with redis.asyncio.Redis.from_url(url, decode_responses=True) as client:
        assert not await client.exists(names.deltas_key(ORG, session_id))
        assert await client.xlen(names.deltas_key(ORG, other)) == 2


async def test_a_ring_is_heard(hot: Hot) -> None:
    """Whoever listens hears session and version of a commit."""
    session_id, heard = new_id("sess"), asyncio.Event()

    async def listen() -> None:
        async for rung, version in hot.rings():
            if (rung, version) == (session_id, 5):
                heard.set()

    listening = asyncio.create_task(listen())

    async def rung() -> bool:
        await hot.ring([Committed(ORG, session_id, 5, 0)])
        return heard.is_set()

    try:
        await wait_until(rung, "the ring")
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_large_documents_are_left_to_postgres(hot: Hot) -> None:
    """A snapshot over the limit is not kept: it would push everything else out."""
    session_id = new_id("sess")
    await hot.put(ORG, view(session_id, 1, "x" * DOCUMENT_MAX_BYTES))
    assert await hot.get(ORG, session_id) is None


@pytest.mark.parametrize("gone", [None, "redis://127.0.0.1:9/0"])
async def test_without_redis_nothing_raises(gone: str | None) -> None:
    """No Redis, or one that does not answer: reads find nothing, writes do nothing, ping says why."""
    hot = Hot(gone)
    session_id = new_id("sess")
    await hot.put(ORG, view(session_id, 1))
    await hot.delta(ORG, session_id, 1, 1, "x")
    await hot.ring([Committed(ORG, session_id, 1, 0)])
    assert await hot.get(ORG, session_id) is None
    assert "Postgres alone" in (await hot.ping() or "")
    await hot.close()
