"""The yardstick: a bare Temporal loop, one model and one tool activity a step, by reference; nothing is stored anywhere else."""

import asyncio
import os
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from bench.job import RESULT, answer, serve

LIMIT = timedelta(seconds=60)


@activity.defn
async def bare_model(name: str, number: int, steps: int) -> dict[str, Any]:
    """Answers at once."""
    return answer(name, number, steps)


@activity.defn
async def bare_tool(_number: int) -> str:
    """Answers at once."""
    return RESULT


@workflow.defn
class Bare:
    """The loop."""

    @workflow.run
    async def run(self, name: str, steps: int) -> int:
        """Runs all steps."""
        for number in range(1, steps + 1):
            reply = await workflow.execute_activity(
                bare_model, args=[name, number, steps], start_to_close_timeout=LIMIT
            )
            if reply["final"]:
                break
            await workflow.execute_activity(bare_tool, number, start_to_close_timeout=LIMIT)
        return steps


@workflow.defn
class Waits:
    """One step, then it waits for somebody, as a session that waits for an approval does."""

    @workflow.init
    def __init__(self, name: str) -> None:
        self._waits = False
        self._go_on = False

    @workflow.run
    async def run(self, name: str) -> None:
        """Waits for an hour."""
        await workflow.execute_activity(bare_model, args=[name, 1, 2], start_to_close_timeout=LIMIT)
        await workflow.execute_activity(bare_tool, 1, start_to_close_timeout=LIMIT)
        self._waits = True
        await workflow.wait_condition(lambda: self._go_on, timeout=timedelta(hours=1))

    @workflow.signal
    def go_on(self) -> None:
        """End it."""
        self._go_on = True

    @workflow.query
    def waits(self) -> bool:
        """Whether it waits."""
        return self._waits


class BareTemporal:
    """Client and worker in one process."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def open(self) -> list[int]:
        """Connect."""
        self._client = await Client.connect(os.environ["BENCH_TEMPORAL"])
        worker = Worker(
            self._client,
            task_queue="bare",
            workflows=[Bare, Waits],
            activities=[bare_model, bare_tool],
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_cached_workflows=12_000,
        )
        await self._stack.enter_async_context(worker)
        return []

    async def session(self, name: str, steps: int) -> None:
        """One workflow; one without steps is left waiting."""
        if not steps:
            waiting = await self._client.start_workflow(Waits.run, name, id=name, task_queue="bare")
            while not await waiting.query(Waits.waits):
                await asyncio.sleep(0.1)
            return
        await self._client.execute_workflow(Bare.run, args=[name, steps], id=name, task_queue="bare")

    async def close(self) -> None:
        """Stop the worker."""
        await self._stack.aclose()


if __name__ == "__main__":
    asyncio.run(serve(BareTemporal()))
