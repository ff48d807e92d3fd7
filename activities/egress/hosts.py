"""One reading of a host: what is checked is what is looked up, dialled and sent."""

import string
import unicodedata

import idna

from activities.egress.reasons import Refusal, Refused
from activities.egress.verdict import parse_address

MAX_HOST = 253
"""Longest host name in ASCII (RFC 1035)."""

_MAX_LABEL = 63
_LABEL = frozenset(string.ascii_lowercase + string.digits + "-_")
_HEX = frozenset(string.hexdigits)


def canonical_host(text: str) -> str:
    """The host in lower-case ASCII, without brackets and without the dot of a full name.

    `text` is the host part of a URL: a name, a dotted quad, or IPv6 (in brackets or without).

    Raises:
        Refused: programs could read it differently, or it is no host.
    """
    if text.startswith("[") or ":" in text:
        return _ipv6(text.removeprefix("[").removesuffix("]") if text.startswith("[") else text)
    if not text:
        raise Refused(Refusal.NO_HOST)
    if len(text) > MAX_HOST + 1:
        raise Refused(Refusal.BAD_HOST)
    host = text.lower() if text.isascii() else _ascii(text)
    return _name_or_quad(host)


def is_address(host: str) -> bool:
    """True if a canonical host is an address and needs no look-up."""
    return parse_address(host) is not None


def _ipv6(text: str) -> str:
    if "%" in text:
        raise Refused(Refusal.ZONE)
    address = parse_address(text)
    if address is None or address.version != 6:
        raise Refused(Refusal.BAD_HOST)
    return str(address)


def _ascii(text: str) -> str:
    """IDNA 2008 of a name that is its own NFKC form: no digit or delimiter can come out of normalisation."""
    name = unicodedata.normalize("NFC", text.lower())
    if unicodedata.normalize("NFKC", name) != name:
        raise Refused(Refusal.AMBIGUOUS_HOST)
    try:
        return idna.encode(name, strict=True).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise Refused(Refusal.AMBIGUOUS_HOST) from error


def _name_or_quad(host: str) -> str:
    bare = host.removesuffix(".")
    labels = bare.split(".")
    if len(bare) > MAX_HOST or not all(label and len(label) <= _MAX_LABEL and set(label) <= _LABEL for label in labels):
        raise Refused(Refusal.BAD_HOST)
    if _is_number(labels[-1]) and (bare != host or parse_address(host) is None):
        # Resolvers read 127.1, 2130706433, 0x7f000001 and 0177.0.0.1 as 127.0.0.1; other programs do not.
        raise Refused(Refusal.NUMERIC_HOST)
    if not all(_is_sound(label) for label in labels):
        raise Refused(Refusal.AMBIGUOUS_HOST)
    return bare


def _is_sound(label: str) -> bool:
    """False for an `xn--` label that some programs refuse and others read as something plain.

    What is behind it must be a real non-ASCII name in its NFKC form, written in the one way that gives it. Emoji
    pass, although IDNA 2008 does not know them: such hosts exist.
    """
    if not label.startswith("xn--"):
        return True
    try:
        name = label[4:].encode("ascii").decode("punycode")
        same = name.encode("punycode").decode("ascii") == label[4:]
    except UnicodeError:
        return False
    return same and not name.isascii() and unicodedata.normalize("NFKC", name) == name


def _is_number(label: str) -> bool:
    return label.isdigit() or (label.startswith("0x") and set(label[2:]) <= _HEX)
