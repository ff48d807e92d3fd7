"""Pausing, resuming and the budget of a session: the workflow answers, the row follows."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from api.agents import session_response
from api.auth import MayOperate
from api.bodies import Received, body_of
from api.deps import Deps, Needs
from api.patience import within
from api.problems import Refused, documented
from api.requests import BudgetBody, PauseBody, ResumeBody, reference
from conductor_ai import names
from conductor_ai.contracts.base import Contract
from conductor_ai.contracts.control import (
    LIMITS,
    BudgetRequest,
    ControlAnswer,
    ControlKind,
    Limits,
    PauseRequest,
    ResumeRequest,
)
from conductor_ai.contracts.views import SessionView
from conductor_ai.errors import Code, Unavailable

router = APIRouter(tags=["sessions"])

UPDATE_SECONDS = 3.0
"""How long a worker has to take it."""
SHOWN_SECONDS = 1.0
"""How long the answer waits for the session to show what was asked."""


async def _told(deps: Deps, session: SessionView, name: str, request: Contract) -> ControlAnswer:
    """What the workflow says.

    Raises:
        Refused: the session has ended.
        Unavailable: no worker answered.
    """
    async with within(UPDATE_SECONDS + 0.4, Code.ENGINE_UNAVAILABLE):
        answer = await deps.engine.control(session.session_id, name, request, seconds=UPDATE_SECONDS)
    if answer is None:
        raise Unavailable(
            "No worker took this in time. It may still take effect; the same request again does no harm.",
            code=Code.ENGINE_UNAVAILABLE,
        )
    if answer.kind is ControlKind.CLOSED:
        raise _ended()
    return answer


def _ended() -> Refused:
    return Refused("The session has ended, or is ending.", code=Code.SESSION_ENDED)


async def _open(deps: Deps, org_id: str, session_id: str) -> SessionView:
    async with within():
        session = await deps.reader.read(org_id, session_id)
    if session.status.ended:
        raise _ended()
    return session


@router.post(
    "/v1/agents/{session_id}/pause",
    response_model=SessionView,
    summary="Pause a session",
    openapi_extra=reference(PauseBody, required=False),
    responses=documented(
        Code.FORBIDDEN, Code.NOT_FOUND, Code.SESSION_ENDED, Code.BODY_TOO_LARGE, Code.ENGINE_UNAVAILABLE
    ),
)
async def pause(
    deps: Needs,
    caller: MayOperate,
    session_id: str,
    body: Annotated[Received[PauseBody], Depends(body_of(PauseBody, optional=True))],
) -> Response:
    """It stands still before its next step; what is under way is finished first. Then its phase is `paused`. Again: 200."""
    session = await _open(deps, caller.org_id, session_id)
    await _told(deps, session, names.PAUSE, PauseRequest(reason=body.value.reason or "", by=caller.signature))
    return session_response(
        await deps.reader.follow(
            caller.org_id,
            session_id,
            seconds=SHOWN_SECONDS,
            until=lambda now: now.paused is not None or now.status.ended,
        )
    )


@router.post(
    "/v1/agents/{session_id}/resume",
    response_model=SessionView,
    summary="Resume a session",
    openapi_extra=reference(ResumeBody, required=False),
    responses=documented(
        Code.FORBIDDEN,
        Code.NOT_FOUND,
        Code.SESSION_ENDED,
        Code.SESSION_PAUSED,
        Code.BODY_TOO_LARGE,
        Code.ENGINE_UNAVAILABLE,
    ),
)
async def resume(
    deps: Needs,
    caller: MayOperate,
    session_id: str,
    _body: Annotated[Received[ResumeBody], Depends(body_of(ResumeBody, optional=True))],
) -> Response:
    """It goes on. A session whose budget is used up does so only once that is raised. Not paused: 200."""
    session = await _open(deps, caller.org_id, session_id)
    answer = await _told(deps, session, names.RESUME, ResumeRequest(by=caller.signature))
    if answer.kind is ControlKind.OVER_BUDGET:
        raise Refused(
            "The session's budget is used up. Raise it by PATCH /v1/agents/{id}/budget, and it goes on by itself.",
            code=Code.SESSION_PAUSED,
        )
    return session_response(
        await deps.reader.follow(
            caller.org_id, session_id, seconds=SHOWN_SECONDS, until=lambda now: now.paused is None or now.status.ended
        )
    )


@router.patch(
    "/v1/agents/{session_id}/budget",
    response_model=SessionView,
    summary="Change what a session may spend",
    openapi_extra=reference(BudgetBody),
    responses=documented(
        Code.FORBIDDEN,
        Code.NOT_FOUND,
        Code.SESSION_ENDED,
        Code.BODY_TOO_LARGE,
        Code.UNSUPPORTED_MEDIA_TYPE,
        Code.ENGINE_UNAVAILABLE,
    ),
)
async def set_budget(
    deps: Needs,
    caller: MayOperate,
    session_id: str,
    body: Annotated[Received[BudgetBody], Depends(body_of(BudgetBody))],
) -> Response:
    """A limit that is not named stays as it is, one that is null is lifted. Raising one resumes a session that waits for it.

    The answer comes once the change is stored. After a 503 it may still take effect; the same request again does no harm.
    """
    session = await _open(deps, caller.org_id, session_id)
    given = body.value
    # Only what was given: the workflow knows the rest, whoever else is changing it right now.
    wanted = BudgetRequest(
        limits=Limits(max_cost_usd=given.cost, max_total_tokens=given.max_total_tokens),
        named=tuple(name for name in LIMITS if name in given.model_fields_set),
        by=caller.signature,
    )
    answer = await _told(deps, session, names.SET_BUDGET, wanted)
    paused = answer.pause is not None
    return session_response(
        await deps.reader.follow(
            caller.org_id,
            session_id,
            seconds=SHOWN_SECONDS,
            until=lambda now: (now.paused is not None) == paused or now.status.ended,
        )
    )
