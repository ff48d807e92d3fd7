"""Remembered keys: long enough to spare the database, not longer than a minute."""

from datetime import UTC, datetime

from api import keys as module
from api.keys import KeyCache
from conductor_ai.settings import Settings
from conductor_ai.stores.access import Key, Keys, Role

SECONDS = Settings().key_cache_seconds


class _Known(Keys):
    """Keys that a test sets."""

    def __init__(self) -> None:
        self.found: dict[str, Key] = {}
        self.asked = 0

    async def find(self, secret: str) -> Key | None:
        self.asked += 1
        return self.found.get(secret)


def _key(number: int = 1) -> Key:
    return Key(f"key_{number}", "org", "name", Role.ADMIN, datetime.now(UTC))


async def test_a_key_is_remembered_for_less_than_a_minute() -> None:
    """One look-up serves for 45 s; then a revoked key is noticed."""
    known, now = _Known(), 0.0
    cache = KeyCache(known, SECONDS, clock=lambda: now)
    known.found["ck_a"] = _key()
    assert await cache.find("ck_a") == known.found["ck_a"]
    now = 44.9
    assert await cache.find("ck_a") is not None
    assert known.asked == 1
    del known.found["ck_a"]
    now = 60.0
    assert await cache.find("ck_a") is None


async def test_an_unknown_key_is_asked_for_each_time() -> None:
    """A key that is made a moment after it was first tried works at once."""
    known = _Known()
    cache = KeyCache(known, SECONDS)
    assert await cache.find("ck_b") is None
    known.found["ck_b"] = _key()
    assert await cache.find("ck_b") is not None


async def test_the_memory_is_bounded() -> None:
    """The oldest is forgotten when there are too many."""
    known = _Known()
    cache = KeyCache(known, SECONDS)
    for number in range(module.CACHE_ENTRIES + 1):
        known.found[f"ck_{number}"] = _key(number)
        await cache.find(f"ck_{number}")
    assert len(cache._known) == module.CACHE_ENTRIES
