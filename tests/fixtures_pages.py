"""Pages that nobody here wrote: HTML documentation from Debian's packages, served on loopback as a site would."""

import gzip
import mimetypes
from asyncio import StreamReader, StreamWriter
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.fixtures_docker import missing
from tests.fixtures_web import Handler, answer


@dataclass(frozen=True)
class Site:
    """The documentation of one package."""

    package: str
    root: Path
    around: tuple[str, ...]
    """Lines that lead around this site and are on most of its pages."""

    def pages(self, largest: int, most: int) -> list[str]:
        """Paths of up to so many pages, spread over the site, none larger than this."""
        found = sorted(path for path in self.root.rglob("*.html") if 2_000 < path.stat().st_size <= largest)
        named = [str(path.relative_to(self.root)) for path in found if not path.is_symlink()]
        japanese = [path for path in named if ".ja." in path]
        named = [path for path in (japanese or named) if "index" not in path and "search" not in path]
        return named[:: max(1, len(named) // most)][:most]


PYTHON = Site(
    "python3.11-doc",
    Path("/usr/share/doc/python3.11/html"),
    ("Navigation", "Previous topic", "Next topic", "This Page", "Report a Bug", "Show Source", "Quick search"),
)
POSTGRESQL = Site("postgresql-doc-15", Path("/usr/share/doc/postgresql-doc-15/html"), ("Prev", "Next", "Home", "Up"))
REFERENCE = Site("debian-reference-ja", Path("/usr/share/debian-reference"), ("戻る", "次へ", "ホーム"))
DEVELOPERS = Site(
    "developers-reference-ja", Path("/usr/share/developers-reference/ja"), ("ナビゲーション", "索引", "次へ", "前へ")
)
SITES = (PYTHON, POSTGRESQL, REFERENCE, DEVELOPERS)


def need(site: Site) -> None:
    """Skip without the package, fail in CI."""
    if not any(site.root.glob("**/*.html")):
        missing(f"the Debian package {site.package} is not installed, or without its HTML pages")


def handler(site: Site) -> Handler:
    """Serves a site; see `serve_site`."""

    async def handle(_reader: StreamReader, writer: StreamWriter, request: bytes) -> None:
        await serve_site(site, writer, request)

    return handle


async def serve_site(site: Site, writer: StreamWriter, request: bytes) -> None:
    """Answer a GET with the file as it is: without a charset in the header, packed if that was asked for."""
    head = request.decode("latin-1")
    path = (site.root / unquote(urlsplit(head.split()[1]).path).lstrip("/")).resolve()
    inside = path.is_relative_to(site.root.resolve()) and path.is_file()
    body = path.read_bytes() if inside else b""
    headers = [f"Content-Type: {mimetypes.guess_type(path.name)[0] or 'application/octet-stream'}"]
    if "gzip" in head.lower():
        body = gzip.compress(body)
        headers.append("Content-Encoding: gzip")
    writer.write(answer(body, *headers, status="200 OK" if inside else "404 Not Found"))
    await writer.drain()


class Paragraphs(HTMLParser):
    """Title, headings and paragraphs by another parser, for comparison: what a good text must have, in this order."""

    _VOID = frozenset({"br", "hr", "img", "input", "meta", "link", "col", "area", "base", "wbr", "source"})

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self._found: list[tuple[bool, str]] = []
        self._open: list[tuple[str, bool]] = []
        self._block: list[str] | None = None
        self._kind = ""
        self._mark = False
        self.feed(source)

    @property
    def found(self) -> list[str]:
        """Those of the main part, if the page names one."""
        main = [text for in_main, text in self._found if in_main]
        return main or [text for _, text in self._found]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self._VOID:
            return
        self._open.append((tag, dict(attrs).get("role") == "main"))
        if tag in ("p", "h1", "h2", "h3", "h4", "title"):
            self._finish()
            self._block, self._kind = [], tag
        self._mark = tag == "a" and dict(attrs).get("class") == "headerlink"

    def handle_endtag(self, tag: str) -> None:
        self._mark = False
        if tag == self._kind:
            self._finish()
        if any(tag == name for name, _ in self._open):
            while self._open.pop()[0] != tag:
                continue

    def handle_data(self, data: str) -> None:
        if self._block is not None and not self._mark:
            self._block.append(data)

    def _finish(self) -> None:
        text = "".join(self._block or ())
        if self._kind == "title":
            self.title = self.title or " ".join(text.split())
        elif text.strip():
            self._found.append((any(is_main for _, is_main in self._open), text))
        self._block, self._kind = None, ""


def squeezed(text: str) -> str:
    """Text without white space and without what a reading adds: signs of headings, cells, powers."""
    return "".join(letter for letter in text if not letter.isspace() and letter not in "#|^`-")
