"""`conductor keys` on a real database: the keys that the API knows."""

import asyncio

import pytest

from conductor_ai.cli import keys
from conductor_ai.errors import NotFound
from conductor_ai.names import new_id
from conductor_ai.settings import Settings
from conductor_ai.stores.access import Keys, Role
from conductor_ai.stores.postgres import Database


async def test_list_and_revoke(database: Database, store_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A key is listed without its secret, revoked by its id within its organisation alone, and then opens nothing."""
    settings, org = Settings.model_validate({"database_url": store_url}), new_id("org")
    await asyncio.to_thread(keys.list_keys, settings, org=org)
    assert "has no keys" in capsys.readouterr().out
    key, secret = await Keys(database).create(org, "nightly \x1b[31m", Role.OPERATOR)
    await asyncio.to_thread(keys.list_keys, settings, org=org)
    listed = capsys.readouterr().out
    assert key.id in listed
    assert "operator" in listed
    assert "revoked" not in listed
    assert secret not in listed
    assert "\x1b[31m" not in listed
    with pytest.raises(NotFound, match="conductor keys list"):
        await asyncio.to_thread(keys.revoke_key, settings, key.id, org=new_id("org"))
    assert await Keys(database).find(secret) is not None
    for _ in range(2):
        await asyncio.to_thread(keys.revoke_key, settings, key.id, org=org)
        assert "is revoked" in capsys.readouterr().out
    assert await Keys(database).find(secret) is None
    await asyncio.to_thread(keys.list_keys, settings, org=org)
    assert "revoked 2" in capsys.readouterr().out
