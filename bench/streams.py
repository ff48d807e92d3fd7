"""500 readers of streams and as many polls as the machine carries: `python -m bench.streams`. Prints a table in Markdown.

One API process on real stores; sessions are written to as workers would; nothing else runs.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import uvloop
from redis.asyncio import Redis

from bench.http import Connection
from conductor_ai.contracts.models import ModelReply, Stop, Usage
from conductor_ai.contracts.session import Fence, FinishInput, SessionInput
from conductor_ai.contracts.status import StopReason
from conductor_ai.embedded.postgres import EmbeddedPostgres
from conductor_ai.embedded.redis import EmbeddedRedis, find_server
from conductor_ai.names import new_id
from conductor_ai.stores.access import Keys, Role
from conductor_ai.stores.attempts import Attempt
from conductor_ai.stores.ending import Ending
from conductor_ai.stores.hot import Hot, HotCopies
from conductor_ai.stores.migrate import migrate
from conductor_ai.stores.model_journal import ModelJournal
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.sessions import Message, NewSession, Sessions
from conductor_ai.stores.snapshots import Snapshots
from conductor_ai.stores.writing import Journal

ORG = "bench"


def memory_mb(pid: int) -> float:
    """What a process holds."""
    line = next(row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


class Session:
    """One session, written to as a worker would."""

    def __init__(self, journal: Journal, session_id: str) -> None:
        self._models, self._ending = ModelJournal(journal), Ending(journal)
        self.session_id, self.answers = session_id, 0

    async def step(self) -> None:
        """One answer of the model."""
        self.answers += 1
        await self._models.answered(
            Fence(session_id=self.session_id, next_call_no=self.answers),
            "run",
            Attempt(self.answers, self.answers, 1, "demo", "ok", Usage(input=10, output=5), Decimal(0)),
            input_sha=new_id("sha"),
            reply=ModelReply(stop=Stop.END, text="A sentence of the usual length."),
            calls=(),
            started_at=datetime.now(UTC),
            latency_ms=3,
        )

    async def finish(self) -> None:
        """The end."""
        fence = Fence(session_id=self.session_id, next_call_no=self.answers + 1)
        await self._ending.finish(FinishInput(fence=fence, stop_reason=StopReason.FINAL_ANSWER), "run")


async def follow(port: int, secret: str, session_id: str, seen: list[int]) -> None:
    """Read one stream to its end, with as little of this process' own time as can be."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    head = f"GET /v1/agents/{session_id}/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {secret}\r\n\r\n"
    writer.write(head.encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200"), answer
    while (line := await reader.readline()) and line != b"0\r\n":  # the last chunk
        if line.startswith(b"id: "):
            seen.append(int(line[4:]))
    writer.close()


async def poll(port: int, secret: str, ids: list[str], until: Callable[[], bool], took: list[float]) -> None:
    """Look at one session after the other."""
    connection, versions, at = await Connection.open(port), dict[str, int](), 0
    while not until():
        session_id = ids[at % len(ids)]
        at += 1
        headers = f"X-API-Key: {secret}\r\n"
        if session_id in versions:
            headers += f'If-None-Match: "{versions[session_id]}"\r\n'
        before = time.perf_counter()
        status, body = await connection.raw("GET", f"/v1/agents/{session_id}?steps=last", headers=headers)
        took.append(time.perf_counter() - before)
        assert status in (200, 304), body
        if status == 200:
            versions[session_id] = json.loads(body)["version"]
    connection.close()


async def measure(clients: int, sessions: int, pollers: int, seconds: float, rate: float) -> None:
    """Start the servers, load them, print what was seen."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conductor-bench-")))
        folder.chmod(0o711)
        postgres = await stack.enter_async_context(EmbeddedPostgres(folder / "postgres"))
        redis = EmbeddedRedis(server=find_server(os.environ), log=folder / "redis.log")
        await redis.start()
        stack.push_async_callback(redis.stop)
        url = await postgres.create_database()
        database = Database(url, size=8)
        stack.push_async_callback(database.close)
        await migrate(database)
        _, secret = await Keys(database).create(ORG, "bench", Role.ADMIN)
        hot = Hot(redis.url)
        stack.push_async_callback(hot.close)
        copies = HotCopies(hot, Snapshots(database))
        stack.push_async_callback(copies.close)

        async def current(_: str) -> str:
            return "run"

        journal = Journal(database, current, copies)
        made = []
        for _ in range(sessions):
            given = SessionInput(session_id=new_id("sess"), org_id=ORG, model="demo", tools=(), max_steps=10_000)
            await Sessions(journal).create(NewSession(given, (Message("user", "Do it."),)), None)
            made.append(Session(journal, given.session_id))
        port = await _serve(stack, folder, url, redis.url, clients)
        await _ready(port[0])
        before = memory_mb(port[1])
        seen: list[list[int]] = [[] for _ in range(clients)]
        readers: list[asyncio.Task[None]] = []
        for n in range(clients):  # a few at a time: a client that connects and then is too busy to ask is cut off
            readers.append(asyncio.create_task(follow(port[0], secret, made[n % sessions].session_id, seen[n])))
            if n % 20 == 19:
                while not all(seen[: n + 1]):
                    await asyncio.sleep(0.02)
        async with asyncio.timeout(60):
            while not all(seen):
                for reader in readers:
                    if reader.done():
                        reader.result()
                await asyncio.sleep(0.1)
        opened = memory_mb(port[1])
        stop = time.monotonic() + seconds
        took: list[float] = []
        ids = [session.session_id for session in made]
        polling = [
            asyncio.create_task(poll(port[0], secret, ids[n:] + ids[:n], lambda: time.monotonic() > stop, took))
            for n in range(pollers)
        ]
        writing, at = 0, 0
        while time.monotonic() < stop:
            began = time.monotonic()
            await made[at % sessions].step()
            writing, at = writing + 1, at + 1
            await asyncio.sleep(max(0.0, 1 / rate - (time.monotonic() - began)))
        await asyncio.gather(*polling)
        loaded = memory_mb(port[1])
        async with database.connection() as connection:
            backends = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            )
        async with Redis.from_url(redis.url) as asking:
            redis_clients = len(await asking.client_list())
        for session in made:
            await session.finish()
        await asyncio.wait_for(asyncio.gather(*readers), 120)
        whole = 0
        for number, found in enumerate(seen):
            version = await Snapshots(database).version(ORG, made[number % sessions].session_id)
            assert found == list(range(1, (version or 0) + 1)), "a reader missed an event, or had one twice"
            whole += len(found)
        cuts = statistics.quantiles(took, n=100)
        print("| what | value |\n|---|---|")
        print(f"| streams, sessions, pollers | {clients}, {sessions}, {pollers} |")
        print(f"| steps written a second | {writing / seconds:.0f} |")
        print(f"| events delivered | {whole}, each once and in order |")
        print(f"| reads a second | {len(took) / seconds:.0f} |")
        print(f"| a read, p50 and p99 | {cuts[49] * 1000:.1f} ms, {cuts[98] * 1000:.1f} ms |")
        print(
            f"| memory of the API: idle, with all streams, after the load | {before:.0f}, {opened:.0f}, {loaded:.0f} MB |"
        )
        print(f"| connections of all to Postgres, Redis (of which ours: 8 and 3) | {backends}, {redis_clients} |")


async def _serve(stack: AsyncExitStack, folder: Path, url: str, redis_url: str, clients: int) -> tuple[int, int]:
    """An API process. Returns its port and process id."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    given = {
        "DATABASE_URL": url,
        "REDIS_URL": redis_url,
        "CONDUCTOR_PORT": str(port),
        "CONDUCTOR_RATE_LIMIT": "0",
        "CONDUCTOR_STREAMS_PER_ORG": str(clients),
        "TEMPORAL_ADDRESS": "127.0.0.1:9",
        "PATH": "/usr/bin:/bin",
    }
    with (folder / "api.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "conductor_ai.cli", "api", env=given, stdout=log, stderr=log
        )

    async def stop() -> None:
        process.terminate()
        await asyncio.wait_for(process.wait(), 30)

    stack.push_async_callback(stop)
    return port, process.pid


async def _ready(port: int) -> None:
    async def answers() -> bool:
        try:
            connection = await Connection.open(port)
            status, _ = await connection.raw("GET", "/livez")
        except OSError:
            return False
        connection.close()
        return status == 200

    await _until(answers)


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():
            await asyncio.sleep(0.1)


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--pollers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=20, help="steps written a second")
    given = parser.parse_args()
    uvloop.run(measure(given.clients, given.sessions, given.pollers, given.seconds, given.rate))


if __name__ == "__main__":
    main()
