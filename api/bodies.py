"""Request bodies: strict JSON, read after the caller is known, validated by a strict model.

FastAPI would parse a body before it asks who sent it, and Python's JSON reader takes NaN, infinities and repeated keys.
"""

import asyncio
import hashlib
import json
import math
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from fastapi import Request
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import ClientDisconnect

from api.problems import FieldError, Refused
from api.requests import RequestModel
from conductor_ai.errors import Code
from conductor_ai.text import clean_json

M = TypeVar("M", bound=RequestModel)

_NAME = re.compile(r"[a-z_]{1,40}[0-9]{0,3}")
"""Names of fields that are repeated to the caller: those that look like ours. Others may be anything that was sent by mistake, a key
for example, and are told by their parent."""

_ABSENT = object()

BODY_SECONDS = 30.0
"""How long a body may take to arrive: whoever sends it a byte at a time does not hold a connection for ever."""
MAX_PARTS = 5_000
"""Objects, lists and their members in one body. The largest that has a meaning has some 3,000; a million of them, each
wrong in its own way, would hold up everybody for seconds."""
MAX_QUOTES = 4 * MAX_PARTS
"""That begin or end a text: each member has at most a name and a text."""
ERRORS_SHOWN = 50
LONGEST_NUMBER = 100
"""Digits. No field takes more than 16."""


@dataclass(frozen=True)
class Received(Generic[M]):
    """A validated body."""

    value: M
    sha256: str
    """Digest of the JSON value that was sent: the order of keys and white space do not count."""


def body_of(model: type[M], *, optional: bool = False) -> Callable[[Request], Awaitable[Received[M]]]:
    """A dependency that reads the body as `model`. `optional`: no body at all is the same as `{}`."""

    async def read(request: Request) -> Received[M]:
        raw = await _whole(request)
        if not raw and optional:
            raw = b"{}"
        else:
            _require_json(request.headers.get("content-type", ""))
        received = _received(model, raw)
        request.state.body_sha256 = received.sha256
        return received

    return read


async def digest_of(request: Request) -> str:
    """The digest of what was sent: of its JSON value where a route has read one, else of its bytes."""
    known: str | None = getattr(request.state, "body_sha256", None)
    return known if known is not None else hashlib.sha256(await _whole(request)).hexdigest()


async def _whole(request: Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.body()
    except TimeoutError as error:
        raise Refused(
            f"The body did not arrive within {BODY_SECONDS:.0f} seconds.",
            code=Code.INVALID_REQUEST,
            status=408,
            headers={"Connection": "close"},
        ) from error
    except (
        ClientDisconnect
    ) as error:  # Nobody is there to read this; it only keeps a cut line from looking like a fault.
        raise Refused("The body broke off.", code=Code.INVALID_REQUEST, status=400) from error


def _require_json(content_type: str) -> None:
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused("Send the body as application/json.", code=Code.UNSUPPORTED_MEDIA_TYPE)


def _received(model: type[M], raw: bytes) -> Received[M]:
    if _parts(raw) > MAX_PARTS:
        raise Refused(
            f"The body has more than {MAX_PARTS} objects, lists and members. Send less.",
            code=Code.INVALID_REQUEST,
            status=400,
        )
    try:
        value = clean_json(_parse(raw))
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise Refused(
            "The body is not JSON that every program reads alike: it must be UTF-8, without NaN or Infinity, without a "
            "key given twice, and not nested beyond all measure.",
            code=Code.INVALID_REQUEST,
            status=400,
        ) from error
    if isinstance(value, dict):
        _refuse_unsupported(model, value)
    try:
        return Received(model.model_validate(value), hashlib.sha256(canonical.encode()).hexdigest())
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_context=False, include_input=False)) from None


def _parts(raw: bytes) -> int:
    """How many objects, lists and members JSON has, within one. Without reading it: that is what it protects."""
    found = _marks(raw)
    if found > MAX_PARTS:  # Most of it may be text.
        bare = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
        if bare.count(b'"') <= MAX_QUOTES:
            found = _marks(b"".join(bare.split(b'"')[::2]))
    return found


def _marks(raw: bytes) -> int:
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


def _parse(raw: bytes) -> Any:
    return json.loads(
        raw.decode("utf-8"),
        parse_constant=_refuse_constant,
        parse_float=_finite,
        parse_int=_short,
        object_pairs_hook=_distinct,
    )


def _refuse_constant(_: str) -> Any:
    raise ValueError("not a JSON number")


def _short(text: str) -> int:
    if len(text) > LONGEST_NUMBER:  # The time that it takes grows with the square of the length.
        raise ValueError("too large a number")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("too large a number")
    return number


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _refuse_unsupported(model: type[RequestModel], value: dict[str, Any]) -> None:
    present = [pointer for pointer in model.not_supported_yet if _at(value, pointer) is not _ABSENT]
    present += [pointer for pointer, word in model.values_not_supported_yet if _at(value, pointer) == word]
    if present:
        raise not_supported(present)


def not_supported(pointers: Iterable[str]) -> Refused:
    """The refusal of fields that are known but cannot be used yet."""
    errors = [FieldError(pointer, "This is not supported yet. Leave it out.") for pointer in pointers]
    return Refused(
        "The request has something that this version does not support yet. It was refused as a whole, because without "
        "it the request would mean something else.",
        code=Code.NOT_SUPPORTED,
        errors=errors,
    )


def _at(value: Any, pointer: str) -> Any:
    for name in pointer.split("/")[1:]:
        if not isinstance(value, dict) or name not in value:
            return _ABSENT
        value = value[name]
    return value


def invalid(details: Iterable[ErrorDetails | dict[str, Any]]) -> Refused:
    """The refusal of a body or of parameters that failed validation."""
    errors = [FieldError(_pointer(item["loc"]), _sentence(item)) for item in islice(details, ERRORS_SHOWN)]
    return Refused("The request is not valid; `errors` says where and why.", code=Code.INVALID_REQUEST, errors=errors)


def _pointer(loc: Iterable[int | str]) -> str:
    parts: list[str] = []
    for part in loc:
        if isinstance(part, str) and not _NAME.fullmatch(part):
            break
        parts.append(str(part))
    return "".join(f"/{part}" for part in parts)


def _sentence(item: ErrorDetails | dict[str, Any]) -> str:
    if item["type"] == "extra_forbidden":
        return "There is no such field."
    return str(item["msg"]).removeprefix("Value error, ")
