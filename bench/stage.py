"""The servers of a measurement and the processes of the contenders, with what they cost."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from conductor_ai.embedded.ports import free_ports
from conductor_ai.embedded.postgres import EmbeddedPostgres
from conductor_ai.embedded.redis import EmbeddedRedis, find_server
from conductor_ai.embedded.temporal import EmbeddedTemporal
from conductor_ai.stores.migrate import migrate
from conductor_ai.stores.postgres import Database

TICKS = os.sysconf("SC_CLK_TCK")
OTHERS = Path(".venv-bench/bin/python")
"""The interpreter that has the other contenders' packages."""


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += tree(int(child))
    return found


def _everybody(pids: list[int]) -> set[int]:
    """These processes and all that descend from them, each once."""
    return {pid for root in pids for pid in tree(root)}


def cpu_seconds(pids: list[int]) -> float:
    """Processor time of these processes, their descendants, and descendants that have ended."""
    total = 0.0
    for pid in _everybody(pids):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11 : 15 if pid in pids else 13]) / TICKS
    return total


def memory_bytes(pids: list[int]) -> int:
    """Memory that is these processes' own: what they share is not counted."""
    total = 0
    for pid in _everybody(pids):
        try:
            fields = Path(f"/proc/{pid}/statm").read_text().split()
        except OSError:
            continue
        total += (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
    return total


class Running:
    """A contender's process, which takes orders."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.pids = [process.pid]
        self._process = process
        self._log = log

    async def _line(self, seconds: float) -> Any:
        assert self._process.stdout is not None
        async with asyncio.timeout(seconds):
            while line := await self._process.stdout.readline():
                if line.startswith(b"{"):
                    return json.loads(line)
        raise RuntimeError(f"{self.name} has ended:\n" + "\n".join(self._log.read_text().splitlines()[-15:]))

    async def ready(self) -> None:
        """Wait until it serves."""
        self.pids += (await self._line(90))["pids"]

    async def order(self, sessions: int, together: int, steps: int, *, seconds: float = 600) -> dict[str, Any]:
        """Have sessions run."""
        wanted = {"sessions": sessions, "together": together, "steps": steps, "run": f"{self.name}-{time.time_ns()}"}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
        await self._process.stdin.drain()
        answer: dict[str, Any] = await self._line(seconds)
        return {**answer, "run": wanted["run"]}

    async def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 20)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@dataclass
class Stage:
    """Servers that are shared by all contenders."""

    folder: Path
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    temporal: EmbeddedTemporal
    client: Client
    environment: dict[str, str]
    store: Database

    @property
    def servers(self) -> dict[str, list[int]]:
        """Process ids by server."""
        children = {
            "postgres": self.postgres.child,
            "redis": self.redis.child,
            "temporal": self.temporal.child,
        }
        return {name: [child.pid] for name, child in children.items() if child is not None}

    @property
    def port(self) -> int:
        """Of Conductor's API."""
        return int(self.environment["CONDUCTOR_PORT"])

    @property
    def stamps(self) -> Path:
        """Where Conductor's worker writes when what happened."""
        return Path(self.environment["BENCH_STAMPS"])

    async def start(self, name: str, *, others: bool) -> Running:
        """Start a contender."""
        log = self.folder / f"{name}.log"
        environment = {**self.environment, "PYTHONPATH": str(Path.cwd())}
        if others:
            environment["BENCH_POSTGRES"] = await self.postgres.create_database()
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                str(OTHERS) if others else sys.executable,
                "-m",
                f"bench.contenders.{name}",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=environment,
                limit=2**24,
            )
        running = Running(name, process, log)
        await running.ready()
        return running


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    """Start Postgres, Redis and Temporal as `conductor dev` does."""
    folder.chmod(0o711)
    async with EmbeddedPostgres(folder / "postgres") as postgres:
        redis = EmbeddedRedis(server=find_server(os.environ), log=folder / "redis.log")
        temporal = EmbeddedTemporal(folder / "temporal")
        await redis.start()
        await temporal.start()
        url = await postgres.create_database()
        store = Database(url)
        try:
            await migrate(store)
            [port] = free_ports(1)
            environment = {
                "PATH": "/usr/bin:/bin",
                "DATABASE_URL": url,
                "REDIS_URL": redis.url,
                "TEMPORAL_ADDRESS": temporal.address,
                "BENCH_TEMPORAL": temporal.address,
                "BENCH_STAMPS": str(folder / "stamps"),
                "CONDUCTOR_PORT": str(port),
                "CONDUCTOR_AUTH": "off",
                "CONDUCTOR_DEFAULT_MODEL": "demo",
                "CONDUCTOR_SANDBOX": "off",
                "CONDUCTOR_MAX_STEPS_LIMIT": "100000",
                "CONDUCTOR_MAX_CACHED_WORKFLOWS": "12000",
                "CONDUCTOR_LOG_LEVEL": "WARNING",
            }
            client = await Client.connect(temporal.address, data_converter=pydantic_data_converter)
            yield Stage(folder, postgres, redis, temporal, client, environment, store)
        finally:
            await store.close()
            await temporal.stop()
            await redis.stop()
