"""The rows of the catalog. A new model is one row here; nothing else needs to change.

Sources: names, retirement dates and replacements of Claude models from the tables inside the anthropic SDK 2.12; output
limits from the model pages of platform.claude.com; prices and context windows from the offline table of genai-prices
0.2.3, in the state of 23 November 2026. Prices of OpenRouter move by the week, and its own figure wins over these.
"""

from datetime import date
from decimal import Decimal

from conductor_ai.contracts.catalog import Capabilities, Model, Price, ProviderName, Rates

AS_OF = date(2026, 11, 23)
SOURCE = "genai-prices 0.2.3"

CLAUDE = Capabilities(native_tools=True, thinking=True, structured_output=True)
OPEN = Capabilities(native_tools=True, thinking=False, structured_output=False)
REACT = Capabilities(native_tools=False, thinking=False, structured_output=False)


def _rates(input_: str, output: str, cache_read: str | None = None, cache_write: str | None = None) -> Rates:
    return Rates(
        input=Decimal(input_),
        output=Decimal(output),
        cache_read=Decimal(cache_read or input_),
        cache_write=Decimal(cache_write or input_),
    )


def _price(input_: str, output: str, cache_read: str | None = None, cache_write: str | None = None) -> Price:
    return Price(rates=_rates(input_, output, cache_read, cache_write), source=SOURCE, as_of=AS_OF)


def _claude(
    id_: str,
    title: str,
    price: Price | None,
    *,
    window: int | None = 1_000_000,
    output: int | None = 128_000,
    aliases: tuple[str, ...] = (),
    replacement: str | None = None,
    retires_on: date | None = None,
) -> Model:
    family, *rest = id_.removeprefix("claude-").split("-")
    return Model(
        id=id_,
        title=title,
        provider=ProviderName.ANTHROPIC,
        provider_model=id_,
        aliases=aliases,
        family=f"claude-{family}",
        version=tuple(int(part) for part in rest if part.isdigit() and len(part) < 8),
        context_window=window,
        max_output=output,
        price=price,
        capabilities=CLAUDE,
        deprecated=replacement is not None,
        retires_on=retires_on,
        replacement=replacement,
    )


def _openrouter(
    id_: str, title: str, family: str, version: tuple[int, ...], price: Price, window: int | None, **more: str | bool
) -> Model:
    replacement = more.get("replacement")
    return Model(
        id=id_,
        title=title,
        provider=ProviderName.OPENAI_COMPATIBLE,
        provider_model=id_,
        family=family,
        version=version,
        context_window=window,
        max_output=None,
        price=price,
        capabilities=REACT if more.get("react") else OPEN,
        deprecated=replacement is not None,
        replacement=str(replacement) if replacement else None,
    )


HAIKU_5_5 = Price(
    rates=_rates("0.10", "0.50", "0.01", "0.125"),
    long_prompt_over=100_000,
    long_prompt_rates=_rates("0.50", "2.50", "0.05", "0.625"),
    source=SOURCE,
    as_of=AS_OF,
)
OPUS_4 = _price("5", "25", "0.50", "6.25")

ROWS: tuple[Model, ...] = (
    _claude("claude-sonnet-5-5", "Claude Sonnet 5.5", _price("2", "10", "0.10", "2.50")),
    _claude("claude-opus-5-5", "Claude Opus 5.5", _price("4", "20", "0.20", "5")),
    _claude("claude-haiku-5-5", "Claude Haiku 5.5", HAIKU_5_5),
    _claude("claude-fable-5-2", "Claude Fable 5.2", _price("8", "40", "0.20", "10"), output=None),
    _claude("claude-fable-5-1", "Claude Fable 5.1", _price("10", "50", "0.25", "12.50")),
    _claude("claude-fable-5", "Claude Fable 5", _price("10", "50", "1", "12.50"), output=None),
    # Mythos is served to verified organisations only; the price table lists just the newest of them.
    _claude("claude-mythos-5-2", "Claude Mythos 5.2", _price("8", "40", "0.20", "10"), output=None),
    _claude("claude-mythos-5-1", "Claude Mythos 5.1", None, window=None, output=None),
    _claude("claude-mythos-5", "Claude Mythos 5", None, window=None, output=None),
    _claude("claude-sonnet-5", "Claude Sonnet 5", _price("2", "10", "0.20", "2.50")),
    _claude("claude-opus-5", "Claude Opus 5", OPUS_4),
    _claude("claude-opus-4-8", "Claude Opus 4.8", OPUS_4),
    _claude("claude-opus-4-7", "Claude Opus 4.7", OPUS_4),
    _claude("claude-opus-4-6", "Claude Opus 4.6", OPUS_4),
    _claude("claude-sonnet-4-6", "Claude Sonnet 4.6", _price("3", "15", "0.30", "3.75")),
    _claude(
        "claude-haiku-4-5-20251001",
        "Claude Haiku 4.5",
        _price("1", "5", "0.10", "1.25"),
        window=200_000,
        output=64_000,
        aliases=("claude-haiku-4-5",),
    ),
    _claude(
        "claude-opus-4-5-20251101",
        "Claude Opus 4.5",
        OPUS_4,
        window=200_000,
        output=64_000,
        aliases=("claude-opus-4-5",),
        replacement="claude-opus-5-5",  # its provider names no date yet; the newer one does more for less
    ),
    _claude(
        "claude-sonnet-4-5-20250929",
        "Claude Sonnet 4.5",
        _price("3", "15", "0.30", "3.75"),
        window=200_000,
        output=64_000,
        aliases=("claude-sonnet-4-5",),
        retires_on=date(2026, 11, 30),
        replacement="claude-sonnet-5-5",
    ),
    _openrouter("qwen/qwen3.8-27b", "Qwen 3.8 27B", "qwen", (3, 8), _price("0.425", "2.55", "0.085", "0.53125"), 10**6),
    _openrouter("qwen/qwen3-max", "Qwen 3 Max", "qwen", (3,), _price("1.20", "6"), 262_144),
    _openrouter(
        "qwen/qwen-2.5-72b-instruct",
        "Qwen 2.5 72B",
        "qwen",
        (2, 5),
        _price("0.36", "0.40"),
        None,
        replacement="qwen/qwen3.8-27b",
        react=True,
    ),
    _openrouter(
        "deepseek/deepseek-v4-pro-0813",
        "DeepSeek V4 Pro",
        "deepseek",
        (4,),
        _price("0.66", "1.98", "0.022"),
        1_048_576,
    ),
    _openrouter("deepseek/deepseek-v3.2", "DeepSeek V3.2", "deepseek", (3, 2), _price("0.26", "0.38", "0.13"), None),
    _openrouter(
        "deepseek/deepseek-chat",
        "DeepSeek V3",
        "deepseek",
        (3,),
        _price("0.2574", "1.0287"),
        None,
        replacement="deepseek/deepseek-v3.2",
        react=True,
    ),
    Model(
        id="demo",
        title="Demo (a scripted policy, not a language model)",
        provider=ProviderName.DEMO,
        provider_model="demo",
        family="demo",
        context_window=None,
        max_output=None,
        price=Price(rates=_rates("0", "0"), source="Conductor", as_of=AS_OF),
        capabilities=Capabilities(native_tools=True, thinking=False, structured_output=True),
    ),
)

_HAIKU, _SONNET, _OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"

RETIRED: dict[str, tuple[date, str]] = {
    "claude-mythos-preview": (date(2026, 6, 30), "claude-mythos-5-2"),
    "claude-sonnet-4-20250514": (date(2026, 6, 15), _SONNET),
    "claude-sonnet-4-0": (date(2026, 6, 15), _SONNET),
    "claude-opus-4-20250514": (date(2026, 6, 15), _OPUS),
    "claude-opus-4-0": (date(2026, 6, 15), _OPUS),
    "claude-3-7-sonnet-20250219": (date(2026, 2, 19), _SONNET),
    "claude-3-7-sonnet-latest": (date(2026, 2, 19), _SONNET),
    "claude-3-5-haiku-20241022": (date(2026, 2, 19), _HAIKU),
    "claude-3-5-haiku-latest": (date(2026, 2, 19), _HAIKU),
    "claude-3-opus-20240229": (date(2026, 1, 5), _OPUS),
    "claude-3-sonnet-20240229": (date(2025, 7, 21), _SONNET),
}
"""Names that were served once: a session that still asks for one is told where to go. Name -> (gone since, next)."""
