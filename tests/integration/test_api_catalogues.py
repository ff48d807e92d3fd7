"""Tools, models, health and the documentation."""

import json
from html.parser import HTMLParser
from typing import Any

import pytest

from api.problems import STATUSES
from conductor_ai import catalog
from conductor_ai.errors import Code
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.postgres import Database
from conductor_ai.temporal import Engine
from tests.fixtures_api import Api, is_problem, nowhere, serving


async def test_tools(api: Api) -> None:
    """What the workers published, with the documented fields, and whether it can be used."""
    tools = (await api.get("/v1/tools")).json()["tools"]
    assert [tool["name"] for tool in tools] == ["code_run", "sql_query", "web_fetch"]
    for tool in tools:
        for name in ("name", "description", "category", "parameters", "requires_approval"):
            assert name in tool
    assert tools[0]["available"] is False
    assert "bubblewrap" in tools[0]["note"]
    assert tools[1]["requires_approval"] is True


async def test_tools_by_category(api: Api) -> None:
    """The category narrows the list; one that does not exist is refused."""
    tools = (await api.get("/v1/tools?category=database")).json()["tools"]
    assert [tool["name"] for tool in tools] == ["sql_query"]
    assert (await api.get("/v1/tools?category=other")).json() == {"tools": []}
    is_problem(await api.get("/v1/tools?category=magic"), 422, "invalid_request")


async def test_one_tool(api: Api) -> None:
    """By its name, or not at all."""
    assert (await api.get("/v1/tools/web_fetch")).json()["category"] == "web"
    is_problem(await api.get("/v1/tools/rm"), 404, "not_found")


async def test_models(api: Api) -> None:
    """The whole catalog; exactly one model is the default, and prices are numbers."""
    models = (await api.get("/v1/models")).json()["models"]
    assert [model["id"] for model in models] == [row.id for row in catalog.all_models()]
    assert [model["id"] for model in models if model["default"]] == ["demo"]
    priced = next(model for model in models if model["price"] and model["provider"] == "anthropic")
    assert isinstance(priced["price"]["rates"]["input"], float)
    ending = next(model for model in models if model["retires_on"])
    assert ending["warnings"]
    assert ending["replacement"]


async def test_one_model(api: Api) -> None:
    """By its id, also one with a slash in it, an alias, or a name of one's own endpoint."""
    for row in catalog.all_models():
        for name in (row.id, *row.aliases):
            assert (await api.get(f"/v1/models/{name}")).json()["id"] == row.id
    assert (await api.get("/v1/models/openai:my/model")).json()["id"] == "openai:my/model"
    is_problem(await api.get("/v1/models/no-such"), 404, "not_found")


async def test_the_default_model_is_a_setting(database: Database, standing_in: Engine, hot: Hot, api: Api) -> None:
    """A configured default is marked, and taken by sessions that name none."""
    async with serving(database, standing_in, hot, default_model="openai:local") as other:
        session_id = await other.start(tools=[])
        assert (await other.get(f"/v1/agents/{session_id}")).json()["model"] == "openai:local"


async def test_health(api: Api) -> None:
    """The field that probes know, and what the tools of this installation run on."""
    body = (await api.http.get("/health")).json()
    assert body["status"] == "healthy"
    assert body["tools"]["code_run"] == "not available. Install Docker or bubblewrap."
    assert (await api.http.get("/livez")).json() == {"status": "alive"}


async def test_ready(api: Api) -> None:
    """Every dependency by name."""
    answer = await api.http.get("/readyz")
    assert answer.json()["status"] == "ready"
    assert {name: check["ok"] for name, check in answer.json()["checks"].items()} == {
        "postgres": True,
        "temporal": True,
        "redis": True,
    }


async def test_degraded(database: Database, standing_in: Engine, api: Api) -> None:
    """Without Redis everything works, only slower: degraded, not down."""
    async with serving(database, standing_in, Hot(None)) as other:
        answer = await other.http.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert "REDIS_URL" in answer.json()["checks"]["redis"]["detail"]


async def test_not_ready(database: Database, hot: Hot, api: Api) -> None:
    """Without Temporal no session can start: 503, and the checks say which part is missing. Health goes on."""
    async with serving(database, await nowhere(), hot) as other:
        answer = await other.http.get("/readyz")
        body = is_problem(answer, 503, "engine_unavailable")
        assert {name: check["ok"] for name, check in body["checks"].items()} == {
            "postgres": True,
            "temporal": False,
            "redis": True,
        }
        assert int(answer.headers["retry-after"]) > 0
        assert (await other.http.get("/health")).json()["status"] == "healthy"


async def test_no_schema(postgres_server: Any, standing_in: Engine, hot: Hot) -> None:
    """A database that was not migrated is told apart from one that is away, with what to do."""
    empty = Database(await postgres_server.create_database())
    try:
        async with serving(empty, standing_in, hot, with_keys=False) as other:
            body = is_problem(await other.http.get("/readyz"), 503, "store_unavailable")
            assert "conductor migrate" in body["checks"]["postgres"]["detail"]
    finally:
        await empty.close()


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return found.union(*(_references(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(_references(item) for item in value))
    return set()


async def test_openapi(api: Api) -> None:
    """Every route documents its errors as problems with examples; every reference leads somewhere."""
    document = (await api.http.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    for reference in _references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if not path.startswith("/v1/"):
                assert operation["security"] == []
                continue
            assert operation["security"]
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    content = answer["content"]["application/problem+json"]
                    for example in content["examples"].values():
                        assert example["value"]["status"] == int(status)
            assert {"401", "422", "503"} <= operation["responses"].keys()
    body = document["paths"]["/v1/agents/run"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    run = schemas[body["$ref"].rpartition("/")[2]]
    assert run["additionalProperties"] is False
    assert run["examples"]
    assert {parameter["name"] for parameter in document["paths"]["/v1/agents"]["get"]["parameters"]} == {
        "cursor", "limit", "status", "phase", "model", "created_after", "created_before", "metadata", "q",
    }  # fmt: skip
    assert "HTTPValidationError" not in json.dumps(document)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.add(value or "")
            if name in ("href", "src"):
                self.links.add(value or "")


async def test_docs(api: Api) -> None:
    """The page names every route and code, loads nothing from elsewhere, and its links lead somewhere."""
    answer = await api.http.get("/docs")
    page = _Page()
    page.feed(answer.text)
    assert answer.headers["content-type"].startswith("text/html")
    assert "script" not in page.tags
    assert all(link == "/openapi.json" or link.removeprefix("#") in page.ids for link in page.links)
    assert {code.value for code in STATUSES} <= page.ids
    for path in (await api.http.get("/openapi.json")).json()["paths"]:
        assert path in answer.text


@pytest.mark.parametrize("code", list(STATUSES))
def test_every_status_is_an_error(code: Code) -> None:
    """The table holds errors alone."""
    assert 400 <= STATUSES[code][0] < 600
