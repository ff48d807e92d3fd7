"""Limits over HTTP: requests of a key, open sessions of an organisation; always 429 with Retry-After, never more."""

import asyncio
import time
from typing import Any

import redis.asyncio

from conductor_ai import names
from conductor_ai.stores.access import Role
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.tools import Tools
from conductor_ai.temporal import Engine
from tests.fixtures_api import HELLO, PUBLISHED, is_problem, serving


async def test_requests_of_a_key(database: Database, standing_in: Engine, hot: Hot, redis_url: str) -> None:
    """All processes count one key together; another key is welcome; after Retry-After it goes on; the count has a TTL."""
    limits: dict[str, Any] = {"rate_limit": 1.0, "rate_burst": 6}
    async with (
        serving(database, standing_in, hot, **limits) as one,
        serving(database, standing_in, hot, **limits) as two,
    ):
        key = one.as_(Role.VIEWER)
        before = time.monotonic()
        answers = [await process.http.get("/v1/models", headers=key) for process in (one, two) * 6]
        codes = [answer.status_code for answer in answers]
        assert codes[:6] == [200] * 6
        assert 12 - codes.count(200) >= 6 - (time.monotonic() - before) - 1
        refused = answers[codes.index(429)]
        is_problem(refused, 429, "rate_limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 2
        assert (await one.get("/v1/models", role=Role.OPERATOR)).status_code == 200
        assert (await one.http.get("/livez")).status_code == 200
        await asyncio.sleep(int(refused.headers["retry-after"]))
        assert (await one.http.get("/v1/models", headers=key)).status_code == 200
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            found = [found async for found in client.scan_iter(names.rate_key(one.org, "*"))]
            assert len(found) == 2
            assert all([0 < await client.ttl(name) <= 60 for name in found])


async def test_open_sessions_of_an_organisation(database: Database, standing_in: Engine, hot: Hot) -> None:
    """Parallel starts at two processes cannot exceed the limit; nothing is left of those refused; an end makes room; a repeated
    start is answered and needs none; other organisations are not asked."""
    await Tools(database).publish("main", PUBLISHED)
    limits: dict[str, Any] = {"sessions_per_org": 3}
    async with (
        serving(database, standing_in, hot, **limits) as api,
        serving(database, standing_in, hot, **limits) as two,
    ):
        two.secrets, two.org = api.secrets, api.org
        answers = await asyncio.gather(
            *(
                process.post(
                    "/v1/agents/run", HELLO, headers={"Idempotency-Key": f"{process is api} {n}".replace(" ", "-")}
                )
                for process in (api, two)
                for n in range(6)
            )
        )
        started = [answer for answer in answers if answer.status_code == 202]
        assert len(started) == 3
        for answer in answers:
            if answer not in started:
                is_problem(answer, 429, "too_many_sessions")
                assert int(answer.headers["retry-after"]) > 0
        assert len((await api.get("/v1/agents")).json()["data"]) == 3
        assert (await (await api.other()).post("/v1/agents/run", HELLO)).status_code == 202
        at = answers.index(started[0])
        again = await api.post("/v1/agents/run", HELLO, headers={"Idempotency-Key": f"{at < 6}-{at % 6}"})
        assert (again.status_code, again.json()["session_id"]) == (202, started[0].json()["session_id"])
        ended = started[0].json()["session_id"]
        await api.hand.step(ended, text="Done.")
        await api.hand.finish(ended)
        refused_at = next(n for n, answer in enumerate(answers) if answer.status_code == 429)
        retried = await api.post(
            "/v1/agents/run", HELLO, headers={"Idempotency-Key": f"{refused_at < 6}-{refused_at % 6}"}
        )
        assert retried.status_code == 202
        is_problem(await api.post("/v1/agents/run", HELLO), 429, "too_many_sessions")
