"""The fence: only the run that Temporal calls the current one writes, and nobody after the end."""

import asyncio
from datetime import UTC, datetime

import pytest

from conductor_ai.contracts.session import CallExpired
from conductor_ai.contracts.status import CallState, Status, StopReason
from conductor_ai.contracts.tools import ToolResult
from conductor_ai.errors import Fenced
from conductor_ai.stores.model_journal import Answer
from conductor_ai.stores.postgres import Database
from tests.places import WRITES, Place, attempt, call, decision_of, fence

OK = ToolResult(ok=True, content="done")


@pytest.fixture
def place(database: Database) -> Place:
    """A store."""
    return Place(database)


async def reset(place: Place, session_id: str, run_id: str, next_call_no: int) -> None:
    """A new run, begun by Temporal at that model call, makes its first write."""
    place.current[session_id] = run_id
    await place.models.begin(fence(session_id, next_call_no), run_id, next_call_no)


async def test_a_zombie_of_the_old_run_writes_nothing(place: Place) -> None:
    """After a reset an activity of the old run still answers: a bare update takes its answer, the fence does not."""
    session_id, old = await place.session(), call()
    await place.answered(session_id, "old", 1)
    await reset(place, session_id, "new", 1)

    naive = await place.value(
        "WITH written AS (UPDATE conductor.sessions SET title = 'by a zombie' WHERE id = $1 AND ended_at IS NULL "
        "RETURNING 1) SELECT count(*) FROM written",
        session_id,
    )
    before = await place.view(session_id)
    with pytest.raises(Fenced):
        await place.answered(session_id, "old", 2, old)
    with pytest.raises(Fenced):
        await place.changes.record(fence(session_id), "old", 9, ())
    with pytest.raises(Fenced):
        await place.finish(session_id, "old")
    after = await place.view(session_id)
    assert naive == 1
    assert (after.steps, after.status) == (before.steps, Status.RUNNING)
    assert await place.value("SELECT run_id FROM conductor.sessions WHERE id = $1", session_id) == "new"


async def test_a_run_asks_temporal_and_takes_over(place: Place) -> None:
    """A run that meets another's id asks which is current, without the lock; the current one takes over, once."""
    session_id = await place.session()
    await place.answered(session_id, "old", 1)
    assert place.asked == []
    place.current[session_id] = "new"
    await asyncio.gather(*(place.answered(session_id, "new", 2, number=number) for number in (1, 2, 3)))
    claims = [kind for _, kind in await place.events(session_id) if kind == "session.claimed"]
    assert len(claims) == 1
    assert await place.value("SELECT run_id FROM conductor.sessions WHERE id = $1", session_id) == "new"


async def test_two_runs_claim_at_once_and_the_current_one_wins(place: Place) -> None:
    """Both runs see a third one's id; a run that asks before the reset must not take over after it."""
    session_id = await place.session()
    await place.answered(session_id, "first", 1)
    place.current[session_id] = "second"
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def late_answer(_: str) -> str:
        asked.set()
        await go_on.wait()
        return "second"  # true when it was asked, no longer true now

    slow = Place(place.database)
    slow.journal._current_run = late_answer
    second = asyncio.create_task(slow.answered(session_id, "second", 2))
    await asked.wait()
    await reset(place, session_id, "third", 2)
    slow.journal._current_run = place._current_run
    place.current[session_id] = "third"
    go_on.set()
    with pytest.raises(Fenced):
        await second
    assert await place.value("SELECT run_id FROM conductor.sessions WHERE id = $1", session_id) == "third"


async def test_after_the_end_only_usage_and_the_calls_own_state_change(place: Place) -> None:
    """Late usage and a late result are kept; an answer, a decision, an approval and another end are not."""
    session_id, asked, running = await place.session(), call("sql_query", WRITES), call("sql_query", WRITES)
    await place.answered(session_id, "run", 1, asked, running)
    approval = await place.asked_about(session_id, "run", asked)
    await place.calls.claim(fence(session_id), "run", 1, running.call_id, decision=None, must_be_approved=False)
    await place.finish(session_id, "run", StopReason.ERROR, error_code="internal")
    assert await place.state_of(running) == "outcome_unknown"

    with pytest.raises(Fenced):
        await place.answered(session_id, "run", 2)
    with pytest.raises(Fenced):
        await place.changes.record(
            fence(session_id), "run", 9, (CallExpired(call_id=asked.call_id, at=datetime.now(UTC)),)
        )
    with pytest.raises(Fenced):
        await place.calls.claim(fence(session_id), "run", 1, asked.call_id, decision=None, must_be_approved=False)
    await place.sessions.decided(session_id, decision_of(asked))
    again = await place.finish(session_id, "run", StopReason.FINAL_ANSWER)
    await place.calls.settled(session_id, "run", 1, running.call_id, CallState.SUCCEEDED, OK)

    view = await place.view(session_id)
    assert (again.status, view.status, view.stop_reason) == (Status.FAILED, Status.FAILED, StopReason.ERROR)
    assert view.input_tokens == 20  # the fenced answer was paid too
    assert len(view.steps) == 1
    assert [action.status for action in view.steps[0].actions] == [CallState.ABANDONED, CallState.SUCCEEDED]
    assert await place.status_of(approval) == "cancelled"


async def test_a_claim_supersedes_what_will_be_done_again(place: Place) -> None:
    """Model calls from the new run's own on, their calls and pending approvals are superseded; what is before stays."""
    session_id = await place.session()
    first, second, third = call(), call("sql_query"), call("sql_query")
    await place.answered(session_id, "old", 1, first)
    await place.answered(session_id, "old", 2, second)
    await place.answered(session_id, "old", 3, third)
    before = await place.asked_about(session_id, "old", second, call_no=2)
    after = await place.asked_about(session_id, "old", third, call_no=3)
    await reset(place, session_id, "new", 3)
    view = await place.view(session_id)
    assert [step.step_number for step in view.steps] == [1, 2]
    assert [await place.status_of(a) for a in (before, after)] == ["pending", "superseded"]
    await place.sessions.decided(session_id, decision_of(third))
    assert await place.state_of(third) == "waiting"  # a decision about what is gone decides nothing


async def test_a_reused_answer_keeps_its_calls_and_is_not_paid_twice(place: Place) -> None:
    """After a reset the same input finds the superseded answer: same call ids, results kept, no new cost, twice over."""
    session_id, ran, waits = await place.session(), call(), call("sql_query")
    await place.answered(session_id, "run 1", 1, ran, waits, sha="same")
    await place.calls.claim(fence(session_id), "run 1", 1, ran.call_id, decision=None, must_be_approved=False)
    await place.calls.settled(session_id, "run 1", 1, ran.call_id, CallState.SUCCEEDED, OK)
    cost = (await place.view(session_id)).total_cost_usd
    for number in (2, 3):
        run_id = f"run {number}"
        await reset(place, session_id, run_id, 1)
        assert (await place.view(session_id)).steps == ()
        assert await place.models.reusable(session_id, "another") is None
        found = await place.models.reusable(session_id, "same")
        assert isinstance(found, Answer)
        await place.answered(session_id, run_id, 1, *found.calls, sha="same", reply=found.reply, reused=True)
        [step] = (await place.view(session_id)).steps
        assert [action.call_id for action in step.actions] == [ran.call_id, waits.call_id]
        assert [action.status for action in step.actions] == [CallState.SUCCEEDED, CallState.READY]
    view = await place.view(session_id)
    assert (view.total_cost_usd, view.input_tokens, view.steps[0].attempts) == (cost, 10, 1)
    tools = [kind for _, kind in await place.events(session_id) if kind == "tool.started"]
    assert len(tools) == 1


async def test_usage_is_never_fenced(place: Place) -> None:
    """A run that lost the session still says what it paid; saying it twice counts once."""
    session_id = await place.session()
    await place.answered(session_id, "old", 1)
    await reset(place, session_id, "new", 1)
    for _ in range(2):
        await place.models.paid(session_id, "old", attempt(2))
    await place.models.paid(session_id, "new", attempt(1))
    assert (await place.view(session_id)).input_tokens == 30
