"""The verdict for addresses: every range with its edges and its neighbours, and every way to write an address."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from activities.egress.ranges import GLOBAL_UNICAST, V4, V6, Range
from activities.egress.verdict import Verdict, verdict

# IANA's registries as published (IPv4 and IPv6 special-purpose, multicast), written down here a second time so
# that a row lost from the table is noticed.
IANA = [
    "0.0.0.0/8",
    "0.0.0.0/32",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.0.0/29",
    "192.0.0.8/32",
    "192.0.0.9/32",
    "192.0.0.10/32",
    "192.0.0.170/32",
    "192.0.0.171/32",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.88.99.2/32",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "224.0.0.0/4",
    "::1/128",
    "::/128",
    "::ffff:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/23",
    "2001::/32",
    "2001:1::1/128",
    "2001:1::2/128",
    "2001:1::3/128",
    "2001:2::/48",
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:10::/28",
    "2001:20::/28",
    "2001:30::/28",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
    "fec0::/10",
]

CLOUDS = (
    "168.63.129.16",
    "192.0.0.192",
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "fd00:ec2::254",
    "fd20:ce::254",
)

PUBLIC = (
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"),
    *("128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0"),
    *("191.255.255.255", "192.0.1.0", "192.0.1.255", "192.0.3.0", "192.31.195.255", "192.31.197.0", "192.52.192.255"),
    *("192.52.194.0", "192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0", "192.175.47.255"),
    *("192.175.49.0", "198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0"),
    *("223.255.255.255", "1.0.0.0", "140.82.121.3"),
    *("2000::", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff"),
    *("2001:db9::", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::", "2606:4700:4700::1111"),
    *("2620:4f:7fff:ffff:ffff:ffff:ffff:ffff", "2620:4f:8001::", "2a00:1450:4001:81b::200e", "3ffd:ffff::1"),
    *("3fff:1000::", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2a00::5eff:0:0", "2a00::5efd:7f00:1"),
)

V4_SECRETS = ("127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "8.8.8.8", "0.0.0.0", "255.255.255.255")


@pytest.mark.parametrize("block", IANA)
def test_every_block_of_the_registries_has_its_own_row(block: str) -> None:
    """Proves that the table lacks no row: a block that is inside another one is still named."""
    assert ip_network(block) in {row.network for row in (*V4, *V6)}


@pytest.mark.parametrize("row", [*V4, *V6], ids=lambda row: str(row.network))
def test_first_inner_and_last_address_of_a_range_are_refused(row: Range) -> None:
    """Proves that a range is refused from edge to edge."""
    net = row.network
    for address in (net[0], net[net.num_addresses // 2], net[-1]):
        assert verdict(str(address)) is not Verdict.ALLOWED


@pytest.mark.parametrize("row", [*V4, *V6], ids=lambda row: str(row.network))
def test_neighbours_outside_a_range_are_refused_only_by_another_one(row: Range) -> None:
    """Proves that no range is wider than it is written: the addresses just outside are judged without it."""
    table = V4 if isinstance(row.network, IPv4Network) else V6
    width = row.network.max_prefixlen
    for number in (int(row.network[0]) - 1, int(row.network[-1]) + 1):
        if not 0 <= number < 2**width:
            continue
        neighbour = (IPv4Address if width == 32 else IPv6Address)(number)
        held = any(neighbour in other.network for other in table if other is not row)
        outside = isinstance(neighbour, IPv6Address) and neighbour not in GLOBAL_UNICAST
        assert (verdict(str(neighbour)) is Verdict.ALLOWED) == (not held and not outside)


@pytest.mark.parametrize("row", [*V4, *V6], ids=lambda row: str(row.network))
def test_the_most_specific_row_names_the_reason(row: Range) -> None:
    """Proves that a verdict says what an address is, not only which large block it is in."""
    table = V4 if isinstance(row.network, IPv4Network) else V6
    deeper = [other.network for other in table if other.network.prefixlen > row.network.prefixlen]
    own = [edge for edge in (row.network[0], row.network[-1]) if not any(edge in inner for inner in deeper)]
    assert own, "every range has an edge of its own"
    assert {verdict(str(edge)).value for edge in own} == {row.kind.value}


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_and_neighbours_are_allowed(address: str) -> None:
    """Proves that the check does not stand in the way: ordinary hosts, and each neighbour of each range by hand."""
    assert verdict(address) is Verdict.ALLOWED


@pytest.mark.parametrize("address", CLOUDS)
def test_metadata_services_of_clouds_are_refused_by_name(address: str) -> None:
    """Proves that the addresses that hand out credentials are named as such, also the public ones."""
    assert verdict(address) is Verdict.METADATA


@pytest.mark.parametrize("inner", V4_SECRETS)
def test_ipv4_inside_ipv6_is_refused_in_every_embedding(inner: str) -> None:
    """Proves that no transition prefix carries an IPv4 address past the check, whatever that address is."""
    n = int(IPv4Address(inner))
    high, low = n >> 16, n & 0xFFFF
    embedded = {
        "mapped": f"::ffff:{inner}",
        "mapped in hex": f"::ffff:{high:x}:{low:x}",
        "translated": f"::ffff:0:{inner}",
        "nat64": f"64:ff9b::{inner}",
        "nat64 local": f"64:ff9b:1::{inner}",
        "nat64 local, /48 layout": f"64:ff9b:1:{high:x}:{low >> 8:x}:{(low & 0xFF) << 8:x}::",
        "6to4": f"2002:{high:x}:{low:x}::1",
        "teredo": f"2001:0:1:2:3:4:{~high & 0xFFFF:x}:{~low & 0xFFFF:x}",
        "isatap": f"2a00:1:2:3::5efe:{inner}",
        "isatap universal": f"2a00:1:2:3:200:5efe:{inner}",
        "isatap link local": f"fe80::5efe:{inner}",
    }
    assert {name: verdict(text) for name, text in embedded.items() if name != "isatap link local"} == dict.fromkeys(
        (name for name in embedded if name != "isatap link local"), Verdict.TRANSITION
    )
    assert verdict(embedded["isatap link local"]) is Verdict.LINK_LOCAL
    assert verdict(f"::{inner}") is not Verdict.ALLOWED


@pytest.mark.parametrize(
    "text",
    ["", " ", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "127.0.0.01", "1.2.3", "1.2.3.4.5",
     "1.2.3.256", " 8.8.8.8", "8.8.8.8 ", "8.8.8.8\n", "８.8.8.8", "8.8.8.8/32", "[::1]", "::1::", "1::2::3", ":::",
     "12345::", "::g", "2a00:1450:4001:81b:0:0:0:0:1", "٨.8.8.8", "8,8,8,8", "::ffff:127.1"],
)  # fmt: skip
def test_what_is_no_strict_address_is_not_guessed_at(text: str) -> None:
    """Proves that loose spellings, which resolvers would accept, never count as an address."""
    assert verdict(text) is Verdict.NOT_AN_ADDRESS


@pytest.mark.parametrize("text", ["fe80::1%eth0", "fe80::1%25eth0", "2a00::1%1", "::1%lo", "8.8.8.8%1"])
def test_an_address_with_a_zone_is_refused(text: str) -> None:
    """Proves that a zone, which names one of this machine's links, never passes, not even on a public address."""
    assert verdict(text) is Verdict.ZONED


@pytest.mark.parametrize("text", ["4000::1", "1fff:ffff::1", "1000::", "8000::1", "e000::1", "fe00::1", "400::1"])
def test_ipv6_outside_of_global_unicast_is_refused(text: str) -> None:
    """Proves that IPv6 is allowed by what is known to be public, not by what is known to be private."""
    assert verdict(text) is Verdict.OUTSIDE_GLOBAL_UNICAST


def test_every_verdict_has_a_sentence() -> None:
    """Proves that no reason is without words."""
    assert all(found.sentence.endswith(".") for found in Verdict)


_SEEDS = [int(net[offset]) for net in (row.network for row in V6) for offset in (0, -1)]


@settings(deadline=None)
@given(st.one_of(st.integers(0, 2**128 - 1), st.sampled_from(_SEEDS), st.sampled_from(_SEEDS).map(lambda n: n ^ 1)))
@example(1)
def test_the_verdict_does_not_depend_on_how_ipv6_is_written(number: int) -> None:
    """Proves that compression, leading zeros, case and a dotted tail change nothing."""
    address = IPv6Address(number)
    groups = [f"{number >> shift & 0xFFFF:x}" for shift in range(112, -1, -16)]
    tail = str(IPv4Address(number & 0xFFFFFFFF))
    spellings = {
        str(address),
        str(address).upper(),
        address.exploded,
        address.exploded.upper(),
        ":".join(groups),
        ":".join([*groups[:6], tail]),
        ":".join([*(group.zfill(4) for group in groups[:6]), tail]),
    }
    assert len({verdict(spelling) for spelling in spellings}) == 1


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_ipv4_is_allowed_exactly_outside_of_the_table(number: int) -> None:
    """Proves that nothing but the table decides for IPv4."""
    address = IPv4Address(number)
    assert (verdict(str(address)) is Verdict.ALLOWED) == (not any(address in row.network for row in V4))


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_gets_a_verdict(text: str) -> None:
    """Proves that the function is total, and that what it allows is an address by Python's reading too."""
    if verdict(text) is Verdict.ALLOWED:
        assert ip_address(text).is_global
