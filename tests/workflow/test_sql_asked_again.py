"""A real UPDATE under a real session: approved for twelve rows, thirteen by the time it runs."""

from typing import Any

import asyncpg
import pytest
from temporalio.client import Client

from activities.sql.target import SqlTarget
from activities.tools.sql_query import SqlQuery
from conductor_ai.contracts.status import CallState
from conductor_ai.contracts.views import ApprovalView
from tests.fixtures_servers import wait_until
from tests.rig import Rig, answer, calls, rig

UPDATE = "UPDATE orders SET total = total + 1 WHERE status = 'thirteenth'"


@pytest.fixture
async def twelve(sql_admin: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Twelve orders that the statement touches."""
    await sql_admin.execute("UPDATE orders SET status = 'thirteenth' WHERE id <= 12")


async def asked(r: Rig, session_id: str, round_: int) -> ApprovalView:
    """The approval of that round, once it is there."""

    async def there() -> bool:
        return [each.round for each in (await r.view(session_id)).pending_approvals] == [round_]

    await wait_until(there, f"round {round_}", 20)
    return (await r.view(session_id)).pending_approvals[0]


@pytest.mark.usefixtures("twelve")
async def test_twelve_rows_approved_thirteen_touched(
    temporal: Client,
    store_url: str,
    task_queue: str,
    sql_target: SqlTarget,
    sql_admin: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    """Rolled back, asked again with the effect as it is now, told to the model; and then it happens once."""
    query = calls(("sql_query", {"query": UPDATE}))
    before: int = await sql_admin.fetchval("SELECT sum(total) FROM orders")
    tools = [SqlQuery(sql_target)]
    async with rig(temporal, store_url, task_queue, replies=[query, answer()], tools=tools) as r:
        session_id = await r.start()
        first = await asked(r, session_id, 1)
        assert "12 updated" in first.summary
        await sql_admin.execute("UPDATE orders SET status = 'thirteenth' WHERE id = 13")
        await r.decide(first, "approve")
        second = await asked(r, session_id, 2)
        assert "13 updated" in second.summary
        assert await sql_admin.fetchval("SELECT sum(total) FROM orders") == before
        await r.decide(second, "approve")
        view = await r.ended(session_id)
        provider: Any = r.provider
        told = provider.requests[-1].turns[-1].text
    assert view.steps[0].actions[0].status is CallState.SUCCEEDED
    assert await sql_admin.fetchval("SELECT sum(total) FROM orders") == before + 13
    assert "would now change 13 rows" in told
    assert "12" in told
