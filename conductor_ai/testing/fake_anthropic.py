"""A fake of the Messages API: streams scripted answers in its framing, and refuses what the real one refuses.

python -m conductor_ai.testing.fake_anthropic --port 18100 --script answers.json
"""

import argparse
import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from conductor_ai.testing.http import Answer, CutOff, LoopbackServer, Received
from conductor_ai.testing.script import Call, Failure, Reply, Script

PIECE = 12
"""Characters of one delta."""
SIGNATURE = "fake-signature"
"""Signs every thinking block; a block that comes back with another is refused."""

_ID = re.compile(r"^[a-zA-Z0-9_-]+$")
_TOOL = re.compile(r"^[a-zA-Z0-9_-]{1,128}$")


class FakeAnthropic(LoopbackServer):
    """The server. `received` has every request; `script` can be added to while it runs."""

    def __init__(self, *steps: Reply | Failure, port: int = 0, script: Script | None = None) -> None:
        super().__init__(self._handle, port)
        self.script = script or Script(*steps)
        self._count = 0

    async def __aenter__(self) -> "FakeAnthropic":
        await self.start()
        return self

    async def _handle(self, request: Received) -> Answer:
        if (request.method, request.path.partition("?")[0]) != ("POST", "/v1/messages"):
            return _error(Failure(status=404, type="not_found_error", message="Not found."))
        if not (request.headers.get("authorization") or request.headers.get("x-api-key")):
            return _error(Failure(status=401, type="authentication_error", message="An API key is required."))
        if (problem := complaint(request.json)) is not None:
            return _error(Failure(status=400, type="invalid_request_error", message=problem))
        step = self.script.next()
        if isinstance(step, Failure):
            return _error(step)
        self._count += 1
        stream = _frames(step, str(request.json["model"]), self._count)
        return Answer(content_type="text/event-stream; charset=utf-8", stream=stream)


def complaint(body: Any) -> str | None:
    """Why the real API would refuse this body; None if it would not, as far as this fake knows."""
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
        return "messages: Field required"
    if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] < 1:
        return "max_tokens: Field required"
    if body.get("stream") is not True:
        return "this fake only streams"
    if any(not _TOOL.match(tool["name"]) for tool in body.get("tools", [])):
        return "tools: name should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
    return _conversation(body["messages"]) or _breakpoints(body) or _format(body)


def _format(body: dict[str, Any]) -> str | None:
    format_ = (body.get("output_config") or {}).get("format")
    if format_ is None:
        return None
    if body["messages"][-1]["role"] == "assistant":
        return "output_config.format: a given answer is not continued in a format"
    return _open_objects(format_["schema"])


def _open_objects(schema: Any) -> str | None:
    if isinstance(schema, dict):
        if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
            return (
                "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false"
            )
        if unknown := set(schema) & {"minimum", "maximum", "minLength", "maxLength", "pattern", "oneOf", "$ref"}:
            return f"output_config.format.schema: {sorted(unknown)} is not supported"
    children = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    return next((problem for child in children if (problem := _open_objects(child)) is not None), None)


def _breakpoints(body: dict[str, Any]) -> str | None:
    marks = json.dumps(body).count('"cache_control"')
    return f"A maximum of 4 blocks with cache_control may be provided. Found {marks}." if marks > 4 else None


def _conversation(messages: list[dict[str, Any]]) -> str | None:
    if messages[0]["role"] != "user":
        return "messages: first message must use the user role"
    open_calls: list[str] = []
    seen: set[str] = set()
    for at, message in enumerate(messages):
        blocks = message["content"]
        if isinstance(blocks, str):
            blocks = [{"type": "text", "text": blocks}]
        if not blocks:
            return f"messages.{at}: content must be non-empty"
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if sorted(results) != sorted(open_calls):
            return f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after"
        open_calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if seen.intersection(open_calls) or len(set(open_calls)) < len(open_calls):
            return f"messages.{at}: `tool_use` ids must be unique"
        seen.update(open_calls)
        for block in blocks:
            if (problem := _block(block)) is not None:
                return f"messages.{at}: {problem}"
    return "messages: `tool_use` ids were found without `tool_result` blocks" if open_calls else None


def _block(block: dict[str, Any]) -> str | None:
    match block["type"]:
        case "text" if not block["text"].strip():
            return "text content blocks must contain non-whitespace text"
        case "thinking" if block.get("signature") != SIGNATURE:
            return "Invalid `signature` in `thinking` block"
        case "tool_use" if not _ID.match(block["id"]) or not isinstance(block["input"], dict):
            return "tool_use: id or input is invalid"
        case _:
            return None


def _error(step: Failure) -> Answer:
    body = {"type": "error", "error": {"type": step.type, "message": step.message}, "request_id": "req_fake"}
    return Answer(status=step.status, headers=step.headers, text=json.dumps(body))


async def _frames(step: Reply, model: str, number: int) -> AsyncIterator[str]:
    events = _events(step, model, number)
    half = len(events) // 2
    for at, event in enumerate(events):
        if at == half:
            if step.error_type is not None:
                error = {"type": step.error_type, "message": "The script says so."}
                yield _frame({"type": "error", "error": error})
                return
            if step.cut_off:
                raise CutOff
            if step.hang:
                await asyncio.Event().wait()
        if step.unfinished and event["type"] == "message_delta":
            return
        yield _frame(event)
        if step.pause_seconds:
            await asyncio.sleep(step.pause_seconds)


def _frame(event: dict[str, Any]) -> str:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def _events(step: Reply, model: str, number: int) -> list[dict[str, Any]]:
    usage = {
        "input_tokens": step.input_tokens,
        "cache_creation_input_tokens": step.cache_write_tokens,
        "cache_read_input_tokens": step.cache_read_tokens,
        "output_tokens": 1,
    }
    message: dict[str, Any] = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message}, {"type": "ping"}]
    index = 0
    if step.thinking is not None:
        start = {"type": "thinking", "thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(step.thinking)]
        events += _block_events(index, start, [*deltas, {"type": "signature_delta", "signature": SIGNATURE}])
        index += 1
    if step.text:
        deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(step.text)]
        events += _block_events(index, {"type": "text", "text": ""}, deltas)
        index += 1
    for at, call in enumerate(step.calls):
        start, deltas = _call(call, f"toolu_{number}_{at}")
        events += _block_events(index, start, deltas)
        index += 1
    stop = step.stop or ("tool_use" if step.calls else "end_turn")
    delta: dict[str, Any] = {"stop_reason": stop, "stop_sequence": None}
    if step.category is not None:
        delta["stop_details"] = {"type": "refusal", "category": step.category, "explanation": None}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": step.output_tokens}})
    events.append({"type": "message_stop"})
    return events


def _call(call: Call, id_: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    text = call.cut if call.cut is not None else json.dumps(call.arguments)
    start = {"type": "tool_use", "id": call.id or id_, "name": call.tool, "input": {}}
    return start, [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *_pieces(text)]]


def _block_events(index: int, start: dict[str, Any], deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def _pieces(text: str) -> list[str]:
    return [text[at : at + PIECE] for at in range(0, len(text), PIECE)]


async def _serve(port: int, script: Script) -> None:
    async with FakeAnthropic(port=port, script=script):
        await asyncio.Event().wait()


def main() -> None:
    """Serve a script until interrupted."""
    parser = argparse.ArgumentParser(description="A fake of the Messages API on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=18100)
    parser.add_argument("--script", type=Path, help="JSON list of steps: see conductor_ai/testing/script.py")
    arguments = parser.parse_args()
    script = Script.load(arguments.script) if arguments.script else Script()
    try:
        asyncio.run(_serve(arguments.port, script))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
