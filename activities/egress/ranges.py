"""Every address range that is not an ordinary public host, as this project reads IANA's registries.

A table of its own, because the answers of `ipaddress.is_global` change with Python's patch level and call
NAT64 of loopback, 6to4 and multicast addresses global. A range stands here even where IANA marks it "globally
reachable" (anycast services, AS112): nobody publishes a page there. Sources: IANA's IPv4 and IPv6
Special-Purpose Address Registries, the multicast and IPv6 address space registries, and the documentation of
the clouds for their metadata addresses.
"""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network


class Kind(StrEnum):
    """What a range is kept for."""

    THIS_NETWORK = "this_network"
    PRIVATE = "private"
    SHARED = "shared"
    LOOPBACK = "loopback"
    LINK_LOCAL = "link_local"
    SITE_LOCAL = "site_local"
    METADATA = "metadata"
    PROTOCOL = "protocol"
    TRANSITION = "transition"
    DOCUMENTATION = "documentation"
    BENCHMARKING = "benchmarking"
    MULTICAST = "multicast"
    DISCARD = "discard"
    RESERVED = "reserved"


@dataclass(frozen=True, slots=True)
class Range:
    """One row: the block, its kind, its name and where it is defined."""

    network: IPv4Network | IPv6Network
    kind: Kind
    name: str
    source: str


def _row(block: str, kind: Kind, name: str, source: str) -> Range:
    return Range(ip_network(block), kind, name, source)


V4: tuple[Range, ...] = (
    _row("0.0.0.0/8", Kind.THIS_NETWORK, "this network", "RFC 791"),
    _row("0.0.0.0/32", Kind.THIS_NETWORK, "this host on this network", "RFC 1122"),
    _row("10.0.0.0/8", Kind.PRIVATE, "private use", "RFC 1918"),
    _row("100.64.0.0/10", Kind.SHARED, "shared address space", "RFC 6598"),
    _row("100.100.100.200/32", Kind.METADATA, "Alibaba Cloud metadata", "Alibaba Cloud"),
    _row("127.0.0.0/8", Kind.LOOPBACK, "loopback", "RFC 1122"),
    _row("168.63.129.16/32", Kind.METADATA, "Azure platform (WireServer, DNS, health)", "Microsoft Azure"),
    _row("169.254.0.0/16", Kind.LINK_LOCAL, "link local", "RFC 3927"),
    _row("169.254.169.254/32", Kind.METADATA, "cloud metadata", "AWS, Azure, Google Cloud and others"),
    _row("169.254.170.2/32", Kind.METADATA, "container credentials", "AWS ECS"),
    _row("169.254.170.23/32", Kind.METADATA, "pod identity credentials", "AWS EKS"),
    _row("172.16.0.0/12", Kind.PRIVATE, "private use", "RFC 1918"),
    _row("192.0.0.0/24", Kind.PROTOCOL, "IETF protocol assignments", "RFC 6890"),
    _row("192.0.0.0/29", Kind.TRANSITION, "IPv4 service continuity (DS-Lite, 464XLAT)", "RFC 7335"),
    _row("192.0.0.8/32", Kind.PROTOCOL, "IPv4 dummy address", "RFC 7600"),
    _row("192.0.0.9/32", Kind.PROTOCOL, "Port Control Protocol anycast", "RFC 7723"),
    _row("192.0.0.10/32", Kind.PROTOCOL, "TURN anycast", "RFC 8155"),
    _row("192.0.0.170/32", Kind.TRANSITION, "NAT64/DNS64 discovery", "RFC 8880"),
    _row("192.0.0.171/32", Kind.TRANSITION, "NAT64/DNS64 discovery", "RFC 8880"),
    _row("192.0.0.192/32", Kind.METADATA, "Oracle Cloud metadata", "Oracle Cloud"),
    _row("192.0.2.0/24", Kind.DOCUMENTATION, "documentation (TEST-NET-1)", "RFC 5737"),
    _row("192.31.196.0/24", Kind.PROTOCOL, "AS112-v4", "RFC 7535"),
    _row("192.52.193.0/24", Kind.TRANSITION, "AMT", "RFC 7450"),
    _row("192.88.99.0/24", Kind.TRANSITION, "6to4 relay anycast, deprecated", "RFC 7526"),
    _row("192.88.99.2/32", Kind.TRANSITION, "6a44 relay anycast", "RFC 6751"),
    _row("192.168.0.0/16", Kind.PRIVATE, "private use", "RFC 1918"),
    _row("192.175.48.0/24", Kind.PROTOCOL, "direct delegation AS112 service", "RFC 7534"),
    _row("198.18.0.0/15", Kind.BENCHMARKING, "benchmarking", "RFC 2544"),
    _row("198.51.100.0/24", Kind.DOCUMENTATION, "documentation (TEST-NET-2)", "RFC 5737"),
    _row("203.0.113.0/24", Kind.DOCUMENTATION, "documentation (TEST-NET-3)", "RFC 5737"),
    _row("224.0.0.0/4", Kind.MULTICAST, "multicast", "RFC 5771"),
    _row("240.0.0.0/4", Kind.RESERVED, "reserved", "RFC 1112"),
    _row("255.255.255.255/32", Kind.RESERVED, "limited broadcast", "RFC 919"),
)

V6: tuple[Range, ...] = (
    _row("::/96", Kind.TRANSITION, "IPv4-compatible, deprecated", "RFC 4291"),
    _row("::/128", Kind.THIS_NETWORK, "unspecified address", "RFC 4291"),
    _row("::1/128", Kind.LOOPBACK, "loopback", "RFC 4291"),
    _row("::ffff:0:0/96", Kind.TRANSITION, "IPv4-mapped", "RFC 4291"),
    _row("::ffff:0:0:0/96", Kind.TRANSITION, "IPv4-translated (SIIT)", "RFC 2765"),
    _row("64:ff9b::/96", Kind.TRANSITION, "NAT64, well-known prefix", "RFC 6052"),
    _row("64:ff9b:1::/48", Kind.TRANSITION, "NAT64, local use", "RFC 8215"),
    _row("100::/64", Kind.DISCARD, "discard only", "RFC 6666"),
    _row("100:0:0:1::/64", Kind.PROTOCOL, "dummy prefix", "RFC 9780"),
    _row("200::/7", Kind.RESERVED, "OSI NSAP mapped, deprecated", "RFC 4048"),
    _row("2001::/23", Kind.PROTOCOL, "IETF protocol assignments", "RFC 2928"),
    _row("2001::/32", Kind.TRANSITION, "Teredo", "RFC 4380"),
    _row("2001:1::1/128", Kind.PROTOCOL, "Port Control Protocol anycast", "RFC 7723"),
    _row("2001:1::2/128", Kind.PROTOCOL, "TURN anycast", "RFC 8155"),
    _row("2001:1::3/128", Kind.PROTOCOL, "DNS-SD service registration anycast", "RFC 9665"),
    _row("2001:2::/48", Kind.BENCHMARKING, "benchmarking", "RFC 5180"),
    _row("2001:3::/32", Kind.TRANSITION, "AMT", "RFC 7450"),
    _row("2001:4:112::/48", Kind.PROTOCOL, "AS112-v6", "RFC 7535"),
    _row("2001:10::/28", Kind.PROTOCOL, "ORCHID, deprecated", "RFC 4843"),
    _row("2001:20::/28", Kind.PROTOCOL, "ORCHIDv2", "RFC 7343"),
    _row("2001:30::/28", Kind.PROTOCOL, "drone remote identification", "RFC 9374"),
    _row("2001:db8::/32", Kind.DOCUMENTATION, "documentation", "RFC 3849"),
    _row("2002::/16", Kind.TRANSITION, "6to4", "RFC 3056"),
    _row("2620:4f:8000::/48", Kind.PROTOCOL, "direct delegation AS112 service", "RFC 7534"),
    _row("3ffe::/16", Kind.RESERVED, "6bone, returned", "RFC 3701"),
    _row("3fff::/20", Kind.DOCUMENTATION, "documentation", "RFC 9637"),
    _row("5f00::/16", Kind.PROTOCOL, "segment routing SIDs", "RFC 9602"),
    _row("fc00::/7", Kind.PRIVATE, "unique local", "RFC 4193"),
    _row("fd00:ec2::254/128", Kind.METADATA, "AWS metadata", "AWS"),
    _row("fd00:ec2::23/128", Kind.METADATA, "pod identity credentials", "AWS EKS"),
    _row("fd20:ce::254/128", Kind.METADATA, "Google Cloud metadata", "Google Cloud"),
    _row("fe80::/10", Kind.LINK_LOCAL, "link local", "RFC 4291"),
    _row("fec0::/10", Kind.SITE_LOCAL, "site local, deprecated", "RFC 3879"),
    _row("ff00::/8", Kind.MULTICAST, "multicast", "RFC 4291"),
)

GLOBAL_UNICAST = IPv6Network("2000::/3")
"""The only part of IPv6 that IANA hands out for hosts (RFC 3587)."""
