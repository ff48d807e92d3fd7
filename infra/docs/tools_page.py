"""`docs/reference/tools.md`: the tools that a worker can have, as it would publish them."""

from typing import Any

from activities.egress.client import Egress
from activities.sandbox.off import OffSandbox
from activities.sql.target import SqlTarget
from activities.tools.base import Tool
from activities.tools.code_run import CodeRun
from activities.tools.registry import Registry, built_in_modules, discover
from activities.tools.sql_query import SqlQuery
from activities.tools.web_fetch import WebFetch
from conductor_ai.contracts.tools import ToolSpec
from infra.docs.markdown import page, table


def shipped() -> tuple[ToolSpec, ...]:
    """The specs of all tools that come with Conductor. Nothing is connected."""
    made: list[Tool[Any]] = [
        WebFetch(Egress()),
        CodeRun(OffSandbox("Not looked at.")),
        SqlQuery(SqlTarget("postgresql://nobody@127.0.0.1:1/none", "nobody", True, 30.0)),
    ]
    return tuple(tool.spec for tool in Registry([*made, *discover(built_in_modules())]))


def _type(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in schema:
        schema = {**definitions[str(schema["$ref"]).rsplit("/", 1)[1]], **schema}
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(item, definitions) for item in schema["anyOf"]))
    kind = str(schema.get("type", "any JSON"))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}), definitions)}"
    low, high = schema.get("minimum"), schema.get("maximum")
    return f"{kind}, {low} to {high}" if low is not None and high is not None else kind


def _arguments(spec: ToolSpec) -> str:
    schema: dict[str, Any] = spec.parameters
    required = schema.get("required", [])
    rows = []
    for name, item in schema["properties"].items():
        default = "required" if name in required else "–" if item.get("default") is None else f"`{item['default']}`"
        rows.append((f"`{name}`", _type(item, schema.get("$defs", {})), default, str(item.get("description", ""))))
    return table(("argument", "type", "default", "as the model is told"), rows)


def render() -> str:
    """The page."""
    parts = [
        "What the model is given, and `GET /v1/tools` shows. A worker publishes the tools that it really has when it starts: "
        "`sql_query` is there if `CONDUCTOR_SQL_URL` is set, `code_run` is available if a sandbox works, and "
        "`CONDUCTOR_TOOL_MODULES` adds [your own](../how-to/add-a-tool.md). Each tool has a page with all that it promises.",
    ]
    for spec in sorted(shipped(), key=lambda spec: spec.name):
        asked = "a person is asked for every call" if spec.requires_approval else "nobody is asked"
        parts.append(
            f"## {spec.name}\n\n{spec.description}\n\n"
            f"Category `{spec.category.value}`, task queue `{spec.queue.value}`; by the shipped policy {asked}. "
            f"More: [{spec.name}]({spec.name}.md).\n\n{_arguments(spec)}"
        )
    return page("Tools", *parts)
