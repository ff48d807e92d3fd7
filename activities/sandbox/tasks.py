"""Waiting for what must be finished even if the waiter is cancelled."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from conductor_ai.errors import ToolUnavailable

T = TypeVar("T")

_log = logging.getLogger(__name__)


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


class Background:
    """Work that is always finished, but waited for with patience only: an engine may hang."""

    def __init__(self, what: str) -> None:
        """`what`: the work in a few words, for the log."""
        self._what = what
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Begin it. If nobody waits for its failure, the log has it."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def finish(self, work: Coroutine[Any, Any, T], patience: float) -> T:
        """Wait for its end; if the caller is cancelled meanwhile, only for `patience` seconds from then on.

        Raises:
            asyncio.CancelledError: the caller was cancelled; the work is done, or goes on by itself.
        """
        task = self.begin(work)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            await self.wait(task, patience)
            raise
        return task.result()

    async def wait(self, task: "asyncio.Task[Any]", patience: float) -> None:
        """Wait for its end for `patience` seconds, however often the caller is cancelled meanwhile; then it goes on by itself."""
        clock = asyncio.get_running_loop().time
        until = clock() + patience
        while not task.done() and (left := until - clock()) > 0:
            try:
                await asyncio.wait([task], timeout=left)
            except asyncio.CancelledError:
                continue  # whoever calls this is being cancelled, and says so afterwards

    async def close(self) -> None:
        """Wait for all of it."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, ToolUnavailable):
            _log.warning("%s failed: %s", self._what, error.message)
        elif error is not None:
            _log.error("%s failed", self._what, exc_info=error)
