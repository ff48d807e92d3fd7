"""The shared servers are there, real, and as the product needs them."""

from redis.asyncio import Redis
from temporalio.client import Client

from conductor_ai.stores.postgres import Database
from conductor_ai.temporal import Engine, register_search_attributes


async def test_a_module_gets_a_database_with_the_schema(database: Database) -> None:
    """The schema is migrated and empty."""
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM conductor.sessions") == 0


async def test_redis_answers(redis_url: str) -> None:
    """The Redis behind the URL takes commands."""
    async with Redis.from_url(redis_url) as redis:
        assert await redis.ping()


async def test_temporal_knows_the_search_attributes(temporal: Client) -> None:
    """Registering them again is no error and the engine sees the server."""
    await register_search_attributes(temporal)
    assert await Engine(temporal).ping() is None
