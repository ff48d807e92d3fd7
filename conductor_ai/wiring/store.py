"""The store: its schema and its first key."""

from conductor_ai.errors import NotFound
from conductor_ai.settings import Settings
from conductor_ai.stores.access import Key, Keys, Role
from conductor_ai.stores.migrate import migrate
from conductor_ai.stores.postgres import Database


async def run_migrations(settings: Settings) -> list[str]:
    """Bring the store's schema up to this version. Returns what was applied."""
    return await migrate_url(settings.store_url, pooler=settings.store_behind_pooler)


async def migrate_url(url: str, *, pooler: bool | None = None) -> list[str]:
    """Bring the schema of the database at this URL up to this version."""
    database = Database(url, size=1, pooler=pooler)
    try:
        return await migrate(database)
    finally:
        await database.close()


async def make_key(settings: Settings, *, org: str, name: str, role: Role) -> str:
    """Make an API key. Returns its secret, which is not stored."""
    database = Database(settings.store_url, size=1, pooler=settings.store_behind_pooler)
    try:
        _, secret = await Keys(database).create(org, name, role)
        return secret
    finally:
        await database.close()


async def list_keys(settings: Settings, *, org: str) -> list[Key]:
    """The newest 200 keys of an organisation."""
    database = Database(settings.store_url, size=1, pooler=settings.store_behind_pooler)
    try:
        return await Keys(database).list(org, limit=200)
    finally:
        await database.close()


async def revoke_key(settings: Settings, key_id: str, *, org: str) -> None:
    """Revoke a key for good.

    Raises:
        NotFound: the organisation has no such key.
    """
    database = Database(settings.store_url, size=1, pooler=settings.store_behind_pooler)
    try:
        if not await Keys(database).revoke(org, key_id):
            raise NotFound(
                f"The organisation {org} has no key {key_id}. `conductor keys list` shows those that it has."
            )
    finally:
        await database.close()
