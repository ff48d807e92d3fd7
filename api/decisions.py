"""Deciding about a call: the row is read, the workflow decides, its verdict is written, the caller reads their own write."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from api.approvals import find
from api.auth import Caller, MayDecide
from api.bodies import Received, body_of
from api.deps import Deps, Needs
from api.patience import within
from api.problems import Refused, documented
from api.requests import DecisionBody, reference
from conductor_ai.contracts.decisions import Decision, DecisionRequest, Verdict, VerdictKind
from conductor_ai.contracts.status import ApprovalStatus
from conductor_ai.contracts.views import ApprovalView
from conductor_ai.errors import Code, Unavailable

router = APIRouter(tags=["approvals"])

UPDATE_SECONDS = 2.5
"""How long a worker has to take the decision before it is left with Temporal."""
SIGNAL_SECONDS = 1.3
"""How long Temporal has to take it then."""


@router.post(
    "/v1/approvals/{approval_id}/decision",
    response_model=ApprovalView,
    summary="Decide about a call",
    openapi_extra=reference(DecisionBody),
    responses={
        202: {"model": ApprovalView, "description": "No worker took it yet; the decision is on its way"},
        **documented(
            Code.FORBIDDEN,
            Code.NOT_FOUND,
            Code.NOT_SUPPORTED,
            Code.ALREADY_DECIDED,
            Code.APPROVAL_EXPIRED,
            Code.APPROVAL_CLOSED,
            Code.DIGEST_MISMATCH,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.ENGINE_UNAVAILABLE,
        ),
    },
)
async def decide(
    deps: Needs,
    caller: MayDecide,
    approval_id: str,
    body: Annotated[Received[DecisionBody], Depends(body_of(DecisionBody))],
) -> Response:
    """The first decision counts and never flips. The same one again is 200, a contrary one 409 with who and when."""
    async with within():
        view, status = await _decide(deps, caller, approval_id, body.value)
    headers = {"Retry-After": "2", "Location": f"/v1/approvals/{view.id}"} if status == 202 else {}
    return Response(view.model_dump_json(), status, media_type="application/json", headers=headers)


async def _decide(deps: Deps, caller: Caller, approval_id: str, body: DecisionBody) -> tuple[ApprovalView, int]:
    approval = await find(deps.snapshots, caller.org_id, approval_id)
    if body.arguments_sha256 != approval.arguments_sha256:
        raise _digest_refusal()
    if approval.status is not ApprovalStatus.PENDING:
        return _closed(approval, body), 200
    request = DecisionRequest(
        call_id=approval.call_id,
        decision=body.decision,
        arguments_sha256=body.arguments_sha256,
        # Made of who decides what, so that the same decision, sent again, is the same to workflow and database. The
        # approval's id is part of it: after a reset the call is asked again, under another one.
        decision_id=f"{approval.id}:{body.decision}:{caller.id}",
        by=caller.signature,
        via="api",
        comment=body.comment,
    )
    intention = _intention(caller, request)
    await deps.sessions.intend(caller.org_id, intention)
    try:
        async with within(UPDATE_SECONDS + 0.4, Code.ENGINE_UNAVAILABLE):
            verdict = await deps.engine.decide(approval.session_id, request, seconds=UPDATE_SECONDS)
        if verdict is None:
            return await _leave(deps, caller, approval, request, body)
        return await _heed(deps, caller, approval, verdict, body)
    except Refused:
        # Only what is certain is taken back. After an Unavailable the decision may still arrive, and is this person's.
        await deps.sessions.withdraw(intention)
        raise


async def _heed(
    deps: Deps, caller: Caller, approval: ApprovalView, verdict: Verdict, body: DecisionBody
) -> tuple[ApprovalView, int]:
    """Write down and answer what the workflow said."""
    if verdict.decision is not None:
        await deps.sessions.decided(approval.session_id, verdict.decision, allow_unverified=deps.settings.allow_signals)
    if verdict.kind is VerdictKind.DIGEST_MISMATCH:
        raise _digest_refusal()
    if verdict.kind is VerdictKind.EXPIRED:
        raise _expired_refusal()
    now = await find(deps.snapshots, caller.org_id, approval.id)
    if now.status is not ApprovalStatus.PENDING:
        return _closed(now, body), 200
    if verdict.kind is VerdictKind.UNKNOWN_CALL:
        return now, 202  # set back to before the call: the workflow keeps the decision in case the call comes again
    raise _closed_refusal()


async def _leave(
    deps: Deps, caller: Caller, approval: ApprovalView, request: DecisionRequest, body: DecisionBody
) -> tuple[ApprovalView, int]:
    """No worker took it: leave it with Temporal, for whichever comes."""
    approval = await find(deps.snapshots, caller.org_id, approval.id)
    if approval.status is not ApprovalStatus.PENDING:
        return _closed(approval, body), 200
    if datetime.now(UTC) >= approval.expires_at:
        raise _expired_refusal()
    if not deps.settings.allow_signals:
        raise Unavailable(
            "No worker took the decision in time, and this server does not leave decisions as signals "
            "(CONDUCTOR_ALLOW_SIGNALS). Nothing was decided; try again when a worker runs.",
            code=Code.ENGINE_UNAVAILABLE,
        )
    async with within(SIGNAL_SECONDS, Code.ENGINE_UNAVAILABLE):
        open_still = await deps.engine.signal_decision(approval.session_id, request)
    if not open_still:
        raise _closed_refusal()
    return await find(deps.snapshots, caller.org_id, approval.id), 202


def _intention(caller: Caller, request: DecisionRequest) -> Decision:
    """What is written down before the decision travels through Temporal, where nobody can prove who sent it."""
    assert request.decision_id is not None
    return Decision(
        call_id=request.call_id,
        decision_id=request.decision_id,
        decision=request.decision,
        arguments_sha256=request.arguments_sha256,
        by=caller.signature,
        verified=True,
        via="api",
        comment=request.comment,
        at=datetime.now(UTC),
    )


def _closed(approval: ApprovalView, body: DecisionBody) -> ApprovalView:
    """The approval, if it was closed as this decision wants it.

    Raises:
        Refused: it was not.
    """
    if approval.status is ApprovalStatus.EXPIRED:
        raise _expired_refusal()
    if approval.status not in (ApprovalStatus.APPROVED, ApprovalStatus.DENIED):
        raise _closed_refusal()
    if approval.status is (ApprovalStatus.APPROVED if body.decision == "approve" else ApprovalStatus.DENIED):
        return approval
    counted = next((item for item in approval.decisions if item.counted), None)
    who = "" if counted is None else f" by {counted.by} at {counted.at.isoformat()}"
    raise Refused(
        f"It was {approval.status.value}{who}. A decision never flips.",
        code=Code.ALREADY_DECIDED,
        extra={} if counted is None else {"decided": counted.model_dump(mode="json", include={"by", "decision", "at"})},
    )


def _digest_refusal() -> Refused:
    return Refused(
        "`arguments_sha256` is not that of this call. Look at the approval again, and send the digest of what you saw.",
        code=Code.DIGEST_MISMATCH,
    )


def _expired_refusal() -> Refused:
    return Refused(
        "Nobody decided in time. The agent was told so and goes on without this call.", code=Code.APPROVAL_EXPIRED
    )


def _closed_refusal() -> Refused:
    return Refused(
        "The session does not wait for this decision any more: it has ended, or was set back.",
        code=Code.APPROVAL_CLOSED,
    )
