"""What a model, or a page that it read, can do with what it writes."""

import json
from typing import Any

import pytest

from activities.egress.client import Egress
from activities.providers import anthropic_reply, openai_reply, react
from activities.providers.arguments import DEEPEST, parsed, too_deep
from activities.tools.registry import Registry
from activities.tools.web_fetch import WebFetch
from conductor_ai.cli.lines import as_line
from conductor_ai.contracts.models import ModelReply, Usage
from conductor_ai.contracts.status import Phase, Status
from conductor_ai.contracts.views import SessionSummary
from conductor_ai.visible import visible
from tests.fixtures_cli import session

STEERING = "\x1b]0;x\x07\x1b[2J\x9b31m\u202e\u2066\u200b\u2028\x7f\r\ufeff\U000e0041"


def nested(depth: int) -> str:
    """Arguments with one value nested so deep."""
    return '{"url":' + '{"a":' * depth + "1" + "}" * depth + "}"


def by_openai(text: str) -> ModelReply:
    """A reply with one call, as an OpenAI-compatible endpoint streams it."""
    collector = openai_reply.Collector()
    call = {"index": 0, "id": "c", "function": {"name": "web_fetch", "arguments": text}}
    collector.take({"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]})
    return collector.reply()


def by_anthropic(text: str) -> ModelReply:
    """The same from the Messages API."""
    collector = anthropic_reply.Collector()
    for event in (
        {"type": "message_start", "message": {"model": "m", "usage": {}}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "tool_use", "id": "c", "name": "web_fetch"},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": text}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {}},
        {"type": "message_stop"},
    ):
        collector.take(event)
    return collector.reply()


def by_react(text: str) -> ModelReply:
    """The same as the JSON of a model without tool use."""
    step = '{"thought": "t", "is_final": false, "action": {"tool_name": "web_fetch", "arguments": ' + text + "}}"
    return react.reply(step, Usage(), "c")


@pytest.mark.parametrize("depth", [DEEPEST - 2, DEEPEST + 1, 240, 260, 400, 990, 6000])
@pytest.mark.parametrize("read", [by_openai, by_anthropic, by_react])
async def test_arguments_nested_beyond_all_sense_are_told_to_the_model(read: Any, depth: int) -> None:
    """They are an observation or a repair. As an exception each attempt would be paid, and the session would fail."""
    reply = read(nested(depth))
    json.dumps(reply.model_dump(mode="json"))
    tool = WebFetch(Egress())
    for call in reply.calls:
        checked = Registry([tool]).check(call, ("web_fetch",))
        assert checked.refused is not None
        assert checked.refused.error is not None
        assert checked.refused.error.code == "invalid_arguments"
    await tool.close()


def test_the_depth_is_that_of_lists_and_objects() -> None:
    """Exactly `DEEPEST` within each other pass, and width does not count."""
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        at_most = '{"a":' + opening * (DEEPEST - 1) + "1" + closing * (DEEPEST - 1) + "}"
        assert parsed(at_most) is not None
        assert parsed('{"a":' + at_most + "}") is None
    assert not too_deep([[1]] * 100_000)
    for text in ("", "[]", "null", "{", "\x00", '{"a": 1}x'):
        assert parsed(text) is None


def test_json_on_a_terminal_steers_nothing() -> None:
    """`--json` is ASCII: a title of 8-bit control codes and bidi marks arrives whole, and does nothing on its way."""
    view = session(1).model_copy(update={"title": STEERING, "final_answer": STEERING})
    summary = SessionSummary(
        session_id="sess_1", status=Status.COMPLETED, phase=Phase.DONE, model="demo", title=STEERING, metadata={STEERING: 1},
        step_count=1, total_cost_usd=0.0, stop_reason=None, created_at=view.times.created_at, ended_at=None, version=1,
    )  # fmt: skip
    for value in (view, summary):
        line = as_line(value)
        assert line.isascii()
        assert line.isprintable()
        assert json.loads(line)["title"] == STEERING


def test_people_see_what_would_steer() -> None:
    """Every steering character is written out, and nothing else changes."""
    shown = visible(f"a{STEERING}b")
    assert shown.startswith("a⟨U+001B⟩")
    assert shown.endswith("b")
    assert not set(STEERING) - set("]0;x[2J31m") & set(shown)
