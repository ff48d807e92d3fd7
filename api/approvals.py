"""The inbox of calls that people decide about."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api import cursors
from api.auth import AnyRole
from api.deps import Needs
from api.ids import is_id
from api.patience import within
from api.problems import documented
from api.requests import ApprovalsQuery
from conductor_ai.contracts.answers import Page
from conductor_ai.contracts.views import ApprovalView
from conductor_ai.errors import Code, NotFound
from conductor_ai.stores.snapshots import ApprovalFilter, Snapshots
from conductor_ai.text import clean

router = APIRouter(tags=["approvals"])


async def find(snapshots: Snapshots, org_id: str, approval_id: str) -> ApprovalView:
    """One approval of this organisation.

    Raises:
        NotFound: it has no such approval.
    """
    if not is_id("appr", approval_id):
        raise NotFound("There is no such approval.")
    found = await snapshots.approval(org_id, approval_id)
    if found is None:
        raise NotFound("There is no such approval.")
    return found


@router.get("/v1/approvals", response_model=Page[ApprovalView], summary="List approvals", responses=documented())
async def list_approvals(deps: Needs, caller: AnyRole, query: Annotated[ApprovalsQuery, Query()]) -> Response:
    """One inbox across all sessions, newest first, a page at a time. `?status=pending` shows what waits."""
    which = ApprovalFilter(
        status=query.status,
        session_id=None if query.session_id is None else clean(query.session_id),
        before=cursors.decode(query.cursor),
        limit=query.limit + 1,
    )
    async with within():
        rows = await deps.snapshots.list_approvals(caller.org_id, which)
    shown = rows[: query.limit]
    more = len(rows) > len(shown)
    page = Page[ApprovalView](
        data=tuple(shown),
        next_cursor=cursors.encode(shown[-1].requested_at, shown[-1].id) if more else None,
        has_more=more,
    )
    return Response(page.model_dump_json(), media_type="application/json")


@router.get(
    "/v1/approvals/{approval_id}",
    response_model=ApprovalView,
    summary="Look at an approval",
    responses=documented(Code.NOT_FOUND),
)
async def get_approval(deps: Needs, caller: AnyRole, approval_id: str) -> Response:
    """The call, its consequence, who decided what, and what became of it."""
    async with within():
        view = await find(deps.snapshots, caller.org_id, approval_id)
    return Response(view.model_dump_json(), media_type="application/json")
