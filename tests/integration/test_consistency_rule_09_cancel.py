"""Cancel: the flag under the row's lock decides, and whoever sees it later cancels too."""

import asyncio

from temporalio.client import Client

from conductor_ai.contracts.status import CallState, Phase, Status
from conductor_ai.contracts.tools import Facts
from conductor_ai.stores.sessions import CancelVerdict
from tests.fixtures_servers import wait_until
from tests.gates import Held, assert_agrees
from tests.rig import ORG, answer, calls, rig
from tests.tools import FakeTool

FETCH = calls(("web_fetch", {"text": "x"}))


async def test_the_reconciler_tells_temporal(temporal: Client, store_url: str, task_queue: str) -> None:
    """The API died between flag and Temporal: a session that waits for days is cancelled by the next look at it."""
    tool = FakeTool("sql_query")
    replies = [calls(("sql_query", {"text": "select 1"}))]
    async with rig(temporal, store_url, task_queue, replies=replies, tools=[tool]) as r:
        session_id = await r.start()
        await r.pending(session_id)
        assert await r.sessions.request_cancel(ORG, session_id, "enough") is CancelVerdict.ACCEPTED
        assert (await r.view(session_id)).phase is Phase.CANCELLING

        async def over() -> bool:
            await r.parts.reconciler.round()
            return (await r.view(session_id)).status.ended

        await wait_until(over, "the reconciler")
        view = await r.ended(session_id)
        await assert_agrees(r, session_id)
    assert (view.status, view.pending_approvals) == (Status.CANCELLED, ())


async def test_no_model_is_asked_after_the_flag(temporal: Client, store_url: str, task_queue: str) -> None:
    """The flag alone, set while a tool runs: the next model call is not paid, and the session ends cancelled by itself."""
    provider = Held([FETCH, answer("paid for nothing")], at=1)
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[FakeTool(facts=Facts())]) as r:
        session_id = await r.start()
        await asyncio.wait_for(provider.asked.wait(), 20)
        await r.sessions.request_cancel(ORG, session_id, None)
        provider.go_on.set()
        view = await r.ended(session_id)
        await assert_agrees(r, session_id)
    assert view.status is Status.CANCELLED
    assert len(provider.requests) == 1
    assert [action.status for step in view.steps for action in step.actions] == [CallState.ABANDONED]


async def test_finish_tells_temporal(temporal: Client, store_url: str, task_queue: str) -> None:
    """The flag alone, set while the model gives its final answer: `finish` cancels the workflow, and it closes so."""
    provider = Held([answer()], at=1)
    async with rig(temporal, store_url, task_queue, provider=provider) as r:
        session_id = await r.start()
        await asyncio.wait_for(provider.asked.wait(), 20)
        await r.sessions.request_cancel(ORG, session_id, None)
        provider.go_on.set()
        view = await r.ended(session_id)
        await assert_agrees(r, session_id)
    assert (view.status, view.final_answer) == (Status.CANCELLED, None)


async def test_trust_the_row_not_the_call(temporal: Client, store_url: str, task_queue: str) -> None:
    """Temporal answers OK to the cancel of a closed workflow: only the row knows that it came too late."""
    async with rig(temporal, store_url, task_queue, replies=[answer()]) as r:
        session_id = await r.start()
        await r.ended(session_id)
        await r.engine.cancel(session_id)  # no error
        assert await r.sessions.request_cancel(ORG, session_id, None) is CancelVerdict.ENDED
        view = await r.view(session_id)
        await assert_agrees(r, session_id)
    assert view.status is Status.COMPLETED


async def test_cancelled_before_any_worker_came(temporal: Client, store_url: str, task_queue: str) -> None:
    """A cancel before the first workflow task: the run starts cancelled, asks no model, and says so in both places."""
    provider = Held([], at=0)
    async with rig(temporal, store_url, task_queue, provider=provider, run=False) as idle:
        session_id = await idle.start()
        await idle.sessions.request_cancel(ORG, session_id, None)
        await idle.engine.cancel(session_id)
    async with rig(temporal, store_url, task_queue, provider=provider) as r:
        view = await r.ended(session_id)
        await assert_agrees(r, session_id)
    assert view.status is Status.CANCELLED
    assert provider.requests == []
