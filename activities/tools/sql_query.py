"""sql_query: one SQL statement with parameters on a database of the operator's choice, each approved by a person."""

from datetime import timedelta

from pydantic import Field

from activities.sql.classify import classify
from activities.sql.effects import Effects
from activities.sql.target import EXTRA_SECONDS, SqlTarget
from activities.tools.base import Arguments, Call, NotExecuted, spec_of
from conductor_ai.contracts.base import Json
from conductor_ai.contracts.tools import Category, Consequence, Facts, SqlClass, ToolResult, ToolSpec

NAME = "sql_query"
DESCRIPTION = (
    "Runs one PostgreSQL statement on the connected database and returns its rows. SELECT, VALUES, INSERT, UPDATE, "
    "DELETE, EXPLAIN and SHOW are allowed; UPDATE and DELETE need a WHERE that names rows. Pass values as $1, $2 ... "
    "in params, never inside the text. A person approves every statement before it runs."
)


class SqlArguments(Arguments):
    """What the model sends."""

    query: str = Field(
        min_length=1,
        max_length=65_536,
        description="Exactly one SQL statement, at most 64 KB, with parameters written as $1, $2 ...",
    )
    params: tuple[Json, ...] = Field(
        default=(),
        max_length=1_000,
        strict=False,
        description="Values for $1, $2 ...: null, booleans, numbers, texts (also for dates, numerics and uuids) or arrays.",
    )
    max_rows: int = Field(default=100, ge=1, le=1_000, description="Rows to return at most.")


def approved_effect(seen: Json) -> Effects | None:
    """What the person saw that a write changes; None if the trial run told nothing."""
    effect = seen.get("effect") if isinstance(seen, dict) else None
    return Effects.model_validate(effect) if isinstance(effect, dict) else None


class SqlQuery:
    """The tool on one target.

    Args:
        target: the database and its limits; closed together with the tool.
    """

    def __init__(self, target: SqlTarget) -> None:
        self._target = target
        note = (
            "A write happens exactly once: a ledger in the target database keeps what was executed."
            if target.keeps_ledger
            else "Without a ledger in the target database, an interrupted write is reported as unknown, never repeated."
        )
        self._spec = spec_of(NAME, DESCRIPTION, Category.DATABASE, SqlArguments, requires_approval=True, note=note)

    @property
    def spec(self) -> ToolSpec:
        return self._spec

    @property
    def arguments(self) -> type[Arguments]:
        return SqlArguments

    def facts(self, arguments: SqlArguments, /) -> Facts:
        """The gate's reading. A refused statement writes nothing and may be refused again."""
        sql_class = classify(arguments.query).sql_class
        writes = sql_class is SqlClass.WRITE
        return Facts(writes=writes, sql_class=sql_class, replayable=not writes or self._target.keeps_ledger)

    def timeout(self, _arguments: SqlArguments, /) -> timedelta:
        return timedelta(seconds=self._target.limits.timeout_seconds + EXTRA_SECONDS)

    async def prepare(self, arguments: SqlArguments, _call: Call, /) -> Consequence:
        return await self._target.preview(arguments.query, arguments.params)

    async def run(self, arguments: SqlArguments, call: Call, /) -> ToolResult:
        return await self._target.run(
            arguments.query, arguments.params, arguments.max_rows, call, approved_effect(call.seen)
        )

    async def outcome(self, call: Call, /) -> ToolResult | NotExecuted | None:
        return await self._target.outcome(call)

    async def close(self) -> None:
        await self._target.close()
