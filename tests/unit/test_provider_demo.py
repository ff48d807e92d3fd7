"""The demo model: what it does with the demo task, with denials, without tools, and with directives."""

import asyncio
import json
import sys
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.providers.demo import DemoProvider
from activities.providers.demo_policy import LABEL, Outcome, read_outcome
from activities.providers.demo_script import parse
from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.models import (
    AssistantTurn,
    ModelReply,
    ModelRequest,
    ResultTurn,
    Stop,
    Turn,
    Usage,
    UserTurn,
)
from conductor_ai.contracts.tools import Category, ToolSpec
from conductor_ai.errors import Code, ModelFailure

TASK = "Read http://127.0.0.1:8080/prices, work on it with Python, look into the shop and make product 1 cheaper."
PAGE = "Blue kettle 39.90, red kettle 45.00. “Smart” 😀 quotes"
TOOLS = ("web_fetch", "code_run", "sql_query")
Answer = Callable[[str, JsonObject], tuple[bool, str]]


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.text = ""
        self.latest = Usage()
        self.began = asyncio.Event()

    def delta(self, text: str, /) -> None:
        self.text += text
        self.began.set()

    def usage(self, usage: Usage, /) -> None:
        self.latest = usage


def spec(name: str) -> ToolSpec:
    return ToolSpec(name=name, description=name, category=Category.OTHER, parameters={}, requires_approval=False)


def request(turns: list[Turn], tools: tuple[str, ...] = TOOLS) -> ModelRequest:
    return ModelRequest(model="demo", system="", turns=tuple(turns), tools=tuple(spec(name) for name in tools))


async def ask(turns: list[Turn], tools: tuple[str, ...] = TOOLS) -> ModelReply:
    return await DemoProvider().complete(request(turns, tools), Heard())


async def play(
    task: str, answer: Answer, tools: tuple[str, ...] = TOOLS
) -> tuple[list[tuple[str, JsonObject]], ModelReply]:
    """Run the loop with a pretended world. Returns the calls in order, and the final answer."""
    turns: list[Turn] = [UserTurn(text=task)]
    calls: list[tuple[str, JsonObject]] = []
    for _ in range(20):
        reply = await ask(turns, tools)
        if reply.stop is Stop.END:
            return calls, reply
        turns.append(AssistantTurn(text=reply.text, calls=reply.calls))
        for call in reply.calls:
            assert call.arguments is not None
            calls.append((call.tool, call.arguments))
            ok, text = answer(call.tool, call.arguments)
            turns.append(ResultTurn(provider_id=call.provider_id, tool=call.tool, text=text, ok=ok))
    raise AssertionError("the demo does not come to an end")


def world(**overrides: tuple[bool, str]) -> Answer:
    """Answers of tools; `read` and `write` tell the two SQL calls apart."""
    answers: dict[str, tuple[bool, str]] = {
        "web_fetch": (True, PAGE),
        "code_run": (True, '{"words": 5}'),
        "read": (True, "customers 4, products 7"),
        "write": (True, "1 row updated"),
    } | overrides

    def answer(tool: str, arguments: JsonObject) -> tuple[bool, str]:
        if tool == "sql_query":
            return answers["write" if "UPDATE" in str(arguments["query"]) else "read"]
        return answers[tool]

    return answer


async def test_the_demo_task_uses_every_tool_in_turn() -> None:
    """Page, code on what was found, a read, a write with a WHERE; the answer quotes what came back and says who speaks."""
    calls, reply = await play(TASK, world())
    assert [tool for tool, _ in calls] == ["web_fetch", "code_run", "sql_query", "sql_query"]
    assert calls[0][1] == {"url": "http://127.0.0.1:8080/prices"}
    assert "kettle" in str(calls[1][1]["code"])
    assert str(calls[2][1]["query"]).startswith("SELECT")
    assert "WHERE" in str(calls[3][1]["query"])
    assert reply.text.startswith(LABEL)
    for part in ("Blue kettle", '{"words": 5}', "products 7", "1 row updated"):
        assert part in reply.text


async def test_what_the_page_says_decides_the_change() -> None:
    """Products and percentage of a price note end up as parameter and factor of the write; without a note an example does."""
    page = "These cost 4.5 percent more:\nCOF-004 Decaf 8.60\nCOF-008 Espresso 7.90\nCOF-004 again"
    calls, _ = await play(TASK, world(web_fetch=(True, page)))
    assert calls[3][1] == {
        "query": "UPDATE products SET price_eur = round(price_eur * 1.045, 2) WHERE sku = ANY($1)",
        "params": [["COF-004", "COF-008"]],
    }
    calls, _ = await play(TASK, world(web_fetch=(True, "TEA-001 is now 10 % cheaper")))
    assert "price_eur * 0.9, 2" in str(calls[3][1]["query"])
    calls, _ = await play(TASK, world(web_fetch=(False, "COF-008 costs 99 percent more")))
    assert "price_eur * 0.95, 2" in str(calls[3][1]["query"])


async def test_the_code_runs_and_sees_the_page() -> None:
    """The program that the demo writes is valid Python whatever the page holds, and prints JSON about that page."""
    calls, _ = await play(TASK, world())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", str(calls[1][1]["code"]), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    found = json.loads(out)
    assert found["characters"] == len(PAGE)
    assert found["largest"] == 45.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Denied by a person: not today.", "was denied"),
        ("The approval expired before anybody decided.", "was not decided in time"),
    ],
)
async def test_a_denied_read_is_not_repeated_and_no_write_follows(text: str, said: str) -> None:
    """A person's no ends the work on the database: nothing is asked again, and the answer says so."""
    calls, reply = await play(TASK, world(read=(False, text)))
    assert [tool for tool, _ in calls] == ["web_fetch", "code_run", "sql_query"]
    assert f"Query {said}" in reply.text
    assert text in reply.text


async def test_a_denied_write_is_not_repeated() -> None:
    """The change is proposed once; what was read is still told."""
    calls, reply = await play(TASK, world(write=(False, "Denied: too cheap.")))
    assert len(calls) == 4
    assert "Change was denied" in reply.text
    assert "products 7" in reply.text


async def test_a_page_that_cannot_be_read_does_not_stop_the_rest() -> None:
    """The code then works on the task itself, and says so."""
    calls, reply = await play(TASK, world(web_fetch=(False, "404")))
    assert len(calls) == 4
    assert "make product 1 cheaper" in str(calls[1][1]["code"])
    assert "Page failed: 404" in reply.text


async def test_an_unavailable_sandbox_is_told_and_passed_by() -> None:
    """A tool that says it is unavailable costs one call and a sentence."""
    calls, reply = await play(TASK, world(code_run=(False, "code_run is unavailable: install bubblewrap.")))
    assert len(calls) == 4
    assert "Python is not available here" in reply.text


@given(st.sets(st.sampled_from(TOOLS)))
async def test_it_ends_well_without_some_tools(tools: set[str]) -> None:
    """Whatever is missing is never called, is named in the answer, and the rest is done."""
    calls, reply = await play(TASK, world(), tuple(sorted(tools)))
    assert {tool for tool, _ in calls} == tools
    for missing in set(TOOLS) - tools:
        assert f"{missing} is not among the tools" in reply.text
    assert reply.stop is Stop.END


async def test_a_task_without_a_page_gets_what_it_names() -> None:
    """No address: only the tools that the words of the task ask for."""
    calls, _ = await play("How many orders are in the shop?", world())
    assert [tool for tool, _ in calls] == ["sql_query"]
    calls, reply = await play("Good morning!", world())
    assert calls == []
    assert "not a language model" in reply.text


async def test_a_follow_up_starts_afresh() -> None:
    """Only what came after the last message of a person counts."""
    calls, _ = await play(TASK, world())
    turns: list[Turn] = [UserTurn(text=TASK), AssistantTurn(text="done"), UserTurn(text="Run Python again.")]
    reply = await ask(turns)
    assert [call.tool for call in reply.calls] == ["code_run"]
    assert calls


async def test_it_is_deterministic_free_and_labelled() -> None:
    """The same conversation gets the same answer, at no cost, with tokens that are said to be estimates."""
    first, second = await ask([UserTurn(text=TASK)]), await ask([UserTurn(text=TASK)])
    assert first == second
    assert first.usage.reported_cost_usd == Decimal(0)
    assert first.usage.output > 0
    assert "estimated" in (first.provider_model or "")
    assert first.text.startswith(LABEL)


async def test_directives_script_each_step() -> None:
    """One step for each directive, thoughts before calls, parallel calls with ids of their own, then the answer."""
    task = (
        "Please:\n"
        'demo: think I look first.\ndemo: call sql_query {"query": "SELECT 1"}\n'
        'demo: parallel [{"tool": "web_fetch", "arguments": {"url": "http://x"}}, {"tool": "code_run"}]\n'
        "demo: say All done."
    )
    turns: list[Turn] = [UserTurn(text=task)]
    first = await ask(turns)
    assert first.stop is Stop.TOOL_CALLS
    assert first.text == f"{LABEL} I look first."
    assert [(call.tool, call.arguments) for call in first.calls] == [("sql_query", {"query": "SELECT 1"})]
    turns.append(AssistantTurn(text=first.text, calls=first.calls))
    second = await ask(turns)
    assert [call.tool for call in second.calls] == ["web_fetch", "code_run"]
    assert len({call.provider_id for call in (*first.calls, *second.calls)}) == 3
    turns.append(AssistantTurn(text=second.text, calls=second.calls))
    third = await ask(turns)
    assert (third.stop, third.text) == (Stop.END, f"{LABEL} All done.")


async def test_a_script_without_an_answer_ends_with_what_came_back() -> None:
    """The answer lists the results, and whether each was ok."""
    turns: list[Turn] = [
        UserTurn(text='demo: call echo {"a": 1}'),
        AssistantTurn(text=""),
        ResultTurn(provider_id="demo_0_0", tool="echo", text="denied by a person", ok=False),
    ]
    reply = await ask(turns)
    assert reply.stop is Stop.END
    assert "echo (not ok): denied by a person" in reply.text


async def test_malformed_arguments_are_sent_as_they_are() -> None:
    """A call whose arguments are no JSON object carries their text and no arguments."""
    reply = await ask([UserTurn(text="demo: call echo [1, 2")])
    (call,) = reply.calls
    assert (call.arguments, call.raw) == (None, "[1, 2")


@pytest.mark.parametrize("stop", [Stop.MAX_TOKENS, Stop.REFUSAL, Stop.PAUSE, Stop.MALFORMED, Stop.CONTEXT_EXCEEDED])
async def test_a_script_can_stop_for_any_reason(stop: Stop) -> None:
    """What is rare with real models can be shown at will."""
    assert (await ask([UserTurn(text=f"demo: stop {stop.value}")])).stop is stop


async def test_a_script_can_fail() -> None:
    """A failure comes out of the one table like any provider's."""
    with pytest.raises(ModelFailure) as caught:
        await ask([UserTurn(text="demo: fail overloaded")])
    assert (caught.value.retryable, caught.value.code) == (True, Code.MODEL_UNAVAILABLE)


async def test_a_typing_error_is_told() -> None:
    """A directive that cannot be read is answered with a sentence, not taken for something else."""
    assert "cannot be read" in (await ask([UserTurn(text="demo: explode now")])).text
    assert "JSON list" in (await ask([UserTurn(text="demo: parallel nonsense")])).text


async def test_a_slow_answer_can_be_cancelled() -> None:
    """Cancelling in mid-stream takes effect at once, after something was heard and its usage told."""
    heard = Heard()
    task = asyncio.create_task(
        DemoProvider().complete(request([UserTurn(text="demo: slow 500\ndemo: say one two three")]), heard)
    )
    await asyncio.wait_for(heard.began.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard.text == f"{LABEL} "[: len(heard.text)]
    assert heard.latest.output > 0


async def test_what_is_heard_is_what_is_said() -> None:
    """The deltas join to the text, and the last usage is that of the reply."""
    heard = Heard()
    reply = await DemoProvider().complete(request([UserTurn(text=TASK)]), heard)
    assert heard.text == reply.text
    assert heard.latest == reply.usage


@pytest.mark.parametrize(
    ("ok", "text", "outcome"),
    [
        (True, "denied expired unavailable", Outcome.OK),
        (False, "A person looked at this call and denied it; it was not run.", Outcome.DENIED),
        (False, "The policy does not allow this call (rule); it was not run.", Outcome.DENIED),
        (False, "Nobody decided about this call in time; it was not run. That is not a denial.", Outcome.EXPIRED),
        (False, "The request for approval expired.", Outcome.EXPIRED),
        (False, "No sandbox: code_run is unavailable.", Outcome.UNAVAILABLE),
        (False, "syntax error at or near", Outcome.FAILED),
    ],
)
def test_outcomes_are_told_apart(ok: bool, text: str, outcome: Outcome) -> None:
    """A result that is ok is ok whatever its text says; the others are sorted by theirs."""
    assert read_outcome(ResultTurn(provider_id="x", tool="t", text=text, ok=ok)) is outcome


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    """Any message is either a script or none."""
    assert isinstance(parse(text), tuple)
    assert isinstance(parse(f"demo: {text}"), tuple)
