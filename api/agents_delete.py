"""Deleting a session that has ended."""

from fastapi import APIRouter, Response

from api.auth import MayAdminister
from api.deps import Needs
from api.patience import within
from api.problems import documented
from conductor_ai.errors import Code, Conflict, NotFound
from conductor_ai.stores.erasing import EraseVerdict

router = APIRouter(tags=["sessions"])


@router.delete(
    "/v1/agents/{session_id}",
    status_code=204,
    response_class=Response,
    summary="Delete a session",
    responses=documented(Code.FORBIDDEN, Code.NOT_FOUND, Code.SESSION_OPEN),
)
async def delete_session(deps: Needs, caller: MayAdminister, session_id: str) -> Response:
    """Erases everything that was said and done in a session that has ended, from the database and from Redis, at once. What
    stays is a line in the audit: that it was there, what it cost, and who deleted it when. Afterwards its id is a 404; the
    same request again is 204. A session that has not ended is 409: cancel it first.

    Grants that were given in it for the whole organisation hold until they are revoked, with the arguments that they fix.

    Temporal keeps its own history, which has previews and no whole texts, for the retention of its namespace.
    """
    async with within():
        verdict = await deps.erasing.erase(
            caller.org_id,
            session_id,
            by=caller.signature,
            copies=lambda: deps.hot.erase(caller.org_id, session_id),
        )
    deps.reader.forget(caller.org_id, session_id)
    match verdict:
        case EraseVerdict.UNKNOWN:
            raise NotFound("There is no such session.")
        case EraseVerdict.OPEN:
            raise Conflict("The session has not ended. Cancel it first.", code=Code.SESSION_OPEN)
        case _:
            return Response(status_code=204)
