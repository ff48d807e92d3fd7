"""A call whose attempt was cut off is never run twice: its result is found, or its outcome is said to be unknown."""

import asyncio
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from activities.tools.base import NOT_EXECUTED, Call, NotExecuted
from conductor_ai.contracts.session import CallFailed, Fence, RecordInput, ToolInput, ToolOutcome
from conductor_ai.contracts.tools import ToolResult
from conductor_ai.errors import ToolUnavailable
from conductor_ai.stores.transcript import StoredCall
from tests.places import READS, WRITES, Place, as_activity, call
from tests.rig import Rig, rig
from tests.tools import FakeTool, Say

FOUND = ToolResult(ok=True, content="1 row")


class Account:
    """A balance that something outside of Conductor keeps, with or without a ledger."""

    def __init__(self) -> None:
        self.balance = 100
        self.ledger: dict[str, ToolResult] = {}

    async def pay(self, _arguments: Say, called: Call) -> ToolResult:
        """Pays 10, commits, and dies before it can say so the first time."""
        self.balance -= 10
        self.ledger[called.call_id] = FOUND
        raise ConnectionResetError("the worker died after the commit")


def run(session_id: str, stored: StoredCall) -> ToolInput:
    """What the workflow sends for a tool call."""
    return ToolInput(
        fence=Fence(session_id=session_id, next_call_no=2),
        call_id=stored.call_id,
        tool=stored.tool,
        arguments_sha256=stored.args_sha,
    )


async def begun(r: Rig, stored: StoredCall) -> tuple[Place, str]:
    """A session with this call, claimed by attempt 1, whose worker then died."""
    place = Place(r.parts.database)
    session_id = await place.session()
    await place.answered(session_id, "run", 1, stored)
    fence = Fence(session_id=session_id, next_call_no=2)
    await place.calls.claim(fence, "run", 1, stored.call_id, decision=None, must_be_approved=False)
    return place, session_id


@pytest.mark.parametrize(
    ("found", "state", "told"),
    [
        (FOUND, "succeeded", "1 row"),
        (ToolResult(ok=False, content="refused"), "failed", "refused"),
        (NOT_EXECUTED, "failed", "nothing was changed"),
        (None, "outcome_unknown", "not known whether"),
    ],
    ids=["its ledger has the result", "its ledger has a failure", "a tombstone keeps it out", "nobody knows"],
)
async def test_after_a_crash(
    temporal: Client,
    store_url: str,
    task_queue: str,
    found: ToolResult | NotExecuted | None,
    state: str,
    told: str,
) -> None:
    """A call that may not be replayed is not run by attempt 2, whatever the tool knows of attempt 1."""
    tool = FakeTool("web_fetch", facts=WRITES, found=found)
    async with rig(temporal, store_url, task_queue, tools=[tool], run=False) as r:
        stored = call(facts=WRITES)
        place, session_id = await begun(r, stored)
        outcome: Any = await as_activity(r.parts.tools.run_tool, run(session_id, stored), run_id="run", attempt=2)
        again: ToolOutcome = await as_activity(r.parts.tools.run_tool, run(session_id, stored), run_id="run", attempt=3)
        [action] = (await place.view(session_id)).steps[0].actions
    assert tool.runs == []
    assert (outcome.state, again.state, action.status) == (state, state, state)
    assert told in (action.observation or "")


async def test_a_replayable_call_is_run_again(temporal: Client, store_url: str, task_queue: str) -> None:
    """A read whose worker died is simply read again, once."""
    tool = FakeTool("web_fetch", facts=READS)
    async with rig(temporal, store_url, task_queue, tools=[tool], run=False) as r:
        stored = call(facts=READS)
        _, session_id = await begun(r, stored)
        for number in (2, 3):
            outcome = await as_activity(r.parts.tools.run_tool, run(session_id, stored), run_id="run", attempt=number)
            assert outcome.state == "succeeded"
    assert [called.attempt for called in tool.runs] == [2]


async def test_a_write_happens_once(temporal: Client, store_url: str, task_queue: str) -> None:
    """The worker dies between commit and report. The naive retry pays twice; ours reads the ledger and pays once."""
    naive = Account()
    for number in (1, 2):
        with pytest.raises(ConnectionResetError):
            await naive.pay(Say(), Call("org", "sess", "call", "run", number))
    account = Account()
    tool = FakeTool("web_fetch", account.pay, facts=WRITES)
    async with rig(temporal, store_url, task_queue, tools=[tool], run=False) as r:
        place = Place(r.parts.database)
        session_id, stored = await place.session(), call(facts=WRITES)
        await place.answered(session_id, "run", 1, stored)
        with pytest.raises(ApplicationError):
            await as_activity(r.parts.tools.run_tool, run(session_id, stored), run_id="run", attempt=1)
        tool._found = account.ledger[stored.call_id]
        outcome = await as_activity(r.parts.tools.run_tool, run(session_id, stored), run_id="run", attempt=2)
    assert (naive.balance, account.balance) == (80, 90)
    assert (outcome.state, len(tool.runs)) == ("succeeded", 1)


async def test_a_zombie_that_still_runs_is_not_doubled(temporal: Client, store_url: str, task_queue: str) -> None:
    """Attempt 1 lost its heartbeats but lives: attempt 2 does not run the write, and the late result is kept."""
    go_on = asyncio.Event()

    async def slow(_arguments: Say, _call: Call) -> ToolResult:
        await go_on.wait()
        return FOUND

    tool = FakeTool("web_fetch", slow, facts=WRITES)
    async with rig(temporal, store_url, task_queue, tools=[tool], run=False) as r:
        place = Place(r.parts.database)
        session_id, stored = await place.session(), call(facts=WRITES)
        await place.answered(session_id, "run", 1, stored)
        zombie = asyncio.create_task(as_activity(r.parts.tools.run_tool, run(session_id, stored), run_id="run"))
        await tool.begun.wait()
        second = await as_activity(r.parts.tools.run_tool, run(session_id, stored), run_id="run", attempt=2)
        go_on.set()
        first = await zombie
    assert (second.state, first.state, len(tool.runs)) == ("outcome_unknown", "succeeded", 1)


async def test_infrastructure_that_is_away_gives_the_call_back(
    temporal: Client, store_url: str, task_queue: str
) -> None:
    """`ToolUnavailable` says that there was no effect: the call is ready again, the retry is shown, attempt 2 runs it."""

    async def away(_arguments: Say, called: Call) -> ToolResult:
        if called.attempt == 1:
            raise ToolUnavailable("Docker\0 does not answer.")
        return FOUND

    tool = FakeTool("web_fetch", away, facts=WRITES)
    async with rig(temporal, store_url, task_queue, tools=[tool], run=False) as r:
        place = Place(r.parts.database)
        session_id, stored = await place.session(), call(facts=WRITES)
        await place.answered(session_id, "run", 1, stored)
        with pytest.raises(ApplicationError) as failed:
            await as_activity(r.parts.tools.run_tool, run(session_id, stored), run_id="run", attempt=1)
        between = await place.view(session_id)
        outcome = await as_activity(r.parts.tools.run_tool, run(session_id, stored), run_id="run", attempt=2)
        after = await place.view(session_id)
    assert (failed.value.type, failed.value.non_retryable) == ("tool_unavailable", False)
    assert between.retry is not None
    assert (between.phase, between.retry.what, between.retry.attempt) == ("retrying", "tool", 2)
    assert (outcome.state, after.retry, len(tool.runs)) == ("succeeded", None, 2)


async def test_the_ledger_is_asked_before_the_model_is_told(temporal: Client, store_url: str, task_queue: str) -> None:
    """Attempts at a write that all timed out: what the ledger knows is stored in mid-session, not only after the end."""
    tool = FakeTool("sql_query", facts=WRITES, found=FOUND)
    async with rig(temporal, store_url, task_queue, tools=[tool], run=False) as r:
        stored = call("sql_query", WRITES)
        place, session_id = await begun(r, stored)
        request = RecordInput(
            fence=Fence(session_id=session_id, next_call_no=2),
            clock=1,
            changes=(CallFailed(call_id=stored.call_id, message="it did not answer"),),
        )
        await as_activity(r.parts.snapshot.record, request, run_id="run")
        view = await place.snapshots.build("org_test", session_id)
    assert view is not None
    assert view.steps[0].actions[0].status == "succeeded"
    assert view.steps[0].observation == "1 row"
