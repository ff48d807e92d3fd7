"""The one parser of URLs: what it refuses and why, and what it leaves alone."""

from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.egress.hosts import canonical_host
from activities.egress.reasons import Refusal, Refused
from activities.egress.target import Target, parse_target

REFUSED: dict[Refusal, tuple[str, ...]] = {
    Refusal.SCHEME: (
        "", "example.org", "//example.org/", "ftp://example.org/", "file:///etc/passwd", "gopher://example.org/",
        "javascript://example.org/", "http:example.org", "http:/example.org", "http//example.org", "httpx://a.org",
        "data:text/html,x", "https:example.org", "ws://example.org", "ｈttp://example.org/", "http+unix://a/b",
    ),
    Refusal.USERINFO: (
        "http://user@example.org/", "http://user:pass@example.org/", "http://example.org@127.0.0.1/", "http://@a.org/",
        "http://127.0.0.1:80@example.org/", "http://a@b@c.org/", "http://[::1]@example.org/",
    ),
    Refusal.BACKSLASH: (
        "http://example.org\\@127.0.0.1/", "http:\\\\example.org\\", "http://example.org/a\\b", "\\\\example.org\\a",
    ),
    Refusal.CONTROL: (
        "http://example.org/a b", " http://example.org/", "http://example.org/ ", "http://exa\tmple.org/",
        "http://example.org/\r\nHost: a", "http://example.org/\n", "http://example.org/\0", "http://example.org\x7f/",
        "http://example.org/\u2028", "http://example.org/\u0085", "http://exam\u3000ple.org/", "http://a.org/\u00a0",
        "\ufeffhttp://example.org/ ", "http://example.org/\ud800", "ht\ntp://example.org/",
    ),
    Refusal.NO_HOST: ("http://", "http:///path", "http://?q", "http://#f", "http://:80/", "https:///example.org/"),
    Refusal.BAD_HOST: (
        "http://exa%6dple.org/", "http://127.0.0.1%00.example.org/", "http://%31%32%37.0.0.1/", "http://a..b/",
        "http://.example.org/", "http://example.org../", "http://./", "http://..", "http://exa!mple.org/", "http://a,b/",
        "http://[::1/", "http://[]/", "http://[::1]a/", "http://[127.0.0.1]/", "http://[v1.a]/", "http://[::g]/",
        "http://[example.org]/", "http://a'b.org/", "http://<a>.org/", "http://$host/", "http://*/", "http://a*b.org",
        "http://" + "a" * 64 + ".org/", "http://" + "a." * 130 + "org/", "http://[::1]]/", "http://[[::1]]/",
        "http://[1:2:3:4:5:6:7:8:9]/", "http://a;b/", "http://a&b.org/", "http://example.org|a/",
    ),
    Refusal.ZONE: ("http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/", "http://[::1%251]/", "http://[2a00::1%1]/"),
    Refusal.NUMERIC_HOST: (
        "http://127.1/", "http://127.0.1/", "http://2130706433/", "http://0x7f000001/", "http://0x7f.0.0.1/",
        "http://0177.0.0.1/", "http://017700000001/", "http://127.0.0.01/", "http://0/", "http://0.0/", "http://00/",
        "http://0x/", "http://0X7F.1/", "http://127.0.0.0x1/", "http://example.127/", "http://1.2.3.4.5/",
        "http://256.256.256.256/", "http://1.2.3.256/", "http://4294967296/", "http://127.0.0.1./", "http://8.8.8.8./",
        "http://0x7f.0x0.0x0.0x1/", "http://127.0x1/", "http://0127.0.0.1/", "http://3232235777/", "http://1.1/",
        "http://a.0x1f/", "http://0000008.8.8.8/",
    ),
    Refusal.AMBIGUOUS_HOST: (
        "http://１２７.0.0.1/", "http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/", "http://127．0．0．1/", "http://127｡0｡0｡1/",
        "http://example。org/", "http://ｅxample.org/", "http://example.org／evil.com/", "http://a﹕80/", "http://ａ/",
        "http://example℀.org/", "http://ex\u00adample.org/", "http://ex\u200bample.org/", "http://\u2100.org/",
        "http://example.org\uff03.a.org/", "http://x\uff20y.org/", "http://a\u2024b.org/", "http://\u202eexample.org/",
        "http://²130706433/", "http://𝟏𝟐𝟕.𝟎.𝟎.𝟏/", "http://ⅸ.org/", "http://㎏.org/", "http://a\u0338.org\ufe52/",
        "http://\U000e0061.org/", "http://☃☃\ufe0f.org/", "http://a\u2044b.org/",
        "http://xn--.org/", "http://xn--127-.0.0.1.org/", "http://xn--127-/", "http://xn--99999999.org/", "http://XN--A-ECP.org/",
    ),
    Refusal.BAD_PORT: (
        "http://example.org:/", "http://example.org:0/", "http://example.org:65536/", "http://example.org:080/",
        "http://example.org:+80/", "http://example.org:-1/", "http://example.org:8 0/".replace(" ", "_"),
        "http://example.org:80:80/", "http://example.org:http/", "http://example.org:٨٠/", "http://example.org:８０/",
        "http://[::1]:/", "http://[::1]:x/", "http://example.org:1000000000/", "http://example.org:0x50/",
        "http://example.org:80.0/",
    ),
    Refusal.TOO_LONG: ("http://example.org/" + "a" * 8192,),
}  # fmt: skip


@pytest.mark.parametrize(("reason", "url"), [(reason, url) for reason, urls in REFUSED.items() for url in urls])
def test_what_programs_read_differently_is_refused_by_name(reason: Refusal, url: str) -> None:
    """Proves that each trick of writing a URL is refused, for the reason that it is one."""
    with pytest.raises(Refused) as refused:
        parse_target(url)
    assert refused.value.reason is reason


READ: dict[str, tuple[str, str, int, str]] = {
    "http://example.org": ("http", "example.org", 80, "/"),
    "https://example.org": ("https", "example.org", 443, "/"),
    "HTTPS://Example.ORG/A": ("https", "example.org", 443, "/A"),
    "http://example.org?q=1": ("http", "example.org", 80, "/?q=1"),
    "http://example.org#top": ("http", "example.org", 80, "/"),
    "http://example.org/a?b#c?d": ("http", "example.org", 80, "/a?b"),
    "http://example.org:8080/": ("http", "example.org", 8080, "/"),
    "https://example.org:443/": ("https", "example.org", 443, "/"),
    "http://example.org./": ("http", "example.org", 80, "/"),
    "http://8.8.8.8/": ("http", "8.8.8.8", 80, "/"),
    "http://8.8.8.8:8000/x": ("http", "8.8.8.8", 8000, "/x"),
    "http://[2A00:1450::0]/": ("http", "2a00:1450::", 80, "/"),
    "http://[::ffff:8.8.8.8]:80/": ("http", "::ffff:808:808", 80, "/"),
    "https://münchen.de/straße?ü=ö": ("https", "xn--mnchen-3ya.de", 443, "/stra%C3%9Fe?%C3%BC=%C3%B6"),
    "https://MÜNCHEN.de/": ("https", "xn--mnchen-3ya.de", 443, "/"),
    "https://mu\u0308nchen.de/": ("https", "xn--mnchen-3ya.de", 443, "/"),
    "https://例え.jp/": ("https", "xn--r8jz45g.jp", 443, "/"),
    "https://XN--mnchen-3ya.de/": ("https", "xn--mnchen-3ya.de", 443, "/"),
    "https://xn--p1ai/": ("https", "xn--p1ai", 443, "/"),
    "https://xn--i-7iq.ws/": ("https", "xn--i-7iq.ws", 443, "/"),
    "http://my_host.example.org/": ("http", "my_host.example.org", 80, "/"),
    "http://r1---sn-4g5e.example.org/": ("http", "r1---sn-4g5e.example.org", 80, "/"),
    "http://3com.org/": ("http", "3com.org", 80, "/"),
    "http://1.2.3.4.example.org/": ("http", "1.2.3.4.example.org", 80, "/"),
    "http://127.0.0.1.nip.io/": ("http", "127.0.0.1.nip.io", 80, "/"),
    "http://0x7f.org/": ("http", "0x7f.org", 80, "/"),
    "http://0xcafe-bar/": ("http", "0xcafe-bar", 80, "/"),
    "http://localhost/": ("http", "localhost", 80, "/"),
    "http://example.org/a%20b?c=%2F&d=[1]": ("http", "example.org", 80, "/a%20b?c=%2F&d=[1]"),
    "http://example.org/<a>|\"b\"^`{c}": ("http", "example.org", 80, "/%3Ca%3E%7C%22b%22%5E%60%7Bc%7D"),
    "http://example.org/user@host:80": ("http", "example.org", 80, "/user@host:80"),
    "http://example.org/?u=http://a@b": ("http", "example.org", 80, "/?u=http://a@b"),
    "http://example.org//double": ("http", "example.org", 80, "//double"),
    "http://example.org/a/../b": ("http", "example.org", 80, "/a/../b"),
    "http://example.org/👩\u200d🚀": ("http", "example.org", 80, "/%F0%9F%91%A9%E2%80%8D%F0%9F%9A%80"),
    "http://" + "a" * 63 + ".org/": ("http", "a" * 63 + ".org", 80, "/"),
}  # fmt: skip


@pytest.mark.parametrize(("url", "parts"), READ.items())
def test_ordinary_urls_are_read_into_their_canonical_parts(url: str, parts: tuple[str, str, int, str]) -> None:
    """Proves that legitimate addresses work and come out in one spelling."""
    assert parse_target(url) == Target(*parts)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://example.org:80/", "example.org"),
        ("http://example.org:443/", "example.org:443"),
        ("https://example.org:443/", "example.org"),
        ("http://[2a00::1]/", "[2a00::1]"),
        ("http://[2a00::1]:8080/", "[2a00::1]:8080"),
    ],
)
def test_the_host_header_names_the_port_only_where_it_is_not_the_schemes_own(url: str, authority: str) -> None:
    """Proves that virtual hosts see the name that they expect."""
    assert parse_target(url).authority == authority


@settings(deadline=None)
@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://", "http://a@", "http://[", "http://1."]))
def test_any_text_is_read_or_refused_and_reading_is_stable(text: str, prefix: str) -> None:
    """Proves that the parser is total, gives ASCII without spaces, and reads its own output the same way."""
    try:
        target = parse_target(prefix + text)
    except Refused:
        return
    assert target.url.isascii()
    assert target.url.isprintable()
    assert " " not in target.url
    assert parse_target(target.url) == target


_PIECES = (
    "example", "org", ".", "..", "/", "//", "?", "#", "@", ":", ":80", ":8080", "\\", "[", "]", "[::1]", "[2a00::1]",
    "%41", "%2e", "%25", "127.0.0.1", "127.1", "8.8.8.8", "0x7f", "1", "a@b", "xn--", "-", "_", ";", "&", "=", "A", "ü",
    "。", "１", "http:", "&amp;", "|", "^", "'", '"', "<", "~", "*", "!", "$", "(", "+", ",", "xn--mnchen-3ya", " ", "\t",
)  # fmt: skip


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(["http://", "https://", "HTTP://"]), st.lists(st.sampled_from(_PIECES), min_size=1, max_size=8))
def test_other_parsers_read_what_is_accepted_the_same_way(scheme: str, pieces: list[str]) -> None:
    """Proves that what passes is unambiguous: urllib and httpx see the same host and port, before and after."""
    url = scheme + "".join(pieces)
    try:
        target = parse_target(url)
    except Refused:
        return
    for text in (url, target.url) if url.isascii() else (target.url,):
        split = urlsplit(text)
        assert split.hostname is not None
        assert canonical_host(split.hostname) == target.host
        assert (split.port or {"http": 80, "https": 443}[target.scheme]) == target.port
        other = httpx.URL(text)
        assert canonical_host(other.raw_host.decode()) == target.host
        assert (other.port or {"http": 80, "https": 443}[target.scheme]) == target.port
    assert httpx.URL(target.url).raw_path.decode() == target.path


def test_every_refusal_has_a_sentence() -> None:
    """Proves that no refusal is without words for the one who has to act."""
    assert all(reason.sentence.endswith(".") for reason in Refusal)
