"""Heartbeats in the background of an activity, so that a cancel reaches it within the worker's throttle of 200 ms."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio import activity

INTERVAL_SECONDS = 1.0


@asynccontextmanager
async def beating() -> AsyncIterator[None]:
    """Heartbeat until the block ends. A cancel is raised in the block at its next await."""

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(INTERVAL_SECONDS)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
