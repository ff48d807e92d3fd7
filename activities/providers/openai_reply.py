"""From the chunks of a streamed chat completion to our reply. Pure: takes chunks as JSON objects."""

import math
from decimal import Decimal
from math import isfinite
from typing import Any

from activities.providers.arguments import parsed
from activities.providers.openai_request import NATIVE
from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.models import ModelReply, ProposedCall, Stop, Usage

CHARACTERS_PER_TOKEN = 4

STOPS = {
    "stop": Stop.END,
    "eos": Stop.END,
    "tool_calls": Stop.TOOL_CALLS,
    "function_call": Stop.TOOL_CALLS,
    "length": Stop.MAX_TOKENS,
    "content_filter": Stop.REFUSAL,
}
"""What servers write. Some say `stop` after tool calls."""


class Incomplete(Exception):
    """The stream ended before the server said why the model stopped."""


class Collector:
    """Takes the chunks in order; then `reply()`."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._calls: dict[int, dict[str, str]] = {}
        self._reasoning: list[JsonObject] = []
        self._refused = False
        self._model: str | None = None
        self._reason: str | None = None
        self._characters = 0
        self.usage = Usage()
        """What is known so far. Until the server tells, output is estimated from what was received."""

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._text)

    def take(self, chunk: dict[str, Any]) -> str:
        """Digest one chunk. Returns the text that it adds."""
        self._model = chunk.get("model") or self._model
        added = ""
        for choice in (chunk.get("choices") or [])[:1]:
            added = self._delta(choice.get("delta") or choice.get("message") or {})
            self._reason = choice.get("finish_reason") or self._reason
        if isinstance(chunk.get("usage"), dict):
            self.usage = _usage(chunk["usage"])
        return added

    def _delta(self, delta: dict[str, Any]) -> str:
        for position, part in enumerate(delta.get("tool_calls") or ()):
            index = part.get("index")
            call = self._calls.setdefault(position if index is None else index, {"id": "", "name": "", "arguments": ""})
            call["id"] = call["id"] or part.get("id") or ""
            function = part.get("function") or {}
            call["name"] += function.get("name") or ""
            call["arguments"] += function.get("arguments") or ""
            self._estimate(function.get("arguments") or "")
        self._reasoning += [detail for detail in delta.get("reasoning_details") or () if isinstance(detail, dict)]
        refusal = delta.get("refusal")
        self._refused = self._refused or bool(refusal)
        text = str(delta.get("content") or refusal or "")
        self._text.append(text)
        self._estimate(text + str(delta.get("reasoning") or ""))
        return text

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
        if self._reason is None:
            raise Incomplete
        calls = tuple(_call(index, call) for index, call in sorted(self._calls.items()))
        stop = self._stop(calls)
        return ModelReply(
            stop=stop,
            text=self.text,
            # A call that was cut is told, for the repair; it may be half of one and is never run.
            calls=calls if stop in (Stop.TOOL_CALLS, Stop.MAX_TOKENS) else (),
            usage=self.usage,
            native=tuple(self._reasoning),
            native_provider=NATIVE if self._reasoning else None,
            provider_model=self._model,
            stop_detail=self._reason,
        )

    def _stop(self, calls: tuple[ProposedCall, ...]) -> Stop:
        if self._refused:
            return Stop.REFUSAL
        stop = STOPS.get(self._reason or "", Stop.MALFORMED)
        if stop in (Stop.END, Stop.TOOL_CALLS):
            return Stop.TOOL_CALLS if calls else Stop.END
        return stop


def _call(index: int, call: dict[str, str]) -> ProposedCall:
    raw = call["arguments"]
    arguments = parsed(raw) if raw.strip() else {}
    return ProposedCall(
        provider_id=call["id"] or f"call_{index}",
        tool=call["name"],
        arguments=arguments,
        raw=raw if arguments is None else None,
    )


def _usage(usage: dict[str, Any]) -> Usage:
    """The server's count: its prompt tokens include cached ones, ours do not."""
    details = usage.get("prompt_tokens_details") or {}
    read, written = _count(details.get("cached_tokens")), _count(details.get("cache_write_tokens"))
    cost = usage.get("cost")
    return Usage(
        input=max(0, _count(usage.get("prompt_tokens")) - read - written),
        output=_count(usage.get("completion_tokens")),
        cache_read=read,
        cache_write=written,
        # By way of its text: a float's shortest text is what the server wrote.
        reported_cost_usd=Decimal(str(cost)) if isinstance(cost, int | float) and isfinite(cost) else None,
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
