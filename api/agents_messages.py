"""Messages to a session that runs: stored first, then announced to the workflow, which reads them before its next model call."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from api.agents_control import UPDATE_SECONDS
from api.auth import MayOperate
from api.bodies import Received, body_of
from api.deps import Deps, Needs
from api.idempotency import id_of, lease_of
from api.ids import is_id
from api.patience import within
from api.problems import Refused, documented
from api.requests import MessageBody, reference
from conductor_ai import names
from conductor_ai.contracts.answers import MessageAccepted
from conductor_ai.contracts.control import ControlAnswer, ControlKind, MessageNotice
from conductor_ai.errors import Code, NotFound, Unavailable
from conductor_ai.stores.controlling import Posted

router = APIRouter(tags=["sessions"])

SIGNAL_SECONDS = 1.0


@router.post(
    "/v1/agents/{session_id}/messages",
    status_code=202,
    response_model=MessageAccepted,
    summary="Write to a session",
    openapi_extra=reference(MessageBody),
    responses=documented(
        Code.FORBIDDEN,
        Code.NOT_FOUND,
        Code.SESSION_ENDED,
        Code.SESSION_BUSY,
        Code.TOO_MANY_MESSAGES,
        Code.BODY_TOO_LARGE,
        Code.UNSUPPORTED_MEDIA_TYPE,
        Code.ENGINE_UNAVAILABLE,
    ),
)
async def post_message(
    request: Request,
    deps: Needs,
    caller: MayOperate,
    session_id: str,
    body: Annotated[Received[MessageBody], Depends(body_of(MessageBody))],
) -> Response:
    """The next turn of a chat, or a word to a run that is still going. The model reads it before its next answer.

    `if_busy` says what happens while the session is at work: `enqueue` it, `interrupt` the model's answer under way and calls
    that wait for a person (a tool that runs is finished first), or `reject` the message.
    """
    if not is_id("sess", session_id):
        raise NotFound("There is no such session.")
    given = body.value
    async with within():
        posted = await deps.controls.post(
            caller.org_id,
            session_id,
            given.content,
            caller.signature,
            id_of(request, "msg"),
            only_if_idle=given.if_busy == "reject",
            lease=lease_of(request),
        )
    notice = MessageNotice(
        message_id=posted.message_id,
        interrupt=given.if_busy == "interrupt",
        only_if_idle=given.if_busy == "reject",
    )
    try:
        answer = await _announce(deps, posted, notice)
        _heed(answer)
    except (Refused, Unavailable):
        # Also what may have arrived without our knowing: a workflow that is told of a message that is gone reads nothing.
        async with within():
            withdrawn = await deps.controls.withdraw(posted)
        if withdrawn:
            raise
    accepted = MessageAccepted(message_id=posted.message_id, session_id=session_id, poll_url=f"/v1/agents/{session_id}")
    return Response(accepted.model_dump_json(), 202, media_type="application/json")


async def _announce(deps: Deps, posted: Posted, notice: MessageNotice) -> ControlAnswer | None:
    """Tell the workflow. None: it is left with Temporal for whichever worker comes.

    Raises:
        Refused: the workflow is closed.
        Unavailable: Temporal is away, or no worker answered and the message may not be left as a signal.
    """
    async with within(UPDATE_SECONDS + 0.4, Code.ENGINE_UNAVAILABLE):
        if posted.start is not None:
            answer = await deps.engine.message(posted.start, notice, seconds=UPDATE_SECONDS)
        else:
            answer = await deps.engine.control(posted.session_id, names.MESSAGE, notice, seconds=UPDATE_SECONDS)
    if answer is not None:
        return answer
    if notice.only_if_idle:
        raise Unavailable(
            "No worker could say in time whether the session is idle. Try again when a worker runs.",
            code=Code.ENGINE_UNAVAILABLE,
        )
    async with within(SIGNAL_SECONDS, Code.ENGINE_UNAVAILABLE):
        if not await deps.engine.signal(posted.session_id, names.MESSAGE, notice):
            raise Refused("The session has ended; it reads no more messages.", code=Code.SESSION_ENDED)
    return None


def _heed(answer: ControlAnswer | None) -> None:
    match None if answer is None else answer.kind:
        case ControlKind.CLOSED:
            raise Refused("The session is ending; it reads no more messages.", code=Code.SESSION_ENDED)
        case ControlKind.BUSY:
            raise Refused(
                "The session is at work, and the message was for an idle one. Wait for the phase `awaiting_input`, or send it "
                "with `if_busy` `enqueue` or `interrupt`.",
                code=Code.SESSION_BUSY,
            )
        case ControlKind.FULL:
            raise Refused("Too many messages wait to be read. Try again later.", code=Code.TOO_MANY_MESSAGES)
        case _:
            return
