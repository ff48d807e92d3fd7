"""The base of all contracts, and the JSON types that they carry."""

from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue

Json: TypeAlias = JsonValue
"""Anything that JSON can express."""

JsonObject: TypeAlias = dict[str, JsonValue]


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time needs a zone")
    return value.astimezone(UTC)


UtcTime = Annotated[datetime, AfterValidator(_utc)]
"""A point in time with a zone, kept in UTC and written as RFC 3339."""


class Contract(BaseModel):
    """A frozen value that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")
