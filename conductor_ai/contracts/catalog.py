"""What is known of a model: who serves it, how much fits, what it costs, until when it lives."""

from datetime import date
from decimal import Decimal
from enum import StrEnum

from conductor_ai.contracts.base import Contract


class ProviderName(StrEnum):
    """The providers that exist. One file each in `activities/providers/`."""

    ANTHROPIC = "anthropic"
    OPENAI_COMPATIBLE = "openai_compatible"
    DEMO = "demo"


class Rates(Contract):
    """US dollars for a million tokens of each kind."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    """Equal to `input` where the source lists no rate of its own: then a cached token is billed like any other."""
    cache_write: Decimal


class Price(Contract):
    """What a model costs, and who says so."""

    rates: Rates
    long_prompt_over: int | None = None
    """Prompts of more tokens than this (cached ones included) pay `long_prompt_rates` for the whole request."""
    long_prompt_rates: Rates | None = None
    source: str
    as_of: date


class Capabilities(Contract):
    """What the model can do beyond text."""

    native_tools: bool
    """False: it is prompted for ReAct JSON instead."""
    thinking: bool
    """It may send thinking blocks, which go back to it with their signature."""
    structured_output: bool
    """It honours `strict` tools: arguments are held to the schema while they are written."""


class Model(Contract):
    """One row of the catalog."""

    id: str
    """What sessions name. For most models the provider's own name."""
    title: str
    provider: ProviderName
    provider_model: str
    """The name that the provider is sent."""
    aliases: tuple[str, ...] = ()
    """Other names that lead to this row."""
    family: str
    version: tuple[int, ...] = ()
    """Orders the models of one family: the highest is the newest."""
    context_window: int | None
    """Tokens; None if it is not known."""
    max_output: int | None
    """Tokens of one answer; None if it is not known."""
    price: Price | None
    """None if it is not known: cost then is what the provider reports, else it is flagged as unknown."""
    capabilities: Capabilities
    deprecated: bool = False
    """It still works, but a newer one should be used."""
    retires_on: date | None = None
    """The first day on which the provider does not serve it any more."""
    replacement: str | None = None
    """The id to move to; always set if `deprecated` or `retires_on` is."""
