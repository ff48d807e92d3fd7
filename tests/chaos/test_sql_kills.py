"""`kill -9` of the process that writes, at random points: each approved write is in the table exactly once."""

import asyncio
import random
import sys
from asyncio.subprocess import PIPE, Process

import asyncpg
import pytest

from activities.sql.target import SqlTarget
from activities.tools.base import Call, NotExecuted
from activities.tools.sql_query import SqlArguments, SqlQuery
from tests.fixtures_sql import Shop, a_call, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KILLS = 20
WORKER = """
import asyncio, sys
from activities.sql.target import SqlTarget
from activities.tools.base import Call
from activities.tools.sql_query import SqlArguments, SqlQuery

async def main(url, role):
    tool = SqlQuery(SqlTarget(url, role, True, 20))
    await tool.run(SqlArguments(query="SELECT 1"), Call("o", "s", "warm", "r", 1))
    print("ready", flush=True)
    call_id, query = sys.stdin.readline().split(maxsplit=1)
    print("begins", flush=True)
    result = await tool.run(SqlArguments(query=query), Call("o", "s", call_id, "r", 1, "a" * 64, approved=True))
    print(result.model_dump_json(), flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def worker(shop: Shop) -> Process:
    """A process with an open connection that waits for its one call."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, shop.url, shop.role, stdin=PIPE, stdout=PIPE
    )
    assert await line(child) == "ready"
    return child


async def line(child: Process) -> str:
    """The next line of a child."""
    assert child.stdout is not None
    return (await asyncio.wait_for(child.stdout.readline(), 60)).decode().strip()


async def order(child: Process, call: Call, query: str) -> None:
    """Hand a call to a worker; returns when it begins."""
    assert child.stdin is not None
    child.stdin.write(f"{call.call_id} {query}\n".encode())
    await child.stdin.drain()
    assert await line(child) == "begins"


def payment(number: int) -> str:
    """A write that shows how often it was done."""
    return f"INSERT INTO archive (id, status, total) VALUES ({number}, 'paid', 1) RETURNING id"


@pytest.fixture
async def tool(sql_target: SqlTarget) -> SqlQuery:
    """The worker that comes after, with the ledger made."""
    made = SqlQuery(sql_target)
    assert (await made.run(SqlArguments(query="UPDATE orders SET note = 'x' WHERE id = 1"), a_call())).ok
    return made


async def kill(child: Process) -> None:
    """SIGKILL, and wait until it is gone."""
    child.kill()
    await child.wait()


async def test_each_write_is_in_the_table_once_wherever_it_was_killed(
    sql_shop: Shop, tool: SqlQuery, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Twenty workers die unheard: ten at any moment from the call's begin on, ten once their commit can be seen. Each
    retry answers with its row, and each row is there once."""
    moments = random.Random()
    for number in range(KILLS):
        call, query = a_call(), payment(number)
        child = await worker(sql_shop)
        await order(child, call, query)
        if number % 2:

            async def committed(call_id: str = call.call_id) -> bool:
                found = "SELECT count(*) = 1 FROM conductor_ledger.calls WHERE call_id = $1"
                return bool(await sql_admin.fetchval(found, call_id))

            await wait_until(committed, "the write is committed")
        else:
            await asyncio.sleep(moments.uniform(0, 0.02))  # any moment: nothing is waited for
        await kill(child)
        again = await tool.run(SqlArguments(query=query), call)
        assert again.ok, again.content
        assert isinstance(again.data, dict)
        assert again.data["rows"] == [[number]]
    counts = await sql_admin.fetch("SELECT id, count(*) AS n FROM archive GROUP BY id ORDER BY id")
    assert [(row["id"], row["n"]) for row in counts] == [(number, 1) for number in range(KILLS)]


async def test_what_is_said_of_a_killed_write_stays_true(
    sql_shop: Shop, tool: SqlQuery, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Asked what became of it, the tool answers with the result or with "not executed", once and for all: the table
    agrees, and a late attempt changes nothing of it."""
    moments = random.Random()
    for number in range(KILLS // 2):
        call, query = a_call(), payment(number)
        child = await worker(sql_shop)
        await order(child, call, query)
        await asyncio.sleep(moments.uniform(0, 0.02))  # any moment: nothing is waited for
        await kill(child)
        said = await tool.outcome(call)
        assert said is not None
        late = await tool.run(SqlArguments(query=query), call)
        happened = await sql_admin.fetchval("SELECT count(*) FROM archive WHERE id = $1", number)
        if isinstance(said, NotExecuted):
            assert late.error is not None
            assert (late.error.code, happened) == ("not_executed", 0)
        else:
            assert (late, happened) == (said, 1)
