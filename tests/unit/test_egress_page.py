"""Pages as readable text: structure kept, everything that is not for readers left out, any page survived."""

import time

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
        ("<pre>  def f():\n    pass\n\n</pre>after", "```\n  def f():\n    pass\n```\n\nafter"),
        ("a<pre> </pre>b<pre></pre>c", "a\n\n```\n\n```\n\nb\n\nc"),
        ("<table><tr><td><pre>x</pre><td><pre>y</pre></table>", "x | y"),
        ("<table><tr><th>k<th>v<tr><td>1<td>2</table>", "k | v\n1 | 2"),
        ("<table><tr><td><p>1</p><td><p>2</p><tr><td><p>3</p><td></table>x", "1 | 2\n3\n\nx"),
        ("<table><tr><td>1<td><td> <td>4<tr><td><td>2</table>", "1 | | | 4\n | 2"),
        ("<table><caption>C</caption><tr><td><ul><li>a<li>b</ul><td>c</table>", "C\n- a\n- b | c"),
        ("<ul><li>a<ul><li>b<li>c</ul><li>d</ul>e", "- a\n  - b\n  - c\n- d\n\ne"),
        ("<ul><li><p>a</p><li><p>b</p><p>c</p><li><li></ul>", "- a\n- b\n\nc"),
        ("<ol><li>a<li>b</ol><ol start=7><li>c</ol><ol start=x><li>d</ol>", "1. a\n2. b\n\n7. c\n\n1. d"),
        ("<h2></h2><h3> <a href='#x'>#</a></h3>x", "x"),
        ("<h2>Use<a href='#use'>¶</a></h2><p>see <a href='#x'>below</a>", "## Use\n\nsee below"),
        ("2<sup>31</sup>, x<sup>-1</sup>, note<sup><a href=/n>1</a></sup>, <sup>2</sup>", "2^31, x^-1, note1, 2"),
        ("<p>日本語の\n  文章と English\nの文章</p>", "日本語の文章と English の文章"),
        ("a<button>Copy</button><i aria-hidden=true>icon</i><dialog>d</dialog><dialog open>e</dialog>", "ae"),
        ("a<p style='color:red; DISPLAY : none'>ignore</p><p style='visibility:hidden'>all</p><p>b", "a\n\nb"),
        ("<body style='visibility:hidden' hidden><p>shown by a script", "shown by a script"),
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


def test_what_leads_around_the_site_is_left_out_but_its_links_are_kept() -> None:
    """Proves that menus, breadcrumbs, adverts and the site's footer are no text, and that their links come last."""
    page = read_page(
        """<title>News</title><header><a href="/">Site</a><nav><ul><li><a href="/menu">Menu</a></ul></nav></header>
        <div class="breadcrumbs">Home » World</div><div role="search"><label>Find</label></div>
        <p>First words with <a href="/a">one link</a>.<div id="ad" class="box">Buy this now</div><div class="adverb">Kindly</div>
        <article><h2>Piece</h2><footer>By the author</footer></article><p>More.</p><article>Two</article>
        <ins class="adsbygoogle">Buy that</ins><footer>Imprint <a href="/imprint">here</a></footer>""",
        URL,
    )
    assert page.text == "Site\n\nFirst words with one link.\n\nKindly\n\n## Piece\n\nBy the author\n\nMore.\n\nTwo"
    assert [link.url.rpartition("/")[2] for link in page.links] == ["", "a", "menu", "imprint"]


@pytest.mark.parametrize("name", ["main", "article", "div role=main"])
def test_the_main_part_is_the_text(name: str) -> None:
    """Proves that a page that says what it is about is read from there, with its heading and its own links first."""
    body = "<p>" + "Words of the piece. " * 10 + "<a href=/in>in</a><aside>An aside.</aside>"
    outside = "<p>Subscribe now, dear reader.</p><a href=/out>out</a>"
    page = read_page(
        f"<body><header><h1>The piece</h1>{outside}</header><{name}>{body}</{name.split()[0]}>{outside}", URL
    )
    assert page.text.startswith("# The piece\n\nWords of the piece. Words")
    assert "Subscribe" not in page.text
    assert "An aside." in page.text
    assert page.title == "The piece"
    assert [link.text for link in page.links] == ["in", "out"]


@pytest.mark.parametrize(
    "html",
    [
        "<main><div id=root></div></main><p>" + "The text is beside it. " * 20,
        "<main></main><main></main><p>" + "The text is beside it. " * 20,
        "<div class=sidebar><p>" + "The text is beside it. " * 20 + "</div>",
        "<div class='sidebar'><main><p>" + "The text is beside it. " * 20 + "</main></div>",
    ],
)
def test_a_page_that_names_its_parts_wrongly_is_read_all_the_same(html: str) -> None:
    """Proves that an empty main part, and a name that would leave out everything, cost nothing of the text."""
    assert text_of(html).count("The text is beside it.") == 20


def test_a_page_without_a_title_takes_its_first_heading() -> None:
    """Proves where a title comes from: `title`, what is made for sharing, the first heading."""
    assert read_page("<h1>A <b>b</b></h1>", URL).title == "A"
    assert read_page("<meta property='og:title' content=' Shared '><h1>A</h1>", URL).title == "Shared"
    assert read_page("<title> </title><h1>A</h1>", URL).title == "A"


def test_links_are_bounded() -> None:
    """Proves that a page full of links gives at most a hundred."""
    html = "".join(f"<a href=/{n}>{n}</a>" for n in range(1000))
    assert len(read_page(html, URL).links) == MAX_LINKS


@pytest.mark.parametrize("tag", ["<div>", "<b>", "<a href=x>", "<table>", "<ul><li>", "<p><b><i>", "<svg>", "<h1>"])
def test_a_page_of_nothing_but_nesting_is_survived(tag: str) -> None:
    """Proves that depth costs neither a stack nor seconds: a page of 50 KB may nest ten thousand deep."""
    assert len(text_of((tag * 20_000)[:51_200] + "end")) < 40_000


@pytest.mark.parametrize(
    "html",
    [
        "<div>" + "".join(f"<b id={n}>" for n in range(1000)) + "</div>" + "<p>x</p>" * 5000,
        "<div>" + "".join(f"<font/a={n}><!--</font>-->" for n in range(900)) + "</div>" + "<p>x</p>" * 5000,
        "".join(f"<table><td><code id={n}>" for n in range(1500)) + "<p>x" * 5000,
        "<sup>" * 11_000,
        "<a href='#'>" * 5_000,
        "<p " + " ".join(f"a{n}" for n in range(8000)) + ">x",
    ],
    ids=["formatting", "hidden ends", "tables", "powers", "marks", "attributes"],
)
def test_no_page_costs_more_than_it_is_long(html: str) -> None:
    """Proves that 50 KB cannot be made into a million nodes: elements that browsers open again in every block are tamed."""
    began = time.process_time()
    read_page(html[:51_200], URL)
    assert time.process_time() - began < 2


@settings(deadline=None)
@given(st.lists(st.sampled_from(["<p>", "</p>", "<a href=/x>", "</a>", "<pre>", "</pre>", "<td>", "<title>", "</title>",
    "<h2>", "<li>", "<br>", "<table>", "</table>", "<select>", "<svg>", "<math>", "<template>", "word", " ", "<", "&#x0;",
    "<noscript>", "<ol>", "<ul>", "</ol>", "<tr>", "</td>", "<main>", "</main>", "<nav>", "</nav>", "<sup>", "<textarea>", "<plaintext>", "<base href='http://['>", "<frameset>", "<body hidden>"]), max_size=30))  # fmt: skip
def test_any_markup_gives_text(parts: list[str]) -> None:
    """Proves that no order of tags breaks the walk, and that words are found wherever they are shown."""
    page = read_page("".join(parts), URL)
    assert page.text == page.text.strip("\n")
    assert "\n" not in page.title
