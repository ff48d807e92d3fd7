"""Usage times price, in Decimal. Floats never touch money."""

from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum

from conductor_ai.contracts.base import Contract
from conductor_ai.contracts.catalog import Model, Price, Rates
from conductor_ai.contracts.models import Usage

MILLION = Decimal(1_000_000)
PICO = Decimal("0.000000000001")
"""What a cost is rounded to: far below one token of the cheapest model, so that sums do not drift."""


class Basis(StrEnum):
    """Where a cost comes from."""

    REPORTED = "reported"
    """The provider's own figure."""
    CATALOG = "catalog"
    """Tokens times the catalog's prices."""
    UNKNOWN = "unknown"
    """The price is not known: the amount is 0 and means nothing."""


class Cost(Contract):
    """An amount in US dollars and where it comes from."""

    usd: Decimal
    basis: Basis


def cost_of(usage: Usage, model: Model) -> Cost:
    """What one attempt cost. The provider's own figure wins; without it and without a price the cost is unknown."""
    if usage.reported_cost_usd is not None:
        return Cost(usd=_rounded(usage.reported_cost_usd), basis=Basis.REPORTED)
    if model.price is None:
        return Cost(usd=Decimal(0), basis=Basis.UNKNOWN)
    rates = rates_for(usage, model.price)
    amount = (
        usage.input * rates.input
        + usage.output * rates.output
        + usage.cache_read * rates.cache_read
        + usage.cache_write * rates.cache_write
    ) / MILLION
    return Cost(usd=_rounded(amount), basis=Basis.CATALOG)


def rates_for(usage: Usage, price: Price) -> Rates:
    """The rates of one request: some models bill a long prompt, cached tokens included, at a higher rate throughout."""
    prompt = usage.input + usage.cache_read + usage.cache_write
    if price.long_prompt_over is not None and price.long_prompt_rates is not None and prompt > price.long_prompt_over:
        return price.long_prompt_rates
    return price.rates


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(PICO, rounding=ROUND_HALF_EVEN).normalize() + Decimal(0)
