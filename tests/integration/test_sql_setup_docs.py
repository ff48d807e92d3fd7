"""The set-up that docs/reference/sql_query.md prints, run as it stands, is one that works and that the doctor likes."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from activities.sql.setup import check
from activities.sql.target import SqlTarget
from conductor_ai.embedded.postgres import EmbeddedPostgres
from conductor_ai.errors import ConfigurationError
from conductor_ai.settings import Settings
from conductor_ai.wiring.parts import sql_target as wired
from tests.fixtures_sql import SHOP, Server, Shop, a_call

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "sql_query.md"
NAMES = {"assistant_login": "assistant_login_x", "assistant": "assistant_x", "shop": "documented_shop"}


def commands() -> str:
    """The SQL of the page, with names of the test's own."""
    found = re.search(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return re.sub(r"\b(assistant_login|assistant|shop)\b", lambda name: NAMES[name[0]], found[1])


@pytest.fixture
async def documented(postgres_server: EmbeddedPostgres, sql_server: Server) -> AsyncIterator[Shop]:
    """The shop, set up by the page alone."""
    shop = Shop(sql_server, NAMES["shop"], NAMES["assistant_login"], NAMES["assistant"])
    await postgres_server.create_database(shop.database)
    admin = await asyncpg.connect(shop.admin_url)
    try:
        await admin.execute(SHOP)
        await admin.execute(commands())
        await admin.execute(
            f"GRANT CONNECT ON DATABASE {shop.database} TO {shop.login}"
        )  # the test server gives it to nobody
        yield shop
        await admin.execute(f"DROP OWNED BY {shop.login}, {shop.role}")
    finally:
        await admin.close()
        await postgres_server.drop_database(shop.database)
        admin = await postgres_server.connect("postgres")
        await admin.execute(f"DROP ROLE IF EXISTS {shop.login}, {shop.role}")
        await admin.close()


async def test_the_documented_setup_works_and_holds(documented: Shop) -> None:
    """Reads run; what was not granted does not; the first write makes the ledger; the doctor has nothing to say."""
    target = SqlTarget(documented.url, documented.role, ledger=True, timeout_seconds=5)
    try:
        assert await check(target) == []
        assert (await target.run("SELECT count(*) FROM customers", [], 1, a_call())).ok
        denied = await target.run("UPDATE customers SET name = 'x' WHERE id = 1", [], 1, a_call())
        assert denied.error is not None
        assert "permission denied" in denied.content
        admin = await asyncpg.connect(documented.admin_url)
        await admin.execute(f"GRANT UPDATE ON customers TO {documented.role}")
        await admin.execute(f"REVOKE CREATE ON DATABASE {documented.database} FROM {documented.login}")
        await admin.close()
        call = a_call()
        written = await target.run("UPDATE customers SET name = 'x' WHERE id = 1", [], 1, call)
        assert written.ok, "the ledger exists, so CREATE is needed no more: " + written.content
        assert await target.outcome(call) == written
        big = (
            "SELECT count(*) FROM (SELECT DISTINCT repeat('x', 200) || n AS t FROM generate_series(1, 20000000) g(n)) s"
        )
        assert not (await target.run(big, [], 1, a_call())).ok
        assert await check(target) == []
    finally:
        await target.close()


async def test_the_settings_reach_the_target(documented: Shop) -> None:
    """Tolerance and search path, as the environment gives them, count in the target that the worker gets."""
    values = {
        "sql_url": documented.url,
        "sql_role": documented.role,
        "sql_search_path": "second, public",
        "sql_row_tolerance": 3,
    }
    admin = await asyncpg.connect(documented.admin_url)
    await admin.execute(
        "CREATE SCHEMA second; CREATE TABLE second.customers AS SELECT 'second' AS name;"
        f"GRANT USAGE ON SCHEMA second TO {documented.role}; GRANT SELECT ON second.customers TO {documented.role}"
    )
    await admin.close()
    target = wired(Settings.model_validate(values))
    assert target is not None
    try:
        result = await target.run("SELECT name FROM customers", [], 5, a_call())
        assert isinstance(result.data, dict)
        assert result.data["rows"] == [["second"]]
        assert target.limits.search_path == ("second", "public")
        assert target._row_tolerance == 3
    finally:
        await target.close()


@pytest.mark.parametrize("path", ["", "conductor_ledger", "public,pg_temp", "pg_catalog"])
def test_a_search_path_that_cannot_be_is_refused_at_the_start(path: str) -> None:
    """The ledger's schema and the server's own are no place for the model's names."""
    settings = Settings.model_validate({"sql_url": "postgresql://x@y/z", "sql_role": "r", "sql_search_path": path})
    with pytest.raises(ConfigurationError, match="CONDUCTOR_SQL_SEARCH_PATH"):
        wired(settings)
