"""From our request to the body of the Messages API. Pure."""

from typing import Any

from activities.providers.history import NOTHING_SAID, Asked, Said, SentCall, arrange
from activities.providers.output_formats import closed_format, in_words
from activities.providers.schemas import MOST_OPTIONAL, MOST_STRICT_TOOLS, MOST_UNIONS, strict_schema, weight
from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.catalog import Model
from conductor_ai.contracts.models import ModelRequest, Turn
from conductor_ai.contracts.tools import ToolSpec

NATIVE = "anthropic"
"""Marks content blocks that only the Messages API understands."""

CACHE = {"type": "ephemeral"}
"""Ends a cached prefix: it is kept for five minutes, and each read renews it."""

Block = dict[str, Any]


def body(request: ModelRequest, model: Model) -> dict[str, Any]:
    """The arguments of `messages.create`, without `stream`.

    Three prefixes are cached: the tools, the system prompt, and the conversation so far; so each step of an agent pays
    the full price only for what is new. Thinking is left to the model's own default; its blocks go back untouched.
    """
    limit = request.max_output_tokens
    made: dict[str, Any] = {
        "model": model.provider_model,
        "max_tokens": min(limit, model.max_output) if model.max_output else limit,
        "messages": messages(request.turns),
    }
    system, format_ = request.system, _format(request, model, made["messages"])
    if format_ is not None:
        made["output_config"] = {"format": {"type": "json_schema", "schema": format_}}
    else:
        system = in_words(system, request.output_schema)
    if system.strip():
        made["system"] = [{"type": "text", "text": system, "cache_control": CACHE}]
    if request.tools:
        strict = model.capabilities.structured_output
        made["tools"] = tools(request.tools, strict=strict, taken=(0, 0) if format_ is None else weight(format_))
    return made


def _format(request: ModelRequest, model: Model, sent: list[dict[str, Any]]) -> JsonObject | None:
    """The format that the answer is held to, if the request allows one."""
    if request.output_schema is None or not model.capabilities.structured_output:
        return None
    if sent and sent[-1]["role"] == "assistant":  # the API does not continue a given answer in a format
        return None
    format_ = closed_format(request.output_schema)
    if format_ is None:
        return None
    optional, unions = weight(format_)
    return format_ if optional <= MOST_OPTIONAL and unions <= MOST_UNIONS else None


def tools(specs: tuple[ToolSpec, ...], *, strict: bool, taken: tuple[int, int] = (0, 0)) -> list[Block]:
    """Tool definitions; `strict` where schema and the limits of one request allow it.

    `taken`: optional properties and unions that the answer's format has used up of these limits.
    """
    made: list[Block] = []
    strict_tools = 0
    optional, unions = taken
    for spec in specs:
        tool: Block = {
            "name": spec.name,
            "description": spec.description,
            "input_schema": spec.parameters or {"type": "object", "properties": {}},
        }
        narrowed = strict_schema(spec.parameters) if strict else None
        if narrowed is not None:
            more_optional, more_unions = weight(narrowed)
            fits = optional + more_optional <= MOST_OPTIONAL and unions + more_unions <= MOST_UNIONS
            if fits and strict_tools < MOST_STRICT_TOOLS:
                tool |= {"input_schema": narrowed, "strict": True}
                strict_tools, optional, unions = strict_tools + 1, optional + more_optional, unions + more_unions
        made.append(tool)
    made[-1]["cache_control"] = CACHE
    return made


def messages(turns: tuple[Turn, ...]) -> list[dict[str, Any]]:
    """The conversation in alternating roles, results first in the message after their calls."""
    made: list[dict[str, Any]] = []

    def add(role: str, blocks: list[Block]) -> None:
        if made and made[-1]["role"] == role:
            made[-1]["content"] += blocks
        elif blocks:
            made.append({"role": role, "content": blocks})

    for item in arrange(turns):
        match item:
            case Asked():
                add("user", [{"type": "text", "text": item.text if item.text.strip() else NOTHING_SAID}])
            case Said():
                if not made:
                    add("user", [{"type": "text", "text": NOTHING_SAID}])
                add("assistant", _said(item))
                add("user", _results(item))
    if made and made[-1]["role"] == "user":
        made[-1]["content"][-1]["cache_control"] = CACHE
    return made


def _said(item: Said) -> list[Block]:
    if item.turn.native_provider == NATIVE and item.turn.native:
        return _native(item)
    text = item.turn.text
    blocks: list[Block] = [{"type": "text", "text": text}] if text.strip() else []
    blocks += [_tool_use(sent) for sent in item.calls]
    return blocks or [{"type": "text", "text": NOTHING_SAID}]


def _native(item: Said) -> list[Block]:
    """The blocks as they came, with the ids that the results go by; a call that is not ours to answer is left out."""
    left = list(item.calls)
    blocks: list[Block] = []
    for block in item.turn.native:
        kind = block.get("type")
        if kind == "text" and not str(block.get("text", "")).strip():
            continue
        if kind == "tool_use":
            sent = next((found for found in left if found.call.provider_id == block.get("id")), None)
            if sent is None:
                continue
            left.remove(sent)
            blocks.append({**block, "id": sent.id})
            continue
        blocks.append(dict(block))
    blocks += [_tool_use(sent) for sent in left]
    return blocks or [{"type": "text", "text": NOTHING_SAID}]


def _tool_use(sent: SentCall) -> Block:
    # Arguments that were no object cannot be sent as such; the result tells the model what was wrong with them.
    return {"type": "tool_use", "id": sent.id, "name": sent.call.tool, "input": sent.call.arguments or {}}


def _results(item: Said) -> list[Block]:
    return [
        {
            "type": "tool_result",
            "tool_use_id": sent.id,
            "content": sent.text,
            **({} if sent.ok else {"is_error": True}),
        }
        for sent in item.calls
    ]
