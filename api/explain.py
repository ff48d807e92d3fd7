"""Why does a session not move? The facts are gathered here, within a deadline; what they mean is decided in the kernel."""

import asyncio
from datetime import UTC, datetime

from fastapi import APIRouter, Response

from api.auth import AnyRole
from api.deps import Needs
from api.engine_facts import engine_facts
from api.patience import ANSWER_SECONDS, within
from api.problems import documented
from conductor_ai.contracts.explain import BudgetFacts, ExplainFacts, Explanation, StoredFacts, WaitingApproval
from conductor_ai.contracts.views import SessionView
from conductor_ai.errors import Code, Unavailable
from conductor_ai.explain import explain
from conductor_ai.stores.standing import Standing, standing

router = APIRouter(tags=["sessions"])

ENGINE_SECONDS = 2.0
"""Temporal describes in milliseconds; whoever asks why nothing moves does not wait for it in vain."""


@router.get(
    "/v1/agents/{session_id}/explain",
    response_model=Explanation,
    summary="Why does it not move?",
    responses=documented(Code.NOT_FOUND),
)
async def explain_session(deps: Needs, caller: AnyRole, session_id: str) -> Response:
    """A plain sentence, who has to act, and the facts behind it.

    No worker is needed for it. While Temporal is away, the answer is the database's; while the database is away, it is that of a
    copy (`facts.stored.degraded`).
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    view = await deps.reader.read(caller.org_id, session_id)
    row: Standing | None = None
    if not view.degraded:
        try:
            async with within(max(0.1, ENGINE_SECONDS - (clock() - began))):
                row = await standing(deps.database, caller.org_id, session_id)
        except Unavailable:
            view = view.model_copy(update={"degraded": True})
    engine = None
    if not view.status.ended:
        left = ANSWER_SECONDS - (clock() - began)
        engine = await engine_facts(deps.engine, session_id, seconds=max(0.3, min(ENGINE_SECONDS, left)))
    facts = ExplainFacts(at=datetime.now(UTC), stored=_stored(view, row), engine=engine)
    return Response(explain(session_id, facts).model_dump_json(), media_type="application/json")


def _budget(view: SessionView) -> BudgetFacts | None:
    if view.budget is None:
        return None
    return BudgetFacts(
        max_cost_usd=view.budget.max_cost_usd,
        max_total_tokens=view.budget.max_total_tokens,
        cost_usd=view.total_cost_usd,
        total_tokens=view.input_tokens + view.output_tokens,
    )


def _stored(view: SessionView, row: Standing | None) -> StoredFacts:
    return StoredFacts.model_validate(
        {
            "status": view.status,
            "phase": view.phase,
            "created_at": view.times.created_at,
            "updated_at": view.times.updated_at,
            "ended_at": view.times.ended_at,
            "deadline_at": view.times.deadline_at,
            "stop_reason": view.stop_reason,
            "error": view.error,
            "step_count": view.step_count,
            "start_state": None if row is None else row.start_state,
            "cancel_requested_at": None if row is None else row.cancel_requested_at,
            "approvals": tuple(
                WaitingApproval(id=item.id, tool=item.tool, requested_at=item.requested_at, expires_at=item.expires_at)
                for item in view.pending_approvals
            ),
            "retry": view.retry,
            "paused": view.paused,
            "budget": _budget(view),
            "degraded": view.degraded,
        }
    )
