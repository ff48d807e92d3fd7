"""The application: routes, what surrounds them, and what runs beside them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api import (
    agents,
    agents_cancel,
    agents_control,
    agents_delete,
    agents_messages,
    agents_run,
    api_keys,
    approvals,
    decisions,
    events,
    explain,
    gate,
    grants,
    health,
    idempotency,
    models,
    openapi,
    stream,
    tools,
)
from api.bodies import invalid
from api.deps import Deps
from api.middleware import Envelope, request_id_of
from api.problems import Refused, problem
from conductor_ai.errors import Code, ConductorError, NotFound

ROUTERS = (
    agents_run,
    agents,
    events,
    stream,
    agents_cancel,
    agents_delete,
    agents_control,
    agents_messages,
    explain,
    approvals,
    decisions,
    grants,
    tools,
    models,
    api_keys,
    health,
)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    deps: Deps = app.state.deps
    beside = {asyncio.create_task(work) for work in (deps.rings.run(), deps.fanout.look(), deps.fanout.hear())}
    try:
        yield
    finally:
        deps.fanout.close()
        # Once is not always enough: while redis-py connects, it swallows a cancellation.
        while running := {task for task in beside if not task.done()}:
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=0.1)
        await deps.reader.close()
        await deps.copies.close()


async def _conductor_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ConductorError)
    return problem(error, request_id_of(request.scope))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem(invalid(error.errors()), request_id_of(request.scope))


def _allowed(request: Request) -> str | None:
    """The methods of an address: those of all routes with its path, of which the framework names the first alone."""
    routes = [route for module in ROUTERS for route in module.router.routes if isinstance(route, APIRoute)]
    found = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    nearest = min((route.path for route in found), key=lambda path: path.count("{"), default=None)
    return (
        ", ".join(sorted({method for route in found if route.path == nearest for method in route.methods or ()}))
        or None
    )


async def _http(request: Request, error: Exception) -> Response:
    """What the framework refuses on its own: no such route, no such method."""
    assert isinstance(error, HTTPException)
    told: ConductorError
    match error.status_code:
        case 404:
            told = NotFound("")
        case 405:
            allowed = _allowed(request)
            told = Refused(
                "This address does not take that method.",
                code=Code.METHOD_NOT_ALLOWED,
                headers=error.headers if allowed is None else {"Allow": allowed},
            )
        case status:
            told = Refused(
                "The request cannot be read.", code=Code.INVALID_REQUEST, status=status, headers=error.headers
            )
    return problem(told, request_id_of(request.scope))


def create_app(deps: Deps) -> FastAPI:
    """The REST API on these dependencies. It opens and closes none of them."""
    app = FastAPI(
        title="Conductor",
        version=version("conductor-server"),
        summary="AI agents that survive crashes, wait for people, and can be inspected.",
        lifespan=_lifespan,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=openapi.operation_id,
    )
    app.state.deps = deps
    for module in ROUTERS:
        idempotency.install(module.router)
        gate.check(module.router)
        app.include_router(module.router, dependencies=() if module is health else gate.GATE)
    openapi.install(app)
    app.add_exception_handler(ConductorError, _conductor_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(stream.NothingMoreError, stream.nothing_more)
    app.add_middleware(Envelope, max_body_bytes=deps.settings.max_body_bytes)
    return app
