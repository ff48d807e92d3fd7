"""What a request is, and what doing it takes: values that the two transports carry out, one by waiting, the other by awaiting.

Everything that a client does is written once, as a generator (a `Flow`). It yields steps, is sent their replies, and returns what
the caller gets. It never touches a socket or a clock of its own, so that a test plays both sides of it in microseconds.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeAlias, TypeVar
from urllib.parse import quote

from conductor_ai.contracts.base import JsonObject

T = TypeVar("T")

Method = Literal["GET", "POST", "PATCH", "DELETE"]
Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True)
class Request:
    """One HTTP request, without address and key."""

    method: Method
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: JsonObject | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0.0
    """Seconds that the server was asked to take before it answers; they come on top of the timeout."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    """Empty for a stream that was opened."""


@dataclass(frozen=True)
class Lost:
    """No answer came, or it broke off."""

    reason: str
    """Which kind of failure; no text from outside."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and what its answer means."""

    request: Request
    read: Callable[[Answer], T]
    """Is given answers of 2xx and 304."""
    repeat: bool = True
    """False: the first answer counts, whatever the client's patience."""


@dataclass(frozen=True)
class Send:
    """Send the request. Its reply: Answer or Lost."""

    request: Request


@dataclass(frozen=True)
class Open:
    """Send the request, and leave the body of a 200 to be read piece by piece. Its reply: Answer or Lost."""

    request: Request


@dataclass(frozen=True)
class Read:
    """The next piece of what was opened. Its reply: bytes, None at its end, or Lost."""


@dataclass(frozen=True)
class Pause:
    """Do nothing for this many seconds. Its reply: None."""

    seconds: float


@dataclass(frozen=True)
class Emit(Generic[T]):
    """Hand this to the caller. Its reply: None, when the caller wants the next one."""

    item: T


Step: TypeAlias = Send | Open | Read | Pause
Reply: TypeAlias = Answer | Lost | bytes | None
Flow: TypeAlias = Generator[Step, Reply, T]
"""Ends in one result."""
Feed: TypeAlias = Generator[Step | Emit[T], Reply, None]
"""Yields many results, one after the other."""


def path(template: str, *parts: str) -> str:
    """A path with ids in it; whatever an id holds, it stays one segment."""
    return template.format(*(quote(part, safe="") for part in parts))


def query(**values: Scalar) -> dict[str, str]:
    """A query string without what was left open."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in values.items()
        if value is not None
    }


def body(**values: object) -> JsonObject:
    """A body without what was left open: the server's defaults are the server's."""
    return {name: value for name, value in values.items() if value is not None}  # type: ignore[misc]
