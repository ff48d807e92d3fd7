"""Keys of an organisation: made, listed and revoked by its admins."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from api import cursors
from api.auth import MayAdminister
from api.bodies import Received, body_of
from api.deps import Needs
from api.idempotency import lease_of
from api.patience import within
from api.problems import documented
from api.requests import KeyRequest, PageQuery, reference
from conductor_ai.contracts.answers import KeyView, NewKey, Page
from conductor_ai.errors import Code
from conductor_ai.stores.access import Key, Role
from conductor_ai.text import clean

router = APIRouter(tags=["keys"])


def _view(key: Key) -> KeyView:
    return KeyView(id=key.id, name=key.name, role=key.role.value, created_at=key.created_at, revoked_at=key.revoked_at)


@router.get("/v1/api-keys", response_model=Page[KeyView], summary="List API keys", responses=documented(Code.FORBIDDEN))
async def list_keys(deps: Needs, caller: MayAdminister, query: Annotated[PageQuery, Query()]) -> Response:
    """The organisation's keys, the newest first, revoked ones too. The keys themselves are not shown: nobody has them."""
    async with within():
        rows = await deps.keys.store.list(caller.org_id, before=cursors.decode(query.cursor), limit=query.limit + 1)
    shown = rows[: query.limit]
    more = len(rows) > len(shown)
    page = Page[KeyView](
        data=tuple(_view(key) for key in shown),
        next_cursor=cursors.encode(shown[-1].created_at, shown[-1].id) if more else None,
        has_more=more,
    )
    return Response(page.model_dump_json(), media_type="application/json")


@router.post(
    "/v1/api-keys",
    status_code=201,
    response_model=NewKey,
    summary="Make an API key",
    openapi_extra=reference(KeyRequest),
    responses=documented(Code.FORBIDDEN, Code.BODY_TOO_LARGE, Code.UNSUPPORTED_MEDIA_TYPE),
)
async def create_key(
    request: Request,
    deps: Needs,
    caller: MayAdminister,
    body: Annotated[Received[KeyRequest], Depends(body_of(KeyRequest))],
) -> Response:
    """For the caller's own organisation. The `secret` is shown this once: it is kept as a hash. A repeat of the request with
    the same `Idempotency-Key` makes no second key, and cannot show the secret again. If the answer never left, because the
    server died, the repeat gives the same key another secret."""
    given = body.value
    async with within():
        key, secret = await deps.keys.store.create(
            caller.org_id, clean(given.name), Role(given.role), lease_of(request)
        )
    made = NewKey(**_view(key).model_dump(), secret=secret)
    return Response(made.model_dump_json(), 201, media_type="application/json", headers={"Cache-Control": "no-store"})


@router.delete(
    "/v1/api-keys/{key_id}",
    status_code=204,
    response_class=Response,
    summary="Revoke an API key",
    responses=documented(Code.FORBIDDEN, Code.NOT_FOUND),
)
async def revoke_key(deps: Needs, caller: MayAdminister, key_id: str) -> Response:
    """Every process refuses it within 60 seconds, this one at once, and its open streams end. Again: 204."""
    async with within():
        await deps.keys.store.revoke(caller.org_id, key_id)
    deps.keys.forget(key_id)
    return Response(status_code=204)
