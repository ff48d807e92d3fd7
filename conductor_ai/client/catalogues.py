"""`client.tools`, `client.models`, `client.health`: what the server has, and how it is."""

from conductor_ai.client.endpoint import Resource, W, endpoint
from conductor_ai.client.reading import parsed, reads
from conductor_ai.client.steps import Call, Request, path, query
from conductor_ai.contracts.answers import Health, ModelList, ModelView, Readiness, ToolList, ToolView
from conductor_ai.contracts.tools import Category


class Tools(Resource[W]):
    """The tools that the workers have."""

    @endpoint
    def list(self, *, category: Category | str | None = None) -> Call[tuple[ToolView, ...]]:
        """All tools by name, those that are not available at present included."""
        request = Request("GET", "/v1/tools", query(category=category))
        return Call(request, lambda answer: parsed(ToolList, answer.content).tools)

    @endpoint
    def get(self, name: str) -> Call[ToolView]:
        """One tool.

        Raises:
            NotFound: there is none.
        """
        return Call(Request("GET", path("/v1/tools/{}", name)), reads(ToolView))


class Models(Resource[W]):
    """The catalog of models."""

    @endpoint
    def list(self) -> Call[tuple[ModelView, ...]]:
        """Every model that the catalog knows, with price, limits and end of life."""
        return Call(Request("GET", "/v1/models"), lambda answer: parsed(ModelList, answer.content).models)

    @endpoint
    def get(self, model: str) -> Call[ModelView]:
        """One model, by its id or another of its names.

        Raises:
            NotFound: there is none.
        """
        return Call(Request("GET", path("/v1/models/{}", model)), reads(ModelView))


class HealthChecks(Resource[W]):
    """How the server is. Needs no key; asked once, whatever the client's patience."""

    @endpoint
    def get(self) -> Call[Health]:
        """Whether the server answers, and what its tools run on."""
        return Call(Request("GET", "/health"), reads(Health), repeat=False)

    @endpoint
    def ready(self) -> Call[Readiness]:
        """Whether it can serve requests.

        Raises:
            StoreUnavailable, EngineUnavailable: it cannot; `problem.members["checks"]` says what is away.
        """
        return Call(Request("GET", "/readyz"), reads(Readiness), repeat=False)
