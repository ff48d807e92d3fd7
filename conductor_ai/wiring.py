"""The only module that knows workflows, activities, stores and the API together: it builds the processes."""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.egress.client import Egress
from activities.model import ModelActivities
from activities.providers.base import Factory, Provider
from activities.reconcile import Reconciler
from activities.sandbox.base import Language, Sandbox
from activities.sandbox.off import OffSandbox
from activities.sandbox.reaper import reaping
from activities.sandbox.select import Unavailable as NoSandbox
from activities.sandbox.select import choose
from activities.snapshot import SnapshotActivities
from activities.sql.setup import check as check_sql
from activities.sql.target import SqlTarget
from activities.tool import ToolActivities
from activities.tools.base import Tool
from activities.tools.code_run import CodeRun
from activities.tools.registry import Registry, built_in_modules, discover, named_modules
from activities.tools.sql_query import SqlQuery
from activities.tools.web_fetch import WebFetch
from conductor_ai import names
from conductor_ai.contracts.tools import Queue
from conductor_ai.doctor import Check, effective, examine
from conductor_ai.embedded.options import DevOptions
from conductor_ai.embedded.runtime import Runtime
from conductor_ai.settings import Settings
from conductor_ai.stores.access import Keys, Role
from conductor_ai.stores.call_journal import CallJournal
from conductor_ai.stores.ending import Ending
from conductor_ai.stores.hot import Hot, HotCopies
from conductor_ai.stores.migrate import migrate
from conductor_ai.stores.model_journal import ModelJournal
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.sessions import Sessions
from conductor_ai.stores.snapshots import Snapshots
from conductor_ai.stores.tools import PublishedTool, Tools
from conductor_ai.stores.writing import Journal
from conductor_ai.telemetry import configure_logging
from conductor_ai.temporal import Engine, connect, register_search_attributes
from workflows.session import Session

log = logging.getLogger(__name__)

THROTTLE = timedelta(milliseconds=200)
"""Heartbeats are sent this often at most: it bounds how late an activity learns of a cancel."""
STICKY = timedelta(seconds=3)
"""How long a session waits for a worker that died with it in its cache."""
GRACE = timedelta(seconds=25)
"""Less than the 30 s that most supervisors give."""


# Providers and tools


def provider_factories(settings: Settings) -> dict[str, Factory]:
    """The providers, each made when it is first needed."""

    def anthropic() -> Provider:
        from activities.providers.anthropic import AnthropicProvider

        key = settings.anthropic_api_key
        return AnthropicProvider(key.get_secret_value() if key else None, settings.anthropic_base_url)

    def openai_compatible() -> Provider:
        from activities.providers.openai_compatible import OpenAICompatibleProvider, key_for

        own, router = settings.openai_api_key, settings.openrouter_api_key
        key = key_for(
            settings.openai_base_url,
            own.get_secret_value() if own else None,
            router.get_secret_value() if router else None,
        )
        return OpenAICompatibleProvider(settings.openai_base_url, key)

    def demo() -> Provider:
        from activities.providers.demo import DemoProvider

        return DemoProvider()

    return {"anthropic": anthropic, "openai_compatible": openai_compatible, "demo": demo}


def _egress(settings: Settings) -> Egress:
    exception: tuple[str, int] | None = None
    if settings.dev_page is not None:
        host, _, port = settings.dev_page.rpartition(":")
        exception = (host, int(port))
        log.warning("web_fetch may ask the demo page at %s: the one exception to the egress check", settings.dev_page)
    return Egress(
        ports=settings.web_ports,
        allow_hosts=settings.web_allow_hosts,
        deny_hosts=settings.web_deny_hosts,
        exception=exception,
    )


async def _sandbox(settings: Settings, *, serves: bool) -> Sandbox:
    if not serves:
        return OffSandbox("Code is run by other workers.")
    chosen = await choose(
        settings.sandbox,
        images={Language.PYTHON: settings.sandbox_image_python, Language.JAVASCRIPT: settings.sandbox_image_node},
        docker_host=settings.docker_host,
        runtime=settings.sandbox_runtime,
        unsafe_subprocess=settings.unsafe_subprocess,
    )
    return OffSandbox(chosen.reason) if isinstance(chosen, NoSandbox) else chosen


def sql_target(settings: Settings) -> SqlTarget | None:
    """The database of sql_query, if one is set."""
    if settings.sql_url is None:
        return None
    return SqlTarget(
        settings.sql_url.get_secret_value(), settings.sql_role, settings.sql_ledger, settings.sql_timeout_seconds
    )


def _registry(settings: Settings, sandbox: Sandbox) -> Registry:
    target = sql_target(settings)
    tools: list[Tool[Any]] = [WebFetch(_egress(settings)), CodeRun(sandbox)]
    if target is not None:
        tools.append(SqlQuery(target))
    tools += discover([*built_in_modules(), *named_modules(settings.tool_modules)])
    return Registry(tools)


# The worker


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
        database = Database(settings.store_url, size=settings.database_pool_size)
        stack.push_async_callback(database.close)
        hot = Hot(settings.redis_url.get_secret_value() if settings.redis_url else None)
        stack.push_async_callback(hot.close)
        snapshots = Snapshots(database)
        copies = HotCopies(hot, snapshots)
        stack.push_async_callback(copies.close)
        engine = Engine(client, settings.task_queue)
        journal = Journal(database, engine.current_run, copies)
        calls, ending = CallJournal(journal), Ending(journal)
        serves_code = Queue.SANDBOX.value in settings.worker_queues
        sandbox = await _sandbox(settings, serves=serves_code) if registry is None else OffSandbox("Not used.")
        if registry is None:
            registry = _registry(settings, sandbox)
        stack.push_async_callback(registry.close)
        await stack.enter_async_context(reaping(sandbox))
        models = ModelActivities(
            ModelJournal(journal), registry, factories if factories is not None else provider_factories(settings), hot
        )
        stack.push_async_callback(models.close)
        tools = ToolActivities(calls, ending, registry)
        yield WorkerParts(
            client=client,
            database=database,
            snapshots=snapshots,
            registry=registry,
            sandbox=sandbox,
            models=models,
            tools=tools,
            snapshot=SnapshotActivities(calls, ending, tools, engine),
            reconciler=Reconciler(Sessions(journal), ending, tools, engine, settings.reconcile_seconds),
            published=Tools(database),
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
                    parts.tools.run_tool,
                    parts.snapshot.record,
                    parts.snapshot.finish,
                ],
                workflow_runner=runner,
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


# The API


async def run_api(settings: Settings) -> None:
    """Run the API until SIGTERM or SIGINT."""
    import uvicorn

    from api.app import create_app
    from api.deps import make_deps

    configure_logging(settings)
    database = Database(settings.store_url, size=settings.database_pool_size)
    hot = Hot(settings.redis_url.get_secret_value() if settings.redis_url else None)
    engine = Engine(await connect(settings, lazy=True), settings.task_queue)
    deps = make_deps(settings, database, engine, hot)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(deps),
            host=settings.host,
            port=settings.port,
            log_config=None,
            timeout_graceful_shutdown=8,
            server_header=False,
        )
    )
    try:
        await server.serve()
    finally:
        await hot.close()
        await database.close()


# Set-up


async def run_migrations(settings: Settings) -> list[str]:
    """Bring the store's schema up to this version. Returns what was applied."""
    return await _migrate(settings.store_url)


async def _migrate(url: str) -> list[str]:
    database = Database(url, size=1)
    try:
        return await migrate(database)
    finally:
        await database.close()


async def make_key(settings: Settings, *, org: str, name: str, role: Role) -> str:
    """Make an API key. Returns its secret, which is not stored."""
    database = Database(settings.store_url, size=1)
    try:
        _, secret = await Keys(database).create(org, name, role)
        return secret
    finally:
        await database.close()


def _dev_options(settings: Settings, environ: Mapping[str, str], port: int | None) -> DevOptions:
    since = datetime.now(UTC)

    async def migrate_url(url: str) -> None:
        await _migrate(url)

    async def ensure_key(url: str, kept: str | None) -> str:
        database = Database(url, size=1)
        try:
            keys = Keys(database)
            if kept is not None and await keys.find(kept) is not None:
                return kept
            _, secret = await keys.create("default", "local", Role.ADMIN)
            return secret
        finally:
            await database.close()

    async def worker_ready(runtime: Runtime) -> bool:
        database = Database(runtime.database_url, size=1)
        try:
            return await Tools(database).published_since(since)
        finally:
            await database.close()

    command = (sys.executable, "-m", "conductor_ai.cli")
    return DevOptions(
        settings=settings,
        environ=environ,
        migrate=migrate_url,
        ensure_key=ensure_key,
        worker_command=(*command, "worker"),
        api_command=(*command, "api"),
        echo=lambda line: print(line, flush=True),  # noqa: T201 - what a person who typed the command reads
        worker_ready=worker_ready,
        api_port=port,
    )


async def run_dev(settings: Settings, environ: Mapping[str, str], *, port: int | None, data_dir: Path | None) -> int:
    """Run the embedded stack until a signal. Returns the exit code."""
    from conductor_ai.embedded.dev import run_dev as run

    return await run(_dev_options(_at(settings, data_dir), environ, port))


def stack(
    settings: Settings, environ: Mapping[str, str], *, data_dir: Path | None
) -> AbstractAsyncContextManager[Runtime]:
    """The embedded stack for the time of a `with` block."""
    from conductor_ai.embedded.dev import stack as run

    return run(_dev_options(_at(settings, data_dir), environ, 0))


def _at(settings: Settings, data_dir: Path | None) -> Settings:
    return settings if data_dir is None else settings.model_copy(update={"data_dir": data_dir})


# Diagnosis


async def diagnose(settings: Settings) -> list[Check]:
    """What `conductor doctor` shows: every dependency, what is wrong with it and what to do."""
    settings = effective(settings)
    return await examine(
        settings, [("code_run", lambda: _look_at_sandbox(settings)), ("sql_query", lambda: _look_at_sql(settings))]
    )


async def _look_at_sandbox(settings: Settings) -> list[Check]:
    sandbox = await _sandbox(settings, serves=True)
    try:
        if isinstance(sandbox, OffSandbox):
            return [Check("code_run", ok=False, detail=sandbox.describe(), advice="The other tools work without it.")]
        found = await sandbox.check()
        return [Check("code_run", ok=True, detail=sandbox.describe(), advice=found.reason)]
    finally:
        await sandbox.close()


async def _look_at_sql(settings: Settings) -> list[Check]:
    target = sql_target(settings)
    if target is None:
        advice = (
            "Set CONDUCTOR_SQL_URL to a database and a login of its own, or leave it: the tool is then not offered."
        )
        return [Check("sql_query", ok=True, detail="No database is set for sql_query.", advice=advice)]
    try:
        problems = await check_sql(target)
    finally:
        await target.close()
    if not problems:
        return [
            Check("sql_query", ok=True, detail="The database answers; login, role and ledger are as they should be.")
        ]
    return [Check("sql_query", ok=False, detail=problem) for problem in problems]
