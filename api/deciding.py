"""How one decision is taken: the row is read, the workflow decides, its verdict is written, the caller reads their own write."""

from datetime import UTC, datetime
from itertools import islice
from typing import Any

from jsonschema_rs import Draft202012Validator

from api.approvals import find
from api.auth import Caller
from api.deps import Deps
from api.patience import within
from api.problems import FieldError, Refused
from api.requests import DecisionBody
from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.decisions import Decision, DecisionRequest, Verdict, VerdictKind
from conductor_ai.contracts.status import ApprovalStatus
from conductor_ai.contracts.views import ApprovalView
from conductor_ai.digest import NotCanonicalError, content_sha256
from conductor_ai.errors import Code, Unavailable
from conductor_ai.stores.deciding import CLOSES

UPDATE_SECONDS = 2.5
"""How long a worker has to take the decision before it is left with Temporal."""
SIGNAL_SECONDS = 1.3
"""How long Temporal has to take it then."""


async def decide_one(
    deps: Deps, caller: Caller, approval: ApprovalView, body: DecisionBody
) -> tuple[ApprovalView, int]:
    if body.arguments_sha256 != approval.arguments_sha256:
        raise _digest_refusal()
    if approval.status is not ApprovalStatus.PENDING:
        return _closed(approval, body), 200
    if body.arguments is not None:
        await _must_fit(deps, approval.tool, body.arguments)
    _check_grant(approval, body)
    payload = body.payload
    content = content_digest(payload)
    request = DecisionRequest(
        call_id=approval.call_id,
        decision=body.decision,
        arguments_sha256=body.arguments_sha256,
        round=approval.round,
        content_sha256=content,
        # Made of who decides what, so that the same decision, sent again, is the same to workflow and database. The
        # approval's id is part of it: after a reset the call is asked again, under another one.
        decision_id=":".join(part for part in (approval.id, body.decision, caller.id, content[:16]) if part),
        by=caller.signature,
        via="api",
        comment=body.comment,
    )
    intention = _intention(caller, request)
    await deps.intentions.intend(caller.org_id, intention, payload or None)
    try:
        async with within(UPDATE_SECONDS + 0.4, Code.ENGINE_UNAVAILABLE):
            verdict = await deps.engine.decide(approval.session_id, request, seconds=UPDATE_SECONDS)
        if verdict is None:
            return await _leave(deps, caller, approval, request, body)
        return await _heed(deps, caller, approval, verdict, body)
    except Refused:
        # Only what is certain is taken back. After an Unavailable the decision may still arrive, and is this person's.
        await deps.intentions.withdraw(intention)
        raise


def _check_grant(approval: ApprovalView, body: DecisionBody) -> None:
    """A grant must fix something of the call that was seen: with all arguments free it would approve whatever comes.

    Raises:
        Refused: it fixes nothing, or frees an argument that the call does not have.
    """
    free = set() if body.remember is None else set(body.remember.free)
    known = set(approval.arguments) if isinstance(approval.arguments, dict) else set()
    if not free or free < known:
        return
    message = "Name arguments that this call has, and not all of them: a grant fixes at least one."
    raise Refused(message, code=Code.INVALID_REQUEST, errors=[FieldError("/remember/free", message)])


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
        round=request.round,
        content_sha256=request.content_sha256,
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
    if approval.status not in CLOSES.values():
        raise _closed_refusal()
    counted = next((item for item in approval.decisions if item.counted), None)
    if approval.status is CLOSES[body.decision] and (
        counted is None or counted.content_sha256 == content_digest(body.payload)
    ):
        return approval
    who = "" if counted is None else f" by {counted.by} at {counted.at.isoformat()}"
    raise Refused(
        f"It was {approval.status.value}{who}. A decision never flips.",
        code=Code.ALREADY_DECIDED,
        extra={} if counted is None else {"decided": counted.model_dump(mode="json", include={"by", "decision", "at"})},
    )


async def _must_fit(deps: Deps, tool: str, arguments: dict[str, Any]) -> None:
    """Refuse edited arguments that the tool would not take: whoever writes them should learn it now, not the model later.

    Raises:
        Refused: they do not fit the schema that a worker has published. The worker checks them again.
    """
    published = {each.spec.name: each.spec for each in await deps.tools.published()}
    spec = published.get(tool)
    if spec is None:
        return
    found = Draft202012Validator(spec.parameters).iter_errors(arguments)
    errors = [
        FieldError(
            "/arguments" + "".join(f"/{part}" for part in problem.instance_path),
            f"It does not fit the schema's `{problem.schema_path[-1] if problem.schema_path else 'type'}`.",
        )
        for problem in islice(found, 10)
    ]
    if errors:
        raise Refused(
            f"The arguments do not fit {tool}. `GET /v1/tools/{tool}` has its schema.",
            code=Code.INVALID_REQUEST,
            errors=errors,
        )


def content_digest(payload: JsonObject) -> str:
    """The digest of what comes with a decision.

    Raises:
        Refused: the new arguments have a number that programs read differently.
    """
    try:
        return content_sha256(payload)
    except NotCanonicalError as error:
        raise Refused(str(error), code=Code.INVALID_REQUEST, errors=[FieldError("/arguments", str(error))]) from error


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
