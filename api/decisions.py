"""The routes that decide about calls: one, many at once, and the short form."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from api.approvals import find
from api.auth import Caller, MayDecide
from api.bodies import Received, body_of
from api.deciding import decide_one
from api.deps import Deps, Needs
from api.idempotency import tells_of
from api.ids import is_id
from api.patience import within
from api.problems import STATUSES, Refused, documented
from api.requests import ApproveStepBody, BatchBody, BatchItem, DecisionBody, reference
from conductor_ai.contracts.answers import BatchAnswer, BatchResult
from conductor_ai.contracts.status import ApprovalStatus
from conductor_ai.contracts.views import ApprovalView
from conductor_ai.errors import Code, ConductorError, NotFound
from conductor_ai.stores.snapshots import ApprovalFilter

router = APIRouter(tags=["approvals"])

_TOGETHER = 8
"""Decisions of one batch that are brought to Temporal at the same time."""

_BATCH_SECONDS = 4.5
"""Nobody waits over 5 s, however many there are."""

_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"model": ApprovalView, "description": "No worker took it yet; the decision is on its way"},
    **documented(
        Code.FORBIDDEN,
        Code.NOT_FOUND,
        Code.ALREADY_DECIDED,
        Code.APPROVAL_EXPIRED,
        Code.APPROVAL_CLOSED,
        Code.DIGEST_MISMATCH,
        Code.BODY_TOO_LARGE,
        Code.UNSUPPORTED_MEDIA_TYPE,
        Code.ENGINE_UNAVAILABLE,
    ),
}


@router.post(
    "/v1/approvals/{approval_id}/decision",
    response_model=ApprovalView,
    summary="Decide about a call",
    openapi_extra=reference(DecisionBody),
    responses=_RESPONSES,
)
async def decide(
    deps: Needs,
    caller: MayDecide,
    approval_id: str,
    body: Annotated[Received[DecisionBody], Depends(body_of(DecisionBody))],
) -> Response:
    """The first decision counts and never flips. The same one again is 200, a contrary one 409 with who and when.

    After an `edit` the approval is closed as `edited`, and the call is put to the policy with its new arguments: if that
    asks, another approval appears, which shows what they would do.
    """
    async with within():
        approval = await find(deps.snapshots, caller.org_id, approval_id)
        view, status = await decide_one(deps, caller, approval, body.value)
    return _response(view, status)


def _response(view: ApprovalView, status: int) -> Response:
    headers = {"Retry-After": "2", "Location": f"/v1/approvals/{view.id}"} if status == 202 else {}
    return Response(view.model_dump_json(), status, media_type="application/json", headers=headers)


@router.post(
    "/v1/approvals/decisions",
    response_model=BatchAnswer,
    summary="Decide about many calls",
    openapi_extra=reference(BatchBody),
    responses=documented(Code.FORBIDDEN, Code.BODY_TOO_LARGE, Code.UNSUPPORTED_MEDIA_TYPE),
)
async def decide_many(
    request: Request, deps: Needs, caller: MayDecide, body: Annotated[Received[BatchBody], Depends(body_of(BatchBody))]
) -> Response:
    """A result for each decision, in their order, with the status that it would have had alone."""
    free, until = asyncio.Semaphore(_TOGETHER), asyncio.get_running_loop().time() + _BATCH_SECONDS
    about: set[str] = set()

    async def one(item: BatchItem) -> BatchResult:
        try:
            async with asyncio.timeout_at(until), free:
                return await _item(deps, caller, item, about)
        except TimeoutError:
            return BatchResult(
                approval_id=item.approval_id,
                status=503,
                code=Code.ENGINE_UNAVAILABLE.value,
                detail="The time of the whole request was over. It is not known whether this one was decided: send it again.",
            )

    results = await asyncio.gather(*(one(item) for item in body.value.decisions))
    # What was refused may say who had decided, and does not name its session.
    tells_of(request, about)
    return Response(BatchAnswer(results=tuple(results)).model_dump_json(), media_type="application/json")


async def _item(deps: Deps, caller: Caller, item: BatchItem, about: set[str]) -> BatchResult:
    try:
        async with within():
            approval = await find(deps.snapshots, caller.org_id, item.approval_id)
            about.add(approval.session_id)
            view, status = await decide_one(deps, caller, approval, item)
    except ConductorError as error:
        return BatchResult(
            approval_id=item.approval_id,
            status=(error.status if isinstance(error, Refused) else None) or STATUSES[error.code][0],
            code=error.code.value,
            detail=error.message,
        )
    return BatchResult(approval_id=item.approval_id, status=status, approval=view)


@router.post(
    "/v1/agents/{session_id}/approve/{step_id}",
    response_model=ApprovalView,
    summary="Decide about the call of a step",
    openapi_extra=reference(ApproveStepBody),
    responses={**_RESPONSES, **documented(Code.AMBIGUOUS, Code.DIGEST_MISMATCH)},
)
async def approve_step(
    deps: Needs,
    caller: MayDecide,
    session_id: str,
    step_id: str,
    body: Annotated[Received[ApproveStepBody], Depends(body_of(ApproveStepBody))],
) -> Response:
    """The short form, for steps with one waiting call. `step_id` is the number of the step, or the id of the call.

    A call that is asked again, because its effect has changed or its arguments were edited, is not what was seen before: it is
    decided by its approval's id, or by the digest of its new arguments.
    """
    given = body.value
    async with within():
        approval = await _of_step(deps, caller, session_id, step_id, given.arguments_sha256)
        decision = DecisionBody(
            decision="deny" if not given.approved else "approve" if given.modified_args is None else "edit",
            arguments_sha256=given.arguments_sha256 or approval.arguments_sha256,
            comment=given.comment,
            arguments=given.modified_args,
        )
        view, status = await decide_one(deps, caller, approval, decision)
    return _response(view, status)


async def _of_step(deps: Deps, caller: Caller, session_id: str, step_id: str, seen: str | None) -> ApprovalView:
    """The approval that is meant: the waiting one of that step, else the last one."""
    if not is_id("sess", session_id):
        raise NotFound("There is no such session.")
    found = await deps.snapshots.list_approvals(caller.org_id, ApprovalFilter(session_id=session_id, limit=200))
    matching = [each for each in found if step_id in (str(each.step), each.call_id)]
    if not matching:
        raise NotFound("This step has no call that somebody decides about.")
    pending = [each for each in matching if each.status is ApprovalStatus.PENDING]
    if len(pending) > 1:
        raise Refused(
            f"{len(pending)} calls of this step wait for a decision. Decide by POST /v1/approvals/{{id}}/decision, or "
            "name a call's id in the place of the step.",
            code=Code.AMBIGUOUS,
        )
    meant = (pending or matching)[0]
    earlier = {each.arguments_sha256 for each in matching if each.call_id == meant.call_id and each.round < meant.round}
    if pending and meant.round > 1 and (seen is None or seen in earlier):
        raise Refused(
            "This call is asked again: its effect has changed, or its arguments were edited. Look at it, and decide by POST "
            f"/v1/approvals/{meant.id}/decision.",
            code=Code.AMBIGUOUS,
        )
    return await find(deps.snapshots, caller.org_id, meant.id)
