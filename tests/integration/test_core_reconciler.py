"""The reconciler goes on: no session and no fault of one keeps it from the others."""

import asyncio
from typing import Any

import pytest
from temporalio.client import Client

from conductor_ai.contracts.session import SessionInput
from conductor_ai.contracts.status import Status
from conductor_ai.errors import Unavailable
from conductor_ai.names import new_id
from conductor_ai.stores.sessions import IdempotencyKey, Message, NewSession
from tests.fixtures_servers import wait_until
from tests.places import ORG, Place
from tests.rig import rig


async def abandoned(place: Place) -> str:
    """A session that was asked for an hour ago and never started."""
    session_id = await place.session()
    async with place.database.connection() as connection:
        await connection.execute(
            "UPDATE conductor.sessions SET updated_at = updated_at - interval '1 hour' WHERE id = $1", session_id
        )
    return session_id


async def broken(place: Place) -> str:
    """One whose input another version wrote: it cannot be read here."""
    session_id = await abandoned(place)
    async with place.database.connection() as connection:
        await connection.execute(
            "UPDATE conductor.sessions SET keyed = true, input = '{\"v\": 2}' WHERE id = $1", session_id
        )
    return session_id


async def status(place: Place, session_id: str) -> str:
    """Its status, as the row has it."""
    return str(await place.value("SELECT status FROM conductor.sessions WHERE id = $1", session_id))


async def test_a_session_that_cannot_be_read_stops_nobody(temporal: Client, store_url: str, task_queue: str) -> None:
    """Its input is of another version: it is left alone, and the session after it is mended in the same round."""
    async with rig(temporal, store_url, task_queue, run=False, reconcile_seconds=60) as r:
        place = Place(r.parts.database)
        before, poison, after = await abandoned(place), await broken(place), await abandoned(place)
        await r.parts.reconciler.round()
        assert [await status(place, s) for s in (before, poison, after)] == ["failed", "pending", "failed"]


async def test_a_session_that_temporal_refuses_stops_nobody(
    temporal: Client, store_url: str, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporal cannot tell about one session, again and again: the others are looked at all the same."""
    async with rig(temporal, store_url, task_queue, run=False, reconcile_seconds=60) as r:
        place = Place(r.parts.database)
        sessions = [await abandoned(place) for _ in range(3)]
        engine = r.parts.reconciler._engine
        state = engine.state

        async def refused(session_id: str) -> Any:
            if session_id == sessions[1]:
                raise Unavailable("Temporal does not answer.")
            return await state(session_id)

        monkeypatch.setattr(engine, "state", refused)
        await r.parts.reconciler.round()
        assert [await status(place, s) for s in sessions] == ["failed", "pending", "failed"]


async def test_with_temporal_away_a_round_is_short(
    temporal: Client, store_url: str, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every question takes its time-out while Temporal is away: after a few the round is over."""
    asked: list[str] = []
    async with rig(temporal, store_url, task_queue, run=False, reconcile_seconds=60) as r:
        place = Place(r.parts.database)
        for _ in range(10):
            await abandoned(place)

        async def away(session_id: str) -> Any:
            asked.append(session_id)
            raise Unavailable("Temporal does not answer.")

        monkeypatch.setattr(r.parts.reconciler._engine, "state", away)
        with pytest.raises(Unavailable):
            await r.parts.reconciler.round()
    assert len(asked) == 3


async def test_a_fault_does_not_end_it(temporal: Client, store_url: str, task_queue: str) -> None:
    """Whatever a round meets, there is a next one: nobody watches this task."""
    async with rig(temporal, store_url, task_queue, reconcile_seconds=0.05) as r:
        rounds = 0

        async def fails() -> int:
            nonlocal rounds
            rounds += 1
            raise KeyError("a mistake")

        r.parts.reconciler.round = fails  # type: ignore[method-assign]
        running = asyncio.create_task(r.parts.reconciler.run())

        async def twice() -> bool:
            return rounds >= 2

        try:
            await wait_until(twice, "a second round")
        finally:
            running.cancel()


async def test_old_idempotency_keys_are_forgotten(temporal: Client, store_url: str, task_queue: str) -> None:
    """A key counts for 24 hours; its row does not stay for ever."""
    async with rig(temporal, store_url, task_queue, run=False, reconcile_seconds=60) as r:
        place = Place(r.parts.database)
        key = IdempotencyKey("POST /v1/agents/run", new_id("key"), "0" * 64)
        given = SessionInput(session_id=new_id("sess"), org_id=ORG, model="demo", tools=(), max_steps=1)
        await place.sessions.create(NewSession(given, (Message("user", "Do it."),)), key)
        session_id = given.session_id
        count = "SELECT count(*) FROM conductor.idempotency WHERE session_id = $1"
        await r.parts.reconciler.round()
        assert await place.value(count, session_id) == 1
        async with place.database.connection() as connection:
            await connection.execute(
                "UPDATE conductor.idempotency SET created_at = created_at - interval '25 hours' WHERE session_id = $1",
                session_id,
            )
        await r.parts.reconciler.round()
        assert await place.value(count, session_id) == 0
        assert (await place.view(session_id)).status is Status.PENDING
