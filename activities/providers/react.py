"""ReAct in JSON, for models without native tool use: what they are told, and how strictly they are read. Pure."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from activities.providers.history import NOTHING_SAID, Asked, Said, arrange
from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.models import AssistantTurn, ModelReply, ProposedCall, Stop, Turn, Usage
from conductor_ai.contracts.tools import ToolSpec

NATIVE = "react"
"""Marks the raw text of an answer without a call: the model sees it as it wrote it, mistakes included."""

STOP_SEQUENCES = ("\nObservation of ",)
"""Where a model begins to make up the result of its own action."""

FORMAT = """\
You work step by step with tools. Answer every message with exactly one JSON object and nothing else:
{"thought": "why you do what you do next", "action": {"tool_name": "...", "arguments": {...}}, "is_final": false, \
"final_answer": null}
After an action you are sent its observation; never write one yourself. When you know the answer, or cannot get \
further:
{"thought": "...", "action": null, "is_final": true, "final_answer": "the whole answer for the person"}
The arguments of an action must fit the JSON Schema of its tool."""

OUTPUT = """\
The final_answer is no text but a JSON value that fits this JSON Schema (draft 2020-12):
{schema}"""

MOST_STARTS = 200
"""Opening braces that are tried: a text with more is no answer."""


class _Action(BaseModel):
    model_config = ConfigDict(strict=True)

    tool_name: str
    arguments: JsonObject


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True)

    thought: str
    action: _Action | None = None
    is_final: bool
    final_answer: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "_Answer":
        if self.is_final and (self.action is not None or not (self.final_answer or "").strip()):
            raise ValueError("a final step has a final_answer and no action")
        if not self.is_final and self.action is None:
            raise ValueError("a step that is not final has an action")
        return self


@dataclass(frozen=True)
class Malformed:
    """Why a text is no answer, in words that the model can act on."""

    reason: str


def system(prompt: str, tools: tuple[ToolSpec, ...], output_schema: JsonObject | None = None) -> str:
    """The system prompt: the session's own, the format, the schema of the answer, and each tool with that of its parameters."""
    described = "\n\n".join(
        f"Tool {tool.name}: {tool.description}\nArguments: {json.dumps(tool.parameters, ensure_ascii=False)}"
        for tool in tools
    )
    output = OUTPUT.format(schema=dump(output_schema)) if output_schema is not None else ""
    return "\n\n".join(part for part in (prompt.strip(), FORMAT, output, described) if part)


def messages(turns: tuple[Turn, ...]) -> list[dict[str, Any]]:
    """The conversation as plain text in alternating roles: actions as the JSON they were, results as observations."""
    made: list[dict[str, Any]] = []

    def add(role: str, text: str) -> None:
        if made and made[-1]["role"] == role:
            made[-1]["content"] += f"\n\n{text}"
        else:
            made.append({"role": role, "content": text})

    for item in arrange(turns):
        match item:
            case Asked():
                add("user", item.text)
            case Said():
                _add_said(item, add)
    return made


def _add_said(item: Said, add: Any) -> None:
    if not item.calls:
        add("assistant", _raw(item.turn) or item.turn.text or NOTHING_SAID)
    for number, sent in enumerate(item.calls):
        action = {"tool_name": sent.call.tool, "arguments": sent.call.arguments or {}}
        thought = item.turn.text if number == 0 else ""
        add("assistant", dump({"thought": thought, "action": action, "is_final": False, "final_answer": None}))
        add("user", f"Observation of {sent.call.tool}{'' if sent.ok else ' (error)'}:\n{sent.text}")


def _raw(turn: AssistantTurn) -> str | None:
    if turn.native_provider != NATIVE or not turn.native:
        return None
    return str(turn.native[0].get("raw", ""))


def dump(fields: Any) -> str:
    """JSON for a model to read: characters as they are."""
    return json.dumps(fields, ensure_ascii=False)


def reply(text: str, usage: Usage, call_id: str, *, structured: bool = False) -> ModelReply:
    """Our reply for a complete text of the model. What cannot be read is MALFORMED and says why in `stop_detail`.

    `structured`: the final answer may be any JSON value; it is passed on as JSON text.
    """
    answer = parse(text, structured=structured)
    native: tuple[JsonObject, ...] = ({"raw": text},)
    if isinstance(answer, Malformed):
        return ModelReply(
            stop=Stop.MALFORMED,
            text=text,
            usage=usage,
            native=native,
            native_provider=NATIVE,
            stop_detail=answer.reason,
        )
    if answer.action is None:
        return ModelReply(
            stop=Stop.END,
            text=answer.thought,
            final_answer=answer.final_answer,
            usage=usage,
            native=native,
            native_provider=NATIVE,
        )
    call = ProposedCall(provider_id=call_id, tool=answer.action.tool_name, arguments=answer.action.arguments)
    return ModelReply(stop=Stop.TOOL_CALLS, text=answer.thought, calls=(call,), usage=usage)


def parse(text: str, *, structured: bool = False) -> _Answer | Malformed:
    """The first JSON object of the text that is a step, whatever stands around it: prose, a fence, made-up observations.

    The object itself is read strictly: a wrong type, or both or neither of action and final answer, is malformed.
    """
    decoder = json.JSONDecoder(strict=False)  # a line break inside a string is forgiven: models write them
    at, reason = 0, "There was no JSON object in the answer."
    for _ in range(MOST_STARTS):
        at = text.find("{", at)
        if at < 0:
            break
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            reason = "The JSON object of the answer was not valid JSON."
            continue
        at = end
        if not isinstance(value, dict) or not value.keys() & {"thought", "action", "is_final", "final_answer"}:
            continue
        if structured and value.get("is_final") is True and not isinstance(value.get("final_answer"), str):
            value = {**value, "final_answer": dump(value.get("final_answer"))}
        try:
            return _Answer.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            return Malformed(f"The JSON object did not fit: {f'{where}: ' if where else ''}{first['msg']}.")
    return Malformed(reason)
