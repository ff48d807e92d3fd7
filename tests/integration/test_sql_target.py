"""The target on a real Postgres: rights, types, caps, limits, cancellation, and what the model is told."""

import asyncio
import subprocess
import sys
from typing import Any

import asyncpg
import pytest

from activities.sql.rows import MAX_TOTAL_CHARACTERS
from activities.sql.setup import check
from activities.sql.shaping import MAX_CELL
from activities.sql.target import SqlTarget
from activities.tools.base import Tool
from activities.tools.sql_query import SqlArguments, SqlQuery
from conductor_ai.contracts.base import Json
from conductor_ai.contracts.tools import SqlClass, ToolResult
from conductor_ai.errors import ConfigurationError, ToolUnavailable
from tests.fixtures_sql import Shop, a_call, wait_until

ENDLESS = "SELECT count(*) FROM generate_series(1, 1000000000000) AS g(n) WHERE n % 7 = 3"


def data(result: ToolResult) -> dict[str, Any]:
    """The result for programs; fails with what the model would read."""
    assert result.ok, result.content
    assert isinstance(result.data, dict)
    return result.data


def code(result: ToolResult) -> str:
    """The error's code."""
    assert result.error is not None
    return result.error.code


TYPES: tuple[tuple[str, Json], ...] = (
    ("NULL::int", None),
    ("true", True),
    ("7::smallint", 7),
    ("9007199254740991::bigint", 9007199254740991),
    ("9007199254740993::bigint", "9007199254740993"),
    ("1.10::numeric", "1.10"),
    ("'NaN'::numeric", "NaN"),
    ("12345678901234567890.123456789::numeric", "12345678901234567890.123456789"),
    ("0.1::float8", 0.1),
    ("0.1::float4", 0.1),
    ("'Infinity'::float8", "Infinity"),
    ("'\\x00ff'::bytea", "\\x00ff"),
    ("'a b'::text", "a b"),
    ("''::text", ""),
    ("date '2026-01-31'", "2026-01-31"),
    ("'infinity'::timestamptz", "infinity"),
    ("timestamp '2026-01-31 10:00:00.5'", "2026-01-31T10:00:00.5"),
    ("timestamptz '2026-01-31 10:00:00.123456+05:30'", "2026-01-31T04:30:00.123456+00:00"),
    ("timestamptz '0044-03-15 10:00:00+00 BC'", "0044-03-15 10:00:00+00 BC"),
    ("time '10:00:01'", "10:00:01"),
    ("interval '1 year 2 months 3 days 4 hours'", "P1Y2M3DT4H"),
    ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ('\'{"a": [1, 2.5, null, "x"]}\'::jsonb', {"a": [1, 2.5, None, "x"]}),
    ("'[12345678901234567890]'::json", "[12345678901234567890]"),
    ('\'{"a": 1, "a": 2}\'::json', '{"a": 1, "a": 2}'),
    ("ARRAY[1, NULL, 3]", [1, None, 3]),
    ("ARRAY[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
    ("ARRAY['a,b', NULL, 'NULL', '', 'q\"\\{}']", ["a,b", None, "NULL", "", 'q"\\{}']),
    ("ARRAY[1.10, 2.20]", ["1.10", "2.20"]),
    ("ARRAY[true, false]", [True, False]),
    ("'{}'::int[]", []),
    ("'[0:1]={1,2}'::int[]", "[0:1]={1,2}"),
    ("int4range(1, 5)", "[1,5)"),
    ("ROW(1, 'a b')", '(1,"a b")'),
    ("'127.0.0.1'::inet", "127.0.0.1/32"),
    ("B'101'", "101"),
    ("'(1,2)'::point", "(1,2)"),
)


async def test_values_come_back_without_loss(sql_target: SqlTarget) -> None:
    """Each type arrives as JSON that says exactly what the database has."""
    for expression, expected in TYPES:
        found = data(await sql_target.run(f"SELECT {expression} AS v", [], 1, a_call()))["rows"]
        assert found == [[expected]], expression


PARAMETERS: tuple[tuple[str, Json], ...] = (
    ("int", 5),
    ("bigint", 9007199254740991),
    ("boolean", True),
    ("text", "x'; DROP TABLE customers; --"),
    ("numeric", "12345678901234567890.10"),
    ("float8", 1.5),
    ("date", "2026-01-31"),
    ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("jsonb", {"a": [1, None, "ü"]}),
    ("jsonb", [1, 2]),
    ("int[]", [1, None, 3]),
    ("text[]", ["a,b", 'q"\\', None, "NULL", "", "{}"]),
    ("int[]", [[1, 2], [3, 4]]),
    ("int4range", "[1,5)"),
    ("text", None),
    ("bpchar", "several characters"),
    ("bytea", "\\x00ff"),
)


async def test_parameters_take_the_servers_types(sql_target: SqlTarget) -> None:
    """JSON values are converted by the server to the types that it wants, and come back as they were sent."""
    for kind, value in PARAMETERS:
        found = data(await sql_target.run(f"SELECT $1::{kind} AS v", [value], 1, a_call()))["rows"]
        assert found == [[value]], kind


async def test_parameters_are_typed_by_the_place_where_they_stand(sql_target: SqlTarget) -> None:
    """Without a cast the column's type counts; one parameter can stand in several places; `$1` in a literal is text."""
    query = (
        "SELECT id, '$1 ü' FROM orders WHERE placed_on > $1 AND total < $2 AND status = ANY($3) AND id <> $4 "
        "AND placed_on > $1 ORDER BY id LIMIT $5"
    )
    found = data(await sql_target.run(query, ["2026-01-03", 50, ["open"], 4.0, 2], 10, a_call()))
    assert found["rows"] == [[6, "$1 ü"], [8, "$1 ü"]]
    found = data(await sql_target.run("EXPLAIN SELECT * FROM orders WHERE id = $1", [3], 10, a_call()))
    assert "orders" in found["rows"][0][0]


async def test_parameters_that_do_not_fit_are_told(sql_target: SqlTarget) -> None:
    """Too few, of the wrong kind, or with what text cannot hold: an error that the model can act on."""
    for query, params in (
        ("SELECT $1::int", []),
        ("SELECT 1", [1]),
        ("SELECT $1::int", ["abc"]),
        ("SELECT $1::int", [{"a": 1}]),
        ("SELECT $1::text", ["a\0b"]),
        ("SELECT $1::text[]", [["\ud800"]]),
        ("SELECT 1 / $1::int", [0]),
    ):
        assert code(await sql_target.run(query, params, 1, a_call())) == "sql_error", query


async def test_a_type_that_cannot_be_described_is_told(sql_target: SqlTarget) -> None:
    """The driver gives up on columns of type anyarray: that is no connection trouble."""
    result = await sql_target.run("SELECT most_common_vals FROM pg_stats LIMIT 1", [], 1, a_call())
    assert code(result) == "sql_error"
    assert "Cast" in result.content


async def test_rows_cells_and_the_whole_are_capped(sql_target: SqlTarget) -> None:
    """Each cap cuts and says so."""
    rows = await sql_target.run("SELECT n FROM generate_series(1, 100000) AS g(n)", [], 7, a_call())
    assert (data(rows)["row_count"], rows.truncated, data(rows)["cut"]) == (7, True, ["rows"])
    exact = await sql_target.run("SELECT n FROM generate_series(1, 7) AS g(n)", [], 7, a_call())
    assert (data(exact)["row_count"], exact.truncated) == (7, False)
    cell = await sql_target.run("SELECT repeat('x', 1000000)", [], 7, a_call())
    assert len(data(cell)["rows"][0][0]) < MAX_CELL + 20
    assert data(cell)["cut"] == ["cells"]
    whole = await sql_target.run("SELECT repeat('x', 8000) FROM generate_series(1, 1000)", [], 1000, a_call())
    assert data(whole)["cut"] == ["size"]
    assert sum(len(row[0]) for row in data(whole)["rows"]) <= MAX_TOTAL_CHARACTERS
    assert len(whole.content.encode()) <= 32 * 1024


async def test_returning_is_capped_but_the_write_is_whole(
    sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Only some rows come back, all are written, and their number is right."""
    result = await sql_target.run("UPDATE orders SET note = 'x' WHERE id > $1 RETURNING id", [4], 3, a_call())
    assert (data(result)["row_count"], data(result)["affected"], result.truncated) == (3, 16, True)
    assert await sql_admin.fetchval("SELECT count(*) FROM orders WHERE note = 'x'") == 16


HUGE = """
import asyncio, resource, sys
from activities.sql.target import SqlTarget
from activities.tools.base import Call
async def main(url, role, query):
    target = SqlTarget(url, role, True, 30)
    await target.run("SELECT 1", [], 1, Call("o", "s", "c", "r", 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = await target.run(query, [], 1, Call("o", "s", "c", "r", 1))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, result.ok)
    await target.close()
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "query",
    [
        "SELECT repeat('x', 200000000)",
        "SELECT repeat('x', 90000000)::int",
        "SELECT repeat('x', 90000000) || n FROM generate_series(1, 3) g(n)",
    ],
)
async def test_a_huge_value_costs_no_memory(sql_shop: Shop, query: str) -> None:
    """A hundred megabytes in one value, or in an error message that quotes it, do not enter our process."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HUGE, sql_shop.url, sql_shop.role, query, stdout=subprocess.PIPE
    )
    out, _ = await child.communicate()
    kilobytes, _ = out.decode().split()
    assert int(kilobytes) < 80_000


async def test_reads_cannot_write_whatever_the_gate_says(sql_shop: Shop, sql_target: SqlTarget) -> None:
    """A function that calls itself stable and writes is stopped by the READ ONLY transaction."""
    admin = await asyncpg.connect(sql_shop.admin_url)
    try:
        await admin.execute(
            "CREATE FUNCTION helper() RETURNS int LANGUAGE plpgsql AS "
            "$$ BEGIN UPDATE orders SET note = 'gone' WHERE id > 0; RETURN 1; END $$;"
            "CREATE FUNCTION liar() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN helper(); END $$"
        )
        result = await sql_target.run("SELECT liar()", [], 1, a_call())
        assert code(result) == "sql_refused"
        assert await admin.fetchval("SELECT count(*) FROM orders WHERE note = 'gone'") == 0
    finally:
        await admin.close()


async def test_functions_of_the_target_are_looked_up(
    sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Own volatile functions and operators are refused however they are written; stable ones are fine."""
    await sql_admin.execute(
        """
        CREATE FUNCTION quiet(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1';
        CREATE FUNCTION loud(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1';
        CREATE FUNCTION lower(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1';
        CREATE FUNCTION of_row(customers) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';
        CREATE OPERATOR <+> (LEFTARG = int, RIGHTARG = int, FUNCTION = loud2);
    """.replace(
            "CREATE OPERATOR", "CREATE FUNCTION loud2(int, int) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE OPERATOR"
        )
    )
    assert data(await sql_target.run("SELECT quiet(1), public.quiet(2)", [], 1, a_call()))["rows"] == [[1, 2]]
    assert data(await sql_target.run("SELECT pg_catalog.lower('A')", [], 1, a_call()))["rows"] == [["a"]]
    for query in (
        "SELECT loud(1)",
        "SELECT public.loud(1)",
        "SELECT lower(1)",
        "SELECT c.of_row FROM customers c",
        "SELECT (c).of_row FROM customers c",
        "SELECT 1 <+> 2",
        "SELECT 1 OPERATOR(public.<+>) 2",
        "UPDATE orders SET total = loud(1) WHERE id = 1",
    ):
        result = await sql_target.run(query, [], 1, a_call())
        assert code(result) == "sql_refused", query
        consequence = await sql_target.preview(query, [])
        assert consequence.refused is not None, query


async def test_a_statement_that_takes_too_long_is_stopped(sql_shop: Shop) -> None:
    """The server's own limit ends it, and the connection is good for the next one."""
    target = SqlTarget(sql_shop.url, sql_shop.role, ledger=True, timeout_seconds=0.3, pool_size=1)
    try:
        assert code(await target.run(ENDLESS, [], 1, a_call())) == "timeout"
        assert data(await target.run("SELECT 1", [], 1, a_call()))["rows"] == [[1]]
    finally:
        await target.close()


async def _busy(admin: "asyncpg.Connection[asyncpg.Record]", login: str) -> int:
    count: int = await admin.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND (state = 'active' OR state LIKE 'idle in%')",
        login,
    )
    return count


async def test_cancelling_ends_the_query_on_the_server_first(
    sql_shop: Shop, sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """When the cancellation arrives at the caller, no query of ours is left in pg_stat_activity."""

    async def running() -> bool:
        return await _busy(sql_admin, sql_shop.login) == 1

    task = asyncio.create_task(sql_target.run(ENDLESS, [], 1, a_call()))
    await wait_until(running, "the query runs")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _busy(sql_admin, sql_shop.login) == 0
    assert data(await sql_target.run("SELECT 1", [], 1, a_call()))["rows"] == [[1]]


async def test_cancelling_a_write_leaves_nothing(
    sql_shop: Shop, sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A write that waits for a lock is rolled back with its ledger row, even when the cancellation comes twice."""
    call = a_call()
    async with sql_admin.transaction():
        await sql_admin.execute("SELECT 1 FROM customers WHERE id = 1 FOR UPDATE")
        query = "UPDATE customers SET balance = 0 WHERE id = 1"
        task = asyncio.create_task(sql_target.run(query, [], 1, call))
        look = await asyncpg.connect(sql_shop.admin_url)

        async def waiting() -> bool:
            return bool(await look.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        await wait_until(waiting, "the write waits for the lock")
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await _busy(look, sql_shop.login) == 0
        await look.close()
    assert await sql_admin.fetchval("SELECT balance FROM customers WHERE id = 1") == 10
    assert await sql_admin.fetchval("SELECT count(*) FROM conductor_ledger.calls WHERE call_id = $1", call.call_id) == 0


async def test_a_database_that_is_away_is_unavailable_and_says_no_secret() -> None:
    """Connection trouble is worth another attempt, and the connection string stays with us."""
    target = SqlTarget("postgresql://me:secret-word@127.0.0.1:9/none", "r", ledger=True, timeout_seconds=1)
    for attempt in (target.run("SELECT 1", [], 1, a_call()), target.preview("SELECT 1", [])):
        with pytest.raises(ToolUnavailable) as caught:
            await attempt
        assert "secret-word" not in str(caught.value)
        assert "127.0.0.1" not in str(caught.value)
    assert await target.outcome(a_call()) is None
    assert len(await check(target)) == 1
    await target.close()


async def test_a_role_that_cannot_be_taken_is_a_mistake_in_the_setup(sql_shop: Shop) -> None:
    """No retry mends it, so the model and the doctor are told."""
    target = SqlTarget(sql_shop.url, "nobody_at_all", ledger=True, timeout_seconds=5)
    try:
        assert code(await target.run("SELECT 1", [], 1, a_call())) == "not_configured"
        assert any("nobody_at_all" in problem for problem in await check(target))
    finally:
        await target.close()


def test_a_ledger_needs_a_role() -> None:
    """Without a role the model's statement would run as the ledger's owner."""
    with pytest.raises(ConfigurationError, match="CONDUCTOR_SQL_ROLE"):
        SqlTarget("postgresql://x", None, ledger=True, timeout_seconds=1)


async def test_a_good_setup_has_no_problems(sql_target: SqlTarget) -> None:
    """The doctor is silent before and after the ledger is made."""
    assert await check(sql_target) == []
    await sql_target.run("UPDATE orders SET note = 'x' WHERE id = 1", [], 1, a_call())
    assert await check(sql_target) == []


async def test_the_doctor_sees_what_is_wrong(
    sql_shop: Shop, sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A superuser, a role that sees the ledger or Conductor's own store, a role with the login's rights, dangerous memberships."""
    await sql_target.run("UPDATE orders SET note = 'x' WHERE id = 1", [], 1, a_call())
    await sql_admin.execute(f"GRANT USAGE ON SCHEMA conductor_ledger TO {sql_shop.role}")
    await sql_admin.execute(f"GRANT pg_read_server_files TO {sql_shop.role}")
    await sql_admin.execute(
        f"CREATE SCHEMA conductor CREATE TABLE sessions (id int); GRANT USAGE ON SCHEMA conductor TO {sql_shop.role}"
    )
    await sql_admin.execute(f"ALTER ROLE {sql_shop.role} SUPERUSER")
    text = " ".join(await check(sql_target))
    assert "can see the ledger" in text
    assert "pg_read_server_files" in text
    assert "can see Conductor's own tables" in text
    assert "is a superuser" in text


async def test_the_tool_keeps_its_protocol(sql_target: SqlTarget) -> None:
    """Spec, facts, preview and run, as the activities use them."""
    tool = SqlQuery(sql_target)
    assert isinstance(tool, Tool)
    assert tool.spec.requires_approval
    read = SqlArguments(query="SELECT $1::int", params=(1,))
    write = SqlArguments(query="UPDATE orders SET note = 'x' WHERE id = $1", params=(1,))
    refused = SqlArguments(query="DROP TABLE orders")
    assert (tool.facts(read).sql_class, tool.facts(read).writes, tool.facts(read).replayable) == (
        SqlClass.READ,
        False,
        True,
    )
    assert (tool.facts(write).sql_class, tool.facts(write).writes) == (SqlClass.WRITE, True)
    assert tool.facts(write).replayable
    assert tool.facts(refused).sql_class is SqlClass.REFUSED
    assert code(await tool.run(refused, a_call())) == "sql_refused"
    assert data(await tool.run(read, a_call()))["rows"] == [[1]]
    assert SqlArguments.model_validate_json('{"query": "SELECT 1", "params": [1, "a", [1], null, 1.5]}').params[2] == [
        1
    ]
