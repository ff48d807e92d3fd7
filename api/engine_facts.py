"""What Temporal says of one workflow and its queues, within a deadline: described and never queried, so that no worker is needed."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Literal

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import PendingActivityState, PendingWorkflowTaskState, TaskQueueType
from temporalio.api.failure.v1 import Failure
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from conductor_ai.contracts.explain import EngineFacts, PendingActivity, PendingTask, QueueFacts
from conductor_ai.errors import Code
from conductor_ai.temporal import Engine

_STATES: dict[int, Literal["scheduled", "started", "cancel_requested", "paused"]] = {
    PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED: "scheduled",
    PendingActivityState.PENDING_ACTIVITY_STATE_STARTED: "started",
    PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED: "cancel_requested",
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED: "paused",
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED: "paused",
}
_KINDS: dict[Literal["workflow", "activity"], TaskQueueType.ValueType] = {
    "workflow": TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    "activity": TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
}
_AWAY = (RPCError, RuntimeError, TimeoutError)

AWAY = EngineFacts(reachable=False)


async def engine_facts(engine: Engine, session_id: str, *, seconds: float) -> EngineFacts:
    """The facts; `reachable` is False if Temporal does not answer within `seconds`."""
    limit = timedelta(seconds=seconds)
    try:
        async with asyncio.timeout(seconds):
            described = await engine.client.get_workflow_handle(session_id).describe(rpc_timeout=limit)
            activities = tuple(_activity(item) for item in described.raw_description.pending_activities)
            wanted: dict[tuple[str, Literal["workflow", "activity"]], None] = {(engine.task_queue, "workflow"): None}
            wanted |= {(item.queue, "activity"): None for item in activities}
            queues = await asyncio.gather(*(_queue(engine, name, kind, limit) for name, kind in wanted))
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return EngineFacts(reachable=True)
        return AWAY
    except _AWAY:
        return AWAY
    running = described.status in (None, WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.CONTINUED_AS_NEW)
    return EngineFacts(
        reachable=True,
        workflow="running" if running else "closed",
        workflow_task=_task(described),
        activities=activities,
        queues=tuple(queues),
    )


def _activity(item: PendingActivityInfo) -> PendingActivity:
    next_at = _time(item, "next_attempt_schedule_time")
    scheduled_at = _time(item, "scheduled_time")
    return PendingActivity(
        activity=item.activity_type.name,
        state=_STATES.get(item.state, "scheduled"),
        queue=item.activity_options.task_queue.name,
        attempt=item.attempt,
        maximum_attempts=item.maximum_attempts,
        scheduled_at=scheduled_at,
        started_at=_time(item, "last_started_time"),
        heartbeat_at=_time(item, "last_heartbeat_time"),
        next_attempt_at=next_at,
        last_failure=_failure(item.last_failure) if item.HasField("last_failure") else None,
    )


def _failure(failure: Failure) -> str:
    """A failure in our own words. What is not sealed by our activities may say anything, and is not repeated."""
    code = failure.application_failure_info.type
    if code in {item.value for item in Code}:
        return failure.message
    if failure.HasField("timeout_failure_info"):
        return "it did not finish in time, or its worker died"
    return "its worker reported a failure"


def _task(described: WorkflowExecutionDescription) -> PendingTask | None:
    raw = described.raw_description
    if not raw.HasField("pending_workflow_task"):
        return None
    task = raw.pending_workflow_task
    started = task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_STARTED
    return PendingTask(
        state="started" if started else "scheduled",
        scheduled_at=_time(task, "original_scheduled_time") or _time(task, "scheduled_time"),
        attempt=max(1, task.attempt),
    )


async def _queue(engine: Engine, name: str, kind: Literal["workflow", "activity"], limit: timedelta) -> QueueFacts:
    found = await engine.client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=engine.client.namespace,
            task_queue=TaskQueue(name=name),
            task_queue_type=_KINDS[kind],
            report_stats=True,
        ),
        timeout=limit,
    )
    polls = [seen for poller in found.pollers if (seen := _time(poller, "last_access_time")) is not None]
    stats = found.stats if found.HasField("stats") else None
    return QueueFacts(
        name=name,
        kind=kind,
        pollers=len(found.pollers),
        last_poll_at=max(polls, default=None),
        backlog=None if stats is None else stats.approximate_backlog_count,
        backlog_age_seconds=None if stats is None else stats.approximate_backlog_age.ToTimedelta().total_seconds(),
    )


def _time(message: object, field: str) -> datetime | None:
    if not message.HasField(field):  # type: ignore[attr-defined]
        return None
    value: Timestamp = getattr(message, field)
    return value.ToDatetime(UTC) if value.seconds > 0 else None
