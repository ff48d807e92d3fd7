"""API keys as a process remembers them."""

import time
from collections import OrderedDict
from collections.abc import Callable

from conductor_ai.stores.access import Key, Keys, hashed

CACHE_SECONDS = 60.0
"""How long a key that was revoked may go on working."""
CACHE_ENTRIES = 10_000


class KeyCache:
    """Looks keys up, and remembers those that exist for at most 60 s. Unknown ones are asked for each time: a key that
    was just made works at once."""

    def __init__(self, keys: Keys, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._clock = clock
        self._known: OrderedDict[str, tuple[Key, float]] = OrderedDict()

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
            self._known[name] = (key, now + CACHE_SECONDS)
            while len(self._known) > CACHE_ENTRIES:
                self._known.popitem(last=False)
        return key
