"""What takes days: approvals that nobody decides, and deadlines, in milliseconds."""

from datetime import timedelta

import pytest
from temporalio.client import Client, WorkflowFailureError

from conductor_ai.contracts.models import ResultTurn
from conductor_ai.contracts.status import CallState, Status, StopReason
from conductor_ai.testing import ScriptedProvider
from tests.rig import ORG, Rig, answer, calls, rig
from tests.tools import FakeTool

QUERY = calls(("sql_query", {"text": "select 1"}))
DAY = 86_400


def told(r: Rig) -> str:
    """What the model was told last."""
    assert isinstance(r.provider, ScriptedProvider)
    turn = r.provider.requests[-1].turns[-1]
    assert isinstance(turn, ResultTurn)
    return turn.text


async def test_nobody_decides_for_a_day(skipping: Client, store_url: str, task_queue: str) -> None:
    """After 24 h the call expires: it does not run, the model is told that this is no denial, and the session goes on."""
    tool = FakeTool("sql_query")
    async with rig(skipping, store_url, task_queue, replies=[QUERY, answer("went on")], tools=[tool]) as r:
        session_id = await r.start()
        [approval] = await r.pending(session_id)
        result = await r.handle(session_id).result()
        view = await r.view(session_id)
        closed = await r.snapshots.approval(ORG, approval.id)
        said = told(r)
    assert result["status"] == "completed"
    assert (view.status, view.final_answer) == (Status.COMPLETED, "went on")
    assert closed is not None
    assert (closed.status, closed.decisions) == ("expired", ())
    assert closed.expires_at - closed.requested_at > timedelta(hours=23)
    assert view.steps[0].actions[0].status is CallState.EXPIRED
    assert "Nobody decided" in said
    assert "not a denial" in said
    assert tool.runs == []


async def test_denied_reads_otherwise(skipping: Client, store_url: str, task_queue: str) -> None:
    """The counterpart: a person who says no is told as one, so that the model can tell the two apart."""
    async with rig(skipping, store_url, task_queue, replies=[QUERY, answer()], tools=[FakeTool("sql_query")]) as r:
        session_id = await r.start()
        [approval] = await r.pending(session_id)
        await r.decide(approval, "deny", comment="Not on a Friday.")
        await r.handle(session_id).result()
        said = told(r)
    assert "A person looked at this call and denied it" in said
    assert "Not on a Friday." in said
    assert "Nobody decided" not in said


async def test_two_calls_expire_at_once(skipping: Client, store_url: str, task_queue: str) -> None:
    """Two timers of the same moment: both calls are recorded as expired, and the session goes on once."""
    both = calls(("sql_query", {"text": "a"}), ("sql_query", {"text": "b"}))
    async with rig(skipping, store_url, task_queue, replies=[both, answer()], tools=[FakeTool("sql_query")]) as r:
        session_id = await r.start()
        await r.pending(session_id, 2)
        await r.handle(session_id).result()
        view = await r.view(session_id)
    assert [action.status for action in view.steps[0].actions] == [CallState.EXPIRED] * 2
    assert len(view.steps) == 2


async def test_a_deadline_of_three_days(skipping: Client, store_url: str, task_queue: str) -> None:
    """A call may wait for a week, but the session for three days: it fails with `deadline` and its approval is closed."""
    async with rig(skipping, store_url, task_queue, replies=[QUERY], tools=[FakeTool("sql_query")]) as r:
        session_id = await r.start(deadline_seconds=3 * DAY, approval_ttl_seconds=7 * DAY)
        [approval] = await r.pending(session_id)
        with pytest.raises(WorkflowFailureError):
            await r.handle(session_id).result()
        view = await r.view(session_id)
        closed = await r.snapshots.approval(ORG, approval.id)
    assert (view.status, view.stop_reason) == (Status.FAILED, StopReason.DEADLINE)
    assert closed is not None
    assert closed.status == "cancelled"


async def test_a_deadline_over_several_expiries(skipping: Client, store_url: str, task_queue: str) -> None:
    """Question after question expires after a day; on the third day the deadline ends it, in whichever run it is."""
    replies = [QUERY, QUERY, QUERY, QUERY]
    async with rig(skipping, store_url, task_queue, replies=replies, tools=[FakeTool("sql_query")]) as r:
        session_id = await r.start(deadline_seconds=2.5 * DAY, continue_as_new_steps=1)
        with pytest.raises(WorkflowFailureError):
            await r.handle(session_id).result()
        view = await r.view(session_id)
    assert view.stop_reason is StopReason.DEADLINE
    states = [step.actions[0].status for step in view.steps]
    assert states == [CallState.EXPIRED, CallState.EXPIRED, CallState.ABANDONED]
