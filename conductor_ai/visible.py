"""Text from outside as a person should see it: nothing hidden, nothing that moves other text."""

import re
import unicodedata

_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Control, format (bidi, zero-width, tags), surrogates, private use, unassigned, line and paragraph separators."""

_KEPT = frozenset("\n\t")

_INVISIBLE = (
    (0x034F, 0x034F),  # combining grapheme joiner
    (0x115F, 0x1160),  # Hangul fillers
    (0x17B4, 0x17B5),  # Khmer inherent vowels
    (0x180B, 0x180F),  # Mongolian variation selectors
    (0x2800, 0x2800),  # Braille blank
    (0x3164, 0x3164),  # Hangul filler
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFFA0, 0xFFA0),  # half-width Hangul filler
    (0xE0100, 0xE01EF),  # variation selectors supplement
)
"""Letters and marks that draw nothing, so that their category does not give them away."""


def visible(text: str) -> str:
    """The text with every control, bidi, zero-width and otherwise invisible character written as `⟨U+202E⟩`.

    Line feed and tab stay. Pure; the result contains no hidden character, so that applying it twice is the same
    as once. For people only: what a program or a model gets is never changed.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"⟨U+{ord(char):04X}⟩" if is_hidden(char) else char for char in text)


def unlinked(text: str) -> str:
    """One line of text from outside for a page that reads Markdown: visible, and without links, images and tags."""
    return re.sub(r"([\\\[<])", r"\\\1", visible(text))


def is_hidden(char: str) -> bool:
    """True for one character that a person would not see, or that changes how its neighbours are shown."""
    if char in _KEPT:
        return False
    if unicodedata.category(char) in _HIDDEN_CATEGORIES:
        return True
    point = ord(char)
    return any(first <= point <= last for first, last in _INVISIBLE)
