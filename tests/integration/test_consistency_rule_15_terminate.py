"""Sessions that Temporal ended without us: the reconciler writes their end, and only theirs."""

import asyncio

from temporalio.client import Client

from activities.tools.base import Call, NotExecuted
from conductor_ai.contracts.status import CallState, Status, StopReason
from conductor_ai.contracts.tools import Facts, ToolResult
from tests.fixtures_servers import wait_until
from tests.gates import Held
from tests.rig import ORG, Rig, answer, calls, rig
from tests.tools import FakeTool, Say

FETCH = calls(("web_fetch", {"text": "x"}))
WRITES = Facts(writes=True)


async def mended(r: Rig, session_id: str) -> None:
    """Let the reconciler look until the session has its end."""

    async def ended() -> bool:
        await r.parts.reconciler.round()
        return (await r.view(session_id)).status.ended

    await wait_until(ended, "the reconciler")


async def test_during_a_model_call(temporal: Client, store_url: str, task_queue: str) -> None:
    """Terminated while the model thinks: failed with `terminated`; the late answer is paid for and changes nothing else."""
    provider = Held([FETCH, answer("late")], at=2)
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[FakeTool()]) as r:
        session_id = await r.start()
        await asyncio.wait_for(provider.asked.wait(), 20)
        await r.handle(session_id).terminate("a test")
        await mended(r, session_id)
        provider.go_on.set()

        async def paid() -> bool:
            return (await r.view(session_id)).input_tokens == 150

        await wait_until(paid, "the usage of the late answer")
        view = await r.view(session_id)
    assert view.error is not None
    assert (view.status, view.stop_reason, view.error.code) == (Status.FAILED, StopReason.ERROR, "terminated")
    assert (len(view.steps), view.final_answer) == (1, None)


async def test_while_a_call_waits(temporal: Client, store_url: str, task_queue: str) -> None:
    """Terminated while people are asked: the approval is closed, and nobody can approve it any more."""
    tool = FakeTool("sql_query")
    replies = [calls(("sql_query", {"text": "select 1"}))]
    async with rig(temporal, store_url, task_queue, replies=replies, tools=[tool]) as r:
        session_id = await r.start()
        [approval] = await r.pending(session_id)
        await r.handle(session_id).terminate("a test")
        await mended(r, session_id)
        view, closed = await r.view(session_id), await r.snapshots.approval(ORG, approval.id)
    assert closed is not None
    assert (closed.status, view.pending_approvals) == ("cancelled", ())
    assert view.steps[0].actions[0].status is CallState.ABANDONED
    assert tool.runs == []


async def test_while_a_write_runs(temporal: Client, store_url: str, task_queue: str) -> None:
    """Terminated in the middle of a write: unknown at first, then what the ledger says."""

    async def forever(_arguments: Say, _call: object) -> ToolResult:
        await asyncio.Event().wait()
        raise AssertionError

    tool = FakeTool("web_fetch", forever, facts=WRITES)
    async with rig(temporal, store_url, task_queue, replies=[FETCH], tools=[tool]) as r:
        session_id = await r.start()
        await asyncio.wait_for(tool.begun.wait(), 20)
        await r.handle(session_id).terminate("a test")
        await mended(r, session_id)
        await r.parts.reconciler.round()
        unknown = (await r.view(session_id)).steps[0].actions[0]
        tool._found = ToolResult(ok=True, content="it was committed")
        await r.parts.reconciler.round()
        known = (await r.view(session_id)).steps[0].actions[0]
    assert (unknown.status, known.status) == (CallState.OUTCOME_UNKNOWN, CallState.SUCCEEDED)
    assert known.observation == "it was committed"
    assert len(tool.runs) == 1


async def test_one_sessions_trouble_is_its_own(temporal: Client, store_url: str, task_queue: str) -> None:
    """A tool whose ledger cannot be asked, because of a mistake in it, does not keep the reconciler from other sessions."""

    async def forever(_arguments: Say, _call: object) -> ToolResult:
        await asyncio.Event().wait()
        raise AssertionError

    class Broken(FakeTool):
        async def outcome(self, called: Call, /) -> ToolResult | NotExecuted | None:
            if called.session_id == first:
                raise RuntimeError("a mistake")
            return ToolResult(ok=True, content="found")

    first, tool = "", Broken("web_fetch", forever, facts=WRITES)
    async with rig(temporal, store_url, task_queue, replies=[FETCH, FETCH], tools=[tool]) as r:
        ids = []
        for number in (1, 2):
            ids.append(await r.start())
            first = ids[0]

            async def begun(number: int = number) -> bool:
                return len(tool.runs) == number

            await wait_until(begun, "the tool")
            await r.handle(ids[-1]).terminate("a test")
        for session_id in ids:
            await mended(r, session_id)
        await r.parts.reconciler.round()
        states = [(await r.view(session_id)).steps[0].actions[0].status for session_id in ids]
    assert states == [CallState.OUTCOME_UNKNOWN, CallState.SUCCEEDED]


async def test_continue_as_new_is_no_end(temporal: Client, store_url: str, task_queue: str) -> None:
    """The old run says CONTINUED_AS_NEW: a session in its second run is left alone by the reconciler."""
    replies = [FETCH, FETCH, FETCH, answer("end")]
    provider = Held(replies, at=4)
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[FakeTool()]) as r:
        session_id = await r.start(continue_as_new_steps=1)
        first = await r.engine.current_run(session_id)
        await asyncio.wait_for(provider.asked.wait(), 30)
        assert await r.engine.current_run(session_id) != first

        async def looked() -> bool:
            await r.parts.reconciler.round()
            sql = "SELECT reconciled_at IS NOT NULL FROM conductor.sessions WHERE id = $1"
            async with r.parts.database.connection() as connection:
                return bool(await connection.fetchval(sql, session_id))

        await wait_until(looked, "the reconciler to look at it")
        assert (await r.view(session_id)).status is Status.RUNNING
        provider.go_on.set()
        view = await r.ended(session_id)
    assert view.status is Status.COMPLETED
