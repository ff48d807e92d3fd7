"""Cursors of lists: the place after the last row, unreadable on purpose and worth nothing to another organisation."""

import base64
import json
import re
from datetime import UTC, datetime

from api.problems import FieldError, Refused
from conductor_ai.errors import Code

_ID = re.compile(r"[a-z]+_[0-9a-f]{32}")
_YEARS = range(2000, 9999)
"""No row is older, and at either end of the calendar a time cannot be moved into another zone."""


def encode(at: datetime, row_id: str) -> str:
    """The cursor after a row of this time and id."""
    return base64.urlsafe_b64encode(json.dumps([at.isoformat(), row_id]).encode()).decode().rstrip("=")


def decode(cursor: str | None) -> tuple[datetime, str] | None:
    """The time and id that a cursor stands for.

    Raises:
        Refused: it is none of ours.
    """
    if cursor is None:
        return None
    try:
        at, row_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        moment = datetime.fromisoformat(at)
        ours = moment.tzinfo is not None and moment.astimezone(UTC).year in _YEARS and _ID.fullmatch(row_id) is not None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _foreign() from error
    if not ours:
        raise _foreign()
    return moment, row_id


def _foreign() -> Refused:
    message = "This is no cursor of ours. Send `next_cursor` of the page before, unchanged."
    return Refused(message, code=Code.INVALID_REQUEST, errors=[FieldError("/query/cursor", message)])
