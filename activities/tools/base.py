"""What a tool is: a spec, an argument model, facts for the policy, a preview for the person, and the run itself."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict

from conductor_ai.contracts.base import Json
from conductor_ai.contracts.tools import Category, Consequence, Facts, Queue, ToolResult, ToolSpec


class Arguments(BaseModel):
    """The base of every tool's arguments: strict, no unknown field, defaults filled in."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


A = TypeVar("A", bound=Arguments)
A_contra = TypeVar("A_contra", bound=Arguments, contravariant=True)


@dataclass(frozen=True)
class Call:
    """One attempt at one call, as a tool sees it."""

    org_id: str
    session_id: str
    call_id: str
    """Ours and unique: use it as the idempotency key of the effect."""
    run_id: str
    attempt: int
    """0 if it is run by the activity that asked the model, 1 for the first of `run_tool`. One that is not the lowest may
    follow a crash in the middle of an earlier one."""
    arguments_sha256: str = ""
    approved: bool = False
    """True if a person approved exactly these arguments."""
    seen: Json = None
    """`Consequence.data` as it was when the person approved; None if nobody was asked."""


class NotExecuted:
    """It is certain that the call had no effect and never will (a tombstone keeps it so)."""


NOT_EXECUTED = NotExecuted()


@runtime_checkable
class Tool(Protocol[A_contra]):
    """One tool. Built-in tools are classes with constructor arguments; small ones are made by `@tool`."""

    @property
    def spec(self) -> ToolSpec:
        """What the model and `GET /v1/tools` see."""
        ...

    @property
    def arguments(self) -> type[Arguments]:
        """The model that arguments are validated with."""
        ...

    def facts(self, arguments: A_contra, /) -> Facts:
        """What the policy may know. Pure: no I/O, never raises for valid arguments."""
        ...

    def timeout(self, arguments: A_contra, /) -> timedelta:
        """The tool's own limit for this call. The activity gets 30 s more."""
        ...

    async def prepare(self, arguments: A_contra, call: Call, /) -> Consequence:
        """What a person is shown before deciding. May look at the world, never changes it."""
        ...

    async def run(self, arguments: A_contra, call: Call, /) -> ToolResult:
        """Run the call. Failures that the model can act on are results.

        Raises:
            ToolUnavailable: infrastructure is away; the attempt may be repeated.
            asyncio.CancelledError: after everything that the call had started is gone.
        """
        ...

    async def outcome(self, call: Call, /) -> ToolResult | NotExecuted | None:
        """What became of a call whose worker died: its stored result, `NOT_EXECUTED`, or None for "cannot be known"."""
        ...

    async def close(self) -> None:
        """Give back what the tool holds. Called once, when the worker stops."""
        ...


def spec_of(
    name: str,
    description: str,
    category: Category,
    arguments: type[Arguments],
    *,
    requires_approval: bool,
    queue: Queue = Queue.MAIN,
    note: str | None = None,
) -> ToolSpec:
    """The spec of a tool, its parameters taken from the argument model."""
    return ToolSpec(
        name=name,
        description=description,
        category=category,
        parameters=arguments.model_json_schema(),
        requires_approval=requires_approval,
        queue=queue,
        note=note,
    )


class FunctionTool(Generic[A]):
    """A tool made of one async function; see `tool`."""

    def __init__(
        self,
        spec: ToolSpec,
        arguments: type[A],
        function: Callable[[A], Awaitable[str]],
        facts: Facts,
        limit: timedelta,
    ) -> None:
        self._spec = spec
        self._arguments = arguments
        self._function = function
        self._facts = facts
        self._limit = limit

    @property
    def spec(self) -> ToolSpec:
        return self._spec

    @property
    def arguments(self) -> type[Arguments]:
        return self._arguments

    def facts(self, _arguments: A, /) -> Facts:
        return self._facts

    def timeout(self, _arguments: A, /) -> timedelta:
        return self._limit

    async def prepare(self, arguments: A, _call: Call, /) -> Consequence:
        return Consequence(
            summary=f"Calls {self._spec.name} with the arguments shown.", data=arguments.model_dump(mode="json")
        )

    async def run(self, arguments: A, _call: Call, /) -> ToolResult:
        return ToolResult(ok=True, content=await self._function(arguments))

    async def outcome(self, _call: Call, /) -> ToolResult | NotExecuted | None:
        return None

    async def close(self) -> None:
        """Nothing is held."""


def tool(
    *,
    arguments: type[A],
    category: Category = Category.OTHER,
    writes: bool = True,
    replayable: bool = False,
    timeout_seconds: float = 30,
) -> Callable[[Callable[[A], Awaitable[str]]], FunctionTool[A]]:
    """Make a tool of an async function that takes one argument model and returns text for the model.

    The tool's name is the function's name, its description the docstring. What is not said is assumed to be
    dangerous: it writes and may not be run twice. The shipped policy asks a person for every such tool.

        @tool(arguments=City, writes=False, replayable=True)
        async def weather(city: City) -> str:
            "Says today's weather in a city."
            ...
    """

    def wrap(function: Callable[[A], Awaitable[str]]) -> FunctionTool[A]:
        named: Any = function
        spec = spec_of(named.__name__, (named.__doc__ or "").strip(), category, arguments, requires_approval=True)
        facts = Facts(writes=writes, replayable=replayable)
        return FunctionTool(spec, arguments, function, facts, timedelta(seconds=timeout_seconds))

    return wrap
