"""The one job of every contender, and the loop in which each serves measurements. Standard library only: contenders run in another
virtual environment.

A session has K steps; in each a model that answers at once asks for one trivial call, in the last it answers. 200 characters of
text and of result a step. What was said and done must be durable after every step.
"""

import asyncio
import json
import os
import sys
import time
from typing import Any, Protocol

TEXT = ("I will call the echo tool once more and look at what it returns before I answer. " * 3)[:200]
RESULT = ("echo result with some plausible payload from a small tool call, row after row " * 3)[:200]
ASK = "Please do the job."

CLOSE_SECONDS = 15
"""What a contender gets to stop; its servers may be gone already."""

FIRST: dict[str, float] = {}
"""When the model was first asked, by session, on this machine's monotonic clock."""


class Contender(Protocol):
    """One way to run agent sessions."""

    async def open(self) -> list[int]:
        """Start what is needed. Returns the process ids that work beside this one."""
        ...

    async def session(self, name: str, steps: int) -> None:
        """Run one session; return when its caller knows that it has ended."""
        ...

    async def close(self) -> None:
        """Give everything back."""
        ...


def answer(name: str, number: int, steps: int) -> dict[str, Any]:
    """What the model says in step `number`."""
    if number == 1:
        FIRST.setdefault(name, time.monotonic())
    return {"text": TEXT, "final": number >= steps, "n": number}


async def measured(contender: Contender, order: dict[str, Any]) -> dict[str, Any]:
    """Run `sessions` sessions of `steps` steps, `together` at a time. Seconds, and milliseconds to each first model call."""
    sessions, together, steps = order["sessions"], order["together"], order["steps"]
    names = iter([f"{order['run']}-{number}" for number in range(sessions)])
    began: dict[str, float] = {}

    async def lane() -> None:
        for name in names:
            began[name] = time.monotonic()
            await contender.session(name, steps)

    before = time.monotonic()
    await asyncio.gather(*(lane() for _ in range(together)))
    seconds = time.monotonic() - before
    return {
        "seconds": seconds,
        "first_ms": [(FIRST[name] - at) * 1000 for name, at in began.items() if name in FIRST],
    }


async def serve(contender: Contender) -> None:
    """Answer orders, one JSON document a line, until standard input ends."""
    loop = asyncio.get_running_loop()
    print(json.dumps({"pids": await contender.open()}), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await measured(contender, json.loads(line))), flush=True)
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await contender.close()
    finally:
        os._exit(0)  # whatever hangs, nothing is left running
