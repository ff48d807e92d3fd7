"""Calls that the model's activity runs itself: each with its claim, its row and its result, whatever dies in between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client

from activities.tools.base import Call
from conductor_ai.contracts.models import ModelReply
from conductor_ai.contracts.session import Fence, ModelInput, ModelOutcome, ToolInput
from conductor_ai.contracts.status import CallState, Status
from conductor_ai.contracts.tools import Facts, Queue, ToolResult
from conductor_ai.errors import ToolUnavailable
from tests.places import Place, as_activity, fence
from tests.rig import ORG, Rig, answer, calls, rig
from tests.tools import FakeTool, Say

FETCH = calls(("web_fetch", {"text": "x"}))


async def scheduled(r: Rig, session_id: str) -> list[str]:
    """The activities of a session's workflow, in order."""
    history = await r.handle(session_id).fetch_history()
    return [
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    ]


def asking(session_id: str, **more: Any) -> ModelInput:
    """What the workflow sends for the first model call."""
    given = {"call_no": 1, "step": 1, "model": "demo", "max_attempts": 3, "run_calls": True, **more}
    return ModelInput.model_validate({"fence": Fence(session_id=session_id, next_call_no=1), **given})


async def asked(r: Rig, session_id: str, *, attempt: int = 1, **more: Any) -> ModelOutcome:
    """That activity, run as that attempt."""
    outcome: ModelOutcome = await as_activity(
        r.parts.models.call_model, asking(session_id, **more), run_id="run", attempt=attempt
    )
    return outcome


@asynccontextmanager
async def worker_without_temporal(
    client: Client, store_url: str, task_queue: str, tool: FakeTool, reply: ModelReply = FETCH
) -> AsyncIterator[tuple[Rig, Place, str]]:
    """The activities of a worker, a place in their store, and a session that has not begun."""
    async with rig(client, store_url, task_queue, replies=[reply, answer()], tools=[tool], run=False) as r:
        place = Place(r.parts.database)
        yield r, place, await place.session()


async def test_a_step_is_one_activity(temporal: Client, store_url: str, task_queue: str) -> None:
    """Two allowed reads: run beside their answer, each with claim, result and events, and both shown in Temporal's UI."""
    both = calls(("web_fetch", {"text": "a"}), ("web_fetch", {"text": "b"}))
    tool = FakeTool("web_fetch")
    async with rig(temporal, store_url, task_queue, replies=[both, answer()], tools=[tool]) as r:
        session_id = await r.start()
        view = await r.ended(session_id)
        activities = await scheduled(r, session_id)
        events = await Place(r.parts.database).events(session_id)
        page = (
            await r.handle(session_id).query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        ).current_details
    assert activities == ["call_model", "call_model"]
    assert [(a.status, a.observation) for a in view.steps[0].actions] == [
        (CallState.SUCCEEDED, "echo: a"),
        (CallState.SUCCEEDED, "echo: b"),
    ]
    kinds = [kind for _, kind in events]
    assert (kinds.count("tool.started"), kinds.count("tool.finished")) == (2, 2)
    assert kinds.index("model.answered") < kinds.index("tool.started")
    assert all(action.call_id in page for action in view.steps[0].actions)


@pytest.mark.parametrize(
    ("tool", "reply"),
    [
        pytest.param(FakeTool(facts=Facts(writes=True, replayable=True)), FETCH, id="writes"),
        pytest.param(FakeTool(facts=Facts(replayable=False)), FETCH, id="cannot be run again"),
        pytest.param(FakeTool(queue=Queue.SANDBOX), FETCH, id="in a sandbox"),
        pytest.param(FakeTool(limit=timedelta(minutes=2)), FETCH, id="long"),
        pytest.param(FakeTool(), calls(*[("web_fetch", {"text": str(n)}) for n in range(9)]), id="many"),
    ],
)
async def test_other_calls_are_activities_of_their_own(
    temporal: Client, store_url: str, task_queue: str, tool: FakeTool, reply: ModelReply
) -> None:
    """What writes, cannot be repeated, needs a sandbox, may take long, or is one of many, is left to `run_tool`."""
    async with worker_without_temporal(temporal, store_url, task_queue, tool, reply) as (r, _, session_id):
        outcome = await asked(r, session_id)
    assert {call.state for call in outcome.calls} == {None}
    assert tool.runs == []


async def test_a_call_beside_one_that_people_are_asked_about(temporal: Client, store_url: str, task_queue: str) -> None:
    """A slow read does not hold up the question to a person: of such a reply nothing is run beside the answer."""
    held = asyncio.Event()

    async def slow(_arguments: Say, _call: Call) -> ToolResult:
        await held.wait()
        return ToolResult(ok=True, content="at last")

    both = calls(("web_fetch", {"text": "x"}), ("sql_query", {"text": "q"}))
    tools = [FakeTool("web_fetch", slow), FakeTool("sql_query")]
    async with rig(temporal, store_url, task_queue, replies=[both, answer()], tools=tools) as r:
        session_id = await r.start()
        [approval] = await r.pending(session_id)
        held.set()
        await r.decide(approval, "approve")
        view = await r.ended(session_id)
    assert view.status is Status.COMPLETED


async def test_a_call_is_run_only_if_the_workflow_says_so(temporal: Client, store_url: str, task_queue: str) -> None:
    """The workflow decides: without its word the activity only asks the model."""
    tool = FakeTool()
    async with worker_without_temporal(temporal, store_url, task_queue, tool) as (r, _, session_id):
        outcome = await asked(r, session_id, run_calls=False)
    assert (outcome.calls[0].state, tool.runs) == (None, [])


async def test_a_tool_that_is_away_gets_its_attempts(temporal: Client, store_url: str, task_queue: str) -> None:
    """Unavailable beside the answer: the call is given back, shown as retrying, and run by an activity of its own."""
    attempts: list[int] = []

    async def away_once(_arguments: Say, call: Call) -> ToolResult:
        attempts.append(call.attempt)
        if len(attempts) == 1:
            raise ToolUnavailable("It is away.")
        return ToolResult(ok=True, content="back")

    tool = FakeTool("web_fetch", away_once)
    async with rig(temporal, store_url, task_queue, replies=[FETCH, answer()], tools=[tool]) as r:
        session_id = await r.start()
        view = await r.ended(session_id)
        activities = await scheduled(r, session_id)
        kinds = [kind for _, kind in await Place(r.parts.database).events(session_id)]
    assert activities == ["call_model", "run_tool", "call_model"]
    assert (attempts, view.steps[0].actions[0].observation) == ([0, 1], "back")
    assert kinds.count("tool.retrying") == 1


async def test_a_lost_completion_runs_nothing_again(temporal: Client, store_url: str, task_queue: str) -> None:
    """The activity did everything and Temporal did not hear of it: the next attempt answers from the rows."""
    tool = FakeTool()
    async with worker_without_temporal(temporal, store_url, task_queue, tool) as (r, _, session_id):
        first, second = await asked(r, session_id), await asked(r, session_id, attempt=2)
    assert first == second
    assert (first.calls[0].state, len(tool.runs)) == (CallState.SUCCEEDED, 1)


async def test_a_call_that_was_cut_off_is_taken_over(temporal: Client, store_url: str, task_queue: str) -> None:
    """The worker stops in the middle of the call: `run_tool` takes it over, and what the late one says does not count."""
    go_on = asyncio.Event()

    async def slow_first(_arguments: Say, call: Call) -> ToolResult:
        if call.attempt == 0:
            await go_on.wait()
        return ToolResult(ok=True, content=f"attempt {call.attempt}")

    tool = FakeTool("web_fetch", slow_first)
    async with worker_without_temporal(temporal, store_url, task_queue, tool) as (r, place, session_id):
        late = asyncio.create_task(asked(r, session_id))
        await asyncio.wait_for(tool.begun.wait(), 20)
        second = await asked(r, session_id, attempt=2)
        [ref] = second.calls
        assert ref.state is None
        request = ToolInput(
            fence=fence(session_id), call_id=ref.call_id, tool=ref.tool, arguments_sha256=ref.arguments_sha256
        )
        await as_activity(r.parts.tools.run_tool, request, run_id="run")
        go_on.set()
        await late
        view = await place.view(session_id)
    assert view.steps[0].actions[0].observation == "attempt 1"
    assert [call.attempt for call in tool.runs] == [0, 1]


async def test_nothing_begins_after_an_accepted_cancel(temporal: Client, store_url: str, task_queue: str) -> None:
    """The cancel is accepted while the model thinks: its answer is stored, and none of its calls is claimed."""
    tool = FakeTool()
    async with worker_without_temporal(temporal, store_url, task_queue, tool) as (r, place, session_id):
        complete = r.provider.complete

        async def cancelled_meanwhile(*given: Any) -> ModelReply:
            await place.sessions.request_cancel(ORG, session_id, None)
            return await complete(*given)

        r.provider.complete = cancelled_meanwhile  # type: ignore[method-assign]
        outcome = await asked(r, session_id)
        view = await place.view(session_id)
    assert (outcome.calls[0].state, tool.runs) == (None, [])
    assert view.steps[0].actions[0].status is CallState.READY


async def test_a_cancel_ends_the_tool_before_the_session(temporal: Client, store_url: str, task_queue: str) -> None:
    """What a call has started is gone before the session says that it is cancelled."""
    gone = asyncio.Event()

    async def tidy(_arguments: Say, _call: Call) -> ToolResult:
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        raise AssertionError

    tool = FakeTool("web_fetch", tidy)
    async with rig(temporal, store_url, task_queue, replies=[FETCH], tools=[tool]) as r:
        session_id = await r.start()
        await asyncio.wait_for(tool.begun.wait(), 20)
        await r.sessions.request_cancel(ORG, session_id, None)
        await r.engine.cancel(session_id)
        finish, was_gone = r.parts.snapshot._ending.finish, []

        async def watched(*given: Any) -> Any:
            was_gone.append(gone.is_set())
            return await finish(*given)

        r.parts.snapshot._ending.finish = watched  # type: ignore[method-assign, assignment]
        view = await r.ended(session_id)
    assert (view.status, was_gone) == (Status.CANCELLED, [True])
