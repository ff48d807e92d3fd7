"""`kill -9` of a whole worker while code runs: containers end in time without it, the next worker removes them, others stay."""

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from activities.sandbox.base import HARD_STOP_SECONDS, Language
from activities.sandbox.docker import DockerSandbox
from activities.sandbox.docker_labels import OWNER
from conductor_ai.settings import Settings
from tests.fixtures_dev import Dev, dev_in, reachable_folder
from tests.fixtures_docker import MakeDocker, images, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.needs_docker, pytest.mark.timeout(240)]

JOBS = 4
TIMEOUT = 3

STUBBORN = """
import os, signal, sys, time
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
while True:
    time.sleep(1)
"""


@pytest.fixture
def bystander(docker_engine: docker.APIClient, docker_settings: Settings) -> Iterator[str]:
    """A running container that has nothing to do with Conductor, though its name might be one of ours."""
    name = f"conductor.ready.{uuid.uuid4().hex[:16]}"
    made = docker_engine.create_container(
        docker_settings.sandbox_image_python,
        ["sleep", "200"],
        name=name,
        labels={"somebody": "else"},
        use_config_proxy=False,
        host_config=docker_engine.create_host_config(network_mode="none", init=True),
    )
    docker_engine.start(made["Id"])
    yield made["Id"]
    docker_engine.remove_container(made["Id"], force=True)


def of_owner(engine: docker.APIClient, owner: str) -> list[dict[str, Any]]:
    """The containers of one worker, running or not."""
    found: list[dict[str, Any]] = engine.containers(all=True, filters={"label": [f"{OWNER}={owner}"]})
    return found


async def test_nothing_runs_on_without_any_worker(
    make_docker: MakeDocker, docker_engine: docker.APIClient, docker_settings: Settings, bystander: str, tmp_path: Path
) -> None:
    """No worker is alive: each container is over 5 s after its job's timeout, those without a job at once; none was ours to keep.

    The next worker on the machine then removes what is left of them, and nothing else.
    """
    names = {language.value: image for language, image in images(docker_settings).items()}
    script = tmp_path / "worker.py"
    script.write_text(
        f"""
import asyncio
from activities.sandbox.base import Language, SandboxJob
from activities.sandbox.select import choose
async def main():
    images = {{Language(name): image for name, image in {names!r}.items()}}
    sandbox = await choose("docker", images=images, docker_host={docker_settings.docker_host!r}, ready=2)
    while not sandbox._pool.full:
        await asyncio.sleep(0.05)
    for number in range({JOBS}):
        job = SandboxJob(language=Language.PYTHON, source={STUBBORN!r}, timeout_seconds={TIMEOUT}, session_id="s",
                         call_id=f"call_{{sandbox._owner.nonce}}_{{number}}", run_id="r", attempt=1)
        asyncio.ensure_future(sandbox.run(job))
    print(sandbox._owner, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    )
    worker = await asyncio.create_subprocess_exec(sys.executable, str(script), stdout=asyncio.subprocess.PIPE)
    assert worker.stdout is not None
    owner = (await asyncio.wait_for(worker.stdout.readline(), 60)).decode().strip()

    def running(word: str) -> list[str]:
        found = of_owner(docker_engine, owner)
        return [one["Id"] for one in found if one["State"] == "running" and word in one["Names"][0]]

    await wait_until(lambda: len(running(".call_")) == JOBS, "all jobs run", 20)
    await wait_until(lambda: len(running(".ready.")) == 2 * len(Language), "the others are ready again", 20)
    began = {key: docker_engine.inspect_container(key)["State"]["StartedAt"] for key in running(".call_")}
    killed = time.monotonic()
    worker.kill()
    await worker.wait()
    await wait_until(lambda: running(".ready.") == [], "what had no job ends at once", 3)
    await wait_until(lambda: running("") == [], "what had a job ends by its own clock", TIMEOUT + HARD_STOP_SECONDS + 1)
    assert time.monotonic() - killed < TIMEOUT + HARD_STOP_SECONDS + 1
    assert len(began) == JOBS
    assert all(docker_engine.inspect_container(key)["State"]["ExitCode"] == 137 for key in began)
    await make_docker().reap()
    assert of_owner(docker_engine, owner) == []
    assert docker_engine.inspect_container(bystander)["State"]["Running"]


@pytest.fixture
async def stack(docker_sandbox: DockerSandbox, docker_settings: Settings) -> AsyncIterator[Dev]:
    """A whole stack whose worker runs code with Docker."""
    with reachable_folder() as folder:
        async with dev_in(
            folder / "data",
            CONDUCTOR_SANDBOX="docker",
            CONDUCTOR_SANDBOX_POOL="1",
            CONDUCTOR_SANDBOX_IMAGE_PYTHON=docker_settings.sandbox_image_python,
            CONDUCTOR_SANDBOX_IMAGE_NODE=docker_settings.sandbox_image_node,
            **({"DOCKER_HOST": docker_settings.docker_host} if docker_settings.docker_host else {}),
        ) as dev:
            yield dev


async def test_the_next_worker_cleans_up_and_goes_on(
    stack: Dev, docker_engine: docker.APIClient, bystander: str
) -> None:
    """The whole stack: its worker dies by SIGKILL in mid-run. What it had is gone soon, and the session ends well."""
    code = "import time; time.sleep(4); print('ran')"
    arguments = f'{{"code": "{code}", "language": "python", "timeout": 20}}'
    pid = stack.runtime.pids["worker"]
    session_id = await stack.run(f"demo: call code_run {arguments}", "demo: say ok")

    def mine(one: dict[str, Any]) -> bool:
        return f"|{pid}|" in one["Labels"].get(OWNER, "")

    def left() -> list[dict[str, Any]]:
        return [one for one in docker_engine.containers(all=True, filters={"label": [OWNER]}) if mine(one)]

    await wait_until(lambda: any(session_id in one["Names"][0] for one in left()), "the code runs", 30)
    assert stack.kill("worker") == pid
    await stack.replaced("worker", pid)
    await wait_until(lambda: left() == [], "the next worker has cleaned up", 20)
    session = await stack.ended(session_id, 60)
    assert session["status"] == "completed", session["error"]
    assert session["steps"][0]["observation"].strip() == "ran"
    assert docker_engine.inspect_container(bystander)["State"]["Running"]
    last = stack.runtime.pids["worker"]
    stack.process.terminate()
    await asyncio.wait_for(stack.process.wait(), 60)
    assert [one for one in docker_engine.containers(all=True) if f"|{last}|" in one["Labels"].get(OWNER, "")] == []
