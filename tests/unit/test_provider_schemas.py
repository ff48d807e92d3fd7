"""Which tool schemas a provider can be strict about, and what becomes of the rest."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from activities.providers.anthropic_request import tools
from activities.providers.schemas import MOST_OPTIONAL, MOST_STRICT_TOOLS, strict_schema, weight
from conductor_ai.contracts.tools import Category, ToolSpec


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    word: str


class Tree(BaseModel):
    model_config = ConfigDict(extra="forbid")

    children: list["Tree"]


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")

    language: Literal["python", "javascript"]
    timeout: Annotated[int, Field(ge=1, le=60)] = 30
    inner: Inner | None = None
    words: list[str] = []


def test_a_usual_argument_model_is_strict() -> None:
    """References are resolved, limits are told in the description, the structure stays."""
    schema: Any = strict_schema(Arguments.model_json_schema())
    assert schema["required"] == ["language"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["language"]["enum"] == ["python", "javascript"]
    assert schema["properties"]["timeout"]["description"] == "(maximum: 60, minimum: 1)"
    assert "maximum" not in schema["properties"]["timeout"]
    assert schema["properties"]["inner"]["anyOf"][0]["properties"]["word"]["type"] == "string"
    assert "$defs" not in schema
    assert weight(schema) == (3, 1)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "array"},
        {"type": "object", "properties": {}},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "additionalProperties": False, "properties": {"any": {}}},
        {"type": "object", "additionalProperties": False, "properties": {"list": {"type": "array"}}},
        {"type": "object", "additionalProperties": False, "patternProperties": {"x": {"type": "string"}}},
        {"type": "object", "additionalProperties": False, "properties": {"x": {"$ref": "https://x"}}},
        {"type": "object", "additionalProperties": False, "properties": {"x": True}},
        Tree.model_json_schema(),
    ],
)
def test_what_the_subset_cannot_say_is_left_alone(schema: dict[str, Any]) -> None:
    """Open objects, anything-goes, recursion, unknown words: the tool is offered without `strict`, unchanged."""
    assert strict_schema(schema) is None


def _tool(number: int, properties: int) -> ToolSpec:
    return ToolSpec(
        name=f"tool_{number}",
        description="",
        category=Category.OTHER,
        parameters={
            "type": "object",
            "properties": {f"p{n}": {"type": "string"} for n in range(properties)},
            "additionalProperties": False,
        },
        requires_approval=False,
    )


def test_the_limits_of_one_request_hold() -> None:
    """Too many strict tools, or optional parameters, would be a 400: the later tools go without."""
    many = tools(tuple(_tool(n, 0) for n in range(MOST_STRICT_TOOLS + 3)), strict=True)
    assert sum("strict" in tool for tool in many) == MOST_STRICT_TOOLS
    wide = tools((_tool(0, MOST_OPTIONAL), _tool(1, 1), _tool(2, 0)), strict=True)
    assert ["strict" in tool for tool in wide] == [True, False, True]


def test_a_model_without_structured_output_gets_plain_tools() -> None:
    """`strict` is for models that have it."""
    (tool,) = tools((_tool(0, 1),), strict=False)
    assert "strict" not in tool
