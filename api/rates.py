"""How many requests a key may send: a bucket of tokens for each key, in Redis for all processes together."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from conductor_ai.stores.hot import Hot

AWAY_SECONDS = 5.0
"""How long Redis is not asked again after it did not answer: no request should wait for it."""
KEYS = 10_000
"""Buckets that a process keeps for itself while Redis is away."""


@dataclass(frozen=True)
class Bucket:
    """Tokens of one key as of a moment. One is taken by each request, and they come back with time."""

    tokens: float
    at: float

    def take(self, now: float, *, rate: float, burst: int) -> tuple["Bucket", float]:
        """The bucket afterwards, and the seconds until there would be a token; 0 if one was taken."""
        tokens = min(float(burst), self.tokens + max(0.0, now - self.at) * rate)
        if tokens >= 1:
            return Bucket(tokens - 1, now), 0.0
        return Bucket(tokens, now), (1 - tokens) / rate


class Limiter:
    """Counts requests. Without Redis each process counts for itself: then a key may send so much to each of them."""

    def __init__(self, hot: Hot, *, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._hot = hot
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._ask_again = 0.0
        self._own: OrderedDict[tuple[str, str], Bucket] = OrderedDict()

    async def wait(self, org_id: str, key_id: str) -> float:
        """Seconds that this key has to wait; 0: welcome."""
        if not self._rate:
            return 0.0
        now = self._clock()
        if not self._hot.absent and now >= self._ask_again:
            found = await self._hot.take(org_id, key_id, rate=self._rate, burst=self._burst)
            if found is not None:
                return found
            self._ask_again = self._clock() + AWAY_SECONDS
        before = self._own.pop((org_id, key_id), None) or Bucket(float(self._burst), now)
        self._own[org_id, key_id], seconds = before.take(now, rate=self._rate, burst=self._burst)
        while len(self._own) > KEYS:
            self._own.popitem(last=False)
        return seconds
