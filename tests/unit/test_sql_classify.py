"""The gate: every statement of the tables, whatever text anybody thinks of, and how long it takes."""

import random
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.sql.classify import classify
from activities.sql.reasons import SENTENCES, Reason
from activities.sql.verdict import Kind, Verdict
from conductor_ai.contracts.tools import SqlClass
from tests.fixtures_sql_statements import READS, REFUSED, WRITES, XML_READS
from tests.timing import usual_ms

WORDS = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "FROM",
    "WHERE",
    "SET",
    "INTO",
    "VALUES",
    "WITH",
    "AS",
    "RETURNING",
    "UNION",
    "EXPLAIN",
    "ANALYZE",
    "SHOW",
    "MERGE",
    "COPY",
    "DO",
    "customers",
    "id",
    "name",
    "pg_sleep",
    "set_config",
    "(",
    ")",
    ",",
    ";",
    ".",
    "*",
    "=",
    "<>",
    "+",
    "-",
    "/",
    "$1",
    "$2",
    "'x'",
    '"',
    "'",
    "$$",
    "E'",
    "--",
    "/*",
    "*/",
    "1",
    "1.5",
    "true",
    "null",
    "[",
    "]",
    "::",
    "json_table",
    "(",
    ")",
    "USING",
    "ON",
    "FOR",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "IN",
    "LIKE",
    "OR",
    "AND",
    "NOT",
    "EXISTS",
    "\\",
    "\u200b",
    "é",
    "�",
    "\x00",
]


@pytest.mark.parametrize("statement", READS + XML_READS)
def test_a_legitimate_read_is_allowed_as_a_read(statement: str) -> None:
    """Statements that change nothing pass, whatever words their literals, comments and names hold."""
    verdict = classify(statement)
    assert verdict.reason is Reason.ALLOWED, verdict.sentence
    assert verdict.sql_class is SqlClass.READ


@pytest.mark.parametrize("statement", WRITES)
def test_a_legitimate_write_is_allowed_as_a_write(statement: str) -> None:
    """Statements that write pass as writes, also where the write hides in a WITH query or a sequence."""
    verdict = classify(statement)
    assert verdict.reason is Reason.ALLOWED, verdict.sentence
    assert verdict.sql_class is SqlClass.WRITE


@pytest.mark.parametrize(("statement", "reason"), REFUSED, ids=lambda value: str(value)[:50].encode("ascii", "replace"))
def test_a_dangerous_statement_is_refused_for_its_reason(statement: str, reason: Reason) -> None:
    """Everything dangerous is refused, and the reason is the right one."""
    verdict = classify(statement)
    assert verdict.reason is reason, verdict.sentence
    assert verdict.sql_class is SqlClass.REFUSED
    assert not verdict.allowed


def test_every_reason_has_a_sentence() -> None:
    """A reason without a sentence would leave the model without advice."""
    assert set(SENTENCES) == set(Reason)
    assert all(sentence.endswith((".", ")")) for sentence in SENTENCES.values())


def test_the_tables_use_every_reason_that_a_text_alone_can_give() -> None:
    """No ground for refusal is untested; volatile functions are for the target's catalog to find."""
    assert {reason for _, reason in REFUSED} == set(Reason) - {Reason.ALLOWED, Reason.FUNCTION_VOLATILE}


def names(verdict: Verdict) -> tuple[list[str], list[str]]:
    """Tables and targets as texts."""
    return [str(table) for table in verdict.tables], [str(target) for target in verdict.targets]


def test_tables_leave_out_with_queries_but_not_what_they_hide() -> None:
    """A WITH query that is named like a table hides it only where SQL says so."""
    assert names(classify("WITH a AS (SELECT * FROM t) SELECT * FROM a, b"))[0] == ["t", "b"]
    assert names(classify("WITH t AS (SELECT * FROM t) SELECT * FROM t"))[0] == ["t"]
    assert names(classify("WITH RECURSIVE t AS (SELECT 1 UNION SELECT * FROM t) SELECT * FROM t"))[0] == []
    assert names(classify("WITH t AS (SELECT 1) SELECT * FROM s.t"))[0] == ["s.t"]
    assert names(classify("SELECT * FROM (WITH x AS (SELECT 1) SELECT * FROM x) y, x"))[0] == ["x"]
    assert names(classify("WITH t AS (SELECT 1) DELETE FROM t WHERE id = 1")) == (["t"], ["t"])


def test_what_a_write_says_of_itself() -> None:
    """Kind, target, columns, parameters and whether rows come back."""
    verdict = classify("UPDATE s.t AS a SET x = $2 FROM b WHERE a.y = b.z AND b.w = $1 RETURNING a.v")
    assert (verdict.kind, verdict.parameters, verdict.returns_rows, verdict.writes_inside) == (
        Kind.UPDATE,
        2,
        True,
        False,
    )
    assert names(verdict) == (["s.t", "b"], ["s.t"])
    assert set(verdict.columns) == {"x", "y", "z", "w", "v"}


def test_the_text_is_the_statement_alone() -> None:
    """What goes to the server has no closing semicolon, so it can stand in brackets."""
    assert classify(" SELECT 'é;' ; -- end").text == "SELECT 'é;'"


def test_operators_and_functions_are_named_for_the_catalog() -> None:
    """A database may define its own functions and operators, so it is asked about those that were used."""
    verdict = classify("SELECT mine.f(a) OPERATOR(mine.<->) 2, g(1) FROM t ORDER BY a USING <<<")
    assert [str(function) for function in verdict.functions] == ["mine.f", "g"]
    assert set(verdict.operators) == {"<->", "<<<"}


@pytest.mark.parametrize(
    ("statement", "operators"),
    [
        ("SELECT 1 IN (1, 2)", {"="}),
        ("SELECT 1 IN (SELECT 1)", {"="}),
        ("SELECT 1 < ANY (SELECT 1)", {"<"}),
        ("SELECT 1 BETWEEN 0 AND 2", {">=", "<=", "<", ">"}),
        ("SELECT 1 NOT BETWEEN SYMMETRIC 2 AND 0", {">=", "<=", "<", ">"}),
        ("SELECT CASE 1 WHEN 2 THEN 3 END", {"="}),
        ("SELECT * FROM a JOIN b USING (id)", {"="}),
        ("SELECT * FROM a NATURAL JOIN b", {"="}),
        ("SELECT NULLIF(1, 2)", {"="}),
        ("SELECT 1 IS DISTINCT FROM 2", {"="}),
        ("SELECT 'a' LIKE 'b'", {"~~"}),
    ],
)
def test_operators_without_a_sign_are_named_too(statement: str, operators: set[str]) -> None:
    """Syntax that calls an operator by another word: somebody's own `=` is reached by IN, CASE and USING as well."""
    assert set(classify(statement).operators) == operators


def test_types_are_named_for_the_catalog() -> None:
    """A cast can call functions of its own."""
    assert classify("SELECT 1::mine.t, CAST(2 AS u), '{}'::v[]").types == ("t", "u", "v")


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join))
def test_word_soup_never_raises(statement: str) -> None:
    """Whatever order SQL's words come in, there is a verdict."""
    assert classify(statement).sentence


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_never_raises(statement: str) -> None:
    """Any text at all, half surrogate pairs included, gets a verdict."""
    assert classify(statement).sentence


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(READS + WRITES), st.data())
def test_a_damaged_statement_never_raises(statement: str, data: st.DataObject) -> None:
    """Characters cut out of or put into real statements lead to a verdict."""
    place = data.draw(st.integers(0, len(statement)))
    end = data.draw(st.integers(place, len(statement)))
    assert classify(statement[:place] + data.draw(st.text(max_size=4)) + statement[end:]).sentence


def test_random_bytes_never_raise() -> None:
    """A corpus of noise, read as Latin-1 and as UTF-8 with surrogates."""
    source = random.Random(7)
    for _ in range(500):
        noise = source.randbytes(source.randrange(200))
        assert classify(noise.decode("latin-1")).sentence
        assert classify(noise.decode("utf-8", "surrogateescape")).sentence


@pytest.mark.parametrize("depth", [50, 90, 200, 1_000, 10_000])
@pytest.mark.parametrize(
    "pattern",
    [
        "(|1|)",
        "NOT |true|",
        "f(|1|)",
        "(SELECT |1|)",
        "ARRAY[|1|]",
        "CASE WHEN |true| THEN true END",
        "-|1|",
        "1 + |1|",
    ],
)
def test_deep_nesting_ends_in_a_verdict(pattern: str, depth: int) -> None:
    """However deep a tree is, the gate neither overflows nor raises."""
    before, middle, after = pattern.split("|")
    verdict = classify(f"SELECT {before * depth}{middle}{after * depth}")
    assert verdict.reason in (Reason.ALLOWED, Reason.TOO_COMPLEX, Reason.SYNTAX, Reason.TOO_LONG)


HEAVY = {
    "constants": "SELECT 1" + ",1" * 32_000,
    "columns": "SELECT " + ",".join(["a.b"] * 16_000),
    "many columns that pass": "SELECT " + ",".join(["a.b"] * 900),
    "calls": "SELECT " + ",".join(["f()"] * 900),
    "conditions": "DELETE FROM t WHERE " + " OR ".join(["a=1"] * 900),
    "rows": "INSERT INTO t VALUES " + ",".join(["(1,'ab',3)"] * 490),
    "long literal": "SELECT '" + "word, " * 10_000 + "'",
    "dollar quotes": "SELECT " + "$a$" * 20_000,
    "open comments": "SELECT " + "/*" * 32_000,
    "comments within limits": "SELECT 1 " + ("/*" * 900 + "*/" * 900) * 15,
    "operators": "SELECT 1 " + "+" * 60_000,
    "operators within limits": "SELECT 1 " + ("+" * 1_900 + " 1 ") * 30,
    "quotes": "'" * 64_000,
    "double quotes": '"' * 64_000,
    "brackets": "(" * 64_000,
    "identifiers": "SELECT a" + ".a" * 32_000,
    "backslashes": "SELECT E'" + "\\" * 60_000 + "'",
    "parameters": "SELECT $" + "1" * 60_000,
    "number": "SELECT " + "9" * 64_000,
    "casts": "SELECT 1" + "::int" * 10_000,
    "joined literals": "SELECT 'a'" + "\n'a'" * 15_000,
    "spaces": "SELECT 1" + " " * 65_000,
    "unions": "SELECT 1" + " UNION SELECT 1" * 4_000,
    "semicolons": ";" * 64_000,
    "statements": "SELECT 1;" * 7_000,
}


@pytest.mark.parametrize("name", HEAVY)
def test_64_kilobytes_get_a_verdict(name: str) -> None:
    """The worst texts neither raise nor hang."""
    assert classify(HEAVY[name]).sentence


@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY)
def test_64_kilobytes_take_no_time(name: str) -> None:
    """The worst texts of 64 KB are decided in well under 50 ms of processor time."""
    assert usual_ms(lambda: classify(HEAVY[name])) < 50


@pytest.mark.slow
def test_64_kilobytes_of_noise_take_no_time() -> None:
    """Noise as large as it may be, and words in any order: a verdict within 50 ms of processor time."""
    source = random.Random(11)
    slow = []
    for number in range(120):
        noise = source.randbytes(21_000 if number % 2 else 65_000).decode(
            "latin-1" if number % 2 else "ascii", "ignore"
        )
        soup = " ".join(source.choices(WORDS[:-1], k=12_000))[:65_000]
        for statement in (noise.replace("\0", ""), "SELECT '" + noise.replace("\0", ""), soup, "SELECT " + soup):
            assert classify(statement).sentence
            took = usual_ms(partial(classify, statement), rounds=1)
            if took >= 50 and (took := usual_ms(partial(classify, statement))) >= 50:
                slow.append((number, round(took)))
    assert not slow


@pytest.mark.slow
def test_short_patterns_repeated_never_hang() -> None:
    """Every one- and two-character pattern of SQL's signs, repeated to 64 KB: the scanner has no slow path left."""
    signs = "a1'\"$/*-+=!@.,;([\\ \nE"
    slow = []
    for first in signs:
        for second in ("", *signs[1:]):
            statement = "SELECT " + (first + second) * (16_000 // len(first + second))
            took = usual_ms(partial(classify, statement), rounds=1)
            if took >= 50 and (took := usual_ms(partial(classify, statement))) >= 50:
                slow.append((first + second, round(took)))
    assert not slow
