"""One cell of a result, from PostgreSQL's text to JSON, without loss. Pure.

What JSON cannot carry exactly stays text: numeric, integers beyond 2^53, NaN and infinities, intervals (ISO 8601),
ranges, bytea (`\\x…`), uuid, composites. Times are RFC 3339 where the year has four digits; the session's zone is UTC.
"""

import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from conductor_ai.contracts.base import Json

SAFE_INTEGER = 2**53 - 1
MAX_JSON_DEPTH = 32
"""Levels of a JSON value; what is nested deeper stays text, because readers of results give up at some depth."""
_UNSENDABLE = re.compile("[\0\ud800-\udfff]")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)([+-]\d\d)?(:\d\d)?")


class _Inexact(ValueError):
    """JSON text that Python's numbers and dicts would change."""


def cell(text: str | None, oid: int) -> Json:
    """The value of a cell.

    Args:
        text: PostgreSQL's output for it, complete; None for NULL.
        oid: the type of its column.
    """
    if text is None:
        return None
    element = ARRAYS.get(oid)
    if element is not None or (text.startswith("{") and oid in TEXT_ARRAYS):
        return _array(text, element or 25)
    return _CONVERT[oid](text) if oid in _CONVERT else text


def _integer(text: str) -> Json:
    value = int(text)
    return value if abs(value) <= SAFE_INTEGER else text


def _float(text: str) -> Json:
    value = float(text)
    return value if math.isfinite(value) else text


def _time(text: str) -> Json:
    found = _TIME.fullmatch(text)
    if found is None:
        return text
    day, clock, zone, minutes = found.groups()
    return f"{day}T{clock}" + (f"{zone}{minutes or ':00'}" if zone else "")


def _json(text: str) -> Json:
    try:
        parsed: Json = json.loads(
            text, parse_float=_exact, parse_int=_whole, parse_constant=_refuse, object_pairs_hook=_object
        )
    except (ValueError, RecursionError):
        return text
    return parsed if _can_travel(parsed) else text


def _can_travel(parsed: Json) -> bool:
    """False where the type json holds what no UTF-8 text and no jsonb can: NUL, half a surrogate pair, great depth."""
    level: list[Json] = [parsed]
    for _ in range(MAX_JSON_DEPTH):
        texts = [item for item in level if isinstance(item, str)]
        texts += [name for item in level if isinstance(item, dict) for name in item]
        if any(map(_UNSENDABLE.search, texts)):
            return False
        level = [
            below
            for item in level
            if isinstance(item, (list, dict))
            for below in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return True
    return False


def _exact(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or Decimal(repr(value)) != Decimal(text):
        raise _Inexact
    return value


def _whole(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > SAFE_INTEGER:
        raise _Inexact
    return int(text)


def _refuse(_text: str) -> Json:
    raise _Inexact


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Inexact
    return found


def _array(text: str, element: int) -> Json:
    """`{1,NULL,{"a b",c}}` as nested lists; with other lower bounds (`[0:1]={…}`) it stays text."""
    if not text.startswith("{"):
        return text
    root: list[Json] = []
    stack: list[list[Json]] = [root]
    for token in _TOKEN.finditer(text):
        if token["open"]:
            fresh: list[Json] = []
            stack[-1].append(fresh)
            stack.append(fresh)
        elif token["close"]:
            stack.pop()
        elif token["quoted"] is not None:
            stack[-1].append(cell(_ESCAPE.sub(r"\1", token["quoted"]), element))
        elif token["plain"]:
            stack[-1].append(None if token["plain"] == "NULL" else cell(token["plain"], element))
    return root[0]


_TOKEN = re.compile(
    r'(?P<open>\{)|(?P<close>\})|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<comma>,)|(?P<plain>[^{},"]+)', re.DOTALL
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)

_CONVERT: dict[int, Callable[[str], Json]] = {
    16: lambda text: text in ("true", "t"),
    20: _integer,
    21: _integer,
    23: _integer,
    26: _integer,
    700: _float,
    701: _float,
    114: _json,
    3802: _json,
    1114: _time,
    1184: _time,
}
ARRAYS = {
    1000: 16,
    1005: 21,
    1007: 23,
    1016: 20,
    1028: 26,
    1021: 700,
    1022: 701,
    199: 114,
    3807: 3802,
    1115: 1114,
    1185: 1184,
}
"""Array types to the types of their elements, where elements are not plain text."""
TEXT_ARRAYS = frozenset({1002, 1003, 1009, 1014, 1015, 1001, 1041, 1182, 1183, 1270, 1187, 1231, 2951, 651, 143})
"""Array types whose elements stay text: text, varchar, char, name, bytea, date, time, interval, numeric, uuid …"""
