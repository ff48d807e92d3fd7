"""Measure everything and write the page: `make bench`. Ratios in one run, medians of interleaved rounds."""

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import page, sessions
from bench.http import Connection
from bench.stage import OTHERS, Running, Stage, stage
from bench.throughput import compared

TEMPORAL = ("pydantic_ai", "openai_agents")
POSTGRES = ("langgraph", "dbos")


async def redis_api(now: Stage, document: Any) -> dict[str, Any]:
    """The polls of FastAPI and Redis alone, with the same document."""
    port = now.port + 1
    process = await asyncio.create_subprocess_exec(
        str(OTHERS),
        "-m",
        "bench.contenders.redis_api",
        env={**now.environment, "PYTHONPATH": str(Path.cwd()), "BENCH_PORT": str(port)},
    )
    try:
        for _ in range(100):
            try:
                connection = await Connection.open(port)
                await connection.raw("PUT", "/agents/one", document)
                break
            except OSError:
                await asyncio.sleep(0.1)
        return await sessions.polls(port, "/agents/one")
    finally:
        process.terminate()
        await process.wait()


Part = Callable[[str, Awaitable[Any]], Awaitable[None]]


async def _steps(now: Stage, options: argparse.Namespace, everybody: list[Running], part: Part) -> None:
    """Steps a second of everybody."""
    await part("one", compared(now, everybody, sessions=6, together=1, steps=10, rounds=options.rounds))
    many, steps = options.crowd_rounds, options.crowd_steps
    await part("fifty", compared(now, everybody, sessions=50, together=50, steps=steps, rounds=many))
    pair = [running for name in ("langgraph", "conductor") for running in everybody if running.name == name]
    if len(pair) > 1:
        await part("long", compared(now, pair, sessions=1, together=1, steps=options.history, rounds=many))


async def _polled(now: Stage) -> tuple[str, Any]:
    """A session of ten steps that has ended: where it is, and what is there."""
    connection = await Connection.open(now.port)
    session_id = await sessions.start(connection, "polled", 10)
    await sessions.until(connection, session_id, "done")
    path = f"/v1/agents/{session_id}"
    _, document = await connection.request("GET", path)
    return path, document


async def measure(now: Stage, options: argparse.Namespace) -> dict[str, Any]:
    """All parts, one after the other."""
    found: dict[str, Any] = {}

    def said(part: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {part}", flush=True)

    async def part(name: str, measuring: Awaitable[Any]) -> None:
        """One part; what goes wrong in it does not lose the others."""
        said(name)
        try:
            found[name] = await measuring
        except Exception as error:
            found.setdefault("went_wrong", {})[name] = f"{type(error).__name__}: {error}"
            said(f"{name} went wrong: {error!r}")

    began = time.monotonic()
    bare, ours = await now.start("bare", others=False), await now.start("conductor", others=False)
    others: list[Running] = []
    try:
        for name in (*TEMPORAL, *POSTGRES) if OTHERS.exists() else ():
            try:
                others.append(await now.start(name, others=True))
            except (RuntimeError, TimeoutError) as error:
                found.setdefault("left_out", {})[name] = str(error).splitlines()[-1:]
                said(f"{name} does not start: {error}")
        everybody = [bare, ours, *others]
        for running in everybody:
            await running.order(3, 3, 5)
        await _steps(now, options, everybody, part)
        for running in others:
            await running.stop()
        others.clear()
        await part("history_50", sessions.long_session(now, 50))
        await part("history_500", sessions.long_session(now, options.history))
        await part("longest", sessions.long_session(now, options.long))
        await part("visible", sessions.visible(now))
        await part("decided", sessions.decided(now))
        await part("cancelled", sessions.cancelled(now))
        path, document = await _polled(now)
        await part("polls", sessions.polls(now.port, path))
        if OTHERS.exists():
            await part("redis_polls", redis_api(now, document))
        await part("waiting", sessions.waiting(now, ours.pids[1:], options.waiting))
        await part("bare_waiting", sessions.bare_waiting(bare, options.waiting))
        os.kill(ours.pids[1], 15)
        await asyncio.sleep(3)
        await part("polls_without_worker", sessions.polls(now.port, path))
    finally:
        for running in (*others, bare, ours):
            await running.stop()
    found["seconds"] = time.monotonic() - began
    return found


async def main(options: argparse.Namespace) -> None:
    """Measure, keep the figures, write the page."""
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="conductor-bench-") as folder:
        async with stage(Path(folder)) as now:
            found = await measure(now, options)
    found["machine"] = {
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
        "rounds": options.rounds,
        "crowd_rounds": options.crowd_rounds,
        "history_steps": options.history,
        "crowd_steps": options.crowd_steps,
    }
    results = Path(options.results)
    kept = json.loads(results.read_text(encoding="utf-8")) if results.exists() and options.append else []
    kept.append(found)
    results.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    page.write(kept, Path("docs/benchmarks.md"))
    print(f"Written to {results} and docs/benchmarks.md.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--crowd-rounds", type=int, default=3, help="rounds of 50 sessions at once, and of 500 steps")
    parser.add_argument("--crowd-steps", type=int, default=10, help="steps of each of 50 sessions at once")
    parser.add_argument("--long", type=int, default=5000, help="steps of the long session")
    parser.add_argument("--history", type=int, default=500, help="steps of the sessions whose history is weighed")
    parser.add_argument("--waiting", type=int, default=1000, help="sessions that wait")
    parser.add_argument("--results", default="bench/results.json")
    parser.add_argument("--append", action="store_true", help="keep the runs that are in the results already")
    asyncio.run(main(parser.parse_args()))
