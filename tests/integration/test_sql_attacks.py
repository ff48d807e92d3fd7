"""Attempts to break out, against a shop whose owner has left every trap in it: nothing is written, seen, held or kept."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from activities.sql.target import SqlTarget
from conductor_ai.contracts.base import Json
from conductor_ai.contracts.tools import Consequence, ToolResult
from tests.fixtures_sql import Shop, a_call

SECRET = "very-secret-word"
TRAPS = f"""
CREATE TABLE private (word text);
INSERT INTO private VALUES ('{SECRET}');
CREATE FUNCTION loud() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN UPDATE orders SET note = 'gone' WHERE id > 0; RETURN 1; END $$;
CREATE FUNCTION liar() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN loud(); END $$;
CREATE FUNCTION eternal(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN loud(); END $$;
CREATE FUNCTION with_default(a int DEFAULT loud()) RETURNS int LANGUAGE sql STABLE AS 'SELECT a';
CREATE FUNCTION of_pair(a int, b int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';
CREATE AGGREGATE noisy(int) (SFUNC = of_pair, STYPE = int);
CREATE FUNCTION length(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';
CREATE FUNCTION same(text, int) RETURNS bool LANGUAGE sql VOLATILE AS 'SELECT true';
CREATE OPERATOR public.>= (LEFTARG = text, RIGHTARG = int, FUNCTION = same);
CREATE OPERATOR public.<= (LEFTARG = text, RIGHTARG = int, FUNCTION = same);
CREATE TYPE pair AS (a int);
CREATE FUNCTION pair_text(pair) RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT 'x' $$;
CREATE CAST (pair AS text) WITH FUNCTION pair_text(pair);
CREATE TABLE pairs (p pair);
CREATE FUNCTION loud_check(int) RETURNS bool LANGUAGE sql VOLATILE AS 'SELECT true';
CREATE DOMAIN checked AS int CHECK (loud_check(VALUE));
CREATE DOMAIN over_checked AS checked;
CREATE TYPE holder AS (n int, c checked);
CREATE TYPE holders AS (h holder[]);
CREATE TABLE of_checked (id int PRIMARY KEY, c checked);
CREATE TYPE peg AS (a int);
CREATE FUNCTION peg_hash(peg) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';
CREATE FUNCTION peg_same(peg, peg) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE OPERATOR === (LEFTARG = peg, RIGHTARG = peg, FUNCTION = peg_same);
CREATE OPERATOR CLASS peg_ops DEFAULT FOR TYPE peg USING hash AS OPERATOR 1 ===, FUNCTION 1 peg_hash(peg);
CREATE TABLE of_peg (q peg);
CREATE FUNCTION to_money(text) RETURNS money LANGUAGE sql VOLATILE AS 'SELECT 1::money';
CREATE CAST (text AS money) WITH FUNCTION to_money(text);
CREATE TABLE checking (id int PRIMARY KEY, n int CHECK (loud_check(n)));
CREATE TABLE guarded (id int PRIMARY KEY, n int);
INSERT INTO guarded VALUES (1, 1);
CREATE POLICY trap ON guarded USING (loud() = 1);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE TABLE generated (id int PRIMARY KEY, n int GENERATED ALWAYS AS (eternal(id)) STORED);
CREATE VIEW loud_view AS SELECT loud() AS n;
CREATE VIEW view_of_view AS SELECT n + 1 AS n FROM loud_view;
CREATE VIEW sleepy AS SELECT pg_sleep(0)::text AS s;
CREATE VIEW roaming AS SELECT set_config('role', 'none', true) AS s;
CREATE VIEW locking AS SELECT id FROM orders FOR UPDATE;
CREATE VIEW running AS SELECT query_to_xml('DELETE FROM orders', true, true, '')::text AS s;
CREATE VIEW of_ledger AS SELECT call_id FROM conductor_ledger.calls;
CREATE VIEW long_view AS SELECT loud() AS n, repeat('{"x" * 70_000}', 0) AS x;
CREATE VIEW deep_view AS SELECT {"abs(" * 120}loud(){")" * 120} AS n;
CREATE VIEW wide_view AS SELECT {", ".join(f"o.id AS c{number}" for number in range(1_200))} FROM orders o;
CREATE VIEW of_pairs AS SELECT p::text FROM pairs;
CREATE SCHEMA hidden;
CREATE FUNCTION hidden.loud(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';
SELECT lo_from_bytea(4711, 'x');
"""


@pytest.fixture(scope="module")
async def admin(routed_sql_shop: Shop) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """The superuser, who set the traps."""
    connection = await asyncpg.connect(routed_sql_shop.admin_url)
    try:
        yield connection
    finally:
        await connection.execute("SELECT lo_unlink(4711)")
        await connection.close()


@pytest.fixture(scope="module")
async def target(routed_sql_shop: Shop, admin: "asyncpg.Connection[asyncpg.Record]") -> AsyncIterator[SqlTarget]:
    """The shop with its traps, and a short limit."""
    shop = routed_sql_shop
    made = SqlTarget(shop.url, shop.role, ledger=True, timeout_seconds=1)
    assert (await made.run("UPDATE orders SET note = NULL WHERE id = 1", [], 1, a_call())).ok
    await admin.execute(f"ALTER DATABASE {shop.database} SET app.jwt_secret = '{SECRET}'")
    await admin.execute(TRAPS)
    await admin.execute(
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {shop.role}; GRANT USAGE ON SCHEMA hidden TO {shop.role};"
        f"REVOKE ALL ON private FROM {shop.role}"
    )
    try:
        yield made
    finally:
        await made.close()


async def state(admin: "asyncpg.Connection[asyncpg.Record]") -> list[object]:
    """Everything that an attempt could have changed or still hold."""
    tables = ("customers", "orders", "items", "archive", "private", "guarded", "conductor_ledger.calls")
    found = [
        await admin.fetchval(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t")
        for table in tables
    ]
    queries = (
        "SELECT last_value FROM tickets",
        "SELECT count(*) FROM pg_largeobject_metadata",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
        "SELECT count(*) FROM pg_class",
        "SELECT count(*) FROM pg_roles",
        "SELECT count(*) FROM pg_prepared_xacts",
    )
    return found + [await admin.fetchval(query) for query in queries]


def seen(result: ToolResult | Consequence) -> str:
    """All that anybody gets to read."""
    return result.model_dump_json()


REFUSED: tuple[tuple[str, list[Json]], ...] = (
    # Hidden behind something else's name.
    ("SELECT * FROM loud_view", []),
    ("SELECT * FROM view_of_view", []),
    ("SELECT * FROM public.view_of_view", []),
    ("SELECT (SELECT n FROM view_of_view LIMIT 1)", []),
    ("INSERT INTO archive (id, status, total) SELECT n, 'x', 0 FROM loud_view", []),
    ("SELECT * FROM sleepy", []),
    ("SELECT * FROM roaming", []),
    ("SELECT * FROM locking", []),
    ("SELECT * FROM running", []),
    ("SELECT * FROM of_ledger", []),
    ("SELECT * FROM of_pairs", []),
    ("SELECT n FROM long_view", []),
    ("SELECT n FROM deep_view", []),
    ("SELECT with_default()", []),
    ("SELECT noisy(id) FROM orders", []),
    ("SELECT noisy(id) OVER () FROM orders", []),
    ("SELECT length(1)", []),
    ("SELECT 'a'::text BETWEEN 1 AND 2", []),
    ("SELECT 'a'::text OPERATOR(public.>=) 1", []),
    ("SELECT p FROM pairs", []),
    ("SELECT p::text FROM pairs", []),
    ("SELECT ROW(1)::pair", []),
    ("SELECT CAST($1 AS pair)", ["(1)"]),
    ("SELECT text(p) FROM pairs", []),
    ("SELECT 1::checked", []),
    ("SELECT checked(1)", []),
    ("SELECT $1::checked", [1]),
    ("SELECT ARRAY[1]::checked[]", []),
    ("SELECT 1::over_checked", []),
    ("SELECT '(1,1)'::holder", []),
    ("SELECT ROW(1, 1)::holder", []),
    ("SELECT '{\"(1,1)\"}'::holder[]", []),
    ("SELECT $1::holders", ['("{}")']),
    ("SELECT jsonb_populate_record(NULL::of_checked, '{\"c\": 1}')", []),
    ("SELECT * FROM jsonb_to_record('{\"c\": 1}') AS x(c holder)", []),
    ("SELECT count(*) FROM (SELECT DISTINCT q FROM of_peg) x", []),
    ("SELECT '1'::text::money", []),
    ("SELECT hidden.loud(1)", []),
    # Text that is meant to be read differently.
    ("SELECT '\\'; DROP TABLE orders; --'", []),
    ("SELECT 1 /* /* */ */; DROP TABLE orders", []),
    ("SELECT $x$ $y$ $x$; DROP TABLE orders; --$y$", []),
    ("SELECT 1 --\r; DROP TABLE orders", []),
    ('SELECT U&"pg\\005fsleep"(1)', []),
    ("SELECT U&\"pg!005fsleep\" UESCAPE '!' (1)", []),
    ("SELECT pg_catalog /* */ . /* */ PG_SLEEP -- \n (1)", []),
    ("SELECT * FROM ROWS FROM (generate_series(1, 2), pg_sleep(1)) x", []),
    ("SELECT count(*) FILTER (WHERE pg_sleep(1) IS NULL) FROM orders", []),
    ("SELECT sum(id) OVER (ORDER BY pg_sleep(1)) FROM orders", []),
    ("SELECT string_agg(name, ',' ORDER BY pg_sleep(1)) FROM customers", []),
    ("SELECT json_table('{}', '$' PASSING set_config('role', 'none', true) AS x COLUMNS (a int))", []),
    ("INSERT INTO orders (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET note = loud()::text WHERE orders.id = 1", []),
    ("INSERT INTO orders (id) VALUES (900) RETURNING lo_unlink(4711)", []),
    ("VALUES (lo_put(4711, 0, 'y'))", []),
    ("INSERT INTO pg_largeobject VALUES (4711, 0, 'x')", []),
    ("SHOW app.jwt_secret", []),
    ("SELECT current_setting($1)", ["app.jwt_secret"]),
    ("SELECT * FROM pg_db_role_setting", []),
    ("EXPLAIN (ANALYZE, VERBOSE) SELECT loud()", []),
    ("EXPLAIN SELECT * FROM loud_view", []),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", []),
    ("PREPARE __asyncpg_stmt_1__ AS DELETE FROM orders", []),
    ("COPY (SELECT 1) TO PROGRAM 'true'", []),
    ("LISTEN x", []),
)


@pytest.mark.parametrize(("query", "params"), REFUSED)
async def test_it_is_refused_before_anybody_is_asked(
    target: SqlTarget, admin: "asyncpg.Connection[asyncpg.Record]", query: str, params: list[Json]
) -> None:
    """The preview refuses it, so does the run, and nothing has changed."""
    before = await state(admin)
    shown = await target.preview(query, params)
    assert shown.refused is not None, shown
    assert shown.refused.code == "sql_refused"
    result = await target.run(query, params, 10, a_call())
    assert result.error is not None
    assert result.error.code == "sql_refused", result.content
    assert SECRET not in seen(shown) + seen(result)
    assert await state(admin) == before


FAILS: tuple[tuple[str, list[Json]], ...] = (
    # The gate has no word against these: the database's rights and the READ ONLY transaction hold.
    ("SELECT liar()", []),
    ("SELECT eternal(1)", []),
    ("SELECT * FROM orders WHERE id = eternal(1)", []),
    ("EXPLAIN ANALYZE SELECT liar()", []),
    ("SELECT * FROM guarded", []),
    ("SELECT * FROM private", []),
    ("SELECT word FROM public.private WHERE word LIKE $1", ["very%"]),
    ("INSERT INTO archive (id, status, total, note) SELECT 1, 'x', 0, word FROM private", []),
    ("SELECT private FROM private", []),
    ("SELECT calls FROM calls", []),
    ("SELECT 'conductor_ledger.calls'::regclass", []),
    ("SELECT to_regclass('conductor_ledger.calls')", []),
    ("SELECT has_table_privilege($1, 'SELECT')", ["conductor_ledger.calls"]),
    ("SELECT $1::regproc::oid::int / 0", ["now"]),
    ("SELECT * FROM pg_hba_file_rules", []),
    ("SELECT * FROM pg_file_settings", []),
    ("SELECT * FROM pg_largeobject", []),
    ("SELECT * FROM pg_statistic", []),
    ("SELECT * FROM pg_user_mapping", []),
    ("SELECT 'x'::xml::text::int", []),
    ("SELECT repeat('[', 100000)::json", []),
    ("SELECT $1::int", [SECRET[:4]]),
)


@pytest.mark.parametrize(("query", "params"), FAILS)
async def test_it_fails_in_the_database(
    target: SqlTarget, admin: "asyncpg.Connection[asyncpg.Record]", query: str, params: list[Json]
) -> None:
    """An error the model can read, which says nothing that the role may not see; nothing has changed."""
    before = await state(admin)
    shown = await target.preview(query, params)
    result = await target.run(query, params, 10, a_call())
    assert result.error is not None, result.content
    assert result.error.code in ("sql_error", "sql_refused"), result.content
    assert SECRET not in seen(shown) + seen(result)
    assert await state(admin) == before


HARMLESS: tuple[tuple[str, list[Json], Json], ...] = (
    # What looks like an attack and is only text.
    ("SELECT E'\\'; DROP TABLE orders; --'", [], [["'; DROP TABLE orders; --"]]),
    ("SELECT U&'\\0027; DROP TABLE orders; --'", [], [["'; DROP TABLE orders; --"]]),
    ('SELECT 1 AS "); DROP TABLE orders; --"', [], [[1]]),
    ("SELECT $1::text", ["$$); DROP TABLE orders; --"], [["$$); DROP TABLE orders; --"]]),
    ("SELECT $1::text[]", [["\"}'; DROP TABLE orders", "{,}"]], [[["\"}'; DROP TABLE orders", "{,}"]]]),
    ("SELECT 1 -- $2 ; DROP TABLE orders", [], [[1]]),
    ("WITH conductor_rows AS (SELECT 5 AS c1) SELECT c1 FROM conductor_rows", [], [[5]]),
    ("SELECT c1199 FROM wide_view WHERE c7 = 3", [], [[3]]),
    ("SELECT length($1)", ["x" * 1_000_000], None),
    ("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%conductor_ledger%' AND pid <> 0", [], [[0]]),
    ("SELECT count(*) FROM pg_cursors", [], None),
    ("SELECT current_setting('role') = current_user::text, session_user <> current_user", [], [[True, True]]),
    ("SELECT count(*) FROM pg_settings WHERE name LIKE 'app.%'", [], [[0]]),
)


@pytest.mark.parametrize(("query", "params", "rows"), HARMLESS)
async def test_it_is_only_text(
    target: SqlTarget,
    admin: "asyncpg.Connection[asyncpg.Record]",
    query: str,
    params: list[Json],
    rows: Json,
) -> None:
    """It runs, or is refused for another reason, and does nothing but what it says."""
    before = await state(admin)
    result = await target.run(query, params, 10, a_call())
    if rows is not None:
        assert result.ok, result.content
        assert isinstance(result.data, dict)
        assert result.data["rows"] == rows
    assert await state(admin) == before


EXHAUSTING = (
    "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b, generate_series(1, 1000) c",
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT n FROM t",
    "SELECT repeat('x', 1000000000)",
    "SELECT array_agg(repeat('x', 1000000)) FROM generate_series(1, 100000)",
    "SELECT string_agg(repeat('x', 100000), '') FROM generate_series(1, 100000)",
    "SELECT repeat('a', 50000) ~ '(a*)*(a*)*(a*)*b\\1'",
    "SELECT factorial(100000)",
    "SELECT 9.9 ^ 9999.9",
    "EXPLAIN (VERBOSE) SELECT repeat('x', 100000000)",
    "SELECT * FROM orders WHERE note = repeat('x', 100000000)",
    "SELECT json_agg(o) FROM orders o, generate_series(1, 200000)",
    "UPDATE orders SET note = repeat('x', 50000000) WHERE id < 10",
    "INSERT INTO archive (id, status, total) SELECT n, 'x', 0 FROM generate_series(1, 100000000) AS g(n)",
)


@pytest.mark.parametrize("query", EXHAUSTING)
async def test_it_ends_in_time_and_small(
    target: SqlTarget, admin: "asyncpg.Connection[asyncpg.Record]", query: str
) -> None:
    """Whatever a statement asks for, preview and run end by the limits, and what comes back is small."""
    start = time.monotonic()
    shown = await target.preview(query, [])
    result = await target.run(query, [], 100, a_call())
    assert time.monotonic() - start < 20
    assert len(seen(shown)) < 100_000
    assert len(seen(result)) < 1_000_000
    if result.ok:
        await admin.execute("UPDATE orders SET note = NULL WHERE id > 0")
    assert await admin.fetchval("SELECT count(*) FROM archive") == 0


WARNED = (
    ("UPDATE guarded SET n = 2 WHERE id = 1", "policies that call volatile functions"),
    ("INSERT INTO of_checked VALUES (1, 1)", "types whose checks call volatile functions"),
    ("INSERT INTO checking VALUES (1, 1)", "checks that call volatile functions"),
    ("INSERT INTO generated (id) VALUES (1)", "public.orders: 20 updated"),
    ("UPDATE items SET qty = liar() WHERE order_id = 1 AND line = 1", "public.orders: 20 updated"),
)


@pytest.mark.parametrize(("query", "words"), WARNED)
async def test_the_person_hears_of_it(
    target: SqlTarget, admin: "asyncpg.Connection[asyncpg.Record]", query: str, words: str
) -> None:
    """A write that does more than it says: the trial run counts it, or is not made, and the reason is told."""
    before = await state(admin)
    shown = await target.preview(query, [])
    assert shown.refused is None
    assert any(words in column.value for column in shown.evidence), shown.evidence
    assert shown.risk == "high" or "20 updated" in shown.summary
    assert await state(admin) == before


async def test_nothing_is_left_in_the_connection(routed_sql_shop: Shop, target: SqlTarget) -> None:
    """After all kinds of statements the pooled connection is the login's own again, with no lock and no setting."""
    shop = routed_sql_shop
    one = SqlTarget(shop.url, shop.role, ledger=True, timeout_seconds=1, pool_size=1)
    query = (
        "SELECT current_user::text, current_setting('statement_timeout'), current_setting('search_path'), (SELECT "
        "count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype <> 'virtualxid' AND relation IS NULL)"
    )

    async def look(connection: Any) -> list[object]:
        return list(await connection.fetchrow(query))

    try:
        fresh = await one.connections.use(look)
        for statement, params in (*REFUSED, *FAILS):
            await one.run(statement, params, 1, a_call())
        assert await one.connections.use(look) == fresh
        assert fresh[0] == shop.login
    finally:
        await one.close()


async def test_a_hundred_at_once_share_few_connections(
    routed_sql_shop: Shop, target: SqlTarget, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """However many calls come in, the server sees no more than the pool allows."""
    results = await asyncio.gather(*(target.run("SELECT 1", [], 1, a_call()) for _ in range(100)))
    assert all(result.ok for result in results)
    used = await admin.fetchval("SELECT count(*) FROM pg_stat_activity WHERE usename = $1", routed_sql_shop.login)
    assert used <= 5
