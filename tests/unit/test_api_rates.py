"""Tokens of a key: how many, how fast they come back, and who counts them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.rates import AWAY_SECONDS, KEYS, Bucket, Limiter
from conductor_ai.stores.hot import Hot


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=60),
    st.floats(0.1, 50),
    st.integers(1, 20),
)
def test_never_more_than_rate_and_burst(pauses: list[float], rate: float, burst: int) -> None:
    """Whatever the rhythm, in any time there are at most `burst` requests and what came back meanwhile."""
    bucket, now, admitted = Bucket(float(burst), 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        bucket, wait = bucket.take(now, rate=rate, burst=burst)
        admitted += wait == 0
        assert admitted <= burst + now * rate + 1e-6
        assert wait <= 1 / rate + 1e-9


def test_who_waits_as_told_is_welcome() -> None:
    """After the seconds that were named there is a token."""
    bucket, _ = Bucket(1.0, 0.0).take(0.0, rate=2, burst=1)
    bucket, wait = bucket.take(0.0, rate=2, burst=1)
    assert wait == 0.5
    _, wait = bucket.take(0.5, rate=2, burst=1)
    assert wait == 0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """Tokens come with time that passes, and are not lost when it does not."""
    bucket, wait = Bucket(1.0, 10.0).take(5.0, rate=1, burst=5)
    assert (bucket.tokens, wait) == (0.0, 0.0)


async def test_without_redis_a_process_counts_for_itself() -> None:
    """Each key has its own bucket; what is kept is bounded."""
    now = 0.0
    limiter = Limiter(Hot(None), rate=1, burst=2, clock=lambda: now)
    assert [await limiter.wait("org", "key") for _ in range(3)] == [0, 0, 1]
    assert await limiter.wait("org", "another") == 0
    now = 1.0
    assert await limiter.wait("org", "key") == 0
    for number in range(KEYS + 5):
        await limiter.wait("org", f"key {number}")
    assert len(limiter._own) == KEYS


async def test_no_limit() -> None:
    """A rate of 0 stops nobody."""
    limiter = Limiter(Hot(None), rate=0, burst=1)
    assert [await limiter.wait("org", "key") for _ in range(50)] == [0] * 50


async def test_redis_that_is_away_is_not_asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure the process counts for itself for some seconds, and then asks again."""
    hot, now, asked = Hot("redis://127.0.0.1:9"), 0.0, 0

    async def take(*_: object, **__: object) -> float | None:
        nonlocal asked
        asked += 1
        return None

    monkeypatch.setattr(hot, "take", take)
    limiter = Limiter(hot, rate=1, burst=3, clock=lambda: now)
    assert [await limiter.wait("org", "key") for _ in range(4)] == [0, 0, 0, 1]
    assert asked == 1
    now = AWAY_SECONDS
    await limiter.wait("org", "key")
    assert asked == 2
    await hot.close()
