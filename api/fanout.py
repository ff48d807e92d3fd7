"""Streams of sessions without a connection of their own: one look, one listener and one reader of deltas for all.

Redis only rings. Events are read from Postgres, by one reader for each watched session, on a ring and at the latest after a
second. A watcher is a number, the last event that it was given: slow ones cost no memory, and read what they missed from
Postgres themselves.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from api.feeds import Feed, Line, Preview, line_of
from api.problems import Refused
from api.rings import LOOK_SECONDS, Rings
from conductor_ai.errors import Code, Unavailable
from conductor_ai.stores.events import EventPage, Events
from conductor_ai.stores.hot import Hot

log = logging.getLogger(__name__)

PAGE = 200
"""Events that are read at once."""
DELTA_SECONDS = 0.1
"""How often pieces of replies are looked for while somebody wants them."""
DELTA_KEYS = 100
"""Sessions in one such look."""
AWAY_SECONDS = 1.0
"""Until the next attempt when a store does not answer."""
CHECK_SECONDS = 10.0
"""How often it is asked whether a watcher's key is still good."""
READS = 4
"""Reads at the same time for all streams together, so that they leave connections to everybody else."""

_WENT_WRONG = "the streams of this process have an unexpected error; they go on"

Allowed = Callable[[], Awaitable[bool]]


class Watch:
    """One watcher's way through a session."""

    def __init__(self, fanout: "Fanout", feed: Feed, page: EventPage, after: int, allowed: Allowed) -> None:
        self._fanout = fanout
        self._feed = feed
        self._page: EventPage | None = page
        self._position = after
        self._over = False
        self._allowed = allowed
        self.bell = asyncio.Event()
        self.wants_deltas = False
        self._preview = Preview()

    async def lines(self) -> AsyncIterator[Line]:
        """Events in order, each once, and pieces of replies between them. Ends after the session's last event, when the
        process stops, and when the key is revoked."""
        clock = asyncio.get_running_loop().time
        check = clock() + CHECK_SECONDS
        while not self._fanout.closing:
            self.bell.clear()
            if self.wants_deltas and (piece := self._preview.next(self._feed, self._position)) is not None:
                yield piece
            found = await self._next()
            for line in found or ():
                assert line.seq is not None
                self._position = line.seq
                yield line
            if not found and found is not None:
                if self._over or (self._feed.ended and self._position >= self._feed.last):
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, check - clock())):
                        await self.bell.wait()
            if clock() >= check:
                if not await self._allowed():
                    return
                check = clock() + CHECK_SECONDS

    async def _next(self) -> list[Line] | None:
        """The events after the last one, as many as are at hand; None while Postgres is away."""
        page, self._page = self._page, None
        if page is None and (found := self._feed.since(self._position)) is not None:
            return found
        if page is None:
            page = await self._fanout.read(self._feed, self._position)
        if page is None:
            await asyncio.sleep(AWAY_SECONDS)
            return None
        self._over = page.ended and not page.events  # It was deleted, or nothing is left to read.
        return [line_of(event) for event in page.events]


class Fanout:
    """All streams of this process. `look` and `hear` run beside it for as long as it lives."""

    def __init__(self, events: Events, hot: Hot, rings: Rings, *, most: int) -> None:
        self._events = events
        self._hot = hot
        self._rings = rings
        self._most = most
        self._open: Counter[str] = Counter()
        self._feeds: dict[tuple[str, str], Feed] = {}
        self._readers: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._reads = asyncio.Semaphore(READS)
        self._wanted = asyncio.Event()
        self._redis_away = False
        self.closing = False
        """True once the process stops: all streams end, and clients come back to another process."""

    @contextmanager
    def place(self, org_id: str) -> Iterator[None]:
        """One of the streams that an organisation may have open in this process.

        Raises:
            Refused: it has as many.
        """
        if self._open[org_id] >= self._most:
            raise Refused(
                f"This organisation has {self._most} streams open, as many as it may (CONDUCTOR_STREAMS_PER_ORG). Close "
                "one, or poll.",
                code=Code.TOO_MANY_STREAMS,
                headers={"Retry-After": "5"},
            )
        self._open[org_id] += 1
        try:
            yield
        finally:
            self._open[org_id] -= 1
            if not self._open[org_id]:
                del self._open[org_id]

    @contextmanager
    def watch(
        self, org_id: str, session_id: str, page: EventPage, *, after: int, deltas: bool, allowed: Allowed
    ) -> Iterator[Watch]:
        """A way through this organisation's session, from the page that was just read after `after`."""
        key = (org_id, session_id)
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed(org_id, session_id, page)
            self._readers[key] = asyncio.create_task(self._follow(feed))
        watch = Watch(self, feed, page, after, allowed)
        watch.wants_deltas = deltas and not self._hot.absent
        feed.watchers.add(watch.bell)
        feed.listeners += watch.wants_deltas
        self._wanted.set()
        try:
            yield watch
        finally:
            feed.watchers.discard(watch.bell)
            feed.listeners -= watch.wants_deltas
            if not feed.watchers:
                del self._feeds[key]
                self._readers.pop(key).cancel()

    async def read(self, feed: Feed, after: int) -> EventPage | None:
        """Events of a session from Postgres; None while it is away."""
        try:
            async with self._reads:
                page = await self._events.page(feed.org_id, feed.session_id, after=after, limit=PAGE)
        except Unavailable as error:
            log.info("no events of %s: %s", feed.session_id, error.code)
            return None
        # A session that is not there any more has nothing more to tell.
        return page or EventPage((), after, ended=True, answered=0, has_more=False)

    async def _follow(self, feed: Feed) -> None:
        """Read what is new, at each ring, until the end, or until nobody watches any more."""
        with self._rings.listening(feed.session_id) as bell:
            while not feed.ended and feed.watchers:
                more = False
                try:
                    more = await self._read_on(feed)
                except Exception:  # Otherwise its watchers would wait for ever.
                    log.exception(_WENT_WRONG)
                if not more and not feed.ended:
                    await bell.rung()

    async def _read_on(self, feed: Feed) -> bool:
        """Take the next events. Returns whether there are more."""
        page = await self.read(feed, feed.last)
        if page is None:
            return False
        if feed.listeners and not self._redis_away and _answers(page):
            await self._listen([feed])  # The rest of the reply is in Redis before its answer is stored.
        feed.publish(page)
        return page.has_more

    async def look(self) -> None:
        """Each second: whose session has changed without a ring? One question for all of them. Runs until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            feeds = [feed for feed in self._feeds.values() if not feed.ended]
            try:
                async with self._reads:
                    found = await self._events.versions([feed.key for feed in feeds])
            except Unavailable as error:
                log.info("no look at the sessions that are streamed: %s", error.code)
            except Exception:
                log.exception(_WENT_WRONG)
            else:
                for feed in feeds:
                    if found.get(feed.key) != feed.last:
                        self._rings.ring(feed.session_id)

    async def hear(self) -> None:
        """Bring pieces of replies from Redis to who wants them. Runs until cancelled."""
        while not self._hot.absent:
            feeds = [feed for feed in self._feeds.values() if feed.listeners and not feed.ended]
            if not feeds:
                self._wanted.clear()
                await self._wanted.wait()
                continue
            for at in range(0, len(feeds), DELTA_KEYS):
                try:
                    await self._listen(feeds[at : at + DELTA_KEYS])
                except Exception:
                    log.exception(_WENT_WRONG)
            await asyncio.sleep(AWAY_SECONDS if self._redis_away else DELTA_SECONDS)

    async def _listen(self, feeds: list[Feed]) -> None:
        found = await self._hot.deltas({feed.key: feed.heard for feed in feeds})
        self._redis_away = found is None
        for feed in feeds:
            feed.hear((found or {}).get(feed.key, ()))

    def close(self) -> None:
        """End all streams. Their clients know where they were, and go on elsewhere."""
        self.closing = True
        for feed in self._feeds.values():
            feed.wake()


def _answers(page: EventPage) -> bool:
    return any(event.type == "model.answered" for event in page.events)
