"""A message that comes while the end is being written is read before it, or is told as not read. It is never just gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.client import Client

from conductor_ai import names
from conductor_ai.contracts.control import ControlAnswer, ControlKind, Limits, MessageNotice
from conductor_ai.contracts.session import FinishInput, FinishOutcome
from conductor_ai.contracts.status import Phase, Status, StopReason
from conductor_ai.contracts.views import SessionView
from conductor_ai.errors import Code, ModelFailure
from conductor_ai.stores.controlling import Controls, Posted
from conductor_ai.stores.ending import Ending
from conductor_ai.stores.model_journal import ModelJournal, Read
from conductor_ai.stores.writing import Journal
from tests.fixtures_servers import wait_until
from tests.gates import Held, ends_by_finish
from tests.rig import ORG, Rig, answer, calls, rig
from tests.tools import FakeTool
from tests.workflow.test_conversation import heard, phase

Finish = tuple[FinishOutcome, bool]


class Gate:
    """Stops the first write of an end where the test wants it: before its transaction, or when it has committed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before, self.after = asyncio.Event(), asyncio.Event()
        self.write, self.answer = asyncio.Event(), asyncio.Event()
        self.outcomes: list[FinishOutcome] = []
        real = Ending.finish

        async def finish(ending: Ending, request: FinishInput, run_id: str) -> Finish:
            self.before.set()
            await self.write.wait()
            outcome = await real(ending, request, run_id)
            self.outcomes.append(outcome[0])
            self.after.set()
            await self.answer.wait()
            return outcome

        monkeypatch.setattr(Ending, "finish", finish)
        ends_by_finish(monkeypatch)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """A gate in the way of every end of this test."""
    return Gate(monkeypatch)


@asynccontextmanager
async def running(temporal: Client, store_url: str, queue: str, *replies: Any) -> AsyncIterator[tuple[Rig, Controls]]:
    """A worker, and the store as the API writes messages to it."""
    async with rig(temporal, store_url, queue, replies=replies) as r:
        yield r, Controls(Journal(r.parts.database, r.engine.current_run))


async def post(controls: Controls, session_id: str, text: str) -> Posted:
    """Store a message, as the API does before it announces it."""
    return await controls.post(ORG, session_id, text, "ann", names.new_id("msg"))


async def put_off_by_nothing(gate: Gate, controls: Controls, session_id: str) -> None:
    """A message puts the end off and is taken back before the workflow hears of that."""
    await asyncio.wait_for(gate.before.wait(), 20)
    posted = await post(controls, session_id, "too late")
    gate.write.set()
    await asyncio.wait_for(gate.after.wait(), 20)
    assert await controls.withdraw(posted)
    gate.answer.set()


async def signalled(r: Rig, posted: Posted) -> None:
    """Leave its notice with Temporal, as the API does when no worker takes the update, and see the workflow handle it."""
    notice = MessageNotice(message_id=posted.message_id)
    assert await r.engine.signal(posted.session_id, names.MESSAGE, notice)

    async def handled() -> bool:
        completed, signal = 0, 0
        async for event in r.handle(posted.session_id).fetch_history_events():
            if event.HasField("workflow_task_completed_event_attributes"):
                completed = event.event_id
            if event.HasField("workflow_execution_signaled_event_attributes"):
                signal = event.event_id
        return 0 < signal < completed

    await wait_until(handled, "the workflow to take the signal", 20)


async def events(r: Rig, session_id: str) -> list[tuple[str, Any]]:
    """Type and body of every event."""
    async with r.parts.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT type, body FROM conductor.events WHERE session_id = $1 ORDER BY seq", session_id
        )
    return [(row["type"], row["body"]) for row in rows]


async def test_a_signal_during_the_end_is_read(temporal: Client, store_url: str, task_queue: str, gate: Gate) -> None:
    """Acknowledged while the end was on its way to the store: the session goes on with it, and then ends."""
    async with running(temporal, store_url, task_queue, answer("too early"), answer("now I know")) as (r, controls):
        session_id = await r.start("first")
        await asyncio.wait_for(gate.before.wait(), 20)
        await signalled(r, await post(controls, session_id, "one more thing"))
        gate.write.set()
        gate.answer.set()
        view = await r.ended(session_id)
    assert heard(r) == [["first"], ["first", "too early", "one more thing"]]
    assert (view.status, view.final_answer) == (Status.COMPLETED, "now I know")
    assert [(m.content, m.status) for m in view.messages] == [("first", "read"), ("one more thing", "read")]


async def test_a_signal_after_the_end_was_decided_is_read(
    temporal: Client, store_url: str, task_queue: str, gate: Gate
) -> None:
    """Stored before the end's transaction, announced after it: that transaction has seen it and did not end the session."""
    async with running(temporal, store_url, task_queue, answer("too early"), answer("now I know")) as (r, controls):
        session_id = await r.start("first")
        await asyncio.wait_for(gate.before.wait(), 20)
        posted = await post(controls, session_id, "one more thing")
        gate.write.set()
        await asyncio.wait_for(gate.after.wait(), 20)
        await signalled(r, posted)
        gate.answer.set()
        view = await r.ended(session_id)
    assert [outcome.status for outcome in gate.outcomes] == [Status.RUNNING, Status.COMPLETED]
    assert heard(r)[-1] == ["first", "too early", "one more thing"]
    assert [m.status for m in view.messages] == ["read", "read"]


async def test_messages_before_and_after_are_both_read(
    temporal: Client, store_url: str, task_queue: str, gate: Gate
) -> None:
    """A chat that is about to end: one message keeps it open, another comes before it knows. It answers both, and waits."""
    async with running(temporal, store_url, task_queue, answer("one"), answer("two"), answer("three")) as (r, controls):
        session_id = await r.start("first", mode="chat", idle_timeout_seconds=2)
        await asyncio.wait_for(gate.before.wait(), 20)
        first = await post(controls, session_id, "second")
        gate.write.set()
        await asyncio.wait_for(gate.after.wait(), 20)
        await signalled(r, await post(controls, session_id, "third"))
        await signalled(r, first)
        gate.answer.set()
        view = await r.ended(session_id)
    assert heard(r)[1] == ["first", "one", "second", "third"]
    assert (view.status, {m.status for m in view.messages}) == (Status.COMPLETED, {"read"})


async def asked(r: Rig, posted: Posted) -> "asyncio.Task[ControlAnswer | None]":
    """Bring its notice by update, and wait until the workflow has it."""
    notice = MessageNotice(message_id=posted.message_id)
    task = asyncio.create_task(r.engine.control(posted.session_id, names.MESSAGE, notice, seconds=20))

    async def there() -> bool:
        async for event in r.handle(posted.session_id).fetch_history_events():
            if event.HasField("workflow_execution_update_accepted_event_attributes"):
                return True
        return False

    await wait_until(there, "the workflow to take the update", 20)
    return task


async def test_an_update_during_the_end_is_answered_by_it(
    temporal: Client, store_url: str, task_queue: str, gate: Gate
) -> None:
    """Nobody is told that the session is ending before it has: it goes on with the message, and the answer says so."""
    async with running(temporal, store_url, task_queue, answer("too early"), answer("now I know")) as (r, controls):
        session_id = await r.start("first")
        await asyncio.wait_for(gate.before.wait(), 20)
        task = await asked(r, await post(controls, session_id, "one more thing"))
        assert not task.done()
        gate.write.set()
        gate.answer.set()
        answered = await task
        view = await r.ended(session_id)
    assert answered is not None
    assert answered.kind in (ControlKind.ACCEPTED, ControlKind.UNCHANGED)
    assert (view.final_answer, [m.status for m in view.messages]) == ("now I know", ["read", "read"])


async def test_an_update_that_an_end_refuses(temporal: Client, store_url: str, task_queue: str, gate: Gate) -> None:
    """The session fails, which no message puts off: the caller hears that it has ended, and the message can be taken back."""
    refused = ModelFailure("Bad key.", code=Code.MODEL_AUTHENTICATION, retryable=False, kind="authentication")
    async with running(temporal, store_url, task_queue, refused) as (r, controls):
        session_id = await r.start("first")
        await asyncio.wait_for(gate.before.wait(), 20)
        posted = await post(controls, session_id, "one more thing")
        task = await asked(r, posted)
        gate.write.set()
        gate.answer.set()
        answered = await task
        assert await controls.withdraw(posted)
        view = await r.ended(session_id)
    assert answered is not None
    assert answered.kind is ControlKind.CLOSED
    assert [m.content for m in view.messages] == ["first"]


async def test_a_message_that_is_taken_back_meanwhile_leaves_the_end_as_it_was(
    temporal: Client, store_url: str, task_queue: str, gate: Gate
) -> None:
    """Nobody could be told of it, so it was taken back after it had put the end off: the model is not asked about nothing."""
    async with running(temporal, store_url, task_queue, answer("the answer")) as (r, controls):
        session_id = await r.start("first")
        await put_off_by_nothing(gate, controls, session_id)
        view = await r.ended(session_id)
    assert heard(r) == [["first"]]
    assert (view.status, view.final_answer, len(view.steps)) == (Status.COMPLETED, "the answer", 1)


async def test_a_chat_waits_on_after_a_message_that_was_taken_back(
    temporal: Client, store_url: str, task_queue: str
) -> None:
    """The workflow has the notice, the text is gone: no turn is made of it. Sent again, it is read."""
    async with running(temporal, store_url, task_queue, answer("one"), answer("two")) as (r, controls):
        session_id = await r.start("first", mode="chat")
        await phase(r, session_id, Phase.AWAITING_INPUT)
        posted = await post(controls, session_id, "second")
        assert await controls.withdraw(posted)
        await signalled(r, posted)

        async def forgotten() -> bool:
            state = await r.handle(session_id).query(names.STATE)
            return not state["inbox"] and not state["seen"] and bool(state["idle"])

        await wait_until(forgotten, "the workflow to forget it", 20)
        assert (await r.view(session_id)).phase is Phase.AWAITING_INPUT
        await controls.post(ORG, session_id, "second", "ann", posted.message_id)
        notice = MessageNotice(message_id=posted.message_id)
        answered = await r.engine.control(session_id, names.MESSAGE, notice, seconds=10)
        assert answered is not None
        assert answered.kind is ControlKind.ACCEPTED

        async def two() -> bool:
            return len((await r.view(session_id)).steps) == 2

        await wait_until(two, "the second answer", 20)
        await r.handle(session_id).cancel()
        await r.ended(session_id)
    assert heard(r) == [["first"], ["first", "one", "second"]]


async def test_a_late_message_does_not_fail_a_run_that_has_its_answer(
    temporal: Client, store_url: str, task_queue: str, gate: Gate
) -> None:
    """It used its last step for the answer: there is none left to read with, so it completes, and the message is not read."""
    async with running(temporal, store_url, task_queue, answer("the answer")) as (r, controls):
        session_id = await r.start("first", max_steps=1)
        await asyncio.wait_for(gate.before.wait(), 20)
        await signalled(r, await post(controls, session_id, "one more thing"))
        gate.write.set()
        gate.answer.set()
        view = await r.ended(session_id)
    assert (view.status, view.final_answer) == (Status.COMPLETED, "the answer")
    assert [m.status for m in view.messages] == ["read", "not_read"]


async def test_what_ends_unread_is_told(temporal: Client, store_url: str, task_queue: str, gate: Gate) -> None:
    """An end that no message can put off: an event names what was not read, and the session shows it as such."""
    refused = ModelFailure("Bad key.", code=Code.MODEL_AUTHENTICATION, retryable=False, kind="authentication")
    async with running(temporal, store_url, task_queue, refused) as (r, controls):
        session_id = await r.start("first")
        await asyncio.wait_for(gate.before.wait(), 20)
        posted = await post(controls, session_id, "one more thing")
        assert [m.status for m in (await r.view(session_id)).messages] == ["read", "waiting"]
        await signalled(r, posted)
        gate.write.set()
        gate.answer.set()
        view = await r.ended(session_id)
        told = await events(r, session_id)
    assert (view.status, view.stop_reason) == (Status.FAILED, StopReason.ERROR)
    assert [(m.content, m.status) for m in view.messages] == [("first", "read"), ("one more thing", "not_read")]
    assert told[-2:-1] == [("message.not_read", {"messages": [posted.message_id]})]
    assert told[-1][0] == "session.ended"


async def test_where_a_session_stands_is_not_lost_by_continue_as_new(
    temporal: Client, store_url: str, task_queue: str, gate: Gate
) -> None:
    """Its history is full when a message that was taken back has put the end off: it ends with its answer, asks no model, and
    begins no run that would know nothing of the end."""
    async with running(temporal, store_url, task_queue, answer("the answer")) as (r, controls):
        session_id = await r.start("first", continue_as_new_steps=1)
        first = await r.engine.current_run(session_id)
        await put_off_by_nothing(gate, controls, session_id)
        view = await r.ended(session_id)
        assert await r.engine.current_run(session_id) == first
    assert heard(r) == [["first"]]
    assert (view.status, view.final_answer, len(view.steps)) == (Status.COMPLETED, "the answer", 1)


class Reading:
    """Stops the first call that is to read messages before it has looked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there = asyncio.Event()
        real = ModelJournal.read_messages

        async def read(journal: ModelJournal, *given: Any) -> Read:
            if not self.there.is_set():
                self.there.set()
                await asyncio.Event().wait()
            return await real(journal, *given)

        monkeypatch.setattr(ModelJournal, "read_messages", read)


async def interrupt_in_vain(r: Rig, controls: Controls, waiting: Posted) -> None:
    """Interrupt the call that is to read a message by another one, both of which were taken back."""
    other = await post(controls, waiting.session_id, "stop")
    assert await controls.withdraw(waiting)
    assert await controls.withdraw(other)
    notice = MessageNotice(message_id=other.message_id, interrupt=True)
    assert await r.engine.signal(waiting.session_id, names.MESSAGE, notice)


async def test_an_interrupt_leaves_the_end_as_it_was(
    temporal: Client, store_url: str, task_queue: str, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call that only a message led to is interrupted, and nothing is left to read: the model is not asked about nothing."""
    reading = Reading(monkeypatch)
    async with running(temporal, store_url, task_queue, answer("the answer")) as (r, controls):
        session_id = await r.start("first")
        await asyncio.wait_for(gate.before.wait(), 20)
        posted = await post(controls, session_id, "too late")
        gate.write.set()
        gate.answer.set()
        await asyncio.wait_for(reading.there.wait(), 20)
        await interrupt_in_vain(r, controls, posted)
        view = await r.ended(session_id)
    assert heard(r) == [["first"]]
    assert (view.status, view.final_answer) == (Status.COMPLETED, "the answer")


async def test_an_interrupt_leaves_a_chat_as_it_was(
    temporal: Client, store_url: str, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chat whose turn was interrupted before it had read anything, with nothing left to read, waits on and asks no model."""
    reading = Reading(monkeypatch)
    async with running(temporal, store_url, task_queue, answer("one"), answer("two")) as (r, controls):
        session_id = await r.start("first", mode="chat")
        await phase(r, session_id, Phase.AWAITING_INPUT)
        posted = await post(controls, session_id, "too late")
        await signalled(r, posted)
        await asyncio.wait_for(reading.there.wait(), 20)
        await interrupt_in_vain(r, controls, posted)

        async def forgotten() -> bool:
            state = await r.handle(session_id).query(names.STATE)
            return not state["inbox"] and bool(state["idle"]) and state["next_call_no"] > 2

        await wait_until(forgotten, "the workflow to forget them", 20)
        await r.handle(session_id).cancel()
        await r.ended(session_id)
    assert heard(r) == [["first"]]


def statuses(view: SessionView) -> list[tuple[str, str]]:
    """The messages of a session, with what became of each."""
    return [(message.content, message.status) for message in view.messages]


async def unread(r: Rig, session_id: str) -> list[Any]:
    """What the events say was not read."""
    return [body["messages"] for kind, body in await events(r, session_id) if kind == "message.not_read"]


@pytest.mark.parametrize("mode", ["run", "chat"])
async def test_a_deadline_costs_no_answer_that_was_there(
    temporal: Client, store_url: str, task_queue: str, gate: Gate, mode: str
) -> None:
    """A message put the end off, and the deadline passes while the model is asked about it: the session ends with the answer
    that it had, and the message counts as not read, although it was on its way to the model."""
    provider = Held([answer("the answer"), answer("too late")], at=2)
    async with rig(temporal, store_url, task_queue, provider=provider) as r:
        controls = Controls(Journal(r.parts.database, r.engine.current_run))
        session_id = await r.start("first", mode=mode, idle_timeout_seconds=1, deadline_seconds=4)
        await asyncio.wait_for(gate.before.wait(), 20)
        posted = await post(controls, session_id, "one more thing")
        gate.write.set()
        gate.answer.set()
        await asyncio.wait_for(provider.asked.wait(), 20)
        assert statuses(await r.view(session_id))[1] == ("one more thing", "read")
        view = await r.ended(session_id)
        told = await unread(r, session_id)
    assert (view.status, view.stop_reason, view.final_answer) == (
        Status.COMPLETED,
        StopReason.FINAL_ANSWER,
        "the answer",
    )
    assert statuses(view) == [("first", "read"), ("one more thing", "not_read")]
    assert (told, len(view.steps)) == ([[posted.message_id]], 1)


async def test_a_deadline_that_has_passed_when_the_end_is_put_off(
    temporal: Client, store_url: str, task_queue: str, gate: Gate
) -> None:
    """The answer was there in time, the write of the end was not: the message puts it off, and there is no time left to read it."""
    async with running(temporal, store_url, task_queue, answer("the answer")) as (r, controls):
        session_id = await r.start("first", deadline_seconds=2)
        deadline = (await r.view(session_id)).times.deadline_at
        assert deadline is not None
        await asyncio.wait_for(gate.before.wait(), 20)
        await post(controls, session_id, "one more thing")

        async def passed() -> bool:
            return datetime.now(UTC) > deadline

        await wait_until(passed, "the deadline to pass", 20)
        gate.write.set()
        gate.answer.set()
        view = await r.ended(session_id)
    assert [outcome.status for outcome in gate.outcomes] == [Status.RUNNING, Status.COMPLETED]
    assert (view.final_answer, statuses(view)[1]) == ("the answer", ("one more thing", "not_read"))


async def test_a_budget_that_is_used_up_is_asked_for(
    temporal: Client, store_url: str, task_queue: str, gate: Gate
) -> None:
    """A late message to a session without money for it waits until the budget is raised, as in a chat. The deadline ends the
    wait, with the answer that the session had."""
    async with running(temporal, store_url, task_queue, answer("the answer")) as (r, controls):
        session_id = await r.start("first", deadline_seconds=5, limits=Limits(max_total_tokens=10))
        await asyncio.wait_for(gate.before.wait(), 20)
        await post(controls, session_id, "one more thing")
        gate.write.set()
        gate.answer.set()
        await phase(r, session_id, Phase.PAUSED)
        view = await r.ended(session_id)
    assert heard(r) == [["first"]]
    assert (view.status, view.final_answer) == (Status.COMPLETED, "the answer")
    assert statuses(view) == [("first", "read"), ("one more thing", "not_read")]


async def test_a_session_at_work_again_has_no_answer(
    temporal: Client, store_url: str, task_queue: str, gate: Gate
) -> None:
    """The model has begun to work on the late message when the deadline passes: it ends as every session at work does."""
    provider = Held([answer("the answer"), calls(("web_fetch", {"text": "x"})), answer("too late")], at=3)
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[FakeTool()]) as r:
        controls = Controls(Journal(r.parts.database, r.engine.current_run))
        session_id = await r.start("first", deadline_seconds=4)
        await asyncio.wait_for(gate.before.wait(), 20)
        await post(controls, session_id, "one more thing")
        gate.write.set()
        gate.answer.set()
        view = await r.ended(session_id)
    assert (view.status, view.stop_reason) == (Status.FAILED, StopReason.DEADLINE)
    assert statuses(view) == [("first", "read"), ("one more thing", "read")]


async def test_sent_again_while_it_is_looked_for(
    temporal: Client, store_url: str, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message is taken back, and a model call has seen that; then it is sent again, and the workflow, which has not heard of it,
    calls that no news. It is read in its turn all the same, and not only when the chat ends."""
    looked, go_on = asyncio.Event(), asyncio.Event()
    real = ModelJournal.read_messages

    async def read(journal: ModelJournal, *given: Any) -> Read:
        found = await real(journal, *given)
        looked.set()
        await go_on.wait()
        return found

    async with running(temporal, store_url, task_queue, answer("one"), answer("two")) as (r, controls):
        session_id = await r.start("first", mode="chat")
        await phase(r, session_id, Phase.AWAITING_INPUT)
        monkeypatch.setattr(ModelJournal, "read_messages", read)
        posted = await post(controls, session_id, "second")
        assert await controls.withdraw(posted)
        await signalled(r, posted)
        await asyncio.wait_for(looked.wait(), 20)
        await controls.post(ORG, session_id, "second", "ann", posted.message_id)
        notice = MessageNotice(message_id=posted.message_id)
        answered = await r.engine.control(session_id, names.MESSAGE, notice, seconds=10)
        assert answered is not None
        assert answered.kind is ControlKind.UNCHANGED
        go_on.set()

        async def two() -> bool:
            return len((await r.view(session_id)).steps) == 2

        await wait_until(two, "the second answer", 20)
        await r.handle(session_id).cancel()
        await r.ended(session_id)
    assert heard(r) == [["first"], ["first", "one", "second"]]
