"""Connections really cut, at the worst moments, as the tool sees them: what is told, and what has happened."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from activities.sql.failures import UNKNOWN
from activities.sql.target import SqlTarget
from activities.tools.sql_query import SqlArguments, SqlQuery
from conductor_ai.errors import ToolUnavailable
from tests.fixtures_sql import Shop, a_call, wait_until
from tests.fixtures_wire import Cut, Wire

PAY = SqlArguments(query="UPDATE customers SET balance = balance - 1 WHERE id = 1 RETURNING balance")
Admin = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def wire(sql_shop: Shop) -> AsyncIterator[Wire]:
    """A way to the shop that can be cut."""
    async with Wire(sql_shop).up() as made:
        yield made


def tool(shop: Shop, wire: Wire, *, ledger: bool) -> SqlQuery:
    """The tool at the end of the wire."""
    return SqlQuery(SqlTarget(wire.url, shop.role, ledger, 10, pool_size=1))


async def balance(admin: "asyncpg.Connection[asyncpg.Record]") -> int:
    """Of customer 1: 10 at first."""
    return int(await admin.fetchval("SELECT balance FROM customers WHERE id = 1"))


@pytest.mark.parametrize(("cut", "left"), [(Cut.AFTER, 9), (Cut.BEFORE, 10)])
async def test_without_a_ledger_a_lost_commit_is_told_as_unknown(
    sql_shop: Shop, wire: Wire, sql_admin: "asyncpg.Connection[asyncpg.Record]", cut: Cut, left: int
) -> None:
    """One attempt: whether the commit arrived or not, the model hears that it is not known, and nothing tries again."""
    pay = tool(sql_shop, wire, ledger=False)
    call = a_call()
    try:
        assert not pay.facts(PAY).replayable
        wire.cut_at(b"COMMIT;", cut)
        result = await pay.run(PAY, call)
        assert result.error is not None
        assert (result.error.code, result.content) == ("outcome_unknown", UNKNOWN)
        assert await pay.outcome(call) is None
        assert wire.cuts == 1
        assert await balance(sql_admin) == left
    finally:
        await pay.close()


async def test_without_a_ledger_a_connection_lost_before_the_commit_is_no_write(
    sql_shop: Shop, wire: Wire, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Until the commit begins it is certain that nothing happened, and that is said in another way."""
    pay = tool(sql_shop, wire, ledger=False)
    try:
        wire.cut_at(b"balance - 1", Cut.AFTER)
        with pytest.raises(ToolUnavailable):
            await pay.run(PAY, a_call())
        assert await balance(sql_admin) == 10
    finally:
        await pay.close()


async def test_with_a_ledger_a_lost_commit_is_found_again(
    sql_shop: Shop, wire: Wire, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """The retry answers what the first attempt would have, and pays nothing."""
    pay = tool(sql_shop, wire, ledger=True)
    call = a_call()
    try:
        assert (await pay.run(SqlArguments(query="UPDATE orders SET note = 'x' WHERE id = 1"), a_call())).ok
        wire.cut_at(b"COMMIT;", Cut.AFTER)
        with pytest.raises(ToolUnavailable):
            await pay.run(PAY, call)
        assert await balance(sql_admin) == 9
        again = await pay.run(PAY, call)
        assert isinstance(again.data, dict)
        assert again.data["rows"] == [["9.00"]]
        assert await balance(sql_admin) == 9
    finally:
        await pay.close()


@pytest.mark.parametrize("word", [b"INSERT INTO conductor_ledger", b"SET LOCAL ROLE", b"UPDATE conductor_ledger"])
async def test_with_a_ledger_a_cut_anywhere_writes_once(
    sql_shop: Shop, wire: Wire, sql_admin: "asyncpg.Connection[asyncpg.Record]", word: bytes
) -> None:
    """At the ledger row, at the change of role, at the stored result: the next attempt does it once."""
    pay = tool(sql_shop, wire, ledger=True)
    call = a_call()
    try:
        wire.cut_at(word, Cut.AFTER)
        with pytest.raises(ToolUnavailable):
            await pay.run(PAY, call)
        assert await balance(sql_admin) == 10
        assert (await pay.run(PAY, call)).ok
        assert await balance(sql_admin) == 9
    finally:
        await pay.close()


async def test_a_connection_lost_on_its_way_back_does_not_undo_the_answer(
    sql_shop: Shop, wire: Wire, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """The commit was acknowledged; that the clean-up after it finds nobody makes nothing unknown."""
    pay = tool(sql_shop, wire, ledger=False)
    try:
        wire.cut_at(b"DISCARD ALL", Cut.BEFORE)
        result = await pay.run(PAY, a_call())
        assert result.ok, result.content
        assert wire.cuts == (0 if sql_shop.pooler else 1)  # a pooler's backends are not ours to empty
        assert await balance(sql_admin) == 9
    finally:
        await pay.close()


async def test_a_server_that_ignores_cancel_requests_has_its_backend_ended(
    sql_shop: Shop, wire: Wire, sql_admin: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last resort finds the backend by its name, also where a pooler has made up the process id."""
    monkeypatch.setattr("activities.sql.connection.CANCEL_SECONDS", 1.0)
    query = tool(sql_shop, wire, ledger=True)
    endless = SqlArguments(query="SELECT count(*) FROM generate_series(1, 1000000000000) AS g(n) WHERE n % 7 = 3")

    async def busy() -> bool:
        # With the endless statement, and not with one of the short ones before it, which nobody would have to cancel.
        found: bool = await sql_admin.fetchval(
            "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name LIKE 'conductor sql_query %' "
            "AND state = 'active' AND usename = $1 AND clock_timestamp() - query_start > interval '0.3 s'",
            sql_shop.login,
        )
        return found

    wire.deaf = True
    task = asyncio.create_task(query.run(endless, a_call()))
    await wait_until(busy, "the query runs")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async def was_asked() -> bool:
        return wire.cancels > 0

    await wait_until(was_asked, "the request to cancel")  # it comes on a connection of its own, in its own time
    assert not await busy()
    await query.close()
