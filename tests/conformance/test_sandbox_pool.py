"""Containers that Docker's sandbox makes ahead: one job each, as hard as any other, never more than allowed, never left."""

import asyncio
import json
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from activities.sandbox.base import Language
from activities.sandbox.docker import DockerSandbox
from activities.sandbox.docker_container import Container
from activities.sandbox.docker_labels import DEADLINE, OWNER, SANDBOX, known
from activities.sandbox.docker_pool import Pool
from conductor_ai.errors import ToolUnavailable
from conductor_ai.settings import Settings
from tests.fixtures_docker import MakeDocker, a_job, images, until_full, wait_until

pytestmark = pytest.mark.needs_docker

SIZE = 2


@pytest.fixture
async def ready(make_docker: MakeDocker) -> AsyncIterator[DockerSandbox]:
    """A sandbox of the test's own that keeps two containers of each language ready."""
    sandbox = make_docker()
    sandbox.keep_ready(SIZE)
    await until_full(sandbox)
    yield sandbox
    await sandbox.close()


def of_owner(engine: docker.APIClient, owner: object) -> dict[str, dict[str, Any]]:
    """The containers of one owner, by id, as the engine lists them."""
    found = engine.containers(all=True, filters={"label": [f"{OWNER}={owner}"]})
    return {one["Id"]: one for one in found}


def mine(engine: docker.APIClient, sandbox: DockerSandbox) -> dict[str, dict[str, Any]]:
    """The containers of one sandbox."""
    return of_owner(engine, sandbox._owner)


async def test_each_is_used_once_and_replaced(ready: DockerSandbox, docker_engine: docker.APIClient) -> None:
    """A run takes one that was there before, under a name that tells its call; then it is gone, and another one is made."""
    before = set(mine(docker_engine, ready))
    assert len(before) == SIZE * len(Language)
    job = a_job("import time; time.sleep(0.7); print('ran')")
    run = asyncio.ensure_future(ready.run(job))
    await wait_until(
        lambda: any(job.call_id in one["Names"][0] for one in mine(docker_engine, ready).values()), "one has the job"
    )
    (taken,) = [key for key, one in mine(docker_engine, ready).items() if job.call_id in one["Names"][0]]
    assert taken in before
    assert (await run).stdout == "ran\n"
    with pytest.raises(docker.errors.NotFound):
        docker_engine.inspect_container(taken)
    await until_full(ready)
    after = set(mine(docker_engine, ready))
    assert len(after) == SIZE * len(Language)
    assert before - after == {taken}


async def test_there_are_never_too_many(ready: DockerSandbox, docker_engine: docker.APIClient) -> None:
    """Ten runs at once: all come back, what is ready at any moment stays within its bound, and so does what there is at all.

    What is ready is asked of the pool: one that was taken keeps its old name until the engine has renamed it.
    """
    pool = ready._pool
    assert pool is not None
    runs = asyncio.gather(*(ready.run(a_job(f"print({number})")) for number in range(10)))
    most, most_listed = 0, 0
    while not runs.done():
        most_listed = max(most_listed, len(await asyncio.to_thread(mine, docker_engine, ready)))
        most = max(most, *(len(waiting) for waiting in pool._ready.values()))
        await asyncio.sleep(0.02)
    assert [outcome.stdout for outcome in await runs] == [f"{number}\n" for number in range(10)]
    assert 0 < most <= SIZE
    assert most_listed <= SIZE * len(Language) + 10
    await until_full(ready)
    await wait_until(lambda: len(mine(docker_engine, ready)) == SIZE * len(Language), "only what is ready to be left")


async def test_they_are_as_hard_as_any_other(ready: DockerSandbox, docker_engine: docker.APIClient) -> None:
    """The engine tells the same of a ready container and of one made for a job; the ready one knows nothing of any job."""
    (one, *_) = [
        docker_engine.inspect_container(key)
        for key, listed in mine(docker_engine, ready).items()
        if listed["Image"] == ready._images[Language.PYTHON]
    ]
    job = a_job("import time; time.sleep(60)", timeout=30)
    cold = DockerSandbox(ready._images, base_url=Settings().docker_host)
    run = asyncio.ensure_future(cold.run(job))
    await wait_until(lambda: len(mine(docker_engine, cold)) == 1, "the other one runs")
    (other,) = [docker_engine.inspect_container(key) for key in mine(docker_engine, cold)]
    run.cancel()
    await asyncio.wait([run])
    await cold.close()
    assert one["HostConfig"] == other["HostConfig"]
    for differs in ("Labels", "Entrypoint"):
        first, second = one["Config"].pop(differs), other["Config"].pop(differs)
        if differs == "Entrypoint":  # but for how long it waits
            assert [(a, b) for a, b in zip(first, second, strict=True) if a != b] == [("660", "30")]
    assert one["Config"] == other["Config"]
    assert one["State"]["Running"]
    assert set(docker_engine.inspect_container(one["Id"])["Config"]["Labels"]) == {SANDBOX, DEADLINE, OWNER}


async def test_one_that_died_is_not_used(ready: DockerSandbox, docker_engine: docker.APIClient) -> None:
    """Killed or removed by somebody: the next runs work, with others, and what is missing is made again."""
    listed = [key for key, one in mine(docker_engine, ready).items() if one["Image"] == ready._images[Language.PYTHON]]
    docker_engine.kill(listed[0])
    docker_engine.remove_container(listed[1], force=True)
    outcomes = [await ready.run(a_job(f"print({number})")) for number in range(3)]
    assert [outcome.stdout for outcome in outcomes] == ["0\n", "1\n", "2\n"]
    await until_full(ready)
    assert not set(listed) & set(mine(docker_engine, ready))
    assert all(one["State"] == "running" for one in mine(docker_engine, ready).values())


async def test_one_that_dies_is_replaced_without_a_call(ready: DockerSandbox, docker_engine: docker.APIClient) -> None:
    """Nobody has to call for it: the end of a ready container is noticed."""
    before = set(mine(docker_engine, ready))
    docker_engine.kill(next(iter(before)))

    def replaced() -> bool:
        now = mine(docker_engine, ready)
        return len(set(now) - before) == 1 and len(now) == len(before)

    await wait_until(replaced, "another one is there", 10)


async def test_old_ones_are_replaced(ready: DockerSandbox) -> None:
    """None waits longer than it may: the image may have been renewed meanwhile."""
    made: list[Container] = []
    discarded: list[Container] = []

    async def make(language: Language) -> Container:
        made.append(await ready._make_ahead(language))
        return made[-1]

    def discard(one: Container) -> None:
        discarded.append(one)
        ready._discard(one)

    pool = Pool([Language.PYTHON], 1, make, discard, life_seconds=0.5)
    await wait_until(lambda: len(made) >= 3, "the third is made", 10)
    assert discarded == made[: len(discarded)]
    assert len(discarded) >= 2
    await pool.close()
    assert discarded == made


async def test_without_an_engine_nothing_is_ready(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be made is said in the log, and calls go on without."""

    async def make(_language: Language) -> Container:
        raise ToolUnavailable("The engine is away.")

    pool = Pool([Language.PYTHON], 1, make, lambda _: None)
    await wait_until(lambda: "The engine is away." in caplog.text, "it is said")
    assert pool.take(Language.PYTHON) is None
    assert pool.take(Language.JAVASCRIPT) is None
    await pool.close()


async def test_a_language_that_does_not_run_is_not_made_ahead(
    docker_sandbox: DockerSandbox, docker_settings: Settings, docker_engine: docker.APIClient
) -> None:
    """The trial run says which image is missing; nothing is tried again and again for it."""
    names = images(docker_settings) | {Language.JAVASCRIPT: "conductor-test-absent:1"}
    sandbox = DockerSandbox(names, base_url=docker_settings.docker_host)
    await sandbox.check()
    sandbox.keep_ready(1)
    await until_full(sandbox)
    assert len(mine(docker_engine, sandbox)) == 1
    assert "1 of each language" in sandbox.describe()
    await sandbox.close()


async def test_closing_leaves_none(make_docker: MakeDocker, docker_engine: docker.APIClient) -> None:
    """Closed when full, and closed in the middle of making: nothing is left on the docker_engine."""
    for wait in (True, False):
        sandbox = make_docker()
        sandbox.keep_ready(SIZE)
        if wait:
            await until_full(sandbox)
        else:
            await wait_until(lambda one=sandbox: len(mine(docker_engine, one)) > 0, "the first is being made")  # type: ignore[misc]
        await sandbox.close()
        assert mine(docker_engine, sandbox) == {}


async def test_the_reaper_leaves_them_alone(ready: DockerSandbox, make_docker: MakeDocker) -> None:
    """Neither their own worker's reaper nor another's takes them away."""
    await ready.reap()
    await make_docker().reap()
    assert ready._pool is not None
    assert ready._pool.full


async def test_a_retry_removes_a_predecessor_that_was_made_ahead(
    ready: DockerSandbox, make_docker: MakeDocker, docker_engine: docker.APIClient
) -> None:
    """Another worker knows the call by the container's name, as its labels were written before."""
    job = a_job("import time; print('x'); time.sleep(60)", timeout=30)
    run = asyncio.ensure_future(ready.run(job))
    await wait_until(
        lambda: any(job.call_id in one["Names"][0] for one in mine(docker_engine, ready).values()),
        "the first attempt runs",
    )
    (one,) = [one for one in mine(docker_engine, ready).values() if job.call_id in one["Names"][0]]
    said = known(one["Names"][0].removeprefix("/"), one["Labels"])
    assert 30 < int(said[DEADLINE]) - time.time() < 70 < int(one["Labels"][DEADLINE]) - time.time()
    second = job.model_copy(update={"attempt": 2, "source": "print('second')"})
    assert (await make_docker().run(second)).stdout == "second\n"
    with pytest.raises(docker.errors.NotFound):
        docker_engine.inspect_container(one["Id"])
    with pytest.raises(ToolUnavailable):
        await run


async def test_a_killed_worker_leaves_none_running(
    make_docker: MakeDocker, docker_engine: docker.APIClient, docker_settings: Settings, tmp_path: Path
) -> None:
    """SIGKILL to the worker ends what it had ready by itself, at once; the next worker removes it."""
    script = tmp_path / "worker.py"
    script.write_text(
        f"""
import asyncio
from activities.sandbox.base import Language
from activities.sandbox.docker import DockerSandbox
async def main():
    sandbox = DockerSandbox({{Language.PYTHON: {docker_settings.sandbox_image_python!r}}}, base_url={docker_settings.docker_host!r})
    sandbox.keep_ready(2)
    while not sandbox._pool.full:
        await asyncio.sleep(0.05)
    print(sandbox._owner, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    )
    worker = await asyncio.create_subprocess_exec(sys.executable, str(script), stdout=asyncio.subprocess.PIPE)
    assert worker.stdout is not None
    owner = (await worker.stdout.readline()).decode().strip()
    assert len(of_owner(docker_engine, owner)) == 2
    worker.kill()
    await worker.wait()
    await wait_until(
        lambda: all(one["State"] != "running" for one in of_owner(docker_engine, owner).values()),
        "they end by themselves",
        3,
    )
    await make_docker().reap()
    assert of_owner(docker_engine, owner) == {}


async def test_the_source_is_not_kept_by_the_engine(ready: DockerSandbox, docker_engine: docker.APIClient) -> None:
    """What the engine knows of a running container holds nothing of its code."""
    mark = f"mark{uuid.uuid4().hex}"
    job = a_job(f"import time; {mark} = 1; time.sleep(0.7)")
    run = asyncio.ensure_future(ready.run(job))
    await wait_until(
        lambda: any(job.call_id in one["Names"][0] for one in mine(docker_engine, ready).values()), "the job runs"
    )
    assert mark not in json.dumps([docker_engine.inspect_container(key) for key in mine(docker_engine, ready)])
    await run
