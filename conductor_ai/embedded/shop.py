"""The demo shop's database and its roles: what `sql_query` works on unless CONDUCTOR_SQL_URL says otherwise."""

from pathlib import Path

from conductor_ai.embedded.postgres import EmbeddedPostgres

SHOP = "shop"
"""The database."""
LOGIN = "shop_login"
"""Who sql_query logs in as: owns the ledger's schema, and may become the agent."""
AGENT = "shop_agent"
"""Who the model's statements run as: rows of the shop's tables, and nothing else."""
OWNER = "shop_owner"
"""Who the shop's tables belong to; nobody logs in as it."""
LEDGER_SCHEMA = "conductor_ledger"
"""Made for the ledger of sql_query, in which the login keeps what has been written."""

TABLES = Path(__file__).with_name("shop.sql")

RIGHTS = f"""
CREATE SCHEMA {LEDGER_SCHEMA} AUTHORIZATION {LOGIN};
REVOKE ALL ON SCHEMA {LEDGER_SCHEMA} FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO {AGENT}, {OWNER};
GRANT SELECT, INSERT, UPDATE, DELETE ON customers, products, orders, order_items TO {AGENT};
ALTER TABLE customers OWNER TO {OWNER};
ALTER TABLE products OWNER TO {OWNER};
ALTER TABLE orders OWNER TO {OWNER};
ALTER TABLE order_items OWNER TO {OWNER};
-- Large objects are the one kind of thing that Postgres lets anybody create.
REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC;
"""


async def ensure_shop(postgres: EmbeddedPostgres) -> str:
    """Makes the shop unless it is there, and returns the URL that `sql_query` logs in with (user `shop_login`).

    A start cut off half-way is made good by the next one: each step looks whether it is done, and tables, rows and
    rights come in one transaction.
    """
    admin = await postgres.connect("postgres")
    try:
        for role in (AGENT, OWNER):
            if not await admin.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
                await admin.execute(f"CREATE ROLE {role} NOLOGIN")
        await admin.execute(f"GRANT {AGENT} TO {LOGIN}")
        if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", SHOP):
            await admin.execute(f"CREATE DATABASE {SHOP} TEMPLATE template0")
        await admin.execute(f"REVOKE ALL ON DATABASE {SHOP} FROM PUBLIC")
        await admin.execute(f"GRANT CONNECT, CREATE ON DATABASE {SHOP} TO {LOGIN}")
    finally:
        await admin.close()
    shop = await postgres.connect(SHOP)
    try:
        async with shop.transaction():
            if await shop.fetchval("SELECT to_regclass('public.orders')") is None:
                await shop.execute(TABLES.read_text(encoding="utf-8"))
                await shop.execute(RIGHTS)
    finally:
        await shop.close()
    return postgres.url_for(SHOP, LOGIN)
