"""What every provider must do, run against each of them. A new provider is a new parameter."""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

import pytest

from activities.outputs import with_output
from activities.providers.anthropic import AnthropicProvider
from activities.providers.base import Provider
from activities.providers.demo import DemoProvider
from activities.providers.openai_compatible import OpenAICompatibleProvider
from conductor_ai.catalog import find
from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.models import AssistantTurn, ModelReply, ModelRequest, ResultTurn, Stop, Turn, UserTurn
from conductor_ai.contracts.tools import Category, ToolSpec
from conductor_ai.errors import ModelFailure
from conductor_ai.testing import Call, Failure, Recorder, Reply
from conductor_ai.testing.fake_anthropic import FakeAnthropic
from conductor_ai.testing.fake_openai import FakeOpenAI

TOOL = ToolSpec(
    name="sql_query",
    description="Runs one statement.",
    category=Category.DATABASE,
    parameters={
        "type": "object",
        "properties": {"query": {"type": "string"}},
        "required": ["query"],
        "additionalProperties": False,
    },
    requires_approval=True,
)
ARGUMENTS: JsonObject = {"query": "SELECT 'ü', 1"}


class Bench(ABC):
    """A provider with the means to make it behave."""

    model: str
    provider: Provider

    def task(self) -> str:
        """What the person says."""
        return "Look into the database."

    @abstractmethod
    async def start(self) -> None:
        """Bring up server and provider."""

    @abstractmethod
    async def stop(self) -> None:
        """Take them down."""

    @abstractmethod
    def answers(self, text: str) -> None:
        """The next answer is this text."""

    @abstractmethod
    def calls(self, thought: str, arguments: JsonObject) -> None:
        """The next answer calls the tool."""

    @abstractmethod
    def fails(self) -> None:
        """The next answer is an overload."""

    @abstractmethod
    def hangs(self) -> None:
        """The next answer never ends."""

    @abstractmethod
    def cuts(self) -> None:
        """The next answer is cut at the output limit."""


class Server(Bench):
    """A provider with a fake server behind it."""

    fake: FakeAnthropic | FakeOpenAI

    async def stop(self) -> None:
        await self.provider.close()
        await self.fake.stop()

    def answers(self, text: str) -> None:
        self.fake.script.add(Reply(text=text))

    def calls(self, thought: str, arguments: JsonObject) -> None:
        self.fake.script.add(Reply(text=thought, calls=(Call(tool=TOOL.name, arguments=arguments),)))

    def fails(self) -> None:
        self.fake.script.add(Failure(status=529, type="overloaded_error", headers={"retry-after": "3"}))

    def hangs(self) -> None:
        self.fake.script.add(Reply(text="x" * 400, hang=True))

    def cuts(self) -> None:
        self.fake.script.add(
            Reply(text="I begin", calls=(Call(tool=TOOL.name, cut='{"query": "DEL'),), stop=self.limit)
        )

    limit = "max_tokens"


class Anthropic(Server):
    model = "claude-sonnet-5-5"

    async def start(self) -> None:
        self.fake = FakeAnthropic()
        await self.fake.start()
        self.provider = AnthropicProvider("sk-test", self.fake.url)


class OpenAINative(Server):
    model = "openai:local"
    limit = "length"

    async def start(self) -> None:
        self.fake = FakeOpenAI()
        await self.fake.start()
        self.provider = OpenAICompatibleProvider(self.fake.base_url, None)


class OpenAIReact(OpenAINative):
    model = "qwen/qwen-2.5-72b-instruct"

    def answers(self, text: str) -> None:
        step = {"thought": "Clear.", "action": None, "is_final": True, "final_answer": text}
        self.fake.script.add(Reply(text=json.dumps(step)))

    def calls(self, thought: str, arguments: JsonObject) -> None:
        action = {"tool_name": TOOL.name, "arguments": arguments}
        step = {"thought": thought, "action": action, "is_final": False, "final_answer": None}
        self.fake.script.add(Reply(text=f"```json\n{json.dumps(step)}\n```"))


class Demo(Bench):
    """The demo is told by the person what to do."""

    model = "demo"

    async def start(self) -> None:
        self.provider = DemoProvider()
        self._lines: list[str] = []

    async def stop(self) -> None:
        await self.provider.close()

    def task(self) -> str:
        return "\n".join(self._lines)

    def answers(self, text: str) -> None:
        self._lines.append(f"demo: say {text}")

    def calls(self, thought: str, arguments: JsonObject) -> None:
        self._lines += [f"demo: think {thought}", f"demo: call {TOOL.name} {json.dumps(arguments)}"]

    def fails(self) -> None:
        self._lines.append("demo: fail overloaded")

    def hangs(self) -> None:
        self._lines += ["demo: slow 500", "demo: say one two three"]

    def cuts(self) -> None:
        self._lines += ["demo: stop max_tokens"]


@pytest.fixture(params=[Anthropic, OpenAINative, OpenAIReact, Demo])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    made: Bench = request.param()
    await made.start()
    yield made
    await made.stop()


async def ask(bench: Bench, *after: Turn, heard: Recorder | None = None) -> ModelReply:
    turns: tuple[Turn, ...] = (UserTurn(text=bench.task()), *after)
    asked = ModelRequest(model=bench.model, system="Be brief.", turns=turns, tools=(TOOL,))
    return await bench.provider.complete(asked, heard or Recorder())


def turn_of(reply: ModelReply) -> AssistantTurn:
    return AssistantTurn(text=reply.text, calls=reply.calls, native=reply.native, native_provider=reply.native_provider)


async def test_its_name_is_in_the_catalog(bench: Bench) -> None:
    """The catalog's word for the provider of a model is the provider's own name."""
    assert find(bench.model).provider == bench.provider.name


async def test_an_answer_ends_and_is_counted(bench: Bench) -> None:
    """The text comes back, something was heard of it, and the last usage heard is the usage of the reply."""
    bench.answers("Forty-two.")
    heard = Recorder()
    reply = await ask(bench, heard=heard)
    assert reply.stop is Stop.END
    assert "Forty-two." in (reply.final_answer or reply.text)
    assert "Forty-two." in heard.text
    assert reply.calls == ()
    assert heard.usages[-1] == reply.usage
    assert reply.usage.input > 0
    assert reply.usage.output > 0
    assert reply.provider_model


async def test_a_call_round_trips(bench: Bench) -> None:
    """Thought, tool and arguments come whole; with its result appended the conversation goes on to the answer."""
    bench.calls("I look.", ARGUMENTS)
    bench.answers("Done.")
    first = await ask(bench)
    assert first.stop is Stop.TOOL_CALLS
    assert "I look." in first.text
    (call,) = first.calls
    assert (call.tool, call.arguments, call.raw) == (TOOL.name, ARGUMENTS, None)
    result = ResultTurn(provider_id=call.provider_id, tool=call.tool, text="1 row", ok=True)
    second = await ask(bench, turn_of(first), result)
    assert second.stop is Stop.END
    assert "Done." in (second.final_answer or second.text)


SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"answer": {"type": "integer", "minimum": 1}},
    "required": ["answer"],
}


@pytest.mark.parametrize("tools", [(TOOL,), ()], ids=["with-tools", "without-tools"])
async def test_an_answer_in_the_shape_of_a_schema(bench: Bench, tools: tuple[ToolSpec, ...]) -> None:
    """The schema reaches the model by whatever means the provider has, and the answer's value can be read."""
    if isinstance(bench, OpenAIReact) and not tools:
        bench.fake.script.add(Reply(text='{"answer": 42}'))  # without tools it is an ordinary chat
    else:
        bench.answers('{"answer": 42}')
    turns = (UserTurn(text=bench.task()),)
    asked = ModelRequest(model=bench.model, system="Be brief.", turns=turns, tools=tools, output_schema=SCHEMA)
    reply = with_output(await bench.provider.complete(asked, Recorder()), SCHEMA)
    assert (reply.stop, reply.output) == (Stop.END, {"answer": 42})
    if isinstance(bench, Server):
        sent = bench.fake.received[-1].json
        told = json.dumps({name: sent.get(name) for name in ("output_config", "system", "messages")})
        assert "answer" in told
        assert ("output_config" in sent) == isinstance(bench, Anthropic)
        # Held to a format from its first token, many a server could call no tool any more.
        assert ("response_format" in sent) == (isinstance(bench, OpenAINative) and not tools)


async def test_ids_of_calls_differ_between_steps(bench: Bench) -> None:
    """Two steps with one call each: results can be paired without a doubt, also when a call has none."""
    bench.calls("One.", ARGUMENTS)
    bench.calls("Two.", ARGUMENTS)
    bench.answers("Done.")
    first = await ask(bench)
    second = await ask(bench, turn_of(first))
    denied = ResultTurn(provider_id=second.calls[0].provider_id, tool=TOOL.name, text="Denied by a person.", ok=False)
    third = await ask(bench, turn_of(first), turn_of(second), denied)
    assert third.stop is Stop.END


async def test_a_cut_answer_says_so(bench: Bench) -> None:
    """The stop is MAX_TOKENS, and no call of it has arguments that could be run."""
    bench.cuts()
    reply = await ask(bench)
    assert reply.stop is Stop.MAX_TOKENS
    assert all(call.arguments is None for call in reply.calls)


async def test_an_overload_is_a_failure_to_retry(bench: Bench) -> None:
    """It comes out as the one exception, sorted by the one table."""
    bench.fails()
    with pytest.raises(ModelFailure) as caught:
        await ask(bench)
    assert (caught.value.retryable, caught.value.kind) == (True, "overloaded")


async def test_cancelling_takes_effect_at_once(bench: Bench) -> None:
    """An answer that never ends is left within a second, and the provider can be used again."""
    bench.hangs()
    heard = Recorder()
    task = asyncio.create_task(ask(bench, heard=heard))
    if bench.model != OpenAIReact.model:
        await asyncio.wait_for(heard.heard.wait(), 30)
    else:  # its JSON is not told piece by piece, its usage is
        while not heard.usages:
            await asyncio.wait({task}, timeout=0.01)
    task.cancel()
    async with asyncio.timeout(1):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert heard.usages[-1].output > 0
