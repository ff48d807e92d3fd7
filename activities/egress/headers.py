"""Which headers go out, and how much of what comes back is kept."""

import string
from collections.abc import Iterable

from activities.egress.reasons import Refusal, Refused
from activities.egress.target import Target

MAX_HEADERS = 50
MAX_HEADER_BYTES = 16 * 1024
USER_AGENT = "Conductor/0.1 (web_fetch)"

_TOKEN = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")
_VALUE = frozenset(chr(point) for point in range(0x20, 0x7F)) | {"\t"}

_OURS = frozenset(
    {
        # Who is asked: what was checked is what is sent.
        "host",
        # Of this one connection (RFC 9110, 7.6.1), and what would make it something else.
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "http2-settings",
        # Where the body ends and how it is packed.
        "content-length",
        "content-encoding",
        "accept-encoding",
        # Who asks, and for which host, in words that a proxy would add.
        "forwarded",
        "via",
        "x-host",
        "x-real-ip",
        # What metadata services want to see before they hand out credentials.
        "metadata",
        "x-identity-header",
        "x-metadata-token",
    }
)
_OUR_PREFIXES = (
    *("x-forwarded-", "x-original-", "x-rewrite-", "sec-websocket-"),
    *("metadata-", "x-aws-ec2-metadata", "x-google-metadata", "x-aliyun-ecs-metadata"),
)


def outgoing(
    target: Target, headers: Iterable[tuple[str, str]], body: bytes | None
) -> tuple[list[tuple[bytes, bytes]], tuple[str, ...]]:
    """The headers as they are sent, and the names of those that were dropped.

    Raises:
        Refused: a name is no token, a value is not visible ASCII (so CR, LF and NUL), or there are too many.
    """
    given = tuple(headers)
    if len(given) > MAX_HEADERS or sum(len(name) + len(value) for name, value in given) > MAX_HEADER_BYTES:
        raise Refused(Refusal.HEADERS_TOO_LARGE)
    ours: dict[str, str] = {
        "Host": target.authority,
        "User-Agent": USER_AGENT,
        "Accept": "*/*",
        "Accept-Encoding": "gzip, deflate",
        "Connection": "close",
    }
    if body is not None:
        ours["Content-Length"] = str(len(body))
    kept: list[tuple[str, str]] = []
    dropped: list[str] = []
    for name, value in given:
        if not name or not set(name) <= _TOKEN or not set(value) <= _VALUE:
            raise Refused(Refusal.HEADER)
        if is_ours(name):
            dropped.append(name.lower())
        else:
            kept.append((name, value.strip(" \t")))
    names = {name.lower() for name, _ in kept}
    sent = [(name, value) for name, value in ours.items() if name.lower() not in names] + kept
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in sent], tuple(dropped)


def is_ours(name: str) -> bool:
    """True for a header that a caller cannot set."""
    lower = name.lower()
    return lower in _OURS or lower.startswith(_OUR_PREFIXES)


def incoming(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """The headers of an answer: lower-case names, at most 50 of them and 16 KB."""
    kept: list[tuple[str, str]] = []
    room = MAX_HEADER_BYTES
    for name, value in headers:
        room -= len(name) + len(value)
        if room < 0 or len(kept) == MAX_HEADERS:
            break
        kept.append((name.decode("latin-1").lower(), value.decode("latin-1")))
    return tuple(kept)
