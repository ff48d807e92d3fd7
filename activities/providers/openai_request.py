"""From our request to the body of a chat completion. Pure."""

from typing import Any

from activities.providers import react
from activities.providers.history import NOTHING_SAID, Asked, Said, SentCall, arrange
from activities.providers.output_formats import in_words, response_format
from conductor_ai.contracts.catalog import Model
from conductor_ai.contracts.models import ModelRequest, Turn
from conductor_ai.contracts.tools import ToolSpec

NATIVE = "openai_compatible"
"""Marks reasoning that OpenRouter wants back as it was."""


def uses_react(request: ModelRequest, model: Model) -> bool:
    """True if the model is prompted for JSON because it cannot be given tools."""
    return bool(request.tools) and not model.capabilities.native_tools


def body(request: ModelRequest, model: Model, *, openrouter: bool, formats: bool = True) -> dict[str, Any]:
    """The body, streamed and with usage. OpenRouter is asked for the cost too; others may refuse a field they do not know.

    `formats`: whether the endpoint takes `response_format`. It is sent only where there are no tools: many servers hold
    a model to it from its first token, and then it can call none. The schema is always told in words too, because
    others ignore the field.
    """
    in_react = uses_react(request, model)
    if in_react:
        system = react.system(request.system, request.tools, request.output_schema)
    else:
        system = in_words(request.system, request.output_schema)
    limit = request.max_output_tokens
    made: dict[str, Any] = {
        "model": model.provider_model,
        "max_tokens": min(limit, model.max_output) if model.max_output else limit,
        "messages": [
            *([{"role": "system", "content": system}] if system.strip() else []),
            *(react.messages(request.turns) if in_react else messages(request.turns)),
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if in_react:
        made["stop"] = list(react.STOP_SEQUENCES)
    elif request.tools:
        made["tools"] = [_tool(spec) for spec in request.tools]
    if request.output_schema is not None and not request.tools and formats:
        made["response_format"] = response_format(request.output_schema)
    if openrouter:
        made["usage"] = {"include": True}
    return made


def messages(turns: tuple[Turn, ...]) -> list[dict[str, Any]]:
    """The conversation; each call is followed by its result."""
    made: list[dict[str, Any]] = []
    for item in arrange(turns):
        match item:
            case Asked():
                made.append({"role": "user", "content": item.text})
            case Said():
                made.append(_said(item))
                made += [{"role": "tool", "tool_call_id": sent.id, "content": sent.text} for sent in item.calls]
    return made


def _said(item: Said) -> dict[str, Any]:
    text = item.turn.text or ("" if item.calls else NOTHING_SAID)
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if item.calls:
        message["tool_calls"] = [_call(sent) for sent in item.calls]
    if item.turn.native_provider == NATIVE and item.turn.native:
        message["reasoning_details"] = [dict(detail) for detail in item.turn.native]
    return message


def _call(sent: SentCall) -> dict[str, Any]:
    # Text that was no JSON object is not sent back as arguments: servers refuse it. The result says what was wrong.
    arguments = react.dump(sent.call.arguments or {})
    return {"id": sent.id, "type": "function", "function": {"name": sent.call.tool, "arguments": arguments}}


def _tool(spec: ToolSpec) -> dict[str, Any]:
    parameters = spec.parameters or {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": spec.name, "description": spec.description, "parameters": parameters},
    }
