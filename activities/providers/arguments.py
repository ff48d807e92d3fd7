"""The arguments of a call, as a model wrote them. Pure."""

import json

from conductor_ai.contracts.base import Json, JsonObject

DEEPEST = 64
"""Objects and lists within each other. Python's own reader, and what stores a reply, fail at some hundreds."""


def parsed(text: str) -> JsonObject | None:
    """The JSON object that a text is; None for anything else, and for one that is nested beyond all sense.

    A model's mistake is told to the model: it must not look like a fault of the provider, whose answer would be paid
    for again with each attempt.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and not too_deep(value) else None


def too_deep(value: Json) -> bool:
    """Whether a JSON value is nested deeper than `DEEPEST`. Goes level by level: it cannot run out of stack itself."""
    level: list[Json] = [value]
    for _ in range(DEEPEST):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return any(isinstance(item, dict | list) for item in level)
