"""Worker versions: a session ends on the version that it began on, unless it begins a new history."""

import asyncio
from typing import Any

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError

from conductor_ai.contracts.status import Status
from conductor_ai.names import new_id
from tests.fixtures_servers import wait_until
from tests.rig import Rig, answer, calls, rig
from tests.tools import FakeTool


async def make_current(client: Client, deployment: str, build_id: str) -> None:
    """Route new sessions to this version, as soon as the server has seen a worker of it."""

    async def done() -> bool:
        try:
            await client.workflow_service.set_worker_deployment_current_version(
                SetWorkerDeploymentCurrentVersionRequest(
                    namespace=client.namespace, deployment_name=deployment, build_id=build_id, identity="a test"
                )
            )
        except RPCError:
            return False
        return True

    await wait_until(done, f"{build_id} to be current", 30)


async def version_of(r: Rig, session_id: str) -> str:
    """The build id that the session's current run was last served by."""
    found = await r.client.workflow_service.describe_workflow_execution(
        DescribeWorkflowExecutionRequest(
            namespace=r.client.namespace, execution=WorkflowExecution(workflow_id=session_id)
        )
    )
    return found.workflow_execution_info.versioning_info.deployment_version.build_id


async def test_a_waiting_session_ends_on_its_version(temporal: Client, store_url: str) -> None:
    """A session that waits while a new version is rolled out is finished by the old one; a new session runs on the new one."""
    queue, deployment = new_id("queue"), new_id("deployment")
    shared: dict[str, Any] = {"deployment_name": deployment, "tools": [FakeTool("ask_me")], "worker_queues": ("main",)}
    async with rig(
        temporal, store_url, queue, replies=[calls(("ask_me", {})), answer("old")], build_id="v1", **shared
    ) as old:
        await make_current(temporal, deployment, "v1")
        waiting = await old.start()
        (approval,) = await old.pending(waiting)
        async with rig(temporal, store_url, queue, replies=[answer("new")], build_id="v2", **shared) as new:
            await make_current(temporal, deployment, "v2")
            fresh = await new.start()
            ended = await new.ended(fresh)
            assert (ended.final_answer, await version_of(new, fresh)) == ("new", "v2")
            await old.decide(approval, "approve")
            ended = await old.ended(waiting)
            assert (ended.status, ended.final_answer) == (Status.COMPLETED, "old")
            assert await version_of(old, waiting) == "v1"


async def test_a_new_history_begins_on_the_current_version(temporal: Client, store_url: str) -> None:
    """A long session moves when it continues as new: no version has to be kept for as long as the longest session."""
    queue, deployment = new_id("queue"), new_id("deployment")
    gate, begun = asyncio.Event(), asyncio.Event()
    tool = FakeTool()
    inner = tool._run

    async def hold(arguments: Any, call: Any) -> Any:
        begun.set()
        await gate.wait()
        return await inner(arguments, call)

    shared: dict[str, Any] = {"deployment_name": deployment, "worker_queues": ("main",)}
    replies = [calls(("web_fetch", {})), answer("moved")]
    held = FakeTool(run=hold)
    async with (
        rig(temporal, store_url, queue, replies=replies[:1], tools=[held], build_id="v1", **shared) as old,
        rig(temporal, store_url, queue, replies=replies[1:], tools=[FakeTool()], build_id="v2", **shared) as new,
    ):
        await make_current(temporal, deployment, "v1")
        session_id = await old.start(continue_as_new_steps=1)
        await asyncio.wait_for(begun.wait(), 30)
        await make_current(temporal, deployment, "v2")
        gate.set()
        ended = await new.ended(session_id, seconds=40)
        assert ended.final_answer == "moved"
        assert await version_of(new, session_id) == "v2"
