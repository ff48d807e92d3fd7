"""Values that break naive code on their way through: JSON that no JSON parser takes, numbers without end, foreign bytes."""

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from activities.sql.target import SqlTarget
from activities.tools.sql_query import SqlArguments
from conductor_ai.contracts.base import Json
from conductor_ai.contracts.tools import Consequence, ToolResult
from conductor_ai.embedded.postgres import EmbeddedPostgres
from tests.fixtures_sql import Server, Shop, a_call, make_shop

NOTES = """
CREATE TABLE notes (id int PRIMARY KEY, j json, f float8);
INSERT INTO notes VALUES (1, '{}', 0);
"""


@pytest.fixture(scope="module")
async def target(routed_sql_shop: Shop) -> AsyncIterator[SqlTarget]:
    """The module's shop with a table of JSON."""
    admin = await asyncpg.connect(routed_sql_shop.admin_url)
    await admin.execute(NOTES + f"GRANT ALL ON notes TO {routed_sql_shop.role}")
    await admin.close()
    made = SqlTarget(routed_sql_shop.url, routed_sql_shop.role, ledger=True, timeout_seconds=2)
    yield made
    await made.close()


def survives(model: ToolResult | Consequence) -> None:
    """It can be written as JSON, read again, and stays the same."""
    assert type(model).model_validate_json(model.model_dump_json()) == model


def rows(result: ToolResult) -> list[list[Json]]:
    """The rows of a result that came back well."""
    assert result.ok, result.content
    assert isinstance(result.data, dict)
    found: Any = result.data["rows"]
    return list(found)


DEEP = "[" * 300 + "]" * 300
JSON_TEXTS = (
    ('"\\u0000"', '"\\u0000"'),
    ('"\\ud800"', '"\\ud800"'),
    ('{"\\udfff": 1}', '{"\\udfff": 1}'),
    ('[{"a": ["\\u0000"]}]', '[{"a": ["\\u0000"]}]'),
    (DEEP, DEEP),
    ('"\\ud83d\\ude00"', "\U0001f600"),
    ('{"b": 1, "a": [2, {"c": null}]}', {"b": 1, "a": [2, {"c": None}]}),
    ("[" * 20 + "]" * 20, None),
)
"""What the type json takes, and what becomes of it: the same text where no other form can carry it."""


@pytest.mark.parametrize(("text", "expected"), JSON_TEXTS, ids=lambda value: str(value)[:20])
async def test_json_that_cannot_travel_stays_text(target: SqlTarget, text: str, expected: Json) -> None:
    """NUL, half a surrogate pair and great depth are legal in json: read or written, nothing raises, nothing is lost,
    and the ledger's copy is the same."""
    call = a_call()
    query = "UPDATE notes SET j = $1 WHERE id = 1 RETURNING j"
    shown = await target.preview(query, [text])
    survives(shown)
    assert shown.data is not None
    written = await target.run(query, [text], 1, call)
    read = await target.run("SELECT j FROM notes", [], 1, a_call())
    for result in (written, read):
        survives(result)
        assert rows(result) == [[expected]] or expected is None
    assert await target.run(query, [text], 1, call) == written


@pytest.mark.parametrize("number", [1e300, 5e-324, -0.0, 1e22, 0.1])
async def test_a_retry_returns_the_very_same_numbers(target: SqlTarget, number: float) -> None:
    """The ledger keeps the result as it was told: no float becomes an integer of 300 digits."""
    call = a_call()
    query = "UPDATE notes SET f = $1 WHERE id = 1 RETURNING f, json_build_object('z', f, 'a', 1)"
    first = await target.run(query, [number], 1, call)
    again = await target.run(query, [number], 1, call)
    assert first.ok, first.content
    assert again.model_dump_json() == first.model_dump_json()


@pytest.mark.parametrize("kind", ["numeric", "jsonb", "numeric[]"])
async def test_a_number_of_too_many_digits_is_told(target: SqlTarget, kind: str) -> None:
    """Python refuses to write it; the model hears what to do, the person too."""
    number = 10**4_400
    value: Json = number if kind == "numeric" else [number]
    result = await target.run(f"SELECT $1::{kind}", [value], 1, a_call())
    assert result.error is not None
    assert result.error.code == "sql_error"
    assert "too many digits" in result.content
    assert any(
        "too many digits" in column.value for column in (await target.preview(f"SELECT $1::{kind}", [value])).evidence
    )


def test_parameters_as_deep_as_json_may_be_are_taken_or_refused() -> None:
    """Nothing that passes the arguments can be too deep for us."""
    value: Json = 1
    for _ in range(100):
        value = [value]
    assert SqlArguments(query="SELECT $1::jsonb", params=(value,)).params == (value,)


async def test_deep_parameters_come_back(target: SqlTarget) -> None:
    """A hundred levels are no trouble on the way in, and come back as text."""
    deep: Json = 1
    for _ in range(100):
        deep = [deep]
    result = await target.run("SELECT $1::jsonb", [deep], 1, a_call())
    assert rows(result) == [["[" * 100 + "1" + "]" * 100]]


async def test_rows_that_drip_are_stopped_in_time(target: SqlTarget) -> None:
    """Each batch of rows stays below the limit; all of them together end by it, and are told as too slow."""
    drip = (
        "SELECT n, (SELECT count(*) FROM generate_series(1, 100000 + n * 0) AS x) FROM generate_series(1, 1000) AS g(n)"
    )
    start = time.monotonic()
    result = await target.run(drip, [], 1000, a_call())
    assert result.error is not None
    assert result.error.code == "timeout", result.content
    assert time.monotonic() - start < 10


@pytest.mark.slow
async def test_bytes_that_are_no_utf8_are_told(postgres_server: EmbeddedPostgres, sql_server: Server) -> None:
    """A database without an encoding hands out whatever was put in: an error, not a crash, and the next query works."""
    name = f"ascii_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(sql_server.url("conductor", "postgres"))
    await admin.execute(f"CREATE DATABASE {name} ENCODING SQL_ASCII LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    try:
        shop = await make_shop(sql_server, name)
        target = SqlTarget(shop.url, shop.role, ledger=True, timeout_seconds=5, pool_size=1)
        try:
            for query in (
                "SELECT convert_from('\\xff'::bytea, 'SQL_ASCII')",
                "SELECT convert_from('\\xff'::bytea, 'SQL_ASCII')::int",
                "UPDATE orders SET note = convert_from('\\xff'::bytea, 'SQL_ASCII') WHERE id = 1 RETURNING note",
            ):
                survives(await target.preview(query, []))
                result = await target.run(query, [], 1, a_call())
                survives(result)
                assert not result.ok
                assert rows(await target.run("SELECT 1", [], 1, a_call())) == [[1]]
            assert rows(await target.run("SELECT note FROM orders WHERE id = 1", [], 1, a_call())) == [[None]]
        finally:
            await target.close()
    finally:
        await postgres_server.drop_database(name)
        await admin.execute(f"DROP ROLE {shop.login}, {shop.role}")
        await admin.close()


PRESETS = (
    "standard_conforming_strings = off",
    "backslash_quote = on",
    "array_nulls = off",
    "quote_all_identifiers = on",
    "transform_null_equals = on",
    "DateStyle = 'SQL, DMY'",
    "IntervalStyle = postgres",
    "TimeZone = 'Asia/Kolkata'",
    "bytea_output = escape",
    "extra_float_digits = -15",
    "search_path = pg_temp, private",
    "statement_timeout = 100",
    "row_security = off",
    "synchronous_commit = off",
    "client_min_messages = debug5",
)


async def test_settings_of_the_login_change_nothing(routed_sql_shop: Shop, target: SqlTarget) -> None:
    """Whatever the administrator has preset for login and role, a statement means and shows the same."""
    shop = routed_sql_shop
    query = (
        "SELECT '\\' AS a, $1::text[], $2::int, (NULL = $2) IS NULL, date '2026-01-31', interval '1 day', "
        "timestamptz '2026-01-31 10:00+00', '\\x00ff'::bytea, 0.1::float8 + 0.2, (SELECT count(*) FROM orders) > 0"
    )
    expected = rows(await target.run(query, [[None, "NULL"], 1], 1, a_call()))
    admin = await asyncpg.connect(shop.admin_url)
    other = SqlTarget(shop.url, shop.role, ledger=True, timeout_seconds=5)
    try:
        for preset in PRESETS:
            await admin.execute(f"ALTER ROLE {shop.login} SET {preset}")
        found = await other.run(query, [[None, "NULL"], 1], 1, a_call())
        assert rows(found) == expected
        assert rows(found)[0][:4] == ["\\", [None, "NULL"], 1, True]
        names = found.data["columns"] if isinstance(found.data, dict) else None
        assert '"' not in str(names)
    finally:
        await admin.execute(f"ALTER ROLE {shop.login} RESET ALL")
        await other.close()
        await admin.close()
