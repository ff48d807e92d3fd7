"""Writes that must not be lost: what they hold is paid for, or has happened."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from conductor_ai.errors import Unavailable

T = TypeVar("T")

log = logging.getLogger(__name__)

FIRST_SECONDS = 0.2
LONGEST_SECONDS = 5.0


async def persist(write: Callable[[], Awaitable[T]]) -> T:
    """Repeat a write while the store is away. Call it under `beating()`: the activity's own limit ends it."""
    delay = FIRST_SECONDS
    while True:
        try:
            return await write()
        except Unavailable as error:
            log.warning("the store is away, the write is repeated in %.1f s: %s", delay, error.message)
        await asyncio.sleep(delay)
        delay = min(delay * 2, LONGEST_SECONDS)
