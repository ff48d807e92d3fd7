"""What goes into the egress client and what comes out: one frozen value each way."""

from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urljoin

MAX_RESPONSE_BYTES = 50 * 1024
"""Decoded bytes of a body that are kept unless a request says otherwise."""


class End(StrEnum):
    """How the body of an answer ended."""

    COMPLETE = "complete"
    CAP = "cap"
    DEADLINE = "deadline"
    BROKEN = "broken"
    UNKNOWN_ENCODING = "unknown_encoding"

    @property
    def sentence(self) -> str:
        """What it means for the reader."""
        return _ENDS[self]


_ENDS: dict[End, str] = {
    End.COMPLETE: "The whole body was read.",
    End.CAP: "The body is longer than what is kept; the rest was not read.",
    End.DEADLINE: "The time limit came before the end of the body.",
    End.BROKEN: "The host hung up, or sent damaged data, before the end of the body.",
    End.UNKNOWN_ENCODING: "The body came in a compression that was not asked for; it was not read.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One exchange to make."""

    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    """Names and values. Those that only the client may set are dropped: see `headers.outgoing`."""
    body: bytes | None = None
    timeout: float = 30
    """Seconds for the whole exchange: look-up, connection, request and answer."""
    max_bytes: int = MAX_RESPONSE_BYTES
    """Decoded bytes of the body that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answer, redirects included: nothing is followed."""

    url: str
    """The URL as it was asked, in canonical form."""
    status: int
    headers: tuple[tuple[str, str], ...]
    """Lower-case names and values, bounded in number and size."""
    body: bytes = field(repr=False)
    """Decoded bytes, at most `max_bytes`."""
    end: End
    dropped: tuple[str, ...] = ()
    """Names of the request's headers that were not sent."""

    def header(self, name: str) -> str | None:
        """The first value of a header, None without one."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    @property
    def location(self) -> str | None:
        """Where a redirect points, absolute; None if the answer is none. It has not been checked."""
        target = self.header("location")
        if target is None or self.status not in (301, 302, 303, 307, 308):
            return None
        try:
            return urljoin(self.url, target)
        except ValueError:
            return target
