"""How strictly answers in ReAct JSON are read, and what surrounds them without harm."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.providers.react import NATIVE, Malformed, messages, parse, reply, system
from conductor_ai.contracts.models import AssistantTurn, ProposedCall, ResultTurn, Stop, Usage, UserTurn
from conductor_ai.contracts.tools import Category, ToolSpec

ACTION = {"thought": "t", "action": {"tool_name": "web_fetch", "arguments": {"url": "u"}}, "is_final": False}
FINAL = {"thought": "t", "action": None, "is_final": True, "final_answer": "42"}


def dumped(value: object) -> str:
    return json.dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        dumped(ACTION),
        json.dumps(ACTION, indent=2),
        f"```json\n{dumped(ACTION)}\n```",
        f"```\n{dumped(ACTION)}\n```",
        f"Sure! Here is my step:\n```json\n{dumped(ACTION)}\n```\nI hope that this helps.",
        f"I use {{braces}} freely. {dumped(ACTION)}",
        f'{{"unrelated": 1}} {dumped(ACTION)}',
        f"{dumped(ACTION)}\nObservation of web_fetch:\nmade up\n{dumped(FINAL)}",
        dumped(ACTION | {"confidence": 0.9}),
        dumped(ACTION | {"final_answer": None}),
    ],
)
def test_an_action_is_found_whatever_surrounds_it(text: str) -> None:
    """A fence, prose, a made-up continuation or an extra key must not fail the run; the first step counts."""
    read = reply(text, Usage(output=3), "react_0")
    assert (read.stop, read.text) == (Stop.TOOL_CALLS, "t")
    assert [(call.provider_id, call.tool, call.arguments) for call in read.calls] == [
        ("react_0", "web_fetch", {"url": "u"})
    ]
    assert read.usage.output == 3


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (dumped(FINAL), "42"),
        (f"```json\n{dumped(FINAL)}\n```", "42"),
        (
            dumped({"thought": "", "is_final": True, "final_answer": "```python\nprint({})\n```"}),
            "```python\nprint({})\n```",
        ),
        ('{"thought": "t", "is_final": true, "final_answer": "two\nlines"}', "two\nlines"),
    ],
)
def test_a_final_answer_is_found(text: str, answer: str) -> None:
    """Also one that holds fences and braces itself, or a line break that JSON would forbid."""
    read = reply(text, Usage(), "react_0")
    assert (read.stop, read.final_answer, read.calls) == (Stop.END, answer, ())
    assert read.native == ({"raw": text},)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON object"),
        ("The answer is 42.", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ('{"thought": "t", "action": {"tool_name": "web_fetch", "arguments": {"url": "u', "not valid JSON"),
        (dumped({"thought": "t", "is_final": False}), "has an action"),
        (dumped(ACTION | {"is_final": True, "final_answer": "x"}), "no action"),
        (dumped(FINAL | {"final_answer": ""}), "final_answer"),
        (dumped(FINAL | {"final_answer": 42}), "final_answer"),
        (dumped(FINAL | {"is_final": "true"}), "is_final"),
        (dumped({"thought": 1} | {k: v for k, v in FINAL.items() if k != "thought"}), "thought"),
        (dumped(ACTION | {"action": "web_fetch"}), "action"),
        (dumped(ACTION | {"action": {"tool_name": "x", "arguments": "{}"}}), "action.arguments"),
        (dumped(ACTION | {"action": {"tool_name": "x"}}), "action.arguments"),
    ],
)
def test_what_does_not_fit_is_malformed_and_says_why(text: str, why: str) -> None:
    """Nothing is guessed: the reason goes to the model, its text is kept for the repair."""
    read = reply(text, Usage(), "react_0")
    assert (read.stop, read.calls, read.final_answer) == (Stop.MALFORMED, (), None)
    assert why in (read.stop_detail or "")
    assert read.native == ({"raw": text},)


@pytest.mark.parametrize("text", ["{" * 100_000, '{"a":' * 50_000, '[{"a":' * 5_000, "{}" * 10_000])
def test_hostile_texts_are_read_quickly(text: str) -> None:
    """Depth and repetition end in a verdict, not in a crash or a hang."""
    assert isinstance(parse(text), Malformed)


@given(st.text())
def test_any_text_is_a_step_or_malformed(text: str) -> None:
    """The parser never raises, and prose around a step never hides it."""
    assert parse(text) is not None
    if "{" not in text:
        assert not isinstance(parse(f"{text}\n{dumped(FINAL)}"), Malformed)


def test_the_prompt_has_every_tool_with_its_parameters() -> None:
    """Names, descriptions and schemas reach the model, after the session's own prompt."""
    schema = {"type": "object", "properties": {"language": {"enum": ["python"]}}, "required": ["language"]}
    tool = ToolSpec.model_validate(
        {
            "name": "code_run",
            "description": "Runs code.",
            "category": Category.CODE,
            "parameters": schema,
            "requires_approval": False,
        }
    )
    prompt = system("Own prompt.", (tool,))
    assert prompt.startswith("Own prompt.")
    for part in ("code_run", "Runs code.", json.dumps(schema), "tool_name", "final_answer"):
        assert part in prompt


def test_the_conversation_is_told_in_alternating_roles() -> None:
    """Parallel calls of another provider become one action each; every call has its observation."""
    calls = tuple(ProposedCall(provider_id=f"c{n}", tool=f"tool_{n}", arguments={"n": n}) for n in range(2))
    turns = (
        UserTurn(text="Go."),
        AssistantTurn(text="Both.", calls=calls),
        ResultTurn(provider_id="c1", tool="tool_1", text="one", ok=True),
        AssistantTurn(text="Done."),
        AssistantTurn(text="bad", native=({"raw": "bad text"},), native_provider=NATIVE),
        UserTurn(text="Thanks."),
    )
    made = messages(turns)
    assert [message["role"] for message in made] == ["user", "assistant"] * 3 + ["user"]
    assert json.loads(made[1]["content"])["thought"] == "Both."
    assert "not carried through" in made[2]["content"]
    assert made[4]["content"] == "Observation of tool_1:\none"
    assert made[5]["content"] == "Done.\n\nbad text"
