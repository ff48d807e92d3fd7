"""Temporal, Redis and the demo page as children."""

import asyncio
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from conductor_ai.embedded.children import spawn
from conductor_ai.embedded.guard import start_of
from conductor_ai.embedded.page import EmbeddedPage
from conductor_ai.embedded.ports import http_get, listener
from conductor_ai.embedded.redis import EmbeddedRedis, Kind, find_server
from conductor_ai.embedded.temporal import HTTP_NAME, EmbeddedTemporal
from conductor_ai.errors import ConfigurationError
from conductor_ai.names import ORG
from tests.fixtures_servers import wait_until

REAL = shutil.which("redis-server")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(Kind.SERVER, marks=[pytest.mark.needs_redis_server, pytest.mark.skipif(not REAL, reason="none")]),
        Kind.FAKE,
    ],
)
async def redis_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[EmbeddedRedis]:
    """Either kind of Redis, running."""
    server = Path(REAL) if REAL and request.param is Kind.SERVER else None
    redis = EmbeddedRedis(server=server, log=tmp_path_factory.mktemp("redis") / "redis.log")
    await redis.start()
    yield redis
    await redis.stop()


async def test_redis_does_what_the_hot_store_needs(redis_server: EmbeddedRedis) -> None:
    """Scripts, streams with a cap, expiry, transactions and blocking reads, over TCP."""
    async with Redis.from_url(redis_server.url) as redis:
        await redis.set("a", "1", ex=60)
        assert await redis.eval("return redis.call('GET', KEYS[1]) .. ARGV[1]", 1, "a", "2") == b"12"
        for number in range(30):
            await redis.xadd("stream", {"n": str(number)}, maxlen=10, approximate=False)
        assert await redis.xlen("stream") == 10
        assert await redis.expire("stream", 50)
        assert 0 < await redis.ttl("stream") <= 50
        assert len(await redis.xread({"stream": "0"}, block=100)) == 1
        async with redis.pipeline(transaction=True) as pipe:
            pipe.hset("hash", mapping={"version": "3", "document": "{}"})
            pipe.expire("hash", 60)
            assert await pipe.execute() == [2, True]


async def test_redis_publishes(redis_server: EmbeddedRedis) -> None:
    """A subscriber gets what another connection publishes."""
    async with Redis.from_url(redis_server.url) as redis, redis.pubsub() as subscriber:
        await subscriber.subscribe("ring")
        assert (await subscriber.get_message(timeout=5) or {})["type"] == "subscribe"
        await redis.publish("ring", "hello")
        assert (await subscriber.get_message(timeout=5) or {})["data"] == b"hello"


async def test_redis_wants_its_password(redis_server: EmbeddedRedis) -> None:
    """Neither a wrong password nor none gets an answer; the right one still does."""
    password = redis_server.url.split(":")[2].partition("@")[0]
    for wrong in (redis_server.url.replace(password, "wrong"), redis_server.url.replace(f":{password}@", "")):
        async with Redis.from_url(wrong) as redis:
            with pytest.raises(AuthenticationError):
                await redis.get("a")
    async with Redis.from_url(redis_server.url) as redis:
        assert await redis.ping()


async def test_redis_comes_back_on_its_port(tmp_path: Path) -> None:
    """After SIGKILL the same object starts again where clients look for it; the data is gone, as it may be."""
    redis = EmbeddedRedis(server=find_server(os.environ), log=tmp_path / "log")  # noqa: TID251 - PATH of the tests
    await redis.start()
    try:
        assert redis.child is not None
        url, child = redis.url, redis.child
        child.send(signal.SIGKILL)
        await child.wait()
        await redis.start()
        assert redis.url == url
        async with Redis.from_url(url) as client:
            assert await client.ping()
    finally:
        await redis.stop()


async def test_a_server_that_is_none_is_told_with_its_log(tmp_path: Path) -> None:
    """A program that ends at once gives a sentence with what it wrote."""
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho I am broken\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(ConfigurationError, match="I am broken"):
        await EmbeddedRedis(server=program, log=tmp_path / "log").start()


async def test_temporal_keeps_its_workflows_over_a_kill(tmp_path: Path) -> None:
    """A workflow started before SIGKILL is there afterwards; address and search attributes are as before."""
    temporal = EmbeddedTemporal(tmp_path / "temporal")
    await temporal.start()
    try:
        client = await Client.connect(temporal.address)
        attributes = TypedSearchAttributes([SearchAttributePair(ORG, "demo")])
        await client.start_workflow("Nobody", id="kept", task_queue="none", search_attributes=attributes)
        assert temporal.child is not None
        address, child = temporal.address, temporal.child
        child.send(signal.SIGKILL)
        await child.wait()
        began = time.monotonic()
        await temporal.start()
        assert time.monotonic() - began < 5
        assert temporal.address == address
        again = await Client.connect(temporal.address)
        description = await again.get_workflow_handle("kept").describe()
        assert description.typed_search_attributes.get(ORG) == "demo"
        assert (tmp_path / "temporal" / "temporal.db-wal").exists()
        assert (tmp_path / "temporal").stat().st_mode & 0o777 == 0o700
    finally:
        await temporal.stop()


async def test_temporal_serves_its_ui_and_attributes(temporal_server: EmbeddedTemporal) -> None:
    """The UI answers on its own port, and every search attribute has the type that the code uses."""
    assert (await http_get("127.0.0.1", temporal_server.ui_port, "/"))[0] == 200
    path = "/api/v1/namespaces/default/search-attributes"
    _, body = await http_get("127.0.0.1", temporal_server.http_port, path, name=HTTP_NAME)
    types = json.loads(body)["customAttributes"]
    assert {name: types[name].rpartition("_")[2] for name in types if name.startswith("Conductor")} == {
        "ConductorOrg": "KEYWORD",
        "ConductorStatus": "KEYWORD",
        "ConductorModel": "KEYWORD",
        "ConductorNeedsApproval": "BOOL",
        "ConductorCostUsd": "DOUBLE",
    }


async def test_somebody_else_on_the_port_is_not_taken_for_the_server(tmp_path: Path) -> None:
    """With its port taken the server gets another: what answers is always the child."""
    with listener() as other:
        temporal = EmbeddedTemporal(tmp_path / "temporal")
        temporal.port, temporal.ui_port, temporal.http_port = other.getsockname()[1], 1, 1
        await temporal.start()
        try:
            assert temporal.port != other.getsockname()[1]
            client = await Client.connect(temporal.address)
            assert await client.service_client.check_health()
        finally:
            await temporal.stop()


async def test_the_demo_page_has_a_title_links_and_figures(tmp_path: Path) -> None:
    """Page and JSON agree, the links lead somewhere, and nothing else is served."""
    page = EmbeddedPage(log=tmp_path / "page.log")
    await page.start()
    try:
        status, body = await http_get("127.0.0.1", page.port, "/")
        assert status == 200
        assert b"<title>" in body
        for path in ("/rates.json", "/terms.html"):
            assert f'href="{path}"'.encode() in body
            assert (await http_get("127.0.0.1", page.port, path))[0] == 200
        figures = json.loads((await http_get("127.0.0.1", page.port, "/rates.json"))[1])
        assert all(sku.encode() in body for sku in figures["products"])
        for path in ("/index.html", "/../page.py", "/%2e%2e/page.py", "//etc/passwd"):
            assert (await http_get("127.0.0.1", page.port, path))[0] == 404
    finally:
        await page.stop()


async def test_a_child_that_ignores_the_request_to_end_is_killed(tmp_path: Path) -> None:
    """After its grace, and at once when there is a hurry; what it started in its group goes with it."""
    stubborn = ("/bin/sh", "-c", "trap '' TERM; sleep 600 & echo $!; while :; do sleep 1; done")
    for grace, hurry in ((0.2, None), (600.0, asyncio.Event())):
        log = tmp_path / f"{grace}.log"
        child = await spawn(stubborn, name="stubborn", environ={"PATH": "/usr/bin:/bin"}, log=log)
        async with asyncio.timeout(10):
            while not log.read_text().strip():
                await asyncio.sleep(0.01)
        if hurry is not None:
            hurry.set()
        began = time.monotonic()
        await child.stop(signal.SIGTERM, grace=grace, hurry=hurry)
        assert time.monotonic() - began < 5
        assert not child.alive
        helper = int(log.read_text())

        async def gone(pid: int = helper) -> bool:
            return start_of(pid) is None

        await wait_until(gone, "the rest of its group to end")


async def test_a_program_that_is_not_there_says_so(tmp_path: Path) -> None:
    """The log has a sentence with the path."""
    child = await spawn(("/nowhere/program",), name="none", environ={}, log=tmp_path / "log")
    assert await child.wait() == 127
    assert "/nowhere/program cannot be started" in (tmp_path / "log").read_text()


def test_a_socket_that_is_handed_over_stays_open() -> None:
    """The listening sockets of page and fake Redis are not inheritable by accident."""
    with listener() as ours:
        assert not ours.get_inheritable()
        assert ours.family is socket.AF_INET
