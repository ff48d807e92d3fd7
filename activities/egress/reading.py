"""What an answer says: a page as text, text as it is, anything else described."""

from dataclasses import dataclass
from enum import StrEnum

from activities.egress.charset import content_type, decode
from activities.egress.messages import End, Response
from activities.egress.page import Link, read_page


class Kind(StrEnum):
    """What a body is taken for."""

    EMPTY = "empty"
    HTML = "html"
    JSON = "json"
    TEXT = "text"
    BINARY = "binary"


@dataclass(frozen=True, slots=True)
class Reading:
    """A body in a form for readers."""

    kind: Kind
    media_type: str
    """As the host says; empty if it does not."""
    text: str
    """Readable text; for a binary body a sentence about it."""
    title: str = ""
    links: tuple[Link, ...] = ()


_HTML = frozenset({"text/html", "application/xhtml+xml"})
_TEXT = frozenset(
    {"application/xml", "application/javascript", "application/ecmascript", "application/yaml", "application/x-yaml"}
    | {"application/toml", "application/sql", "application/x-www-form-urlencoded", "application/x-sh"}
    | {"application/graphql", "application/x-ndjson", "application/jsonl", "application/json-seq", "image/svg+xml"}
)
_SNIFFED = 1024
"""Bytes that are looked at when the host does not say what it sends."""


def read(response: Response) -> Reading:
    """Read a body by its media type; without one, by its first bytes."""
    media, charset = content_type(response.header("content-type") or "")
    if not response.body:
        return Reading(Kind.EMPTY, media, "")
    kind = _kind(media, response.body)
    if kind is Kind.BINARY:
        size = (
            f"{len(response.body)} bytes" if response.end is End.COMPLETE else f"the first {len(response.body)} bytes"
        )
        return Reading(kind, media, f"Binary content ({media or 'of unknown type'}), {size} read. It has no text form.")
    text = decode(response.body, declared=charset, html=kind is Kind.HTML, complete=response.end is End.COMPLETE)
    if kind is not Kind.HTML:
        return Reading(kind, media, text)
    page = read_page(text, response.url)
    return Reading(kind, media, page.text, page.title, page.links)


def _kind(media: str, body: bytes) -> Kind:
    if media in _HTML:
        return Kind.HTML
    if media == "application/json" or media.endswith("+json"):
        return Kind.JSON
    if media.startswith("text/") or media in _TEXT or media.endswith(("+xml", "+yaml")):
        return Kind.TEXT
    return Kind.BINARY if media else _sniff(body[:_SNIFFED])


def _sniff(head: bytes) -> Kind:
    if b"\0" in head:
        return Kind.BINARY
    start = head.lstrip()[:15].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return Kind.HTML
    return Kind.TEXT
