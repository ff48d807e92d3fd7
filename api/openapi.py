"""The OpenAPI document and a page that shows it. Nothing is loaded from elsewhere, so it works without a network."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.responses import HTMLResponse

from api.docs_page import render
from api.problems import Problem
from api.requests import schemas
from conductor_ai.contracts.events import DeltaView

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Bearer ck_…`"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key: `ck_…`"},
}


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: what FastAPI knows, and what our own reading of bodies and keys adds."""
    found = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes, description=app.description
    )
    _, bodies = models_json_schema(
        [*((model, "validation") for model in schemas()), (Problem, "serialization"), (DeltaView, "serialization")],
        ref_template="#/components/schemas/{model}",
    )
    components = found.setdefault("components", {})
    components.setdefault("schemas", {}).update(bodies["$defs"])
    components["securitySchemes"] = _SCHEMES
    for path, operations in found["paths"].items():
        for operation in operations.values():
            operation["security"] = [{"bearer": []}, {"key": []}] if path.startswith("/v1/") else []
    return found


def install(app: FastAPI) -> None:
    """Serve the document and its page."""

    def cached() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = cached  # type: ignore[method-assign]

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(render(app.openapi()), headers=headers)
