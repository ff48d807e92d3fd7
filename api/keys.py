"""API keys as a process remembers them."""

import time
from collections import OrderedDict
from collections.abc import Callable

from conductor_ai.stores.access import Key, Keys, hashed

CACHE_ENTRIES = 10_000


class KeyCache:
    """Looks keys up, and remembers those that exist: for at most 45 s, so that with what open streams take to notice a revoked
    one is dead within 60 s. Unknown ones are asked for each time: a key that was just made works at once."""

    def __init__(self, keys: Keys, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._seconds = seconds
        self._clock = clock
        self._known: OrderedDict[str, tuple[Key, float]] = OrderedDict()

    @property
    def store(self) -> Keys:
        """The keys themselves."""
        return self._keys

    def forget(self, key_id: str) -> None:
        """Look this key up again when it comes."""
        for name in [name for name, (key, _) in self._known.items() if key.id == key_id]:
            del self._known[name]

    async def find(self, secret: str) -> Key | None:
        """The key with this secret, unless it was revoked more than 60 s ago.

        Raises:
            Unavailable: it is not remembered and Postgres is away.
        """
        name, now = hashed(secret), self._clock()
        remembered = self._known.get(name)
        if remembered is not None and now < remembered[1]:
            return remembered[0]
        self._known.pop(name, None)
        key = await self._keys.find(secret)
        if key is not None:
            self._known[name] = (key, now + self._seconds)
            while len(self._known) > CACHE_ENTRIES:
                self._known.popitem(last=False)
        return key
