"""Token deltas on their way to Redis: sent in small batches by a task of their own, so that a model is never held up."""

import asyncio
from contextlib import suppress

from conductor_ai.contracts.models import Usage
from conductor_ai.stores.hot import Hot
from conductor_ai.text import clean

BATCH_SECONDS = 0.05


class DeltaListener:
    """The listener of one attempt. Close it when the attempt is over."""

    def __init__(self, hot: Hot, org_id: str, session_id: str, call_no: int, attempt: int) -> None:
        self._hot = hot
        self._where = (org_id, session_id, call_no, attempt)
        self._parts: list[str] = []
        self._sender: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()
        self.used = Usage()
        """What the attempt has used so far, as far as the provider said."""

    def delta(self, text: str) -> None:
        """Take a piece of text."""
        self._parts.append(text)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())

    def usage(self, usage: Usage) -> None:
        """Take the usage known so far."""
        self.used = usage

    async def _send(self) -> None:
        while self._parts:
            text, self._parts = "".join(self._parts), []
            await self._hot.delta(*self._where, clean(text))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), BATCH_SECONDS)

    async def close(self) -> None:
        """Send what is left, at once: the reply that is complete now waits to be stored."""
        self._closed.set()
        if self._sender is not None:
            await self._sender
