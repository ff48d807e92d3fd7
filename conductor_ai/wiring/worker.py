"""The worker process."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkerDeploymentConfig, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.inline_tools import InlineTools
from activities.model import ModelActivities
from activities.providers.base import Factory
from activities.reconcile import Reconciler
from activities.retention import Retention
from activities.sandbox.base import Sandbox
from activities.sandbox.off import OffSandbox
from activities.sandbox.reaper import reaping
from activities.snapshot import SnapshotActivities
from activities.tool import ToolActivities
from activities.tools.registry import Registry
from conductor_ai import names
from conductor_ai.contracts.tools import Queue
from conductor_ai.policy_file import load_policy
from conductor_ai.settings import Settings
from conductor_ai.stores.call_changes import Changes
from conductor_ai.stores.call_journal import CallJournal
from conductor_ai.stores.ending import Ending
from conductor_ai.stores.erasing import Erasing
from conductor_ai.stores.hot import Hot, HotCopies
from conductor_ai.stores.model_journal import ModelJournal
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.sessions import Sessions
from conductor_ai.stores.snapshots import Snapshots
from conductor_ai.stores.tools import PublishedTool, Tools
from conductor_ai.stores.writing import Journal
from conductor_ai.telemetry import configure_logging
from conductor_ai.temporal import Engine, connect, register_search_attributes
from conductor_ai.wiring.parts import provider_factories, registry_of, sandbox_of
from workflows.session import Session

log = logging.getLogger(__name__)

THROTTLE = timedelta(milliseconds=200)
"""Heartbeats are sent this often at most: it bounds how late an activity learns of a cancel."""
STICKY = timedelta(seconds=3)
"""How long a session waits for a worker that died with it in its cache."""
GRACE = timedelta(seconds=25)
"""Less than the 30 s that most supervisors give."""


@dataclass(frozen=True)
class WorkerParts:
    """What a worker process is made of. Tests take parts of it."""

    client: Client
    database: Database
    snapshots: Snapshots
    registry: Registry
    sandbox: Sandbox
    models: ModelActivities
    tools: ToolActivities
    snapshot: SnapshotActivities
    reconciler: Reconciler
    published: Tools


@asynccontextmanager
async def worker_parts(
    settings: Settings,
    client: Client,
    *,
    registry: Registry | None = None,
    factories: Mapping[str, Factory] | None = None,
) -> AsyncIterator[WorkerParts]:
    """Everything but the Temporal workers themselves; closed in the right order afterwards."""
    async with AsyncExitStack() as stack:
        database = Database(settings.store_url, size=settings.database_pool_size, pooler=settings.store_behind_pooler)
        stack.push_async_callback(database.close)
        hot = Hot(settings.redis_url.get_secret_value() if settings.redis_url else None)
        stack.push_async_callback(hot.close)
        snapshots = Snapshots(database)
        copies = HotCopies(hot, snapshots)
        stack.push_async_callback(copies.close)
        engine = Engine(client, settings.task_queue)
        journal = Journal(database, engine.current_run, copies)
        calls, ending = CallJournal(journal, allow_unverified=settings.allow_signals), Ending(journal)
        changes = Changes(journal, allow_unverified=settings.allow_signals)
        policy = load_policy(settings.approval_policy)
        serves_code = Queue.SANDBOX.value in settings.worker_queues
        sandbox: Sandbox = OffSandbox("Not used.")
        if registry is None:
            sandbox = await sandbox_of(settings, serves=serves_code, ready=settings.sandbox_pool)
            registry = registry_of(settings, sandbox)
        stack.push_async_callback(registry.close)
        await stack.enter_async_context(reaping(sandbox))
        models = ModelActivities(
            ModelJournal(journal),
            registry,
            policy,
            InlineTools(calls, registry, policy),
            factories if factories is not None else provider_factories(settings),
            hot,
        )
        stack.push_async_callback(models.close)
        tools = ToolActivities(calls, ending, registry, policy)
        yield WorkerParts(
            client=client,
            database=database,
            snapshots=snapshots,
            registry=registry,
            sandbox=sandbox,
            models=models,
            tools=tools,
            snapshot=SnapshotActivities(changes, ending, tools, engine),
            reconciler=Reconciler(
                Sessions(journal),
                ending,
                tools,
                engine,
                settings.reconcile_seconds,
                None if settings.retention_days is None else Retention(Erasing(database), hot, settings.retention_days),
            ),
            published=Tools(database),
        )


def _deployment(settings: Settings) -> WorkerDeploymentConfig | None:
    """Which version of Conductor this worker is, if it is told. Sessions then end on the version that they began on, so that
    a deployment never replays a session with other code.
    """
    if settings.build_id is None:
        return None
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment_name=settings.deployment_name, build_id=settings.build_id),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


def workers(settings: Settings, parts: WorkerParts) -> list[Worker]:
    """The Temporal workers of the queues that this process serves."""
    runner: WorkflowRunner = UnsandboxedWorkflowRunner()
    if settings.worker_sandboxed:
        runner = SandboxedWorkflowRunner(
            restrictions=SandboxRestrictions.default.with_passthrough_modules("conductor_ai", "annotated_types")
        )
    built: list[Worker] = []
    if Queue.MAIN.value in settings.worker_queues:
        built.append(
            Worker(
                parts.client,
                task_queue=settings.task_queue,
                workflows=[Session],
                activities=[
                    parts.models.call_model,
                    parts.tools.prepare_call,
                    parts.tools.revise_call,
                    parts.tools.run_tool,
                    parts.snapshot.record,
                    parts.snapshot.finish,
                ],
                workflow_runner=runner,
                deployment_config=_deployment(settings),
                max_cached_workflows=settings.max_cached_workflows,
                max_concurrent_activities=100,
                max_heartbeat_throttle_interval=THROTTLE,
                default_heartbeat_throttle_interval=THROTTLE,
                sticky_queue_schedule_to_start_timeout=STICKY,
                graceful_shutdown_timeout=GRACE,
            )
        )
    if Queue.SANDBOX.value in settings.worker_queues:
        built.append(
            Worker(
                parts.client,
                task_queue=names.sandbox_queue(settings.task_queue),
                activities=[parts.tools.run_tool],
                max_concurrent_activities=settings.sandbox_concurrency,
                max_heartbeat_throttle_interval=THROTTLE,
                default_heartbeat_throttle_interval=THROTTLE,
                graceful_shutdown_timeout=GRACE,
            )
        )
    return built


async def publish_tools(settings: Settings, parts: WorkerParts) -> None:
    """Tell the store which tools this worker really has."""
    for queue in Queue:
        if queue.value not in settings.worker_queues:
            continue
        off = isinstance(parts.sandbox, OffSandbox)
        tools = tuple(
            PublishedTool(tool.spec, available=not (queue is Queue.SANDBOX and off))
            for tool in parts.registry
            if tool.spec.queue is queue
        )
        await parts.published.publish(queue.value, tools)


async def run_worker(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT, then let activities finish for 25 s.

    Raises:
        ConfigurationError, Unavailable: it cannot start; the sentence says why.
    """
    configure_logging(settings)
    client = await connect(settings)
    await register_search_attributes(client)
    stop = _stopped_by_signals()
    async with worker_parts(settings, client) as parts, AsyncExitStack() as stack:
        log.info("code_run: %s", parts.sandbox.describe())
        for worker in workers(settings, parts):
            await stack.enter_async_context(worker)
        await publish_tools(settings, parts)
        reconciling = asyncio.create_task(parts.reconciler.run())
        log.info("the worker serves %s", ", ".join(settings.worker_queues))
        await stop.wait()
        reconciling.cancel()
        await asyncio.gather(reconciling, return_exceptions=True)
        log.info("the worker stops")


def _stopped_by_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop
