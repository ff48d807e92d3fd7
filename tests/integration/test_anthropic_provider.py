"""Claude's provider: the real SDK against a fake of the Messages API on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from activities.providers.anthropic import AnthropicProvider
from conductor_ai.contracts.models import AssistantTurn, ModelReply, ModelRequest, ResultTurn, Stop, Turn, UserTurn
from conductor_ai.contracts.tools import Category, ToolSpec
from conductor_ai.errors import Code, ModelFailure
from conductor_ai.testing import Call, Failure, Recorder, Reply
from conductor_ai.testing.fake_anthropic import SIGNATURE, FakeAnthropic

MODEL = "claude-sonnet-5-5"
QUERY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "description": "One statement."},
        "max_rows": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    },
    "required": ["query"],
    "additionalProperties": False,
}
HEADERS: dict[str, Any] = {
    "type": "object",
    "properties": {"headers": {"type": "object", "additionalProperties": {"type": "string"}}},
    "additionalProperties": False,
}


def spec(name: str, parameters: dict[str, Any]) -> ToolSpec:
    return ToolSpec(
        name=name,
        description=f"About {name}.",
        category=Category.OTHER,
        parameters=parameters,
        requires_approval=False,
    )


TOOLS = (spec("sql_query", QUERY), spec("web_fetch", HEADERS))


def request(*turns: Turn, model: str = MODEL, tools: tuple[ToolSpec, ...] = TOOLS, limit: int = 8192) -> ModelRequest:
    return ModelRequest(
        model=model,
        system="Be brief.",
        turns=turns or (UserTurn(text="Hello"),),
        tools=tools,
        max_output_tokens=limit,
    )


@pytest.fixture
async def fake() -> AsyncIterator[FakeAnthropic]:
    async with FakeAnthropic() as server:
        yield server


@pytest.fixture
async def provider(fake: FakeAnthropic) -> AsyncIterator[AnthropicProvider]:
    made = AnthropicProvider("sk-test", fake.url, silence_seconds=20)
    yield made
    await made.close()


async def ask(provider: AnthropicProvider, *turns: Turn, **more: Any) -> ModelReply:
    return await provider.complete(request(*turns, **more), Recorder())


async def fails(provider: AnthropicProvider, heard: Recorder | None = None) -> ModelFailure:
    with pytest.raises(ModelFailure) as caught:
        await provider.complete(request(), heard or Recorder())
    return caught.value


async def test_an_answer_is_streamed_and_counted(fake: FakeAnthropic, provider: AnthropicProvider) -> None:
    """Deltas join to the text; usage keeps cached tokens apart; the model's own name is told."""
    fake.script.add(Reply(text="A rather long answer.", input_tokens=7, cache_read_tokens=90, cache_write_tokens=5))
    heard = Recorder()
    reply = await provider.complete(request(), heard)
    assert (reply.stop, reply.text, heard.text) == (Stop.END, "A rather long answer.", "A rather long answer.")
    assert len(heard.deltas) > 1
    assert reply.usage == heard.usages[-1]
    assert (reply.usage.input, reply.usage.cache_read, reply.usage.cache_write, reply.usage.output) == (7, 90, 5, 20)
    assert (reply.provider_model, reply.stop_detail) == (MODEL, "end_turn")


async def test_the_request_caches_tools_system_and_conversation(
    fake: FakeAnthropic, provider: AnthropicProvider
) -> None:
    """Three cache marks, in the places where a prefix ends; `strict` only where the schema allows it."""
    await ask(provider)
    body = fake.received[0].json
    assert body["stream"] is True
    assert body["system"] == [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    sql, web = body["tools"]
    assert (sql["name"], sql["strict"]) == ("sql_query", True)
    assert "minimum: 1, maximum: 1000" in sql["input_schema"]["properties"]["max_rows"]["description"]
    assert "strict" not in web
    assert web["input_schema"] == HEADERS
    assert web["cache_control"] == {"type": "ephemeral"}
    assert body["messages"][-1]["content"][-1]["cache_control"] == {"type": "ephemeral"}
    assert json.dumps(body).count("cache_control") == 3


async def test_one_attempt_and_no_more(fake: FakeAnthropic, provider: AnthropicProvider) -> None:
    """The SDK does not retry: one call of ours is one request, whatever the answer."""
    fake.script.add(Failure(status=529, type="overloaded_error"))
    await fails(provider)
    assert len(fake.received) == 1


async def test_tool_calls_come_whole_and_in_order(fake: FakeAnthropic, provider: AnthropicProvider) -> None:
    """Parallel calls with their arguments parsed; the text before them is the thought."""
    calls = (Call(tool="sql_query", arguments={"query": "SELECT 'ü'"}), Call(tool="web_fetch"))
    fake.script.add(Reply(text="I look.", calls=calls))
    reply = await ask(provider)
    assert (reply.stop, reply.text) == (Stop.TOOL_CALLS, "I look.")
    assert [(call.tool, call.arguments) for call in reply.calls] == [
        ("sql_query", {"query": "SELECT 'ü'"}),
        ("web_fetch", {}),
    ]


async def test_thinking_goes_back_with_its_signature(fake: FakeAnthropic, provider: AnthropicProvider) -> None:
    """The next request carries the thinking block as it was: the fake refuses any other. Thinking is not streamed out."""
    fake.script.add(
        Reply(thinking="Let me see …", text="I look.", calls=(Call(tool="sql_query"),)), Reply(text="Done.")
    )
    heard = Recorder()
    first = await provider.complete(request(), heard)
    assert heard.text == "I look."
    turn = AssistantTurn(text=first.text, calls=first.calls, native=first.native, native_provider=first.native_provider)
    result = ResultTurn(provider_id=first.calls[0].provider_id, tool="sql_query", text="1", ok=True)
    second = await ask(provider, UserTurn(text="Hello"), turn, result)
    assert second.text == "Done."
    sent = fake.received[1].json["messages"]
    assert sent[1]["content"][0] == {"type": "thinking", "thinking": "Let me see …", "signature": SIGNATURE}
    assert [block["type"] for block in sent[1]["content"]] == ["thinking", "text", "tool_use"]
    assert sent[2]["content"][0]["tool_use_id"] == sent[1]["content"][2]["id"]


@pytest.mark.parametrize(
    ("word", "stop"),
    [
        ("end_turn", Stop.END),
        ("stop_sequence", Stop.END),
        ("max_tokens", Stop.MAX_TOKENS),
        ("pause_turn", Stop.PAUSE),
        ("refusal", Stop.REFUSAL),
        ("model_context_window_exceeded", Stop.CONTEXT_EXCEEDED),
        ("something_new", Stop.MALFORMED),
    ],
)
async def test_every_stop_reason_has_a_meaning(
    fake: FakeAnthropic, provider: AnthropicProvider, word: str, stop: Stop
) -> None:
    """All documented reasons are told apart, and one that is not known is never taken for a good end."""
    fake.script.add(Reply(text="Some text.", stop=word))
    reply = await ask(provider)
    assert (reply.stop, reply.stop_detail) == (stop, word)


async def test_half_a_call_is_never_a_call(fake: FakeAnthropic, provider: AnthropicProvider) -> None:
    """Cut at the output limit in the middle of a call: it has no arguments, the stop says so, nothing of it goes back."""
    cut = Call(tool="sql_query", cut='{"query": "DELETE FROM customers')
    fake.script.add(Reply(text="I delete.", calls=(cut,), stop="max_tokens"), Reply(text="Shorter."))
    first = await ask(provider)
    assert (first.stop, [call.arguments for call in first.calls]) == (Stop.MAX_TOKENS, [None])
    turn = AssistantTurn(text=first.text, native=first.native, native_provider=first.native_provider)
    assert (await ask(provider, UserTurn(text="a"), turn, UserTurn(text="go on"))).text == "Shorter."
    assert "DELETE" not in json.dumps(fake.received[1].json)


async def test_arguments_that_are_no_object_are_kept_as_text(fake: FakeAnthropic, provider: AnthropicProvider) -> None:
    """A whole call with unreadable arguments is reported as such, and its conversation can go on."""
    fake.script.add(Reply(calls=(Call(tool="sql_query", cut='{"query": '),)), Reply(text="Sorry."))
    first = await ask(provider)
    (call,) = first.calls
    assert (call.arguments, call.raw) == (None, '{"query": ')
    turn = AssistantTurn(text="", calls=first.calls, native=first.native, native_provider=first.native_provider)
    result = ResultTurn(provider_id=call.provider_id, tool="sql_query", text="That was no JSON.", ok=False)
    assert (await ask(provider, UserTurn(text="a"), turn, result)).text == "Sorry."
    assert fake.received[1].json["messages"][2]["content"][0]["is_error"] is True


async def test_a_paused_turn_goes_on(fake: FakeAnthropic, provider: AnthropicProvider) -> None:
    """After a pause the same conversation with the reply appended is accepted."""
    fake.script.add(Reply(text="Working on it.", stop="pause_turn"), Reply(text="Here it is."))
    first = await ask(provider)
    turn = AssistantTurn(text=first.text, native=first.native, native_provider=first.native_provider)
    assert (await ask(provider, UserTurn(text="a"), turn)).text == "Here it is."
    assert fake.received[1].json["messages"][-1]["role"] == "assistant"


async def test_a_refusal_names_its_category(fake: FakeAnthropic, provider: AnthropicProvider) -> None:
    """What the API says about a refusal is kept."""
    fake.script.add(Reply(text="No.", stop="refusal", category="cyber"))
    reply = await ask(provider)
    assert (reply.stop, reply.stop_detail) == (Stop.REFUSAL, "refusal: cyber")


@pytest.mark.parametrize(
    ("failure", "kind", "retried", "code", "wait"),
    [
        (
            Failure(status=429, type="rate_limit_error", headers={"Retry-After": "17"}),
            "rate_limited",
            True,
            Code.MODEL_UNAVAILABLE,
            17.0,
        ),
        (Failure(status=529, type="overloaded_error"), "overloaded", True, Code.MODEL_UNAVAILABLE, None),
        (Failure(status=500), "server_error", True, Code.MODEL_UNAVAILABLE, None),
        (
            Failure(status=500, headers={"x-should-retry": "false"}),
            "server_error",
            False,
            Code.MODEL_UNAVAILABLE,
            None,
        ),
        (
            Failure(status=401, type="authentication_error"),
            "authentication",
            False,
            Code.MODEL_AUTHENTICATION,
            None,
        ),
        (Failure(status=403, type="permission_error"), "permission", False, Code.MODEL_AUTHENTICATION, None),
        (Failure(status=400, type="billing_error"), "payment", False, Code.MODEL_PAYMENT, None),
        (Failure(status=404, type="not_found_error"), "unknown_model", False, Code.MODEL_REJECTED_REQUEST, None),
        (Failure(status=400, type="invalid_request_error"), "bad_request", False, Code.MODEL_REJECTED_REQUEST, None),
        (
            Failure(status=400, type="invalid_request_error", message="prompt is too long: 9 tokens > 8 maximum"),
            "context_exceeded",
            False,
            Code.CONTEXT_EXCEEDED,
            None,
        ),
    ],
)
async def test_errors_are_sorted(
    fake: FakeAnthropic,
    provider: AnthropicProvider,
    failure: Failure,
    kind: str,
    retried: bool,
    code: Code,
    wait: float | None,
) -> None:
    """What the real SDK raises for each answer leads to the right row of the table; no text of the API gets out."""
    fake.script.add(failure)
    raised = await fails(provider)
    assert (raised.kind, raised.retryable, raised.code, raised.retry_after) == (kind, retried, code, wait)
    assert failure.message not in raised.message
    assert raised.__cause__ is None


async def test_an_overload_in_mid_stream_is_an_overload(fake: FakeAnthropic, provider: AnthropicProvider) -> None:
    """The status was 200; the type tells. What had been generated by then was told to the listener, to be billed."""
    fake.script.add(Reply(text="Half of this answer is lost on the way.", error_type="overloaded_error"))
    heard = Recorder()
    raised = await fails(provider, heard)
    assert (raised.kind, raised.retryable) == ("overloaded", True)
    assert heard.usages[-1].input == 100
    assert heard.usages[-1].output >= len(heard.text) // 4 > 0


@pytest.mark.parametrize("step", [Reply(text="Half of it" * 9, cut_off=True), Reply(text="Not all", unfinished=True)])
async def test_a_stream_that_breaks_off_is_no_answer(
    fake: FakeAnthropic, provider: AnthropicProvider, step: Reply
) -> None:
    """A broken connection and a stream without an end are both tried again, never used."""
    fake.script.add(step)
    raised = await fails(provider)
    assert (raised.kind, raised.retryable) == ("broken_stream", True)


async def test_a_silent_stream_times_out(fake: FakeAnthropic) -> None:
    """A connection that stays open and says nothing ends after the limit for silence."""
    fake.script.add(Reply(text="x" * 100, hang=True))
    provider = AnthropicProvider("sk-test", fake.url, silence_seconds=0.2)
    raised = await fails(provider)
    assert (raised.kind, raised.retryable) == ("timed_out", True)
    await provider.close()


async def test_nobody_there_is_the_network() -> None:
    """A refused connection is tried again."""
    server = FakeAnthropic()
    await server.start()
    url = server.url
    await server.stop()
    provider = AnthropicProvider("sk-test", url)
    raised = await fails(provider)
    assert (raised.kind, raised.retryable) == ("network", True)
    await provider.close()


async def test_without_a_key_nothing_is_sent(fake: FakeAnthropic) -> None:
    """No key: a clear failure that no repetition follows, and no request."""
    raised = await fails(AnthropicProvider(None, fake.url))
    assert (raised.kind, raised.retryable, raised.code) == ("no_key", False, Code.MODEL_AUTHENTICATION)
    assert fake.received == []


async def test_cancelling_closes_the_stream(fake: FakeAnthropic, provider: AnthropicProvider) -> None:
    """The server sees the client leave at once: nothing goes on generating, and being billed, behind our back."""
    fake.script.add(Reply(text="x" * 500, hang=True))
    heard = Recorder()
    task = asyncio.create_task(provider.complete(request(), heard))
    await asyncio.wait_for(heard.heard.wait(), 30)
    assert not fake.left.is_set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(fake.left.wait(), 2)
    assert heard.usages[-1].output > 1


async def test_the_limit_of_the_model_holds(fake: FakeAnthropic, provider: AnthropicProvider) -> None:
    """No model is asked for more than it can write; that would be a 400."""
    await ask(provider, model="claude-opus-4-5", limit=500_000)
    body = fake.received[0].json
    assert (body["model"], body["max_tokens"]) == ("claude-opus-4-5-20251101", 64_000)


async def test_a_conversation_of_another_provider_is_put_right(
    fake: FakeAnthropic, provider: AnthropicProvider
) -> None:
    """Ids that repeat or are not valid, a call without a result, empty texts: the API accepts what we make of them."""
    calls = ({"provider_id": "same id!", "tool": "web_fetch", "arguments": {}},) * 2
    turn = AssistantTurn.model_validate(
        {"text": "", "calls": calls, "native": [{"odd": 1}], "native_provider": "openai_compatible"}
    )
    result = ResultTurn(provider_id="same id!", tool="web_fetch", text="", ok=True)
    reply = await ask(provider, UserTurn(text=""), turn, result, UserTurn(text="And?"), turn, result, result)
    assert reply.stop is Stop.END
    sent = fake.received[0].json["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user", "assistant", "user"]
    assert [block["type"] for block in sent[2]["content"]] == ["tool_result", "tool_result", "text"]
    assert "not carried through" in sent[2]["content"][1]["content"]
