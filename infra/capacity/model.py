"""The capacity model: what a load needs, from what one step and one waiting session cost. Pure arithmetic, no I/O."""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Measured:
    """What one run of `python -m infra.capacity measure` found. Times are CPU time of one core, in milliseconds."""

    machine: str
    worker_ms: float
    """Of the worker, for each step."""
    temporal_ms: float
    """Of Temporal's development server, for each step."""
    postgres_ms: float
    """Of Conductor's Postgres, for each step."""
    latency_ms: float
    """A step's duration with one session at a time: model and tool answer at once."""
    events: float
    """Events in Temporal's history for each step."""
    history_bytes: float
    commits: float
    """Transactions of Conductor's Postgres for each step, those that only read included."""
    wal_bytes: float
    row_bytes: float
    """Growth of tables and indexes for each step."""
    waiting_row_bytes: float
    """Rows of a session that waits for a decision."""
    waiting_history_bytes: float
    waiting_worker_bytes: float
    """Memory in the worker that has it in its cache."""
    one_at_a_time: float
    """Steps a second with one session, measured."""
    few_at_once: float
    """Steps a second with 5 sessions, measured."""
    many_at_once: float
    """Steps a second with 20 sessions, measured."""
    cores: float
    """Of the machine, less what other programs took meanwhile: what the measurement had."""


@dataclass(frozen=True)
class Assumed:
    """What a server bears. Not measured here: from the servers' own limits and common experience. Replace them by your own."""

    busy: float = 0.5
    """How busy anything may be on average: the rest is for peaks, failures and deployments."""
    writes_for_each_event: float = 0.5
    """Persistence writes of Temporal: 6 for the 12 events of a step with two activities."""
    tasks_for_each_event: float = 1 / 3
    """Tasks through matching: 4 for those 12 events."""
    shard_write_ms: float = 3.0
    """A history shard writes one thing at a time (`history.shardIOConcurrency` is 1): a commit with its round trip."""
    partition_tasks: float = 1000.0
    """Tasks a second that one partition of a task queue hands out."""
    primary_commits: float = 15_000.0
    """Small transactions a second of one Postgres primary with fast disks and group commit."""
    redis_operations: float = 80_000.0
    """Of one Redis process."""
    redis_for_each_step: float = 6.0
    """Copy, ring and some deltas for each step."""
    copy_bytes: float = 20_000.0
    """A session's copy in Redis; it lives for an hour after its last change."""
    stream_clients: int = 2_000
    """Open event streams of one API process."""
    polls: float = 1_000.0
    """Answers a second of one API process."""
    reconciled: int = 200
    """Open sessions that one worker asks Temporal about in each round of a minute."""
    cached: int = 1_000
    """Sessions in one worker's cache (`CONDUCTOR_MAX_CACHED_WORKFLOWS`)."""


@dataclass(frozen=True)
class Load:
    """What is asked for."""

    steps: float
    """A second."""
    waiting: int
    """Sessions that wait for a person."""
    wait_hours: float = 8.0
    """How long they wait, on average."""
    steps_in_a_session: float = 20.0
    step_seconds: float = 5.0
    """How long a step takes where the model is real."""
    streams: int = 0
    polls: float = 0.0
    retention_days: float = 30.0


@dataclass(frozen=True)
class Needs:
    """What it takes."""

    running: float
    """Sessions that work at the same time."""
    wakes: float
    """Waiting sessions that somebody decides about, a second."""
    worker_cores: float
    workers: int
    """Processes of one busy core each: Python runs workflows on one."""
    temporal_writes: float
    shards: int
    """History shards, a power of two: chosen once for the life of a Temporal cluster."""
    partitions: int
    """Of the task queue, for reads and for writes."""
    history_gb_a_day: float
    temporal_primaries: int
    """Postgres primaries that its writes would need. Temporal takes one: more than 1 means another store, Cloud, or several clusters."""
    commits: float
    postgres_primaries: int
    wal_mb_a_second: float
    rows_gb_a_day: float
    rows_tb_kept: float
    waiting_gb: float
    """Rows and histories of the sessions that wait."""
    timers_a_second: float
    redis_processes: int
    redis_gb: float
    api_processes: int
    reconcile_hours: float
    """Until the reconcilers of all workers have asked about each open session once."""


def needs(load: Load, cost: Measured, assumed: Assumed | None = None) -> Needs:
    """What this load needs."""
    bears = assumed or Assumed()
    running = load.steps * load.step_seconds
    wakes = load.waiting / (load.wait_hours * 3600)
    steps = load.steps + wakes  # a decision costs about a step: an update, a claim, a result
    cores = steps * cost.worker_ms / 1000 / bears.busy
    workers = max(2, math.ceil(cores))
    writes = steps * cost.events * bears.writes_for_each_event
    commits = steps * cost.commits
    per_day = 86_400 * steps
    touched = min(1.0, 1 / load.wait_hours)  # of the waiting, those that changed within the hour that a copy lives
    copies = running + load.waiting * touched + load.steps / load.steps_in_a_session * 3600
    return Needs(
        running=running,
        wakes=wakes,
        worker_cores=cores,
        workers=workers,
        temporal_writes=writes,
        shards=max(4, 2 ** math.ceil(math.log2(max(1.0, writes * bears.shard_write_ms / 1000 / bears.busy)))),
        partitions=max(
            4, math.ceil(steps * cost.events * bears.tasks_for_each_event / bears.partition_tasks / bears.busy)
        ),
        history_gb_a_day=per_day * cost.history_bytes / 1e9,
        temporal_primaries=math.ceil(writes / bears.primary_commits / bears.busy),
        commits=commits,
        postgres_primaries=max(1, math.ceil(commits / bears.primary_commits / bears.busy)),
        wal_mb_a_second=steps * cost.wal_bytes / 1e6,
        rows_gb_a_day=per_day * cost.row_bytes / 1e9,
        rows_tb_kept=per_day * cost.row_bytes * load.retention_days / 1e12,
        waiting_gb=load.waiting * (cost.waiting_row_bytes + cost.waiting_history_bytes) / 1e9,
        timers_a_second=wakes,
        redis_processes=max(1, math.ceil(steps * bears.redis_for_each_step / bears.redis_operations / bears.busy)),
        redis_gb=copies * bears.copy_bytes / 1e9,
        api_processes=max(2, math.ceil(load.streams / bears.stream_clients + load.polls / bears.polls / bears.busy)),
        reconcile_hours=(load.waiting + running) / (workers * bears.reconciled) / 60,
    )


def throughput(cost: Measured, sessions: int) -> float:
    """Steps a second on the machine of the measurement, everything on it: bounded by latency when few, by cores when many.

    The smooth bound between both (of a closed network with one queue), from one session's latency and the CPU of a step. That
    the answers for more sessions are right is what `check` shows.
    """
    demand = (cost.worker_ms + cost.temporal_ms + cost.postgres_ms) / cost.cores / 1000
    think = max(0.0, cost.latency_ms / 1000 - demand)
    queue, rate = 0.0, 0.0
    for population in range(1, sessions + 1):  # mean value analysis: one station that queues, one that only delays
        response = demand * (1 + queue)
        rate = population / (think + response)
        queue = rate * response
    return rate


def from_json(found: dict[str, object]) -> Measured:
    """What `measure` wrote."""
    return Measured(**{field.name: found[field.name] for field in fields(Measured)})  # type: ignore[arg-type]
