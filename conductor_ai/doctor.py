"""`conductor doctor`: what has to be right before a session can run, each checked and said in a sentence. Changes nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TypeAlias

from pydantic import SecretStr
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, GetSystemInfoRequest
from temporalio.client import Client
from temporalio.service import RPCError

from conductor_ai import catalog, names
from conductor_ai.contracts.catalog import ProviderName
from conductor_ai.embedded.cluster import program_source
from conductor_ai.embedded.redis import find_server
from conductor_ai.embedded.runtime import read_runtime
from conductor_ai.embedded.shop import AGENT as SHOP_ROLE
from conductor_ai.embedded.temporal import program
from conductor_ai.errors import ConductorError
from conductor_ai.settings import Settings, environment
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.migrate import migrations
from conductor_ai.stores.postgres import Database
from conductor_ai.temporal import connect

PROBE_SECONDS = 20.0
"""A check that takes longer has failed."""
CLOCK_SECONDS = 5.0
"""Clocks further apart than this make deadlines and approvals end at surprising moments."""
OPENROUTER = "https://openrouter.ai/"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    """False: something will not work."""
    detail: str
    """A sentence: what was found. No secret, no connection string."""
    advice: str = ""
    """A sentence: what to do. With `ok` it is a hint, not a fault."""


Probe: TypeAlias = Callable[[], Awaitable[Sequence[Check]]]
"""Looks at one thing. A ConductorError is a failed check with its message."""


async def examine(settings: Settings, further: Sequence[tuple[str, Probe]] = ()) -> list[Check]:
    """All checks that need only the kernel, then `further` (name and probe), which know of sandboxes and SQL targets.

    Give it the result of `effective`, so that a running `conductor dev` is what is looked at.
    """
    probes: list[tuple[str, Probe]] = [("models", lambda: _models(settings))]
    if settings.supabase_db_url is None and settings.database_url is None:
        probes.append(("embedded stack", _embedded))
    else:
        probes.append(("postgres", lambda: _postgres(settings)))
    if _names_temporal(settings):
        probes.append(("temporal", lambda: _temporal(settings)))
    if settings.redis_url is not None:
        probes.append(("redis", lambda: _redis(settings)))
    found = [Check("settings", True, "The settings are possible.")]
    runtime = read_runtime(settings.data_dir.absolute())
    if runtime is not None:
        found.append(Check("conductor dev", True, f"It runs, and its API is {runtime.api_url}."))
    for checks in await asyncio.gather(*(_guarded(name, probe) for name, probe in (*probes, *further))):
        found.extend(checks)
    return found


def effective(settings: Settings) -> Settings:
    """The settings with the addresses of the running `conductor dev` where they name none themselves.

    Raises:
        ConfigurationError: the running one is another user's.
    """
    runtime = read_runtime(settings.data_dir.absolute())
    if runtime is None:
        return settings
    known: dict[str, object] = {}
    if settings.supabase_db_url is None and settings.database_url is None:
        known["database_url"] = SecretStr(runtime.database_url)
    if settings.redis_url is None:
        known["redis_url"] = SecretStr(runtime.redis_url)
    if "temporal_address" not in settings.model_fields_set:
        known["temporal_address"] = runtime.temporal_address
    if settings.sql_url is None:
        known["sql_url"] = SecretStr(runtime.sql_url)
        known["sql_role"] = SHOP_ROLE
    return settings.model_copy(update=known)


def _names_temporal(settings: Settings) -> bool:
    """Whether Temporal is to be asked: its default address is nobody's wish, except beside a named database."""
    named = "temporal_address" in settings.model_fields_set
    return named or settings.supabase_db_url is not None or settings.database_url is not None


async def _guarded(name: str, probe: Probe) -> Sequence[Check]:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return await probe()
    except ConductorError as error:
        return (Check(name, False, error.message),)
    except TimeoutError:
        return (
            Check(name, False, f"There was no answer within {PROBE_SECONDS:g} s.", "Look whether it is overloaded."),
        )
    except Exception as error:  # noqa: BLE001 - whatever a check stumbles over is its finding; the others go on
        return (
            Check(name, False, f"The check itself failed ({type(error).__name__}).", "Look at the server's own log."),
        )


async def _models(settings: Settings) -> Sequence[Check]:
    has_key = settings.anthropic_api_key is not None
    chosen = catalog.default_model(has_key, settings.default_model)
    today = datetime.now(UTC).date()
    model = catalog.resolve(chosen, today)  # Retired or unknown: the exception's sentence is the finding.
    hints = " ".join(catalog.warnings(model, today))
    if model.provider is ProviderName.DEMO:
        advice = (
            "It is a script. For real answers set ANTHROPIC_API_KEY, or OPENROUTER_API_KEY and CONDUCTOR_DEFAULT_MODEL."
        )
        return (Check("models", True, "Sessions that name no model get the demo model.", advice),)
    detail = f"Sessions that name no model get {model.id}"
    if model.provider is ProviderName.ANTHROPIC and not has_key:
        return (Check("models", False, f"{detail}, but ANTHROPIC_API_KEY is not set.", "Set it, or another default."),)
    if model.provider is ProviderName.OPENAI_COMPATIBLE and not _has_openai_key(settings):
        advice = "Set OPENROUTER_API_KEY or CONDUCTOR_OPENAI_API_KEY, or another CONDUCTOR_DEFAULT_MODEL."
        return (Check("models", False, f"{detail}, but there is no key for OpenRouter.", advice),)
    return (Check("models", True, f"{detail}.", hints),)


def _has_openai_key(settings: Settings) -> bool:
    """Servers of one's own often need none; OpenRouter always does."""
    if not settings.openai_base_url.startswith(OPENROUTER):
        return True
    return settings.openai_api_key is not None or settings.openrouter_api_key is not None


async def _embedded() -> Sequence[Check]:
    version = program_source()[1]
    program()
    has_redis = find_server(environment()) is not None
    if not has_redis and find_spec("fakeredis") is None:
        advice = "Install redis-server, or the extra `local` (fakeredis), or set REDIS_URL."
        return (Check("embedded stack", False, "There is no Redis for `conductor dev`.", advice),)
    redis = "redis-server" if has_redis else "fakeredis"
    advice = (
        "Start it with `conductor dev`, or set DATABASE_URL, TEMPORAL_ADDRESS and REDIS_URL to servers of your own."
    )
    detail = f"No database is named; `conductor dev` can bring Postgres {version}, Temporal and {redis}."
    return (Check("embedded stack", True, detail, advice),)


async def _postgres(settings: Settings) -> Sequence[Check]:
    database = Database(settings.store_url, size=1, pooler=settings.store_behind_pooler)
    try:
        async with database.connection() as connection:
            before = datetime.now(UTC)
            there: datetime = await connection.fetchval("SELECT clock_timestamp()")
            after = datetime.now(UTC)
            version = str(await connection.fetchval("SHOW server_version")).split(" ")[0]
            done: set[int] = set()
            if await connection.fetchval("SELECT to_regclass('conductor.migrations')") is not None:
                done = {row["number"] for row in await connection.fetch("SELECT number FROM conductor.migrations")}
    finally:
        await database.close()
    return (
        Check("postgres", True, f"Postgres {version} answers."),
        migration_check(done, {number for number, _, _ in migrations()}),
        clock_check(before, there, after),
    )


def migration_check(done: set[int], known: set[int]) -> Check:
    """Compares the migrations of the database with those of this program."""
    if not done:
        return Check("schema", False, "The database has no schema of Conductor yet.", "Run `conductor migrate`.")
    if newer := done - known:
        detail = f"The database has migration {max(newer)}, which this version does not know."
        return Check("schema", False, detail, "Start the newer version of Conductor.")
    if missing := known - done:
        return Check("schema", False, f"{len(missing)} migrations are missing.", "Run `conductor migrate`.")
    return Check("schema", True, f"All {len(known)} migrations are there.")


def clock_check(before: datetime, there: datetime, after: datetime) -> Check:
    """Compares the server's clock with ours, which was read before and after asking."""
    apart = max((before - there).total_seconds(), (there - after).total_seconds(), 0.0)
    if apart > CLOCK_SECONDS:
        detail = f"The clocks of this machine and of Postgres are {apart:.0f} s apart."
        return Check("clock", False, detail, "Let both be set by NTP: deadlines and approvals depend on it.")
    return Check("clock", True, "The clocks of this machine and of Postgres agree.")


async def _redis(settings: Settings) -> Sequence[Check]:
    hot = Hot(settings.redis_url.get_secret_value() if settings.redis_url is not None else None)
    try:
        problem = await hot.ping()
    finally:
        await hot.close()
    if problem is not None:
        return (Check("redis", False, problem, "Start Redis, or correct REDIS_URL; without it Conductor is slower."),)
    return (Check("redis", True, "Redis answers."),)


async def _temporal(settings: Settings) -> Sequence[Check]:
    client = await connect(settings, seconds=5)
    about = await client.workflow_service.get_system_info(GetSystemInfoRequest())
    answers = Check("temporal", True, f"Temporal {about.server_version} answers at {settings.temporal_address}.")
    return (answers, await _attributes(client), *await _pollers(client, settings.task_queue))


async def _attributes(client: Client) -> Check:
    advice = "A worker adds them as it starts, if its login may; else an administrator of the namespace has to."
    try:
        known = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
    except RPCError as error:
        detail = f"The search attributes of namespace {client.namespace} cannot be read ({error.status.name})."
        return Check("search attributes", False, detail, "Look whether the namespace exists (TEMPORAL_NAMESPACE).")
    present = dict(known.custom_attributes)
    if missing := [key.name for key in names.SEARCH_ATTRIBUTES if key.name not in present]:
        return Check("search attributes", False, f"The namespace lacks {', '.join(missing)}.", advice)
    wrong = [key.name for key in names.SEARCH_ATTRIBUTES if present[key.name] != int(key.indexed_value_type)]
    if wrong:
        detail = f"The namespace has {', '.join(wrong)} with another type."
        return Check("search attributes", False, detail, "Remove them there, or use another TEMPORAL_NAMESPACE.")
    return Check("search attributes", True, f"Namespace {client.namespace} has all {len(present)} of them.")


async def _pollers(client: Client, task_queue: str) -> Sequence[Check]:
    found = []
    for queue, kind, what in (
        (task_queue, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, "sessions"),
        (names.sandbox_queue(task_queue), TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY, "code_run"),
    ):
        answer = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind)
        )
        if answer.pollers:
            found.append(Check(f"worker for {what}", True, f"The queue {queue} is served."))
        else:
            advice = "Start one with `conductor worker`, or `conductor dev`; until then nothing moves there."
            found.append(Check(f"worker for {what}", True, f"Nobody serves the queue {queue}.", advice))
    return found
