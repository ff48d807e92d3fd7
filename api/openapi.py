"""The OpenAPI document and a page that shows it. Nothing is loaded from elsewhere, so it works without a network."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.responses import HTMLResponse

from api.docs_page import render
from api.examples import EXAMPLES
from api.problems import MEDIA_TYPE, Problem, documented, example
from api.requests import schemas
from conductor_ai.contracts.events import DeltaView
from conductor_ai.errors import Code

_HEADERS: dict[str, dict[str, Any]] = {
    "idempotency-key": {"pattern": "^[\\x21-\\x7e]{1,255}$"},
}
"""What headers may hold, where the route itself refuses anything else."""

_OF_A_SESSION = (
    "get_session",
    "cancel",
    "explain_session",
    "pause",
    "resume",
    "set_budget",
    "post_message",
    "list_steps",
    "list_events",
)
LINKS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "run": ("202", "session_id", "$response.body#/session_id", _OF_A_SESSION),
    "list_sessions": ("200", "session_id", "$response.body#/data/0/session_id", _OF_A_SESSION),
    "list_approvals": ("200", "approval_id", "$response.body#/data/0/id", ("get_approval", "decide")),
    "list_grants": ("200", "grant_id", "$response.body#/data/0/id", ("get_grant", "revoke_grant")),
    "list_tools": ("200", "name", "$response.body#/tools/0/name", ("get_tool",)),
    "list_models": ("200", "model_id", "$response.body#/models/0/id", ("get_model",)),
}
"""Operation: the status whose body has the id, the parameter that takes it, where it is, and the operations that have that parameter."""

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
            for parameter in operation.get("parameters", ()):
                _as_sent(parameter)
            _describe_refusals_of_all(operation)
            _show_examples(operation, components["schemas"])
    _link(found)
    return found


def operation_id(route: APIRoute) -> str:
    """The name of a route for programs: that of its function."""
    return route.name


def _as_sent(parameter: dict[str, Any]) -> None:
    """A parameter that is not sent is absent: text has no null. Headers say what they may hold."""
    schema = parameter["schema"]
    kinds = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        schema.update(kinds[0])
    elif kinds:
        schema["anyOf"] = kinds
    schema.update(_HEADERS.get(parameter["name"].lower(), {}))


def _describe_refusals_of_all(operation: dict[str, Any]) -> None:
    """What may befall any query string; and any body: it can be no JSON, too large, declared as something else, or not arrive."""
    answers = operation["responses"]
    if any(parameter["in"] == "query" for parameter in operation.get("parameters", ())):
        _describe(answers, 414, "The query string is too long")
    if "requestBody" not in operation:
        return
    for code in (Code.BODY_TOO_LARGE, Code.UNSUPPORTED_MEDIA_TYPE):
        for status, answer in documented(code).items():
            answers.setdefault(str(status), answer)
    _describe(answers, 400, "The body is no JSON")
    _describe(answers, 408, "The body did not arrive in time")


def _describe(answers: dict[str, Any], status: int, description: str) -> None:
    shown = {"value": {**example(Code.INVALID_REQUEST), "status": status}}
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {Code.INVALID_REQUEST.value: shown}}
    answers.setdefault(str(status), {"description": description, "content": {MEDIA_TYPE: content}})


def _show_examples(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Put an example beside every body."""
    contents = [operation.get("requestBody", {}).get("content", {})]
    contents += [answer.get("content", {}) for answer in operation["responses"].values()]
    for content in contents:
        media = content.get("application/json")
        name = str(media.get("schema", {}).get("$ref", "")).rpartition("/")[2] if media else ""
        if media is None or "example" in media or "examples" in media:
            continue
        given = schemas.get(name, {}).get("examples")
        if name in EXAMPLES:
            media["example"] = EXAMPLES[name]
        elif given:
            media["example"] = given[0]


def _link(document: dict[str, Any]) -> None:
    """Say which answers lead to which routes."""
    by_id = {
        operation["operationId"]: operation
        for operations in document["paths"].values()
        for operation in operations.values()
    }
    for source, (status, parameter, value, targets) in LINKS.items():
        links = by_id[source]["responses"][status].setdefault("links", {})
        links.update({target: {"operationId": target, "parameters": {parameter: value}} for target in targets})
    by_id["list_approvals"]["responses"]["200"]["links"]["decide"]["requestBody"] = {
        "decision": "approve",
        "arguments_sha256": "$response.body#/data/0/arguments_sha256",
    }


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
