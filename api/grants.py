"""Grants: approvals that are remembered. Made with a decision (`remember`), listed and revoked here."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api import cursors
from api.auth import AnyRole, MayDecide
from api.deps import Needs
from api.ids import is_id
from api.patience import within
from api.problems import documented
from api.requests import GrantsQuery
from conductor_ai.contracts.answers import Page
from conductor_ai.contracts.grants import GrantView
from conductor_ai.errors import Code, NotFound

router = APIRouter(tags=["approvals"])


def _known(found: GrantView | None) -> Response:
    if found is None:
        raise NotFound("There is no such grant.")
    return Response(found.model_dump_json(), media_type="application/json")


@router.get("/v1/grants", response_model=Page[GrantView], summary="List grants", responses=documented())
async def list_grants(deps: Needs, caller: AnyRole, query: Annotated[GrantsQuery, Query()]) -> Response:
    """What is approved without asking, newest first, a page at a time."""
    async with within():
        rows = await deps.grants.list(
            caller.org_id, live=query.live, before=cursors.decode(query.cursor), limit=query.limit + 1
        )
    shown = rows[: query.limit]
    more = len(rows) > len(shown)
    page = Page[GrantView](
        data=tuple(shown),
        next_cursor=cursors.encode(shown[-1].created_at, shown[-1].id) if more else None,
        has_more=more,
    )
    return Response(page.model_dump_json(), media_type="application/json")


@router.get(
    "/v1/grants/{grant_id}", response_model=GrantView, summary="Look at a grant", responses=documented(Code.NOT_FOUND)
)
async def get_grant(deps: Needs, caller: AnyRole, grant_id: str) -> Response:
    """What it covers, how often still, and who gave it."""
    async with within():
        found = await deps.grants.find(caller.org_id, grant_id) if is_id("grant", grant_id) else None
    return _known(found)


@router.delete(
    "/v1/grants/{grant_id}",
    response_model=GrantView,
    summary="Revoke a grant",
    responses=documented(Code.FORBIDDEN, Code.NOT_FOUND),
)
async def revoke_grant(deps: Needs, caller: MayDecide, grant_id: str) -> Response:
    """From now on people are asked again. Calls that it has approved already stay approved. Again: the same answer."""
    async with within():
        known = is_id("grant", grant_id)
        found = await deps.grants.revoke(caller.org_id, grant_id, caller.signature) if known else None
    return _known(found)
