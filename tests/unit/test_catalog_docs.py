"""The reference of models cannot drift from the catalog."""

import re
from decimal import Decimal
from pathlib import Path

from activities.providers.demo_script import parse
from conductor_ai.catalog import all_models
from conductor_ai.contracts.catalog import Model

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "models.md"


def row(model: Model) -> str:
    """One line of the table, as the page must have it."""

    def amount(value: Decimal | None) -> str:
        return "–" if value is None else f"{value.normalize():f}"

    def tokens(value: int | None) -> str:
        return "–" if value is None else f"{value:,}"

    rates = model.price.rates if model.price else None
    notes = [
        *(f"alias `{alias}`" for alias in model.aliases),
        *(["ReAct"] if not model.capabilities.native_tools else []),
        *([f"retired on {model.retires_on}"] if model.retires_on else []),
        *([f"use `{model.replacement}`"] if model.replacement else []),
    ]
    name = f"`{model.id}`" + (f" ({', '.join(notes)})" if notes else "")
    prices = [getattr(rates, field, None) for field in ("input", "output", "cache_read", "cache_write")]
    cells = [name, model.provider.value, tokens(model.context_window), tokens(model.max_output), *map(amount, prices)]
    return f"| {' | '.join(cells)} |"


def test_the_table_has_every_row_as_it_is() -> None:
    """A new or changed row of the catalog is a changed line of the page."""
    rows = [
        line for line in PAGE.read_text().splitlines() if re.match(r"\| `[^`]+`.* \| (anthropic|openai_c|demo)", line)
    ]
    assert rows == [row(model) for model in all_models()]


def test_the_example_of_directives_works() -> None:
    """What the page shows is what the demo understands."""
    example = PAGE.read_text().split("### Directives")[1].split("```")[1]
    steps = parse(example)
    assert [bool(step.calls) for step in steps] == [True, False]
    assert (steps[0].think, steps[1].slow, steps[1].say) == ("I look at the stock first.", 2.5, "That was all.")
