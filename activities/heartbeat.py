"""Heartbeats in the background of an activity, so that a cancel reaches it within the worker's throttle of 200 ms."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from temporalio import activity

FIRST_SECONDS = 0.2
"""An activity that is over sooner sends none: each is a call of the server, and a write there."""
INTERVAL_SECONDS = 1.0


@dataclass
class Beat:
    """What the heartbeats of an activity say."""

    doing: str = ""
    """What the activity does now, as Temporal's UI shows it while it runs."""


@asynccontextmanager
async def beating() -> AsyncIterator[Beat]:
    """Heartbeat until the block ends. A cancel is raised in the block at its next await."""
    said = Beat()

    async def beat() -> None:
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            activity.heartbeat(said.doing)
            await asyncio.sleep(INTERVAL_SECONDS)

    task = asyncio.create_task(beat())
    try:
        yield said
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
