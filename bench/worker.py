"""Conductor's own worker with a model that answers at once and two tools: one that is allowed, and one that people are asked about.

What the session's first message says decides how it goes: `steps=10 name=x ask=1 delay=0.1`. When the model is asked, when it
has answered and when a tool begins is written to the file in BENCH_STAMPS, on the machine's monotonic clock.
"""

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TextIO

import uvloop

from activities.providers.base import Listener
from activities.tools.base import Arguments, Call, NotExecuted, spec_of
from activities.tools.registry import Registry
from bench.job import RESULT, TEXT
from conductor_ai import wiring
from conductor_ai.contracts.models import ModelReply, ModelRequest, ProposedCall, Stop, Usage
from conductor_ai.contracts.tools import Category, Consequence, Facts, ToolResult, ToolSpec
from conductor_ai.settings import load
from conductor_ai.temporal import connect, register_search_attributes
from conductor_ai.wiring.worker import publish_tools


class Nothing(Arguments):
    """What the tools take."""

    name: str = ""
    n: int = 0


class Stamps:
    """Moments, one a line: what, which session, which step, seconds, and this process' seconds of processor time so far."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, what: str, name: str, number: int) -> None:
        """Write one down."""
        self._file.write(f"{what} {name} {number} {time.monotonic():.6f} {time.process_time():.6f}\n")
        self._file.flush()


class Echo:
    """Answers at once."""

    arguments: type[Arguments] = Nothing

    def __init__(self, name: str, stamps: Stamps) -> None:
        self._asked = name != "web_fetch"
        self._stamps = stamps
        self.spec: ToolSpec = spec_of(name, "Answers at once.", Category.OTHER, Nothing, requires_approval=self._asked)

    def facts(self, _arguments: Nothing, /) -> Facts:
        """It changes nothing."""
        return Facts(replayable=True)

    def timeout(self, _arguments: Nothing, /) -> timedelta:
        """Half a minute."""
        return timedelta(seconds=30)

    async def prepare(self, _arguments: Nothing, _call: Call, /) -> Consequence:
        """What people are shown."""
        return Consequence(summary="Answers at once.")

    async def run(self, arguments: Nothing, _call: Call, /) -> ToolResult:
        """Answers at once."""
        if self._asked:
            self._stamps.write("tool", arguments.name, arguments.n)
        return ToolResult(ok=True, content=RESULT)

    async def outcome(self, _call: Call, /) -> ToolResult | NotExecuted | None:
        """Not needed."""
        return None

    async def close(self) -> None:
        """Nothing is held."""


class Instant:
    """A provider that answers at once: a call in every step but the last."""

    name = "instant"

    def __init__(self, stamps: Stamps) -> None:
        self._stamps = stamps

    async def complete(self, request: ModelRequest, _listener: Listener, /) -> ModelReply:
        """The next reply."""
        wanted = dict(part.split("=", 1) for part in request.turns[0].text.split() if "=" in part)
        name, steps, number = wanted.get("name", ""), int(wanted.get("steps", "1")), request.step
        self._stamps.write("ask", name, number)
        if delay := float(wanted.get("delay", "0")):
            await asyncio.sleep(delay)
        usage = Usage(input=100, output=20)
        self._stamps.write("answer", name, number)
        if number >= steps:
            return ModelReply(stop=Stop.END, text=TEXT, usage=usage)
        tool = "ask_people" if wanted.get("ask") == str(number) else "web_fetch"
        call = ProposedCall(provider_id=f"t{number}", tool=tool, arguments={"name": name, "n": number})
        return ModelReply(stop=Stop.TOOL_CALLS, text=TEXT, calls=(call,), usage=usage)

    async def close(self) -> None:
        """Nothing is held."""


async def main() -> None:
    """Serve until SIGTERM."""
    settings = load()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with open(os.environ["BENCH_STAMPS"], "a", encoding="utf-8") as file:  # noqa: PTH123
        stamps = Stamps(file)
        client = await connect(settings)
        await register_search_attributes(client)
        registry = Registry([Echo("web_fetch", stamps), Echo("ask_people", stamps)])
        factories = {"demo": lambda: Instant(stamps)}
        async with (
            wiring.worker_parts(settings, client, registry=registry, factories=factories) as parts,
            AsyncExitStack() as stack,
        ):
            for worker in wiring.workers(settings, parts):
                await stack.enter_async_context(worker)
            await publish_tools(settings, parts)
            reconciling = asyncio.create_task(parts.reconciler.run())
            print("ready", flush=True)
            await stop.wait()
            reconciling.cancel()
            await asyncio.gather(reconciling, return_exceptions=True)


if __name__ == "__main__":
    uvloop.run(main())
