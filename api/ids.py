"""Ids from outside: looked at before they reach a store."""

import re

_RANDOM = re.compile(r"[0-9a-f]{32}")


def is_id(prefix: str, text: str) -> bool:
    """Whether `text` could be one of our ids with this prefix. What could not is not asked for."""
    head, _, tail = text.partition("_")
    return head == prefix and _RANDOM.fullmatch(tail) is not None
