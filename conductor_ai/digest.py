"""Digests of what a person saw and of what a model was sent."""

import hashlib
from typing import Any

import rfc8785

from conductor_ai.contracts.base import JsonObject

_WHY = (
    "The arguments hold a number that programs read differently (beyond 2^53, NaN or infinite), or are nested too "
    "deeply. Send large numbers as strings."
)


class NotCanonicalError(ValueError):
    """The value has a number that JSON readers do not agree on (an integer beyond 2^53, NaN, infinity)."""


def canonical(value: Any) -> bytes:
    """The value as RFC 8785 JSON.

    Raises:
        NotCanonicalError: it has no canonical form.
    """
    try:
        if not _too_large(value):
            return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, RecursionError) as error:
        raise NotCanonicalError(_WHY) from error
    raise NotCanonicalError(_WHY)


def _too_large(value: Any) -> bool:
    """Whether a float is in it that jsonb gives back as an integer beyond 2^53, which has no canonical form."""
    if isinstance(value, float):
        return abs(value) >= 2**53
    if isinstance(value, dict):
        return any(_too_large(item) for item in value.values())
    return isinstance(value, list | tuple) and any(_too_large(item) for item in value)


def arguments_sha256(tool: str, arguments: JsonObject) -> str:
    """The digest that a decision names: of the tool and its validated arguments, defaults filled in. 64 hex digits."""
    return hashlib.sha256(canonical({"tool": tool, "arguments": arguments})).hexdigest()


def content_sha256(payload: JsonObject) -> str:
    """The digest of what comes with a decision (new arguments, an answer, a wish to remember); empty if nothing does.

    Raises:
        NotCanonicalError: the new arguments have no canonical form.
    """
    return hashlib.sha256(canonical(payload)).hexdigest() if payload else ""


def chained_sha256(before: str, text: str) -> str:
    """The digest of a list of texts that ends with `text`, given that of the texts before it (empty: none)."""
    return text_sha256(f"{before}\n{text}")


def text_sha256(text: str) -> str:
    """The SHA-256 of a text in UTF-8, as 64 hex digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
