"""Chats, messages to a run, pause, resume and budget, on a real server; every workflow task replays the whole history."""

import asyncio
from decimal import Decimal
from typing import Any

from temporalio.client import Client

from conductor_ai import names
from conductor_ai.contracts.base import Contract
from conductor_ai.contracts.control import (
    BudgetRequest,
    ControlAnswer,
    ControlKind,
    Limits,
    MessageNotice,
    PauseRequest,
    ResumeRequest,
)
from conductor_ai.contracts.models import ModelReply, Stop, Usage
from conductor_ai.contracts.status import CallState, Phase, Status, StopReason
from conductor_ai.stores.controlling import Controls
from conductor_ai.stores.writing import Journal
from tests.fixtures_servers import wait_until
from tests.gates import Held, reset_before
from tests.rig import ORG, Rig, answer, calls, rig
from tests.tools import FakeTool

FETCH = calls(("web_fetch", {"text": "x"}))
QUERY = calls(("sql_query", {"text": "select 1"}))


async def tell(r: Rig, session_id: str, text: str, **options: Any) -> ControlAnswer:
    """Write to a session as the API does."""
    controls = Controls(Journal(r.parts.database, r.engine.current_run))
    posted = await controls.post(ORG, session_id, text, "ann", names.new_id("msg"))
    notice = MessageNotice(message_id=posted.message_id, **options)
    taken = await r.engine.control(session_id, names.MESSAGE, notice, seconds=10)
    assert taken is not None
    if taken.kind is not ControlKind.ACCEPTED:
        await controls.withdraw(posted)
    return taken


async def control(r: Rig, session_id: str, name: str, request: Contract) -> ControlKind:
    """What the workflow says."""
    answered = await r.engine.control(session_id, name, request, seconds=10)
    assert answered is not None
    return answered.kind


async def phase(r: Rig, session_id: str, wanted: Phase) -> None:
    """Wait for a phase."""

    async def there() -> bool:
        return (await r.view(session_id)).phase is wanted

    await wait_until(there, f"the phase {wanted}", 20)


def heard(r: Rig) -> list[list[str]]:
    """What the model was sent each time: the texts of people and models."""
    provider: Any = r.provider
    return [[turn.text for turn in request.turns] for request in provider.requests]


async def test_a_chat_goes_on(temporal: Client, store_url: str, task_queue: str) -> None:
    """After each answer the session waits; a message leads on, and the model has the whole conversation in order."""
    replies = [answer("one"), answer("two"), answer("three")]
    async with rig(temporal, store_url, task_queue, replies=replies) as r:
        session_id = await r.start("first", mode="chat", idle_timeout_seconds=600)
        for number, text in enumerate(("second", "third"), 1):
            await phase(r, session_id, Phase.AWAITING_INPUT)
            assert (await r.view(session_id)).status is Status.RUNNING
            assert (await tell(r, session_id, text)).kind is ControlKind.ACCEPTED

            async def answered(count: int = number + 1) -> bool:
                return len((await r.view(session_id)).steps) == count

            await wait_until(answered, "the next answer", 20)
        await phase(r, session_id, Phase.AWAITING_INPUT)
        view = await r.view(session_id)
        await r.handle(session_id).cancel()
        ended = await r.ended(session_id)
    assert heard(r)[-1] == ["first", "one", "second", "two", "third"]
    assert [(step.is_final, step.final_answer) for step in view.steps] == [
        (True, "one"),
        (True, "two"),
        (True, "three"),
    ]
    assert [(m.content, m.before_step) for m in view.messages] == [("first", 1), ("second", 2), ("third", 3)]
    assert ended.status is Status.CANCELLED


async def test_a_chat_that_nobody_writes_to_completes(temporal: Client, store_url: str, task_queue: str) -> None:
    """The idle timeout ends it with its last answer."""
    async with rig(temporal, store_url, task_queue, replies=[answer("the last word")]) as r:
        view = await r.ended(await r.start(mode="chat", idle_timeout_seconds=1))
    assert (view.status, view.stop_reason, view.final_answer) == (
        Status.COMPLETED,
        StopReason.FINAL_ANSWER,
        "the last word",
    )


async def test_continue_as_new_in_mid_conversation(temporal: Client, store_url: str, task_queue: str) -> None:
    """Nothing is lost at the seam: a chat of many turns over several runs, each message read once and in order."""
    turns = 5
    replies = [answer(f"answer {number}") for number in range(turns)]
    async with rig(temporal, store_url, task_queue, replies=replies) as r:
        session_id = await r.start("message 0", mode="chat", continue_as_new_steps=1)
        for number in range(1, turns):
            await phase(r, session_id, Phase.AWAITING_INPUT)
            await tell(r, session_id, f"message {number}")

            async def answered(count: int = number + 1) -> bool:
                return len((await r.view(session_id)).steps) == count

            await wait_until(answered, "the next answer", 20)
        first = r.client.get_workflow_handle(session_id, run_id=(await r.handle(session_id).describe()).run_id)
        runs = [run async for run in r.client.list_workflows(f"WorkflowId = '{session_id}'")]
        await r.handle(session_id).cancel()
        await r.ended(session_id)
    assert first is not None
    assert len(runs) >= turns - 1
    said = [part for number in range(turns) for part in (f"message {number}", f"answer {number}")]
    assert heard(r)[-1] == said[:-1]


async def test_a_message_to_a_run_is_read_before_the_next_answer(
    temporal: Client, store_url: str, task_queue: str
) -> None:
    """Written while the model thinks: the answer under way stands, the next one has read it, and the run goes on for it."""
    provider = Held([answer("too early"), answer("now I know")], at=1)
    async with rig(temporal, store_url, task_queue, provider=provider) as r:
        session_id = await r.start("first")
        await asyncio.wait_for(provider.asked.wait(), 20)
        await tell(r, session_id, "one more thing")
        assert [m.before_step for m in (await r.view(session_id)).messages] == [None, None]
        provider.go_on.set()
        view = await r.ended(session_id)
    assert heard(r) == [["first"], ["first", "too early", "one more thing"]]
    assert (view.status, view.final_answer) == (Status.COMPLETED, "now I know")


async def test_an_interrupt_stops_the_answer_under_way(temporal: Client, store_url: str, task_queue: str) -> None:
    """The model's answer is given up, the next call has the message and another number; nothing is said twice."""
    provider = Held([answer("never heard"), answer("as you say")], at=1)
    async with rig(temporal, store_url, task_queue, provider=provider) as r:
        session_id = await r.start("first")
        await asyncio.wait_for(provider.asked.wait(), 20)
        await tell(r, session_id, "stop, do this instead", interrupt=True)
        view = await r.ended(session_id)
    assert heard(r)[-1] == ["first", "stop, do this instead"]
    assert [step.final_answer for step in view.steps] == ["as you say"]


async def test_an_interrupt_gives_up_calls_that_wait(temporal: Client, store_url: str, task_queue: str) -> None:
    """Somebody writes instead of deciding: the call is not run, its approval is closed, and the model is told."""
    tool = FakeTool("sql_query")
    async with rig(temporal, store_url, task_queue, replies=[QUERY, answer()], tools=[tool]) as r:
        session_id = await r.start()
        [approval] = await r.pending(session_id)
        await tell(r, session_id, "forget the query", interrupt=True)
        view = await r.ended(session_id)
        stored = await r.snapshots.approval(ORG, approval.id)
    assert stored is not None
    assert (view.steps[0].actions[0].status, stored.status, tool.runs) == (CallState.ABANDONED, "cancelled", [])
    assert heard(r)[-1][-1] == "forget the query"


async def test_a_message_for_an_idle_session(temporal: Client, store_url: str, task_queue: str) -> None:
    """`reject`: busy is told as such and nothing is left behind; idle takes it."""
    provider = Held([answer("one"), answer("two")], at=1)
    async with rig(temporal, store_url, task_queue, provider=provider) as r:
        session_id = await r.start("first", mode="chat")
        await asyncio.wait_for(provider.asked.wait(), 20)
        assert (await tell(r, session_id, "hello?", only_if_idle=True)).kind is ControlKind.BUSY
        provider.go_on.set()
        await phase(r, session_id, Phase.AWAITING_INPUT)
        assert (await tell(r, session_id, "now then", only_if_idle=True)).kind is ControlKind.ACCEPTED

        async def answered() -> bool:
            return len((await r.view(session_id)).steps) == 2

        await wait_until(answered, "the second answer", 20)
        await r.handle(session_id).cancel()
        await r.ended(session_id)
    assert heard(r)[-1] == ["first", "one", "now then"]


async def test_who_waits_for_an_idle_session_sees_it(temporal: Client, store_url: str, task_queue: str) -> None:
    """A message that is taken back after the turn has ended does not leave the session looking busy for ever."""
    provider = Held([answer("one")], at=1)
    async with rig(temporal, store_url, task_queue, provider=provider) as r:
        controls = Controls(Journal(r.parts.database, r.engine.current_run))
        session_id = await r.start("first", mode="chat")
        await asyncio.wait_for(provider.asked.wait(), 20)
        posted = await controls.post(ORG, session_id, "hello?", "ann", names.new_id("msg"))
        provider.go_on.set()

        async def waits() -> bool:
            async with r.parts.database.connection() as connection:
                return bool(
                    await connection.fetchval(
                        "SELECT true FROM conductor.events WHERE session_id = $1 AND type = 'session.input_awaited'",
                        session_id,
                    )
                )

        await wait_until(waits, "the end of the turn", 20)
        assert (await r.view(session_id)).phase is not Phase.AWAITING_INPUT
        assert await controls.withdraw(posted)
        assert (await r.view(session_id)).phase is Phase.AWAITING_INPUT
        await r.handle(session_id).cancel()
        await r.ended(session_id)


async def test_steps_are_counted_for_each_turn_of_a_chat(temporal: Client, store_url: str, task_queue: str) -> None:
    """A turn that uses its steps up ends the turn and not the chat; the next message has steps of its own."""
    replies = [FETCH, FETCH, answer("at last")]
    async with rig(temporal, store_url, task_queue, replies=replies, tools=[FakeTool()]) as r:
        session_id = await r.start(mode="chat", max_steps=2)
        await phase(r, session_id, Phase.AWAITING_INPUT)
        await tell(r, session_id, "go on")

        async def answered() -> bool:
            return len((await r.view(session_id)).steps) == 3

        await wait_until(answered, "the answer", 20)
        await r.handle(session_id).cancel()
        await r.ended(session_id)


async def test_pause_and_resume(temporal: Client, store_url: str, task_queue: str) -> None:
    """What is under way is finished, the next step is not begun; again is no news; resumed it goes on where it was."""
    provider = Held([FETCH, answer()], at=1)
    tool = FakeTool()
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[tool]) as r:
        session_id = await r.start()
        await asyncio.wait_for(provider.asked.wait(), 20)
        request = PauseRequest(reason="let me look", by="ann")
        assert await control(r, session_id, names.PAUSE, request) is ControlKind.ACCEPTED
        provider.go_on.set()
        await phase(r, session_id, Phase.PAUSED)
        assert await control(r, session_id, names.PAUSE, request) is ControlKind.UNCHANGED
        view = await r.view(session_id)
        assert (len(tool.runs), len(provider.requests)) == (1, 1)
        assert view.paused is not None
        assert (view.paused.kind, view.paused.by, view.paused.reason) == ("person", "ann", "let me look")
        assert await control(r, session_id, names.RESUME, ResumeRequest(by="ann")) is ControlKind.ACCEPTED
        assert (await r.ended(session_id)).status is Status.COMPLETED


async def test_a_paused_session_can_be_cancelled_and_has_its_deadline(
    temporal: Client, store_url: str, task_queue: str
) -> None:
    """A pause holds up neither a cancel nor the deadline."""
    async with rig(temporal, store_url, task_queue, replies=[FETCH, FETCH, FETCH, FETCH], tools=[FakeTool()]) as r:
        first, second = await r.start(), await r.start(deadline_seconds=2)
        for session_id in (first, second):
            await control(r, session_id, names.PAUSE, PauseRequest())
        await phase(r, first, Phase.PAUSED)
        await r.handle(first).cancel()
        assert (await r.ended(first)).status is Status.CANCELLED
        assert (await r.ended(second)).stop_reason is StopReason.DEADLINE


async def test_a_budget_pauses_and_raising_it_resumes(temporal: Client, store_url: str, task_queue: str) -> None:
    """Tokens used up: it stands still before the next model call, cannot just be resumed, and goes on once raised."""
    spent = Usage(input=100, output=20)
    again = ModelReply(stop=Stop.TOOL_CALLS, text="", calls=FETCH.calls, usage=spent)
    async with rig(temporal, store_url, task_queue, replies=[again, again, answer()], tools=[FakeTool()]) as r:
        session_id = await r.start(limits=Limits(max_total_tokens=200))
        await phase(r, session_id, Phase.PAUSED)
        view = await r.view(session_id)
        provider: Any = r.provider
        assert len(provider.requests) == 2
        assert view.paused is not None
        assert view.paused.kind == "budget"
        assert view.budget is not None
        assert view.budget.tokens_left == 0
        assert await control(r, session_id, names.RESUME, ResumeRequest()) is ControlKind.OVER_BUDGET
        more = Limits(max_total_tokens=1000, max_cost_usd=Decimal("5"))
        assert await control(r, session_id, names.SET_BUDGET, BudgetRequest(limits=more)) is ControlKind.ACCEPTED
        view = await r.ended(session_id)
    assert view.status is Status.COMPLETED
    assert view.budget is not None
    assert view.budget.max_total_tokens == 1000


async def test_a_reset_reads_the_messages_again(temporal: Client, store_url: str, task_queue: str) -> None:
    """Set back to before the second answer: the message is in the conversation once, wherever it is read now."""
    provider = Held([answer("one"), answer("two"), answer("two again")], at=3)
    async with rig(temporal, store_url, task_queue, provider=provider) as r:
        session_id = await r.start("first", mode="chat")
        await phase(r, session_id, Phase.AWAITING_INPUT)
        await tell(r, session_id, "second")

        async def answered() -> bool:
            return len((await r.view(session_id)).steps) == 2

        await wait_until(answered, "the second answer", 20)
        await phase(r, session_id, Phase.AWAITING_INPUT)
        await reset_before(r, session_id, "call_model", index=1)
        provider.go_on.set()
        await phase(r, session_id, Phase.AWAITING_INPUT)
        await wait_until(answered, "two answers", 20)
        view = await r.view(session_id)
        await r.handle(session_id).cancel()
        await r.ended(session_id)
    assert [m.content for m in view.messages] == ["first", "second"]
    assert all(texts.count("second") <= 1 for texts in heard(r))
