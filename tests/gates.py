"""Models and workers that stop where a test wants them to, and the reset that Temporal's UI does."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
from temporalio import workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowExecutionStatus
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from conductor_ai import names
from conductor_ai.contracts.models import ModelReply, ModelRequest
from conductor_ai.contracts.session import ModelOutcome, SessionInput, SessionResult
from conductor_ai.contracts.status import Status
from conductor_ai.names import new_id
from conductor_ai.stores import model_journal
from conductor_ai.stores.writing import Writer
from conductor_ai.testing.scripted import Listener, ScriptedProvider
from tests.rig import Rig
from workflows.loop import AskModel
from workflows.session import Session

SAME = {
    Status.COMPLETED: WorkflowExecutionStatus.COMPLETED,
    Status.CANCELLED: WorkflowExecutionStatus.CANCELED,
    Status.FAILED: WorkflowExecutionStatus.FAILED,
}
"""What Temporal must say of a session that its row calls so."""


def ends_by_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the activity `finish` write every end, as where something stands against ending with the answer."""

    async def nothing_ends(_writer: Writer, _call_no: int) -> None:
        return None

    monkeypatch.setattr(model_journal, "end_with_answer", nothing_ends)


class Held(ScriptedProvider):
    """Stops at one request until it is let go."""

    def __init__(self, steps: Iterable[ModelReply | Exception], at: int) -> None:
        super().__init__(steps)
        self._at = at
        self.asked = asyncio.Event()
        """Set when that request has come."""
        self.go_on = asyncio.Event()

    async def complete(self, request: ModelRequest, listener: Listener, /) -> ModelReply:
        """The next step."""
        reply = await super().complete(request, listener)
        if len(self.requests) == self._at:
            self.asked.set()
            await self.go_on.wait()
        return reply

    @property
    def inputs(self) -> list[str]:
        """A digest of every request."""
        return [hashlib.sha256(request.model_dump_json().encode()).hexdigest() for request in self.requests]


async def reset_before(r: Rig, session_id: str, activity: str, *, index: int = 0, run_id: str | None = None) -> str:
    """Reset a session to before a run (by default the current one) scheduled that activity the n-th time.

    Returns the new run.
    """
    history = await r.client.get_workflow_handle(session_id, run_id=run_id).fetch_history()
    points = [
        event.activity_task_scheduled_event_attributes.workflow_task_completed_event_id
        for event in history.events
        if event.activity_task_scheduled_event_attributes.activity_type.name == activity
    ]
    response = await r.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=r.client.namespace,
            workflow_execution=WorkflowExecution(
                workflow_id=session_id, run_id=run_id or await r.engine.current_run(session_id) or ""
            ),
            reason="a test",
            workflow_task_finish_event_id=points[index],
            request_id=new_id("req"),
        )
    )
    return response.run_id


@workflow.defn(name=names.WORKFLOW)
class Changed(Session):
    """The session as a careless upgrade might leave it: it does something first that its history knows nothing of."""

    @workflow.init
    def __init__(self, session: SessionInput) -> None:
        super().__init__(session)

    @workflow.run
    async def run(self, session: SessionInput) -> SessionResult:
        """As before."""
        return await super().run(session)

    async def _ask_model(self, ask: AskModel, *, only_messages: bool) -> ModelOutcome | None:
        await asyncio.sleep(1)
        return await super()._ask_model(ask, only_messages=only_messages)


@asynccontextmanager
async def workflow_worker(r: Rig, code: type[Session] = Session) -> AsyncIterator[None]:
    """A worker for workflow tasks alone. While it is away, everything that happens waits for one activation."""
    async with Worker(
        r.client,
        task_queue=r.settings.task_queue,
        workflows=[code],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=0,
    ):
        yield


@asynccontextmanager
async def activity_worker(r: Rig) -> AsyncIterator[None]:
    """A worker for activities alone."""
    parts = r.parts
    async with Worker(
        r.client,
        task_queue=r.settings.task_queue,
        activities=[
            parts.models.call_model,
            parts.tools.prepare_call,
            parts.tools.run_tool,
            parts.snapshot.record,
            parts.snapshot.finish,
        ],
    ):
        yield


async def temporal_status(r: Rig, session_id: str) -> WorkflowExecutionStatus | None:
    """What Temporal says of a session's workflow."""
    state = await r.engine.state(session_id)
    assert state is not None
    return state[1]


async def assert_agrees(r: Rig, session_id: str) -> None:
    """The row and Temporal say the same of how the session ended."""
    status = (await r.view(session_id)).status
    assert await temporal_status(r, session_id) is SAME[status]
