"""Redis: a copy of each snapshot with its version, token deltas, and rings. Losing it costs latency, never an answer."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from conductor_ai import names
from conductor_ai.contracts.views import SessionView
from conductor_ai.stores.snapshots import Snapshots
from conductor_ai.stores.writing import Committed

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 0.5
DOCUMENT_MAX_BYTES = 1_000_000
"""Larger snapshots are built from the rows each time: they would push everything else out of Redis."""
TOGETHER_SECONDS = 1.0
"""Changes of one session within this time make one copy. Nobody waits for it: a reader who is rung builds their own and leaves
it for the next one. A worker's is for those who come when Postgres is away."""
REFRESH_MAX_STEPS = 100
"""Beyond this many steps a writer no longer rebuilds the copy after each change; the next reader fills it."""

# Replaces a copy only by a newer one: writers finish in any order.
_PUT = """
local stored = redis.call('HGET', KEYS[1], 'version')
if stored and tonumber(stored) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'document', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""

CONNECTIONS = 16
"""Of one process, its listener included. Who finds none free waits for a moment, and then does without Redis."""
DELTAS_AT_ONCE = 500
"""Pieces that one look takes from one session."""

# A bucket of tokens: KEYS[1]; ARGV: rate a second, burst, now in seconds. Returns the seconds until there is a token.
_TAKE = """
local rate, burst, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local stored = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(stored[1]) or burst, tonumber(stored[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - at) * rate)
local wait = 0
if tokens >= 1 then tokens = tokens - 1 else wait = (1 - tokens) / rate end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', tostring(math.max(now, at)))
redis.call('EXPIRE', KEYS[1], math.ceil(burst / rate) + 1)
return tostring(wait)
"""

_ERASED = "9007199254740991"
"""The version in the place of a copy that was erased: newer than anything that could be put there."""

_ERASE = f"""
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[1], 'version', '{_ERASED}', 'document', '')
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
"""

# Not for a session that was erased: an attempt that was given up may still be talking.
_APPEND = f"""
if redis.call('HGET', KEYS[1], 'version') == '{_ERASED}' then return 0 end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], '*', 'call_no', ARGV[2], 'attempt', ARGV[3], 'text', ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[5])
return 1
"""

_AWAY = (RedisError, OSError, TimeoutError, asyncio.TimeoutError)


@dataclass(frozen=True)
class Delta:
    """A piece of a reply, as it lies in Redis."""

    place: tuple[int, int]
    """Its id in the stream: later pieces have greater ones."""
    call_no: int
    attempt: int
    text: str


class Hot:
    """Redis, or its absence: nothing here raises because Redis is away."""

    def __init__(self, url: str | None) -> None:
        self._redis: Any = (
            None
            if url is None
            else Redis.from_pool(
                BlockingConnectionPool.from_url(
                    url,
                    max_connections=CONNECTIONS,
                    timeout=TIMEOUT_SECONDS,
                    socket_timeout=TIMEOUT_SECONDS,
                    socket_connect_timeout=TIMEOUT_SECONDS,
                    retry=Retry(NoBackoff(), 1),
                    decode_responses=True,
                )
            )
        )

    @property
    def absent(self) -> bool:
        """True if there is none by intention: then no copy is worth making."""
        return self._redis is None

    async def ping(self) -> str | None:
        """None if Redis answers, else a sentence that says why not."""
        if self._redis is None:
            return "REDIS_URL is not set; reads come from Postgres alone."
        try:
            await self._redis.ping()
        except _AWAY as error:
            return f"Redis does not answer ({type(error).__name__}); reads come from Postgres alone."
        return None

    async def get(self, org_id: str, session_id: str) -> SessionView | None:
        """The copy of a session, however old."""
        if self._redis is None:
            return None
        try:
            document = await self._redis.hget(names.snapshot_key(org_id, session_id), "document")
        except _AWAY as error:
            log.info("redis is away: %s", type(error).__name__)
            return None
        return None if document is None else _read(document)

    async def put(self, org_id: str, view: SessionView) -> None:
        """Store a copy unless a newer one is there."""
        if self._redis is None:
            return
        document = view.model_dump_json()
        if len(document) > DOCUMENT_MAX_BYTES:
            return
        key = names.snapshot_key(org_id, view.session_id)
        try:
            await cast("Awaitable[int]", self._redis.eval(_PUT, 1, key, view.version, document, names.HOT_TTL_SECONDS))
        except _AWAY as error:
            log.info("redis is away: %s", type(error).__name__)

    async def ring(self, commits: Iterable[Committed]) -> None:
        """Tell everybody who waits for these sessions to look into Postgres."""
        if self._redis is None:
            return
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for commit in commits:
                    pipeline.publish(names.RING_CHANNEL, f"{commit.org_id} {commit.session_id} {commit.version}")
                await pipeline.execute()
        except _AWAY as error:
            log.info("redis is away: %s", type(error).__name__)

    async def delta(self, org_id: str, session_id: str, call_no: int, attempt: int, text: str) -> None:
        """Append a piece of a reply that is under way, unless the session is erased."""
        if self._redis is None:
            return
        keys = (names.snapshot_key(org_id, session_id), names.deltas_key(org_id, session_id))
        piece = (call_no, attempt, text)
        try:
            await self._redis.eval(_APPEND, 2, *keys, names.DELTAS_MAX, *piece, names.HOT_TTL_SECONDS)
        except _AWAY as error:
            log.info("redis is away: %s", type(error).__name__)

    async def take(self, org_id: str, key_id: str, *, rate: float, burst: int) -> float | None:
        """Take a token of this key, `rate` of which come back each second, up to `burst`.

        Returns:
            0 if there was one, else the seconds until there will be; None while Redis is away.
        """
        if self._redis is None:
            return None
        try:
            found = await self._redis.eval(_TAKE, 1, names.rate_key(org_id, key_id), rate, burst, f"{time.time():.6f}")
        except _AWAY as error:
            log.info("redis is away: %s", type(error).__name__)
            return None
        return float(found)

    async def erase(self, org_id: str, session_id: str) -> bool:
        """Erase what is here of a session, for good. False: Redis does not answer, and may have something of it."""
        if self._redis is None:
            return True
        keys = (names.snapshot_key(org_id, session_id), names.deltas_key(org_id, session_id))
        try:
            await cast("Awaitable[int]", self._redis.eval(_ERASE, 2, *keys, names.HOT_TTL_SECONDS))
        except _AWAY as error:
            log.info("redis is away: %s", type(error).__name__)
            return False
        return True

    async def deltas(
        self, after: Mapping[tuple[str, str], tuple[int, int]]
    ) -> dict[tuple[str, str], list[Delta]] | None:
        """For each org and session the pieces after a place, oldest first; None while Redis is away."""
        if self._redis is None:
            return None
        keys = {names.deltas_key(*session): session for session in after}
        places = {key: "{}-{}".format(*after[session]) for key, session in keys.items()}
        try:
            streams = await self._redis.xread(places, count=DELTAS_AT_ONCE) if places else ()
        except _AWAY as error:
            log.info("redis is away: %s", type(error).__name__)
            return None
        return {keys[key]: [_delta(*entry) for entry in entries] for key, entries in streams}

    async def rings(self) -> AsyncIterator[tuple[str, int]]:
        """Session ids and versions as they are rung. Ends with an exception when Redis goes away."""
        if self._redis is None:
            return
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(names.RING_CHANNEL)
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=30)
                if message is not None:
                    _, session_id, version = str(message["data"]).split(" ")
                    yield session_id, int(version)

    async def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.aclose()


def _delta(place: str, fields: Mapping[str, str]) -> Delta:
    milliseconds, _, number = place.partition("-")
    return Delta(
        (int(milliseconds), int(number)), int(fields["call_no"]), int(fields["attempt"]), fields.get("text", "")
    )


def _read(document: str) -> SessionView | None:
    try:
        return SessionView.model_validate_json(document)
    except ValueError:
        return None  # written by another version of this program: as good as absent


class HotCopies:
    """The announcer of a worker: rings, and refreshes the copy in the background, several changes in a row together."""

    def __init__(self, hot: Hot, snapshots: Snapshots) -> None:
        self._hot = hot
        self._snapshots = snapshots
        self._wanted: dict[str, Committed] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._unrung: dict[str, Committed] = {}
        self._ringing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def committed(self, commit: Committed) -> None:
        """Ring now, refresh soon."""
        if self._hot.absent:
            return
        self._unrung[commit.session_id] = commit
        if self._ringing is None or self._ringing.done():
            self._ringing = asyncio.create_task(self._ring())
        if commit.steps > REFRESH_MAX_STEPS:
            return
        self._wanted[commit.session_id] = commit
        if commit.session_id not in self._running:
            self._running[commit.session_id] = asyncio.create_task(self._refresh(commit.session_id))

    async def _ring(self) -> None:
        """Ring for what was committed; what is committed meanwhile goes out together, the newest of each session."""
        while self._unrung:
            commits, self._unrung = self._unrung, {}
            await self._hot.ring(commits.values())

    async def _refresh(self, session_id: str) -> None:
        try:
            while session_id in self._wanted:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), TOGETHER_SECONDS)
                commit = self._wanted.pop(session_id)
                try:
                    view = await self._snapshots.build(commit.org_id, session_id)
                except Exception as error:  # noqa: BLE001 - a copy: whatever went wrong, a reader builds its own
                    log.info("no copy of %s was made: %s", session_id, type(error).__name__)
                else:
                    if view is not None:
                        await self._hot.put(commit.org_id, view)
        finally:
            self._running.pop(session_id, None)

    async def close(self) -> None:
        """Finish what is under way."""
        self._closing.set()
        ringing = () if self._ringing is None else (self._ringing,)
        await asyncio.gather(*self._running.values(), *ringing, return_exceptions=True)
