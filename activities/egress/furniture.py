"""What on a page is not for reading: things that are not shown, and what only leads around the site.

Judged by what a page says itself (elements, roles, and names that are the same everywhere), not by how it looks. Links of
such parts are kept, so that nothing becomes unreachable; only their text is left out.
"""

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

_UNSEEN = frozenset(
    {"script", "style", "template", "svg", "math", "iframe", "object", "canvas", "audio", "video", "select", "datalist"}
    | {"button", "-comment"}
)
_AROUND_ROLES = frozenset(
    {"navigation", "search", "menu", "menubar", "toolbar", "contentinfo", "dialog", "alertdialog"}
)
_AROUND_NAMES = frozenset(
    {"nav", "navbar", "navheader", "navfooter", "navigation", "topnav", "breadcrumb", "breadcrumbs", "sidebar"}
    | {"sphinxsidebar", "pagination", "pager", "skip-link", "skiplink", "sr-only", "visually-hidden", "ad", "ads"}
    | {"advert", "adverts", "advertisement", "adsbygoogle", "sponsored", "cookie-banner", "cookie-consent"}
    | {"newsletter", "share-buttons", "social-share", "site-footer"}
)
"""Whole words of `class` and `id`."""

_NAMED = frozenset(
    {"div", "section", "aside", "ul", "ol", "table", "p", "ins", "span", "header", "footer", "form", "a"}
)
_WHOLE = frozenset({"html", "body", "main"})
_HIDDEN_STYLE = re.compile(r"(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)

SECTIONS = frozenset({"main", "article", "section", "aside", "blockquote"})
"""Inside of these a `footer` belongs to the text; elsewhere it is the site's."""


def is_unseen(node: LexborNode) -> bool:
    """True if a browser shows nothing of it, or nothing to read."""
    tag = node.tag or ""
    if tag in _UNSEEN:
        return True
    if not node.is_element_node or tag in _WHOLE:
        return False
    attributes = node.attrs
    if (
        "hidden" in attributes
        or attributes.get("aria-hidden") == "true"
        or (tag == "dialog" and "open" not in attributes)
    ):
        return True
    if _HIDDEN_STYLE.search(attributes.get("style") or ""):
        return True
    # The mark beside a heading that leads to the heading itself.
    text = only_text(node) if tag == "a" and (attributes.get("href") or "").startswith("#") else None
    return text is not None and not any(letter.isalnum() for letter in text)


def only_text(node: LexborNode) -> str | None:
    """The text of an element that has nothing else in it, None if it has. Looks at one child, however deep a page is."""
    child = node.first_child
    if child is None or child.next is not None or child.tag != "-text":
        return None
    return child.text_content


def is_around(node: LexborNode, *, in_section: bool) -> bool:
    """True if it is there for getting around the site, or sells something. `in_section`: inside of one of `SECTIONS`."""
    tag = node.tag or ""
    if not node.is_element_node or tag in _WHOLE:
        return False
    if tag == "nav" or (tag == "footer" and not in_section):
        return True
    attributes = node.attrs
    if (attributes.get("role") or "").strip().lower() in _AROUND_ROLES:
        return True
    if tag not in _NAMED:
        return False
    names = f"{attributes.get('class') or ''} {attributes.get('id') or ''}".lower().split()
    return not _AROUND_NAMES.isdisjoint(names)


def main_part(page: LexborHTMLParser) -> tuple[int | None, frozenset[int]]:
    """The element that the page calls its main part, or its only article, and the elements around that one."""
    found = page.css("main, [role=main]") or page.css("article")
    if len(found) != 1:
        return None, frozenset()
    above: set[int] = set()
    node = found[0].parent
    while node is not None:
        above.add(node.mem_id)
        node = node.parent
    return found[0].mem_id, frozenset(above)
