"""The SQL of docs/how-to/connect-a-database.md makes a target on which nothing is left to complain about."""

import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest

from activities.sql.setup import check
from activities.sql.target import SqlTarget
from activities.tools.base import NotExecuted
from infra.docs.source import ROOT
from tests.fixtures_sql import Server, a_call

PAGE = (ROOT / "docs/how-to/connect-a-database.md").read_text(encoding="utf-8")
ROLES, GRANT, LEDGER = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


@dataclass(frozen=True)
class Place:
    """A database with the page's roles, named so that two tests at once do not meet."""

    server: Server
    name: str

    def sql(self, text: str) -> str:
        """The page's SQL with names of this place."""
        text = text.replace("DATABASE shop", f"DATABASE {self.name}")
        return re.sub(r"\bassistant", f"{self.name}_assistant", text)

    async def run(self, *texts: str) -> None:
        """Run SQL of the page as a superuser."""
        admin = await asyncpg.connect(self.server.url("conductor", self.name))
        try:
            for text in texts:
                await admin.execute(self.sql(text))
        finally:
            await admin.close()

    def target(self) -> SqlTarget:
        """What the page's settings make of it."""
        url = self.server.url(f"{self.name}_assistant_login", self.name)
        return SqlTarget(url, f"{self.name}_assistant", ledger=True, timeout_seconds=10)


@pytest.fixture
async def place(sql_server: Server) -> AsyncIterator[Place]:
    """A database with one table of products."""
    name = f"docs_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(sql_server.url("conductor", "postgres"))
    await admin.execute(f"CREATE DATABASE {name}")
    made = Place(sql_server, name)
    await made.run(
        "CREATE TABLE products (id int PRIMARY KEY, price_eur numeric); INSERT INTO products VALUES (1, 2.50)"
    )
    try:
        yield made
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.execute(f"DROP ROLE IF EXISTS {name}_assistant_login, {name}_assistant")
        await admin.close()


@pytest.mark.parametrize("ledger", [GRANT, LEDGER], ids=["made by the login", "made before"])
async def test_the_page_sets_a_target_up(place: Place, ledger: str) -> None:
    """Both ways of the ledger: `conductor doctor` finds nothing, an approved write runs once, the role cannot see the ledger."""
    await place.run(ROLES, ledger)
    target = place.target()
    try:
        assert await check(target) == []
        call = a_call()
        update = "UPDATE products SET price_eur = price_eur + 1 WHERE id = $1"
        for _ in range(2):
            result = await target.run(update, (1,), 10, call, None)
            assert result.ok, result.content
        read = await target.run("SELECT price_eur FROM products", (), 10, a_call(), None)
        assert "3.50" in read.content
        spied = await target.run("SELECT count(*) FROM conductor_ledger.calls", (), 10, a_call(), None)
        assert not spied.ok
        assert isinstance(await target.outcome(a_call()), NotExecuted)
        assert await check(target) == []
    finally:
        await target.close()


async def test_a_role_without_rights_is_told(place: Place) -> None:
    """Without the ledger's step `conductor doctor` says what is missing: the test above can fail."""
    await place.run(ROLES)
    target = place.target()
    try:
        assert any("ledger" in problem for problem in await check(target))
    finally:
        await target.close()
