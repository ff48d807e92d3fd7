"""Bytes to text: which charset wins, and that a wrong one never loses the page."""

import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.egress.charset import content_type, decode

GERMAN = "Grüße aus Köln"
JAPANESE = "日本語のページ"


@pytest.mark.parametrize(
    ("body", "declared", "html", "text"),
    [
        (GERMAN.encode(), None, False, GERMAN),
        (GERMAN.encode(), "utf-8", False, GERMAN),
        (GERMAN.encode(), "UTF8", False, GERMAN),
        (GERMAN.encode("latin-1"), "iso-8859-1", False, GERMAN),
        (GERMAN.encode("latin-1"), None, False, GERMAN),
        (GERMAN.encode("latin-1"), "utf-8", False, GERMAN),
        ("“smart” €".encode("cp1252"), "iso-8859-1", False, "“smart” €"),
        (JAPANESE.encode("shift_jis"), "Shift_JIS", False, JAPANESE),
        (JAPANESE.encode("euc_jp"), "euc-jp", False, JAPANESE),
        ("中文".encode("gb18030"), "gb2312", False, "中文"),
        ("Привет".encode("koi8-r"), "koi8-r", False, "Привет"),
        (codecs.BOM_UTF8 + GERMAN.encode(), "iso-8859-1", False, GERMAN),
        (codecs.BOM_UTF16_LE + GERMAN.encode("utf-16-le"), None, False, GERMAN),
        (codecs.BOM_UTF16_BE + GERMAN.encode("utf-16-be"), "utf-8", False, GERMAN),
        (GERMAN.encode(), "no-such-charset", False, GERMAN),
        (GERMAN.encode(), "rot13", False, GERMAN),
        (GERMAN.encode(), "zip", False, GERMAN),
        (GERMAN.encode(), "utf-7", False, GERMAN),
        (GERMAN.encode(), "unicode_escape", False, GERMAN),
        (GERMAN.encode(), "../../x", False, GERMAN),
        (GERMAN.encode(), "idna", False, GERMAN),
        (GERMAN.encode(), "", False, GERMAN),
        (b"<meta charset=koi8-r>" + "Да".encode("koi8-r"), None, True, "<meta charset=koi8-r>Да"),
        (b"<meta charset=koi8-r>" + "Да".encode("koi8-r"), None, False, "<meta charset=koi8-r>" + "äÁ"),
        (b"<meta charset=utf-16>" + "Да".encode(), None, True, "<meta charset=utf-16>Да"),
        (b"<meta charset=latin-1>" + "Да".encode(), "utf-8", True, "<meta charset=latin-1>Да"),
        (b"", "utf-8", True, ""),
    ],
)
def test_which_charset_reads_a_body(body: bytes, declared: str | None, html: bool, text: str) -> None:
    """Proves the order: byte order mark, header, meta, UTF-8, Latin-1; and that only charsets are used."""
    assert decode(body, declared=declared, html=html, complete=True) == text


def test_meta_http_equiv_names_the_charset_too() -> None:
    """Proves the older way for a page to name its charset."""
    html = '<META HTTP-EQUIV="Content-Type" CONTENT="text/html; charset=windows-1251">Да'
    assert decode(html.encode("cp1251"), declared=None, html=True, complete=True) == html


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_body_cut_inside_a_character_stays_in_its_charset(cut: int) -> None:
    """Proves that the cap never turns a whole UTF-8 page into Latin-1: the half character is dropped."""
    body = JAPANESE.encode()[:cut]
    text = decode(body, declared=None, html=False, complete=False)
    assert JAPANESE.startswith(text)
    assert len(text) == cut // 3


def test_one_damaged_byte_does_not_spoil_a_page() -> None:
    """Proves that a page in UTF-8 with one wrong byte is read as UTF-8, that byte marked."""
    body = (JAPANESE * 50).encode() + b"\xff" + GERMAN.encode()
    assert decode(body, declared="utf-8", html=False, complete=True) == JAPANESE * 50 + "\ufffd" + GERMAN


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        ("text/html", ("text/html", None)),
        ("Text/HTML; Charset=UTF-8", ("text/html", "UTF-8")),
        ('text/html; a=b; charset="koi8-r"; charset=x', ("text/html", "koi8-r")),
        ("text/html; charset=", ("text/html", None)),
        ("", ("", None)),
        (";;;", ("", None)),
    ],
)
def test_content_type_is_read_leniently(header: str, parts: tuple[str, str | None]) -> None:
    """Proves that odd headers give a type and a charset, or none, and no error."""
    assert content_type(header) == parts


@settings(deadline=None)
@given(st.binary(max_size=200), st.text(max_size=20), st.booleans(), st.booleans())
def test_any_bytes_are_read(body: bytes, declared: str, html: bool, complete: bool) -> None:
    """Proves that decoding is total and never gives what cannot be stored as UTF-8."""
    decode(body, declared=declared, html=html, complete=complete).encode()


@pytest.mark.parametrize("charset", ["utf-16", "utf-32"])
def test_a_charset_that_wants_a_byte_order_mark(charset: str) -> None:
    """A body that declares one of these and has no mark is read by the next charset that makes sense of it."""
    assert decode(b"plain words.", declared=charset, html=False, complete=True) == "plain words."
