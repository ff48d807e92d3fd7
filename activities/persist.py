"""Writes that must not be lost: what they hold is paid for, or has happened."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from math import inf
from typing import TypeVar

from conductor_ai.errors import Unavailable

T = TypeVar("T")

log = logging.getLogger(__name__)

FIRST_SECONDS = 0.2
LONGEST_SECONDS = 5.0


async def persist(write: Callable[[], Awaitable[T]], *, seconds: float = inf) -> T:
    """Repeat a write while the store is away. Call it under `beating()`: the activity's own limit ends it.

    `seconds`: begin no further attempt after that, for what comes before an effect that needs its own time.

    Raises:
        Unavailable: the store was away for longer than `seconds`.
    """
    delay, began = FIRST_SECONDS, time.monotonic()
    while True:
        try:
            return await write()
        except Unavailable as error:
            if time.monotonic() + delay - began > seconds:
                raise
            log.warning("the store is away, the write is repeated in %.1f s: %s", delay, error.message)
        await asyncio.sleep(delay)
        delay = min(delay * 2, LONGEST_SECONDS)
