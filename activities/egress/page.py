"""A page as readable text with its title and links. Parsed by Lexbor as a browser would, walked without recursion."""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urljoin

from selectolax.lexbor import LexborHTMLParser, LexborNode

MAX_LINKS = 100
_MAX_LABEL = 120
_MAX_TITLE = 300

_UNSEEN = frozenset(
    {"script", "style", "template", "svg", "math", "iframe", "object", "canvas", "audio", "video", "select", "datalist"}
)
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_PARAGRAPHS = frozenset(
    {"p", "pre", "ul", "ol", "dl", "table", "blockquote", "article", "section", "header", "footer", "nav", "main"}
    | {"aside", "form", "figure", "fieldset", "details", "address", "hr", *_HEADINGS}
)
_LINES = frozenset(
    {"div", "li", "tr", "dt", "dd", "br", "caption", "figcaption", "summary", "option", "legend", "body"}
)
_CELLS = frozenset({"td", "th"})


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
    text: str
    links: tuple[Link, ...]
    """In order, each address once, at most 100."""


def read_page(html: str, url: str) -> Page:
    """The readable part of a page that was found under `url`. Works on pages that were cut anywhere."""
    root = LexborHTMLParser(html).root
    reader = _Reader(url)
    if root is not None:
        for node, entering in _walk(root):
            if entering:
                reader.enter(node)
            else:
                reader.leave(node)
    return Page(title=reader.title, text=reader.text(), links=tuple(reader.links.values()))


def _unseen(node: LexborNode) -> bool:
    return node.tag in _UNSEEN or (node.is_element_node and "hidden" in node.attrs)


def _walk(root: LexborNode) -> Iterator[tuple[LexborNode, bool]]:
    """Every node that is seen, on the way in and on the way out. A page may nest ten thousand deep."""
    above: list[LexborNode] = []
    node: LexborNode | None = root
    while node is not None:
        child = None
        if not _unseen(node):
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
    """Collects text: words separated by one space, lines and paragraphs by line feeds."""

    def __init__(self, url: str) -> None:
        self.title = ""
        self.links: dict[str, Link] = {}
        self._base = url
        self._parts: list[str] = []
        self._pending = ""
        self._verbatim = 0
        self._in_title = False
        self._anchors: list[int] = []

    def text(self) -> str:
        lines = (line.rstrip() for line in "".join(self._parts).split("\n"))
        return "\n".join(lines).strip("\n")

    def enter(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag == "-text":
            self._text(node.text_content or "")
        elif tag == "title":
            self._in_title = True
        elif tag == "base":
            self._base = _joined(self._base, node.attrs.get("href") or "")
        elif tag == "a":
            self._anchors.append(len(self._parts))
        elif tag in _CELLS:
            self._gap(" | " if self._parts and not self._pending.endswith("\n") else "")
        elif tag == "img":
            self._text(node.attrs.get("alt") or "")
        else:
            self._open_block(tag)

    def leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag == "title":
            self._in_title = False
        elif tag == "a":
            self._link(node, self._parts[self._anchors.pop() :])
        elif tag == "pre":
            self._verbatim -= 1
            self._gap("\n\n")
        elif tag in _PARAGRAPHS:
            self._gap("\n\n")
        elif tag in _LINES and tag != "br":
            self._gap("\n")

    def _open_block(self, tag: str) -> None:
        if tag in _PARAGRAPHS:
            self._gap("\n\n")
        elif tag in _LINES:
            self._gap("\n")
        if tag == "pre":
            self._verbatim += 1
        if tag in _HEADINGS:
            self._mark(_HEADINGS[tag])
        elif tag == "li":
            self._mark("- ")

    def _gap(self, gap: str) -> None:
        """White space that is due before the next text; the largest wins."""
        self._pending = max(self._pending, gap, key=lambda text: (text.count("\n"), len(text)))

    def _mark(self, mark: str) -> None:
        self._flush()
        self._parts.append(mark)

    def _flush(self) -> None:
        if self._parts and not self._parts[-1].endswith(("# ", "- ")):
            self._parts.append(self._pending)
        self._pending = ""

    def _text(self, text: str) -> None:
        if self._in_title:
            self.title = self.title or " ".join(text.split())[:_MAX_TITLE]
            return
        if self._verbatim:
            if text:
                self._flush()
                self._parts.append(text)
            return
        words = " ".join(text.split())
        if not words:
            if text:
                self._gap(" ")
            return
        if text[0].isspace():
            self._gap(" ")
        self._flush()
        self._parts.append(words)
        if text[-1].isspace():
            self._gap(" ")

    def _link(self, node: LexborNode, parts: list[str]) -> None:
        href = (node.attrs.get("href") or "").strip()
        url = _joined(self._base, href).partition("#")[0]
        if not href or href.startswith("#") or not url.startswith(("http://", "https://")):
            return
        words = " ".join("".join(parts).split()) or node.attrs.get("aria-label") or node.attrs.get("title") or ""
        known = self.links.get(url)
        if (known is None and len(self.links) < MAX_LINKS) or (known is not None and not known.text):
            self.links[url] = Link(text=words[:_MAX_LABEL], url=url)


def _joined(base: str, href: str) -> str:
    try:
        return urljoin(base, href.strip())
    except ValueError:
        return ""
