"""The catalog against the tables inside the installed anthropic SDK: an upgrade that changes them fails here."""

from datetime import date, datetime
from typing import get_args

from anthropic.resources.messages.messages import DEPRECATED_MODELS
from anthropic.types.model import Model as SdkModel

from conductor_ai import catalog
from conductor_ai.catalog_rows import RETIRED
from conductor_ai.contracts.catalog import ProviderName

BEFORE = date(2025, 7, 1)
"""Models that went before this day are merely unknown."""


def _day(text: str) -> date:
    month, day, year = text.replace(",", "").split()
    return datetime.strptime(f"{month} {day.rstrip('stndrh')} {year}", "%B %d %Y").date()  # noqa: DTZ007 - a day, no time


def test_every_retirement_date_is_the_sdks() -> None:
    """Rows and retired names carry the dates of the SDK's table, and no retirement is missed."""
    for name, said in DEPRECATED_MODELS.items():
        day = _day(said)
        if name in RETIRED:
            assert RETIRED[name][0] == day, name
        elif day >= BEFORE and not name.startswith("claude-2"):
            assert catalog.find(name).retires_on == day, name
    for row in catalog.all_models():
        if row.provider is ProviderName.ANTHROPIC and row.retires_on is not None:
            assert row.id in DEPRECATED_MODELS


def test_every_model_that_the_sdk_knows_is_in_the_catalog() -> None:
    """A new Claude model is one row here."""
    literal = next(part for part in get_args(SdkModel) if part is not str)
    for name in get_args(literal):
        assert name in RETIRED or catalog.find(name).provider is ProviderName.ANTHROPIC
