"""web_fetch on real pages that nobody here wrote, by a real fetch: what a reader needs is there, what is in the way is not."""

import json
import re
import time
from dataclasses import dataclass
from typing import Any

import pytest

from activities.egress.messages import MAX_RESPONSE_BYTES
from activities.tools.base import Call
from activities.tools.web_fetch import WebFetch, WebFetchArguments
from conductor_ai.contracts.tools import ToolResult
from tests.fixtures_pages import (
    DEVELOPERS,
    POSTGRESQL,
    PYTHON,
    REFERENCE,
    SITES,
    Paragraphs,
    Site,
    handler,
    need,
    squeezed,
)
from tests.fixtures_web import serving, web_with

pytestmark = pytest.mark.needs_html_docs

CALL = Call(org_id="org", session_id="s", call_id="call_7", run_id="r", attempt=1)


async def fetched(site: Site, *paths: str) -> list[ToolResult]:
    """The site's pages through the tool, the resolver and the wire."""
    need(site)
    async with serving(handler(site)) as host:
        tool = WebFetch(web_with(host).egress)
        return [
            await tool.run(
                WebFetchArguments.model_validate_json(json.dumps({"url": f"http://example.org/{path}"})), CALL
            )
            for path in paths
        ]


def data_of(result: ToolResult) -> dict[str, Any]:
    """The result's data, which is an object."""
    assert isinstance(result.data, dict)
    return result.data


@dataclass(frozen=True)
class Expected:
    """What a person would want of one page."""

    site: Site
    path: str
    title: str
    in_order: tuple[str, ...]
    """Headings, sentences, rows and code, as they must be, one after the other."""
    links: tuple[tuple[str, str], ...]
    """Words and address."""


PAGES = [
    Expected(
        PYTHON,
        "library/json.html",
        "json — JSON encoder and decoder — Python 3.11",
        (
            "Title: json — JSON encoder and decoder — Python 3.11",
            "\n\n# json — JSON encoder and decoder\n\nSource code: Lib/json/__init__.py\n\n",
            "JSON (JavaScript Object Notation), specified by RFC 7159 (which obsoletes RFC 4627) and by ECMA-404, is a lightweight",
            "\n\nCompact encoding:\n\n```\n>>> import json\n>>> json.dumps([1, 2, 3, {'4': 5, '6': 7}], separators=(',', ':'))\n",
            '    "4": 5,\n    "6": 7\n}\n```\n\nDecoding JSON:\n\n',
            "\n\n## Basic Usage\n\njson.dump(obj, fp, *, skipkeys=False,",
        ),
        (
            ("Lib/json/__init__.py", "https://github.com/python/cpython/tree/3.11/Lib/json/__init__.py"),
            ("marshal", "http://example.org/library/marshal.html"),
            ("file-like object", "http://example.org/glossary.html"),
        ),
    ),
    Expected(
        PYTHON,
        "howto/urllib2.html",
        "HOWTO Fetch Internet Resources Using The urllib Package",
        (
            "# HOWTO Fetch Internet Resources Using The urllib Package\n\nAuthor:\n\nMichael Foord",
            "## Introduction\n\n",
            "for fetching URLs (Uniform Resource Locators). It offers a very simple interface, in the form of the urlopen function.",
            "```\nimport urllib.request\n",
            "\n### Data\n\nSometimes you want to send data to a URL",
            "\n## Handling Exceptions\n\n",
        ),
        (("urllib.request", "http://example.org/library/urllib.request.html"),),
    ),
    Expected(
        POSTGRESQL,
        "datatype-numeric.html",
        "8.1. Numeric Types",
        (
            "## 8.1. Numeric Types\n\n8.1.1. Integer Types\n8.1.2. Arbitrary Precision Numbers\n",
            "\nName | Storage Size | Description | Range\nsmallint | 2 bytes | small-range integer | -32768 to +32767\n",
            "\nbigserial | 8 bytes | large autoincrementing integer | 1 to 9223372036854775807\n\nThe syntax of constants",
            "\n\n### 8.1.1. Integer Types\n\nThe types smallint, integer, and bigint store whole numbers, that is, numbers without",
            "```\nNUMERIC(precision, scale)\n```",
            "the use of more than 2^31 identifiers over the lifetime of the table",
        ),
        (
            ("Section 4.1.2", "http://example.org/sql-syntax-lexical.html"),
            ("Next", "http://example.org/datatype-money.html"),
        ),
    ),
    Expected(
        POSTGRESQL,
        "queries-with.html",
        "7.8. WITH Queries (Common Table Expressions)",
        (
            "\n\n### 7.8.2. Recursive Queries\n\nThe optional RECURSIVE modifier changes WITH from a mere syntactic convenience",
            "```\nWITH RECURSIVE t(n) AS (\n    VALUES (1)\n  UNION ALL\n    SELECT n+1 FROM t WHERE n < 100\n)\nSELECT sum(n) FROM t;\n```",
            "\n\n1. Evaluate the non-recursive term.",
            "\n2. So long as the working table is not empty, repeat these steps:\n  1. Evaluate the recursive term,",
            "\n  2. Replace the contents of the working table with the contents of the intermediate table",
            "\n\n#### 7.8.2.1. Search Order\n\n",
        ),
        (("Chapter 13", "http://example.org/mvcc.html"),),
    ),
    Expected(
        REFERENCE,
        "ch02.ja.html",
        "第2章 Debian パッケージ管理",
        (
            "# 第2章 Debian パッケージ管理\n\n目次\n\n2.1. Debian パッケージ管理の前提条件\n",
            "Debian は、フリーソフトウエアーのコンパイル済みバイナリーパッケージからなる整合性あるディストリビューションを作り、",
            "\nパッケージ | ポプコン | サイズ | 説明\ndpkg | V:",
            "\n\n## 2.1. Debian パッケージ管理の前提条件\n\n### 2.1.1. パッケージ設定\n\nDebian システム上でのパッケージ設定の要点を次に記します。\n\n- システム管理者",
        ),
        (("次へ", "http://example.org/ch03.ja.html"), ("dpkg", "http://packages.debian.org/sid/dpkg")),
    ),
    Expected(
        DEVELOPERS,
        "pkgs.html",
        "5. パッケージの取扱い方 — developers-reference",
        (
            "\n\n# 5. パッケージの取扱い方\n\nこの章では、パッケージの作成、アップロード、メンテナンス、移植についての情報を扱います。\n\n## 5.1. 新規パッケージ\n\n",
            "我々がメンテナに意図しているところをアナウンスする様に求めるのには、いくつもの理由があります。\n\n- (潜在的な新たな) メンテナが、",
            "\n\n```\n* New upstream release.\n```\n\n",
            "\n\n## 5.3. パッケージをテストする\n\n",
        ),
        (("devscripts", "http://example.org/tools.html"),),
    ),
]


@pytest.mark.parametrize("expected", PAGES, ids=lambda one: one.path)
async def test_a_known_page_reads_as_a_person_would_want(expected: Expected) -> None:
    """Proves title, headings, sentences, tables and code in their order, and links that lead where the page says."""
    (result,) = await fetched(expected.site, expected.path)
    assert result.ok
    data = data_of(result)
    assert data["title"].startswith(expected.title)
    assert data["bytes"] <= MAX_RESPONSE_BYTES
    at = 0
    for part in expected.in_order:
        found = result.content.find(part, at)
        assert found >= 0, f"not there, or not in this order: {part!r}"
        at = found + len(part)
    for text, url in expected.links:
        assert {"text": text, "url": url} in data["links"]
    assert len({link["url"] for link in data["links"]}) == len(data["links"]) <= 100
    assert all(re.match(r"https?://[^#\s]+$", link["url"]) for link in data["links"])


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.package)
async def test_every_paragraph_is_there_and_nothing_that_leads_around(site: Site) -> None:
    """Proves on pages spread over each site, against another parser: every heading and paragraph, in order; no menus, no
    scripts, no marks of headings; and a page costs milliseconds and less text than it had markup."""
    need(site)
    paths = site.pages(largest=MAX_RESPONSE_BYTES, most=25)
    results = await fetched(site, *paths)
    compared = lost = 0
    for path, result in zip(paths, results, strict=True):
        source = (site.root / path).read_text(encoding="utf-8")
        wanted = Paragraphs(source)
        data = data_of(result)
        assert (result.ok, data["end"], data["kind"]) == (True, "complete", "html")
        assert data["title"] == wanted.title, path
        text = squeezed(result.content)
        at = 0
        for paragraph in wanted.found:
            around = any(paragraph.strip().startswith(word) for word in site.around)
            found = text.find(squeezed(paragraph), at)
            compared += not around
            lost += found < 0 and not around
            at = max(at, found)
        assert len(result.content) < len(source), path
        body = result.content.partition("\n\nLinks:\n")[0]
        lines = {line.strip("#- ") for line in body.splitlines()}
        assert lines.isdisjoint(site.around), path
        assert "¶" not in body, path
        outside_of_code = re.sub(r"```.*?```", "", body, flags=re.DOTALL)
        assert not re.search(r"<script|</?div|\$\(document\)|\{\s*display:", outside_of_code), path
    assert compared > 100
    assert lost == 0, f"{lost} of {compared} headings and paragraphs are not where they should be"


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.package)
async def test_reading_a_page_is_quick(site: Site) -> None:
    """Proves that the largest pages, cut at the cap, cost a fraction of a second of this worker's time."""
    need(site)
    largest = sorted(site.root.rglob("*.html"), key=lambda path: path.stat().st_size)[-3:]
    began = time.process_time()
    for result in await fetched(site, *(str(path.relative_to(site.root)) for path in largest)):
        assert result.ok
        assert result.truncated
        assert 1_000 < len(result.content) < 60_000
    assert time.process_time() - began < 3


@pytest.mark.parametrize("site", [REFERENCE, DEVELOPERS], ids=lambda site: site.package)
async def test_japanese_is_readable(site: Site) -> None:
    """Proves that a page without a charset in its header is read by its own, to the last character before the cut."""
    paths = ["ch03.ja.html", "ch09.ja.html"] if site is REFERENCE else ["resources.html", "developer-duties.html"]
    for result in await fetched(site, *paths):
        kana = len(re.findall("[\u3040-\u30ff\u4e00-\u9fff]", result.content))
        assert kana > 1_500
        assert "\ufffd" not in result.content
        assert not re.search("[\u3040-\u30ff\u4e00-\u9fff] [、。]", result.content)
        assert "ã" not in result.content
