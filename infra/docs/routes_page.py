"""`docs/reference/routes.md`: every route, from the OpenAPI document that the API itself serves."""

import asyncio
import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, get_args

from fastapi.params import Depends
from fastapi.routing import APIRoute

from api.app import ROUTERS, create_app
from api.deps import make_deps
from conductor_ai.settings import Settings
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.postgres import Database
from conductor_ai.temporal import Engine, connect
from infra.docs.markdown import page, table
from infra.docs.source import class_docs

METHODS = ("get", "post", "put", "patch", "delete")
SHAPES = (
    "conductor_ai/contracts/status.py",
    "conductor_ai/contracts/tools.py",
    "conductor_ai/contracts/catalog.py",
    "conductor_ai/contracts/views.py",
    "conductor_ai/contracts/explain.py",
    "conductor_ai/contracts/events.py",
    "api/requests.py",
    "conductor_ai/contracts/answers.py",
)
"""Where the classes are that bodies are made of: their docstrings say what a field means."""
HEADERS = {
    "Last-Event-ID": "`id` of the last event that the caller has. Event sources send it by themselves when they come back.",
    "Idempotency-Key": "The caller's own name for this request, for 24 hours: the same key and body again do nothing twice.",
    "if-none-match": "ETags that the caller has: 304 if the session is still at one of these versions.",
}


@cache
def _docs() -> dict[str, dict[str, str]]:
    return class_docs(*SHAPES)


def _asked(function: Callable[..., Any]) -> list[Any]:
    """What the parameters of a route are made of, and those of what it depends on."""
    found = []
    for kind in inspect.get_annotations(function, eval_str=True).values():
        for item in get_args(kind):
            found += _asked(item.dependency) if isinstance(item, Depends) and item.dependency else [item]
    return found


def _query_docs(method: str, path: str) -> dict[str, str]:
    """What the query model of a route says about its fields."""
    for module in ROUTERS:
        for route in module.router.routes:
            if (
                isinstance(route, APIRoute)
                and method in (route.methods or ())
                and route.path.replace(":path", "") == path
            ):
                names = [getattr(item, "__name__", "") for item in _asked(route.endpoint)]
                return {field: text for name in names for field, text in _docs().get(name, {}).items()}
    return {}


async def _document() -> dict[str, Any]:
    settings = Settings.model_validate({"database_url": "postgresql://nobody@127.0.0.1:1/none"})
    database = Database(settings.store_url, size=1)
    engine = Engine(await connect(settings, lazy=True))
    return create_app(make_deps(settings, database, engine, Hot(None))).openapi()


def openapi() -> dict[str, Any]:
    """The OpenAPI document. Nothing is connected."""
    return asyncio.run(_document())


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation of every route."""
    return [
        (method.upper(), path, item[method])
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    ]


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(item) for item in schema["anyOf"])
    if "$ref" in schema:
        name = str(schema["$ref"]).rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = str(schema.get("type", "any JSON"))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if str(schema.get("format", "")).startswith("date"):
        return "time" if schema["format"] == "date-time" else "date"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None and high < 2**53 - 1:
        return f"{kind}, {low} to {high}"
    return kind


def _parameters(operation: dict[str, Any], docs: dict[str, str]) -> str:
    rows = [
        (
            f"`{item['name']}`",
            item["in"],
            _type(item["schema"]).removesuffix(" or null") + (", required" if item.get("required") else ""),
            HEADERS.get(item["name"], docs.get(item["name"], "")),
        )
        for item in operation.get("parameters", [])
    ]
    return table(("parameter", "in", "value", "meaning"), rows) if rows else ""


def _fields(schema: dict[str, Any], docs: dict[str, str]) -> str:
    required = schema.get("required", [])
    rows = [
        (
            f"`{name}`",
            _type(item) + (", required" if name in required else ""),
            "–" if item.get("default") is None else f"`{item['default']}`",
            docs.get(name, ""),
        )
        for name, item in schema["properties"].items()
    ]
    return table(("field", "value", "default", "meaning"), rows)


def _body(operation: dict[str, Any]) -> str:
    if "requestBody" not in operation:
        return ""
    return f"Body: {_type(operation['requestBody']['content']['application/json']['schema'])}"


def _shapes(document: dict[str, Any]) -> str:
    """Every body of requests and responses, and the closed sets of words."""
    parts = []
    for name, schema in sorted(document["components"]["schemas"].items()):
        if name in ("HTTPValidationError", "ValidationError"):
            continue  # the framework's own; Conductor answers with Problem
        docs = _docs().get(name.partition("_")[0], {})
        match schema:
            case {"enum": words}:
                content = " · ".join(f"`{word}`" for word in words)
            case {"properties": _}:
                content = _fields(schema, docs)
            case _:
                content = _type(schema)
        description = " ".join(str(schema.get("description", "")).split())
        parts.append(f"### {name}\n\n{description}\n\n{content}")
    return "\n\n".join(["## Shapes", *parts])


def _answers(operation: dict[str, Any]) -> str:
    rows = []
    for status, item in sorted(operation["responses"].items()):
        content = item.get("content", {})
        codes = content.get("application/problem+json", {}).get("examples", {})
        shape = content.get("application/json", {}).get("schema", {})
        text = ", ".join(f"`{code}`" for code in codes) or _type(shape) if content else "–"
        if "text/event-stream" in content:
            text = "`text/event-stream`"
        meaning = "" if len(codes) > 1 or item["description"] == "Successful Response" else item["description"]
        rows.append((status, text, meaning))
    return table(("status", "body or codes", "meaning"), rows)


def render() -> str:
    """The page."""
    document = openapi()
    found = operations(document)
    parts = [
        "JSON, UTC times in RFC 3339. Bodies are strict: an unknown field is refused, and so is a number in quotes. A field "
        "that has a meaning but cannot be used yet is refused with `not_supported`. Routes below `/v1` need a key "
        "(`Authorization: Bearer ck_…` or `X-API-Key: ck_…`), which names organisation and role; the others need none. Every "
        "response has an `X-Request-ID`. The same as a machine reads it: `GET /openapi.json`; for people: `GET /docs`.",
        table(
            ("route", "what"),
            [
                (f"[`{method} {path}`](#{_anchor(method, path)})", operation.get("summary", ""))
                for method, path, operation in found
            ],
        ),
    ]
    for method, path, operation in found:
        pieces = [
            f"## `{method} {path}`",
            str(operation.get("summary", "")) + ".",
            str(operation.get("description", "")),
            _parameters(operation, _query_docs(method, path)),
            _body(operation),
            _answers(operation),
        ]
        parts.append("\n\n".join(piece for piece in pieces if piece.strip(".")))
    parts.append(_shapes(document))
    return page("Routes", *parts)


def _anchor(method: str, path: str) -> str:
    kept = "".join(letter for letter in f"{method} {path}".lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")
