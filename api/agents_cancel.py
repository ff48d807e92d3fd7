"""Cancelling: the row decides, then Temporal is told, then the end is waited for."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from api.auth import MayOperate
from api.bodies import Received, body_of
from api.deps import Needs
from api.ids import is_id
from api.patience import ENGINE_SECONDS, within
from api.problems import Refused, documented
from api.requests import CancelRequest, reference
from conductor_ai.contracts.answers import CancelAnswer
from conductor_ai.contracts.status import Phase, Status
from conductor_ai.errors import Code, NotFound
from conductor_ai.stores.sessions import CancelVerdict

router = APIRouter(tags=["sessions"])

WAIT_SECONDS = 5.0
"""How long a cancel waits for the end of the session."""


@router.post(
    "/v1/agents/{session_id}/cancel",
    response_model=CancelAnswer,
    summary="Cancel a session",
    openapi_extra=reference(CancelRequest, required=False),
    responses={
        202: {"model": CancelAnswer, "description": "It will be cancelled; what runs is still being stopped"},
        **documented(
            Code.FORBIDDEN,
            Code.NOT_FOUND,
            Code.SESSION_ENDED,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.ENGINE_UNAVAILABLE,
        ),
    },
)
async def cancel(
    deps: Needs,
    caller: MayOperate,
    session_id: str,
    body: Annotated[Received[CancelRequest], Depends(body_of(CancelRequest, optional=True))],
) -> Response:
    """From the moment this is accepted the session can only end as cancelled. Asking again is no error.

    After a 503 that names Temporal the wish is stored and will be carried out; asking again is safe.
    """
    if not is_id("sess", session_id):
        raise NotFound("There is no such session.")
    clock = asyncio.get_running_loop().time
    deadline = clock() + WAIT_SECONDS
    async with within():
        verdict = await deps.sessions.request_cancel(caller.org_id, session_id, body.value.reason)
        if verdict is CancelVerdict.ENDED:
            raise Refused(
                "The session has completed or failed already; there is nothing left to cancel.", code=Code.SESSION_ENDED
            )
        if verdict is CancelVerdict.ACCEPTED:
            async with within(ENGINE_SECONDS, Code.ENGINE_UNAVAILABLE):
                await deps.engine.cancel(session_id)
    if verdict is CancelVerdict.CANCELLED:
        return _answer(CancelAnswer(session_id=session_id, status=Status.CANCELLED, phase=Phase.DONE, message=DONE))
    view = await deps.reader.follow(
        caller.org_id, session_id, seconds=max(0.0, deadline - clock()), until=lambda now: now.status.ended
    )
    message = DONE if view.status.ended else "The session is being cancelled. What it was doing is still being stopped."
    phase = Phase.DONE if view.status.ended else Phase.CANCELLING
    return _answer(CancelAnswer(session_id=session_id, status=view.status, phase=phase, message=message))


DONE = "The session is cancelled."


def _answer(answer: CancelAnswer) -> Response:
    return Response(answer.model_dump_json(), 200 if answer.status.ended else 202, media_type="application/json")
