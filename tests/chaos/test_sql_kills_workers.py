"""`kill -9` of whole workers between the commit of an approved write and its report: each write is there exactly once."""

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from temporalio.client import Client

from conductor_ai.contracts.status import Status
from tests.fixtures_dev import environment
from tests.fixtures_servers import wait_until
from tests.fixtures_sql import Shop
from tests.rig import Rig, rig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KILLS = 20
WORKERS = 3
AT_ONCE = 2
LONGEST = 0.05
"""Seconds between commit and kill at most: the report takes less."""


class Crew:
    """Worker processes, as many as there should be, however many are killed."""

    def __init__(self, log: Path, **settings: str) -> None:
        self._log = log
        self._environment = environment() | settings
        self._members: list[asyncio.Task[None]] = []
        self._alive: set[asyncio.subprocess.Process] = set()
        self.killed = 0
        """How many ended by SIGKILL."""

    async def _member(self) -> None:
        while True:
            with self._log.open("ab") as out:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "conductor_ai.cli", "worker"),
                    env=self._environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                )
            self._alive.add(process)
            code = await process.wait()
            self._alive.discard(process)
            assert code == -9, self._log.read_text()
            self.killed += 1

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator["Crew"]:
        """Keep the workers running until the block ends."""
        async with asyncio.TaskGroup() as group:
            self._members = [group.create_task(self._member()) for _ in range(WORKERS)]
            try:
                yield self
            finally:
                for member in self._members:
                    member.cancel()
                for process in self._alive:
                    process.kill()
        for process in self._alive:
            await process.wait()


def payment(number: int) -> str:
    """A write that shows how often it was done. The word in its note marks it for the fault."""
    return (
        f"INSERT INTO archive (id, status, total, note) VALUES ({number}, 'paid', 1, 'payment-{number}-') RETURNING id"
    )


@pytest.fixture
async def sessions(
    temporal: Client, store_url: str, task_queue: str, shared_sql_shop: Shop, tmp_path: Path
) -> AsyncIterator[tuple[Rig, Crew, Path]]:
    """A store, a Temporal, the shop, and workers that can be told when to die."""
    faults = tmp_path / "faults"
    faults.mkdir()
    crew = Crew(
        tmp_path / "log",
        DATABASE_URL=store_url,
        TEMPORAL_ADDRESS=temporal.service_client.config.target_host,
        TEMPORAL_CONFIG_FILE="/dev/null",
        CONDUCTOR_TASK_QUEUE=task_queue,
        CONDUCTOR_SQL_URL=shared_sql_shop.url,
        CONDUCTOR_SQL_ROLE=shared_sql_shop.role,
        CONDUCTOR_DATA_DIR=str(tmp_path),
        CONDUCTOR_MAX_CACHED_WORKFLOWS="0",  # a dead worker holds up nobody whose workflow it had in its cache
        CONDUCTOR_TOOL_MODULES="tests.chaos.faults",
        CONDUCTOR_FAULT_FILE=str(faults),
        PYTHONPATH=str(Path(__file__).parent.parent.parent),
    )
    async with rig(temporal, store_url, task_queue, run=False) as held, crew.at_work():
        yield held, crew, faults


async def test_each_approved_write_is_in_the_table_once(
    sessions: tuple[Rig, Crew, Path], shared_sql_shop: Shop
) -> None:
    """Twenty sessions, each with an approved write whose worker dies at a random moment after the commit: at once, while
    it reports, or just after. All sessions complete, and what the models were told is in the table, once each."""
    held, crew, faults = sessions
    moments = random.Random()
    ids = [
        await held.start(
            f"demo: call sql_query {json.dumps({'query': payment(number)})}\ndemo: say done", tools=("sql_query",)
        )
        for number in range(KILLS)
    ]
    approvals = [(await held.pending(session_id, seconds=60))[0] for session_id in ids]

    limit = asyncio.Semaphore(AT_ONCE)

    async def approve(number: int) -> None:
        file = faults / f"payment-{number}-"

        async def struck() -> bool:
            # A kill meant for another session may have come first, and the ledger may have been asked instead.
            return not file.exists() or (await held.view(ids[number])).status.ended

        async with limit:
            file.write_text(str(moments.choice((0.0, moments.uniform(0, LONGEST)))))
            await held.signal(approvals[number], "approve")  # nobody has to be alive to hear it
            await wait_until(struck, f"the kill of session {number}", 120)

    await asyncio.gather(*map(approve, range(KILLS)))
    assert crew.killed >= KILLS / AT_ONCE, "workers were killed"
    told = {}
    for number, session_id in enumerate(ids):
        session = await held.ended(session_id, seconds=60)
        assert session.status is Status.COMPLETED, session.error
        told[number] = session.steps[0].observation or ""
    done = {number for number, text in told.items() if text.startswith("1 row affected.")}
    # Whoever was hit before the commit in all three attempts was told so, and may not be in the table.
    assert all("nothing was changed" in told[number] for number in told.keys() - done), told
    assert len(done) >= KILLS * 3 // 4
    admin = await asyncpg.connect(shared_sql_shop.admin_url)
    try:
        counts = await admin.fetch("SELECT id, count(*) AS n FROM archive GROUP BY id ORDER BY id")
        assert [(row["id"], row["n"]) for row in counts] == [(number, 1) for number in sorted(done)]
        kept = "SELECT count(*) FROM conductor_ledger.calls WHERE result IS NOT NULL"
        assert await admin.fetchval(kept) == len(done)
    finally:
        await admin.close()
