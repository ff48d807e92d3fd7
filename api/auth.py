"""Who calls: an API key, which names the organisation and the role; or, with auth off, whoever is on this machine."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from api.deps import Deps, deps_of
from api.patience import within
from api.problems import FieldError, Refused
from conductor_ai.errors import Code
from conductor_ai.settings import Auth, is_loopback
from conductor_ai.stores.access import Role

DEFAULT_ORG = "default"

_SECRET = re.compile(r"ck_[A-Za-z0-9_-]{20,200}")
_ORG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Caller:
    """Whoever sent the request."""

    org_id: str
    id: str
    """Of the key."""
    name: str
    role: Role

    @property
    def signature(self) -> str:
        """How this caller appears in decisions."""
        return self.id if self.name == self.id else f"{self.name[:150]} ({self.id})"


def _unauthenticated() -> Refused:
    return Refused(
        "Send a valid API key as `Authorization: Bearer ck_…` or `X-API-Key: ck_…`.",
        code=Code.UNAUTHENTICATED,
        headers={"WWW-Authenticate": "Bearer"},
    )


def presented(request: Request) -> str:
    """The secret that the request shows.

    Raises:
        Refused: it shows none, one that cannot be a key, or two different ones.
    """
    found = set()
    authorization = request.headers.get("authorization")
    if authorization is not None:
        scheme, _, secret = authorization.partition(" ")
        found.add(secret.strip() if scheme.lower() == "bearer" else "")
    header = request.headers.get("x-api-key")
    if header is not None:
        found.add(header.strip())
    if len(found) != 1 or not _SECRET.fullmatch(secret := found.pop()):
        raise _unauthenticated()
    return secret


def _local(request: Request) -> Caller:
    """The caller in a server without keys. Web pages of other sites must not be able to speak for the person at it."""
    try:
        places = [urlsplit(f"//{request.headers.get('host', '')}").hostname]
        if (origin := request.headers.get("origin")) is not None:
            places.append(urlsplit(origin).hostname)
    except ValueError:
        places = [None]
    if not all(place is not None and is_loopback(place) for place in places):
        raise Refused(
            "This server runs without API keys (CONDUCTOR_AUTH=off) and answers only to this machine's own address, "
            "such as 127.0.0.1 or localhost.",
            code=Code.FORBIDDEN,
        )
    org_id = request.headers.get("x-org-id", DEFAULT_ORG)
    if not _ORG.fullmatch(org_id):
        message = "An organisation's id has at most 64 letters, digits, dots, dashes and underscores."
        raise Refused(message, code=Code.INVALID_REQUEST, errors=[FieldError("/header/X-Org-ID", message)])
    return Caller(org_id=org_id, id="local", name="local", role=Role.ADMIN)


async def authenticated(request: Request) -> Caller:
    """The caller, with any role. Found out once for a request, whoever asks.

    Raises:
        Refused: no valid key.
        Unavailable: the key cannot be looked up.
    """
    known: Caller | None = getattr(request.state, "caller", None)
    if known is None:
        known = request.state.caller = await _caller(request, deps_of(request))
    return known


async def _caller(request: Request, deps: Deps) -> Caller:
    if deps.settings.auth is Auth.OFF:
        return _local(request)
    secret = presented(request)
    async with within():
        key = await deps.keys.find(secret)
    if key is None:
        raise _unauthenticated()
    return Caller(org_id=key.org_id, id=key.id, name=key.name, role=key.role)


def one_of(*roles: Role) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency that lets only these roles pass."""

    async def check(caller: Annotated[Caller, Depends(authenticated)]) -> Caller:
        if caller.role not in roles:
            wanted = " or ".join(f"`{role.value}`" for role in roles)
            raise Refused(f"This needs a key with the role {wanted}.", code=Code.FORBIDDEN)
        return caller

    return check


AnyRole = Annotated[Caller, Depends(authenticated)]
"""Everybody with a key may read."""
MayOperate = Annotated[Caller, Depends(one_of(Role.OPERATOR, Role.ADMIN))]
"""May start and cancel."""
MayAdminister = Annotated[Caller, Depends(one_of(Role.ADMIN))]
"""May make and revoke keys, and delete sessions."""
MayDecide = Annotated[Caller, Depends(one_of(Role.APPROVER, Role.ADMIN))]
"""May decide about calls."""
