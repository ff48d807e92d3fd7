"""Sessions with an `output_schema`, on a real Temporal server with a real Postgres."""

from typing import Any

from temporalio.client import Client

from conductor_ai.contracts.models import ModelReply, Stop, Usage
from conductor_ai.contracts.status import Status
from conductor_ai.testing import Reply, ScriptedProvider
from conductor_ai.testing.fake_anthropic import FakeAnthropic
from tests.rig import Rig, answer, calls, rig
from tests.tools import FakeTool

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"total": {"type": "integer"}, "note": {"type": "string"}},
    "required": ["total"],
}


async def events(r: Rig, session_id: str, kind: str) -> list[dict[str, Any]]:
    async with r.parts.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT body FROM conductor.events WHERE session_id = $1 AND type = $2 ORDER BY seq", session_id, kind
        )
    return [row["body"] for row in rows]


async def test_the_value_is_the_output(temporal: Client, store_url: str, task_queue: str) -> None:
    """After tool calls the answer is checked; its value is the session's output and the final step's, the text is kept."""
    replies = [calls(("web_fetch", {"text": "x"})), answer('```json\n{"total": 3}\n```')]
    async with rig(temporal, store_url, task_queue, replies=replies, tools=[FakeTool()]) as r:
        view = await r.ended(await r.start(output_schema=SCHEMA))
    assert (view.status, view.output) == (Status.COMPLETED, {"total": 3})
    assert view.final_answer == '```json\n{"total": 3}\n```'
    assert [step.output for step in view.steps] == [None, {"total": 3}]
    assert isinstance(r.provider, ScriptedProvider)
    assert [request.output_schema for request in r.provider.requests] == [SCHEMA, SCHEMA]


async def test_a_mistake_is_told_and_repaired_once(temporal: Client, store_url: str, task_queue: str) -> None:
    """The model hears what is wrong and answers again: no step of its own, but paid; an event says why."""
    replies = [answer('{"total": "three"}'), answer('{"total": 3}')]
    async with rig(temporal, store_url, task_queue, replies=replies) as r:
        session_id = await r.start(output_schema=SCHEMA)
        view = await r.ended(session_id)
        [rejected] = await events(r, session_id, "output.rejected")
    assert (view.status, view.output, len(view.steps)) == (Status.COMPLETED, {"total": 3}, 1)
    assert (view.input_tokens, view.steps[0].attempts) == (100, 2)
    assert rejected["problems"][0].startswith("/total: ")
    assert isinstance(r.provider, ScriptedProvider)
    said = r.provider.requests[1].turns
    assert [turn.role for turn in said] == ["user", "assistant", "user"]
    assert "/total" in said[-1].text


async def test_twice_wrong_fails(temporal: Client, store_url: str, task_queue: str) -> None:
    """The second time the session fails with a code of its own and has no output; a cut answer is wrong too."""
    cut = ModelReply(stop=Stop.MAX_TOKENS, text='{"total": 3, "no', usage=Usage(input=1, output=1))
    async with rig(temporal, store_url, task_queue, replies=[answer("Three."), cut]) as r:
        view = await r.ended(await r.start(output_schema=SCHEMA))
    assert view.error is not None
    assert (view.status, view.error.code, view.output) == (Status.FAILED, "output_invalid", None)
    assert "Three" not in view.error.message


async def test_with_claude_by_the_api_s_own_format(temporal: Client, store_url: str, task_queue: str) -> None:
    """Through the real SDK: the format goes with every call, and the repair turn is a conversation that the API takes."""
    async with FakeAnthropic(Reply(text='{"note": "none"}'), Reply(text='{"total": 7}')) as fake:
        from activities.providers.anthropic import AnthropicProvider

        provider = AnthropicProvider("sk-test", fake.url)
        async with rig(temporal, store_url, task_queue, provider=provider) as r:
            session_id = await r.start(output_schema=SCHEMA, model="claude-sonnet-5-5")
            view = await r.ended(session_id, seconds=60)
        formats = [received.json["output_config"]["format"] for received in fake.received]
    assert (view.status, view.output) == (Status.COMPLETED, {"total": 7})
    assert [given["type"] for given in formats] == ["json_schema", "json_schema"]
    assert formats[0]["schema"]["additionalProperties"] is False
