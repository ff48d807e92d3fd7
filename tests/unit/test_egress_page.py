"""Pages as readable text: structure kept, everything that is not for readers left out, any page survived."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.egress.page import MAX_LINKS, Link, read_page

URL = "https://example.org/docs/page.html"


def text_of(html: str) -> str:
    """The text alone."""
    return read_page(html, URL).text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p><p>Two</p>", "One\n\nTwo"),
        ("<div>One</div><div>Two</div>", "One\nTwo"),
        ("One<br>Two", "One\nTwo"),
        ("<h1>Top</h1>Text<h3>Low</h3>", "# Top\n\nText\n\n### Low"),
        ("<ul><li>a</li><li>b <b>c</b></li></ul>d", "- a\n- b c\n\nd"),
        ("<p>a <b>b</b>c<i> d</i> </p>", "a bc d"),
        ("<p>  many \n\t spaces\n</p>", "many spaces"),
        ("<pre>  def f():\n    pass</pre>after", "  def f():\n    pass\n\nafter"),
        ("<table><tr><th>k<th>v<tr><td>1<td>2</table>", "k | v\n1 | 2"),
        ("a<script>bad()</script><style>x{}</style>b", "ab"),
        ("<p>a</p><!-- secret --><template>t</template><p hidden>h</p>b", "a\n\nb"),
        ("<svg><title>icon</title><text>s</text></svg>x<iframe src=/>frame</iframe>", "x"),
        ("<img src=x alt='A cat'> sits", "A cat sits"),
        ("a &lt;b&gt; &amp;amp; &nbsp; c", "a <b> &amp; c"),
        ("<noscript>Turn it on</noscript>", "Turn it on"),
        ("<p>Cut in the mid", "Cut in the mid"),
        ("<p>Cut <a href='/x", "Cut"),
        ("", ""),
        ("just text", "just text"),
        ("\0<p>nul\0</p>", "nul\ufffd"),
    ],
)  # fmt: skip
def test_text_of_a_page(html: str, text: str) -> None:
    """Proves what readers get of common and of broken markup."""
    assert text_of(html).replace("\ufffd", "") == text.replace("\ufffd", "")


def test_title_and_links_are_told_apart_from_the_text() -> None:
    """Proves that links are absolute by page and base, each once, with words, and only http and https."""
    page = read_page(
        """<title> A
        title </title><base href="/base/"><body>
        <a href="one.html">One <b>link</b></a> <a href="/two?q=1#part"></a> <a href="/two?q=1">Two</a>
        <a href="//other.org/x" title="Other"></a><a href="#here">here</a><a href="javascript:alert(1)">js</a>
        <a href="mailto:a@example.org">mail</a><a href="data:text/html,x">data</a><a>none</a><a href="http://[x">bad</a>
        <a href="  https://third.org/  ">Third</a>""",
        URL,
    )
    assert page.title == "A title"
    assert page.links == (
        Link("One link", "https://example.org/base/one.html"),
        Link("Two", "https://example.org/two?q=1"),
        Link("Other", "https://other.org/x"),
        Link("Third", "https://third.org/"),
    )
    assert "A title" not in page.text
    assert page.text.startswith("One link Two")


def test_links_are_bounded() -> None:
    """Proves that a page full of links gives at most a hundred."""
    html = "".join(f"<a href=/{n}>{n}</a>" for n in range(1000))
    assert len(read_page(html, URL).links) == MAX_LINKS


@pytest.mark.parametrize("tag", ["<div>", "<b>", "<a href=x>", "<table>", "<ul><li>", "<p><b><i>", "<svg>", "<h1>"])
def test_a_page_of_nothing_but_nesting_is_survived(tag: str) -> None:
    """Proves that depth costs neither a stack nor seconds: a page of 50 KB may nest ten thousand deep."""
    assert len(text_of((tag * 20_000)[:51_200] + "end")) < 40_000


@settings(deadline=None)
@given(st.lists(st.sampled_from(["<p>", "</p>", "<a href=/x>", "</a>", "<pre>", "</pre>", "<td>", "<title>", "</title>",
    "<h2>", "<li>", "<br>", "<table>", "</table>", "<select>", "<svg>", "<math>", "<template>", "word", " ", "<", "&#x0;",
    "<noscript>", "<textarea>", "<plaintext>", "<base href='http://['>", "<frameset>", "<body hidden>"]), max_size=30))  # fmt: skip
def test_any_markup_gives_text(parts: list[str]) -> None:
    """Proves that no order of tags breaks the walk, and that words are found wherever they are shown."""
    page = read_page("".join(parts), URL)
    assert page.text == page.text.strip("\n")
    assert "\n" not in page.title
