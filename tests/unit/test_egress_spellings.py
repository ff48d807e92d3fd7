"""However an address is written, in whatever URL or embedding: the same verdict, or no verdict because it is refused as text."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from activities.egress.reasons import Refusal, Refused
from activities.egress.target import parse_target
from activities.egress.verdict import Verdict, verdict
from tests.fixtures_web import web_with

LOOSE: dict[str, Callable[[int], str]] = {
    "decimal": str,
    "hex": hex,
    "hex in capitals": lambda n: f"0X{n:X}",
    "octal": lambda n: f"0{n:o}",
    "short, two parts": lambda n: f"{n >> 24}.{n & 0xFFFFFF}",
    "short, three parts": lambda n: f"{n >> 24}.{n >> 16 & 255}.{n & 0xFFFF}",
    "hex parts": lambda n: ".".join(hex(part) for part in IPv4Address(n).packed),
    "octal parts": lambda n: ".".join(f"0{part:o}" for part in IPv4Address(n).packed),
    "leading zeros": lambda n: ".".join(f"{part:04}" for part in IPv4Address(n).packed),
    "mixed": lambda n: "{}.0x{:x}.0{:o}.{}".format(*IPv4Address(n).packed),
    "a dot at the end": lambda n: f"{IPv4Address(n)}.",
    "five parts": lambda n: f"{IPv4Address(n)}.0",
    "more than 32 bits": lambda n: str(n + 2**32),
}
"""Spellings that `inet_aton`, browsers and other programs read as the address."""

_FULL_WIDTH = str.maketrans("0123456789.", "０１２３４５６７８９．")
_CIRCLED = str.maketrans("123456789", "①②③④⑤⑥⑦⑧⑨")
_BOLD = str.maketrans("0123456789", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗")
FOLDED: dict[str, Callable[[int], str]] = {
    "full width": lambda n: str(IPv4Address(n)).translate(_FULL_WIDTH),
    "bold": lambda n: str(IPv4Address(n)).translate(_BOLD),
    "ideographic dots": lambda n: str(IPv4Address(n)).replace(".", "。"),
    "half-width dots": lambda n: str(IPv4Address(n)).replace(".", "｡"),
    "full-width decimal": lambda n: str(n).translate(_FULL_WIDTH),
}
"""Spellings that Unicode's compatibility forms turn into the address."""

EMBEDDED: dict[str, Callable[[int], int]] = {
    "compatible": lambda n: n,
    "mapped": lambda n: 0xFFFF << 32 | n,
    "translated (SIIT)": lambda n: 0xFFFF << 48 | n,
    "NAT64": lambda n: 0x64FF9B << 96 | n,
    "NAT64, local use, /96": lambda n: 0x64FF9B0001 << 80 | n,
    "NAT64, local use, /48": lambda n: 0x64FF9B0001 << 80 | n >> 16 << 64 | (n & 0xFFFF) << 40,
    "NAT64, local use, /56": lambda n: 0x64FF9B0001 << 80 | n >> 24 << 64 | (n & 0xFFFFFF) << 32,
    "NAT64, local use, /64": lambda n: 0x64FF9B0001 << 80 | n << 24,
    "6to4": lambda n: 0x2002 << 112 | n << 80 | 1,
    "Teredo, client": lambda n: 0x20010000 << 96 | 0xFFFFFFFF ^ n,
    "Teredo, server": lambda n: 0x20010000 << 96 | n << 64,
    "ISATAP": lambda n: 0x2A00 << 112 | 0x5EFE << 32 | n,
    "ISATAP, universal": lambda n: 0x2A00 << 112 | 0x02005EFE << 32 | n,
    "ISATAP, group": lambda n: 0x2A00 << 112 | 0x01005EFE << 32 | n,
    "ISATAP, both": lambda n: 0x2A00 << 112 | 0x03005EFE << 32 | n,
    "ISATAP, link local": lambda n: 0xFE80 << 112 | 0x5EFE << 32 | n,
}
"""Every way to carry an IPv4 address inside an IPv6 one that has a prefix or a mark of its own."""

v4 = st.one_of(
    st.integers(0, 2**32 - 1),
    st.sampled_from(
        [int(IPv4Address(text)) for text in ("127.0.0.1", "169.254.169.254", "10.0.0.1", "8.8.8.8", "0.0.0.0")]
    ),
)


def refusal_of(url: str) -> Refusal | None:
    """Why the client would not even look, None if it would."""
    try:
        web_with().egress.check(url)
    except Refused as refused:
        return refused.reason
    return None


@pytest.mark.parametrize("spelling", LOOSE)
@settings(deadline=None, max_examples=20)
@given(v4)
@example(2130706433)
def test_a_loose_spelling_is_no_address_and_no_host(spelling: str, number: int) -> None:
    """Proves for any 32 bits that only the strict dotted quad is read: others are refused by name, whatever they mean."""
    text = LOOSE[spelling](number)
    assert verdict(text) in (Verdict.NOT_AN_ADDRESS, verdict(str(IPv4Address(number))))
    if text == str(IPv4Address(number)):
        return  # a part below eight is the same in octal, but for its zero
    assert verdict(text) is Verdict.NOT_AN_ADDRESS
    assert refusal_of(f"http://{text}/") is Refusal.NUMERIC_HOST


@pytest.mark.parametrize("spelling", FOLDED)
@settings(deadline=None, max_examples=20)
@given(v4)
def test_a_spelling_in_other_digits_or_dots_is_refused(spelling: str, number: int) -> None:
    """Proves for any 32 bits that Unicode cannot smuggle an address in."""
    text = FOLDED[spelling](number)
    assert verdict(text) is Verdict.NOT_AN_ADDRESS
    assert refusal_of(f"http://{text}/") is Refusal.AMBIGUOUS_HOST


def test_circled_digits_are_refused() -> None:
    """Proves the same of digits that have no zero of their own kind."""
    assert refusal_of("http://127.0.0.1/".translate(_CIRCLED)) is Refusal.AMBIGUOUS_HOST


@settings(deadline=None, max_examples=100)
@given(v4)
def test_the_strict_spelling_in_a_url_has_the_verdict_of_the_address(number: int) -> None:
    """Proves for any 32 bits that the URL and the address are judged alike, and that the URL is read as that address."""
    text = str(IPv4Address(number))
    assert parse_target(f"http://{text}/").host == text
    assert refusal_of(f"https://{text}:8443/x") == (None if verdict(text) is Verdict.ALLOWED else Refusal.ADDRESS)


@pytest.mark.parametrize("embedding", EMBEDDED)
@settings(deadline=None, max_examples=20)
@given(v4)
@example(int(IPv4Address("8.8.8.8")))
def test_no_embedding_carries_any_address_past_the_check(embedding: str, number: int) -> None:
    """Proves for any 32 bits, public ones too, that each embedding is refused, in any spelling and in a URL."""
    address = IPv6Address(EMBEDDED[embedding](number))
    dotted = ":".join([*address.exploded.split(":")[:6], str(IPv4Address(int(address) & 0xFFFFFFFF))])
    for text in (str(address), address.exploded.upper(), dotted):
        assert verdict(text) is not Verdict.ALLOWED
        assert refusal_of(f"http://[{text}]/") is Refusal.ADDRESS
        assert refusal_of(f"http://[{text}%25eth0]/") is Refusal.ZONE


@settings(deadline=None, max_examples=100)
@given(st.one_of(st.integers(0, 2**128 - 1), st.integers(0x2000 << 112, (0x4000 << 112) - 1)))
def test_any_spelling_of_ipv6_in_a_url_has_the_verdict_of_the_address(number: int) -> None:
    """Proves for any 128 bits that compression, zeros, capitals and a dotted tail are one address, also inside a URL."""
    address = IPv6Address(number)
    dotted = ":".join([*address.exploded.split(":")[:6], str(IPv4Address(number & 0xFFFFFFFF))])
    spellings = (str(address), str(address).upper(), address.exploded, dotted)
    expected = None if verdict(str(address)) is Verdict.ALLOWED else Refusal.ADDRESS
    assert {refusal_of(f"http://[{text}]/") for text in spellings} == {expected}
    assert {parse_target(f"http://[{text}]/").host for text in spellings} == {str(address)}
