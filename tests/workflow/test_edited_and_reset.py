"""A session that is reset to before a question about a call that has been edited since: the call as it is now is asked."""

import asyncio
from typing import Any

import pytest
from temporalio.client import Client

from conductor_ai.contracts.decisions import VerdictKind
from conductor_ai.contracts.status import ApprovalStatus, CallState, Status
from tests.fixtures_servers import wait_until
from tests.gates import Held, reset_before
from tests.rig import ORG, Rig, answer, calls, rig
from tests.tools import FakeTool
from tests.workflow.test_asked_again import Changes, the_approval

QUERY = calls(("sql_query", {"text": "select 1"}))
EDITED = {"text": "select 2"}


async def asked_by(r: Rig, session_id: str, run_id: str) -> None:
    """Wait until that run holds the session and waits for a decision itself."""

    async def so() -> bool:
        async with r.parts.database.connection() as connection:
            holder = await connection.fetchval("SELECT run_id FROM conductor.sessions WHERE id = $1", session_id)
        described = await r.handle(session_id).describe()
        return holder == run_id and not described.raw_description.pending_activities

    await wait_until(so, "the new run to ask", 20)


@pytest.mark.parametrize("point", ["prepare_call", "revise_call"])
async def test_the_question_about_the_edited_call_is_open(
    point: str, temporal: Client, store_url: str, task_queue: str
) -> None:
    """Edited, and its new consequence not decided about yet: after the reset the same question stands, and once it is approved
    the edited call runs, once."""
    tool = FakeTool("sql_query")
    async with rig(temporal, store_url, task_queue, replies=[QUERY, answer()], tools=[tool]) as r:
        session_id = await r.start()
        first = await the_approval(r, session_id, round_=1)
        await r.decide(first, "edit", arguments=EDITED)
        second = await the_approval(r, session_id, round_=2)
        await asked_by(r, session_id, await reset_before(r, session_id, point))
        now = await the_approval(r, session_id, round_=2)
        assert (now.id, now.arguments) == (second.id, EDITED)
        assert (await r.decide(now, "approve")).kind is VerdictKind.ACCEPTED
        view = await r.ended(session_id)
        stored = await r.snapshots.approval(ORG, first.id)
    action = view.steps[0].actions[0]
    assert (view.status, action.status, action.arguments) == (Status.COMPLETED, CallState.SUCCEEDED, EDITED)
    assert stored is not None
    assert (stored.status, len(tool.runs)) == (ApprovalStatus.EDITED, 1)


async def test_an_edited_call_that_ran_is_neither_asked_nor_run_again(
    temporal: Client, store_url: str, task_queue: str
) -> None:
    """Edited, approved and done: the reset run finds its result and goes on."""
    tool = FakeTool("sql_query")
    provider = Held([QUERY, answer("lost"), answer("end")], at=2)
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[tool]) as r:
        session_id = await r.start()
        await r.decide(await the_approval(r, session_id, round_=1), "edit", arguments=EDITED)
        await r.decide(await the_approval(r, session_id, round_=2), "approve")
        await asyncio.wait_for(provider.asked.wait(), 20)
        await reset_before(r, session_id, "prepare_call")
        view = await r.ended(session_id)
        provider.go_on.set()
    assert (view.status, view.steps[0].actions[0].status) == (Status.COMPLETED, CallState.SUCCEEDED)
    assert len(tool.runs) == 1


async def test_approved_then_changed_then_edited(temporal: Client, store_url: str, task_queue: str) -> None:
    """Reset to before it was run the first time: the approval of then says nothing about the call of now."""
    tool = FakeTool("sql_query", Changes(1))
    async with rig(temporal, store_url, task_queue, replies=[QUERY, answer()], tools=[tool]) as r:
        session_id = await r.start()
        await r.decide(await the_approval(r, session_id, round_=1), "approve")
        await r.decide(await the_approval(r, session_id, round_=2), "edit", arguments=EDITED)
        third = await the_approval(r, session_id, round_=3)
        await asked_by(r, session_id, await reset_before(r, session_id, "run_tool"))
        now = await the_approval(r, session_id, round_=3)
        assert now.id == third.id
        await r.decide(now, "approve")
        view = await r.ended(session_id)
    action: Any = view.steps[0].actions[0]
    assert (action.status, action.arguments, len(tool.runs)) == (CallState.SUCCEEDED, EDITED, 2)
