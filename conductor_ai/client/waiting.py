"""Waiting for a session by long polls."""

from dataclasses import replace
from typing import Literal

from conductor_ai.client.errors import WaitTimeout
from conductor_ai.client.reading import NOT_MODIFIED, parsed
from conductor_ai.client.retrying import Options, answered
from conductor_ai.client.steps import Answer, Call, Flow, Pause, Request, path, query
from conductor_ai.contracts.status import Phase
from conductor_ai.contracts.views import SessionView

Until = Literal["attention", "ended"]
"""`attention`: it has ended, or goes on only when a person decides, writes or resumes. `ended`: it has ended."""

LONGEST_POLL = 30.0
"""Seconds that the server takes at most."""
LEAST_POLL = 1.0
"""Seconds that pass between two looks, also if the server does not wait."""

_FOR_PEOPLE = frozenset({Phase.AWAITING_APPROVAL, Phase.AWAITING_INPUT, Phase.PAUSED})


def there(view: SessionView, until: Until) -> bool:
    """Whether a session has come to where it is waited for."""
    return view.status.ended or (until == "attention" and view.phase in _FOR_PEOPLE)


def look(session_id: str, **parameters: str | int | float | None) -> Call[SessionView]:
    """One look at a session."""
    request = Request("GET", path("/v1/agents/{}", session_id), query(**parameters))
    return Call(request, lambda answer: parsed(SessionView, answer.content))


def newer(session_id: str, version: int, seconds: float, **parameters: str | int | None) -> Call[SessionView | None]:
    """The session once it is newer than this version, or a copy that is not, while the database is away; else None."""
    request = look(session_id, wait=seconds, since_version=version, **parameters).request
    # The tag saves the body of a session that has not changed.
    return Call(replace(request, wait=seconds, headers={"If-None-Match": f'"{version}"'}), _if_any)


def _if_any(answer: Answer) -> SessionView | None:
    return None if answer.status == NOT_MODIFIED else parsed(SessionView, answer.content)


def waited(session_id: str, until: Until, timeout: float | None, options: Options) -> Flow[SessionView]:
    """The session when it is there.

    Raises:
        WaitTimeout: it is not within `timeout` seconds.
    """
    clock = options.clock
    end = None if timeout is None else clock() + timeout
    view = yield from answered(look(session_id), options)
    while not there(view, until):
        began = clock()
        left = LONGEST_POLL if end is None else min(LONGEST_POLL, end - began)
        if left <= 0:
            raise WaitTimeout(
                f"The session is {view.status} ({view.phase}) after {timeout:g} seconds. It goes on.", view
            )
        fresh = yield from answered(newer(session_id, view.version, left), options)
        news = fresh is not None and fresh.version > view.version
        view = fresh or view
        if not news and (rest := LEAST_POLL - (clock() - began)) > 0:
            yield Pause(rest if end is None else max(0.0, min(rest, end - clock())))
    return view
