"""What a fake model server answers: a list of steps, one for each request, from Python or from a JSON file."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from conductor_ai.contracts.base import Contract, JsonObject


class Call(Contract):
    """One tool call that the fake model makes."""

    tool: str
    arguments: JsonObject = Field(default_factory=dict)
    id: str | None = None
    """Made up if it is not given."""
    cut: str | None = None
    """Send this text in place of the arguments: half of a call, or no JSON at all."""


class Reply(Contract):
    """An answer. Without a stop of its own it ends with the calls, or with the text."""

    kind: Literal["reply"] = "reply"
    text: str = ""
    thinking: str | None = None
    """Thinking before the answer (Messages API only)."""
    calls: tuple[Call, ...] = ()
    stop: str | None = None
    """The server's own word for why it stopped, for example `max_tokens` or `refusal`."""
    category: str | None = None
    """Category of a refusal."""
    input_tokens: int = 100
    output_tokens: int = 20
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost: float | None = None
    """Cost in US dollars, as OpenRouter reports it."""
    pause_seconds: float = 0.0
    """Time between two pieces of the stream."""
    hang: bool = False
    """After half of the answer: silence until the client leaves."""
    cut_off: bool = False
    """After half of the answer: the connection breaks."""
    unfinished: bool = False
    """The stream ends in good order, but without its last events."""
    error_type: str | None = None
    """After half of the answer: an error event of this type."""
    error_code: int | None = None
    """The code in that event, where the API has one."""


class Failure(Contract):
    """An HTTP error instead of an answer."""

    kind: Literal["failure"] = "failure"
    status: int
    type: str = "api_error"
    message: str = "The script says so."
    headers: dict[str, str] = Field(default_factory=dict)


Step = Annotated[Reply | Failure, Field(discriminator="kind")]

_STEPS: TypeAdapter[list[Reply | Failure]] = TypeAdapter(list[Step])

ENDED = Reply(text="The script of this fake server has ended.")


class Script:
    """Hands out the steps in order, then `ENDED` for ever."""

    def __init__(self, *steps: Reply | Failure) -> None:
        self._steps = list(steps)

    @classmethod
    def load(cls, path: Path) -> "Script":
        """Read a JSON list of steps.

        Raises:
            pydantic.ValidationError: the file is something else; it says where.
        """
        return cls(*_STEPS.validate_json(path.read_bytes()))

    def add(self, *steps: Reply | Failure) -> None:
        """Append steps."""
        self._steps.extend(steps)

    def next(self) -> Reply | Failure:
        """The step for the request that has just arrived."""
        return self._steps.pop(0) if self._steps else ENDED
