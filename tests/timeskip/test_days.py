"""What takes days: approvals that nobody decides, and deadlines, in milliseconds."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from conductor_ai.contracts.models import ResultTurn
from conductor_ai.contracts.status import CallState, Status, StopReason
from conductor_ai.testing import ScriptedProvider
from tests.rig import ORG, Rig, answer, calls, rig
from tests.tools import FakeTool

QUERY = calls(("sql_query", {"text": "select 1"}))
DAY = 86_400


async def end_of(environment: WorkflowEnvironment, r: Rig, session_id: str) -> Any:
    """Let time skip until the session's workflow has ended. Returns its result.

    Raises:
        WorkflowFailureError: it failed.
    """
    async with environment.time_skipping_unlocked():  # type: ignore[attr-defined] # of the time-skipping kind only
        return await r.handle(session_id).result()


async def after(environment: WorkflowEnvironment, *, days: float) -> datetime:
    """That long after the server's present, which is not ours."""
    return await environment.get_current_time() + timedelta(days=days)


def told(r: Rig) -> str:
    """What the model was told last."""
    assert isinstance(r.provider, ScriptedProvider)
    turn = r.provider.requests[-1].turns[-1]
    assert isinstance(turn, ResultTurn)
    return turn.text


async def test_nobody_decides_for_a_day(skipping: WorkflowEnvironment, store_url: str, task_queue: str) -> None:
    """After 24 h the call expires: it does not run, the model is told that this is no denial, and the session goes on."""
    tool = FakeTool("sql_query")
    async with rig(skipping.client, store_url, task_queue, replies=[QUERY, answer("went on")], tools=[tool]) as r:
        session_id = await r.start()
        [approval] = await r.pending(session_id)
        result = await end_of(skipping, r, session_id)
        view = await r.view(session_id)
        closed = await r.snapshots.approval(ORG, approval.id)
        said = told(r)
    assert result["status"] == "completed"
    assert (view.status, view.final_answer) == (Status.COMPLETED, "went on")
    assert closed is not None
    assert (closed.status, closed.decisions) == ("expired", ())
    assert view.times.deadline_at is None
    assert view.steps[0].actions[0].status is CallState.EXPIRED
    assert "Nobody decided" in said
    assert "not a denial" in said
    assert tool.runs == []


async def test_denied_reads_otherwise(skipping: WorkflowEnvironment, store_url: str, task_queue: str) -> None:
    """The counterpart: a person who says no is told as one, so that the model can tell the two apart."""
    async with rig(
        skipping.client, store_url, task_queue, replies=[QUERY, answer()], tools=[FakeTool("sql_query")]
    ) as r:
        session_id = await r.start()
        [approval] = await r.pending(session_id)
        await r.decide(approval, "deny", comment="Not on a Friday.")
        await end_of(skipping, r, session_id)
        said = told(r)
    assert "A person looked at this call and denied it" in said
    assert "Not on a Friday." in said
    assert "Nobody decided" not in said


async def test_two_calls_expire_at_once(skipping: WorkflowEnvironment, store_url: str, task_queue: str) -> None:
    """Two timers of the same moment: both calls are recorded as expired, and the session goes on once."""
    both = calls(("sql_query", {"text": "a"}), ("sql_query", {"text": "b"}))
    async with rig(
        skipping.client, store_url, task_queue, replies=[both, answer()], tools=[FakeTool("sql_query")]
    ) as r:
        session_id = await r.start()
        await r.pending(session_id, 2)
        await end_of(skipping, r, session_id)
        view = await r.view(session_id)
    assert [action.status for action in view.steps[0].actions] == [CallState.EXPIRED] * 2
    assert len(view.steps) == 2


async def test_a_deadline_of_three_days(skipping: WorkflowEnvironment, store_url: str, task_queue: str) -> None:
    """A call may wait for a week, but the session for three days: it fails with `deadline` and its approval is closed."""
    async with rig(skipping.client, store_url, task_queue, replies=[QUERY], tools=[FakeTool("sql_query")]) as r:
        session_id = await r.start(deadline_at=await after(skipping, days=3), approval_ttl_seconds=7 * DAY)
        [approval] = await r.pending(session_id)
        with pytest.raises(WorkflowFailureError):
            await end_of(skipping, r, session_id)
        view = await r.view(session_id)
        closed = await r.snapshots.approval(ORG, approval.id)
    assert (view.status, view.stop_reason) == (Status.FAILED, StopReason.DEADLINE)
    assert closed is not None
    assert closed.status == "cancelled"


async def test_a_deadline_over_several_expiries(skipping: WorkflowEnvironment, store_url: str, task_queue: str) -> None:
    """Question after question expires after a day; on the third day the deadline ends it, in whichever run it is."""
    replies = [QUERY, QUERY, QUERY, QUERY]
    async with rig(skipping.client, store_url, task_queue, replies=replies, tools=[FakeTool("sql_query")]) as r:
        session_id = await r.start(deadline_at=await after(skipping, days=2.5), continue_as_new_steps=1)
        with pytest.raises(WorkflowFailureError):
            await end_of(skipping, r, session_id)
        view = await r.view(session_id)
    assert view.stop_reason is StopReason.DEADLINE
    states = [step.actions[0].status for step in view.steps]
    assert states == [CallState.EXPIRED, CallState.EXPIRED, CallState.ABANDONED]
