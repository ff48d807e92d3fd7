"""Containers that are made ahead, each for one job: starting one is most of what a short run takes."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import docker.errors

from activities.sandbox.base import Language
from activities.sandbox.docker_container import Container
from conductor_ai.errors import ToolUnavailable

LIFE_SECONDS = 600
"""How long a container waits for a job before another takes its place: it was made from the image as it was then."""

SPARE_SECONDS = 60
"""How much longer the container's own clock lets it wait: none is ended by it in the moment it is taken."""

AGAIN_SECONDS = 10
"""Pause after a container could not be made."""

Make = Callable[[Language], Awaitable[Container]]
Discard = Callable[[Container], None]

_log = logging.getLogger(__name__)


class Pool:
    """Keeps `size` containers of each language ready, and never more. One that ends, or waits too long, is replaced."""

    def __init__(
        self, languages: Iterable[Language], size: int, make: Make, discard: Discard, life_seconds: float = LIFE_SECONDS
    ) -> None:
        """`make` gives a container that waits for its code; `discard` removes one without waiting for it."""
        self.size = size
        self._make = make
        self._discard = discard
        self._life_seconds = life_seconds
        self._ready: dict[Language, deque[tuple[float, Container]]] = {language: deque() for language in languages}
        self._changed = asyncio.Event()
        self._keeping = asyncio.ensure_future(self._keep())

    def take(self, language: Language) -> Container | None:
        """The one that has waited longest, for one job; None if none is ready."""
        self._changed.set()
        self._sort_out()
        ready = self._ready.get(language)
        return ready.popleft()[1] if ready else None

    @property
    def full(self) -> bool:
        """True if nothing is missing."""
        return all(len(ready) >= self.size for ready in self._ready.values())

    async def close(self) -> None:
        """Make no more, and discard what is ready."""
        self._keeping.cancel()
        await asyncio.wait([self._keeping])
        if not self._keeping.cancelled():
            _log.error("Containers were no longer made ahead", exc_info=self._keeping.exception())
        for ready in self._ready.values():
            while ready:
                self._discard(ready.popleft()[1])

    def _sort_out(self) -> None:
        """Discard what has ended and what has waited too long."""
        oldest = time.monotonic() - self._life_seconds
        for ready in self._ready.values():
            for entry in [entry for entry in ready if entry[0] < oldest or not entry[1].alive]:
                ready.remove(entry)
                self._discard(entry[1])

    async def _keep(self) -> None:
        while True:
            self._changed.clear()
            self._sort_out()
            try:
                await self._fill()
            except (ToolUnavailable, docker.errors.APIError) as error:
                # Calls go on with containers of their own, and tell better what is wrong.
                why = error.message if isinstance(error, ToolUnavailable) else f"status {error.status_code}"
                _log.warning("No container could be made ahead: %s", why)
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._until_next_is_old()):
                        await self._changed.wait()

    async def _fill(self) -> None:
        """Make what is missing, one after the other: calls that run meanwhile need the machine more."""
        while not self.full:
            language = min(self._ready, key=lambda one: len(self._ready[one]))
            container = await self._make(language)
            self._ready[language].append((time.monotonic(), container))
            container.when_over(self._changed.set)

    def _until_next_is_old(self) -> float:
        oldest = min((ready[0][0] for ready in self._ready.values() if ready), default=time.monotonic())
        return max(0.1, oldest + self._life_seconds - time.monotonic())
