"""Which models there are, and what to take instead of one that is gone. Pure: workflows and the API use it alike."""

from datetime import date

from conductor_ai.catalog_rows import RETIRED, ROWS
from conductor_ai.contracts.catalog import Capabilities, Model, ProviderName
from conductor_ai.errors import Code, InvalidRequest

DEMO = "demo"
OPENAI_PREFIX = "openai:"
"""`openai:NAME` is model NAME of the configured OpenAI-compatible endpoint, whether or not the catalog knows it."""

_BY_NAME: dict[str, Model] = {name: row for row in ROWS for name in (row.id, *row.aliases)}


def all_models() -> tuple[Model, ...]:
    """Every row, in the order of the catalog."""
    return ROWS


def find(model_id: str) -> Model:
    """The row of an id, an alias, or `openai:NAME`, whatever its age.

    For what already runs: bills and requests of a session that was started before its model was retired.

    Raises:
        InvalidRequest: UNKNOWN_MODEL.
    """
    row = _BY_NAME.get(model_id)
    if row is not None:
        return row
    name = model_id.removeprefix(OPENAI_PREFIX)
    if name != model_id and name.strip() == name and name and name.isprintable():
        return _foreign(model_id, name)
    raise InvalidRequest(
        "There is no such model. GET /v1/models lists those that can be used; a model of your own OpenAI-compatible "
        "endpoint is written openai:NAME.",
        code=Code.UNKNOWN_MODEL,
        pointer="/model",
    )


def resolve(model_id: str, today: date) -> Model:
    """The model that a new session asks for.

    Raises:
        InvalidRequest: UNKNOWN_MODEL, or MODEL_RETIRED naming the replacement.
    """
    gone = RETIRED.get(model_id)
    if gone is not None:
        raise _retired(model_id, *gone)
    row = find(model_id)
    if row.retires_on is not None and row.replacement is not None and today >= row.retires_on:
        raise _retired(row.id, row.retires_on, row.replacement)
    return row


def warnings(model: Model, today: date) -> tuple[str, ...]:
    """Sentences for the person who started a session on this model; empty if all is well."""
    found: list[str] = []
    if model.retires_on is not None:
        days = (model.retires_on - today).days
        when = f"in {days} day{'' if days == 1 else 's'}" if days > 0 else "and is not served any more"
        found.append(f"{model.title} is retired on {model.retires_on.isoformat()}, {when}. Use {model.replacement}.")
    elif model.deprecated:
        found.append(f"{model.title} has a successor. Consider {model.replacement}.")
    if model.price is None:
        found.append(
            f"The price of {model.id} is not known: its cost counts as 0 unless the provider reports one, so a cost "
            "limit may not hold. Set a token limit instead."
        )
    return tuple(found)


def default_model(has_anthropic_key: bool, configured: str | None) -> str:
    """The id of the model for sessions that name none: what is configured, else the newest Sonnet, else the demo."""
    if configured:
        return configured
    if not has_anthropic_key:
        return DEMO
    sonnets = (row for row in ROWS if row.family == "claude-sonnet" and not row.deprecated)
    return max(sonnets, key=lambda row: row.version).id


def _retired(name: str, since: date, replacement: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name} was retired by its provider on {since.isoformat()}. Use {replacement} instead.",
        code=Code.MODEL_RETIRED,
        pointer="/model",
    )


def _foreign(model_id: str, name: str) -> Model:
    return Model(
        id=model_id,
        title=name,
        provider=ProviderName.OPENAI_COMPATIBLE,
        provider_model=name,
        family="openai-compatible",
        context_window=None,
        max_output=None,
        price=None,
        capabilities=Capabilities(native_tools=True, thinking=False, structured_output=False),
    )
