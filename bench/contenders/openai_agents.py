"""The OpenAI Agents SDK with Temporal's plugin; the tool is an activity, so that it is durable."""

import asyncio
import json
import os
from contextlib import AsyncExitStack
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from agents import Agent, Model, ModelResponse, Runner, Usage, set_tracing_disabled
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
    from temporalio.openai_agents import ModelActivityParameters, OpenAIAgentsPlugin
    from temporalio.openai_agents import workflow as durable
    from temporalio.openai_agents.testing import TestModelProvider

    from bench.job import RESULT, answer, serve

LIMIT = timedelta(seconds=60)


def _field(item, name):
    return item.get(name) if isinstance(item, dict) else getattr(item, name, None)


class Instant(Model):
    """Answers at once."""

    async def get_response(self, system_instructions, input, *_args, **_kwargs):  # noqa: A002
        """The next reply; which, is told by the conversation."""
        items = [{"content": input, "role": "user"}] if isinstance(input, str) else input
        name, steps = _field(items[0], "content").split("|")
        said = answer(name, sum(_field(item, "type") == "function_call" for item in items) + 1, int(steps))
        number = said["n"]
        text = ResponseOutputText(text=said["text"], type="output_text", annotations=[])
        output = [
            ResponseOutputMessage(id=f"m{number}", role="assistant", status="completed", type="message", content=[text])
        ]
        if not said["final"]:
            output.append(
                ResponseFunctionToolCall(
                    arguments=json.dumps({"n": number}),
                    call_id=f"t{number}",
                    name="echo",
                    type="function_call",
                    id=f"f{number}",
                    status="completed",
                )
            )
        return ModelResponse(output=output, usage=Usage(), response_id=None)

    def stream_response(self, *_args, **_kwargs):
        """Not needed."""
        raise NotImplementedError


@activity.defn
async def echo(n: int) -> str:
    """Answers at once."""
    return RESULT


@workflow.defn
class Loop:
    """One session."""

    @workflow.run
    async def run(self, name: str, steps: int) -> str:
        """Runs the agent."""
        tool = durable.activity_as_tool(echo, start_to_close_timeout=LIMIT)
        agent = Agent(name="bench", instructions="Do the job.", tools=[tool])
        return (await Runner.run(agent, f"{name}|{steps}", max_turns=steps + 5)).final_output


class OnTemporal:
    """Client and worker in one process."""

    def __init__(self):
        self._stack = AsyncExitStack()

    async def open(self):
        """Connect."""
        set_tracing_disabled(True)
        plugin = OpenAIAgentsPlugin(
            model_params=ModelActivityParameters(start_to_close_timeout=LIMIT),
            model_provider=TestModelProvider(Instant()),
        )
        self._client = await Client.connect(os.environ["BENCH_TEMPORAL"], plugins=[plugin])
        worker = Worker(self._client, task_queue="agents", workflows=[Loop], activities=[echo])
        await self._stack.enter_async_context(worker)
        return []

    async def session(self, name, steps):
        """One workflow."""
        await self._client.execute_workflow(Loop.run, args=[name, steps], id=name, task_queue="agents")

    async def close(self):
        """Stop the worker."""
        await self._stack.aclose()


if __name__ == "__main__":
    asyncio.run(serve(OnTemporal()))
