"""Starting a session: first the row, then the workflow, then the answer, which is made from the row."""

import logging
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response

from api.agents import BUSY, needs_somebody, session_response
from api.auth import MayOperate
from api.bodies import Received, body_of
from api.deps import Deps, Needs
from api.idempotency import answers_repeats_itself
from api.patience import ENGINE_SECONDS, within
from api.problems import documented
from api.requests import RunQuery, RunRequest, reference
from api.starting import idempotency_key, new_session
from conductor_ai.contracts.answers import RunAccepted
from conductor_ai.contracts.views import SessionView
from conductor_ai.errors import Code, Unavailable
from conductor_ai.settings import Settings
from conductor_ai.stores.sessions import IdempotencyKey, Started

log = logging.getLogger(__name__)
router = APIRouter(tags=["sessions"])


@router.post(
    "/v1/agents/run",
    status_code=202,
    response_model=RunAccepted,
    summary="Start a session",
    openapi_extra=reference(RunRequest),
    responses={
        200: {"model": SessionView, "description": "It ended, or needs somebody, within `wait`"},
        **documented(
            Code.FORBIDDEN,
            Code.NOT_SUPPORTED,
            Code.UNKNOWN_MODEL,
            Code.MODEL_RETIRED,
            Code.UNKNOWN_TOOL,
            Code.TOO_MANY_SESSIONS,
            Code.IDEMPOTENCY_MISMATCH,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.ENGINE_UNAVAILABLE,
        ),
    },
)
@answers_repeats_itself
async def run(
    deps: Needs,
    caller: MayOperate,
    body: Annotated[Received[RunRequest], Depends(body_of(RunRequest))],
    query: Annotated[RunQuery, Query()],
    idempotency_key_header: Annotated[str | None, Header(alias="Idempotency-Key")] = None,
) -> Response:
    """Answers once Temporal has accepted the start, never before.

    With an `Idempotency-Key` the same request can be sent again, for 24 hours, without starting a second session.
    After a 503 the session may or may not start: send the request again with the same key.
    """
    key = idempotency_key(idempotency_key_header, body.sha256)
    async with within():
        started = await _start(deps, caller.org_id, body.value, key)
    headers = {"Idempotency-Replayed": "true"} if started.replayed else {}
    if query.wait:
        try:
            view = await deps.reader.follow(
                caller.org_id, started.session_id, seconds=query.wait, until=needs_somebody, passing=BUSY
            )
        except Unavailable as error:
            log.info("started %s, but cannot wait for it: %s", started.session_id, error.code)
        else:
            if needs_somebody(view):
                return session_response(view, headers=headers)
    accepted = _accepted(started, deps.settings)
    return Response(
        accepted.model_dump_json(),
        202,
        media_type="application/json",
        headers={**headers, "Location": accepted.poll_url},
    )


async def _start(deps: Deps, org_id: str, request: RunRequest, key: IdempotencyKey | None) -> Started:
    started = None if key is None else await deps.sessions.adopted(org_id, key)
    if started is None:
        new = new_session(request, org_id, deps.settings, await deps.tools.published(), datetime.now(UTC))
        started = await deps.sessions.create(new, key, most_open=deps.settings.sessions_per_org)
    if started.start_state == "starting":
        async with within(ENGINE_SECONDS, Code.ENGINE_UNAVAILABLE):
            await deps.engine.start(started.input)
        try:
            await deps.sessions.mark_started(started.session_id)
        except Unavailable as error:  # the first write of the workflow says the same
            log.info("started %s, but could not note it: %s", started.session_id, error.code)
    return started


def _accepted(started: Started, settings: Settings) -> RunAccepted:
    url = f"/v1/agents/{started.session_id}"
    links = {
        "self": url,
        "cancel": f"{url}/cancel",
        "approvals": f"/v1/approvals?session_id={started.session_id}",
    }
    if settings.temporal_ui_url:
        base = settings.temporal_ui_url.rstrip("/")
        links["temporal"] = f"{base}/namespaces/{settings.temporal_namespace}/workflows/{started.session_id}"
    return RunAccepted(session_id=started.session_id, poll_url=url, links=links, created_at=started.created_at)
