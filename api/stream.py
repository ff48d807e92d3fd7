"""A session's events as they happen, by Server-Sent Events."""

import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.auth import AnyRole, Caller, presented
from api.deps import Deps, Needs
from api.events import page_of
from api.fanout import PAGE, Allowed, Watch
from api.patience import within
from api.problems import FieldError, Refused, documented
from api.requests import StreamQuery
from conductor_ai.errors import Code, Unavailable
from conductor_ai.settings import Auth

router = APIRouter(tags=["sessions"])

RECONNECT_MS = 1000
"""How long a browser waits before it comes back."""

_SEQ = re.compile(r"[0-9]{1,15}")


class NothingMoreError(Exception):
    """The session has ended and the client has all of it. 204 is how an event source is told not to come back."""


async def nothing_more(_request: Request, _error: Exception) -> Response:
    """The answer to who has everything."""
    return Response(status_code=204)


def position(last_event_id: str | None, after: int) -> int:
    """Number of the last event that the client has. A browser repeats the address with its old `after`: the header wins.

    Raises:
        Refused: the header is no number of an event.
    """
    if not last_event_id:
        return after
    if not _SEQ.fullmatch(last_event_id):
        message = "This is no id of an event in this stream. Send back the last `id` that was received, unchanged."
        raise Refused(message, code=Code.INVALID_REQUEST, errors=[FieldError("/header/Last-Event-ID", message)])
    return int(last_event_id)


def _still_allowed(deps: Deps, request: Request, caller: Caller) -> Allowed:
    """Whether the key that opened the stream is still good; true while that cannot be told."""

    async def allowed() -> bool:
        if deps.settings.auth is Auth.OFF:
            return True
        try:
            async with within():
                key = await deps.keys.find(presented(request))
        except Unavailable:
            return True
        return key is not None and key.org_id == caller.org_id

    return allowed


async def watching(
    request: Request,
    deps: Needs,
    caller: AnyRole,
    session_id: str,
    query: Annotated[StreamQuery, Query()],
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> AsyncIterator[Watch]:
    """The caller's way through the session. All that can be refused is refused here, before the answer has begun.

    Raises:
        Refused: too many streams are open, or `Last-Event-ID` is none.
        NotFound: this organisation has no such session.
        NothingMoreError: it has ended and the caller has all of it.
        Unavailable: Postgres is away.
    """
    after = position(last_event_id, query.after)
    with deps.fanout.place(caller.org_id):
        page = await page_of(deps.events, caller.org_id, session_id, after=after, limit=PAGE)
        if page.ended and after >= page.version:
            raise NothingMoreError
        allowed = _still_allowed(deps, request, caller)
        with deps.fanout.watch(
            caller.org_id, session_id, page, after=after, deltas=query.deltas, allowed=allowed
        ) as watch:
            yield watch


@router.get(
    "/v1/agents/{session_id}/stream",
    response_class=EventSourceResponse,
    summary="Follow a session",
    responses={
        200: {"description": "Messages whose data is an EventView, or a DeltaView if they are named `delta`"},
        204: {"description": "The session has ended and the caller has all of its events"},
        **documented(Code.NOT_FOUND, Code.TOO_MANY_STREAMS),
    },
)
async def stream(watch: Annotated[Watch, Depends(watching)]) -> AsyncIterator[ServerSentEvent]:
    """Server-Sent Events: everything after `Last-Event-ID` or `after`, then what happens as it happens, each event once and
    in order, until the session's last event. Then the stream closes.

    The name of a message is the event's type, its `id` is `seq`, its data the same object as in the list of events. Messages
    named `delta` have no `id`: they are pieces of an answer that the model is still writing. They can be missing, for instance
    when the reader is slow or the server has no Redis; the events never are. A stream that breaks off is continued by asking
    again with the last `id`, at this process or another; one whose session has ended answers 204 then.
    """
    yield ServerSentEvent(comment="Conductor", retry=RECONNECT_MS)
    async for line in watch.lines():
        yield ServerSentEvent(raw_data=line.data, event=line.event, id=None if line.seq is None else str(line.seq))
