"""Conductor's own session for the measurement: the real workflow, activities, Postgres and Redis; a model and a tool
that answer at once."""

from datetime import timedelta

from activities.providers.base import Listener
from activities.tools.base import Arguments, Call, NotExecuted, spec_of
from bench.bare import TEXT
from conductor_ai.contracts.models import ModelReply, ModelRequest, ProposedCall, Stop, Usage
from conductor_ai.contracts.tools import Category, Consequence, Facts, ToolResult, ToolSpec


class Nothing(Arguments):
    """What the tool takes."""

    n: int = 0


class Echo:
    """Takes the name of a tool that is allowed without asking."""

    arguments: type[Arguments] = Nothing
    spec: ToolSpec = spec_of("web_fetch", "Answers at once.", Category.OTHER, Nothing, requires_approval=False)

    def facts(self, _arguments: Nothing, /) -> Facts:
        """It changes nothing."""
        return Facts(replayable=True)

    def timeout(self, _arguments: Nothing, /) -> timedelta:
        """Half a minute."""
        return timedelta(seconds=30)

    async def prepare(self, _arguments: Nothing, _call: Call, /) -> Consequence:
        """Never asked."""
        return Consequence(summary="Answers at once.")

    async def run(self, arguments: Nothing, _call: Call, /) -> ToolResult:
        """Answers at once."""
        return ToolResult(ok=True, content=f"{arguments.n} {TEXT}"[:200])

    async def outcome(self, _call: Call, /) -> ToolResult | NotExecuted | None:
        """Not needed."""
        return None

    async def close(self) -> None:
        """Nothing is held."""


class Instant:
    """A provider that answers at once: a call in every step but the last."""

    name = "instant"

    def __init__(self, steps: int) -> None:
        self._steps = steps

    async def complete(self, request: ModelRequest, _listener: Listener, /) -> ModelReply:
        """The next reply."""
        usage = Usage(input=100, output=20)
        if request.step >= self._steps:
            return ModelReply(stop=Stop.END, text=TEXT, usage=usage)
        call = ProposedCall(provider_id=f"t{request.step}", tool="web_fetch", arguments={"n": request.step})
        return ModelReply(stop=Stop.TOOL_CALLS, text=TEXT, calls=(call,), usage=usage)

    async def close(self) -> None:
        """Nothing is held."""
