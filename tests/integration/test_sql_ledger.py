"""A write happens once: through crashes, retries, late attempts, and without the ledger not at all."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from activities.sql import execute as execution
from activities.sql.effects import Effects
from activities.sql.failures import UNKNOWN
from activities.sql.target import SqlTarget
from activities.tools.base import NotExecuted
from activities.tools.sql_query import approved_effect
from conductor_ai.contracts.tools import ToolResult
from conductor_ai.errors import ToolUnavailable
from tests.fixtures_sql import Shop, a_call, wait_until

PAY = "UPDATE customers SET balance = balance - 1 WHERE id = 1 RETURNING balance"
WORKER = """
import asyncio, sys
from activities.sql.target import SqlTarget
from activities.tools.base import Call
async def main(url, role, ledger, call_id, query):
    target = SqlTarget(url, role, ledger == "yes", 20)
    print("started", flush=True)
    await target.run(query, [], 10, Call("o", "s", call_id, "r", 1, "a" * 64))
    print("committed", flush=True)
    await asyncio.Event().wait()
asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def worker(shop: Shop, call_id: str, *, ledger: str = "yes") -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that runs PAY and then never comes to reporting it."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, shop.url, shop.role, ledger, call_id, PAY, stdout=subprocess.PIPE
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def line(child: asyncio.subprocess.Process) -> str:
    """The next word of a child."""
    assert child.stdout is not None
    return (await asyncio.wait_for(child.stdout.readline(), 30)).decode().strip()


async def balance(admin: "asyncpg.Connection[asyncpg.Record]") -> int:
    """Of customer 1: 10 at first."""
    return int(await admin.fetchval("SELECT balance FROM customers WHERE id = 1"))


async def die_after_commit(shop: Shop, call_id: str, *, ledger: str = "yes") -> None:
    """Commit PAY and be killed before anybody hears of it."""
    async with worker(shop, call_id, ledger=ledger) as child:
        assert await line(child) == "started"
        assert await line(child) == "committed"
        child.kill()
        await child.wait()


async def test_a_retry_after_a_lost_report_returns_the_stored_result(
    sql_shop: Shop, sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """SIGKILL between commit and report: the retry pays nothing again and answers what the first one would have."""
    call = a_call()
    await die_after_commit(sql_shop, call.call_id)
    again = await sql_target.run(PAY, [], 10, call)
    assert again.ok
    assert isinstance(again.data, dict)
    assert again.data["rows"] == [["9.00"]]
    assert await balance(sql_admin) == 9
    assert await sql_target.outcome(call) == again


async def test_without_the_ledger_the_same_crash_pays_twice(
    sql_shop: Shop, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """What the ledger is for: the natural code, retried after the same crash, writes twice."""
    call = a_call()
    target = SqlTarget(sql_shop.url, sql_shop.role, ledger=False, timeout_seconds=10)
    try:
        await die_after_commit(sql_shop, call.call_id, ledger="no")
        await target.run(PAY, [], 10, call)
        assert await balance(sql_admin) == 8
        assert await target.outcome(call) is None
    finally:
        await target.close()


async def test_a_worker_that_dies_before_its_commit_has_done_nothing(
    sql_shop: Shop, sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """SIGKILL while the write waits for a lock: the transaction never commits, and the outcome says so for good."""
    call = a_call()
    locker = await asyncpg.connect(sql_shop.admin_url)
    transaction = locker.transaction()
    await transaction.start()
    await locker.execute("SELECT 1 FROM customers WHERE id = 1 FOR UPDATE")
    async with worker(sql_shop, call.call_id) as child:
        assert await line(child) == "started"

        async def waits() -> bool:
            return bool(await sql_admin.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        await wait_until(waits, "the write waits for the row")
        child.kill()
        await child.wait()
    await transaction.rollback()
    await locker.close()
    assert isinstance(await sql_target.outcome(call), NotExecuted)
    assert await balance(sql_admin) == 10


async def test_a_tombstone_makes_a_sleeping_attempt_fail(
    sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Once "not executed" has been said, the attempt that wakes up late does nothing."""
    call = a_call()
    assert isinstance(await sql_target.outcome(call), NotExecuted)
    late = await sql_target.run(PAY, [], 10, call)
    assert late.error is not None
    assert late.error.code == "not_executed"
    assert await balance(sql_admin) == 10
    assert isinstance(await sql_target.outcome(call), NotExecuted)


async def test_the_outcome_waits_for_an_attempt_in_the_middle(
    sql_shop: Shop, sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """An attempt holds its ledger row uncommitted: nobody says "not executed" while it may still commit."""
    call = a_call()
    locker = await asyncpg.connect(sql_shop.admin_url)
    transaction = locker.transaction()
    await transaction.start()
    await locker.execute("SELECT 1 FROM customers WHERE id = 1 FOR UPDATE")
    attempt = asyncio.create_task(sql_target.run(PAY, [], 10, call))

    async def waiting(number: int) -> bool:
        return bool(await sql_admin.fetchval("SELECT count(*) = $1 FROM pg_locks WHERE NOT granted", number))

    await wait_until(lambda: waiting(1), "the attempt waits for the row")
    asked = asyncio.create_task(sql_target.outcome(call))
    await wait_until(lambda: waiting(2), "the question waits for the attempt")
    await transaction.rollback()
    await locker.close()
    result = await attempt
    assert result.ok, result.content
    assert await asked == result
    assert await balance(sql_admin) == 9


async def test_many_attempts_at_once_write_once(
    sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Zombies and retries side by side get one result between them."""
    call = a_call()
    results = await asyncio.gather(*(sql_target.run(PAY, [], 10, call) for _ in range(8)))
    assert all(result.ok and result == results[0] for result in results)
    assert await balance(sql_admin) == 9


async def test_a_failed_write_leaves_no_row(
    sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """An error rolls the ledger row back too, so the call may be tried again."""
    call = a_call()
    bad = await sql_target.run("UPDATE customers SET balance = 1 / 0 WHERE id = 1", [], 10, call)
    assert not bad.ok
    assert await sql_admin.fetchval("SELECT count(*) FROM conductor_ledger.calls") == 0
    assert (await sql_target.run(PAY, [], 10, call)).ok


async def test_a_call_id_with_other_arguments_is_not_answered(sql_target: SqlTarget) -> None:
    """The stored result belongs to the arguments that it was made with."""
    call = a_call()
    assert (await sql_target.run(PAY, [], 10, call)).ok
    other = await sql_target.run(PAY, [], 10, a_call(call.call_id, "b" * 64))
    assert other.error is not None
    assert other.error.code == "not_executed"


async def test_the_role_cannot_see_the_ledger_nor_leave_itself(sql_shop: Shop, sql_target: SqlTarget) -> None:
    """Even past the gate: no right to the ledger, and the settings that lead out are refused before."""
    await sql_target.run(PAY, [], 10, a_call())
    login = await asyncpg.connect(sql_shop.direct_url)
    try:
        await login.execute(f"SET ROLE {sql_shop.role}")
        for statement in (
            "SELECT * FROM conductor_ledger.calls",
            "DELETE FROM conductor_ledger.calls",
            "INSERT INTO conductor_ledger.calls VALUES ('x', 'x', 'tombstone')",
            "DROP SCHEMA conductor_ledger CASCADE",
            "CREATE SCHEMA other",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await login.execute(statement)
    finally:
        await login.close()
    for statement in (
        f"SELECT set_config('role', '{sql_shop.login}', true)",
        "RESET ROLE",
        "SET ROLE NONE",
        "SET SESSION AUTHORIZATION DEFAULT",
        f"UPDATE pg_settings SET setting = '{sql_shop.login}' WHERE name = 'role'",
        "SELECT * FROM conductor_ledger.calls",
    ):
        result = await sql_target.run(statement, [], 1, a_call())
        assert result.error is not None
        assert result.error.code == "sql_refused"


async def test_statements_run_as_the_role(sql_shop: Shop, sql_target: SqlTarget) -> None:
    """Reads and writes alike."""
    result = await sql_target.run("SELECT current_user", [], 1, a_call())
    assert isinstance(result.data, dict)
    assert result.data["rows"] == [[sql_shop.role]]
    query = "UPDATE customers SET email = current_user WHERE id = 1 RETURNING email"
    result = await sql_target.run(query, [], 1, a_call())
    assert isinstance(result.data, dict)
    assert result.data["rows"] == [[sql_shop.role]]


async def test_a_login_that_may_not_make_the_ledger_writes_nothing(
    sql_shop: Shop, sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Better no write than one that could happen twice."""
    await sql_admin.execute(f"REVOKE CREATE ON DATABASE {sql_shop.database} FROM {sql_shop.login}")
    result = await sql_target.run(PAY, [], 10, a_call())
    assert result.error is not None
    assert result.error.code == "not_configured"
    assert await balance(sql_admin) == 10
    assert await sql_target.outcome(a_call()) is None


async def test_an_unknown_outcome_is_told_and_not_retried(
    sql_shop: Shop, sql_admin: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a ledger, a connection lost during the commit is an answer for the model; lost before, it is worth a
    new attempt."""
    target = SqlTarget(sql_shop.url, sql_shop.role, ledger=False, timeout_seconds=10)
    kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = $1"

    original = execution.execute

    async def lost(*arguments: object, **named: object) -> ToolResult:
        result = await original(*arguments, **named)  # type: ignore[arg-type]
        raise ConnectionResetError(result.content)

    monkeypatch.setattr("activities.sql.target.execute", lost)
    try:
        result = await target.run(PAY, [], 10, a_call())
        assert result.error is not None
        assert (result.error.code, result.error.message) == ("outcome_unknown", UNKNOWN)
        monkeypatch.undo()
        async with sql_admin.transaction():
            await sql_admin.execute("SELECT 1 FROM customers WHERE id = 1 FOR UPDATE")
            attempt = asyncio.create_task(target.run(PAY, [], 10, a_call()))

            async def waits() -> bool:
                return bool(await sql_admin.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

            await wait_until(waits, "the write waits")
            await sql_admin.fetchval(kill, sql_shop.login)
            with pytest.raises(ToolUnavailable):
                await attempt
    finally:
        await target.close()


async def test_a_write_that_now_means_more_rows_is_rolled_back(
    sql_shop: Shop, sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """The approval holds what was seen: more rows than that are not touched, unless a tolerance allows it."""
    query = "UPDATE orders SET note = 'x' WHERE status = 'open'"
    seen = await sql_target.preview(query, [])
    approved = approved_effect(seen.data)
    assert approved is not None
    assert approved.rows == 10
    await sql_admin.execute("INSERT INTO orders (id, status) VALUES (500, 'open')")
    result = await sql_target.run(query, [], 1, a_call(), approved)
    assert result.error is not None
    assert result.error.code == "rows_changed"
    assert await sql_admin.fetchval("SELECT count(*) FROM orders WHERE note = 'x'") == 0
    tolerant = SqlTarget(sql_shop.url, sql_shop.role, ledger=True, timeout_seconds=5, row_tolerance=1)
    try:
        assert (await tolerant.run(query, [], 1, a_call(), approved)).ok
    finally:
        await tolerant.close()
    assert await sql_admin.fetchval("SELECT count(*) FROM orders WHERE note = 'x'") == 11


async def test_fewer_rows_than_approved_are_fine(sql_target: SqlTarget) -> None:
    """The guard looks for more, not for less; what was not known then is not held against it."""
    query = "UPDATE orders SET note = 'y' WHERE id = 1"
    seen = approved_effect((await sql_target.preview("UPDATE orders SET note = 'y' WHERE id < 3", [])).data)
    assert (await sql_target.run(query, [], 1, a_call(), seen)).ok
    assert approved_effect(None) is None
    assert approved_effect({"effect": None}) is None
    assert approved_effect({"effect": Effects().model_dump(mode="json")}) == Effects()
