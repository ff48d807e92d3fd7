"""The provider for OpenAI-compatible endpoints, against a fake on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from activities.providers.openai_compatible import OpenAICompatibleProvider, is_openrouter, key_for
from conductor_ai.contracts.models import AssistantTurn, ModelReply, ModelRequest, ResultTurn, Stop, Turn, UserTurn
from conductor_ai.contracts.tools import Category, ToolSpec
from conductor_ai.errors import Code, ModelFailure
from conductor_ai.testing import Call, Failure, Recorder, Reply
from conductor_ai.testing.fake_openai import FakeOpenAI
from conductor_ai.testing.http import Answer, LoopbackServer, Received

NATIVE = "openai:local"
REACT = "qwen/qwen-2.5-72b-instruct"
TOOL = ToolSpec(
    name="web_fetch",
    description="Reads a page.",
    category=Category.WEB,
    parameters={
        "type": "object",
        "properties": {"url": {"type": "string", "description": "Where it is."}},
        "required": ["url"],
        "additionalProperties": False,
    },
    requires_approval=False,
)


def request(*turns: Turn, model: str = NATIVE, tools: tuple[ToolSpec, ...] = (TOOL,)) -> ModelRequest:
    return ModelRequest(model=model, system="Be brief.", turns=turns or (UserTurn(text="Hello"),), tools=tools)


@pytest.fixture
async def fake() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield server


@pytest.fixture
async def provider(fake: FakeOpenAI) -> AsyncIterator[OpenAICompatibleProvider]:
    made = OpenAICompatibleProvider(fake.base_url, "sk-local", silence_seconds=20)
    yield made
    await made.close()


async def ask(provider: OpenAICompatibleProvider, *turns: Turn, **more: Any) -> ModelReply:
    return await provider.complete(request(*turns, **more), Recorder())


async def fails(provider: OpenAICompatibleProvider, heard: Recorder | None = None) -> ModelFailure:
    with pytest.raises(ModelFailure) as caught:
        await provider.complete(request(), heard or Recorder())
    return caught.value


async def test_an_answer_is_streamed_and_counted(fake: FakeOpenAI, provider: OpenAICompatibleProvider) -> None:
    """Deltas join to the text; cached tokens are taken out of the input; the reported cost is exact."""
    fake.script.add(Reply(text="A rather long answer.", input_tokens=7, cache_read_tokens=90, cost=0.0001234567))
    heard = Recorder()
    reply = await provider.complete(request(), heard)
    assert (reply.stop, reply.text, heard.text) == (Stop.END, "A rather long answer.", "A rather long answer.")
    assert (reply.usage.input, reply.usage.cache_read, reply.usage.output) == (7, 90, 20)
    assert reply.usage.reported_cost_usd == Decimal("0.0001234567")
    assert heard.usages[-1] == reply.usage
    assert reply.provider_model == "local"


async def test_what_is_sent(fake: FakeOpenAI, provider: OpenAICompatibleProvider) -> None:
    """The endpoint gets its own key, the name behind `openai:`, tools with their schema, and no field of OpenRouter."""
    await ask(provider)
    (received,) = fake.received
    assert received.headers["authorization"] == "Bearer sk-local"
    body = received.json
    assert body["model"] == "local"
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["tools"][0]["function"]["parameters"] == TOOL.parameters
    assert body["stream_options"] == {"include_usage": True}
    assert "usage" not in body


async def test_tool_calls_and_their_results(fake: FakeOpenAI, provider: OpenAICompatibleProvider) -> None:
    """Calls are put together from pieces, and go back with one result each: the fake refuses anything else."""
    calls = (Call(tool="web_fetch", arguments={"url": "http://x/ü"}), Call(tool="web_fetch", arguments={"url": "y"}))
    fake.script.add(Reply(text="I look.", calls=calls), Reply(text="Done."))
    first = await ask(provider)
    assert (first.stop, first.text) == (Stop.TOOL_CALLS, "I look.")
    assert [call.arguments for call in first.calls] == [{"url": "http://x/ü"}, {"url": "y"}]
    turn = AssistantTurn(text=first.text, calls=first.calls)
    results = [ResultTurn(provider_id=call.provider_id, tool=call.tool, text="ok", ok=True) for call in first.calls]
    assert (await ask(provider, UserTurn(text="a"), turn, *reversed(results))).text == "Done."


@pytest.mark.parametrize(
    ("word", "stop"),
    [
        ("stop", Stop.END),
        ("length", Stop.MAX_TOKENS),
        ("content_filter", Stop.REFUSAL),
        ("something_new", Stop.MALFORMED),
    ],
)
async def test_every_finish_reason_has_a_meaning(
    fake: FakeOpenAI, provider: OpenAICompatibleProvider, word: str, stop: Stop
) -> None:
    """Documented reasons are told apart, and one that is not known is never taken for a good end."""
    fake.script.add(Reply(text="Some text.", stop=word))
    reply = await ask(provider)
    assert (reply.stop, reply.stop_detail) == (stop, word)


async def test_stop_with_calls_means_the_calls(fake: FakeOpenAI, provider: OpenAICompatibleProvider) -> None:
    """Some servers say `stop` after complete tool calls."""
    fake.script.add(Reply(calls=(Call(tool="web_fetch", arguments={"url": "x"}),), stop="stop"))
    assert (await ask(provider)).stop is Stop.TOOL_CALLS


async def test_half_a_call_is_never_a_call(fake: FakeOpenAI, provider: OpenAICompatibleProvider) -> None:
    """Cut at the limit: the stop says so, and the call has no arguments."""
    fake.script.add(Reply(calls=(Call(tool="web_fetch", cut='{"url": "ht'),), stop="length"))
    reply = await ask(provider)
    assert (reply.stop, [call.arguments for call in reply.calls]) == (Stop.MAX_TOKENS, [None])


async def test_arguments_that_are_no_object_are_kept_as_text(
    fake: FakeOpenAI, provider: OpenAICompatibleProvider
) -> None:
    """They are reported as text, and the conversation can go on."""
    fake.script.add(Reply(calls=(Call(tool="web_fetch", cut='"http://x"'),)), Reply(text="Sorry."))
    first = await ask(provider)
    assert (first.calls[0].arguments, first.calls[0].raw) == (None, '"http://x"')
    turn = AssistantTurn(text="", calls=first.calls)
    assert (await ask(provider, UserTurn(text="a"), turn)).text == "Sorry."


@pytest.mark.parametrize(
    ("failure", "kind", "retried", "code", "wait"),
    [
        (Failure(status=429, headers={"Retry-After": "9"}), "rate_limited", True, Code.MODEL_UNAVAILABLE, 9.0),
        (Failure(status=429, type="insufficient_quota"), "payment", False, Code.MODEL_PAYMENT, None),
        (Failure(status=402), "payment", False, Code.MODEL_PAYMENT, None),
        (Failure(status=402, headers={"Retry-After": "2"}), "payment", True, Code.MODEL_PAYMENT, 2.0),
        (Failure(status=502), "server_error", True, Code.MODEL_UNAVAILABLE, None),
        (Failure(status=503), "overloaded", True, Code.MODEL_UNAVAILABLE, None),
        # OpenAI writes the same type for a wrong key and for a wrong request.
        (
            Failure(status=401, type="invalid_request_error"),
            "authentication",
            False,
            Code.MODEL_AUTHENTICATION,
            None,
        ),
        (Failure(status=400, type="invalid_request_error"), "bad_request", False, Code.MODEL_REJECTED_REQUEST, None),
        (
            Failure(status=400, message="This model's maximum context length is 8192 tokens."),
            "context_exceeded",
            False,
            Code.CONTEXT_EXCEEDED,
            None,
        ),
        (
            Failure(status=302, headers={"Location": "http://127.0.0.1:1/v1"}),
            "server_error",
            True,
            Code.MODEL_UNAVAILABLE,
            None,
        ),
    ],
)
async def test_errors_are_sorted(
    fake: FakeOpenAI,
    provider: OpenAICompatibleProvider,
    failure: Failure,
    kind: str,
    retried: bool,
    code: Code,
    wait: float | None,
) -> None:
    """Each answer leads to the right row of the table, redirects are not followed, and no text of the server gets out."""
    fake.script.add(failure)
    raised = await fails(provider)
    assert (raised.kind, raised.retryable, raised.code, raised.retry_after) == (kind, retried, code, wait)
    assert failure.message not in raised.message
    assert raised.__cause__ is None
    assert len(fake.received) == 1


@pytest.mark.parametrize(
    ("type_", "code", "kind", "retried"),
    [
        ("rate_limit_exceeded", 429, "rate_limited", True),
        ("provider_unavailable", 502, "server_error", True),
        ("unheard_of", None, "server_error", True),
        ("invalid_request_error", None, "bad_request", False),
    ],
)
async def test_an_error_in_mid_stream_is_sorted(
    fake: FakeOpenAI,
    provider: OpenAICompatibleProvider,
    type_: str,
    code: int | None,
    kind: str,
    retried: bool,
) -> None:
    """The status was 200; code and type of the event tell, and what was generated is told to the listener."""
    fake.script.add(Reply(text="Half of this answer is lost on the way.", error_type=type_, error_code=code))
    heard = Recorder()
    raised = await fails(provider, heard)
    assert (raised.kind, raised.retryable) == (kind, retried)
    assert heard.usages[-1].output > 0


@pytest.mark.parametrize("step", [Reply(text="Half of it" * 9, cut_off=True), Reply(text="Not all", unfinished=True)])
async def test_a_stream_that_breaks_off_is_no_answer(
    fake: FakeOpenAI, provider: OpenAICompatibleProvider, step: Reply
) -> None:
    """A broken connection and a stream without an end are both tried again, never used."""
    fake.script.add(step)
    raised = await fails(provider)
    assert (raised.kind, raised.retryable) == ("broken_stream", True)


async def test_a_silent_stream_times_out(fake: FakeOpenAI) -> None:
    """A connection that stays open and says nothing ends after the limit for silence."""
    fake.script.add(Reply(text="x" * 100, hang=True))
    provider = OpenAICompatibleProvider(fake.base_url, None, silence_seconds=0.2)
    raised = await fails(provider)
    assert (raised.kind, raised.retryable) == ("timed_out", True)
    await provider.close()


async def test_nobody_there_is_the_network() -> None:
    """A refused connection is tried again."""
    server = FakeOpenAI()
    await server.start()
    base_url = server.base_url
    await server.stop()
    provider = OpenAICompatibleProvider(base_url, None)
    assert (await fails(provider)).kind == "network"
    await provider.close()


async def test_cancelling_closes_the_stream(fake: FakeOpenAI, provider: OpenAICompatibleProvider) -> None:
    """The server sees the client leave at once."""
    fake.script.add(Reply(text="x" * 500, hang=True))
    heard = Recorder()
    task = asyncio.create_task(provider.complete(request(), heard))
    await asyncio.wait_for(heard.heard.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(fake.left.wait(), 2)


async def test_a_server_that_does_not_stream_is_understood() -> None:
    """One JSON object in place of a stream is the whole answer; text that is no JSON is a broken answer."""
    answers = [
        json.dumps({"choices": [{"message": {"content": "Plain."}, "finish_reason": "stop"}], "usage": None}),
        "not json",
    ]

    async def handle(_: Received) -> Answer:
        return Answer(text=answers.pop(0))

    async with LoopbackServer(handle) as server:
        provider = OpenAICompatibleProvider(server.url, None)
        assert (await ask(provider)).text == "Plain."
        assert (await fails(provider)).kind == "broken_stream"
        assert "authorization" not in server.received[0].headers
        await provider.close()


async def test_reasoning_goes_back_as_it_was() -> None:
    """`reasoning_details` of OpenRouter return unchanged with the answer that they belong to, and are not shown."""
    detail = {"type": "reasoning.text", "text": "hm", "signature": "s", "weight": 0.5}
    delta = {"content": "Yes.", "reasoning": "hm", "reasoning_details": [detail]}
    answer = {"choices": [{"delta": delta, "finish_reason": "stop"}]}

    async def handle(_: Received) -> Answer:
        return Answer(text=json.dumps(answer))

    async with LoopbackServer(handle) as server:
        provider = OpenAICompatibleProvider(server.url, None)
        first = await ask(provider)
        assert first.text == "Yes."
        turn = AssistantTurn(text=first.text, native=first.native, native_provider=first.native_provider)
        await ask(provider, UserTurn(text="a"), turn, UserTurn(text="b"))
        assert server.received[1].json["messages"][2]["reasoning_details"] == [detail]
        await provider.close()


async def test_a_model_without_tools_is_prompted_for_json(fake: FakeOpenAI, provider: OpenAICompatibleProvider) -> None:
    """The prompt names every tool with its parameters; actions and observations go back as text; no tool field is sent."""
    step = {"thought": "I look.", "action": {"tool_name": "web_fetch", "arguments": {"url": "u"}}, "is_final": False}
    last = {"thought": "Clear.", "action": None, "is_final": True, "final_answer": "42"}
    fake.script.add(Reply(text=f"Sure!\n```json\n{json.dumps(step, indent=1)}\n```\n"), Reply(text=json.dumps(last)))
    heard = Recorder()
    first = await provider.complete(request(model=REACT), heard)
    assert (first.stop, first.text) == (Stop.TOOL_CALLS, "I look.")
    assert [(call.tool, call.arguments) for call in first.calls] == [("web_fetch", {"url": "u"})]
    assert heard.text == "I look."
    body = fake.received[0].json
    assert "tools" not in body
    prompt = body["messages"][0]["content"]
    for part in ("Be brief.", "web_fetch", "Where it is.", '"required": ["url"]', "is_final"):
        assert part in prompt
    turn = AssistantTurn(text=first.text, calls=first.calls)
    result = ResultTurn(provider_id=first.calls[0].provider_id, tool="web_fetch", text="a page", ok=False)
    second = await ask(provider, UserTurn(text="Hello"), turn, result, model=REACT)
    assert (second.stop, second.text, second.final_answer) == (Stop.END, "Clear.", "42")
    sent = fake.received[1].json["messages"]
    assert json.loads(sent[2]["content"])["action"]["tool_name"] == "web_fetch"
    assert sent[3] == {"role": "user", "content": "Observation of web_fetch (error):\na page"}


async def test_a_malformed_answer_can_be_repaired(fake: FakeOpenAI, provider: OpenAICompatibleProvider) -> None:
    """The stop says MALFORMED and why; in the repair turn the model sees what it had written."""
    fake.script.add(
        Reply(text="I would rather chat."), Reply(text='{"thought": "", "is_final": true, "final_answer": "x"}')
    )
    first = await ask(provider, model=REACT)
    assert (first.stop, first.calls) == (Stop.MALFORMED, ())
    assert "no JSON object" in (first.stop_detail or "")
    turn = AssistantTurn(text=first.text, native=first.native, native_provider=first.native_provider)
    second = await ask(provider, UserTurn(text="a"), turn, UserTurn(text="Answer in JSON."), model=REACT)
    assert second.final_answer == "x"
    assert fake.received[1].json["messages"][2] == {"role": "assistant", "content": "I would rather chat."}


async def test_without_tools_every_model_just_answers(fake: FakeOpenAI, provider: OpenAICompatibleProvider) -> None:
    """ReAct is for tools; without them its format would only be in the way."""
    fake.script.add(Reply(text="Plain words."))
    assert (await ask(provider, model=REACT, tools=())).text == "Plain words."
    assert "thought" not in fake.received[0].json["messages"][0]["content"]


async def test_openrouter_without_a_key_is_told_so() -> None:
    """Nothing is sent, and no repetition follows."""
    provider = OpenAICompatibleProvider("https://openrouter.ai/api/v1", None)
    raised = await fails(provider)
    assert (raised.kind, raised.retryable) == ("no_key", False)
    await provider.close()


@pytest.mark.parametrize(
    ("base_url", "is_it"),
    [
        ("https://openrouter.ai/api/v1", True),
        ("https://OpenRouter.ai:443/api/v1", True),
        ("http://openrouter.ai/api/v1", False),
        ("https://openrouter.ai:8443/api/v1", False),
        ("https://openrouter.ai.evil.example/api/v1", False),
        ("https://evil.example/openrouter.ai", False),
        ("https://openrouter.ai@evil.example/api/v1", False),
        ("https://sub.openrouter.ai/api/v1", False),
        ("http://localhost:11434/v1", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_openrouters_key_goes_to_openrouter_alone(base_url: str, is_it: bool) -> None:
    """Only the exact host, by TLS; every neighbour gets no key, unless it has one of its own."""
    assert is_openrouter(base_url) is is_it
    assert key_for(base_url, None, "or-key") == ("or-key" if is_it else None)
    assert key_for(base_url, "own", "or-key") == "own"


async def test_an_endpoint_without_formats_is_asked_again_without(
    fake: FakeOpenAI, provider: OpenAICompatibleProvider
) -> None:
    """A 400 to `response_format` is no end: it is left out, at once and from then on; any other 400 is what it was."""
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
    asked = request(tools=()).model_copy(update={"output_schema": schema})
    fake.script.add(Failure(status=400, message="unknown field"), Reply(text='{"a": 1}'), Reply(text='{"a": 2}'))
    assert (await provider.complete(asked, Recorder())).text == '{"a": 1}'
    assert (await provider.complete(asked, Recorder())).text == '{"a": 2}'
    assert ["response_format" in received.json for received in fake.received] == [True, False, False]
    fake.script.add(Failure(status=400, message="no"))
    assert (await fails(provider)).code is Code.MODEL_REJECTED_REQUEST
