"""Steps a second, in rounds: all contenders in turn, so that what else the machine does meets all of them."""

import statistics
from dataclasses import dataclass, field
from typing import Any

from bench.stage import Running, Stage, cpu_seconds


@dataclass
class Found:
    """What was measured of one contender."""

    rates: list[float] = field(default_factory=list)
    """Steps a second, a round each."""
    ratios: list[float] = field(default_factory=list)
    """To the first contender in the same round."""
    cpu_ms: list[float] = field(default_factory=list)
    """Processor time of a step, its own processes and the servers'."""
    cpu_parts: dict[str, list[float]] = field(default_factory=dict)
    first_ms: list[float] = field(default_factory=list)
    wal_bytes: list[float] = field(default_factory=list)
    """Written to Postgres' log by a step."""

    def summary(self) -> dict[str, Any]:
        """Medians and spread."""
        middle = statistics.median
        return {
            "steps_s": middle(self.rates),
            "spread": self.rates,
            "ratio": middle(self.ratios),
            "ratios": self.ratios,
            "cpu_ms": middle(self.cpu_ms),
            "cpu_parts": {name: middle(values) for name, values in self.cpu_parts.items()},
            "first_ms": middle(self.first_ms) if self.first_ms else None,
            "wal_bytes": middle(self.wal_bytes),
        }


async def _wal(stage: Stage) -> int:
    async with stage.store.connection() as connection:
        return int(await connection.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"))


async def once(stage: Stage, running: Running, sessions: int, together: int, steps: int) -> tuple[float, Found]:
    """One contender's turn. Its rate, and the rest as a round of its own."""
    groups = {"own": running.pids, **stage.servers}
    before = {name: cpu_seconds(pids) for name, pids in groups.items()}
    wal = await _wal(stage)
    answer = await running.order(sessions, together, steps)
    total = sessions * steps
    parts = {name: (cpu_seconds(pids) - before[name]) * 1000 / total for name, pids in groups.items()}
    found = Found(
        cpu_ms=[sum(parts.values())],
        cpu_parts={name: [value] for name, value in parts.items()},
        first_ms=answer["first_ms"],
        wal_bytes=[(await _wal(stage) - wal) / total],
    )
    return total / answer["seconds"], found


async def compared(
    stage: Stage, contenders: list[Running], *, sessions: int, together: int, steps: int, rounds: int
) -> dict[str, Any]:
    """All contenders, `rounds` times in turn; the first one is what the others are compared with."""
    results = {running.name: Found() for running in contenders}
    for number in range(rounds):
        rates: dict[str, float] = {}
        for running in contenders:
            rate, found = await once(stage, running, sessions, together, steps)
            rates[running.name] = rate
            kept = results[running.name]
            kept.rates.append(rate)
            kept.ratios.append(rate / rates[contenders[0].name])
            kept.cpu_ms += found.cpu_ms
            kept.first_ms += found.first_ms
            kept.wal_bytes += found.wal_bytes
            for name, values in found.cpu_parts.items():
                kept.cpu_parts.setdefault(name, []).extend(values)
            print(f"  round {number + 1}, {together} at once: {running.name:<14} {rate:7.1f} steps/s", flush=True)
    return {name: found.summary() for name, found in results.items()}
