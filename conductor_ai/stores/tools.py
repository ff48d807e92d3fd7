"""The tools that the workers really have, as they publish them when they start."""

from dataclasses import dataclass
from datetime import datetime

from conductor_ai.contracts.tools import ToolSpec
from conductor_ai.stores.postgres import Database


@dataclass(frozen=True)
class PublishedTool:
    """A tool, and whether it can be used; if not, its spec's note says why."""

    spec: ToolSpec
    available: bool


class Tools:
    """Reads and writes of the published specs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def publish(self, queue: str, tools: tuple[PublishedTool, ...]) -> None:
        """Replace what is known of a queue's tools."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "DELETE FROM conductor.tools WHERE queue = $1 AND NOT name = ANY($2)",
                queue,
                [t.spec.name for t in tools],
            )
            await connection.executemany(
                "INSERT INTO conductor.tools (name, queue, spec, available) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO UPDATE "
                "SET queue = excluded.queue, spec = excluded.spec, available = excluded.available, published_at = clock_timestamp()",
                [(t.spec.name, queue, t.spec.model_dump(mode="json"), t.available) for t in tools],
            )

    async def published_since(self, moment: datetime) -> bool:
        """Whether a worker has published its tools after this moment."""
        async with self._database.connection() as connection:
            return bool(
                await connection.fetchval("SELECT EXISTS (SELECT FROM conductor.tools WHERE published_at > $1)", moment)
            )

    async def published(self) -> tuple[PublishedTool, ...]:
        """All tools that any worker has published, by name."""
        async with self._database.connection() as connection:
            rows = await connection.fetch("SELECT spec, available FROM conductor.tools ORDER BY name")
        return tuple(PublishedTool(ToolSpec.model_validate(row["spec"]), row["available"]) for row in rows)
