"""Several API processes beside each other: what one of them does, the others heed."""

import time
from pathlib import Path

import httpx

from conductor_ai.names import new_id
from conductor_ai.stores.access import Keys, Role
from conductor_ai.stores.postgres import Database
from tests.fixtures_process import api_process
from tests.fixtures_servers import wait_until

KEY_CACHE_SECONDS = 1.0


async def test_a_revoked_key_is_refused_by_every_process(store_url: str, database: Database, tmp_path: Path) -> None:
    """Two processes have seen a key. The one that revokes it refuses it with the next request; the other one, which is told by
    nobody, when its memory is over; both for good."""
    keys, org = Keys(database), new_id("org")
    _, admin = await keys.create(org, "admin", Role.ADMIN)
    revoked, secret = await keys.create(org, "to be revoked", Role.VIEWER)
    shown = {"X-API-Key": secret}
    settings = {"DATABASE_URL": store_url, "CONDUCTOR_KEY_CACHE_SECONDS": str(KEY_CACHE_SECONDS)}
    async with (
        api_process(tmp_path, **settings) as one,
        api_process(tmp_path, **settings) as two,
        httpx.AsyncClient(base_url=one.url, trust_env=False) as here,
        httpx.AsyncClient(base_url=two.url, trust_env=False) as there,
    ):
        for process in (here, there):
            assert (await process.get("/v1/agents", headers=shown)).status_code == 200
        gone = await here.delete(f"/v1/api-keys/{revoked.id}", headers={"X-API-Key": admin})
        assert gone.status_code == 204
        began = time.monotonic()
        assert (await here.get("/v1/agents", headers=shown)).status_code == 401

        async def refused() -> bool:
            return (await there.get("/v1/agents", headers=shown)).status_code == 401

        await wait_until(refused, "the other process to refuse the key")
        assert time.monotonic() - began < KEY_CACHE_SECONDS + 1
        for process in (here, there):
            assert (await process.get("/v1/agents", headers=shown)).status_code == 401
            assert (await process.get("/v1/agents", headers={"X-API-Key": admin})).status_code == 200
