"""What is full first: the same load through more and more shards and partitions."""

from infra.capacity.model import Assumed
from infra.capacity.simulate import Found, Station, simulate

ROUTE = (
    *("partition", "worker", "shard"),
    *("partition", "worker", "shard", "shard"),
    *("postgres",) * 3,
)
"""A step as it was measured: a workflow task and an activity handed out and worked on, 3 writes of Temporal, 3 transactions of ours."""


def stations(
    *, shards: int, partitions: int, workers: int, primaries: int, worker_ms: float = 4.0
) -> tuple[Station, ...]:
    """Those of the route."""
    bears = Assumed()
    return (
        Station("shard", shards, bears.shard_write_ms, by_session=True),
        Station("partition", partitions, 1000 / bears.partition_tasks),
        Station("worker", workers, worker_ms),
        Station("postgres", primaries * 32, 32 * 1000 / bears.primary_commits),
    )


def found(steps: float, *, sessions: int = 50_000, **sizes: int) -> Found:
    """One simulation, of some ten thousand steps at most."""
    seconds = 1.0 if steps > 1_000 else 4.0
    return simulate(ROUTE, stations(**sizes), steps=steps, sessions=sessions, seconds=seconds)


CASES: tuple[tuple[float, dict[str, int]], ...] = (
    (50, {"shards": 1, "partitions": 1, "workers": 2, "primaries": 1}),
    (200, {"shards": 1, "partitions": 1, "workers": 8, "primaries": 1}),
    (1_000, {"shards": 4, "partitions": 4, "workers": 17, "primaries": 1}),
    (1_000, {"shards": 32, "partitions": 1, "workers": 17, "primaries": 1}),
    (1_000, {"shards": 32, "partitions": 5, "workers": 17, "primaries": 1}),
    (10_000, {"shards": 256, "partitions": 41, "workers": 163, "primaries": 1}),
    (10_000, {"shards": 256, "partitions": 41, "workers": 163, "primaries": 4}),
    (10_000, {"shards": 1_024, "partitions": 41, "workers": 163, "primaries": 4}),
)
"""The sizes of the model, and sizes around them that are too small in one place."""


def report() -> str:
    """A table in Markdown."""
    lines = [
        "| asked, steps/s | shards | partitions | workers | Postgres | done | p50 ms | p99 ms | fullest |",
        "|" + "---|" * 9,
    ]
    for steps, sizes in CASES:
        one = found(steps, **sizes)
        lines.append(
            f"| {steps:,.0f} | {sizes['shards']:,} | {sizes['partitions']} | {sizes['workers']} | {sizes['primaries']} "
            f"| {one.done:,.0f} | {one.p50_ms:.0f} | {one.p99_ms:.0f} | {one.hot}, {one.busiest[one.hot]:.0%} |"
        )
    return "\n".join(lines)
