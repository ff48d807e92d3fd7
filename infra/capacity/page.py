"""The tables of docs/scaling.md, as Markdown: a test compares the page with them."""

from infra.capacity.model import Load, Measured, needs

LOADS = (
    Load(steps=20, waiting=1_000, streams=50, polls=50),
    Load(steps=1_000, waiting=100_000, streams=5_000, polls=500),
    Load(steps=10_000, waiting=1_000_000, streams=50_000, polls=2_000),
)
"""One machine, a company, and what was asked for."""
WORDS = {
    "running": "sessions at work",
    "wakes": "decisions a second",
    "worker_cores": "worker cores",
    "workers": "worker processes",
    "temporal_writes": "Temporal: writes a second",
    "shards": "Temporal: history shards",
    "partitions": "Temporal: partitions of the queue",
    "history_gb_a_day": "Temporal: GB of history a day",
    "temporal_primaries": "Temporal: Postgres primaries",
    "commits": "Postgres: transactions a second",
    "postgres_primaries": "Postgres: primaries",
    "wal_mb_a_second": "Postgres: MB of log a second",
    "rows_gb_a_day": "Postgres: GB of rows a day",
    "rows_tb_kept": "Postgres: TB kept for 30 days",
    "waiting_gb": "waiting sessions: GB, both stores",
    "timers_a_second": "timers a second",
    "redis_processes": "Redis: processes",
    "redis_gb": "Redis: GB",
    "api_processes": "API processes",
    "reconcile_hours": "hours until each open session was checked",
}


def needs_table(cost: Measured) -> str:
    """What each of the loads needs, a column each."""
    found = [needs(load, cost) for load in LOADS]
    head = [f"{load.steps:,.0f} steps/s, {load.waiting:,} waiting" for load in LOADS]
    lines = [f"| | {' | '.join(head)} |", "|---|" + "---|" * len(LOADS)]
    for name, words in WORDS.items():
        values = [getattr(one, name) for one in found]
        lines.append(f"| {words} | {' | '.join(f'{v:,}' if isinstance(v, int) else f'{v:,.1f}' for v in values)} |")
    return "\n".join(lines)


def costs_table(cost: Measured) -> str:
    """What was measured."""
    rows = (
        ("CPU of the worker, a step", f"{cost.worker_ms:.1f} ms"),
        ("CPU of Temporal's development server, a step", f"{cost.temporal_ms:.1f} ms"),
        ("CPU of Conductor's Postgres, a step", f"{cost.postgres_ms:.1f} ms"),
        ("events and bytes of history, a step", f"{cost.events:.1f}; {cost.history_bytes:,.0f}"),
        ("transactions of Conductor's Postgres, reads included, a step", f"{cost.commits:.1f}"),
        ("bytes of Postgres' log, a step", f"{cost.wal_bytes:,.0f}"),
        ("bytes of rows and indexes, a step", f"{cost.row_bytes:,.0f}"),
        ("a waiting session: rows", f"{cost.waiting_row_bytes:,.0f} bytes"),
        ("a waiting session: history", f"{cost.waiting_history_bytes:,.0f} bytes"),
        ("a waiting session: memory of the worker that has it cached", f"{cost.waiting_worker_bytes:,.0f} bytes"),
    )
    return "\n".join(["| what | cost |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)])
