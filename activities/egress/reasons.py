"""Why a request was not made, or not finished, and the exceptions that say so.

EgressError
├── Refused    decided here, from the text of the request or the address: nothing was dialled
└── Failed     the world did not answer as it should; `sent` tells whether the request may have arrived
"""

from enum import StrEnum


class Refusal(StrEnum):
    """Why a request was refused before anything was dialled."""

    TOO_LONG = "too_long"
    CONTROL = "control"
    BACKSLASH = "backslash"
    SCHEME = "scheme"
    USERINFO = "userinfo"
    NO_HOST = "no_host"
    BAD_HOST = "bad_host"
    AMBIGUOUS_HOST = "ambiguous_host"
    NUMERIC_HOST = "numeric_host"
    ZONE = "zone"
    BAD_PORT = "bad_port"
    PORT = "port"
    HOST_DENIED = "host_denied"
    HOST_NOT_ALLOWED = "host_not_allowed"
    METHOD = "method"
    HEADER = "header"
    HEADERS_TOO_LARGE = "headers_too_large"
    ADDRESS = "address"

    @property
    def sentence(self) -> str:
        """What is wrong and what to do. Says nothing about any address."""
        return _REFUSALS[self]


_REFUSALS: dict[Refusal, str] = {
    Refusal.TOO_LONG: "The URL is longer than 8192 characters. Use a shorter one.",
    Refusal.CONTROL: "The URL has a space or a control character in it. Write such characters percent-encoded.",
    Refusal.BACKSLASH: "The URL has a backslash in it, which programs read differently. Use / or %5C.",
    Refusal.SCHEME: "Only URLs that begin with http:// or https:// can be asked.",
    Refusal.USERINFO: "The URL has an @ before its path. Names and passwords do not belong there; leave them out.",
    Refusal.NO_HOST: "The URL names no host.",
    Refusal.BAD_HOST: "The host in the URL is not a valid host name. Check its spelling.",
    Refusal.AMBIGUOUS_HOST: "The host is written with characters that programs read differently. Use plain ones.",
    Refusal.NUMERIC_HOST: "The host is a number that is not an ordinary dotted IPv4 address. Use a host name.",
    Refusal.ZONE: "The host is an address with a zone, which cannot be asked.",
    Refusal.BAD_PORT: "The port in the URL is not a plain number from 1 to 65535.",
    Refusal.PORT: "That port is not among those that may be asked here.",
    Refusal.HOST_DENIED: "That host may not be asked: it is on this installation's deny list.",
    Refusal.HOST_NOT_ALLOWED: "That host may not be asked: it is not on this installation's allow list.",
    Refusal.METHOD: "That method may not be used.",
    Refusal.HEADER: "A header's name or value has characters that may not be sent (only visible ASCII, no line ends).",
    Refusal.HEADERS_TOO_LARGE: "There are more than 50 headers, or more than 16 KB of them. Send fewer.",
    Refusal.ADDRESS: "The host could not be reached.",
}


class Failure(StrEnum):
    """Why a request that was allowed got no usable answer."""

    RESOLVE = "resolve"
    RESOLVER_AWAY = "resolver_away"
    CONNECT = "connect"
    LOCAL = "local"
    TLS = "tls"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"

    @property
    def sentence(self) -> str:
        """What happened, for logs and people."""
        return _FAILURES[self]

    @property
    def infrastructure(self) -> bool:
        """True if the trouble is on our side of the wire, so that another attempt may find it gone."""
        return self in (Failure.RESOLVER_AWAY, Failure.LOCAL)


_FAILURES: dict[Failure, str] = {
    Failure.RESOLVE: "The host name does not resolve.",
    Failure.RESOLVER_AWAY: "The name server does not answer.",
    Failure.CONNECT: "No address of the host accepts connections.",
    Failure.LOCAL: "This machine cannot open another connection just now.",
    Failure.TLS: "The host's certificate or TLS handshake is not acceptable.",
    Failure.TIMEOUT: "No answer came within the time limit.",
    Failure.PROTOCOL: "What the host sent is no HTTP, or it hung up without an answer.",
}


class EgressError(Exception):
    """No usable answer. The message is a sentence for people."""


class Refused(EgressError):
    """The request is not made, whatever the world says."""

    def __init__(self, reason: Refusal, detail: str = "") -> None:
        super().__init__(detail or reason.sentence)
        self.reason = reason


class Failed(EgressError):
    """The request was allowed and came to nothing."""

    def __init__(self, reason: Failure, *, sent: bool) -> None:
        super().__init__(reason.sentence)
        self.reason = reason
        self.sent = sent
        """True if the host may have got the request, in whole or in part."""
