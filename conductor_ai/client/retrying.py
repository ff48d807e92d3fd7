"""One request until it is answered: what is repeated, when, and for how long. Pure; the clock and the dice are given."""

import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from conductor_ai.client.errors import ClientError, ConnectionFailed
from conductor_ai.client.reading import fulfilled, refusal, retry_after
from conductor_ai.client.steps import Answer, Call, Flow, Lost, Pause, Reply, Request, Send

T = TypeVar("T")

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
KEY = "Idempotency-Key"

_LATER = frozenset({429, 502, 503, 504})
"""Answers that a patient caller does not take for the last word."""


@dataclass(frozen=True)
class Options:
    """How a client behaves."""

    url: str
    """Of the server, without a slash at its end."""
    headers: Mapping[str, str] = field(repr=False)
    """What every request carries, the API key among it."""
    timeout: float
    """Seconds for one attempt, without the time that a long poll asks for."""
    patience: float
    """Seconds over which a request is repeated while the server is away or says: later. 0: never repeated."""
    clock: Callable[[], float] = time.monotonic
    dice: Callable[[float, float], float] = random.uniform
    """A number between the two."""


def answered(call: Call[T], options: Options) -> Flow[T]:
    """The call, repeated as long as that may help.

    A POST or PATCH carries one key through all attempts: the server does it once, however often it arrives.

    Raises:
        ApiError, ConnectionFailed, UnexpectedAnswer: the last attempt's.
    """
    request = keyed(call.request)
    until = options.clock() + (options.patience if call.repeat else 0.0)
    pauses = backoff(options)
    while True:
        reply = yield Send(request)
        if isinstance(reply, Answer) and fulfilled(reply):
            return call.read(reply)
        failure, again = judged(reply, options)
        pause = None if again is None else max(again, next(pauses))
        if pause is None or options.clock() + pause > until:
            raise failure
        yield Pause(pause)


def keyed(request: Request) -> Request:
    """The request with an Idempotency-Key, if its method is not safe to repeat without one and it has none yet."""
    if request.method not in ("POST", "PATCH") or KEY in request.headers:
        return request
    return replace(request, headers={**request.headers, KEY: secrets.token_hex(16)})


def under(key: str | None) -> dict[str, str]:
    """The header of a key that the caller made."""
    return {} if key is None else {KEY: key}


def judged(reply: Reply, options: Options) -> tuple[ClientError, float | None]:
    """What a reply that is no success comes to: the error, and the least seconds after which it may be asked again, if at all."""
    match reply:
        case Answer():
            failure = refusal(reply)
            wanted = retry_after(reply.headers)
            in_flight = reply.status == 409 and wanted is not None
            return failure, (wanted or 0.0) if reply.status in _LATER or in_flight else None
        case Lost(reason):
            return ConnectionFailed(f"No Conductor server answers at {options.url} ({reason})."), 0.0
        case _:
            raise AssertionError("a request has an answer, or none came")


def backoff(options: Options) -> Iterator[float]:
    """Pauses that double up to a limit. Each is between half and all of it, so that clients do not come back as one."""
    pause = FIRST_PAUSE
    while True:
        yield options.dice(pause / 2, pause)
        pause = min(pause * 2, LONGEST_PAUSE)
