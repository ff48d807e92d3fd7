"""pydantic-ai with its durability on Temporal, as its documentation shows it: model and tools are activities."""

import asyncio
import os
from contextlib import AsyncExitStack
from datetime import timedelta

from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

with workflow.unsafe.imports_passed_through():
    from pydantic_ai import Agent
    from pydantic_ai.durable_exec.temporal import PydanticAIPlugin, PydanticAIWorkflow, TemporalDurability
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, UserPromptPart
    from pydantic_ai.models.function import FunctionModel
    from pydantic_ai.usage import UsageLimits

    from bench.job import RESULT, answer, serve


def model(messages, _info):
    """The next reply; which, is told by the conversation."""
    prompt = next(part for part in messages[0].parts if isinstance(part, UserPromptPart)).content
    name, steps = prompt.split("|")
    said = answer(name, sum(isinstance(message, ModelResponse) for message in messages) + 1, int(steps))
    parts = [TextPart(said["text"])]
    if not said["final"]:
        parts.append(ToolCallPart("echo", {"n": said["n"]}, tool_call_id=f"t{said['n']}"))
    return ModelResponse(parts=parts)


agent = Agent(
    FunctionModel(model),
    name="bench",
    capabilities=[TemporalDurability(activity_config={"start_to_close_timeout": timedelta(seconds=60)})],
)


@agent.tool_plain
async def echo(n: int) -> str:
    """Answers at once."""
    return RESULT


@workflow.defn
class Loop(PydanticAIWorkflow):
    """One session."""

    __pydantic_ai_agents__ = [agent]

    @workflow.run
    async def run(self, name: str, steps: int) -> str:
        """Runs the agent."""
        return (await agent.run(f"{name}|{steps}", usage_limits=UsageLimits(request_limit=None))).output


class OnTemporal:
    """Client and worker in one process."""

    def __init__(self):
        self._stack = AsyncExitStack()

    async def open(self):
        """Connect."""
        self._client = await Client.connect(os.environ["BENCH_TEMPORAL"], plugins=[PydanticAIPlugin()])
        worker = Worker(
            self._client, task_queue="pydantic", workflows=[Loop], workflow_runner=UnsandboxedWorkflowRunner()
        )
        await self._stack.enter_async_context(worker)
        return []

    async def session(self, name, steps):
        """One workflow."""
        await self._client.execute_workflow(Loop.run, args=[name, steps], id=name, task_queue="pydantic")

    async def close(self):
        """Stop the worker."""
        await self._stack.aclose()


if __name__ == "__main__":
    asyncio.run(serve(OnTemporal()))
