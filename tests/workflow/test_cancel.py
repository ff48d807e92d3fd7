"""Cancels that natural code loses: swallowed by an activity, met by an eviction, or racing the deadline."""

import ast
import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowExecutionStatus

import workflows
from activities.tools.base import Call, NotExecuted
from conductor_ai import names
from conductor_ai.contracts.session import FinishInput, FinishOutcome
from conductor_ai.contracts.status import CallState, Status, StopReason
from conductor_ai.contracts.tools import Facts, ToolResult
from conductor_ai.stores.sessions import CancelVerdict
from tests.fixtures_servers import wait_until
from tests.gates import Held, assert_agrees, ends_by_finish, temporal_status
from tests.rig import ORG, Rig, answer, calls, rig
from tests.tools import FakeTool, Say

FETCH = calls(("web_fetch", {"text": "x"}))


async def swallows(_arguments: Say, _call: Call) -> ToolResult:
    """Ends normally when it is cancelled, as an activity does that learns of a cancel too late."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return ToolResult(ok=True, content="done all the same")
    raise AssertionError


async def cancel(r: Rig, session_id: str) -> None:
    """As the API does."""
    assert await r.sessions.request_cancel(ORG, session_id, None) is CancelVerdict.ACCEPTED
    await r.engine.cancel(session_id)


async def test_a_swallowed_cancel_is_not_lost(temporal: Client, store_url: str, task_queue: str) -> None:
    """The tool returns a result in spite of the cancel: the loop must not run on to `completed`, nor ask a model again.

    Asked of Temporal alone, so that only the workflow's own guard can know of it.
    """
    tool = FakeTool("web_fetch", swallows)
    provider = Held([FETCH, answer("went on")], at=9)
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[tool]) as r:
        session_id = await r.start()
        await asyncio.wait_for(tool.begun.wait(), 20)
        await r.engine.cancel(session_id)
        view = await r.ended(session_id)
        await assert_agrees(r, session_id)
    assert view.status is Status.CANCELLED
    assert view.steps[0].actions[0].observation == "done all the same"
    assert len(provider.requests) == 1


async def test_a_cancel_during_a_model_call(temporal: Client, store_url: str, task_queue: str) -> None:
    """The workflow does not wait for the model's answer: the call is cut off, and then the session is closed."""
    provider = Held([FETCH], at=1)
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[FakeTool()]) as r:
        session_id = await r.start()
        await asyncio.wait_for(provider.asked.wait(), 20)
        await cancel(r, session_id)
        view = await r.ended(session_id, seconds=5)
        await assert_agrees(r, session_id)
    assert (view.status, view.steps) == (Status.CANCELLED, ())


async def test_a_cancel_while_people_are_asked(temporal: Client, store_url: str, task_queue: str) -> None:
    """A call that waits beside one that runs: both end, the approval is closed, and nothing runs afterwards."""
    ask, run = FakeTool("sql_query"), FakeTool("web_fetch", swallows)
    both = calls(("sql_query", {"text": "q"}), ("web_fetch", {"text": "x"}))
    async with rig(temporal, store_url, task_queue, replies=[both], tools=[ask, run]) as r:
        session_id = await r.start()
        [approval] = await r.pending(session_id)
        await asyncio.wait_for(run.begun.wait(), 20)
        await cancel(r, session_id)
        view = await r.ended(session_id)
        await assert_agrees(r, session_id)
        closed = await r.snapshots.approval(ORG, approval.id)
    assert closed is not None
    assert closed.status == "cancelled"
    assert [a.status for a in view.steps[0].actions] == [CallState.ABANDONED, CallState.SUCCEEDED]
    assert ask.runs == []


async def test_a_cancelled_session_asks_nobody(temporal: Client, store_url: str, task_queue: str) -> None:
    """A session that was cancelled while a call waited is not found among those that wait, and its page asks for nothing."""
    ask = calls(("sql_query", {"text": "q"}))
    async with rig(temporal, store_url, task_queue, replies=[ask], tools=[FakeTool("sql_query")]) as r:
        session_id = await r.start()
        await r.pending(session_id)
        handle = temporal.get_workflow_handle(session_id)
        assert (await handle.describe()).typed_search_attributes.get(names.NEEDS_APPROVAL) is True
        await cancel(r, session_id)
        await r.ended(session_id)
        await assert_agrees(r, session_id)
        described = await handle.describe()
        shown = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    assert described.typed_search_attributes.get(names.STATUS) == "cancelled"
    assert described.typed_search_attributes.get(names.NEEDS_APPROVAL) is False
    assert "**cancelled**" in shown.current_details
    assert "decision" not in shown.current_details


async def test_what_a_cancelled_write_did_is_found_out(temporal: Client, store_url: str, task_queue: str) -> None:
    """A write that was cut off by the cancel: `finish` asks its ledger, and the session shows what it says."""

    async def forever(_arguments: Say, _call: Call) -> ToolResult:
        await asyncio.Event().wait()
        raise AssertionError

    committed = ToolResult(ok=True, content="1 row")
    tool = FakeTool("web_fetch", forever, facts=Facts(writes=True), found=committed)
    async with rig(temporal, store_url, task_queue, replies=[FETCH], tools=[tool]) as r:
        session_id = await r.start()
        await asyncio.wait_for(tool.begun.wait(), 20)
        await cancel(r, session_id)
        view = await r.ended(session_id)
    assert tool.cancelled.is_set()
    assert (view.status, view.steps[0].actions[0].status) == (Status.CANCELLED, CallState.SUCCEEDED)


async def test_a_ledger_that_cannot_be_asked(temporal: Client, store_url: str, task_queue: str) -> None:
    """A mistake in a tool's look-up must not keep the workflow open: `finish` would be retried for ever."""

    async def forever(_arguments: Say, _call: Call) -> ToolResult:
        await asyncio.Event().wait()
        raise AssertionError

    class Broken(FakeTool):
        async def outcome(self, _call: Call, /) -> ToolResult | NotExecuted | None:
            raise RuntimeError("a mistake")

    tool = Broken("web_fetch", forever, facts=Facts(writes=True))
    async with rig(temporal, store_url, task_queue, replies=[FETCH], tools=[tool]) as r:
        session_id = await r.start()
        await asyncio.wait_for(tool.begun.wait(), 20)
        await cancel(r, session_id)
        view = await r.ended(session_id)
        await assert_agrees(r, session_id)
    assert view.steps[0].actions[0].status is CallState.OUTCOME_UNKNOWN


async def test_two_cancels_and_a_failing_finish(
    temporal: Client, store_url: str, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end is written although its first attempt fails and another cancel arrives in the middle of the second."""
    ends_by_finish(monkeypatch)
    attempts: list[FinishInput] = []
    again, go_on = asyncio.Event(), asyncio.Event()
    provider = Held([answer()], at=1)
    async with rig(temporal, store_url, task_queue, provider=provider) as r:
        finish = r.parts.snapshot._ending.finish

        async def hooked(request: FinishInput, run_id: str) -> tuple[FinishOutcome, bool]:
            attempts.append(request)
            if len(attempts) == 1:
                raise ConnectionResetError("the store went away")
            again.set()
            await go_on.wait()
            return await finish(request, run_id)

        r.parts.snapshot._ending.finish = hooked  # type: ignore[method-assign]
        session_id = await r.start()
        await asyncio.wait_for(provider.asked.wait(), 20)
        provider.go_on.set()
        await asyncio.wait_for(again.wait(), 20)
        await cancel(r, session_id)
        go_on.set()
        view = await r.ended(session_id)
        await assert_agrees(r, session_id)
    assert view.status is Status.CANCELLED
    assert len(attempts) >= 3


def test_no_finally_and_no_bare_except_in_workflows() -> None:
    """An eviction runs `finally` and `except BaseException` of a workflow that lives on: there are none with awaits."""
    for path in Path(workflows.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Try):
                assert not node.finalbody, path
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                assert caught not in ("everything", "BaseException", "Exception"), path


async def test_an_eviction_ends_nothing(temporal: Client, store_url: str, task_queue: str) -> None:
    """A waiting session is evicted, and its worker stops: nothing is written, Temporal says RUNNING, the next one goes on."""
    tool = FakeTool("sql_query")
    replies = [calls(("sql_query", {"text": "select 1"})) for _ in range(2)]
    async with rig(temporal, store_url, task_queue, replies=replies, tools=[tool], max_cached_workflows=1) as r:
        session_id = await r.start()
        await r.pending(session_id)
        before = await r.view(session_id)
        other = await r.start()  # takes the only place in the cache
        await r.pending(other)
        assert await r.view(session_id) == before
    async with rig(temporal, store_url, task_queue, replies=[answer()], tools=[tool]) as r:
        assert await temporal_status(r, session_id) is WorkflowExecutionStatus.RUNNING
        [approval] = await r.pending(session_id)
        await r.decide(approval, "approve")
        view = await r.ended(session_id)
    assert view.status is Status.COMPLETED


class TestDeadline:
    """The deadline is a timer in the workflow: it ends whatever is pending, and a cancel wins over it."""

    @pytest.mark.parametrize("pending", ["model", "tool", "swallowing tool", "approval"])
    async def test_while_pending(self, temporal: Client, store_url: str, task_queue: str, pending: str) -> None:
        """A model, a tool, a tool that ends normally, an approval: failed with `deadline`, steps kept, nothing open."""

        async def forever(_arguments: Say, _call: Call) -> ToolResult:
            await asyncio.Event().wait()
            raise AssertionError

        name = "sql_query" if pending == "approval" else "web_fetch"
        tool = FakeTool(name, swallows if pending == "swallowing tool" else forever)
        provider = Held([calls((name, {"text": "x"})), answer()], at=1 if pending == "model" else 9)
        async with rig(temporal, store_url, task_queue, provider=provider, tools=[tool]) as r:
            session_id = await r.start(deadline_seconds=1.0)
            view = await r.ended(session_id)
            await assert_agrees(r, session_id)
        assert view.error is not None
        assert (view.status, view.stop_reason, view.error.code) == (Status.FAILED, StopReason.DEADLINE, "deadline")
        assert view.pending_approvals == ()
        assert len(provider.requests) == 1
        assert tool.cancelled.is_set() == (pending == "tool")

    async def test_a_cancel_before_the_deadline_is_handled(
        self, temporal: Client, store_url: str, task_queue: str
    ) -> None:
        """Both come while no worker is there, and the workflow learns of both at once: an accepted cancel is a cancel."""
        tool = FakeTool("sql_query")
        replies = [calls(("sql_query", {"text": "select 1"}))]
        async with rig(temporal, store_url, task_queue, replies=replies, tools=[tool]) as r:
            session_id = await r.start(deadline_seconds=2.0)
            await r.pending(session_id)
            deadline = (await r.view(session_id)).times.deadline_at
        assert deadline is not None

        async def past() -> bool:
            return datetime.now(UTC) > deadline

        async with rig(temporal, store_url, task_queue, tools=[tool], run=False) as idle:
            await cancel(idle, session_id)
            await wait_until(past, "the deadline")
        async with rig(temporal, store_url, task_queue, tools=[tool]) as r:
            view = await r.ended(session_id)
            await assert_agrees(r, session_id)
        assert (view.status, view.stop_reason) == (Status.CANCELLED, StopReason.CANCELLED)

    async def test_a_deadline_that_has_passed(
        self, temporal: Client, store_url: str, task_queue: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A session whose deadline passed before a worker came pays for nothing, and nothing is logged as an error."""
        provider = Held([answer()], at=9)
        async with rig(temporal, store_url, task_queue, provider=provider) as r:
            view = await r.ended(await r.start(deadline_seconds=-1))
        assert view.stop_reason is StopReason.DEADLINE
        assert provider.requests == []
        assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
