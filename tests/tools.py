"""Small tools for tests of the session: they count, block and fail on demand."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from activities.tools.base import Arguments, Call, NotExecuted, spec_of
from conductor_ai.contracts.tools import Category, Consequence, Facts, Queue, SqlClass, ToolResult, ToolSpec


class Say(Arguments):
    """What the tools of this module take."""

    text: str = ""


async def _echo(arguments: Say, _call: Call) -> ToolResult:
    return ToolResult(ok=True, content=f"echo: {arguments.text}")


class FakeTool:
    """A tool whose every answer a test chooses. Counts what it does."""

    def __init__(
        self,
        name: str = "web_fetch",
        run: Callable[[Say, Call], Awaitable[ToolResult]] = _echo,
        *,
        facts: Facts | None = None,
        found: ToolResult | NotExecuted | None = None,
        queue: Queue = Queue.MAIN,
        consequence: Consequence | None = None,
        limit: timedelta = timedelta(seconds=30),
    ) -> None:
        self._spec = spec_of(
            name,
            "A tool for tests.",
            Category.OTHER,
            Say,
            requires_approval=name not in ("web_fetch", "code_run"),
            queue=queue,
        )
        self._run = run
        self._facts = facts or Facts(replayable=True, sql_class=SqlClass.READ if name == "sql_query" else None)
        self._found = found
        self._consequence = consequence
        self._limit = limit
        self.runs: list[Call] = []
        self.prepared = 0
        self.begun = asyncio.Event()
        """Set when a run has begun."""
        self.cancelled = asyncio.Event()
        """Set when a run was cancelled."""

    @property
    def spec(self) -> ToolSpec:
        return self._spec

    @property
    def arguments(self) -> type[Arguments]:
        return Say

    def facts(self, _arguments: Say, /) -> Facts:
        return self._facts

    def timeout(self, _arguments: Say, /) -> timedelta:
        return self._limit

    async def prepare(self, arguments: Say, _call: Call, /) -> Consequence:
        self.prepared += 1
        return self._consequence or Consequence(summary=f"Would say {arguments.text!r}.")

    async def run(self, arguments: Say, call: Call, /) -> ToolResult:
        self.runs.append(call)
        self.begun.set()
        try:
            return await self._run(arguments, call)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def outcome(self, _call: Call, /) -> ToolResult | NotExecuted | None:
        return self._found

    async def close(self) -> None:
        """Nothing is held."""
