"""What is written where: the record clock, retries that are shown, and references instead of content in the history."""

from datetime import UTC, datetime

import pytest
from temporalio.client import Client

from conductor_ai.contracts.models import ModelReply, ModelRequest
from conductor_ai.contracts.session import CallBlocked, CallDenied, CallExpired, CallFailed, Change
from conductor_ai.contracts.status import Phase, Status
from conductor_ai.errors import Code, ModelFailure
from conductor_ai.stores.postgres import Database
from conductor_ai.testing.scripted import Listener, ScriptedProvider
from tests.fixtures_servers import wait_until
from tests.places import READS, WRITES, Place, call, decision_of, fence
from tests.rig import answer, calls, rig
from tests.tools import FakeTool


@pytest.fixture
def place(database: Database) -> Place:
    """A store."""
    return Place(database)


async def test_a_late_record_loses(place: Place) -> None:
    """A zombie of an earlier record comes after a later one: without the clock it would expire what was decided since."""
    session_id, stored = await place.session(), call("sql_query", WRITES)
    await place.answered(session_id, "run", 1, stored)
    approval = await place.asked_about(session_id, "run", stored)
    late: Change = CallExpired(call_id=stored.call_id, at=datetime.now(UTC))
    await place.changes.record(fence(session_id), "run", 2, ())
    naive = await place.value(
        "SELECT count(*) FROM conductor.approvals WHERE call_id = $1 AND status = 'pending'", stored.call_id
    )
    outcome = await place.changes.record(fence(session_id), "run", 1, (late,))
    assert (naive, outcome.applied, await place.status_of(approval)) == (1, False, "pending")
    again = await place.changes.record(fence(session_id), "run", 2, (late,))
    assert not again.applied
    newer = await place.changes.record(fence(session_id), "run", 3, (late,))
    assert (newer.applied, await place.status_of(approval)) == (True, "expired")


async def test_several_changes_at_once(place: Place) -> None:
    """One record takes all kinds of changes in one transaction, each with a result that the model is told."""
    session_id = await place.session()
    denied, expired, blocked = call("sql_query"), call("sql_query"), call("sql_query", WRITES)
    away, running, reading = call(), call("sql_query", WRITES), call(facts=READS)
    await place.answered(session_id, "run", 1, denied, expired, blocked, away, running, reading)
    for stored in (denied, expired):
        await place.asked_about(session_id, "run", stored)
    for stored in (running, reading):
        await place.calls.claim(fence(session_id), "run", 1, stored.call_id, decision=None, must_be_approved=False)
    await place.changes.record(
        fence(session_id),
        "run",
        1,
        (
            CallDenied(decision=decision_of(denied, "deny", comment="not now")),
            CallExpired(call_id=expired.call_id, at=datetime.now(UTC)),
            CallBlocked(call_id=blocked.call_id, rule="never"),
            CallFailed(call_id=away.call_id, message="Docker is away."),
            CallFailed(call_id=running.call_id, message="It timed out."),
            CallFailed(call_id=reading.call_id, message="It timed out."),
        ),
    )
    actions = (await place.view(session_id)).steps[0].actions
    states = [action.status.value for action in actions]
    assert states == ["denied", "expired", "invalid", "failed", "outcome_unknown", "failed"]
    told = [action.observation or "" for action in actions]
    assert "not now" in told[0]
    assert "not a denial" in told[1]
    assert "policy" in told[2]
    assert "Docker is away." in told[3]


async def test_a_denial_of_a_call_that_was_approved_before_leaves_a_result(place: Place) -> None:
    """The approval is closed (approved before a reset) and the new run's people deny: not run, and the model is told."""
    session_id, stored = await place.session(), call("sql_query", WRITES)
    await place.answered(session_id, "run", 1, stored)
    await place.asked_about(session_id, "run", stored)
    await place.sessions.decided(session_id, decision_of(stored))
    await place.changes.record(fence(session_id), "run", 1, (CallDenied(decision=decision_of(stored, "deny")),))
    assert await place.state_of(stored) == "denied"


class Failing(ScriptedProvider):
    """Fails once with a long wait."""

    async def complete(self, request: ModelRequest, listener: Listener, /) -> ModelReply:
        """Overloaded the first time."""
        if len(self.requests) == 0:
            self.requests.append(request)
            raise ModelFailure("Busy.", code=Code.MODEL_UNAVAILABLE, retryable=True, retry_after=1, kind="overloaded")
        return await super().complete(request, listener)


async def test_a_retry_is_written_before_it_is_waited_for(temporal: Client, store_url: str, task_queue: str) -> None:
    """While the next attempt is awaited, the row says `retrying`, when and why; afterwards it does not any more."""
    async with rig(temporal, store_url, task_queue, provider=Failing([answer()])) as r:
        session_id = await r.start()

        async def retrying() -> bool:
            return (await r.view(session_id)).phase is Phase.RETRYING

        await wait_until(retrying, "the phase `retrying`")
        between = await r.view(session_id)
        view = await r.ended(session_id)
    assert between.retry is not None
    assert (between.retry.what, between.retry.attempt, between.retry.reason) == ("model", 2, "overloaded")
    assert between.retry.next_at > between.times.created_at
    assert (view.status, view.retry) == (Status.COMPLETED, None)


async def test_history_holds_references_only(temporal: Client, store_url: str, task_queue: str) -> None:
    """30 KB results stay in Postgres: the history of several steps is smaller than one of them, and never holds one."""
    big = "0123456789" * 3000
    tool = FakeTool("web_fetch")
    replies = [calls(("web_fetch", {"text": big}), text=big) for _ in range(3)]
    async with rig(temporal, store_url, task_queue, replies=[*replies, answer(big)], tools=[tool]) as r:
        session_id = await r.start()
        view = await r.ended(session_id)
        history = await r.handle(session_id).fetch_history()
    size = sum(event.ByteSize() for event in history.events)
    assert view.final_answer == big
    assert size < len(big)
