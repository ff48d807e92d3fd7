"""Start: the row first, with a random id; Temporal while it is `starting`; what stays in between is mended or abandoned."""

import asyncio
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from conductor_ai.contracts.session import SessionInput
from conductor_ai.contracts.status import Status, StopReason
from conductor_ai.errors import InvalidRequest
from conductor_ai.names import new_id
from conductor_ai.stores.ending import End
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.sessions import IdempotencyKey, Message, NewSession
from conductor_ai.testing import ScriptedProvider
from tests.fixtures_servers import wait_until
from tests.places import ORG, Place
from tests.rig import Rig, answer, rig


def new(session_id: str | None = None) -> NewSession:
    """A session as a request asks for it: each with a fresh random id."""
    given: dict[str, Any] = {"session_id": session_id or new_id("sess"), "org_id": ORG, "model": "demo", "tools": ()}
    return NewSession(SessionInput.model_validate({**given, "max_steps": 3}), (Message("user", "Do it."),), title="T")


def key(body: str = "a") -> IdempotencyKey:
    """The caller's key."""
    return IdempotencyKey("POST /v1/agents/run", "the key", body)


async def reconciled(r: Rig, session_id: str, start_state: str) -> None:
    """Let the reconciler look until the start is decided."""

    async def decided() -> bool:
        await r.parts.reconciler.round()
        sql = "SELECT start_state FROM conductor.sessions WHERE id = $1"
        async with r.parts.database.connection() as connection:
            return bool(await connection.fetchval(sql, session_id) == start_state)

    await wait_until(decided, f"the start state {start_state}")


async def test_the_same_key_at_once_makes_one_session(database: Database) -> None:
    """Ten requests with one key at the same time: one session, and all of them get its id; another body is refused."""
    place = Place(database)
    started = await asyncio.gather(*(place.sessions.create(new(), key()) for _ in range(10)))
    assert len({item.session_id for item in started}) == 1
    assert sorted(item.replayed for item in started) == [False] + [True] * 9
    with pytest.raises(InvalidRequest):
        await place.sessions.create(new(), key("another body"))
    assert await place.value("SELECT count(*) FROM conductor.sessions WHERE id = $1", started[0].session_id) == 1


async def test_starting_twice_is_one_run(temporal: Client, store_url: str, task_queue: str) -> None:
    """A repeated start finds the running workflow, and after the end the closed one: it never runs again."""
    provider = ScriptedProvider([answer()])
    async with rig(temporal, store_url, task_queue, provider=provider) as r:
        source = new().input
        await r.sessions.create(NewSession(source, (Message("user", "x"),)), None)
        await asyncio.gather(*(r.engine.start(source) for _ in range(4)))
        await r.ended(source.session_id)
        await r.engine.start(source)
        view = await r.ended(source.session_id)
    assert view.status is Status.COMPLETED
    assert len(provider.requests) == 1


async def test_a_keyed_start_is_made_up_for(temporal: Client, store_url: str, task_queue: str) -> None:
    """Temporal was away when it was asked for, and the caller has a key: the reconciler starts it, from the row."""
    # Enough for the keyed sessions that other tests of this module leave behind: the reconciler starts those as well.
    async with rig(temporal, store_url, task_queue, replies=[answer("late, but here")] * 5) as r:
        started = await r.sessions.create(new(), IdempotencyKey("route", new_id("key"), "a"))
        assert await r.engine.state(started.session_id) is None
        await reconciled(r, started.session_id, "started")
        view = await r.ended(started.session_id)
    assert view.final_answer == "late, but here"


async def test_a_start_without_a_key_is_abandoned(temporal: Client, store_url: str, task_queue: str) -> None:
    """Nobody can ask again for a session without a key: it fails with `abandoned`. Its late start ends at its claim."""
    async with rig(temporal, store_url, task_queue, replies=[answer("never")]) as r:
        started = await r.sessions.create(new(), None)
        session_id = started.session_id
        await reconciled(r, session_id, "abandoned")
        before = await r.view(session_id)
        await r.engine.start(started.input)  # the request that was thought lost arrives after all

        async def closed() -> bool:
            state = await r.engine.state(session_id)
            return state is not None and state[1] is WorkflowExecutionStatus.FAILED

        await wait_until(closed, "the late start to end")
        after = await r.view(session_id)
    assert before.error is not None
    assert (before.status, before.error.code, before.error.retryable) == (Status.FAILED, "abandoned", True)
    assert after == before
    assert after.input_tokens == 0


async def test_a_cancelled_start_is_not_made_up_for(temporal: Client, store_url: str, task_queue: str) -> None:
    """Keyed, but cancelled before it was ever started: it ends as cancelled, and a late start closes CANCELED."""
    async with rig(temporal, store_url, task_queue) as r:
        started = await r.sessions.create(new(), IdempotencyKey("route", new_id("key"), "a"))
        await r.sessions.request_cancel(ORG, started.session_id, None)
        await reconciled(r, started.session_id, "abandoned")
        await r.engine.start(started.input)
        view = await r.ended(started.session_id)
        state = await r.engine.state(started.session_id)
    assert view.status is Status.CANCELLED
    assert state is not None
    assert state[1] is WorkflowExecutionStatus.CANCELED


async def test_an_unclear_start_that_had_worked(temporal: Client, store_url: str, task_queue: str) -> None:
    """Temporal took the start but the answer was lost: the row says `starting`, the reconciler sees that it runs."""
    async with rig(temporal, store_url, task_queue, replies=[answer()], run=False) as r:
        started = await r.sessions.create(new(), None)
        await r.engine.start(started.input)
        await reconciled(r, started.session_id, "started")
        assert (await r.view(started.session_id)).status is Status.PENDING


async def test_a_claim_and_an_abandonment_at_once(database: Database) -> None:
    """The first claim and the abandonment race under the row's lock: exactly one wins, and the other learns it."""
    place = Place(database)
    for _ in range(20):
        session_id = await place.session()
        claim: object
        abandoned: object
        claim, abandoned = await asyncio.gather(
            place.answered(session_id, "run", 1), _abandon(place, session_id), return_exceptions=True
        )
        view = await place.view(session_id)
        if abandoned is None:
            assert not isinstance(claim, BaseException)
            assert view.status is Status.RUNNING
        else:
            assert isinstance(claim, Exception)
            assert (view.status, view.steps) == (Status.FAILED, ())


async def _abandon(place: Place, session_id: str) -> Any:
    return await place.ending.abandon(session_id, End(StopReason.ERROR, "abandoned", "Never started."))
