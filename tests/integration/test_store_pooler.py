"""Conductor's own store behind a pooler in transaction mode, on any port: found out by itself, or said by a setting."""

import asyncio
import socket
from collections.abc import AsyncIterator

import asyncpg
import pytest

from conductor_ai.embedded.postgres import EmbeddedPostgres
from conductor_ai.errors import Unavailable
from conductor_ai.settings import Settings
from conductor_ai.stores.access import Keys, Role
from conductor_ai.stores.migrate import migrate
from conductor_ai.stores.postgres import Database
from tests.fixtures_pooler import Pooler


@pytest.fixture
async def pooled_url(postgres_server: EmbeddedPostgres, sql_pooler: Pooler) -> AsyncIterator[str]:
    """An empty database, reached through PgBouncer."""
    name = (await postgres_server.create_database()).rpartition("/")[2].partition("?")[0]
    yield sql_pooler.url("conductor", name)
    await postgres_server.drop_database(name)


async def hop(database: Database) -> set[int]:
    """Many transactions at once and after each other, with statements worth preparing. Returns the backends used."""
    backends: set[int] = set()

    async def one(number: int) -> None:
        for _ in range(10):
            async with database.transaction() as connection:
                assert await connection.fetchval("SELECT $1::int + 1", number) == number + 1
                assert await connection.fetchval("SELECT $1::jsonb", {"n": number}) == {"n": number}
                backends.add(await connection.fetchval("SELECT pg_backend_pid()"))
            async with database.connection() as connection:
                assert await connection.fetchval("SELECT $1::text", str(number)) == str(number)

    await asyncio.gather(*(one(number) for number in range(8)))
    return backends


@pytest.mark.parametrize("pooler", [None, True])
async def test_the_store_works_behind_a_pooler(pooled_url: str, pooler: bool | None) -> None:
    """Migrations, keys, JSON, and transactions that hop from backend to backend, without being told of the pooler."""
    database = Database(pooled_url, size=8, pooler=pooler)
    try:
        assert await migrate(database)
        assert await migrate(database) == []
        _, secret = await Keys(database).create("org", "name", Role.ADMIN)
        assert await Keys(database).find(secret) is not None
        assert len(await hop(database)) > 1
    finally:
        await database.close()


async def test_prepared_statements_are_what_breaks(pooled_url: str) -> None:
    """What the setting is for: the cache of prepared statements, used behind a pooler, fails."""
    database = Database(pooled_url, size=8, pooler=False)
    try:
        with pytest.raises((asyncpg.PostgresError, Unavailable)):
            await hop(database)
    finally:
        await database.close()


async def test_without_a_pooler_statements_are_prepared_once(store_url: str) -> None:
    """The store itself is told from a pooler: there the cache saves a round trip for each statement."""
    database = Database(store_url, size=1)
    try:
        async with database.connection() as connection:
            for number in range(3):
                assert await connection.fetchval("SELECT $1::int", number) == number
            prepared = await connection.fetchval("SELECT count(*) FROM pg_prepared_statements")
        assert prepared > 0
    finally:
        await database.close()


async def test_a_store_that_is_away_costs_no_more_than_before() -> None:
    """Many who wait for the first connection hear that there is none together, not one after the other."""
    silent = socket.create_server(("127.0.0.1", 0), backlog=20)  # the kernel connects, and nobody answers
    port = silent.getsockname()[1]
    database = Database(f"postgresql://nobody@127.0.0.1:{port}/none?sslmode=disable")

    async def ask() -> None:
        with pytest.raises(Unavailable):
            async with database.connection():
                pass

    try:
        async with asyncio.timeout(5):
            await asyncio.gather(*(ask() for _ in range(5)))
    finally:
        await database.close()
        silent.close()


@pytest.mark.parametrize(("value", "expected"), [("auto", None), ("true", True), ("false", False)])
def test_the_setting_has_three_answers(value: str, expected: bool | None) -> None:
    """`auto` leaves it to the first connection."""
    assert Settings.model_validate({"database_pooler": value}).store_behind_pooler is expected
