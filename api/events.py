"""What a session did: its steps, and its durable events."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.auth import AnyRole
from api.deps import Needs
from api.ids import is_id
from api.patience import within
from api.problems import documented
from api.requests import EventsQuery, StepsQuery
from conductor_ai.contracts.answers import EventList, StepList
from conductor_ai.errors import Code, NotFound
from conductor_ai.stores.events import EventPage, Events

router = APIRouter(tags=["sessions"])


async def page_of(events: Events, org_id: str, session_id: str, *, after: int, limit: int) -> EventPage:
    """Events of this organisation's session.

    Raises:
        NotFound: it has no such session.
        Unavailable: Postgres is away.
    """
    async with within():
        page = await events.page(org_id, session_id, after=after, limit=limit) if is_id("sess", session_id) else None
    if page is None:
        raise NotFound("There is no such session.")
    return page


@router.get(
    "/v1/agents/{session_id}/steps",
    response_model=StepList,
    summary="List a session's steps",
    responses=documented(Code.NOT_FOUND),
)
async def list_steps(deps: Needs, caller: AnyRole, session_id: str, query: Annotated[StepsQuery, Query()]) -> Response:
    """The oldest first. While the database is away the answer may come from a copy: then `degraded` is true."""
    view = await deps.reader.read(caller.org_id, session_id)
    later = [step for step in view.steps if step.step_number > query.after]
    found = StepList(
        data=tuple(later[: query.limit]),
        has_more=len(later) > query.limit,
        version=view.version,
        degraded=view.degraded,
    )
    return Response(found.model_dump_json(), media_type="application/json")


@router.get(
    "/v1/agents/{session_id}/events",
    response_model=EventList,
    summary="List a session's events",
    responses=documented(Code.NOT_FOUND),
)
async def list_events(
    deps: Needs, caller: AnyRole, session_id: str, query: Annotated[EventsQuery, Query()]
) -> Response:
    """In their order, without gaps. To follow a session as it goes, use its stream."""
    page = await page_of(deps.events, caller.org_id, session_id, after=query.after, limit=query.limit)
    found = EventList(data=page.events, has_more=page.has_more, version=page.version)
    return Response(found.model_dump_json(), media_type="application/json")
