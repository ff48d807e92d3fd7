"""What Docker's sandbox promises beyond the others: hardening as configured, labels, clean-up, an engine that fails."""

import asyncio
import json
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from activities.sandbox.base import Language, LanguageUnavailable
from activities.sandbox.docker import DockerSandbox
from activities.sandbox.docker_engine import Engine
from activities.sandbox.docker_labels import CALL, DEADLINE, OWNER
from activities.sandbox.reaper import reaping
from conductor_ai.errors import ToolUnavailable
from conductor_ai.settings import Settings
from tests.fixtures_docker import MakeDocker, a_job, images, processes_with, wait_until

pytestmark = pytest.mark.needs_docker

SLEEP = "import time; print('x'); time.sleep(60)"


def of_call(engine: docker.APIClient, call_id: str, running: bool = False) -> list[dict[str, Any]]:
    """The containers of one call as the engine lists them."""
    found: list[dict[str, Any]] = engine.containers(all=not running, filters={"label": [f"{CALL}={call_id}"]})
    return found


async def started(engine: docker.APIClient, call_id: str) -> dict[str, Any]:
    """The one container of a call, once it runs."""
    await wait_until(lambda: len(of_call(engine, call_id, running=True)) == 1, "the container runs")
    return of_call(engine, call_id)[0]


async def cancel(run: "asyncio.Future[Any]") -> None:
    """Cancel a run and wait for it."""
    run.cancel()
    await asyncio.wait([run])


async def test_every_limit_is_set(docker_sandbox: DockerSandbox, docker_engine: docker.APIClient) -> None:
    """The engine itself tells the hardening of a running container: nothing of it got lost on the way."""
    job = a_job(SLEEP, timeout=30)
    run = asyncio.ensure_future(docker_sandbox.run(job))
    container = docker_engine.inspect_container((await started(docker_engine, job.call_id))["Id"])
    await cancel(run)
    host = container["HostConfig"]
    assert {
        name: host[name]
        for name in (
            "NetworkMode",
            "Memory",
            "MemorySwap",
            "NanoCpus",
            "PidsLimit",
            "ReadonlyRootfs",
            "CapDrop",
            "Init",
        )
    } == {
        "NetworkMode": "none",
        "Memory": 128 * 2**20,
        "MemorySwap": 128 * 2**20,
        "NanoCpus": 500_000_000,
        "PidsLimit": 64,
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "Init": True,
    }
    assert host["Tmpfs"] == {"/tmp": "rw,noexec,nosuid,nodev,size=16777216,nr_inodes=4096,mode=1777"}
    assert host["ShmSize"] == 2**20
    assert {limit["Name"]: limit["Hard"] for limit in host["Ulimits"]} == {"nofile": 256, "core": 0, "cpu": 65}
    assert host["CgroupnsMode"] == "private"
    assert host["IpcMode"] == "private"
    assert host["LogConfig"]["Type"] == "none"
    assert "no-new-privileges:true" in host["SecurityOpt"]
    profile = next(option for option in host["SecurityOpt"] if option.startswith("seccomp="))
    assert json.loads(profile.removeprefix("seccomp="))["defaultAction"] == "SCMP_ACT_ERRNO"
    assert not host["Privileged"]
    assert host["Binds"] is None
    assert host["Devices"] in (None, [])
    config = container["Config"]
    assert config["User"] == "65534:65534"
    assert not config["Tty"]
    # The code came by stdin: no part of it is in what the engine keeps of the container.
    assert "time.sleep" not in json.dumps(container)


async def test_labels(docker_sandbox: DockerSandbox, docker_engine: docker.APIClient) -> None:
    """A container says whose it is and until when."""
    job = a_job(SLEEP, timeout=30)
    run = asyncio.ensure_future(docker_sandbox.run(job))
    labels = (await started(docker_engine, job.call_id))["Labels"]
    await cancel(run)
    assert {name: labels[f"conductor.{name}"] for name in ("session", "call", "run", "attempt")} == {
        "session": "sess_test",
        "call": job.call_id,
        "run": "run-1",
        "attempt": "1",
    }
    assert 30 < int(labels[DEADLINE]) - time.time() < 70
    assert labels[OWNER]


async def test_nothing_is_left(docker_sandbox: DockerSandbox, docker_engine: docker.APIClient) -> None:
    """However a run ends, its container is removed when the result is there."""
    endings = {
        "well": "print(1)",
        "badly": "raise SystemExit(3)",
        "memory": "bytearray(10**9)",
        "time": SLEEP,
        "flood": "while True: print('y' * 1000)",
    }
    for name, source in endings.items():
        job = a_job(source, timeout=1)
        await docker_sandbox.run(job)
        assert of_call(docker_engine, job.call_id) == [], name
    for after in (0.0, 0.03, 0.08, 0.3):
        job = a_job(SLEEP)
        run = asyncio.ensure_future(docker_sandbox.run(job))
        await asyncio.wait([run], timeout=after)
        await cancel(run)
        assert of_call(docker_engine, job.call_id) == [], f"cancelled after {after} s"


async def test_a_retry_removes_its_predecessor(make_docker: MakeDocker, docker_engine: docker.APIClient) -> None:
    """The next attempt at a call, by another worker, ends what the first one runs, and then runs itself."""
    first, second = make_docker(), make_docker()
    job = a_job(SLEEP, timeout=30)
    run = asyncio.ensure_future(first.run(job))
    old = (await started(docker_engine, job.call_id))["Id"]
    outcome = await second.run(job.model_copy(update={"attempt": 2, "source": "print('second')"}))
    assert outcome.stdout == "second\n"
    with pytest.raises(docker.errors.NotFound):
        docker_engine.inspect_container(old)
    # The first worker finds its container gone: that is the engine's trouble and no outcome of the code.
    with pytest.raises(ToolUnavailable):
        await run


async def test_a_late_attempt_does_not_end_its_successor(
    make_docker: MakeDocker, docker_engine: docker.APIClient
) -> None:
    """An attempt that comes after a newer one has started leaves that one alone."""
    job = a_job("import time; time.sleep(1.5); print('newer')", timeout=30, attempt=2)
    newer = asyncio.ensure_future(make_docker().run(job))
    await started(docker_engine, job.call_id)
    await make_docker().run(job.model_copy(update={"attempt": 1, "source": "print('older')"}))
    assert (await newer).stdout == "newer\n"


async def test_the_reaper_leaves_the_living_alone(make_docker: MakeDocker, docker_engine: docker.APIClient) -> None:
    """What this worker runs, and what another living worker runs, stays."""
    mine, other = make_docker(), make_docker()
    jobs = [a_job("import time; time.sleep(1.5); print('done')"), a_job("import time; time.sleep(1.5); print('done')")]
    runs = [asyncio.ensure_future(mine.run(jobs[0])), asyncio.ensure_future(other.run(jobs[1]))]
    for job in jobs:
        await started(docker_engine, job.call_id)
    await mine.reap()
    assert [outcome.stdout for outcome in await asyncio.gather(*runs)] == ["done\n", "done\n"]


async def test_the_reaper_removes_what_a_dead_worker_left(
    make_docker: MakeDocker, docker_engine: docker.APIClient, docker_settings: Settings, tmp_path: Path
) -> None:
    """A worker that got SIGKILL leaves a container; the next worker on the machine removes it when it starts."""
    call_id = f"call_{uuid.uuid4().hex}"
    script = tmp_path / "worker.py"
    script.write_text(
        f"""
import asyncio
from activities.sandbox.base import Language, SandboxJob
from activities.sandbox.docker import DockerSandbox
job = SandboxJob(language=Language.PYTHON, source={SLEEP!r}, timeout_seconds=60, session_id="s", call_id={call_id!r},
                 run_id="r", attempt=1)
images = {{Language.PYTHON: {docker_settings.sandbox_image_python!r}}}
asyncio.run(DockerSandbox(images, base_url={docker_settings.docker_host!r}).run(job))
"""
    )
    worker = await asyncio.create_subprocess_exec(sys.executable, str(script))
    await started(docker_engine, call_id)
    worker.kill()
    await worker.wait()
    async with reaping(make_docker()):
        await wait_until(lambda: of_call(docker_engine, call_id) == [], "the container is removed")


async def test_the_reaper_removes_what_is_expired_or_lost(
    docker_sandbox: DockerSandbox, make_docker: MakeDocker, docker_engine: docker.APIClient, docker_settings: Settings
) -> None:
    """Past its deadline a container goes whoever made it; so does one that its own maker has forgotten."""
    mine = make_docker()
    expired, foreign, lost = (f"call_{uuid.uuid4().hex}" for _ in range(3))
    owners = {expired: "elsewhere|1|1|a", foreign: "elsewhere|1|1|b", lost: str(mine._owner)}
    for call_id, owner in owners.items():
        deadline = int(time.time()) + (-1 if call_id == expired else 100)
        labels = {"conductor.sandbox": "1", CALL: call_id, DEADLINE: str(deadline), OWNER: owner}
        docker_engine.create_container(
            docker_settings.sandbox_image_python, ["true"], labels=labels, use_config_proxy=False
        )
    assert await mine.reap() >= 2
    assert {call_id: len(of_call(docker_engine, call_id)) for call_id in owners} == {expired: 0, foreign: 1, lost: 0}
    docker_engine.remove_container(of_call(docker_engine, foreign)[0]["Id"], force=True)


async def test_a_missing_image_is_said_and_not_pulled(docker_sandbox: DockerSandbox, docker_settings: Settings) -> None:
    """A run without its image fails at once with a sentence that names the image and the command to get it."""
    names = images(docker_settings) | {Language.JAVASCRIPT: "conductor-test-absent:1"}
    sandbox = DockerSandbox(names, base_url=docker_settings.docker_host)
    found = await sandbox.check()
    assert found.available
    assert list(found.missing) == [Language.JAVASCRIPT]
    assert "conductor sandbox prepare" in sandbox.describe()
    with pytest.raises(LanguageUnavailable, match=r"conductor-test-absent:1 is not on the Docker engine"):
        await sandbox.run(a_job("1", Language.JAVASCRIPT))
    await sandbox.close()


async def test_an_unknown_runtime_is_said(docker_sandbox: DockerSandbox, docker_settings: Settings) -> None:
    """A runtime that the engine does not have makes the sandbox unavailable, not weaker."""
    sandbox = DockerSandbox(images(docker_settings), base_url=docker_settings.docker_host, runtime="absent-runtime")
    found = await sandbox.check()
    assert not found.available
    assert "absent-runtime" in found.reason
    with pytest.raises(ToolUnavailable):
        await sandbox.run(a_job("print(1)"))
    await sandbox.close()


async def test_no_engine(tmp_path: Path) -> None:
    """Without an engine the check says what to do, and a run is worth another attempt."""
    sandbox = DockerSandbox({Language.PYTHON: "x"}, base_url=f"unix://{tmp_path}/absent.sock")
    found = await sandbox.check()
    assert not found.available
    assert "does not answer" in found.reason
    with pytest.raises(ToolUnavailable, match="does not answer"):
        await sandbox.run(a_job("print(1)"))
    await sandbox.close()


async def test_an_engine_that_hangs(tmp_path: Path) -> None:
    """An engine that takes the call and never answers costs the limit of a call, and blocks neither loop nor cancel."""
    path = tmp_path / "s"
    connections: list[asyncio.StreamWriter] = []

    async def swallow(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    server = await asyncio.start_unix_server(swallow, path=path)
    engine = Engine(f"unix://{path}", call_seconds=0.5)
    begun = time.monotonic()
    with pytest.raises(ToolUnavailable, match="does not answer"):
        await engine.call(lambda client: client.info())
    assert time.monotonic() - begun < 2
    hanging = asyncio.ensure_future(engine.call(lambda client: client.info()))
    await asyncio.wait([hanging], timeout=0.1)
    begun = time.monotonic()
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert time.monotonic() - begun < 0.4, "the call itself ends after 0.5 s"
    await engine.close()
    for writer in connections:
        writer.close()
    server.close()
    await server.wait_closed()


async def test_a_container_that_others_remove(docker_sandbox: DockerSandbox, docker_engine: docker.APIClient) -> None:
    """A person who removes the container by hand gets a failed attempt, not a result that never comes."""
    job = a_job(SLEEP, timeout=30)
    run = asyncio.ensure_future(docker_sandbox.run(job))
    container = await started(docker_engine, job.call_id)
    await asyncio.to_thread(docker_engine.remove_container, container["Id"], force=True)
    with pytest.raises(ToolUnavailable):
        await run


async def test_the_clock_cannot_be_rewritten(docker_sandbox: DockerSandbox) -> None:
    """In the images of this project the memory of the process that holds the clock is closed to the code."""
    source = """
import os
for pid in sorted(int(n) for n in os.listdir('/proc') if n.isdigit()):
    name = open(f'/proc/{pid}/comm').read().strip()
    if name == 'timeout':
        try:
            open(f'/proc/{pid}/mem', 'r+b').close()
            print('open')
        except OSError as error:
            print(type(error).__name__)
"""
    assert (await docker_sandbox.run(a_job(source))).stdout == "PermissionError\n"


@pytest.mark.parametrize("stop", ["kill -9 1; kill -TERM 1", "kill -STOP 1", "kill -TSTP -1", "trap '' TERM INT"])
async def test_the_first_process_stands(docker_sandbox: DockerSandbox, stop: str) -> None:
    """Signals to the container's first process and to all of them do not keep the timeout from coming."""
    source = f"import subprocess, time; subprocess.run(['sh', '-c', {stop!r}]); print('x'); time.sleep(60)"
    begun = time.monotonic()
    outcome = await docker_sandbox.run(a_job(source, timeout=1.5))
    assert outcome.timed_out or outcome.exit_code not in (0, None)
    assert time.monotonic() - begun < 4


async def test_many_at_once(docker_sandbox: DockerSandbox) -> None:
    """Eight runs at the same time all come back with their own output."""
    outcomes = await asyncio.gather(*(docker_sandbox.run(a_job(f"print({number})")) for number in range(8)))
    assert [outcome.stdout for outcome in outcomes] == [f"{number}\n" for number in range(8)]


async def test_a_burst_of_memory_is_always_told(docker_sandbox: DockerSandbox) -> None:
    """The engine's word about memory arrives with the end of the container, every time."""
    for _ in range(8):
        outcome = await docker_sandbox.run(a_job("x = b'x' * 10**9"))
        assert (outcome.oom_killed, outcome.exit_code) == (True, 137)


def test_the_profile_follows_from_the_list() -> None:
    """activities/sandbox/seccomp.json is what infra/seccomp/sandbox.list says."""
    script = Path(__file__).resolve().parents[2] / "infra" / "seccomp" / "generate.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


async def test_processes_are_found_by_their_mark() -> None:
    """The helper that looks for processes finds one that is there, so that finding none means something."""
    mark = f"mark-{uuid.uuid4().hex}"
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)", mark])
    await wait_until(lambda: processes_with(mark) != [], "the child is seen")
    child.kill()
    child.wait()
    assert processes_with(mark) == []
