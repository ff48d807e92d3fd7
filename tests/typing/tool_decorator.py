"""What a type checker must know of `@tool`. Not run: checked by mypy with the rest."""

from typing import assert_type

from activities.tools.base import Arguments, FunctionTool, tool


class City(Arguments):
    """Arguments of a tool."""

    name: str


@tool(arguments=City, writes=False, replayable=True)
async def weather(city: City) -> str:
    """Says today's weather in a city."""
    assert_type(city.name, str)
    return city.name


assert_type(weather, FunctionTool[City])


class Other(Arguments):
    """Not what the tool takes."""


@tool(arguments=Other)  # type: ignore[arg-type]
async def mismatched(city: City) -> str:
    """Takes something else than it promises."""
    return city.name
