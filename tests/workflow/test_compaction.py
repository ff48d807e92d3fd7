"""Summaries when the window fills, on a real Temporal server with a real Postgres."""

import asyncio

import pytest
from temporalio.client import Client

from activities.providers.anthropic import AnthropicProvider
from conductor_ai import names
from conductor_ai.contracts.control import MessageNotice
from conductor_ai.contracts.models import ModelReply, Stop, Usage
from conductor_ai.contracts.status import Phase, Status
from conductor_ai.errors import Code, ModelFailure
from conductor_ai.stores.controlling import Controls
from conductor_ai.stores.writing import Journal
from conductor_ai.testing import Call, Failure, Reply, ScriptedProvider
from conductor_ai.testing.fake_anthropic import FakeAnthropic
from tests.fixtures_servers import wait_until
from tests.gates import Held
from tests.rig import ORG, Rig, answer, calls, rig
from tests.tools import FakeTool

MODEL = "claude-haiku-4-5-20251001"
"""Its window is 200,000 tokens."""


def full(reply: ModelReply) -> ModelReply:
    return reply.model_copy(update={"usage": Usage(input=10_000, cache_read=155_000, output=10)})


def fetch(text: str) -> ModelReply:
    return calls(("web_fetch", {"text": text}), text=f"I fetch {text}.")


def exceeded() -> ModelFailure:
    return ModelFailure("Too long.", code=Code.CONTEXT_EXCEEDED, retryable=False, kind="context_exceeded")


async def compacted(r: Rig, session_id: str) -> list[tuple[int, int]]:
    async with r.parts.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT body FROM conductor.events WHERE session_id = $1 AND type = 'context.compacted' ORDER BY seq",
            session_id,
        )
    return [(row["body"]["call_no"], row["body"]["turns"]) for row in rows]


async def test_a_full_window_is_summarised(temporal: Client, store_url: str, task_queue: str) -> None:
    """One call without tools makes the summary; what it replaces is in the steps; later calls see summary and new turns.

    Across continue-as-new, which comes after each step here.
    """
    summary = ModelReply(stop=Stop.END, text="SUMMARY", usage=Usage(input=90_000, output=300))
    replies = [fetch("a"), full(fetch("b")), summary, fetch("c"), answer("end")]
    async with rig(temporal, store_url, task_queue, replies=replies, tools=[FakeTool()]) as r:
        session_id = await r.start("My task.", model=MODEL, compact_at=0.8, continue_as_new_steps=1)
        view = await r.ended(session_id, seconds=60)
        found = await compacted(r, session_id)
    assert (view.status, view.final_answer) == (Status.COMPLETED, "end")
    assert [step.observation for step in view.steps] == ["echo: a", "echo: b", "echo: c", None]
    assert found == [(3, 5)]
    assert view.input_tokens == 100 + 165_000 + 90_000 + 100 + 50
    assert view.steps[2].tokens.input == 90_000 + 100
    assert isinstance(r.provider, ScriptedProvider)
    asked = r.provider.requests
    assert [request.summary for request in asked] == [False, False, True, False, False]
    assert (asked[2].tools, len(asked[2].turns)) == ((), 1)
    assert "echo: b" in asked[2].turns[0].text
    assert [turn.role for turn in asked[3].turns] == ["user"]
    assert "SUMMARY" in asked[3].turns[0].text
    assert "My task." in asked[3].turns[0].text
    assert [turn.role for turn in asked[4].turns] == ["user", "assistant", "tool"]
    assert asked[4].turns[-1].text == "echo: c"


async def test_context_exceeded_is_summarised_once(temporal: Client, store_url: str, task_queue: str) -> None:
    """The provider says that it no longer fits: a summary, halved until it fits, then the same step; again is the end."""
    summary = answer("SUMMARY")
    replies: list[ModelReply | Exception] = [
        fetch("a" * 4_000),
        exceeded(),
        exceeded(),
        summary,
        fetch("b"),
        exceeded(),
    ]
    replies += [summary, exceeded()]
    async with rig(temporal, store_url, task_queue, replies=replies, tools=[FakeTool()]) as r:
        session_id = await r.start(model="openai:mine", compact_at=0.8)
        view = await r.ended(session_id, seconds=60)
        found = await compacted(r, session_id)
    assert view.error is not None
    assert (view.status, view.error.code, len(view.steps)) == (Status.FAILED, "context_exceeded", 2)
    assert [call_no for call_no, _ in found] == [4, 7]
    assert isinstance(r.provider, ScriptedProvider)
    first, second = (len(request.turns[0].text) for request in r.provider.requests[2:4])
    assert second < first


async def test_off_it_fails_as_before(temporal: Client, store_url: str, task_queue: str) -> None:
    """Without the setting, and for sessions that began before there was one."""
    replies: list[ModelReply | Exception] = [full(fetch("a")), exceeded()]
    async with rig(temporal, store_url, task_queue, replies=replies, tools=[FakeTool()]) as r:
        view = await r.ended(await r.start(model=MODEL))
    assert view.error is not None
    assert view.error.code == "context_exceeded"
    assert isinstance(r.provider, ScriptedProvider)
    assert len(r.provider.requests) == 2


async def test_a_model_that_makes_no_summary(temporal: Client, store_url: str, task_queue: str) -> None:
    """The conversation stays as it is and the session goes on: it may still fit."""
    silent = ModelReply(stop=Stop.REFUSAL, text="", usage=Usage(input=5, output=1))
    replies = [full(fetch("a")), silent, answer("end")]
    async with rig(temporal, store_url, task_queue, replies=replies, tools=[FakeTool()]) as r:
        session_id = await r.start(model=MODEL, compact_at=0.8)
        view = await r.ended(session_id)
        found = await compacted(r, session_id)
    assert (view.final_answer, len(view.steps), found) == ("end", 2, [])
    assert isinstance(r.provider, ScriptedProvider)
    assert [turn.role for turn in r.provider.requests[2].turns] == ["user", "assistant", "tool"]


async def test_a_reset_before_the_seam_brings_the_turns_back(temporal: Client, store_url: str, task_queue: str) -> None:
    """The summary is superseded with all that follows; the run that does it again finds the same answers, unpaid."""
    replies = [full(fetch("a")), answer("SUMMARY"), answer("end")]
    async with rig(temporal, store_url, task_queue, replies=replies, tools=[FakeTool()]) as r:
        session_id = await r.start(model=MODEL, compact_at=0.8)
        before = await r.ended(session_id)
        async with r.parts.database.transaction() as connection:
            # What a claim by a new run does that begins again at the summary.
            await connection.execute(
                "UPDATE conductor.model_calls SET superseded = true WHERE session_id = $1 AND call_no >= 2", session_id
            )
            from conductor_ai.stores.transcript import conversation

            again = await conversation(connection, session_id, 2)
            later = await conversation(connection, session_id, 9)
    assert again is not None
    assert later is not None
    assert before.status is Status.COMPLETED
    assert [turn.role for turn in again.conversation.turns] == ["user", "assistant", "tool"]
    assert later.conversation.turns == again.conversation.turns


async def test_through_claude(temporal: Client, store_url: str, task_queue: str) -> None:
    """The real SDK: `prompt is too long` is a summary, whose conversation the API takes, thinking and calls left behind."""
    async with FakeAnthropic(
        Reply(thinking="Hm.", text="I look.", calls=(Call(tool="web_fetch", arguments={"text": "x"}),)),
        Failure(status=400, type="invalid_request_error", message="prompt is too long: 201000 tokens > 200000 maximum"),
        Reply(text="SUMMARY"),
        Reply(text="Done."),
    ) as fake:
        provider = AnthropicProvider("sk-test", fake.url)
        async with rig(temporal, store_url, task_queue, provider=provider, tools=[FakeTool()]) as r:
            session_id = await r.start(model=MODEL, compact_at=0.8)
            view = await r.ended(session_id, seconds=60)
        bodies = [received.json for received in fake.received]
    assert (view.status, view.final_answer, len(view.steps)) == (Status.COMPLETED, "Done.", 2)
    assert ["tools" in body for body in bodies] == [True, True, False, True]
    assert len(bodies[3]["messages"]) == 1
    assert "SUMMARY" in str(bodies[3]["messages"])


async def test_the_demo_model_goes_on_with_its_script(temporal: Client, store_url: str, task_queue: str) -> None:
    """Without any key one can see it: the script goes on where it was."""
    from activities.providers.demo import DemoProvider

    script = 'demo: call web_fetch {"text": "a"}\ndemo: stop context_exceeded\ndemo: say at the end'
    async with rig(temporal, store_url, task_queue, provider=DemoProvider(), tools=[FakeTool()]) as r:
        session_id = await r.start(script, compact_at=0.8)
        view = await r.ended(session_id)
        found = await compacted(r, session_id)
    assert (view.status, len(view.steps), len(found)) == (Status.COMPLETED, 2, 1)
    assert view.final_answer == "[demo model] at the end"


async def tell(r: Rig, session_id: str, text: str, *, interrupt: bool = False) -> None:
    """Write to a session as the API does."""
    posted = await Controls(Journal(r.parts.database, r.engine.current_run)).post(
        ORG, session_id, text, "ann", names.new_id("msg")
    )
    notice = MessageNotice(message_id=posted.message_id, interrupt=interrupt)
    assert await r.engine.control(session_id, names.MESSAGE, notice, seconds=10)


async def idle(r: Rig, session_id: str, steps: int) -> None:
    """Wait until a chat has answered so often and waits for the next message."""

    async def there() -> bool:
        view = await r.view(session_id)
        return view.phase is Phase.AWAITING_INPUT and len(view.steps) == steps

    await wait_until(there, f"{steps} answers", 30)


async def test_a_message_to_a_chat_comes_after_the_summary(temporal: Client, store_url: str, task_queue: str) -> None:
    """The window is full when it is written: the summary is of what was said before, the message stands after it, once."""
    replies = [full(answer("one")), answer("SUMMARY"), answer("two"), answer("three")]
    async with rig(temporal, store_url, task_queue, replies=replies) as r:
        session_id = await r.start("first", mode="chat", model=MODEL, compact_at=0.8, idle_timeout_seconds=600)
        await idle(r, session_id, 1)
        await tell(r, session_id, "second")
        await idle(r, session_id, 2)
        await tell(r, session_id, "third")
        await idle(r, session_id, 3)
        await r.handle(session_id).cancel()
        view = await r.ended(session_id)
    assert isinstance(r.provider, ScriptedProvider)
    _, summary, second, third = ([turn.text for turn in request.turns] for request in r.provider.requests)
    assert "second" not in summary[0]
    assert "SUMMARY" in second[0]
    assert "first" in second[0]
    assert second[1:] == ["second"]
    assert third == [*second, "two", "third"]
    assert [step.final_answer for step in view.steps] == ["one", "two", "three"]


async def test_a_message_that_made_it_too_long(temporal: Client, store_url: str, task_queue: str) -> None:
    """It was read by the call that was refused: it is in the summary's record, and word for word after it, not twice."""
    replies: list[ModelReply | Exception] = [answer("one"), exceeded(), answer("SUMMARY"), answer("two")]
    async with rig(temporal, store_url, task_queue, replies=replies) as r:
        session_id = await r.start("first", mode="chat", compact_at=0.8, idle_timeout_seconds=600)
        await idle(r, session_id, 1)
        await tell(r, session_id, "the straw")
        await idle(r, session_id, 2)
        await r.handle(session_id).cancel()
        await r.ended(session_id)
    assert isinstance(r.provider, ScriptedProvider)
    asked = r.provider.requests
    assert "the straw" in asked[2].turns[0].text
    assert len(asked[3].turns) == 1
    assert asked[3].turns[0].text.count("the straw") == 1


async def test_an_interrupt_of_a_summary(temporal: Client, store_url: str, task_queue: str) -> None:
    """Somebody writes while it is made: another one is made, and their message is answered after it."""
    provider = Held([full(answer("one")), answer("given up"), answer("SUMMARY"), answer("two")], at=2)
    async with rig(temporal, store_url, task_queue, provider=provider) as r:
        session_id = await r.start("first", mode="chat", model=MODEL, compact_at=0.8, idle_timeout_seconds=600)
        await idle(r, session_id, 1)
        await tell(r, session_id, "second")
        await asyncio.wait_for(provider.asked.wait(), 20)
        await tell(r, session_id, "third", interrupt=True)
        provider.go_on.set()
        await idle(r, session_id, 2)
        await r.handle(session_id).cancel()
        await r.ended(session_id)
    last = [turn.text for turn in provider.requests[-1].turns]
    assert last[1:] == ["second", "third"]
    assert "first" in last[0]


@pytest.mark.parametrize("sandboxed", [False, True], ids=["unsandboxed", "sandboxed"])
async def test_it_replays(temporal: Client, store_url: str, task_queue: str, sandboxed: bool) -> None:
    """The worker keeps no workflow in memory: each task replays all decisions, also in Temporal's sandbox."""
    replies = [full(fetch("a")), answer("SUMMARY"), answer("end")]
    async with rig(
        temporal, store_url, task_queue, replies=replies, tools=[FakeTool()], worker_sandboxed=sandboxed
    ) as r:
        view = await r.ended(await r.start(model=MODEL, compact_at=0.8), seconds=60)
    assert view.status is Status.COMPLETED
