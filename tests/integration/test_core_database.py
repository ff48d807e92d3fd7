"""The connection to Conductor's own Postgres: which failures pass by, and what may take its time."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from conductor_ai.errors import Unavailable
from conductor_ai.stores import postgres
from conductor_ai.stores.migrate import LOCK, migrate
from conductor_ai.stores.postgres import Database
from tests.fixtures_servers import postgres_in


@pytest.mark.parametrize(
    "sql",
    [
        "SET LOCAL transaction_read_only = on; CREATE TABLE conductor.nothing ()",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '53100'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '55P03'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '57P05'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '58030'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = 'XX000'; END $$",
    ],
    ids=["failover", "deadlock", "serialization", "disk full", "lock", "idle", "input and output", "pooler is full"],
)
async def test_failures_that_pass_by(database: Database, sql: str) -> None:
    """They mean `try again`: an answer that is paid for is written later instead of being paid for again."""
    with pytest.raises(Unavailable):
        async with database.transaction() as connection:
            await connection.execute(sql)


async def test_a_mistake_is_no_outage(database: Database) -> None:
    """What can never succeed is not taken for an outage, or it would be repeated for ever."""
    with pytest.raises(asyncpg.DataError):
        async with database.transaction() as connection:
            await connection.execute("SELECT 1 / 0")


async def test_a_migration_under_the_feet(database: Database, store_url: str) -> None:
    """A column is added while a worker has the statement prepared: the write is to be repeated, it has not failed."""
    worker = Database(store_url, size=1, pooler=False)
    try:
        async with database.connection() as connection:
            await connection.execute("CREATE TABLE conductor.moving (id int)")
        async with worker.transaction() as connection:
            await connection.fetch("SELECT * FROM conductor.moving")
        async with database.connection() as connection:
            await connection.execute("ALTER TABLE conductor.moving ADD COLUMN more int")
        with pytest.raises(Unavailable):
            async with worker.transaction() as connection:
                await connection.fetch("SELECT * FROM conductor.moving")
        async with worker.transaction() as connection:
            assert await connection.fetch("SELECT * FROM conductor.moving") == []
    finally:
        await worker.close()


async def test_a_migration_may_take_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process migrates for longer than any other statement may take: the second one waits for its turn."""
    monkeypatch.setattr(postgres, "STATEMENT_SECONDS", 0.3)
    async with postgres_in(tmp_path) as server:
        url = await server.create_database()
        holder = await asyncpg.connect(url)
        database = Database(url, size=1)
        try:
            transaction = holder.transaction()
            await transaction.start()
            await holder.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
            second = asyncio.create_task(migrate(database))
            done, _ = await asyncio.wait({second}, timeout=0.8)
            assert not done
            await transaction.rollback()
            assert await asyncio.wait_for(second, 20)
        finally:
            await holder.close()
            await database.close()
