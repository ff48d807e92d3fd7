"""Waiting for what must be finished even if the waiter is cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, however often the caller is cancelled meanwhile; a cancellation is raised again afterwards.

    Raises:
        asyncio.CancelledError: the caller was cancelled; the work is done all the same.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled() and (error_of_work := task.exception()) is not None:
            cancelled.add_note(f"The work that had to be finished first failed: {error_of_work!r}")
        raise cancelled
    return task.result()
