"""Looking at sessions: one, whole or in part, now or when it changes; and the list of all."""

import re
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from api import cursors, gate
from api.auth import AnyRole
from api.deps import Needs, deps_of
from api.documents import Document
from api.patience import within
from api.problems import FieldError, Refused, documented
from api.requests import METADATA_MAX, MetadataKey, MetadataValue, SessionQuery, SessionsQuery
from conductor_ai.contracts.answers import Page
from conductor_ai.contracts.status import Phase
from conductor_ai.contracts.views import SessionSummary, SessionView
from conductor_ai.errors import Code
from conductor_ai.stores.snapshots import SessionFilter
from conductor_ai.text import clean, clean_json

router = APIRouter(tags=["sessions"])

_METADATA: TypeAdapter[Any] = TypeAdapter(
    Annotated[dict[MetadataKey, MetadataValue], Field(min_length=1, max_length=METADATA_MAX)],
    config=ConfigDict(strict=True),
)

_TAG = re.compile(r'(?:W/)?"(\d{1,15})"')


BUSY = frozenset({Phase.QUEUED, Phase.THINKING, Phase.CALLING_TOOL, Phase.RETRYING, Phase.CANCELLING})
"""Phases in which a session goes on by itself."""


def needs_somebody(view: SessionView) -> bool:
    """True once nothing more happens on its own: it has ended, or a person must decide."""
    return view.status.ended or view.phase in (Phase.AWAITING_APPROVAL, Phase.AWAITING_INPUT, Phase.PAUSED)


def session_response(session: SessionView | Document, *, headers: dict[str, str] | None = None) -> Response:
    """A session as the body of a response, with its version as the ETag."""
    document = session if isinstance(session, Document) else Document.of(session)
    extra = {"Cache-Control": "private, no-cache", **(headers or {})}
    if not document.degraded:  # a copy that may be old must never be confirmed by a 304
        extra["ETag"] = f'"{document.version}"'
    return Response(document.json, media_type="application/json", headers=extra)


def seen_versions(header: str | None) -> frozenset[int]:
    """The versions that an `If-None-Match` names; what is no version of ours matches nothing."""
    return frozenset(int(match) for match in _TAG.findall(header or ""))


def in_part(view: SessionView, query: SessionQuery) -> SessionView:
    """The session with the steps that were asked for."""
    steps = view.steps
    if query.steps_after is not None:
        steps = tuple(step for step in steps if step.step_number > query.steps_after)
    if query.steps == "none":
        steps = ()
    elif query.steps == "last":
        steps = steps[-1:]
    return view if steps is view.steps else view.model_copy(update={"steps": steps})


async def get_session(
    deps: Needs,
    caller: AnyRole,
    session_id: str,
    query: Annotated[SessionQuery, Query()],
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """With `wait`, answers as soon as the session is newer than what the caller has, and at the latest after that time.

    While the database is away the answer may come from a copy: then `degraded` is true.
    """
    org_id, seen = caller.org_id, seen_versions(if_none_match)
    known = max((*seen, query.since_version or 0), default=0)
    now: SessionView | Document
    if not query.wait:
        whole = query.steps == "all" and query.steps_after is None
        read = deps.reader.document if whole else deps.reader.read
        now = await read(org_id, session_id, at_least=known)
    else:
        since = query.since_version
        if since is None:
            since = max(seen, default=None)
        if since is None:
            since = (await deps.reader.read(org_id, session_id)).version
        newer_than: int = since
        now = await deps.reader.follow(
            org_id,
            session_id,
            seconds=query.wait,
            until=lambda now: now.version > newer_than or now.status.ended,
            at_least=known,
        )
    if not now.degraded and (now.version in seen or (if_none_match or "").strip() == "*"):
        return Response(status_code=304, headers={"ETag": f'"{now.version}"', "Cache-Control": "private, no-cache"})
    return session_response(in_part(now, query) if isinstance(now, SessionView) else now)


_NO_QUERY = SessionQuery()


class Poll(APIRoute):
    """A poll without a query has nothing that FastAPI would have to look for: it goes through the gate and to the answer at once.

    What FastAPI spends on finding that out is a quarter of such an answer, and nothing is asked as often.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with the short way before it."""
        by_fastapi = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if request.scope["query_string"]:
                return await by_fastapi(request)
            caller = await gate.passed(request)
            session_id, seen = request.path_params["session_id"], request.headers.get("if-none-match")
            return await get_session(deps_of(request), caller, session_id, _NO_QUERY, seen)

        return handle


router.add_api_route(
    "/v1/agents/{session_id}",
    get_session,
    methods=["GET"],
    response_model=SessionView,
    summary="Look at a session",
    responses={304: {"description": "It has not changed since `If-None-Match`"}, **documented(Code.NOT_FOUND)},
    route_class_override=Poll,
)


def entries(text: str) -> dict[str, Any]:
    """The entries that a session's metadata must have.

    Raises:
        Refused: it is no object of metadata.
    """
    try:
        found = _METADATA.validate_json(text)
    except ValidationError as error:
        message = 'This is no JSON object of metadata, such as {"customer": "acme"}.'
        raise Refused(message, code=Code.INVALID_REQUEST, errors=[FieldError("/query/metadata", message)]) from error
    return dict(found)


@router.get(
    "/v1/agents",
    response_model=Page[SessionSummary],
    summary="List sessions",
    responses=documented(),
)
async def list_sessions(deps: Needs, caller: AnyRole, query: Annotated[SessionsQuery, Query()]) -> Response:
    """Newest first, a page at a time. All filters must hold. One page is looked for among 20,000 sessions at most: with filters
    that few fulfil it may have fewer entries than `limit`, or none, and a cursor all the same."""
    which = SessionFilter(
        status=query.status,
        phase=query.phase,
        model=None if query.model is None else clean(query.model),
        created_after=query.created_after,
        created_before=query.created_before,
        metadata=None if query.metadata is None else clean_json(entries(query.metadata)),
        text=None if query.q is None else clean(query.q),
        before=cursors.decode(query.cursor),
        limit=query.limit,
    )
    async with within():
        found = await deps.snapshots.list_sessions(caller.org_id, which)
    page = Page[SessionSummary](
        data=found.sessions,
        next_cursor=cursors.encode(*found.go_on) if found.go_on else None,
        has_more=found.go_on is not None,
    )
    return Response(page.model_dump_json(), media_type="application/json")
