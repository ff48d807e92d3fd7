"""The approval holds what was seen: more rows than that are rolled back, through the tool, whatever way they are written."""

import asyncpg
import pytest

from activities.sql.target import SqlTarget
from activities.tools.base import Call
from activities.tools.sql_query import SqlArguments, SqlQuery
from conductor_ai.contracts.base import Json
from conductor_ai.contracts.tools import ToolResult
from tests.fixtures_sql import Shop, a_call

MORE = (
    # query, what happens between approval and run
    ("UPDATE orders SET note = 'x' WHERE status = 'open'", "INSERT INTO orders (id, status) VALUES (500, 'open')"),
    (
        "UPDATE orders SET note = 'x' WHERE status = 'open' RETURNING id",
        "INSERT INTO orders (id, status) VALUES (500, 'open')",
    ),
    ("DELETE FROM orders WHERE total > 90", "INSERT INTO items VALUES (20, 9, 'sku-9', 1)"),
    ("DELETE FROM customers WHERE id = 1", "INSERT INTO orders (id, customer_id) VALUES (500, 1)"),
    (
        "WITH gone AS (DELETE FROM items WHERE order_id = 1 RETURNING *) SELECT count(*) FROM gone",
        "INSERT INTO items VALUES (1, 9, 'sku-9', 1)",
    ),
    (
        "WITH gone AS (DELETE FROM items WHERE order_id = 1 RETURNING *), "
        "late AS (UPDATE orders SET note = 'x' WHERE id IN (SELECT order_id FROM gone) RETURNING id) "
        "INSERT INTO archive (id, status, total) SELECT id, 'x', 0 FROM late RETURNING id",
        "INSERT INTO items VALUES (1, 9, 'sku-9', 1)",
    ),
    ("INSERT INTO archive SELECT * FROM orders WHERE id < 5", "INSERT INTO orders (id) VALUES (-1)"),
    (
        "INSERT INTO customers (id, name) VALUES (70, 'x') ON CONFLICT (id) DO UPDATE SET name = 'overwritten'",
        "INSERT INTO customers (id, name) VALUES (70, 'somebody else')",
    ),
    (
        "UPDATE orders SET customer_id = 2 WHERE customer_id IN (SELECT id FROM customers WHERE NOT active)",
        "UPDATE customers SET active = false WHERE id = 9",
    ),
)
"""A statement, and what somebody else does between the approval and the run."""


@pytest.fixture
def tool(sql_target: SqlTarget) -> SqlQuery:
    """The tool on the fresh shop."""
    return SqlQuery(sql_target)


async def approve(tool: SqlQuery, arguments: SqlArguments) -> Call:
    """The call as it is after a person has seen its consequence and said yes."""
    shown = await tool.prepare(arguments, a_call())
    assert shown.refused is None
    assert isinstance(shown.data, dict)
    assert shown.data["effect"] is not None, shown.evidence
    return a_call(seen=shown.data)


def code(result: ToolResult) -> str:
    """The error's code."""
    assert result.error is not None, result.content
    return result.error.code


async def rows(admin: "asyncpg.Connection[asyncpg.Record]") -> list[object]:
    """All rows of the shop."""
    return [
        await admin.fetchval(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t")
        for table in ("customers", "orders", "items", "archive")
    ]


@pytest.mark.parametrize(("query", "meanwhile"), MORE)
async def test_more_than_was_seen_is_rolled_back_and_what_was_seen_runs(
    tool: SqlQuery, sql_admin: "asyncpg.Connection[asyncpg.Record]", query: str, meanwhile: str
) -> None:
    """Directly, by WITH queries, by cascades, with RETURNING, as an upsert that now overwrites: rolled back without a
    trace in table or ledger. Shown and approved again, the very same call arguments run."""
    arguments = SqlArguments(query=query)
    call = await approve(tool, arguments)
    await sql_admin.execute(meanwhile)
    before = await rows(sql_admin)
    result = await tool.run(arguments, call)
    assert code(result) == "rows_changed", result.content
    assert await rows(sql_admin) == before
    assert await sql_admin.fetchval("SELECT count(*) FROM conductor_ledger.calls") == 0
    again = await tool.run(arguments, await approve(tool, arguments))
    assert again.ok, again.content
    assert await rows(sql_admin) != before


@pytest.mark.parametrize(("query", "_meanwhile"), MORE)
async def test_what_was_seen_runs(tool: SqlQuery, query: str, _meanwhile: str) -> None:
    """Without a change in between the guard lets everything through, and a retry answers the same."""
    arguments = SqlArguments(query=query)
    call = await approve(tool, arguments)
    result = await tool.run(arguments, call)
    assert result.ok, result.content
    assert await tool.run(arguments, call) == result


async def test_less_in_one_table_does_not_pay_for_more_in_another(
    tool: SqlQuery, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """The same number of rows in all, but other ones: an order less and a customer more is not what was approved."""
    arguments = SqlArguments(query="DELETE FROM customers WHERE balance <= 20")
    call = await approve(tool, arguments)
    await sql_admin.execute("DELETE FROM orders WHERE id IN (1, 2); UPDATE customers SET balance = 0 WHERE id = 3")
    await sql_admin.execute("DELETE FROM orders WHERE id = 3")
    assert code(await tool.run(arguments, call)) == "rows_changed"
    assert await sql_admin.fetchval("SELECT count(*) FROM customers") == 20


@pytest.mark.parametrize(("tolerance", "passes"), [(0, False), (1, False), (2, True)])
async def test_the_tolerance_counts_rows_beyond_the_approved_ones(
    sql_shop: Shop, sql_admin: "asyncpg.Connection[asyncpg.Record]", tolerance: int, passes: bool
) -> None:
    """Two rows more need a tolerance of two."""
    target = SqlTarget(sql_shop.url, sql_shop.role, ledger=True, timeout_seconds=5, row_tolerance=tolerance)
    tool = SqlQuery(target)
    arguments = SqlArguments(query="UPDATE orders SET note = 'x' WHERE status = $1", params=("open",))
    try:
        call = await approve(tool, arguments)
        await sql_admin.execute("INSERT INTO orders (id, status) VALUES (500, 'open'), (501, 'open')")
        assert (await tool.run(arguments, call)).ok == passes
    finally:
        await tool.close()


@pytest.mark.parametrize("seen", [None, {"effect": None}, "text", []])
async def test_nothing_seen_is_nothing_to_hold_against(tool: SqlQuery, seen: Json) -> None:
    """Where no trial run was possible the person was told so, and the approved statement runs."""
    result = await tool.run(SqlArguments(query="UPDATE orders SET note = 'x' WHERE id < 4"), a_call(seen=seen))
    assert result.ok, result.content
