"""Measures what one step and one waiting session cost: the real worker, Temporal's development server, Postgres; model and tool answer at once."""

import asyncio
import os
import platform
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import asyncpg
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.providers.base import Listener
from activities.tools.base import Arguments, tool
from activities.tools.registry import Registry
from conductor_ai import wiring
from conductor_ai.contracts.models import ModelReply, ModelRequest, ProposedCall, Stop, Usage
from conductor_ai.contracts.session import SessionInput
from conductor_ai.embedded.postgres import EmbeddedPostgres
from conductor_ai.embedded.temporal import EmbeddedTemporal
from conductor_ai.names import new_id
from conductor_ai.settings import Settings
from conductor_ai.stores.sessions import Message, NewSession, Sessions
from conductor_ai.stores.writing import Journal
from conductor_ai.temporal import Engine
from conductor_ai.wiring.store import migrate_url
from infra.capacity.model import Measured

TEXT = "x" * 200
"""What the model says and what the tool returns in every step."""
TICKS = os.sysconf("SC_CLK_TCK")


class Nothing(Arguments):
    """What the tools take."""

    text: str = ""


@tool(arguments=Nothing, writes=False, replayable=True)
async def web_fetch(_: Nothing) -> str:
    """Answers at once; its name is one that is allowed without asking."""
    return TEXT


@tool(arguments=Nothing)
async def ask_a_person(_: Nothing) -> str:
    """Is asked, and so waits."""
    return TEXT


class Instant:
    """A model that answers at once: a call in every step but the last."""

    name = "instant"

    async def complete(self, request: ModelRequest, _listener: Listener, /) -> ModelReply:
        """The next reply; the message says how many steps, and which tool."""
        steps, name = str(request.turns[0].model_dump()["text"]).split()[:2]
        usage = Usage(input=100, output=20)
        if request.step >= int(steps):
            return ModelReply(stop=Stop.END, text=TEXT, usage=usage)
        call = ProposedCall(provider_id=f"c{request.step}", tool=name, arguments={"text": "x"})
        return ModelReply(stop=Stop.TOOL_CALLS, text=TEXT, calls=(call,), usage=usage)

    async def close(self) -> None:
        """Nothing is held."""


@dataclass
class Bench:
    """What runs, and how it is looked at."""

    client: Client
    postgres: EmbeddedPostgres
    temporal: EmbeddedTemporal
    url: str
    sessions: Sessions
    engine: Engine

    async def session(self, steps: int, name: str) -> str:
        """Start one. Returns its id."""
        session_id = new_id("sess")
        given = SessionInput(
            session_id=session_id, org_id="org_capacity", model="demo", tools=("web_fetch", "ask_a_person"),
            max_steps=steps + 1, title="capacity",
        )  # fmt: skip
        await self.sessions.create(NewSession(given, (Message("user", f"{steps} {name}"),), title="capacity"), None)
        await self.engine.start(given)
        await self.sessions.mark_started(session_id)
        return session_id

    async def steps(self, steps: int, many: int) -> float:
        """Run sessions to their end. Returns the seconds."""
        begun = time.perf_counter()
        ids = await asyncio.gather(*(self.session(steps, "web_fetch") for _ in range(many)))
        await asyncio.gather(*(self.client.get_workflow_handle(one).result() for one in ids))
        return time.perf_counter() - begun

    def cpu(self) -> tuple[float, float, float]:
        """Seconds of a core so far: of this process (the worker), of Temporal, of Postgres with its children."""
        assert self.temporal.child is not None
        assert self.postgres.child is not None
        return time.process_time(), _cpu_of(self.temporal.child.pid), _cpu_of(self.postgres.child.pid)

    async def store(self) -> tuple[int, int, int]:
        """Of Conductor's database so far: commits, bytes of the log, bytes of tables and indexes."""
        connection = await asyncpg.connect(self.url)
        try:
            row = await connection.fetchrow(
                "SELECT xact_commit, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint, "
                "(SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
                "WHERE nspname = 'conductor' AND relkind = 'r') FROM pg_stat_database WHERE datname = current_database()"
            )
            assert row is not None
            return int(row[0]), int(row[1]), int(row[2])
        finally:
            await connection.close()

    async def waiting(self) -> int:
        """Sessions that wait for a person, by the rows."""
        connection = await asyncpg.connect(self.url)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM conductor.approvals WHERE status = 'pending'"))
        finally:
            await connection.close()

    async def history(self, session_id: str) -> tuple[int, int]:
        """Events and bytes of a session's history."""
        described = await self.client.get_workflow_handle(session_id).describe()
        info = described.raw_description.workflow_execution_info
        return info.history_length, info.history_size_bytes


def _cpu_of(pid: int) -> float:
    total = 0.0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(entry.name) == pid:  # its own, and that of children which have ended
            total += sum(map(int, fields[11:15]))
        elif int(fields[1]) == pid:
            total += sum(map(int, fields[11:13]))
    return total / TICKS


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def _bench() -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="conductor-capacity-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # noqa: ASYNC240 - before anything runs; as root Postgres is another user, who has to get there
        temporal = EmbeddedTemporal(folder / "temporal")
        await temporal.start()
        try:
            async with EmbeddedPostgres(folder / "postgres") as postgres:
                url = await postgres.create_database()
                await migrate_url(url)
                client = await Client.connect(temporal.address, data_converter=pydantic_data_converter)
                settings = Settings.model_validate(
                    {"database_url": url, "task_queue": "capacity", "worker_queues": ("main",), "redis_url": None}
                )
                factories = dict.fromkeys(("demo", "anthropic", "openai_compatible"), Instant)
                registry = Registry([web_fetch, ask_a_person])
                async with wiring.worker_parts(settings, client, registry=registry, factories=factories) as parts:
                    (worker,) = wiring.workers(settings, parts)
                    async with worker:
                        engine = Engine(client, "capacity")
                        sessions = Sessions(Journal(parts.database, engine.current_run))
                        yield Bench(client, postgres, temporal, url, sessions, engine)
        finally:
            await temporal.stop()


FEW, MANY = 5, 20
"""Sessions at once."""


def _machine() -> tuple[float, float]:
    """Seconds of all cores so far, and those of them that somebody used."""
    fields = [int(field) / TICKS for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return sum(fields), sum(fields) - fields[3] - fields[4]


REPORTED_SECONDS = 11.0
"""After so long an idle connection has reported to Postgres' counters what it did: after ten, if it had reported just before."""


async def measure(*, steps: int = 30, rounds: int = 3, waiting: int = 500) -> Measured:
    """One run of all of it, less than two minutes. Medians of the rounds, which alternate between one session and many."""
    async with _bench() as bench:
        await bench.steps(10, 2)  # warm
        alone, few, together = [], [], []
        await asyncio.sleep(REPORTED_SECONDS)
        begun_cpu, begun_store, begun_machine = bench.cpu(), await bench.store(), _machine()
        for _ in range(rounds):
            alone.append(await bench.steps(steps, 1))
            few.append(await bench.steps(steps, FEW))
            together.append(await bench.steps(steps, MANY))
        cpu = tuple(b - a for a, b in zip(begun_cpu, bench.cpu(), strict=True))
        (whole, used) = (b - a for a, b in zip(begun_machine, _machine(), strict=True))
        await asyncio.sleep(REPORTED_SECONDS)
        store = tuple(b - a for a, b in zip(begun_store, await bench.store(), strict=True))
        cores = os.cpu_count() or 1
        others = max(0.0, used - sum(cpu)) / whole
        short, long = await bench.session(1, "web_fetch"), await bench.session(steps, "web_fetch")
        for one in (short, long):
            await bench.client.get_workflow_handle(one).result()
        (events_1, bytes_1), (events_n, bytes_n) = await bench.history(short), await bench.history(long)

        memory, rows = _memory(), (await bench.store())[2]
        ids = [await bench.session(3, "ask_a_person") for _ in range(waiting)]
        async with asyncio.timeout(120):
            while await bench.waiting() < waiting:  # noqa: ASYNC110 - the rows tell, and they ring no bell here
                await asyncio.sleep(0.1)
        done = steps * (1 + FEW + MANY) * rounds
        return Measured(
            machine=f"{cores} shared cores, {platform.machine()}, Python {platform.python_version()}",
            worker_ms=cpu[0] / done * 1000,
            temporal_ms=cpu[1] / done * 1000,
            postgres_ms=cpu[2] / done * 1000,
            latency_ms=median(alone) / steps * 1000,
            events=(events_n - events_1) / (steps - 1),
            history_bytes=(bytes_n - bytes_1) / (steps - 1),
            commits=store[0] / done,
            wal_bytes=store[1] / done,
            row_bytes=store[2] / done,
            waiting_row_bytes=((await bench.store())[2] - rows) / waiting,
            waiting_history_bytes=(await bench.history(ids[-1]))[1],
            waiting_worker_bytes=max(0, _memory() - memory) / waiting,
            one_at_a_time=steps / median(alone),
            few_at_once=steps * FEW / median(few),
            many_at_once=steps * MANY / median(together),
            cores=cores * (1 - others),
        )
