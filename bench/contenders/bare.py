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
            workflows=[Bare],
            activities=[bare_model, bare_tool],
            workflow_runner=UnsandboxedWorkflowRunner(),
        )
        await self._stack.enter_async_context(worker)
        return []

    async def session(self, name: str, steps: int) -> None:
        """One workflow."""
        await self._client.execute_workflow(Bare.run, args=[name, steps], id=name, task_queue="bare")

    async def close(self) -> None:
        """Stop the worker."""
        await self._stack.aclose()


if __name__ == "__main__":
    asyncio.run(serve(BareTemporal()))
