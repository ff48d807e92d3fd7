"""A simulation of steps that pass through what can be full: history shards, partitions of the task queue, workers, Postgres.

Arithmetic sees averages. This sees what averages hide: that sessions fall unevenly on shards, that one partition is one queue, that
a burst waits. Times are scaled down by nothing: 10,000 steps a second for a second or two are some hundred thousand visits.
"""

import heapq
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Station:
    """A kind of server."""

    name: str
    servers: int
    milliseconds: float
    """One visit."""
    by_session: bool = False
    """A session always comes to the same server, as to its history shard; else to any, at random."""


@dataclass(frozen=True)
class Found:
    """What became of it."""

    done: float
    """Steps a second that were finished."""
    p50_ms: float
    p99_ms: float
    busiest: dict[str, float]
    """Of each kind, how busy its busiest server was, from 0 to 1."""

    @property
    def hot(self) -> str:
        """The kind that is full first."""
        return max(self.busiest, key=lambda name: self.busiest[name])


def simulate(
    route: tuple[str, ...],
    stations: tuple[Station, ...],
    *,
    steps: float,
    sessions: int,
    seconds: float = 2,
    seed: int = 1,
) -> Found:
    """Steps arrive at random, each of a session, and visit the stations of their route one after the other."""
    chance = random.Random(seed)  # noqa: S311 - a simulation, not a secret
    kinds = {station.name: station for station in stations}
    free: dict[tuple[str, int], float] = defaultdict(float)
    worked: dict[tuple[str, int], float] = defaultdict(float)
    heap: list[tuple[float, int, int, int, float]] = []
    for number, at in enumerate(_arrivals(chance, steps, seconds)):
        heapq.heappush(heap, (at, number, 0, chance.randrange(sessions), at))
    took: list[float] = []
    while heap:
        now, number, stage, session, begun = heapq.heappop(heap)
        if now > seconds:
            continue
        if stage == len(route):
            took.append(now - begun)
            continue
        kind = kinds[route[stage]]
        # A multiplied hash, as every sharding uses: consecutive numbers must not fall on consecutive servers.
        index = session * 2_654_435_761 % 2**32 % kind.servers if kind.by_session else chance.randrange(kind.servers)
        work = chance.expovariate(1000 / kind.milliseconds)
        start = max(now, free[kind.name, index])
        free[kind.name, index] = start + work
        worked[kind.name, index] += max(0.0, min(start + work, seconds) - min(start, seconds))
        heapq.heappush(heap, (start + work, number, stage + 1, session, begun))
    took.sort()
    busiest = {kind.name: 0.0 for kind in stations}
    for (name, _), busy in worked.items():
        busiest[name] = max(busiest[name], busy / seconds)
    if not took:
        return Found(0.0, float("inf"), float("inf"), busiest)
    return Found(
        len(took) / seconds,
        took[len(took) // 2] * 1000,
        took[min(len(took) - 1, len(took) * 99 // 100)] * 1000,
        busiest,
    )


def _arrivals(chance: random.Random, rate: float, seconds: float) -> Iterator[float]:
    at = chance.expovariate(rate)
    while at < seconds:
        yield at
        at += chance.expovariate(rate)
