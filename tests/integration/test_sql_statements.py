"""Every statement that the gate calls legitimate runs on a real Postgres, as the tool runs it."""

from collections.abc import AsyncIterator

import pytest

from activities.sql import catalog, statement
from activities.sql.catalog_names import QUIET_NAMES
from activities.sql.classify import classify
from activities.sql.connection import Connection
from activities.sql.functions import HARMLESS_VOLATILE, denied
from activities.sql.rows import Rows
from activities.sql.target import SqlTarget
from conductor_ai.contracts.tools import SqlClass
from tests.fixtures_sql import Shop, a_call
from tests.fixtures_sql_statements import READS, WRITES, XML_READS


@pytest.fixture(scope="module")
async def target(routed_sql_shop: Shop) -> AsyncIterator[SqlTarget]:
    """The module's shop."""
    made = SqlTarget(routed_sql_shop.url, routed_sql_shop.role, ledger=True, timeout_seconds=20)
    yield made
    await made.close()


@pytest.mark.parametrize("query", READS)
async def test_an_allowed_read_runs(target: SqlTarget, query: str) -> None:
    """The gate lets nothing through that the server or our wrapping would not take."""
    result = await target.run(query, [], 50, a_call())
    assert result.ok, result.content


@pytest.mark.parametrize("query", XML_READS)
async def test_an_allowed_read_of_xml_runs(target: SqlTarget, query: str) -> None:
    """The same for XML, unless the server was built without it; it has parsed and understood the statement then too."""
    result = await target.run(query, [], 50, a_call())
    assert result.ok or "libxml" in result.content, result.content


@pytest.mark.parametrize("query", WRITES)
async def test_an_allowed_write_runs(target: SqlTarget, query: str) -> None:
    """Writes run too; here they are rolled back, so that the shop stays as it is."""
    verdict = classify(query)

    async def work(connection: Connection) -> Rows:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await target.limits.enter(connection)
            await target.limits.become_role(connection)
            assert await catalog.look_up(connection, verdict, target.limits.search_path) is None
            prepared = await statement.prepare(connection, verdict, [])
            return await statement.run(connection, prepared, 10, 20)
        finally:
            await transaction.rollback()

    rows = await target.connections.use(work)
    assert bool(rows.columns) == verdict.returns_rows


@pytest.mark.parametrize("query", WRITES)
async def test_an_allowed_write_can_be_previewed(target: SqlTarget, query: str) -> None:
    """The preview of a legitimate write knows its effect, unless it says that a sequence is in the way; and a second
    preview gives the same effect, so the first changed nothing."""
    first, second = [await target.preview(query, []) for _ in range(2)]
    assert first.refused is None
    assert isinstance(first.data, dict)
    assert isinstance(second.data, dict)
    assert first.data["effect"] == second.data["effect"]
    assert (first.data["effect"] is None) == ("nextval(" in query), first


async def test_the_frozen_list_of_functions_is_true(target: SqlTarget) -> None:
    """No name in the list has a volatile overload on this server, and what the server has more of is refused or
    known: nothing volatile slips through as unknown."""

    async def work(connection: Connection) -> tuple[set[str], set[str]]:
        rows = await connection.fetch(
            "SELECT proname, bool_or(provolatile = 'v') AS v FROM pg_proc "
            "WHERE pronamespace = 'pg_catalog'::regnamespace GROUP BY 1"
        )
        return {row[0] for row in rows if row[1]}, {row[0] for row in rows}

    volatile, everything = await target.connections.use(work)
    assert not QUIET_NAMES & volatile
    assert everything >= QUIET_NAMES
    for name in volatile - HARMLESS_VOLATILE - {"nextval"}:
        refused = denied(name) is not None
        assert refused or await _refused_by_catalog(target, name), name


async def _refused_by_catalog(target: SqlTarget, name: str) -> bool:
    verdict = classify(f'SELECT "{name}"()')
    found = await target.connections.use(lambda connection: catalog.look_up(connection, verdict, ("public",)))
    return verdict.sql_class is SqlClass.READ and found is not None
