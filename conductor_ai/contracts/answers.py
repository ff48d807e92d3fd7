"""What the routes answer, beside the views of sessions and approvals."""

from datetime import date
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field

from conductor_ai.contracts.base import Contract, JsonObject, UtcTime
from conductor_ai.contracts.catalog import Capabilities, Price, ProviderName
from conductor_ai.contracts.catalog import Model as CatalogModel
from conductor_ai.contracts.catalog import Rates as CatalogRates
from conductor_ai.contracts.events import EventView
from conductor_ai.contracts.status import Phase, Status
from conductor_ai.contracts.tools import Category, ToolSpec
from conductor_ai.contracts.views import ApprovalView, StepView

T = TypeVar("T")


class Page(Contract, Generic[T]):
    """One page of a list, newest first."""

    data: tuple[T, ...]
    next_cursor: str | None
    """Send it as `cursor` for the next page. Null on the last."""
    has_more: bool


class StepList(Contract):
    """Some steps of a session, the oldest first."""

    data: tuple[StepView, ...]
    has_more: bool
    """True: ask again with the last `step_number` as `after`."""
    version: int
    """The session's version: a step that is under way changes until its calls have results."""
    degraded: bool
    """True if this comes from a copy because the database is away; it may be old."""


class EventList(Contract):
    """Some events of a session, the oldest first."""

    data: tuple[EventView, ...]
    has_more: bool
    """True: ask again with the last `seq` as `after`."""
    version: int
    """Number of the session's last event."""


class KeyView(Contract):
    """An API key as it is listed."""

    id: str
    name: str
    role: Literal["viewer", "operator", "approver", "admin"]
    created_at: UtcTime
    revoked_at: UtcTime | None


class NewKey(KeyView):
    """An API key that was just made."""

    secret: str
    """What the caller shows the API. It is not kept and cannot be shown again."""


class RunAccepted(Contract):
    """A session that Temporal has accepted."""

    session_id: str
    status: Literal[Status.PENDING] = Status.PENDING
    poll_url: str
    links: dict[str, str]
    created_at: UtcTime


class CancelAnswer(Contract):
    """What a request to cancel came to."""

    session_id: str
    status: Status
    phase: Phase
    message: str


class ToolView(Contract):
    """One tool that a worker has published."""

    name: str
    description: str
    category: Category
    parameters: JsonObject
    """JSON Schema of the arguments."""
    requires_approval: bool
    available: bool
    """False: sessions cannot use it at present; `note` says why."""
    note: str | None

    @classmethod
    def of(cls, spec: ToolSpec, *, available: bool) -> "ToolView":
        """The published tool as the API shows it."""
        return cls(**spec.model_dump(exclude={"queue"}), available=available)


class ToolList(Contract):
    """Tools by name."""

    tools: tuple[ToolView, ...]


class Rates(Contract):
    """US dollars for a million tokens of each kind."""

    input: float
    output: float
    cache_read: float
    cache_write: float

    @classmethod
    def of(cls, rates: CatalogRates) -> "Rates":
        """The catalog's exact rates as numbers."""
        return cls(**{name: float(value) for name, value in rates.model_dump().items()})


class PriceView(Contract):
    """What a model costs, and who says so."""

    rates: Rates
    long_prompt_over: int | None
    """Prompts of more tokens pay `long_prompt_rates` for the whole request."""
    long_prompt_rates: Rates | None
    source: str
    as_of: date

    @classmethod
    def of(cls, price: Price) -> "PriceView":
        """The catalog's price as the API shows it."""
        return cls(
            rates=Rates.of(price.rates),
            long_prompt_over=price.long_prompt_over,
            long_prompt_rates=None if price.long_prompt_rates is None else Rates.of(price.long_prompt_rates),
            source=price.source,
            as_of=price.as_of,
        )


class ModelView(Contract):
    """One model of the catalog."""

    id: str
    title: str
    provider: ProviderName
    aliases: tuple[str, ...]
    family: str
    context_window: int | None
    max_output: int | None
    price: PriceView | None
    """Null if it is not known."""
    capabilities: Capabilities
    deprecated: bool
    retires_on: date | None
    replacement: str | None
    default: bool
    """True for the model of sessions that name none."""
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, model: CatalogModel, *, default: bool, warnings: tuple[str, ...]) -> "ModelView":
        """The catalog's row as the API shows it."""
        row = model.model_dump(exclude={"provider_model", "version", "price"})
        price = None if model.price is None else PriceView.of(model.price)
        return cls(**row, price=price, default=default, warnings=warnings)


class ModelList(Contract):
    """All models that sessions may name."""

    models: tuple[ModelView, ...]


class Health(Contract):
    """The process answers; whether its dependencies do is told by `/readyz`."""

    status: Literal["healthy"] = "healthy"
    tools: dict[str, str] = Field(default_factory=dict)
    """Tool by tool: `available` or `not available`, and what a person should know of it. Empty while that cannot be read."""


class Alive(Contract):
    """The process runs."""

    status: Literal["alive"] = "alive"


class Check(Contract):
    """One dependency."""

    ok: bool
    detail: str | None = None
    """A sentence: why not."""


class Readiness(Contract):
    """Whether requests can be served."""

    status: Literal["ready", "degraded"]
    """`degraded`: Redis is away, everything works but slower."""
    checks: dict[Annotated[str, Field(examples=["postgres"])], Check]


class BatchResult(Contract):
    """What one decision of a batch came to."""

    approval_id: str
    status: int
    """The HTTP status that it would have had alone."""
    approval: ApprovalView | None = None
    """As it is now, if the decision was taken."""
    code: str | None = None
    """The error's code, if it was not."""
    detail: str | None = None


class BatchAnswer(Contract):
    """A result for each decision, in their order."""

    results: tuple[BatchResult, ...]


class MessageAccepted(Contract):
    """A message that the session will read."""

    message_id: str
    session_id: str
    poll_url: str
