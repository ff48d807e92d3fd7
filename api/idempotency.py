"""Idempotency-Key on every POST and PATCH: the same request, sent again, is answered and not done again.

It is laid around the endpoints themselves, by `install`, for every router of the app: a route cannot forget it. Role and
body have been checked by then, so a key never opens what its sender may not do.
"""

import asyncio
import hashlib
import inspect
import logging
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import to_json

from api.auth import AnyRole
from api.bodies import digest_of
from api.deps import deps_of
from api.patience import within
from api.problems import STATUSES, FieldError, Refused, documented
from conductor_ai.errors import Code, ConductorError, Unavailable
from conductor_ai.names import new_id
from conductor_ai.stores.idempotency import LEASE_SECONDS, Answer, Answers, Claimed, InFlight, KeyedRequest, Lease
from conductor_ai.text import clean

log = logging.getLogger(__name__)

METHODS = frozenset({"POST", "PATCH"})
HEADER = "Idempotency-Key"
CLAIM_SECONDS = 2.0
SETTLE_SECONDS = 0.3
"""The answer is there already, or known not to come: nobody waits long for its being written down."""
LONGEST_ROUTE = 500

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_SHOWN_ONCE = re.compile(rb"\b(?:ck|whsec)_[A-Za-z0-9_+/=-]{16,}")
"""Secrets that a response shows the one time that they are made."""
_MARK = "__takes_idempotency_key__"
_ITS_OWN = "__answers_repeats_itself__"

Endpoint = TypeVar("Endpoint", bound=Callable[..., Awaitable[Any]])


def checked(header: str | None) -> str | None:
    """The key that a caller sent, if any.

    Raises:
        Refused: it is no key.
    """
    if header is not None and not _KEY.fullmatch(header):
        message = "An Idempotency-Key has 1 to 255 visible ASCII characters."
        raise Refused(message, code=Code.INVALID_REQUEST, errors=[FieldError(f"/header/{HEADER}", message)])
    return header


def answers_repeats_itself(endpoint: Endpoint) -> Endpoint:
    """Marks an endpoint that keeps its key in the transaction of what it makes, and answers a repeat from that."""
    setattr(endpoint, _ITS_OWN, True)
    return endpoint


def id_of(request: Request, prefix: str) -> str:
    """An id for what the request makes: the same in every attempt at it, if it came under a key."""
    lease = lease_of(request)
    return new_id(prefix) if lease is None else f"{prefix}_{lease.claimed.token}"


def lease_of(request: Request) -> Lease | None:
    """The right to carry the request out, if it came under a key."""
    found: Lease | None = getattr(request.state, "lease", None)
    return found


def tells_of(request: Request, sessions: Iterable[str]) -> None:
    """Say which sessions the answer tells of: it is not kept if one of them is deleted meanwhile. Those that it names are known."""
    request.state.about = frozenset(sessions)


def takes_key(endpoint: Callable[..., Any]) -> bool:
    """Whether an endpoint answers a repeated request without doing it again."""
    return hasattr(endpoint, _MARK) or hasattr(endpoint, _ITS_OWN)


def install(router: APIRouter) -> None:
    """Make every POST and PATCH of a router take the key. To be called before the router is included in an app."""
    for route in router.routes:
        if isinstance(route, APIRoute) and METHODS & (route.methods or set()):
            if not takes_key(route.endpoint):
                route.endpoint = _keyed(route.endpoint)
            for status, more in documented(Code.IDEMPOTENCY_MISMATCH, Code.IDEMPOTENCY_IN_FLIGHT).items():
                known = route.responses.setdefault(status, more)
                content = known.get("content", {}).get("application/problem+json")
                if content is not None:
                    content["examples"] = {
                        **content.get("examples", {}),
                        **more["content"]["application/problem+json"]["examples"],
                    }


async def _itself(request: Request) -> Request:
    """FastAPI gives an endpoint its request once, and the endpoint may want it for itself."""
    return request


_Received = Annotated[Request, Depends(_itself)]


def _keyed(endpoint: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The endpoint, which also takes what is needed to know a repeated request."""

    @wraps(endpoint)
    async def once(*, once_request: _Received, once_caller: AnyRole, once_key: str | None, **given: Any) -> Any:
        key = checked(once_key)
        if key is None:
            return await endpoint(**given)
        request = KeyedRequest(once_caller.org_id, _route(once_request), key, await digest_of(once_request))
        return await _once(request, once_request, lambda: endpoint(**given))

    signature = inspect.signature(endpoint, eval_str=True)
    more = [
        inspect.Parameter("once_request", inspect.Parameter.KEYWORD_ONLY, annotation=_Received),
        inspect.Parameter("once_caller", inspect.Parameter.KEYWORD_ONLY, annotation=AnyRole),
        inspect.Parameter(
            "once_key",
            inspect.Parameter.KEYWORD_ONLY,
            annotation=Annotated[str | None, Header(alias=HEADER)],
            default=None,
        ),
    ]
    given = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in signature.parameters.values()]
    once.__signature__ = signature.replace(parameters=[*given, *more])  # type: ignore[attr-defined]
    setattr(once, _MARK, True)
    return once


def _route(request: Request) -> str:
    route = clean(f"{request.method} {request.scope['path']}")
    return route if len(route) <= LONGEST_ROUTE else hashlib.sha256(route.encode()).hexdigest()


async def _once(request: KeyedRequest, received: Request, act: Callable[[], Awaitable[Any]]) -> Response:
    answers: Answers = deps_of(received).answers
    async with within(CLAIM_SECONDS):
        found = await answers.claim(request)
    match found:
        case Answer():
            return Response(found.body, found.status, {**found.headers, "Idempotency-Replayed": "true"})
        case InFlight():
            raise Refused(
                "The same request, under the same Idempotency-Key, is being carried out right now. Ask again in a moment: "
                "it is answered and not done twice.",
                code=Code.IDEMPOTENCY_IN_FLIGHT,
                headers={"Retry-After": str(max(1, min(2, math.ceil(found.seconds))))},
            )
        case Claimed():
            pass
    received.state.lease = Lease(request, found)
    try:
        async with _held(answers, request, found):
            response = _as_response(await act(), received)
    except Exception as error:
        refused = isinstance(error, ConductorError) and STATUSES.get(error.code, (500, ""))[0] < 500
        # After an earlier attempt that broke off, a refusal does not prove that nothing was done.
        await _settle(answers.forget(request, found) if refused and found.first else answers.give_up(request, found))
        raise
    if response.status_code < 300:
        await _settle(answers.keep(request, found, _kept(response, received)))
    else:
        await _settle(answers.forget(request, found))
    return response


@asynccontextmanager
async def _held(answers: Answers, request: KeyedRequest, claimed: Claimed) -> AsyncIterator[None]:
    """Renews the lease as long as the block runs."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            try:
                await answers.renew(request, claimed)
            except Unavailable as error:
                log.info("a lease could not be renewed: %s", error.message)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


async def _settle(write: Awaitable[None]) -> None:
    """What cannot be written down costs a second attempt its short cut, and nothing else."""
    try:
        async with within(SETTLE_SECONDS):
            await write
    except Unavailable as error:
        log.warning("the outcome of a request could not be kept under its Idempotency-Key: %s", error.message)


def _as_response(result: Any, received: Request) -> Response:
    if isinstance(result, Response):
        return result
    status: int | None = received.scope["route"].status_code
    return Response(to_json(result), status or 200, media_type="application/json")


def _kept(response: Response, received: Request) -> Answer:
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    body = _SHOWN_ONCE.sub(b"(shown once)", bytes(response.body))
    return Answer(response.status_code, headers, body, getattr(received.state, "about", frozenset()))
