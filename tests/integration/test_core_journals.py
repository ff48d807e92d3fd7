"""The journals under repetition, late attempts and odd values: nothing is doubled, nothing is shown that is not so."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from conductor_ai.contracts.models import ModelReply, ProposedCall, Stop
from conductor_ai.contracts.session import CallExpired, CallFailed
from conductor_ai.contracts.status import CallState, StopReason
from conductor_ai.contracts.tools import ToolResult
from conductor_ai.errors import Fenced
from conductor_ai.stores.call_journal import Claimed
from conductor_ai.stores.postgres import Database
from tests.places import READS, WRITES, Place, attempt, call, decision_of, fence

LATER = datetime.now(UTC) + timedelta(seconds=30)
NUMBERS = [float("nan"), float("inf"), float("-inf")]


@pytest.fixture
def place(database: Database) -> Place:
    """A store."""
    return Place(database)


@pytest.mark.parametrize("number", NUMBERS)
async def test_numbers_that_jsonb_refuses_lose_no_answer(place: Place, number: float) -> None:
    """A provider's JSON may hold NaN, which jsonb refuses: an answer that can never be stored is paid again and again."""
    session_id = await place.session()
    odd = call(arguments={"text": "x"})
    odd = replace(odd, arguments={"n": number, "in": [number]}, state=CallState.INVALID)
    reply = ModelReply(
        stop=Stop.TOOL_CALLS,
        text="I think.",
        calls=(ProposedCall(provider_id="t", tool="web_fetch", arguments={"n": number}),),
        native=({"n": number},),
    )
    stored = await place.answered(session_id, "run", 1, odd, reply=reply)
    assert stored.calls[0].arguments == {"n": str(odd.arguments["n"]), "in": [str(number)]} or stored.calls


@pytest.mark.parametrize("number", NUMBERS)
async def test_numbers_that_jsonb_refuses_lose_no_result(place: Place, number: float) -> None:
    """What a call that took effect returned is stored, whatever numbers are in it."""
    session_id, stored = await place.session(), call(facts=WRITES)
    await place.answered(session_id, "run", 1, stored)
    await place.calls.claim(fence(session_id), "run", 1, stored.call_id, decision=None, must_be_approved=False)
    result = ToolResult(ok=True, content="done", data={"mean": number})
    state = await place.calls.settled(session_id, "run", 1, stored.call_id, CallState.SUCCEEDED, result)
    assert state is CallState.SUCCEEDED


async def test_two_attempts_at_the_end_agree(place: Place) -> None:
    """Two attempts of `finish` pass the first look together; the second one must still return what the first wrote."""
    session_id = await place.session()
    await place.answered(session_id, "run", 1)
    async with place.database.transaction() as holder:
        await holder.fetchrow("SELECT 1 FROM conductor.sessions WHERE id = $1 FOR UPDATE", session_id)
        both = [
            asyncio.create_task(place.finish(session_id, "run", reason))
            for reason in (StopReason.FINAL_ANSWER, StopReason.ERROR)
        ]

        async def waiting() -> int:
            return int(
                await place.value(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%conductor.sessions%'"
                    " AND datname = current_database()"
                )
            )

        async with asyncio.timeout(10):
            while await waiting() < 2:
                await asyncio.sleep(0.02)
    first, second = await asyncio.gather(*both)
    assert first == second


async def test_a_repeated_note_of_a_retry_is_one(place: Place) -> None:
    """The commit of a note succeeded and its answer was lost: written again, it is no error and no second event."""
    session_id = await place.session()
    failed = attempt(1, outcome="overloaded")
    await place.models.begin(fence(session_id, 1), "run", 1)
    for _ in range(2):
        await place.models.retrying(fence(session_id, 1), "run", failed, LATER, "overloaded")
    kinds = [kind for _, kind in await place.events(session_id)]
    assert kinds.count("model.retrying") == 1
    assert (await place.view(session_id)).phase == "retrying"


async def test_a_late_failure_of_an_answered_call_is_no_retry(place: Place) -> None:
    """Attempt 1 lost its heartbeats, attempt 2 answered, attempt 1 fails now: it was billed, and nothing is retried."""
    session_id = await place.session()
    await place.answered(session_id, "run", 1, call(), number=2)
    await place.models.retrying(fence(session_id, 1), "run", attempt(1, outcome="overloaded"), LATER, "overloaded")
    view = await place.view(session_id)
    assert (view.retry, view.phase, view.steps[0].attempts) == (None, "calling_tool", 2)


async def test_the_retry_of_one_call_is_not_hidden_by_another(place: Place) -> None:
    """Two calls at once: one waits for its next attempt; the other begins, ends, or is recorded. The wait stays visible."""
    session_id, waits, goes, third = await place.session(), call(), call(), call()
    await place.answered(session_id, "run", 1, waits, goes, third)
    await place.calls.claim(fence(session_id), "run", 1, waits.call_id, decision=None, must_be_approved=False)
    await place.calls.released(fence(session_id), "run", 1, waits.call_id, next_at=LATER, reason="Docker is away.")
    await place.calls.claim(fence(session_id), "run", 1, goes.call_id, decision=None, must_be_approved=False)
    await place.changes.record(fence(session_id), "run", 1, (CallExpired(call_id=third.call_id, at=LATER),))
    view = await place.view(session_id)
    assert view.retry is not None
    assert (view.phase, view.retry.call_id) == ("retrying", waits.call_id)
    await place.calls.claim(fence(session_id), "run", 2, waits.call_id, decision=None, must_be_approved=False)
    assert (await place.view(session_id)).retry is None


async def test_a_call_that_failed_before_its_claim_is_closed(place: Place) -> None:
    """Approved by signal, then no worker could run it: the call has a result and nobody is asked about it any more."""
    session_id, stored = await place.session(), call("sql_query", WRITES)
    await place.answered(session_id, "run", 1, stored)
    approval = await place.asked_about(session_id, "run", stored)
    decision = decision_of(stored, by="temporal-access", verified=False, via="signal")
    failed = CallFailed(call_id=stored.call_id, message="No worker has it.", decision=decision)
    await place.changes.record(fence(session_id), "run", 1, (failed,))
    view = await place.view(session_id)
    assert (await place.state_of(stored), await place.status_of(approval)) == ("failed", "approved")
    assert (view.pending_approvals, view.phase) == ((), "thinking")


async def test_what_counted_is_shown_as_it_was(place: Place) -> None:
    """A signal that uses the id of another person's intention decides otherwise: who is shown is who decided."""
    session_id, stored = await place.session(), call("sql_query", WRITES)
    await place.answered(session_id, "run", 1, stored)
    approval = await place.asked_about(session_id, "run", stored)
    intended = decision_of(stored, "deny", by="alice")
    await place.intentions.intend("org_test", intended)
    signal = decision_of(
        stored, "approve", decision_id=intended.decision_id, by="temporal-access", verified=False, via="signal"
    )
    claim = await place.calls.claim(fence(session_id), "run", 1, stored.call_id, decision=signal, must_be_approved=True)
    assert isinstance(claim, Claimed)
    shown = await place.snapshots.approval("org_test", approval)
    assert shown is not None
    counted = [(d.decision, d.by, d.verified) for d in shown.decisions if d.counted]
    assert (shown.status, counted) == ("approved", [("approve", "temporal-access", False)])


async def test_a_claim_whose_commit_was_not_heard_is_taken_again(place: Place) -> None:
    """The same execution, which has run nothing yet, may repeat its own claim; any other one may not."""
    session_id, stored = await place.session(), call(facts=WRITES)
    await place.answered(session_id, "run", 1, stored)

    async def take(number: int, **more: Any) -> bool:
        claim = await place.calls.claim(
            fence(session_id), "run", number, stored.call_id, decision=None, must_be_approved=False, **more
        )
        return isinstance(claim, Claimed)

    assert await take(1)
    assert [await take(1), await take(2, repeated=True), await take(1, repeated=True)] == [False, False, True]


async def test_a_read_that_was_asked_is_fenced_like_any_write(place: Place) -> None:
    """A run that is no longer the current one cannot claim, whatever it says of itself."""
    session_id, stored = await place.session(), call(facts=READS)
    await place.answered(session_id, "old", 1, stored)
    place.current[session_id] = "new"
    await place.models.begin(fence(session_id, 2), "new", 2)
    with pytest.raises(Fenced):
        await place.calls.claim(
            fence(session_id), "old", 1, stored.call_id, decision=None, must_be_approved=False, repeated=True
        )


async def test_nobody_is_asked_after_a_cancel_was_accepted(place: Place) -> None:
    """The flag is set but Temporal was never told: a session that asks people now would wait for them in vain."""
    session_id, stored = await place.session(), call("sql_query", WRITES)
    await place.answered(session_id, "run", 1, stored)
    await place.sessions.request_cancel("org_test", session_id, None)
    with pytest.raises(Fenced):
        await place.asked_about(session_id, "run", stored)
    assert (await place.view(session_id)).pending_approvals == ()
