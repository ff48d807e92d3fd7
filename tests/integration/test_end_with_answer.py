"""The answer that ends a run writes the end too, in its own transaction, unless something stands against that."""

from typing import Any

import pytest
from temporalio.client import Client

from conductor_ai.contracts.models import ModelReply, ProposedCall, Stop
from conductor_ai.contracts.session import CallRef, Carried, Fence, ModelOutcome
from conductor_ai.contracts.status import CallState, Phase, Status, StopReason
from conductor_ai.errors import Fenced
from conductor_ai.names import new_id
from conductor_ai.stores.controlling import Controls
from conductor_ai.stores.ending import is_final
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.sessions import CancelVerdict
from conductor_ai.testing import ScriptedProvider
from tests.gates import assert_agrees
from tests.places import ORG, WRITES, Place, call
from tests.rig import answer, calls, rig
from tests.tools import FakeTool
from workflows import loop

CALL = ProposedCall(provider_id="toolu_1", tool="web_fetch", arguments={})


@pytest.fixture
def place(database: Database) -> Place:
    """A store without Temporal."""
    return Place(database)


async def test_one_transaction_says_both(place: Place) -> None:
    """Answer and end are there together, once, and `finish` has nothing left to write."""
    session_id = await place.session()
    said = await place.answered(session_id, "run", 1, may_end=True)
    assert said.ended is not None
    assert (said.ended.status, said.ended.stop_reason, said.ended.steps) == (
        Status.COMPLETED,
        StopReason.FINAL_ANSWER,
        1,
    )
    view = await place.view(session_id)
    assert (view.status, view.final_answer, view.total_cost_usd) == (Status.COMPLETED, "I think.", 0.01)
    assert [kind for _, kind in await place.events(session_id)][-2:] == ["model.answered", "session.ended"]
    before = await place.events(session_id)
    assert await place.finish(session_id, "run", StopReason.CANCELLED) == said.ended
    assert await place.events(session_id) == before


@pytest.mark.parametrize("what", ["a call", "a cut call", "a refusal", "it may not", "a summary"])
async def test_what_is_no_end(place: Place, what: str) -> None:
    """Only a final answer ends a session, and only where it may: not in a chat."""
    session_id = await place.session()
    more: dict[str, Any] = {"may_end": what != "it may not"}
    match what:
        case "a call":
            more["reply"] = ModelReply(stop=Stop.TOOL_CALLS, text="", calls=(CALL,))
        case "a cut call":
            more["reply"] = ModelReply(stop=Stop.MAX_TOKENS, text="", calls=(CALL,))
        case "a refusal":
            more["reply"] = ModelReply(stop=Stop.REFUSAL, text="No.")
        case "a summary":
            more["summary_of"] = 3
    assert (await place.answered(session_id, "run", 1, **more)).ended is None
    assert (await place.view(session_id)).status is Status.RUNNING


@pytest.mark.parametrize("what", ["a cancel", "a message", "an unknown outcome"])
async def test_what_stands_against_it(place: Place, what: str) -> None:
    """What `finish` must look at first keeps the answer from ending the session."""
    session_id = await place.session()
    writes = call("sql_query", WRITES, CallState.EXECUTING)
    await place.answered(session_id, "run", 1, writes)
    match what:
        case "a cancel":
            assert await place.sessions.request_cancel(ORG, session_id, None) is CancelVerdict.ACCEPTED
        case "a message":
            await Controls(place.journal).post(ORG, session_id, "One more thing.", "ann", new_id("msg"))
        case "an unknown outcome":
            await place.value(
                "UPDATE conductor.tool_calls SET state = 'outcome_unknown' WHERE call_id = $1", writes.call_id
            )
    assert (await place.answered(session_id, "run", 2, may_end=True)).ended is None
    assert not (await place.view(session_id)).status.ended


async def test_a_late_answer_does_not_end_what_has_gone_on(place: Place) -> None:
    """A call was given up, and the next one has read a message. Then the old one's worker comes back with a final answer."""
    session_id = await place.session()
    await place.answered(session_id, "run", 1, call(state=CallState.SUCCEEDED))
    posted = await Controls(place.journal).post(ORG, session_id, "One more thing.", "ann", new_id("msg"))
    fence = Fence(session_id=session_id, next_call_no=3)
    await place.models.read_messages(fence, "run", 3, (posted.message_id,))
    assert (await place.answered(session_id, "run", 2, may_end=True)).ended is None
    said = ModelReply(stop=Stop.END, text="With the message.")
    assert (await place.answered(session_id, "run", 3, may_end=True, reply=said)).ended is not None
    assert (await place.view(session_id)).final_answer == "With the message."


async def test_a_late_answer_does_not_end_what_is_at_work(place: Place) -> None:
    """The next call is answered already, and its tools run. The old one's answer is paid, and no part of the conversation."""
    session_id = await place.session()
    open_call = call()
    await place.answered(session_id, "run", 2, open_call)
    with pytest.raises(Fenced, match="given up"):
        await place.answered(session_id, "run", 1, may_end=True)
    assert await place.state_of(open_call) == "ready"
    view = await place.view(session_id)
    assert view.phase is Phase.CALLING_TOOL
    assert [step.step_number for step in view.steps] == [2]
    assert view.total_cost_usd == 0.02


async def test_a_write_under_way_is_looked_up_first(place: Place) -> None:
    """A reset left a call behind that may have its effect still: `finish` asks the ledger, and the end is told with what that says."""
    session_id = await place.session()
    writes = call("sql_query", WRITES, CallState.EXECUTING)
    await place.answered(session_id, "run", 1, writes)
    place.current[session_id] = "next run"
    assert (await place.answered(session_id, "next run", 1, may_end=True)).ended is None
    assert await place.state_of(writes) == "executing"


async def test_a_call_without_a_result_is_settled(place: Place) -> None:
    """Nothing stays open behind an end, as with `finish`."""
    session_id = await place.session()
    open_call = call()
    await place.answered(session_id, "run", 1, open_call)
    assert (await place.answered(session_id, "run", 2, may_end=True)).ended is not None
    assert await place.state_of(open_call) == "abandoned"


async def test_only_the_run_itself_hears_of_its_end(place: Place) -> None:
    """What a lost completion would have said is given to the same run, after a completed end alone."""
    session_id = await place.session()
    said = await place.answered(session_id, "run", 1, may_end=True)
    again = await place.models.last(session_id, "run", 1)
    assert again is not None
    assert (again.ended, again.reply, again.cost_usd) == (said.ended, said.reply, said.cost_usd)
    assert await place.models.last(session_id, "another run", 1) is None
    assert await place.models.last(session_id, "run", 2) is None
    cancelled = await place.session()
    await place.answered(cancelled, "run", 1)
    assert await place.models.last(cancelled, "run", 1) is None
    await place.finish(cancelled, "run", StopReason.CANCELLED)
    assert await place.models.last(cancelled, "run", 1) is None


def test_store_and_workflow_agree_on_what_is_final() -> None:
    """Every way in which a reply can stop, with and without calls: the end is written exactly where the loop would write it."""

    for stop in Stop:
        for proposed in ((), (CALL,)):
            runnable = stop in (Stop.END, Stop.TOOL_CALLS)
            outcome = ModelOutcome(
                stop=stop,
                calls=(CallRef(call_id="call_1", tool="web_fetch"),) if proposed and runnable else (),
                cut_calls=stop is Stop.MAX_TOKENS and bool(proposed),
            )
            _, move = loop.after_model(Carried(), outcome)
            final = isinstance(move, loop.End) and move.stop_reason is StopReason.FINAL_ANSWER
            assert is_final(ModelReply(stop=stop, text="", calls=proposed)) == final, (stop, proposed)


async def test_a_lost_completion_changes_nothing(temporal: Client, store_url: str, task_queue: str) -> None:
    """The worker dies between the commit of the end and Temporal's hearing of it: the next attempt asks no model and says the same."""
    provider = ScriptedProvider([calls(("web_fetch", {"text": "a"})), answer("Once.")])
    tools = [FakeTool("web_fetch")]
    async with rig(temporal, store_url, task_queue, provider=provider, tools=tools) as r:
        journal, answered = r.parts.models._journal, r.parts.models._journal.answered
        lost: list[str] = []

        async def loses(fence: Fence, *given: Any, **named: Any) -> Any:
            outcome = await answered(fence, *given, **named)
            if outcome.ended is not None and not lost:
                lost.append(fence.session_id)
                raise ConnectionResetError("the worker is gone")
            return outcome

        journal.answered = loses  # type: ignore[method-assign]
        session_id = await r.start()
        view = await r.ended(session_id)
        await assert_agrees(r, session_id)
        history = await r.handle(session_id).fetch_history()
        names = [
            event.activity_task_scheduled_event_attributes.activity_type.name
            for event in history.events
            if event.HasField("activity_task_scheduled_event_attributes")
        ]
    assert lost == [session_id]
    assert (view.status, view.final_answer, view.step_count) == (Status.COMPLETED, "Once.", 2)
    assert len(provider.requests) == 2
    assert names == ["call_model", "call_model"]
