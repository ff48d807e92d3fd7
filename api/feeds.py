"""One session as all who watch it in this process share it: its newest events, and the reply that is under way."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from conductor_ai.contracts.events import DeltaView, EventView
from conductor_ai.stores.events import EventPage
from conductor_ai.stores.hot import Delta

WINDOW = 256
"""Newest events that a feed keeps. Who is further behind reads the rest from Postgres, a page at a time."""
REPLY_MAX = 1_000_000
"""Characters of a reply under way that are kept; what comes after them is shown when it is stored."""


@dataclass(frozen=True)
class Line:
    """One message for a watcher, its body made once for all of them."""

    event: str
    data: str
    seq: int | None = None
    """Of durable events; None for what is only a preview."""


def line_of(event: EventView) -> Line:
    """A durable event as a message."""
    return Line(event.type, event.model_dump_json(), event.seq)


@dataclass
class _Reply:
    """What one attempt at one model call has said so far."""

    key: tuple[int, int]
    after: int
    """Number of the last event that came before its first piece."""
    text: str = ""
    until: int | None = None
    """Number of the event that says that the call has an answer; the preview is worth nothing after it."""


class Feed:
    """Plain state, changed in one place and read by many; nothing here waits."""

    def __init__(self, org_id: str, session_id: str, page: EventPage) -> None:
        self.org_id = org_id
        self.session_id = session_id
        self.last = page.version
        """Number of the last event that is known. All up to it are in Postgres, the newest of them here."""
        self.ended = page.ended
        """True once `last` is the last event of all (but for calls whose outcome becomes known later)."""
        self.heard = (0, 0)
        """Place of the last piece of a reply that was heard."""
        self.watchers: set[asyncio.Event] = set()
        self.listeners = 0
        """How many of the watchers want pieces of replies."""
        self._window: deque[Line] = deque(maxlen=WINDOW)
        self._answered = page.answered
        self._reply: _Reply | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Organisation and session."""
        return self.org_id, self.session_id

    def since(self, position: int) -> list[Line] | None:
        """The events after `position`; None if they are no longer, or not yet, kept here."""
        missing = self.last - position
        if missing > len(self._window):
            return None
        return list(islice(self._window, len(self._window) - max(0, missing), None))

    def reply(self, position: int) -> tuple[tuple[int, int], str] | None:
        """Call, attempt and text of the reply that is under way for who has all events up to `position`."""
        found = self._reply
        if found is None or position < found.after or (found.until is not None and position >= found.until):
            return None
        return found.key, found.text

    def publish(self, page: EventPage) -> None:
        """Take the next events, and wake everybody."""
        for event in page.events:
            self._note(event)
            self._window.append(line_of(event))
            self.last = event.seq
        self.ended = page.ended and self.last >= page.version
        self.wake()

    def hear(self, pieces: Iterable[Delta]) -> None:
        """Take pieces of replies. Those of attempts that are over are dropped."""
        changed = False
        for piece in pieces:
            if piece.place <= self.heard:
                continue
            self.heard = piece.place
            key = (piece.call_no, piece.attempt)
            if piece.call_no <= self._answered or (self._reply is not None and key < self._reply.key):
                continue
            if self._reply is None or key > self._reply.key:
                self._reply = _Reply(key, self.last)
            self._reply.text += piece.text[: REPLY_MAX - len(self._reply.text)]
            changed = True
        if changed:
            self.wake()

    def wake(self) -> None:
        """There may be something for everybody."""
        for watcher in self.watchers:
            watcher.set()

    def _note(self, event: EventView) -> None:
        if event.type == "session.claimed":  # Another run begins where it has to: its calls may have old numbers.
            self._answered, self._reply = 0, None
        elif event.type == "model.answered":
            call_no = event.data["call_no"]
            assert isinstance(call_no, int)
            self._answered = max(self._answered, call_no)
            if self._reply is not None and self._reply.key[0] <= call_no and self._reply.until is None:
                self._reply.until = event.seq


class Preview:
    """What one watcher was told of replies under way."""

    def __init__(self) -> None:
        self._key = (0, 0)
        self._told = 0

    def next(self, feed: Feed, position: int) -> Line | None:
        """What is new of the present reply, however many pieces it came in; None if nothing is."""
        found = feed.reply(position)
        if found is None:
            return None
        key, text = found
        if key != self._key:
            self._key, self._told = key, 0
        if len(text) == self._told:
            return None
        piece = DeltaView(
            session_id=feed.session_id, call_no=key[0], attempt=key[1], offset=self._told, text=text[self._told :]
        )
        self._told = len(text)
        return Line("delta", piece.model_dump_json())
