"""What callers and people notice of Conductor, and what sessions cost that only wait."""

import asyncio
import random
import statistics
import time
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from temporalio.client import Client

from bench.http import Connection
from bench.stage import Running, Stage, cpu_seconds, memory_bytes

Stamp = dict[tuple[str, str, int], float]


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, 99th percentile and count."""
    ordered = sorted(values)
    if not ordered:
        return {"n": 0}
    return {
        "p50": statistics.median(ordered),
        "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
        "n": len(ordered),
    }


def stamps(stage: Stage) -> Stamp:
    """All moments that the worker wrote down."""
    found: Stamp = {}
    for line in stage.stamps.read_text(encoding="utf-8").splitlines():
        what, name, number, at, _ = line.split()
        found.setdefault((what, name, int(number)), float(at))
    return found


async def start(connection: Connection, name: str, steps: int, more: str = "") -> str:
    """Start a session by REST. Returns its id."""
    body = {
        "messages": [{"role": "user", "content": f"Please do the job. name={name} steps={steps} {more}"}],
        "max_steps": steps,
        "model": "demo",
    }
    status, answer = await connection.request("POST", "/v1/agents/run", body)
    assert status == 202, answer
    return str(answer["session_id"])


async def until(connection: Connection, session_id: str, phase: str) -> dict[str, Any]:
    """Wait for a phase of a session, by long polls."""
    version = 0
    while True:
        where = f"/v1/agents/{session_id}?wait=30&since_version={version}&steps=none"
        _, view = await connection.request("GET", where)
        if view["phase"] == phase or view["phase"] == "done":
            found: dict[str, Any] = view
            return found
        version = view["version"]


async def polls(port: int, path: str, *, count: int = 2000, pollers: int = 16, seconds: float = 3) -> dict[str, Any]:
    """One poller's latencies in milliseconds, then how many polls a second several get."""
    connection = await Connection.open(port)
    taken = []
    for _ in range(count):
        before = time.perf_counter()
        status, _ = await connection.raw("GET", path)
        taken.append((time.perf_counter() - before) * 1000)
        assert status == 200
    connection.close()
    answered = 0
    end = time.monotonic() + seconds

    async def poller() -> None:
        nonlocal answered
        own = await Connection.open(port)
        while time.monotonic() < end:
            await own.raw("GET", path)
            answered += 1
        own.close()

    await asyncio.gather(*(poller() for _ in range(pollers)))
    return {**spread(taken), "per_second": answered / seconds, "pollers": pollers}


async def visible(stage: Stage, *, sessions: int = 6, steps: int = 20) -> dict[str, float]:
    """Milliseconds from a model's answer to its step in a long poll's response, with a model that takes 50 ms."""
    late: list[float] = []
    for number in range(sessions):
        connection, name = await Connection.open(stage.port), f"visible-{number}-{time.time_ns()}"
        session_id = await start(connection, name, steps, "delay=0.05")
        seen: dict[int, float] = {}
        version, phase = 0, ""
        while phase != "done":
            where = f"/v1/agents/{session_id}?wait=30&since_version={version}&steps=last"
            _, view = await connection.request("GET", where)
            now = time.monotonic()
            version, phase = view["version"], view["phase"]
            for step in view["steps"]:
                seen.setdefault(step["step_number"], now)
        connection.close()
        answered = stamps(stage)
        late += [(at - answered["answer", name, step]) * 1000 for step, at in seen.items()]
    return spread(late)


async def decided(stage: Stage, *, sessions: int = 40) -> dict[str, float]:
    """Milliseconds from the request that approves to the start of the tool."""
    connection, waits = await Connection.open(stage.port), []
    for number in range(sessions):
        name = f"decided-{number}-{time.time_ns()}"
        session_id = await start(connection, name, 2, "ask=1")
        view = await until(connection, session_id, "awaiting_approval")
        before = time.monotonic()
        await approve(connection, view["pending_approvals"][0])
        await until(connection, session_id, "done")
        waits.append((stamps(stage)["tool", name, 1] - before) * 1000)
    connection.close()
    return spread(waits)


async def approve(connection: Connection, approval: dict[str, Any]) -> None:
    """Approve what is shown."""
    path = f"/v1/approvals/{approval.get('approval_id') or approval['id']}/decision"
    body = {"decision": "approve", "arguments_sha256": approval["arguments_sha256"]}
    status, answer = await connection.request("POST", path, body)
    assert status in (200, 202), answer


async def cancelled(stage: Stage, *, sessions: int = 40) -> dict[str, float]:
    """Milliseconds until a cancel of a session that waits for people is acknowledged."""
    connection, waits = await Connection.open(stage.port), []
    for number in range(sessions):
        session_id = await start(connection, f"cancelled-{number}-{time.time_ns()}", 2, "ask=1")
        await until(connection, session_id, "awaiting_approval")
        before = time.perf_counter()
        status, answer = await connection.request("POST", f"/v1/agents/{session_id}/cancel")
        waits.append((time.perf_counter() - before) * 1000)
        assert status in (200, 202), answer
    connection.close()
    return spread(waits)


async def history_bytes(client: Client, session_id: str) -> tuple[int, int]:
    """Bytes and events of a session's history, all its runs together."""
    size = events = 0
    run: str | None = (
        await client.get_workflow_handle(session_id).describe()
    ).raw_description.workflow_execution_info.first_run_id
    while run:
        handle = client.get_workflow_handle(session_id, run_id=run)
        info = (await handle.describe()).raw_description.workflow_execution_info
        size, events = size + info.history_size_bytes, events + info.history_length
        last = (await handle.fetch_history()).events[-1]
        run = last.workflow_execution_continued_as_new_event_attributes.new_execution_run_id or None
    return size, events


async def long_session(stage: Stage, steps: int) -> dict[str, Any]:
    """One session: what its steps take early and late, and how large its history becomes."""
    connection, name = await Connection.open(stage.port), f"long-{steps}-{time.time_ns()}"
    began = time.monotonic()
    session_id = await start(connection, name, steps)
    path, status = f"/v1/agents/{session_id}?wait=30&since_version=1000000000&steps=none", ""
    while status not in ("completed", "failed", "cancelled"):
        _, view = await connection.request("GET", path)
        status = view["status"]
    connection.close()
    assert status == "completed", status
    lines = [line.split() for line in stage.stamps.read_text(encoding="utf-8").splitlines()]
    asked = [(float(at), float(cpu)) for what, whose, _, at, cpu in lines if (what, whose) == ("ask", name)]
    gaps = [later[0] - earlier[0] for earlier, later in pairwise(asked)]
    cpu = [later[1] - earlier[1] for earlier, later in pairwise(asked)]
    size, events = await history_bytes(stage.client, session_id)
    return {
        "steps": steps,
        "seconds": time.monotonic() - began,
        "first_100_ms": sum(gaps[:100]) * 10,
        "last_100_ms": sum(gaps[-100:]) * 10,
        "first_100_median_ms": statistics.median(gaps[:100]) * 1000,
        "last_100_median_ms": statistics.median(gaps[-100:]) * 1000,
        "first_100_cpu_ms": statistics.median(cpu[:100]) * 1000,
        "last_100_cpu_ms": statistics.median(cpu[-100:]) * 1000,
        "history_bytes_step": size / steps,
        "history_events_step": events / steps,
    }


async def waiting(stage: Stage, pids: list[int], count: int, *, wake: int = 50) -> dict[str, Any]:
    """Sessions that all wait for people: what they cost while nobody comes, and how fast one of them goes on."""
    worker, api = pids
    servers = {"worker": [worker], "api": [api], **stage.servers}
    async with stage.store.connection() as connection:
        stored = await connection.fetchval("SELECT pg_database_size(current_database())")
    memory = {name: memory_bytes(own) for name, own in servers.items()}
    names = iter([f"waiting-{number}-{time.time_ns()}" for number in range(count)])
    started: dict[str, str] = {}
    began = time.monotonic()

    async def lane() -> None:
        own = await Connection.open(stage.port)
        for name in names:
            started[await start(own, name, 2, "ask=1")] = name
        own.close()

    await asyncio.gather(*(lane() for _ in range(20)))
    accepted = time.monotonic() - began
    while True:
        async with stage.store.connection() as connection:
            waits = await connection.fetchval(
                "SELECT count(*) FROM conductor.sessions WHERE phase = 'awaiting_approval' AND id = ANY($1)",
                list(started),
            )
        if waits == count:
            break
        await asyncio.sleep(1)
    settled = time.monotonic() - began
    await asyncio.sleep(3)
    each = {f"{name}_kb_each": (memory_bytes(own) - memory[name]) / count / 1000 for name, own in servers.items()}
    async with stage.store.connection() as connection:
        each["database_kb_each"] = (
            (await connection.fetchval("SELECT pg_database_size(current_database())") - stored) / count / 1000
        )
    before = {name: cpu_seconds(own) for name, own in servers.items()}
    await asyncio.sleep(20)
    idle = {f"{name}_idle_percent": (cpu_seconds(own) - before[name]) * 5 for name, own in servers.items()}
    own, woken = await Connection.open(stage.port), []
    for session_id in random.sample(sorted(started), min(wake, count)):
        _, view = await own.request("GET", f"/v1/agents/{session_id}")
        before_one = time.monotonic()
        await approve(own, view["pending_approvals"][0])
        await until(own, session_id, "done")
        woken.append((stamps(stage)["tool", started[session_id], 1] - before_one) * 1000)
    own.close()
    return {"count": count, "accepted_s": accepted, "all_waiting_s": settled, **each, **idle, "wake_ms": spread(woken)}


async def bare_waiting(bare: Running, count: int) -> dict[str, Any]:
    """Bare workflows that wait after one step: what each costs their worker."""
    before = memory_bytes(bare.pids)
    await bare.order(count, 20, 0)
    await asyncio.sleep(3)
    return {"count": count, "worker_kb_each": (memory_bytes(bare.pids) - before) / count / 1000}
