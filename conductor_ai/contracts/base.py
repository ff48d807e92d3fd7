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


class Payload(Contract):
    """A contract between our own processes, through Temporal or the store, which need not be of the same version.

    What a newer one says beyond what this one knows is left out, so that a worker can be rolled back while sessions go on. A field that
    must not be overlooked needs worker versions.
    """

    model_config = ConfigDict(extra="ignore")
