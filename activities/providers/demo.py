"""The demo model: no language model but a small script, labelled so everywhere. It costs nothing and needs no key."""

import asyncio
import json
import math
import re
from decimal import Decimal

from activities.providers.base import Listener
from activities.providers.demo_output import example
from activities.providers.demo_policy import LABEL, next_move, since_last_user
from activities.providers.demo_script import Step, parse, remaining
from activities.retries import failure
from conductor_ai.contracts.models import AssistantTurn, ModelReply, ModelRequest, ProposedCall, ResultTurn, Stop, Usage

NAME = "demo"
PROVIDER_MODEL = "demo (a script; tokens are estimated)"
CHARACTERS_PER_TOKEN = 4
"""A rule of thumb for English: the demo has no tokeniser."""


class DemoProvider:
    """Answers from the conversation alone: the same conversation always gets the same answer."""

    @property
    def name(self) -> str:
        return NAME

    async def complete(self, request: ModelRequest, listener: Listener, /) -> ModelReply:
        """Stream and return the next answer of the script.

        Raises:
            ModelFailure: a directive of the conversation asks for one.
            asyncio.CancelledError: at once, also in the middle of a slow answer.
        """
        if request.summary:
            return await self._deliver(request, listener, _summary(request), ())
        task, after = since_last_user(request.turns)
        script = parse(task)
        done = sum(isinstance(turn, AssistantTurn) for turn in after)
        if not script:
            move = next_move(request.turns, frozenset(tool.name for tool in request.tools))
            text = move.text if move.call else _answer(request, move.text)
            return await self._deliver(request, listener, text, (move.call,) if move.call else ())
        if done >= len(script):
            return await self._deliver(request, listener, _answer(request, _results(after)), ())
        step = script[done]
        if step.fail is not None:
            raise failure(step.fail, "The demo model")
        text = f"{LABEL} {' '.join(part for part in (step.think, step.say) if part)}".rstrip()
        return await self._deliver(request, listener, text, _calls(step, done), stop=step.stop, slow=step.slow)

    async def close(self) -> None:
        """Nothing is held."""

    async def _deliver(
        self,
        request: ModelRequest,
        listener: Listener,
        text: str,
        calls: tuple[ProposedCall, ...],
        *,
        stop: Stop | None = None,
        slow: float = 0.0,
    ) -> ModelReply:
        asked = _tokens(request.system + request.model_dump_json(include={"turns", "tools"}))
        pieces = re.findall(r"\S+\s*", text) or [""]
        said = 0
        for piece in pieces:
            listener.delta(piece)
            said += len(piece)
            listener.usage(_usage(asked, math.ceil(said / CHARACTERS_PER_TOKEN)))
            await asyncio.sleep(slow / len(pieces))
        usage = _usage(asked, _tokens(text + "".join(call.model_dump_json() for call in calls)))
        listener.usage(usage)
        return ModelReply(
            stop=stop or (Stop.TOOL_CALLS if calls else Stop.END),
            text=text,
            calls=calls,
            usage=usage,
            provider_model=PROVIDER_MODEL,
            stop_detail=NAME,
        )


def _calls(step: Step, number: int) -> tuple[ProposedCall, ...]:
    return tuple(
        ProposedCall(
            provider_id=f"demo_{number}_{index}",
            tool=call.tool,
            arguments=call.arguments,
            raw=call.raw if call.arguments is None else None,
        )
        for index, call in enumerate(step.calls)
    )


def _summary(request: ModelRequest) -> str:
    record = "\n\n".join(turn.text for turn in request.turns)
    text = f"{LABEL} The conversation had {len(record)} characters. What is left of the script:"
    return "\n".join(part for part in (text, remaining(record)) if part)


def _answer(request: ModelRequest, text: str) -> str:
    """The text, or a placeholder of the shape that is wanted."""
    if request.output_schema is None:
        return text
    return f"{LABEL} {json.dumps(example(request.output_schema), ensure_ascii=False)}"


def _results(after: tuple[object, ...]) -> str:
    lines = [
        f"- {turn.tool}{'' if turn.ok else ' (not ok)'}: {turn.text}" for turn in after if isinstance(turn, ResultTurn)
    ]
    return "\n".join([f"{LABEL} The script of the message has ended. What came back:", *(lines or ["- nothing"])])


def _tokens(text: str) -> int:
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def _usage(input_: int, output: int) -> Usage:
    return Usage(input=input_, output=output, reported_cost_usd=Decimal(0))
