"""What stands before every route that needs a key: how much it may send, and whose things it may see.

Whose they are is told by the names of the parameters in an address. Reads are scoped by organisation in the stores as well. Here no route can forget it: an app with an address whose parameter
is not named below does not start.
"""

import math
import re
from collections.abc import Mapping

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute

from api.auth import Caller, authenticated
from api.deps import Deps, deps_of
from api.ids import is_id
from api.problems import Refused
from conductor_ai.errors import Code, NotFound
from conductor_ai.settings import Auth
from conductor_ai.stores.access import Owned

OWNED: Mapping[str, tuple[str, Owned]] = {
    "session_id": ("sess", Owned.SESSION),
    "approval_id": ("appr", Owned.APPROVAL),
    "grant_id": ("grant", Owned.GRANT),
    "key_id": ("key", Owned.KEY),
}
"""Parameters that name something of an organisation: the prefix of its id, and what it is."""
PARTS_OF_A_SESSION = frozenset({"step_id", "call_id"})
"""Parameters that name a part of a session, whose own id stands in the address too."""
OPEN_TO_ALL = frozenset({"name", "model_id"})
"""Parameters that name what belongs to the server."""


async def _scoped(request: Request, deps: Deps, caller: Caller) -> None:
    """Lets nobody pass to another organisation's things: the answer is that for an id that never was.

    Raises:
        NotFound: it is not this organisation's, or does not exist.
        Unavailable: that cannot be told at present.
    """
    for name, value in request.path_params.items():
        if name not in OWNED:
            continue
        prefix, kind = OWNED[name]
        if not (is_id(prefix, value) and await deps.owners.owns(caller.org_id, kind, value)):
            raise NotFound("There is nothing like that.")


async def _limited(deps: Deps, caller: Caller) -> None:
    """Lets nobody pass who has sent too much. A server without keys has nobody to tell apart.

    Raises:
        Refused: this key has to wait.
    """
    if deps.settings.auth is Auth.OFF:
        return
    seconds = await deps.limiter.wait(caller.org_id, caller.id)
    if seconds:
        raise Refused(
            f"This key sends more than the {deps.settings.rate_limit:g} requests a second that a key may "
            "(CONDUCTOR_RATE_LIMIT). Try again after `Retry-After` seconds.",
            code=Code.RATE_LIMITED,
            headers={"Retry-After": str(max(1, math.ceil(seconds)))},
        )


async def passed(request: Request) -> Caller:
    """The caller, who may send this request about what it is about.

    Raises:
        Refused, NotFound, Unavailable: they may not, or that cannot be told.
    """
    # One dependency and not one for each question: FastAPI takes longer to go from one to the next than they take to answer.
    deps, caller = deps_of(request), await authenticated(request)
    await _limited(deps, caller)
    await _scoped(request, deps, caller)
    return caller


GATE = (Depends(passed),)
"""The dependency of every router but the one for health."""


def check(router: APIRouter) -> None:
    """See to it that each address says whose things it is about.

    Raises:
        RuntimeError: one has a parameter of which that is not known.
    """
    for route in router.routes:
        if not isinstance(route, APIRoute):
            continue
        names = set(re.findall(r"{(\w+)", route.path))
        allowed = {*OWNED, *OPEN_TO_ALL, *(PARTS_OF_A_SESSION if "session_id" in names else ())}
        if unknown := names - allowed:
            raise RuntimeError(f"{route.path}: say in api/gate.py whose {', '.join(sorted(unknown))} is.")
