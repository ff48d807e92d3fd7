"""May this address be dialled? One pure function, the only policy for addresses."""

from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from activities.egress.ranges import GLOBAL_UNICAST, V4, V6, Kind, Range

_ISATAP = 0x0000_5EFE
_ISATAP_MASK = 0xFCFF_FFFF
"""Bits 64..95 of an ISATAP address (RFC 5214), without the two that say "universal" and "group"."""


class Verdict(StrEnum):
    """What an address is; only `ALLOWED` may be dialled."""

    ALLOWED = "allowed"
    NOT_AN_ADDRESS = "not_an_address"
    ZONED = "zoned"
    OUTSIDE_GLOBAL_UNICAST = "outside_global_unicast"
    THIS_NETWORK = Kind.THIS_NETWORK.value
    PRIVATE = Kind.PRIVATE.value
    SHARED = Kind.SHARED.value
    LOOPBACK = Kind.LOOPBACK.value
    LINK_LOCAL = Kind.LINK_LOCAL.value
    SITE_LOCAL = Kind.SITE_LOCAL.value
    METADATA = Kind.METADATA.value
    PROTOCOL = Kind.PROTOCOL.value
    TRANSITION = Kind.TRANSITION.value
    DOCUMENTATION = Kind.DOCUMENTATION.value
    BENCHMARKING = Kind.BENCHMARKING.value
    MULTICAST = Kind.MULTICAST.value
    DISCARD = Kind.DISCARD.value
    RESERVED = Kind.RESERVED.value

    @property
    def sentence(self) -> str:
        """Why, for logs and for people. Not for the model, which is told nothing about addresses."""
        return _SENTENCES[self]


_SENTENCES: dict[Verdict, str] = {
    Verdict.ALLOWED: "An ordinary public address.",
    Verdict.NOT_AN_ADDRESS: "Not written as an IPv4 or IPv6 address.",
    Verdict.ZONED: "An address with a zone is one of this machine's own links.",
    Verdict.OUTSIDE_GLOBAL_UNICAST: "Outside of 2000::/3, where no public host is.",
    Verdict.THIS_NETWORK: "Stands for this host or this network.",
    Verdict.PRIVATE: "A private network.",
    Verdict.SHARED: "Shared address space behind a carrier's NAT.",
    Verdict.LOOPBACK: "This machine itself.",
    Verdict.LINK_LOCAL: "The local link.",
    Verdict.SITE_LOCAL: "A site's own network.",
    Verdict.METADATA: "A cloud's metadata or platform service, which hands out credentials.",
    Verdict.PROTOCOL: "Kept for a protocol; no pages are there.",
    Verdict.TRANSITION: "An IPv6 transition or relay address that can stand for any IPv4 address.",
    Verdict.DOCUMENTATION: "Kept for examples in documents.",
    Verdict.BENCHMARKING: "Kept for measuring network devices.",
    Verdict.MULTICAST: "A group of hosts, not one.",
    Verdict.DISCARD: "Traffic to it is thrown away.",
    Verdict.RESERVED: "Reserved; no public host is there.",
}


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """The address that is written strictly: a dotted quad without leading zeros, or IPv6 without a zone."""
    try:
        return IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError:
        return None


def verdict(address: str) -> Verdict:
    """Whether an address may be dialled, and if not, why. The same for every way to write it.

    The most specific row of the table names the reason. IPv6 is refused unless it is global unicast; every
    transition prefix is refused whatever IPv4 address is inside it.
    """
    if "%" in address:
        return Verdict.ZONED
    parsed = parse_address(address)
    if parsed is None:
        return Verdict.NOT_AN_ADDRESS
    row = _row_of(parsed)
    if row is not None:
        return Verdict(row.kind.value)
    if isinstance(parsed, IPv4Address):
        return Verdict.ALLOWED
    if parsed not in GLOBAL_UNICAST:
        return Verdict.OUTSIDE_GLOBAL_UNICAST
    if (int(parsed) >> 32) & _ISATAP_MASK == _ISATAP:
        return Verdict.TRANSITION
    return Verdict.ALLOWED


def _row_of(address: IPv4Address | IPv6Address) -> Range | None:
    table = V4 if isinstance(address, IPv4Address) else V6
    rows = [row for row in table if address in row.network]
    return max(rows, key=lambda row: row.network.prefixlen, default=None)
