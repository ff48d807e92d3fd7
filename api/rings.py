"""One listener of Redis for a whole process: it wakes those who wait for a session. Without Redis they look each second."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from redis.exceptions import RedisError

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often a waiting reader looks into Postgres when nothing rings."""
RECONNECT_SECONDS = 1.0

_AWAY = (RedisError, OSError, TimeoutError, asyncio.TimeoutError)


class Source(Protocol):
    """Where rings come from."""

    def rings(self) -> AsyncIterator[tuple[str, int]]:
        """Session ids and versions. Ends at once if there is no Redis, with an exception when it goes away."""
        ...


class Bell:
    """Wakes one reader that waits for one session."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Something may have changed."""
        self._rung.set()

    async def rung(self) -> None:
        """Return when it has rung since the last time. For who is told by others when it is time to look anyway."""
        await self._rung.wait()
        self._rung.clear()

    async def wait(self, seconds: float) -> None:
        """Return when it has rung since the last time, or when it is time to look anyway."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, LOOK_SECONDS)):
                await self._rung.wait()
        self._rung.clear()


class Rings:
    """The bells of this process. `run` feeds them; without it, or without Redis, readers only look less eagerly."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._bells: dict[str, set[Bell]] = {}

    @contextmanager
    def listening(self, session_id: str) -> Iterator[Bell]:
        """A bell for this session. Take it before the first look, so that no change falls between."""
        bell = Bell()
        self._bells.setdefault(session_id, set()).add(bell)
        try:
            yield bell
        finally:
            bells = self._bells[session_id]
            bells.discard(bell)
            if not bells:
                del self._bells[session_id]

    def ring(self, session_id: str) -> None:
        """Wake those who wait for this session."""
        for bell in self._bells.get(session_id, ()):
            bell.ring()

    async def run(self) -> None:
        """Listen until cancelled; when Redis goes away, try again each second. Returns if there is no Redis at all."""
        while True:
            try:
                async for session_id, _ in self._source.rings():
                    self.ring(session_id)
            except _AWAY as error:
                log.info("no rings: redis is away (%s)", type(error).__name__)
            else:
                return
            await asyncio.sleep(RECONNECT_SECONDS)
