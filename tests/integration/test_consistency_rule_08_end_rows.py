"""What the end's transaction writes: the outcome once, and every open call and approval settled by session id."""

import asyncio

import pytest

from conductor_ai.contracts.status import CallState, Status, StopReason
from conductor_ai.contracts.tools import ToolResult
from conductor_ai.names import new_id
from conductor_ai.stores.controlling import Controls
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.sessions import CancelVerdict
from tests.places import ORG, READS, WRITES, WRITES_ONCE, Place, call, fence


@pytest.fixture
def place(database: Database) -> Place:
    """A store."""
    return Place(database)


async def test_finish_twice_answers_the_same(place: Place) -> None:
    """The second `finish` believes something else: it gets the stored outcome, and nothing is written."""
    session_id = await place.session()
    await place.answered(session_id, "run", 1)
    first = await place.finish(session_id, "run", StopReason.FINAL_ANSWER)
    events = await place.events(session_id)
    second = await place.finish(session_id, "run", StopReason.ERROR, error_code="internal", cancel_seen=True)
    assert first == second
    assert first.status is Status.COMPLETED
    assert await place.events(session_id) == events


async def test_an_accepted_cancel_wins_over_everything(place: Place) -> None:
    """The flag is under the same lock as the end: whatever the workflow believed, it is cancelled."""
    for reason in (StopReason.FINAL_ANSWER, StopReason.MAX_STEPS, StopReason.ERROR, StopReason.DEADLINE):
        session_id = await place.session()
        await place.answered(session_id, "run", 1)
        assert await place.sessions.request_cancel(ORG, session_id, None) is CancelVerdict.ACCEPTED
        assert (await place.finish(session_id, "run", reason)).status is Status.CANCELLED
        assert await place.sessions.request_cancel(ORG, session_id, None) is CancelVerdict.CANCELLED


async def test_finish_and_cancel_at_once(place: Place) -> None:
    """Decide-then-write says `completed` after an accepted cancel; one transaction never does."""
    naive = 0
    both = asyncio.Barrier(2)
    session_id = await place.session()

    async def naive_finish() -> None:
        nonlocal naive
        flag = await place.value("SELECT cancel_requested_at FROM conductor.sessions WHERE id = $1", session_id)
        await both.wait()
        await both.wait()
        naive += flag is None  # would now write `completed`

    async def naive_cancel() -> None:
        await both.wait()
        assert await place.sessions.request_cancel(ORG, session_id, None) is CancelVerdict.ACCEPTED
        await both.wait()

    await asyncio.gather(naive_finish(), naive_cancel())
    assert naive == 1
    for _ in range(20):
        session_id = await place.session()
        await place.answered(session_id, "run", 1)
        outcome, verdict = await asyncio.gather(
            place.finish(session_id, "run"), place.sessions.request_cancel(ORG, session_id, None)
        )
        expected = Status.CANCELLED if verdict is CancelVerdict.ACCEPTED else Status.COMPLETED
        assert outcome.status is expected


async def test_everything_open_is_settled(place: Place) -> None:
    """Pending approvals are closed; calls that only read are abandoned, executing writes are of unknown outcome."""
    session_id = await place.session()
    waits, ready = call("sql_query", WRITES), call()
    reads, writes, once = call(facts=READS), call("sql_query", WRITES), call("sql_query", WRITES_ONCE)
    await place.answered(session_id, "run", 1, waits, ready, reads, writes, once)
    approval = await place.asked_about(session_id, "run", waits)
    for stored in (reads, writes, once):
        await place.calls.claim(fence(session_id), "run", 1, stored.call_id, decision=None, must_be_approved=False)
    await place.finish(session_id, "run", StopReason.CANCELLED)
    states = [await place.state_of(stored) for stored in (waits, ready, reads, writes, once)]
    assert states == ["abandoned", "abandoned", "abandoned", "outcome_unknown", "outcome_unknown"]
    assert await place.status_of(approval) == "cancelled"
    view = await place.view(session_id)
    assert view.pending_approvals == ()
    assert view.phase == "done"


async def test_unknown_is_settled_by_the_ledger_afterwards(place: Place) -> None:
    """The session has ended; once the ledger tells, the call says so, and the end stays what it was."""
    session_id, writes = await place.session(), call("sql_query", WRITES)
    await place.answered(session_id, "run", 1, writes)
    await place.calls.claim(fence(session_id), "run", 1, writes.call_id, decision=None, must_be_approved=False)
    await place.finish(session_id, "run", StopReason.CANCELLED)
    assert session_id in await place.sessions.with_unknown_calls()
    [(org_id, found)] = await place.ending.unknown_calls(session_id)
    assert (org_id, found.call_id) == (ORG, writes.call_id)
    done = ToolResult(ok=True, content="1 row")
    await place.calls.resolved(session_id, writes.call_id, CallState.SUCCEEDED, done)
    view = await place.view(session_id)
    assert (view.status, view.steps[0].actions[0].status) == (Status.CANCELLED, "succeeded")
    assert session_id not in await place.sessions.with_unknown_calls()


async def test_an_answer_that_was_there_outlasts_a_late_message(place: Place) -> None:
    """The deadline ends a session that only a message kept open with the answer that it had; but one whose model has answered
    since, which the workflow may not know, ends by the deadline."""
    for answered_since in (False, True):
        session_id = await place.session()
        await place.answered(session_id, "run", 1)
        controls = Controls(place.journal)
        posted = await controls.post(ORG, session_id, "one more thing", "ann", new_id("msg"))
        await place.models.read_messages(fence(session_id, 2), "run", 2, (posted.message_id,))
        if answered_since:
            await place.answered(session_id, "run", 2, call())
        outcome = await place.finish(session_id, "run", StopReason.DEADLINE, error_code="deadline", answered=1)
        view = await place.view(session_id)
        assert outcome.status is (Status.FAILED if answered_since else Status.COMPLETED)
        assert (view.final_answer, view.messages[1].status) == (
            (None, "read") if answered_since else ("I think.", "not_read")
        )
