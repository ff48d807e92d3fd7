"""The person is not lied to: nothing hidden in what is shown, nothing that happens later or elsewhere than it was shown."""

import asyncpg
import pytest

from activities.sql import preview as previews
from activities.sql.target import SqlTarget
from activities.tools.sql_query import SqlArguments, SqlQuery, approved_effect
from conductor_ai.contracts.tools import Consequence, ToolResult
from conductor_ai.visible import is_hidden
from tests.fixtures_sql import Shop, a_call

Admin = "asyncpg.Connection[asyncpg.Record]"
HIDING = "\u202e\u200b\u2066\u00ad\ufeff\u2028\x1b\x07\U000e0041"
"""Bidi controls, zero-width characters, a soft hyphen, a line separator, an escape sequence's start, a tag."""


def lines(consequence: Consequence) -> dict[str, str]:
    """The evidence by its label."""
    return {column.label: column.value for column in consequence.evidence}


def code(result: ToolResult) -> str:
    """The error's code."""
    assert result.error is not None, result.content
    return result.error.code


async def test_nothing_is_hidden_from_the_person(
    sql_shop: Shop, sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Names, values, refusals and errors that hold invisible characters show them."""
    table = f'"or{HIDING}ders"'
    await sql_admin.execute(
        f'CREATE TABLE {table} (id int PRIMARY KEY, "sta{HIDING}tus" text); GRANT ALL ON {table} TO {sql_shop.role};'
    )
    await sql_admin.execute(f"INSERT INTO {table} VALUES (1, 'open{HIDING}')")
    for query in (
        f'SELECT "sta{HIDING}tus" FROM {table}',
        f"UPDATE {table} SET \"sta{HIDING}tus\" = 'paid{HIDING}' WHERE id = 1",
        f"DELETE FROM {table} WHERE id = 1",
        f'INSERT INTO {table} ("id") VALUES (2)',
        f'UPDATE {table} SET "nothing{HIDING}" = 1 WHERE id = 1',
        f"UPDATE orders SET total = 'x{HIDING}'::int WHERE id = 1",
        f'SELECT * FROM "none{HIDING}"',
        f"DELETE FROM {table}",
        f'SELECT "pg_sleep"(1) AS "{HIDING}"',
        f"INSERT INTO archive SELECT * FROM orders WHERE note = $1 -- {HIDING}",
    ):
        shown = await sql_target.preview(query, [HIDING] if "$1" in query else [])
        texts = [shown.summary, *(column.label + column.value for column in shown.evidence)]
        assert not [char for text in texts for char in text if is_hidden(char)], query
    shown = await sql_target.preview(f'SELECT "sta{HIDING}tus" FROM {table}', [])
    assert "⟨U+202E⟩" in shown.summary
    assert "⟨U+200B⟩" in lines(shown)["columns"]


async def test_a_name_that_means_something_else_says_so(
    sql_shop: Shop, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A view or foreign table that looks like a table, and a table of another schema in the search path."""
    await sql_admin.execute(
        "CREATE SCHEMA old; CREATE TABLE old.prices (id int PRIMARY KEY);"
        f"GRANT USAGE ON SCHEMA old TO {sql_shop.role}; GRANT ALL ON old.prices TO {sql_shop.role}"
    )
    target = SqlTarget(sql_shop.url, sql_shop.role, ledger=True, timeout_seconds=5, search_path=("public", "old"))
    try:
        shown = lines(await target.preview("SELECT * FROM orders, open_orders, prices, old.prices p, pg_tables", []))
        assert shown["tables"] == (
            "orders, open_orders (view), prices (table old.prices), old.prices, pg_tables (view pg_catalog.pg_tables)"
        )
        many = ", ".join(f"orders o{number}" for number in range(3)) + ", " + ", ".join(f"t{n}" for n in range(60))
        shown = lines(await target.preview(f"SELECT 1 FROM {many}", []))
        assert shown["tables"].endswith("and 21 more")
    finally:
        await target.close()


async def test_what_a_returning_does_is_part_of_the_effect(
    sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A function that calls itself stable and writes, in RETURNING: it is counted before, and so the approved runs."""
    await sql_admin.execute(
        "CREATE FUNCTION loud() RETURNS int LANGUAGE plpgsql AS "
        "$$ BEGIN UPDATE items SET qty = qty + 1 WHERE order_id < 4; RETURN 1; END $$;"
        "CREATE FUNCTION liar() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN loud(); END $$"
    )
    query = "UPDATE orders SET note = 'x' WHERE id = 1 RETURNING id, liar()"
    shown = await sql_target.preview(query, [])
    assert lines(shown)["effect"].startswith("public.items: 6 updated; public.orders: 1 updated")
    assert '"note": "x"' in lines(shown)["rows after"]
    assert await sql_admin.fetchval("SELECT sum(qty) FROM items") == 60
    assert (await sql_target.run(query, [], 1, a_call(), approved_effect(shown.data))).ok
    assert await sql_admin.fetchval("SELECT sum(qty) FROM items") == 66


DEFERRED = """
CREATE TABLE who (name text);
GRANT ALL ON who TO PUBLIC;
CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO who VALUES (current_user); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION later();
"""


@pytest.mark.parametrize("ledger", [True, False])
async def test_what_waits_for_the_commit_is_counted_and_has_the_roles_rights(
    sql_shop: Shop, sql_admin: "asyncpg.Connection[asyncpg.Record]", ledger: bool
) -> None:
    """A trigger that is put off until the commit comes before it: under the role, and held against the approval."""
    target = SqlTarget(sql_shop.url, sql_shop.role, ledger, timeout_seconds=5)
    tool = SqlQuery(target)
    arguments = SqlArguments(query="UPDATE orders SET note = 'x' WHERE id < 3")
    try:
        shown = await tool.prepare(arguments, a_call())
        await sql_admin.execute(DEFERRED)
        assert code(await tool.run(arguments, a_call(seen=shown.data))) == "rows_changed"
        assert await sql_admin.fetchval("SELECT count(*) FROM who") == 0
        again = await tool.prepare(arguments, a_call())
        assert "triggers" in lines(again)["effect"]
        assert (await tool.run(arguments, a_call(seen=again.data))).ok
        assert await sql_admin.fetchval("SELECT string_agg(DISTINCT name, ' ') FROM who") == sql_shop.role
    finally:
        await tool.close()


async def test_a_server_that_no_longer_counts_is_no_way_around_the_guard(
    sql_shop: Shop, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """With track_counts off every effect would look like none: it is asked again, and the person is told why."""
    query = "UPDATE orders SET note = 'x' WHERE id < 3"
    first = SqlTarget(sql_shop.url, sql_shop.role, ledger=True, timeout_seconds=5)
    seen = approved_effect((await first.preview(query, [])).data)
    await first.close()
    await sql_admin.execute(f"ALTER ROLE {sql_shop.login} SET track_counts = off")
    target = SqlTarget(sql_shop.direct_url, sql_shop.role, ledger=True, timeout_seconds=5)
    try:
        assert code(await target.run(query, [], 1, a_call(), seen)) == "rows_changed"
        assert await sql_admin.fetchval("SELECT count(*) FROM orders WHERE note = 'x'") == 0
        shown = await target.preview(query, [])
        assert "track_counts" in lines(shown)["effect"]
        assert (await target.run(query, [], 1, a_call(), approved_effect(shown.data))).ok
    finally:
        await target.close()


async def test_a_wide_table_stays_readable(
    sql_shop: Shop, sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Three hundred columns of long texts, in a sample: what is shown and stored stays small."""
    columns = ", ".join(f"column_{number} text DEFAULT repeat('x', 1000)" for number in range(300))
    await sql_admin.execute(f"CREATE TABLE wide (id int PRIMARY KEY, {columns}); GRANT ALL ON wide TO {sql_shop.role}")
    await sql_admin.execute("INSERT INTO wide SELECT n FROM generate_series(1, 9) AS g(n)")
    shown = await sql_target.preview("UPDATE wide SET column_7 = 'y' WHERE id > 0", [])
    assert lines(shown)["effect"].startswith("public.wide: 9 updated")
    assert all(len(column.value.encode()) <= 16_100 for column in shown.evidence)
    assert len(shown.model_dump_json()) < 600_000


async def test_the_parts_of_a_trial_share_one_limit(sql_target: SqlTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows before, rows after and the run itself, each just within the limit: together they are not, and that is told."""
    monkeypatch.setattr(previews, "TRIAL_SECONDS", 1.0)
    monkeypatch.setattr(previews, "ROUND_TRIPS_SECONDS", 0.0)
    slow = "(SELECT count(*) FROM generate_series(1, 3000000) AS g(n) WHERE n > orders.id * 0) > 0"
    shown = await sql_target.preview(f"UPDATE orders SET note = 'x' WHERE id = 1 AND {slow} RETURNING id", [])
    assert "took" in lines(shown)["effect"]
    assert shown.summary.endswith("how many rows is not known.")


async def test_a_write_that_cannot_be_looked_up_says_so_of_its_effect(sql_target: SqlTarget) -> None:
    """Where already the analysis fails, nobody may think that nothing will be changed."""
    shown = await sql_target.preview("UPDATE nothing SET a = 1 WHERE id = 1", [])
    assert lines(shown)["effect"].startswith("not available: ")
    assert shown.risk == "high"


async def test_a_forged_ledger_is_not_written_to(
    sql_shop: Shop, sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A table of the ledger's name that somebody else made could run their trigger with the login's rights."""
    await sql_admin.execute(
        f"""
        CREATE SCHEMA conductor_ledger;
        CREATE TABLE conductor_ledger.calls (
            call_id text PRIMARY KEY, arguments_sha256 text, state text, result jsonb, at timestamptz DEFAULT now()
        );
        GRANT ALL ON SCHEMA conductor_ledger TO {sql_shop.login}; GRANT ALL ON conductor_ledger.calls TO {sql_shop.login};
        CREATE TABLE caught (who text); GRANT ALL ON caught TO PUBLIC;
        CREATE FUNCTION snare() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO caught VALUES (current_user); RETURN NEW; END $$;
        CREATE TRIGGER snare BEFORE INSERT ON conductor_ledger.calls FOR EACH ROW EXECUTE FUNCTION snare();
        """
    )
    result = await sql_target.run("UPDATE orders SET note = 'x' WHERE id = 1", [], 1, a_call())
    assert code(result) == "not_configured"
    assert "owner" in result.content
    assert await sql_target.outcome(a_call()) is None
    assert await sql_admin.fetchval("SELECT count(*) FROM caught") == 0
    assert await sql_admin.fetchval("SELECT count(*) FROM orders WHERE note = 'x'") == 0
