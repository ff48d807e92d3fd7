"""Real servers for tests: one Postgres, one Redis and one Temporal for a test process, one fresh database for a module.

All of them listen on loopback alone and end with the process. A test that stops a server starts one of its own:
`postgres_in`, `redis_in` and `temporal_in` make them.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis.asyncio
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from conductor_ai.embedded.postgres import Durability, EmbeddedPostgres
from conductor_ai.embedded.redis import EmbeddedRedis, find_server
from conductor_ai.embedded.temporal import EmbeddedTemporal
from conductor_ai.names import new_id
from conductor_ai.stores.migrate import migrate
from conductor_ai.stores.postgres import Database


async def wait_until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 10) -> None:
    """Poll until the condition holds; fail with a sentence when it does not in time."""
    try:
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"waited {seconds} s in vain for: {what}") from None


def postgres_in(folder: Path) -> EmbeddedPostgres:
    """A throwaway Postgres, not started; use it as a context manager."""
    return EmbeddedPostgres(folder / "postgres", durability=Durability.THROWAWAY)


@asynccontextmanager
async def redis_in(folder: Path) -> AsyncIterator[EmbeddedRedis]:
    """A real Redis if there is one on PATH, else the fake one that the product ships."""
    server = EmbeddedRedis(server=find_server(os.environ), log=folder / "redis.log")  # noqa: TID251 - only PATH is read
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def temporal_in(folder: Path) -> AsyncIterator[EmbeddedTemporal]:
    """A Temporal dev server that knows our search attributes."""
    server = EmbeddedTemporal(folder / "temporal")
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def migrated_database(server: EmbeddedPostgres) -> str:
    """Make a database with the current schema. Returns its URL."""
    url = await server.create_database()
    database = Database(url, size=1)
    try:
        await migrate(database)
    finally:
        await database.close()
    return url


@pytest.fixture(scope="session")
async def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """One Postgres for all tests of this process."""
    async with postgres_in(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="module")
async def store_url(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """The connection string of a fresh database with the current schema; one for each test module."""
    url = await migrated_database(postgres_server)
    try:
        yield url
    finally:
        await postgres_server.drop_database(url.rpartition("/")[2].partition("?")[0])


@pytest.fixture(scope="module")
async def database(store_url: str) -> AsyncIterator[Database]:
    """A pool on this module's database."""
    pool = Database(store_url)
    try:
        yield pool
    finally:
        await pool.close()


@pytest.fixture(scope="session")
async def redis_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The connection string of one Redis for all tests of this process."""
    async with redis_in(tmp_path_factory.mktemp("redis")) as server:
        yield server.url
        async with redis.asyncio.Redis.from_url(server.url, decode_responses=True) as client:
            forever = [key async for key in client.scan_iter("*") if await client.ttl(key) == -1]
        assert forever == [], "every key must have a time to live"


@pytest.fixture(scope="session")
async def temporal_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedTemporal]:
    """One Temporal dev server for all tests of this process."""
    async with temporal_in(tmp_path_factory.mktemp("temporal")) as server:
        yield server


@pytest.fixture(scope="session")
async def temporal(temporal_server: EmbeddedTemporal) -> Client:
    """A client of the shared Temporal, with the product's data converter."""
    return await Client.connect(temporal_server.address, data_converter=pydantic_data_converter)


@pytest.fixture
def task_queue() -> str:
    """A task queue of the test's own."""
    return new_id("queue")
