"""From the text of a URL to the one target that is checked and then asked. There is no second parser."""

import unicodedata
from dataclasses import dataclass
from urllib.parse import quote

from activities.egress.hosts import canonical_host, is_address
from activities.egress.reasons import Refusal, Refused
from activities.egress.rules import MAX_PORT

MAX_URL = 8192
"""Characters."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_END_OF_AUTHORITY = "/?#"
_SENT_AS_THEY_ARE = "!$%&'()*+,-./:;=?@_~[]"
"""Characters of a path and a query that need no percent-encoding here; letters and digits are kept anyway."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes. Every part is canonical ASCII."""

    scheme: str
    """`http` or `https`."""
    host: str
    """A lower-case name, a dotted quad, or IPv6 without brackets."""
    port: int
    path: str
    """Path and query, percent-encoded, beginning with a slash; without the fragment."""

    @property
    def is_address(self) -> bool:
        """True if the host is a literal address."""
        return is_address(self.host)

    @property
    def authority(self) -> str:
        """The value of the Host header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL as it is asked."""
        return f"{self.scheme}://{self.authority}{self.path}"


def parse_target(url: str) -> Target:
    """Read a URL strictly. What two programs could read differently is refused, not repaired.

    Raises:
        Refused: with the name of what is wrong.
    """
    _check_characters(url)
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _DEFAULT_PORTS:
        raise Refused(Refusal.SCHEME)
    end = min((at for at in map(rest.find, _END_OF_AUTHORITY) if at >= 0), default=len(rest))
    authority, tail = rest[:end], rest[end:].partition("#")[0]
    if "@" in authority:
        raise Refused(Refusal.USERINFO)
    host, port = _split_port(authority)
    return Target(
        scheme=scheme,
        host=canonical_host(host),
        port=_DEFAULT_PORTS[scheme] if port is None else _port(port),
        path=quote(tail if tail.startswith("/") else "/" + tail, safe=_SENT_AS_THEY_ARE),
    )


def _check_characters(url: str) -> None:
    if len(url) > MAX_URL:
        raise Refused(Refusal.TOO_LONG)
    if "\\" in url:
        raise Refused(Refusal.BACKSLASH)
    if any(char.isspace() or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in url):
        raise Refused(Refusal.CONTROL)


def _split_port(authority: str) -> tuple[str, str | None]:
    """Host (IPv6 still in its brackets) and the text of the port, None without one."""
    if not authority.startswith("["):
        host, colon, port = authority.partition(":")
        return host, port if colon else None
    host, bracket, after = authority.partition("]")
    if not bracket or (not after.startswith(":") and after):
        raise Refused(Refusal.BAD_HOST)
    return host + bracket, after[1:] if after else None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or text.startswith("0") or int(text) > MAX_PORT:
        raise Refused(Refusal.BAD_PORT)
    return int(text)
