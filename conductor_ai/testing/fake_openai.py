"""A fake of an OpenAI-compatible endpoint: streams scripted chat completions as OpenRouter does.

python -m conductor_ai.testing.fake_openai --port 18200 --script answers.json
"""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from conductor_ai.testing.http import Answer, CutOff, LoopbackServer, Received
from conductor_ai.testing.script import Call, Failure, Reply, Script

PIECE = 12
"""Characters of one delta."""
PATH = "/v1/chat/completions"


class FakeOpenAI(LoopbackServer):
    """The server. `received` has every request; `script` can be added to while it runs."""

    def __init__(self, *steps: Reply | Failure, port: int = 0, script: Script | None = None) -> None:
        super().__init__(self._handle, port)
        self.script = script or Script(*steps)
        self._count = 0

    @property
    def base_url(self) -> str:
        """What a client is configured with."""
        return f"{self.url}/v1"

    async def __aenter__(self) -> "FakeOpenAI":
        await self.start()
        return self

    async def _handle(self, request: Received) -> Answer:
        if (request.method, request.path) != ("POST", PATH):
            return _error(Failure(status=404, type="not_found", message="Not found."))
        if (problem := complaint(request.json)) is not None:
            return _error(Failure(status=400, type="invalid_request_error", message=problem))
        step = self.script.next()
        if isinstance(step, Failure):
            return _error(step)
        self._count += 1
        return Answer(content_type="text/event-stream", stream=_frames(step, str(request.json["model"]), self._count))


def complaint(body: Any) -> str | None:
    """Why an endpoint would refuse this body; None if it would not, as far as this fake knows."""
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
        return "messages is required"
    if body.get("stream") is not True:
        return "this fake only streams"
    open_calls: list[str] = []
    for at, message in enumerate(body["messages"]):
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                return f"messages.{at}: tool result without a tool call"
            open_calls.remove(message["tool_call_id"])
            continue
        if open_calls:
            return f"messages.{at}: tool calls must be followed by their results"
        for call in message.get("tool_calls", []):
            json.loads(call["function"]["arguments"])
            open_calls.append(call["id"])
        if not message.get("content") and not message.get("tool_calls"):
            return f"messages.{at}: content must not be empty"
    return "messages: tool calls must be followed by their results" if open_calls else None


def _error(step: Failure) -> Answer:
    body = {"error": {"message": step.message, "type": step.type, "code": step.status}}
    return Answer(status=step.status, headers=step.headers, text=json.dumps(body))


async def _frames(step: Reply, model: str, number: int) -> AsyncIterator[str]:
    yield ": PROCESSING\n\n"
    chunks = _chunks(step)
    half = len(chunks) // 2
    for at, chunk in enumerate(chunks):
        if at == half:
            if step.error_type is not None:
                error = {"message": "The script says so.", "type": step.error_type, "code": step.error_code}
                choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
                yield _frame({"id": f"gen-{number}", "model": model, "error": error, "choices": [choice]})
                return
            if step.cut_off:
                raise CutOff
            if step.hang:
                await asyncio.Event().wait()
        if step.unfinished and at == len(chunks) - 2:
            return
        yield _frame({"id": f"gen-{number}", "object": "chat.completion.chunk", "model": model, **chunk})
        if step.pause_seconds:
            await asyncio.sleep(step.pause_seconds)
    yield "data: [DONE]\n\n"


def _frame(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk)}\n\n"


def _chunks(step: Reply) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in _pieces(step.text)]
    for index, call in enumerate(step.calls):
        deltas += _call(index, call)
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    stop = step.stop or ("tool_calls" if step.calls else "stop")
    usage: dict[str, Any] = {
        "prompt_tokens": step.input_tokens + step.cache_read_tokens + step.cache_write_tokens,
        "completion_tokens": step.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": step.cache_read_tokens,
            "cache_write_tokens": step.cache_write_tokens,
        },
    }
    if step.cost is not None:
        usage["cost"] = step.cost
    return [
        *chunks,
        {"choices": [{"index": 0, "delta": {}, "finish_reason": stop}]},
        {"choices": [], "usage": usage},
    ]


def _call(index: int, call: Call) -> list[dict[str, Any]]:
    text = call.cut if call.cut is not None else json.dumps(call.arguments)
    first = {
        "index": index,
        "id": call.id or f"call_{index}",
        "type": "function",
        "function": {"name": call.tool, "arguments": ""},
    }
    rest = [{"index": index, "function": {"arguments": piece}} for piece in _pieces(text)]
    return [{"tool_calls": [part]} for part in (first, *rest)]


def _pieces(text: str) -> list[str]:
    return [text[at : at + PIECE] for at in range(0, len(text), PIECE)]


async def _serve(port: int, script: Script) -> None:
    async with FakeOpenAI(port=port, script=script):
        await asyncio.Event().wait()


def main() -> None:
    """Serve a script until interrupted."""
    parser = argparse.ArgumentParser(description="A fake OpenAI-compatible endpoint on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=18200)
    parser.add_argument("--script", type=Path, help="JSON list of steps: see conductor_ai/testing/script.py")
    arguments = parser.parse_args()
    script = Script.load(arguments.script) if arguments.script else Script()
    try:
        asyncio.run(_serve(arguments.port, script))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
