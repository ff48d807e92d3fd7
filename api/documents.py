"""Sessions as they were answered last, in this process: a session that has not changed need not be made into JSON again."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from api.versions import Place
from conductor_ai.contracts.views import SessionView

MOST_BYTES = 32_000_000
"""Of all documents that are kept."""
LARGEST_BYTES = 1_000_000
"""A larger one would push out too many others."""
KEEP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Document:
    """A session as JSON."""

    version: int
    json: bytes
    degraded: bool = False

    @classmethod
    def of(cls, view: SessionView) -> "Document":
        """What a view is as JSON."""
        return cls(view.version, view.model_dump_json().encode(), view.degraded)


class Documents:
    """The documents that were made last. Which version is the present one is never taken from here.

    What is older than a minute goes with the next question, whatever that is about: so does what was deleted by another process.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_bytes = most_bytes
        self._clock = clock
        self._bytes = 0
        self._kept: dict[Place, tuple[float, Document]] = {}
        """With the time when each was made, the oldest first."""

    def get(self, place: Place, version: int) -> Document | None:
        """The document of exactly this version."""
        self._age()
        _, found = self._kept.get(place, (0.0, None))
        return found if found is not None and found.version == version else None

    def put(self, place: Place, document: Document) -> None:
        """Keep a document in the place of the one before."""
        self._age()
        self.drop(place)
        if document.degraded or len(document.json) > LARGEST_BYTES:
            return
        self._kept[place] = (self._clock(), document)
        self._bytes += len(document.json)
        while self._bytes > self._most_bytes:
            self.drop(next(iter(self._kept)))

    def drop(self, place: Place) -> None:
        """Keep none."""
        if (old := self._kept.pop(place, None)) is not None:
            self._bytes -= len(old[1].json)

    def _age(self) -> None:
        while self._kept:
            place, (made, _) = next(iter(self._kept.items()))
            if made + KEEP_SECONDS > self._clock():
                return
            self.drop(place)
