"""Hidden characters shown to people."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conductor_ai.visible import is_hidden, unlinked, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("Grüße, 日本語, 👍, é", "Grüße, 日本語, 👍, é"),
        ("a\u202egnp.exe", "a⟨U+202E⟩gnp.exe"),
        ("a\u200bb\u200cc\u200dd\u2060e\ufefff", "a⟨U+200B⟩b⟨U+200C⟩c⟨U+200D⟩d⟨U+2060⟩e⟨U+FEFF⟩f"),
        ("\u2066x\u2069", "⟨U+2066⟩x⟨U+2069⟩"),
        ("\0\x1b[31m\r\x7f\x9b", "⟨U+0000⟩⟨U+001B⟩[31m⟨U+000D⟩⟨U+007F⟩⟨U+009B⟩"),
        ("\u2028\u2029", "⟨U+2028⟩⟨U+2029⟩"),
        ("pay\u00adpal", "pay⟨U+00AD⟩pal"),
        ("\U000e0041\U000e0042", "⟨U+E0041⟩⟨U+E0042⟩"),
        ("x\ufe0f\U000e0101", "x⟨U+FE0F⟩⟨U+E0101⟩"),
        ("\u3164\uffa0\u115f\u2800\u034f\u180e", "⟨U+3164⟩⟨U+FFA0⟩⟨U+115F⟩⟨U+2800⟩⟨U+034F⟩⟨U+180E⟩"),
        ("\ue000\ud800", "⟨U+E000⟩⟨U+D800⟩"),
    ],
)
def test_hidden_characters_are_written_out(text: str, shown: str) -> None:
    """Proves that control, bidi, zero-width, tag and filler characters are seen, and that ordinary text is not touched."""
    assert visible(text) == shown


@settings(deadline=None)
@given(st.text())
def test_nothing_hidden_is_left_and_twice_is_once(text: str) -> None:
    """Proves that the result holds no hidden character, and that showing it again changes nothing."""
    shown = visible(text)
    assert not any(is_hidden(char) for char in shown)
    assert visible(shown) == shown
    assert all(char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf") for char in shown)


def test_one_line_of_markdown_makes_no_link() -> None:
    """A title or a model's name cannot become a link, an image or a tag on Temporal's page."""
    assert unlinked("openai:[x](http://e) ![y](z) <b>") == r"openai:\[x](http://e) !\[y](z) \<b>"
    assert unlinked("a\\[b") == r"a\\\[b"
    assert unlinked("plain words, 100 %") == "plain words, 100 %"
