"""Upgrade and roll back: migrations in steps end where a fresh database begins; older programs run on a newer schema that only adds."""

import asyncpg
import pytest
from temporalio.client import Client

from conductor_ai.contracts.status import Status
from conductor_ai.embedded.postgres import EmbeddedPostgres
from conductor_ai.errors import ConfigurationError
from conductor_ai.names import new_id
from conductor_ai.stores import migrate as module
from conductor_ai.stores.migrate import migrate, migrations
from conductor_ai.stores.postgres import Database
from tests.rig import answer, rig

SHAPE = """
SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = 'conductor'
UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'conductor' ORDER BY 1
"""
LATER = """
ALTER TABLE conductor.sessions ADD COLUMN of_a_later_version text;
CREATE TABLE conductor.of_a_later_version (id integer PRIMARY KEY);
INSERT INTO conductor.migrations (number, name) VALUES (9999, 'later');
"""


async def shape(url: str) -> list[str]:
    """Columns and indexes."""
    connection = await asyncpg.connect(url)
    try:
        return [row[0] for row in await connection.fetch(SHAPE)]
    finally:
        await connection.close()


async def test_an_upgrade_in_steps(
    postgres_server: EmbeddedPostgres, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database of the first version, brought up one migration at a time, is the same as a new one."""
    every = migrations()
    url = await postgres_server.create_database()
    pool = Database(url, size=1)
    try:
        for count in range(1, len(every) + 1):
            monkeypatch.setattr(module, "migrations", lambda count=count: every[:count])
            assert len(await migrate(pool)) == 1
    finally:
        await pool.close()
    assert await shape(url) == await shape(store_url)
    await postgres_server.drop_database(url.rpartition("/")[2].partition("?")[0])


async def test_roll_back_without_touching_the_database(temporal: Client, postgres_server: EmbeddedPostgres) -> None:
    """After a migration that only added, this version's workers run sessions as before; `migrate` refuses, and changes nothing."""
    url = await postgres_server.create_database()
    pool = Database(url, size=1)
    try:
        await migrate(pool)
        connection = await asyncpg.connect(url)
        await connection.execute(LATER)
        await connection.close()
        with pytest.raises(ConfigurationError, match="migration 9999, which this version"):
            await migrate(pool)
    finally:
        await pool.close()
    async with rig(temporal, url, new_id("queue"), replies=[answer("As before.")]) as r:
        ended = await r.ended(await r.start())
        assert (ended.status, ended.final_answer) == (Status.COMPLETED, "As before.")
    await postgres_server.drop_database(url.rpartition("/")[2].partition("?")[0])
