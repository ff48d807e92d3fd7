"""The catalog of models."""

from datetime import UTC, datetime

from fastapi import APIRouter

from api.auth import AnyRole
from api.deps import Needs
from api.problems import documented
from api.starting import default_model
from conductor_ai import catalog
from conductor_ai.contracts.answers import ModelList, ModelView
from conductor_ai.contracts.catalog import Model
from conductor_ai.errors import Code, InvalidRequest, NotFound
from conductor_ai.settings import Settings

router = APIRouter(tags=["models"])


def _view(model: Model, settings: Settings) -> ModelView:
    default = default_model(settings) in (model.id, *model.aliases)
    return ModelView.of(model, default=default, warnings=catalog.warnings(model, datetime.now(UTC).date()))


@router.get("/v1/models", summary="List models", responses=documented())
async def list_models(deps: Needs, _caller: AnyRole) -> ModelList:
    """Every model that the catalog knows, with price, limits and end of life. `openai:NAME` works beside them."""
    return ModelList(models=tuple(_view(model, deps.settings) for model in catalog.all_models()))


@router.get("/v1/models/{model_id:path}", summary="Look at a model", responses=documented(Code.NOT_FOUND))
async def get_model(deps: Needs, _caller: AnyRole, model_id: str) -> ModelView:
    """One model, by its id or another of its names."""
    try:
        model = catalog.find(model_id)
    except InvalidRequest as error:
        raise NotFound("There is no such model.") from error
    return _view(model, deps.settings)
