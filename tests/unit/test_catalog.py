"""The catalog: which model a name leads to, when it is refused, and what is warned of."""

from datetime import date
from decimal import Decimal

import pytest

from conductor_ai import catalog
from conductor_ai.catalog_rows import RETIRED
from conductor_ai.contracts.catalog import Model, ProviderName
from conductor_ai.errors import Code, InvalidRequest

TODAY = date(2026, 11, 23)
SONNET_4_5 = "claude-sonnet-4-5-20250929"


def test_every_name_is_unique() -> None:
    """No id or alias leads to two rows, and no served model is listed as retired."""
    names = [name for row in catalog.all_models() for name in (row.id, *row.aliases)]
    assert len(names) == len(set(names))
    assert not set(names) & set(RETIRED)


@pytest.mark.parametrize("row", catalog.all_models(), ids=lambda row: row.id)
def test_every_row_can_be_used_or_names_what_can(row: Model) -> None:
    """A row that ages says what to take instead, and that replacement is a live row of the same provider."""
    if row.deprecated or row.retires_on is not None:
        assert row.replacement is not None
        replacement = catalog.find(row.replacement)
        assert not replacement.deprecated
        assert replacement.provider is row.provider
    else:
        assert row.replacement is None


@pytest.mark.parametrize("row", catalog.all_models(), ids=lambda row: row.id)
def test_every_price_makes_sense_and_names_its_source(row: Model) -> None:
    """Prices are not negative, cached tokens never cost more than fresh ones, and each says who said so and when."""
    if row.price is None:
        return
    for rates in (row.price.rates, row.price.long_prompt_rates):
        if rates is not None:
            assert rates.input >= rates.cache_read >= 0
            assert rates.cache_write >= rates.input
            assert rates.output >= 0
    assert row.price.source
    assert row.price.as_of <= TODAY
    assert (row.price.long_prompt_over is None) == (row.price.long_prompt_rates is None)


def test_opus_is_not_billed_as_sonnet() -> None:
    """The two families of one generation keep prices of their own."""
    opus, sonnet = catalog.find("claude-opus-4-5-20251101"), catalog.find(SONNET_4_5)
    assert opus.price is not None
    assert sonnet.price is not None
    assert (opus.price.rates.input, opus.price.rates.output) == (Decimal(5), Decimal(25))
    assert (sonnet.price.rates.input, sonnet.price.rates.output) == (Decimal(3), Decimal(15))


def test_an_alias_leads_to_its_row() -> None:
    """The undated name of a dated model is the same row."""
    assert catalog.resolve("claude-opus-4-5", TODAY).id == "claude-opus-4-5-20251101"


@pytest.mark.parametrize(
    ("today", "days"), [(date(2026, 11, 23), "in 7 days"), (date(2026, 11, 29), "in 1 day."), (TODAY, "in 7 days")]
)
def test_a_model_that_is_about_to_go_warns(today: date, days: str) -> None:
    """Until the day before its retirement a model works, and says how long and what comes after."""
    model = catalog.resolve(SONNET_4_5, today)
    (warning,) = catalog.warnings(model, today)
    assert days.rstrip(".") in warning
    assert "claude-sonnet-5-5" in warning


@pytest.mark.parametrize("name", [SONNET_4_5, "claude-sonnet-4-5"])
def test_a_retired_model_is_refused_from_its_day_on(name: str) -> None:
    """On the day of retirement a start is refused with a code of its own, naming the replacement; bills still work."""
    with pytest.raises(InvalidRequest) as caught:
        catalog.resolve(name, date(2026, 11, 30))
    assert caught.value.code is Code.MODEL_RETIRED
    assert caught.value.pointer == "/model"
    assert "claude-sonnet-5-5" in caught.value.message
    assert catalog.find(name).price is not None


@pytest.mark.parametrize("name", sorted(RETIRED))
def test_models_of_the_past_name_their_successor(name: str) -> None:
    """A name that was served once is not merely unknown."""
    with pytest.raises(InvalidRequest) as caught:
        catalog.resolve(name, TODAY)
    assert caught.value.code is Code.MODEL_RETIRED
    assert RETIRED[name][1] in caught.value.message
    assert catalog.resolve(RETIRED[name][1], TODAY).provider is ProviderName.ANTHROPIC


@pytest.mark.parametrize("name", ["", "gpt", "openai:", "openai: x", "openai:a\nb", "CLAUDE-OPUS-5-5", "demo "])
def test_an_unknown_model_is_refused_without_an_echo(name: str) -> None:
    """What is in no row is refused, and the message does not repeat what was sent."""
    with pytest.raises(InvalidRequest) as caught:
        catalog.resolve(name, TODAY)
    assert caught.value.code is Code.UNKNOWN_MODEL
    assert "CLAUDE" not in caught.value.message


def test_any_model_of_an_own_endpoint_is_allowed_and_flagged() -> None:
    """`openai:NAME` reaches the endpoint as NAME; its price is unknown, and that is said."""
    model = catalog.resolve("openai:llama3.3:70b", TODAY)
    assert (model.provider, model.provider_model, model.price) == (
        ProviderName.OPENAI_COMPATIBLE,
        "llama3.3:70b",
        None,
    )
    (warning,) = catalog.warnings(model, TODAY)
    assert "price" in warning


def test_a_deprecated_model_warns() -> None:
    """A model with a successor but without a date still warns."""
    model = catalog.resolve("deepseek/deepseek-chat", TODAY)
    assert any("deepseek/deepseek-v3.2" in warning for warning in catalog.warnings(model, TODAY))


def test_a_current_model_does_not_warn() -> None:
    """No noise where all is well."""
    assert catalog.warnings(catalog.find("claude-sonnet-5-5"), TODAY) == ()


def test_the_default_follows_key_and_setting() -> None:
    """A setting wins; with a key the newest Sonnet; without one the demo."""
    assert catalog.default_model(True, "claude-opus-5") == "claude-opus-5"
    assert catalog.default_model(True, None) == "claude-sonnet-5-5"
    assert catalog.default_model(False, None) == "demo"
    assert not catalog.find(catalog.default_model(True, None)).deprecated


def test_the_newest_is_newest_by_number_not_by_text() -> None:
    """Versions are compared as numbers, so that 4.10 comes after 4.9."""
    sonnets = [row.version for row in catalog.all_models() if row.family == "claude-sonnet"]
    assert max(sonnets) == (5, 5)
    assert (4, 6) in sonnets
