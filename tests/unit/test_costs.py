"""Costs: exact in Decimal, right for cached tokens, and honest about what is not known."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_ai import catalog
from conductor_ai.contracts.models import Usage
from conductor_ai.costs import Basis, cost_of

COUNTS = st.integers(min_value=0, max_value=50_000)


@pytest.mark.parametrize(
    ("model", "usage", "usd"),
    [
        ("claude-sonnet-4-5-20250929", Usage(input=1_000_000, output=1_000_000), "18"),
        ("claude-opus-4-5-20251101", Usage(input=1_000_000, output=1_000_000), "30"),
        ("claude-sonnet-4-5-20250929", Usage(cache_read=1_000_000), "0.30"),
        ("claude-sonnet-4-5-20250929", Usage(cache_write=1_000_000), "3.75"),
        ("claude-sonnet-4-5-20250929", Usage(input=1, output=1, cache_read=1, cache_write=1), "0.00002205"),
        ("qwen/qwen-2.5-72b-instruct", Usage(input=1000, output=1000), "0.00076"),
        ("claude-haiku-5-5", Usage(input=100_000), "0.01"),
        ("claude-haiku-5-5", Usage(input=100_001), "0.0500005"),
        ("claude-haiku-5-5", Usage(input=1, cache_read=100_000, output=1000), "0.0075005"),
        ("demo", Usage(input=10**6, output=10**6), "0"),
    ],
)
def test_usage_times_price(model: str, usage: Usage, usd: str) -> None:
    """Each kind of token has its own rate; a long prompt, cached part included, changes the rate of everything."""
    cost = cost_of(usage, catalog.find(model))
    assert (cost.usd, cost.basis) == (Decimal(usd), Basis.CATALOG)


def test_the_providers_own_figure_wins() -> None:
    """What the provider reports is what is billed, also when it is zero or the price is unknown."""
    usage = Usage(input=10**6, reported_cost_usd=Decimal("0.000123"))
    assert cost_of(usage, catalog.find("claude-opus-5-5")).usd == Decimal("0.000123")
    assert cost_of(usage, catalog.find("openai:own")).basis is Basis.REPORTED
    free = Usage(input=10**6, reported_cost_usd=Decimal(0))
    assert cost_of(free, catalog.find("claude-opus-5-5")).usd == 0


def test_an_unknown_price_is_flagged() -> None:
    """No price and no figure: 0, and nobody may take it for the truth."""
    cost = cost_of(Usage(input=10**6), catalog.find("openai:own"))
    assert (cost.usd, cost.basis) == (Decimal(0), Basis.UNKNOWN)


def test_an_amount_is_written_plainly() -> None:
    """No exponent, whatever the size: the text of an amount goes into JSON and onto screens."""
    assert str(cost_of(Usage(input=50_000_000), catalog.find("claude-opus-5-5")).usd) == "200"


@given(st.lists(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS), max_size=20))
def test_the_parts_add_up(counts: list[tuple[int, int, int, int]]) -> None:
    """Billing attempts one by one or as a sum gives the same amount, to the last digit."""
    model = catalog.find("claude-opus-4-5")
    usages = [Usage(input=a, output=b, cache_read=c, cache_write=d) for a, b, c, d in counts]
    total = sum(usages, Usage())
    assert sum((cost_of(usage, model).usd for usage in usages), Decimal(0)) == cost_of(total, model).usd
