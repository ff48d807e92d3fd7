"""Bytes to text, once, by the charset that they are most likely in."""

import codecs
import string
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser

_HEAD_BYTES = 4096
"""Where a page must have named its charset."""

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))

_LABEL = frozenset(string.ascii_letters + string.digits + "-_:.")

_READ_AS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}
"""Labels that the Encoding Standard reads as their larger relatives, by Python's names."""

_CHARSETS = frozenset(
    {"utf-8", "utf-16", "utf-16-le", "utf-16-be", "big5", "big5hkscs", "euc_jp", "iso2022_jp", "koi8-r", "koi8-u"}
    | {"mac-roman", "mac-cyrillic", "cp866", *_READ_AS.values()}
    | {f"iso8859-{part}" for part in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)}
    | {f"cp125{page}" for page in range(9)}
)
"""Every codec that may be used. Python has others that are no charsets (rot13, zip) or hide markup (utf-7)."""

_FEW = 100
"""One damaged character in so many does not make a declared charset wrong."""


def decode(body: bytes, *, declared: str | None, html: bool, complete: bool) -> str:
    """The text of a body. Never fails.

    The order is: byte order mark (which wins over the header, as in browsers), the header's charset, a page's
    own `meta`, UTF-8; the first in which every byte makes sense. If none does: the first one declared, when the
    damage is small, else Latin-1. A body that was cut may end inside a character; that one is dropped.
    """
    for bom, charset in _BOMS:
        if body.startswith(bom):
            return _damaged(body.removeprefix(bom), charset)
    candidates = list(dict.fromkeys(_candidates(body, declared, html)))
    for charset in candidates:
        try:
            return codecs.getincrementaldecoder(charset)("strict").decode(body, final=complete)
        except UnicodeError:  # also: utf-16 and utf-32 without their byte order mark
            continue
    text = _damaged(body, candidates[0])
    return text if text.count("\ufffd") * _FEW <= len(text) else body.decode("latin-1")


def _damaged(body: bytes, charset: str) -> str:
    return body.decode(charset, "replace")


def _candidates(body: bytes, declared: str | None, html: bool) -> Iterator[str]:
    for label in (declared, _meta(body) if html else None):
        charset = _charset(label or "")
        if charset is not None:
            yield charset
    yield "utf-8"


def _charset(label: str) -> str | None:
    """Python's name of a charset, None if it is unknown or no charset."""
    label = label.strip()
    if not label or len(label) > 40 or not set(label) <= _LABEL:
        return None
    try:
        name = codecs.lookup(label).name
    except LookupError:
        return None
    name = _READ_AS.get(name, name)
    return name if name in _CHARSETS else None


def _meta(body: bytes) -> str | None:
    """The charset that a page names itself. It is in ASCII there, so UTF-16 can only be a mistake for UTF-8."""
    for node in LexborHTMLParser(body[:_HEAD_BYTES].decode("latin-1")).css("meta"):
        attributes = node.attributes
        label = attributes.get("charset")
        if not label and (attributes.get("http-equiv") or "").lower() == "content-type":
            label = content_type(attributes.get("content") or "")[1]
        if label:
            return "utf-8" if label.strip().lower().startswith("utf-16") else label
    return None


def content_type(value: str) -> tuple[str, str | None]:
    """Media type in lower case, and the charset if one is named, of a Content-Type header."""
    media, *parameters = value.split(";")
    charset = None
    for parameter in parameters:
        name, _, setting = parameter.partition("=")
        if name.strip().lower() == "charset" and charset is None:
            charset = setting.strip().strip("\"'") or None
    return media.strip().lower(), charset
