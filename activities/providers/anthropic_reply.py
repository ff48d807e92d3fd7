"""From the events of a Messages API stream to our reply. Pure: no I/O, no SDK; takes events as JSON objects."""

import math
from typing import Any

from activities.providers.anthropic_request import NATIVE
from activities.providers.arguments import parsed, too_deep
from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.models import ModelReply, ProposedCall, Stop, Usage

CHARACTERS_PER_TOKEN = 4

STOPS = {
    "end_turn": Stop.END,
    "stop_sequence": Stop.END,
    "tool_use": Stop.TOOL_CALLS,
    "max_tokens": Stop.MAX_TOKENS,
    "pause_turn": Stop.PAUSE,
    "refusal": Stop.REFUSAL,
    "model_context_window_exceeded": Stop.CONTEXT_EXCEEDED,
}
"""Every stop reason that the API documents. One that is not here means nothing we could act on: MALFORMED."""


class Incomplete(Exception):
    """The stream ended before the API said why the model stopped."""


class Collector:
    """Takes the events in order; then `reply()`."""

    def __init__(self) -> None:
        self._blocks: dict[int, dict[str, Any]] = {}
        self._json: dict[int, str] = {}
        self._model: str | None = None
        self._reason: str | None = None
        self._category: str | None = None
        self._characters = 0
        self._ended = False
        self.usage = Usage()
        """What is known so far. Until the API tells, output is estimated from what was received."""

    def take(self, event: dict[str, Any]) -> str:
        """Digest one event. Returns the text that it adds for a person to read; thinking is not shown."""
        match event.get("type"):
            case "message_start":
                message = event["message"]
                self._model = message.get("model")
                self._count(message.get("usage") or {})
            case "content_block_start":
                self._blocks[event["index"]] = dict(event["content_block"])
                text = event["content_block"].get("text")
                return text if isinstance(text, str) else ""
            case "content_block_delta":
                return self._delta(event["index"], event["delta"])
            case "message_delta":
                delta = event["delta"]
                self._reason = delta.get("stop_reason") or self._reason
                self._category = (delta.get("stop_details") or {}).get("category")
                self._count(event.get("usage") or {})
            case "message_stop":
                self._ended = True
            case _:
                pass  # pings, and what the API may add
        return ""

    def _delta(self, index: int, delta: dict[str, Any]) -> str:
        block = self._blocks[index]
        match delta.get("type"):
            case "text_delta":
                block["text"] = block.get("text", "") + delta["text"]
                self._estimate(delta["text"])
                return str(delta["text"])
            case "thinking_delta":
                block["thinking"] = block.get("thinking", "") + delta["thinking"]
                self._estimate(delta["thinking"])
            case "signature_delta":
                block["signature"] = delta["signature"]
            case "input_json_delta":
                self._json[index] = self._json.get(index, "") + delta["partial_json"]
                self._estimate(delta["partial_json"])
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or []), delta["citation"]]
            case _:
                pass
        return ""

    def _count(self, usage: dict[str, Any]) -> None:
        """Later figures replace earlier ones: the API counts from the beginning each time."""
        known = {
            "input": usage.get("input_tokens"),
            "output": usage.get("output_tokens"),
            "cache_read": usage.get("cache_read_input_tokens"),
            "cache_write": usage.get("cache_creation_input_tokens"),
        }
        self.usage = self.usage.model_copy(update={name: n for name, n in known.items() if n is not None})

    def _estimate(self, text: str) -> None:
        self._characters += len(text)
        least = math.ceil(self._characters / CHARACTERS_PER_TOKEN)
        if least > self.usage.output:
            self.usage = self.usage.model_copy(update={"output": least})

    def reply(self) -> ModelReply:
        """The whole answer.

        Raises:
            Incomplete: the stream ended too early; what was received is not to be used.
        """
        if self._reason is None or not self._ended:
            raise Incomplete
        blocks = [(self._blocks[index], self._json.get(index)) for index in sorted(self._blocks)]
        calls = tuple(_call(block, text) for block, text in blocks if block.get("type") == "tool_use")
        stop = _stop(self._reason, calls)
        # A call is run only if the API says that it is whole. One that was cut is told, for the repair, but does not go back.
        kept = stop is Stop.TOOL_CALLS
        return ModelReply(
            stop=stop,
            text="".join(str(block.get("text", "")) for block, _ in blocks if block.get("type") == "text"),
            calls=calls if stop in (Stop.TOOL_CALLS, Stop.MAX_TOKENS) else (),
            usage=self.usage,
            native=tuple(_native(block, text) for block, text in blocks if kept or block.get("type") != "tool_use"),
            native_provider=NATIVE,
            provider_model=self._model,
            stop_detail=f"{self._reason}: {self._category}" if self._category else self._reason,
        )


def _stop(reason: str, calls: tuple[ProposedCall, ...]) -> Stop:
    stop = STOPS.get(reason, Stop.MALFORMED)
    if stop is Stop.TOOL_CALLS and not calls:
        return Stop.END
    if reason == "end_turn" and calls:
        return Stop.TOOL_CALLS
    return stop


def _parse(block: dict[str, Any], text: str | None) -> JsonObject | None:
    if text is None or not text.strip():
        given = block.get("input")
        return given if isinstance(given, dict) and not too_deep(given) else {}
    return parsed(text)


def _call(block: dict[str, Any], text: str | None) -> ProposedCall:
    arguments = _parse(block, text)
    return ProposedCall(
        provider_id=str(block.get("id", "")),
        tool=str(block.get("name", "")),
        arguments=arguments,
        raw=text if arguments is None else None,
    )


def _native(block: dict[str, Any], text: str | None) -> JsonObject:
    if block.get("type") in ("tool_use", "server_tool_use"):
        return {**block, "input": _parse(block, text) or {}}
    return dict(block)
