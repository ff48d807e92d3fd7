"""A page as readable text with its title and links. Parsed by Lexbor as a browser would, walked without recursion."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from urllib.parse import urljoin

from selectolax.lexbor import LexborHTMLParser, LexborNode

from activities.egress.furniture import SECTIONS, is_around, is_unseen, main_part, only_text
from activities.egress.lines import Lines, words_of

MAX_LINKS = 100
_MAX_LABEL = 120
_MAX_TITLE = 300

_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_PARAGRAPHS = frozenset(
    {"p", "dl", "table", "blockquote", "article", "section", "header", "footer", "nav", "main"}
    | {"aside", "form", "figure", "fieldset", "details", "address", "hr", *_HEADINGS}
)
_LINES = frozenset({"div", "dt", "dd", "br", "caption", "figcaption", "summary", "option", "legend", "body"})
_CELLS = frozenset({"td", "th"})
_LISTS = frozenset({"ul", "ol", "menu"})
_POWER = re.compile(r"[+\-−]?\w{1,8}")

_FORMATTING = re.compile(r"<(/?)(?:b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)(?=[\s/>])", re.IGNORECASE)
_WITH_ATTRIBUTES = re.compile(r"<(?:b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)[\s/]", re.IGNORECASE)
_MAX_FORMATTING = 64
"""Beyond this many, such elements are made plain ones before the page is parsed. Browsers open those that were left open
again in every block: 50 KB of them become a million nodes, seconds and a gigabyte. Nothing is read from them."""


class _Where(IntEnum):
    """Which part of a page something is in."""

    MAIN = 0
    BODY = 1
    AROUND = 2


@dataclass(frozen=True, slots=True)
class Link:
    """One link of a page."""

    text: str
    url: str
    """Absolute, http or https. It has not been checked."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a reader gets of a page."""

    title: str
    """Of the page, else of its first heading; empty without both."""
    text: str
    """Its main part, if it names one, else everything but what leads around the site."""
    links: tuple[Link, ...]
    """Each address once, at most 100: those of the text in their order, then those around it."""


def read_page(html: str, url: str) -> Page:
    """The readable part of a page that was found under `url`. Works on pages that were cut anywhere."""
    page = LexborHTMLParser(_tamed(html))
    reader = _Reader(page, url, leave_out=True)
    if reader.is_nearly_nothing:
        reader = _Reader(page, url, leave_out=False)
    return reader.page()


def _tamed(html: str) -> str:
    if len(_WITH_ATTRIBUTES.findall(html)) <= _MAX_FORMATTING:
        return html
    return _FORMATTING.sub(r"<\1span", html)


def _walk(root: LexborNode) -> Iterator[tuple[LexborNode, bool]]:
    """Every node that is seen, on the way in and on the way out. A page may nest ten thousand deep."""
    above: list[LexborNode] = []
    node: LexborNode | None = root
    while node is not None:
        child = None
        if not is_unseen(node):
            yield node, True
            child = node.first_child
            if child is None:
                yield node, False
        if child is not None:
            above.append(node)
            node = child
            continue
        following = node.next if above else None
        while following is None and above:
            parent = above.pop()
            yield parent, False
            following = parent.next if above else None
        node = following


class _Reader:
    """One way through a page: the text of all of it and of its main part, and where each link is."""

    def __init__(self, page: LexborHTMLParser, url: str, *, leave_out: bool) -> None:
        self._url = self._base = url
        self._leave_out = leave_out
        self._main, self._around_main = main_part(page)
        self._whole, self._core = Lines(), Lines()
        self._title = self._heading = ""
        self._around: list[int] = []
        """Elements that are open and lead around the site; as long as there is one, text is not kept."""
        self._left_out = 0
        self._in_main = False
        self._main_has_heading = False
        self._sections = 0
        self._in_title = False
        self._in_heading = False
        self._verbatim = 0
        self._anchors: list[list[str]] = []
        self._links: list[tuple[_Where, Link]] = []
        if page.root is not None:
            for node, entering in _walk(page.root):
                if entering:
                    self._enter(node)
                else:
                    self._leave(node)
        described = page.css_first('meta[property="og:title"]')
        self._title = self._title or words_of((described.attrs.get("content") or "") if described else "")

    @property
    def is_nearly_nothing(self) -> bool:
        """True if nearly all of it was left out: the names did not mean that, or the page was cut inside of its menu."""
        return self._leave_out and self._whole.size < 200 and self._left_out > 4 * self._whole.size

    def page(self) -> Page:
        """What was read."""
        is_main = self._core.size * 4 >= self._whole.size and self._core.size > 0
        text = (self._core if is_main else self._whole).text()
        if is_main and self._heading and not self._main_has_heading:
            text = f"# {self._heading}\n\n{text}"
        return Page(
            title=(self._title or self._heading)[:_MAX_TITLE], text=text, links=tuple(self._sorted(is_main))[:MAX_LINKS]
        )

    def _sorted(self, is_main: bool) -> list[Link]:
        last_of_text = _Where.MAIN if is_main else _Where.BODY
        found: dict[str, Link] = {}
        for of_text in (True, False):
            for where, link in self._links:
                if (where <= last_of_text) == of_text and (link.url not in found or not found[link.url].text):
                    found[link.url] = link
        return list(found.values())

    @property
    def _sinks(self) -> tuple[Lines, ...]:
        if self._around:
            return ()
        return (self._whole, self._core) if self._in_main else (self._whole,)

    def _enter(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag == "-text":
            self._text(node.text_content or "")
        elif tag == "title":
            self._in_title = True
        elif tag == "base":
            self._base = _joined(self._base, node.attrs.get("href") or "")
        elif tag == "a":
            self._anchors.append([])
        elif tag == "img":
            self._text(node.attrs.get("alt") or "")
        elif node.is_element_node:
            self._enter_block(node, tag)

    def _enter_block(self, node: LexborNode, tag: str) -> None:
        if node.mem_id == self._main:
            self._in_main = True
        elif (
            self._leave_out and node.mem_id not in self._around_main and is_around(node, in_section=self._sections > 0)
        ):
            self._around.append(node.mem_id)
        self._sections += tag in SECTIONS
        self._verbatim += tag == "pre"
        self._in_heading = self._in_heading or tag == "h1"
        power = tag == "sup" and _POWER.fullmatch((only_text(node) or "").strip()) is not None
        for lines in self._sinks:
            if tag in _LISTS:
                lines.begin_list(_first_number(node) if tag == "ol" else None)
            elif tag == "li":
                lines.begin_item()
            elif tag == "tr":
                lines.begin_row()
            elif tag in _CELLS:
                lines.begin_cell()
            elif tag == "pre":
                lines.begin_verbatim()
            elif tag in _PARAGRAPHS:
                lines.gap("\n\n")
                if tag in _HEADINGS:
                    lines.mark(_HEADINGS[tag])
            elif tag in _LINES:
                lines.gap("\n")
            elif power and lines.ends_in_word:
                lines.words("^")

    def _leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag == "title":
            self._in_title = False
        elif tag == "a":
            self._link(node, "".join(self._anchors.pop()))
        elif node.is_element_node:
            self._leave_block(node, tag)

    def _leave_block(self, node: LexborNode, tag: str) -> None:
        for lines in self._sinks:
            if tag in _LISTS:
                lines.end_list()
            elif tag == "li":
                lines.end_item()
            elif tag == "tr":
                lines.end_row()
            elif tag in _CELLS:
                lines.end_cell()
            elif tag == "pre":
                lines.end_verbatim()
            elif tag in _PARAGRAPHS:
                if tag in _HEADINGS:
                    lines.unmark()
                lines.gap("\n\n")
            elif tag in _LINES and tag != "br":
                lines.gap("\n")
        self._in_heading = self._in_heading and tag != "h1"
        self._verbatim -= tag == "pre"
        self._sections -= tag in SECTIONS
        if self._around and self._around[-1] == node.mem_id:
            self._around.pop()
        if node.mem_id == self._main:
            self._in_main = False

    def _text(self, text: str) -> None:
        if self._in_title:
            self._title = self._title or words_of(text)
            return
        if self._anchors:
            self._anchors[-1].append(text)
        if self._around:
            self._left_out += len(text)
            return
        if self._in_heading and not text.isspace():
            self._main_has_heading = self._main_has_heading or self._in_main
            if not self._heading:
                self._heading = words_of(text)
        for lines in self._sinks:
            if self._verbatim:
                lines.verbatim(text)
            else:
                lines.words(text)

    def _link(self, node: LexborNode, text: str) -> None:
        href = (node.attrs.get("href") or "").strip()
        url = _joined(self._base, href).partition("#")[0]
        if (
            not href
            or href.startswith("#")
            or url == self._url.partition("#")[0]
            or not url.startswith(("http://", "https://"))
        ):
            return
        words = words_of(text) or node.attrs.get("aria-label") or node.attrs.get("title") or ""
        where = _Where.AROUND if self._around else _Where.MAIN if self._in_main else _Where.BODY
        self._links.append((where, Link(text=words[:_MAX_LABEL], url=url)))


def _first_number(node: LexborNode) -> int:
    start = node.attrs.get("start") or ""
    return int(start) if start.isascii() and start.isdigit() and len(start) < 6 else 1


def _joined(base: str, href: str) -> str:
    try:
        return urljoin(base, href.strip())
    except ValueError:
        return ""
