"""Text that is safe to store and small enough to send."""

import re
from math import isfinite
from typing import Any

TO_MODEL_BYTES = 32 * 1024
"""Most bytes of one tool result that a model is sent; the store keeps the whole."""

PREVIEW_BYTES = 2 * 1024
"""Most bytes of a call's arguments that enter Temporal's history."""

_UNSTORABLE = re.compile("[\\x00\\ud800-\\udfff]")
_CUT = "\n[… {} bytes left out here …]\n"


def clean(text: str) -> str:
    """Replace what Postgres' jsonb refuses: U+0000 and lone surrogates become U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def clean_json(value: Any) -> Any:
    """`clean` for every string of a JSON value, keys included; NaN and the infinities become text: jsonb has none."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float) and not isfinite(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    if isinstance(value, dict):
        return {clean(key): clean_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(item) for item in value]
    return value


def shorten(text: str, limit: int) -> str:
    """The text in at most `limit` bytes of UTF-8, its middle cut out and said so."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return text
    note = _CUT.format(len(raw))
    keep = max(0, limit - len(note.encode()))
    head, tail = raw[: keep - keep // 3], raw[len(raw) - keep // 3 :]
    note = _CUT.format(len(raw) - len(head) - len(tail))
    return head.decode("utf-8", "ignore") + note + tail.decode("utf-8", "ignore")


def first_line(text: str, limit: int = 120) -> str:
    """The first line that says something, for summaries."""
    line = next((part.strip() for part in text.splitlines() if part.strip()), "")
    return line if len(line) <= limit else line[: limit - 1] + "…"
