"""`conductor sandbox`: prepare, check and reap against a real engine, and what they say without one."""

import asyncio
import time
import uuid
from functools import partial
from pathlib import Path

import docker
import pytest
from typer.testing import CliRunner, Result

from activities.sandbox.base import Language
from activities.sandbox.bubblewrap import BubblewrapSandbox
from activities.sandbox.docker import DockerSandbox
from activities.sandbox.docker_labels import CALL, DEADLINE, OWNER, SANDBOX
from activities.sandbox.unsafe import UnsafeSubprocess
from conductor_ai.cli.app import app
from conductor_ai.settings import Settings
from conductor_ai.wiring import sandboxes
from tests.fixtures_docker import a_job, missing

DATA_BASE = "conductor-base-python-data:bookworm"
"""infra/ci/images.sh makes it: Debian's python3, python3-numpy and python3-pandas."""


def conductor(*arguments: str, **settings: str) -> Result:
    """Run `conductor sandbox …`."""
    return CliRunner().invoke(app, ["sandbox", *arguments], env=settings, catch_exceptions=False)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `.env` of the checkout has a say here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def given(docker_sandbox: DockerSandbox, docker_settings: Settings) -> dict[str, str]:
    """The settings of this environment, as variables."""
    return {
        "CONDUCTOR_SANDBOX": "docker",
        "CONDUCTOR_SANDBOX_IMAGE_PYTHON": docker_settings.sandbox_image_python,
        "CONDUCTOR_SANDBOX_IMAGE_NODE": docker_settings.sandbox_image_node,
    }


@pytest.mark.needs_docker
def test_check_tells_every_limit(given: dict[str, str]) -> None:
    """All hold with Docker: the sandbox in force, both languages, each limit with what was found, exit code 0."""
    done = conductor("check", **given)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "✓ sandbox: Docker" in done.stdout
    limits = "python javascript network vsock io_uring namespaces privileges files memory processor processes time"
    for limit in limits.split():
        assert f"✓ {limit}:" in done.stdout
    assert "✗" not in done.stdout


@pytest.mark.needs_bubblewrap
def test_check_says_what_bubblewrap_does_not_limit(bubblewrap_sandbox: BubblewrapSandbox) -> None:
    """It is advice and no fault: exit code 0."""
    done = conductor("check", CONDUCTOR_SANDBOX="bubblewrap")
    assert done.exit_code == 0
    assert "! memory in all:" in done.stdout
    assert "! processor:" in done.stdout
    assert "✗" not in done.stdout


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"CONDUCTOR_SANDBOX": "off"}, "switched off"),
        ({"CONDUCTOR_SANDBOX": "docker", "DOCKER_HOST": "unix:///nonexistent/s"}, "does not answer"),
    ],
)
def test_check_without_a_sandbox_is_a_fault(settings: dict[str, str], said: str) -> None:
    """Nothing in force is code 1, with the reason."""
    done = conductor("check", **settings)
    assert done.exit_code == 1
    assert "✗ sandbox:" in done.stdout
    assert said in done.stdout


def test_check_refuses_to_call_a_plain_process_a_sandbox(
    unsafe_sandbox: UnsafeSubprocess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is in force no limit is tried, as it would be tried on the machine itself."""

    async def in_force(_settings: Settings, *, serves: bool) -> UnsafeSubprocess:
        assert serves
        return unsafe_sandbox

    monkeypatch.setattr(sandboxes, "sandbox_of", in_force)
    done = conductor("check")
    assert done.exit_code == 1
    assert "✗ sandbox: UNSAFE" in done.stdout
    assert "memory" not in done.stdout


@pytest.mark.parametrize("command", ["prepare", "reap"])
def test_an_engine_that_is_away_is_code_5(command: str) -> None:
    """The same may work later, and one sentence says what to look at."""
    done = conductor(command, CONDUCTOR_SANDBOX="docker", DOCKER_HOST="unix:///nonexistent/s")
    assert done.exit_code == 5
    assert done.stderr.startswith("The Docker engine does not answer.")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["prepare", "reap"])
def test_bubblewrap_needs_neither(command: str) -> None:
    """There are no images, and nothing is left behind."""
    done = conductor(command, CONDUCTOR_SANDBOX="bubblewrap")
    assert done.exit_code == 0
    assert "nothing to do" in done.stdout


def test_a_variant_without_a_base_is_code_2() -> None:
    """`--data` is about building."""
    assert conductor("prepare", "--data").exit_code == 2


@pytest.mark.needs_docker
def test_prepare_is_content_with_what_is_there(given: dict[str, str]) -> None:
    """Images that the engine has are not asked for again."""
    done = conductor("prepare", **given)
    assert done.exit_code == 0
    assert done.stdout.count(": is there") == 2


@pytest.mark.needs_docker
def test_prepare_says_what_cannot_be_had(given: dict[str, str]) -> None:
    """No registry has it: code 5. Built on what is not there: 5. Built over its own base: 2, and nothing is built."""
    absent = given | {"CONDUCTOR_SANDBOX_IMAGE_NODE": f"localhost:9/{uuid.uuid4().hex}:1"}
    pulled = conductor("prepare", **absent)
    assert (pulled.exit_code, "could not be pulled" in pulled.stderr) == (5, True)
    own = {"CONDUCTOR_SANDBOX_IMAGE_PYTHON": f"conductor-test:{uuid.uuid4().hex}"}
    built = conductor("prepare", "--base-python", "localhost:9/absent:1", **given | own)
    assert (built.exit_code, "could not be built" in built.stderr) == (5, True)
    name = given["CONDUCTOR_SANDBOX_IMAGE_PYTHON"]
    over = conductor("prepare", "--base-python", name, **given)
    assert (over.exit_code, "over its own base" in over.stderr) == (2, True)


@pytest.mark.needs_docker
def test_prepare_builds_on_a_base(given: dict[str, str], docker_engine: docker.APIClient) -> None:
    """Both images are built on bases of one's own, under the names of the settings, and harder than those."""
    tag = uuid.uuid4().hex
    names = {language: f"conductor-test-{language.value}:{tag}" for language in Language}
    own = {
        "CONDUCTOR_SANDBOX_IMAGE_PYTHON": names[Language.PYTHON],
        "CONDUCTOR_SANDBOX_IMAGE_NODE": names[Language.JAVASCRIPT],
    }
    try:
        done = conductor(
            "prepare",
            "--base-python",
            given["CONDUCTOR_SANDBOX_IMAGE_PYTHON"],
            "--base-node",
            given["CONDUCTOR_SANDBOX_IMAGE_NODE"],
            **given | own,
        )
        assert done.exit_code == 0, done.stderr
        for name in names.values():
            assert docker_engine.inspect_image(name)["Config"]["User"] == "65534:65534"
    finally:
        for name in names.values():
            if docker_engine.images(name):
                docker_engine.remove_image(name)


@pytest.mark.needs_docker
def test_reap_removes_what_is_left_over(given: dict[str, str], docker_engine: docker.APIClient) -> None:
    """A container past its deadline is removed, one that another worker may run is not, nor one without labels."""
    image = given["CONDUCTOR_SANDBOX_IMAGE_PYTHON"]
    calls = {f"call_{uuid.uuid4().hex}": seconds for seconds in (-5, 500)}
    made = {}
    for call_id, seconds in calls.items():
        labels = {SANDBOX: "1", CALL: call_id, DEADLINE: str(int(time.time()) + seconds), OWNER: "elsewhere|1|1|a"}
        made[seconds] = docker_engine.create_container(image, ["true"], labels=labels, use_config_proxy=False)["Id"]
    made[0] = docker_engine.create_container(image, ["true"], use_config_proxy=False)["Id"]
    try:
        done = conductor("reap", **given)
        assert done.exit_code == 0
        assert "left-over containers" in done.stdout
        there = {one["Id"] for one in docker_engine.containers(all=True)}
        assert {seconds: key in there for seconds, key in made.items()} == {-5: False, 500: True, 0: True}
    finally:
        for seconds in (500, 0):
            docker_engine.remove_container(made[seconds], force=True)


@pytest.mark.slow
@pytest.mark.needs_docker
async def test_the_larger_image_has_numpy_and_pandas(
    given: dict[str, str], docker_engine: docker.APIClient, docker_settings: Settings
) -> None:
    """Built as a user builds it, on a base that has the packages, it runs both within the limits of any other code."""
    if not docker_engine.images(DATA_BASE):
        missing(f"the base image {DATA_BASE} is not there: infra/ci/images.sh makes it")
    name = f"conductor-test-data:{uuid.uuid4().hex}"
    own = {"CONDUCTOR_SANDBOX_IMAGE_PYTHON": name}
    sandbox = DockerSandbox({Language.PYTHON: name}, base_url=docker_settings.docker_host)
    try:
        built = partial(conductor, "prepare", "--base-python", DATA_BASE, "--data", **given | own)
        done = await asyncio.to_thread(built)
        assert done.exit_code == 0, done.stdout + done.stderr
        source = """
import io, numpy, pandas
table = pandas.read_csv(io.StringIO('sku,stock\\ntea,3\\ncup,4\\ntea,5'))
print(table.groupby('sku').stock.sum().to_dict())
a = numpy.arange(250_000.0).reshape(500, 500)
print((a @ a.T).trace() > 0, open('/proc/self/status').read().split('Threads:')[1].split()[0])
"""
        outcome = await sandbox.run(a_job(source, timeout=60))
        assert (outcome.exit_code, outcome.oom_killed) == (0, False), outcome.stderr
        assert outcome.stdout == "{'cup': 4, 'tea': 8}\nTrue 1\n"
        source = "import numpy; numpy.ones(10**9)"
        bomb = await sandbox.run(a_job(source, timeout=60))
        assert bomb.exit_code != 0
        assert bomb.oom_killed or "MemoryError" in bomb.stderr
    finally:
        await sandbox.close()
        if docker_engine.images(name):
            docker_engine.remove_image(name)
