"""Parameters from JSON to PostgreSQL, without guessing types. Pure.

The server says which type each $n has in the statement. Every `$n` is then written as `($n::text)::type` at the place
where the parser saw it, and every value is sent as text: the server converts it as it converts a literal.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from postgast import parse
from postgast import pg_query_pb2 as pg

from activities.sql.tree import descend

JSON_TYPES = frozenset({114, 3802})
INTEGER_TYPES = frozenset({20, 21, 23, 26})
_PLACEHOLDER = re.compile(rb"\$\d+")


@dataclass(frozen=True)
class ParameterType:
    """What the server expects for one $n."""

    oid: int
    name: str
    """As a cast takes it, quoted and qualified where needed."""


class BadParameter(ValueError):
    """A value cannot be sent; the message is a sentence for the model."""


def with_types(text: str, types: Sequence[ParameterType]) -> str:
    """The statement with every $n cast to the type that the server gave it."""
    encoded = text.encode()
    places = sorted(
        {(item.location, item.number) for item in descend(parse(text)) if isinstance(item, pg.ParamRef)}, reverse=True
    )
    for place, number in places:
        found = _PLACEHOLDER.match(encoded, place)
        assert found is not None
        cast = f"(${number}::text)::{types[number - 1].name}".encode()
        encoded = encoded[:place] + b"(" + cast + b")" + encoded[found.end() :]
    return encoded.decode()


def as_text(position: int, value: Any, kind: ParameterType) -> str | None:
    """One JSON value as PostgreSQL reads it from text.

    Raises:
        BadParameter: the value holds what no text can (NUL, half a surrogate pair), or does not fit the type's shape.
    """
    if value is None:
        return None
    if isinstance(value, dict) and kind.oid not in JSON_TYPES:
        raise BadParameter(f"Parameter ${position} is an object, but the statement needs {kind.name} there.")
    try:
        text = _written(value, kind)
    except (ValueError, RecursionError):  # Python writes no integer of more than 4,300 digits
        raise BadParameter(
            f"Parameter ${position} is a number of too many digits or nested too deeply. Send it as a text."
        ) from None
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise BadParameter(
            f"Parameter ${position} holds a NUL character or half of a surrogate pair, which PostgreSQL cannot store."
        )
    return text


def _written(value: Any, kind: ParameterType) -> str:
    if kind.oid in JSON_TYPES and isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return _array(value) if isinstance(value, list) else _scalar(value, whole=kind.oid in INTEGER_TYPES)


def _scalar(value: Any, *, whole: bool = False) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and whole and math.isfinite(value) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else repr(value)


def _array(values: list[Any]) -> str:
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return _array(value)
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else _scalar(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
