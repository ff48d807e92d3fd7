"""Steps a second: a bare Temporal loop and Conductor's session, interleaved on the same servers. `make bench`."""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.tools.registry import Registry
from bench.bare import Bare, bare_model, bare_tool
from bench.ours import Echo, Instant
from conductor_ai import wiring
from conductor_ai.contracts.session import SessionInput
from conductor_ai.embedded.postgres import EmbeddedPostgres
from conductor_ai.embedded.redis import EmbeddedRedis, find_server
from conductor_ai.embedded.temporal import EmbeddedTemporal
from conductor_ai.names import new_id
from conductor_ai.settings import Settings
from conductor_ai.stores.migrate import migrate
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.sessions import Message, NewSession, Sessions
from conductor_ai.stores.writing import Journal
from conductor_ai.temporal import Engine

Job = Callable[[], Awaitable[object]]


async def at_once(job: Job, sessions: int, together: int) -> float:
    """Seconds for all sessions, `together` at a time."""
    waiting = iter(range(sessions))

    async def lane() -> None:
        for _ in waiting:
            await job()

    before = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(together)))
    return time.perf_counter() - before


async def measure(jobs: dict[str, Job], *, steps: int, sessions: int, together: int, rounds: int) -> None:
    """Run the contenders in turn, `rounds` times; print medians and the ratio to the first."""
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            rates[name].append(steps * sessions / await at_once(job, sessions, together))
    first = statistics.median(rates[next(iter(jobs))])
    for name, found in rates.items():
        median = statistics.median(found)
        spread = ", ".join(f"{rate:.1f}" for rate in found)
        print(f"{together:>3} at once  {name:<12} {median:7.1f} steps/s   {median / first:4.2f} of bare   ({spread})")


async def main(steps: int, rounds: int) -> None:
    """Start servers, workers and both contenders."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conductor-bench-")))
        folder.chmod(0o711)
        postgres = await stack.enter_async_context(EmbeddedPostgres(folder / "postgres"))
        redis = EmbeddedRedis(server=find_server(os.environ), log=folder / "redis.log")  # noqa: TID251 - only PATH is read
        temporal = EmbeddedTemporal(folder / "temporal")
        for server in (redis, temporal):
            await server.start()
            stack.push_async_callback(server.stop)
        url = await postgres.create_database()
        database = Database(url)
        stack.push_async_callback(database.close)
        await migrate(database)
        client = await Client.connect(temporal.address, data_converter=pydantic_data_converter)
        settings = Settings.model_validate({"database_url": url, "redis_url": redis.url})
        parts = await stack.enter_async_context(
            wiring.worker_parts(
                settings, client, registry=Registry([Echo()]), factories={"demo": lambda: Instant(steps)}
            )
        )
        for worker in wiring.workers(settings, parts):
            await stack.enter_async_context(worker)
        await stack.enter_async_context(
            Worker(
                client,
                task_queue="bare",
                workflows=[Bare],
                activities=[bare_model, bare_tool],
                workflow_runner=UnsandboxedWorkflowRunner(),
            )
        )
        engine = Engine(client)
        store = Sessions(Journal(database, engine.current_run))

        async def bare() -> object:
            return await client.execute_workflow(Bare.run, steps, id=new_id("bare"), task_queue="bare")

        async def ours() -> object:
            given = SessionInput(
                session_id=new_id("sess"), org_id="bench", model="demo", tools=("web_fetch",), max_steps=steps
            )
            await store.create(NewSession(given, (Message("user", "Please do the job."),)), None)
            await engine.start(given)
            return await client.get_workflow_handle(given.session_id).result()

        jobs: dict[str, Job] = {"bare": bare, "conductor": ours}
        for job in jobs.values():
            await at_once(job, 2, 2)
        print(
            f"Sessions of {steps} steps, model and tool answer at once, {rounds} rounds; Temporal's dev server with WAL."
        )
        await measure(jobs, steps=steps, sessions=5, together=1, rounds=rounds)
        await measure(jobs, steps=steps, sessions=40, together=20, rounds=rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    asyncio.run(main(given.steps, given.rounds))
