"""The tools that the workers have."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.auth import AnyRole
from api.deps import Needs
from api.patience import within
from api.problems import documented
from api.requests import ToolsQuery
from conductor_ai.contracts.answers import ToolList, ToolView
from conductor_ai.errors import Code, NotFound

router = APIRouter(tags=["tools"])


@router.get("/v1/tools", summary="List tools", responses=documented())
async def list_tools(deps: Needs, _caller: AnyRole, query: Annotated[ToolsQuery, Query()]) -> ToolList:
    """What the workers published when they started, by name."""
    async with within():
        published = await deps.tools.published()
    return ToolList(
        tools=tuple(
            ToolView.of(tool.spec, available=tool.available)
            for tool in published
            if query.category is None or tool.spec.category is query.category
        )
    )


@router.get("/v1/tools/{name}", summary="Look at a tool", responses=documented(Code.NOT_FOUND))
async def get_tool(deps: Needs, _caller: AnyRole, name: str) -> ToolView:
    """One tool."""
    async with within():
        published = await deps.tools.published()
    for tool in published:
        if tool.spec.name == name:
            return ToolView.of(tool.spec, available=tool.available)
    raise NotFound("There is no such tool.")
