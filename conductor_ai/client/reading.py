"""From answers to models and exceptions.

The models are the server's own contracts, which refuse unknown fields. A client must not: a newer server may say more. So they are
read with `extra="ignore"`, which pydantic applies to every level of a document.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from conductor_ai.client.errors import ApiError, FieldError, Problem, UnexpectedAnswer, of_problem
from conductor_ai.client.steps import Answer

M = TypeVar("M", bound=BaseModel)

NOT_MODIFIED = 304


def reads(kind: type[M]) -> Callable[[Answer], M]:
    """Reads a body as this model."""

    def read(answer: Answer) -> M:
        return parsed(kind, answer.content)

    return read


def parsed(kind: type[M], content: bytes | str) -> M:
    """The model that a document stands for.

    Raises:
        UnexpectedAnswer: it is something else, or has a word that this version does not know.
    """
    try:
        return kind.model_validate_json(content, extra="ignore")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UnexpectedAnswer(
            f"The server answered in a form that this version of the client does not know ({kind.__name__}"
            f"{where and f', at {where}'}: {first['type']}). Is it Conductor's API, and of the same version?"
        ) from None


def fulfilled(answer: Answer) -> bool:
    """Whether the server did what it was asked."""
    return 200 <= answer.status < 300 or answer.status == NOT_MODIFIED


def refusal(answer: Answer) -> ApiError | UnexpectedAnswer:
    """The exception that an answer of 3xx, 4xx or 5xx stands for."""
    document = _document(answer.content)
    detail, code = document.get("detail"), document.get("code")
    if not (isinstance(detail, str) and detail and isinstance(code, str)):
        return UnexpectedAnswer(
            f"The server answered {answer.status} in a form that is not Conductor's. The address should lead to the API itself."
        )
    return of_problem(
        Problem(
            status=answer.status,
            code=code,
            detail=detail,
            errors=_field_errors(document.get("errors")),
            request_id=answer.headers.get("x-request-id"),
            retry_after=retry_after(answer.headers),
            members=document,
        )
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a `Retry-After`, if there is one that is a number."""
    text = headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else None


def _document(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _field_errors(value: Any) -> tuple[FieldError, ...]:
    entries = [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
    return tuple(FieldError(str(entry.get("pointer", "")), str(entry.get("message", ""))) for entry in entries)
