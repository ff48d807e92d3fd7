"""An engine that stops answering in the middle of a run, as a relay before the real one that can be halted."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
import pytest

from activities.sandbox.docker import DockerSandbox
from activities.sandbox.docker_engine import DEFAULT_URL
from activities.sandbox.docker_labels import CALL
from conductor_ai.settings import Settings
from tests.fixtures_docker import a_job, images, wait_until

pytestmark = pytest.mark.needs_docker

SLEEP = "import time; print('x'); time.sleep(60)"


class Relay:
    """Passes bytes between clients and the real engine; while it is halted, it takes connections and passes nothing."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._going = asyncio.Event()
        self._going.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def halt(self) -> None:
        """From now on nothing passes."""
        self._going.clear()

    def go_on(self) -> None:
        """What was held back passes now."""
        self._going.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        theirs, ours = await asyncio.open_unix_connection(self._engine)
        for source, sink in ((reader, ours), (theirs, writer)):
            task = asyncio.ensure_future(self._pass(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what still passes."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                await self._going.wait()
                sink.write(data)
                await sink.drain()
        sink.close()


@pytest.fixture
async def relay(docker_sandbox: DockerSandbox, docker_settings: Settings, tmp_path: Path) -> AsyncIterator[Relay]:
    """A relay before the engine of the settings, at `s` in the test's folder."""
    host = docker_settings.docker_host or DEFAULT_URL
    if not host.startswith("unix://"):
        pytest.skip("the relay speaks to a unix socket")
    made = Relay(host.removeprefix("unix://"))
    server = await asyncio.start_unix_server(made.serve, path=tmp_path / "s")
    yield made
    server.close()
    await made.close()
    await server.wait_closed()


async def within_a_second(run: "asyncio.Future[Any]") -> None:
    """Cancel it and see it end as cancelled."""
    begun = time.monotonic()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert time.monotonic() - begun < 1


def count(engine: docker.APIClient, call_id: str) -> Callable[[], int]:
    """How many containers a call has, running or not."""
    return lambda: len(engine.containers(all=True, filters={"label": [f"{CALL}={call_id}"]}))


@pytest.mark.parametrize("when", ["before", "made", "running"])
async def test_a_cancel_does_not_wait_for_it(
    relay: Relay, when: str, docker_engine: docker.APIClient, docker_settings: Settings, tmp_path: Path
) -> None:
    """Halted before, during or after the start: the cancel is raised within a second, and nothing is left afterwards."""
    sandbox = DockerSandbox(images(docker_settings), base_url=f"unix://{tmp_path}/s")
    await sandbox.reap()  # connected
    job = a_job(SLEEP, timeout=30)
    there = count(docker_engine, job.call_id)
    if when == "before":
        relay.halt()
    run = asyncio.ensure_future(sandbox.run(job))
    if when == "made":
        await wait_until(lambda: there() == 1, "the container is made")
        relay.halt()
    if when == "running":
        await wait_until(
            lambda: any(
                one["State"] == "running"
                for one in docker_engine.containers(filters={"label": [f"{CALL}={job.call_id}"]})
            ),
            "the container runs",
        )
        relay.halt()
    await asyncio.wait([run], timeout=0.2)
    await within_a_second(run)
    relay.go_on()
    await sandbox.close()
    assert there() == 0


async def test_what_is_ready_is_left_to_its_own_clock(
    relay: Relay, docker_engine: docker.APIClient, docker_settings: Settings, tmp_path: Path
) -> None:
    """A run that takes a ready container from a halted engine is cancelled as quickly."""
    sandbox = DockerSandbox(images(docker_settings), base_url=f"unix://{tmp_path}/s")
    sandbox.keep_ready(1)
    await wait_until(lambda: sandbox._pool is not None and sandbox._pool.full, "the containers are ready", 20)
    relay.halt()
    run = asyncio.ensure_future(sandbox.run(a_job(SLEEP)))
    await asyncio.wait([run], timeout=0.2)
    await within_a_second(run)
    relay.go_on()
    await sandbox.close()
    owner = f"conductor.owner={sandbox._owner}"
    assert docker_engine.containers(all=True, filters={"label": [owner]}) == []
