"""Which sandbox is chosen, with engines and programs that are really there or really missing."""

import pytest

from activities.sandbox.base import Language
from activities.sandbox.bubblewrap import BubblewrapSandbox
from activities.sandbox.docker import DockerSandbox
from activities.sandbox.select import Unavailable, choose
from conductor_ai.settings import Settings
from tests.fixtures_docker import a_job, images

NO_ENGINE = "unix:///nonexistent/docker.sock"


@pytest.mark.needs_docker
async def test_auto_takes_docker_first(docker_sandbox: DockerSandbox, docker_settings: Settings) -> None:
    """Where the engine works, it is taken, and what was chosen runs code."""
    chosen = await choose("auto", images=images(docker_settings), docker_host=docker_settings.docker_host)
    assert not isinstance(chosen, Unavailable)
    assert chosen.name == "docker"
    assert (await chosen.run(a_job("print(1)"))).stdout == "1\n"
    await chosen.close()


@pytest.mark.needs_bubblewrap
async def test_auto_takes_bubblewrap_without_an_engine(bubblewrap_sandbox: BubblewrapSandbox) -> None:
    """Without an engine bubblewrap is taken, before the plain process that is allowed as well."""
    chosen = await choose("auto", images={}, docker_host=NO_ENGINE, unsafe_subprocess=True)
    assert not isinstance(chosen, Unavailable)
    assert chosen.name == "bubblewrap"


async def test_bubblewrap_that_is_missing_is_said() -> None:
    """Without the program the check names the package, and nothing is raised."""
    found = await BubblewrapSandbox("/nonexistent/bwrap").check()
    assert not found.available
    assert "apt install bubblewrap" in found.reason


async def test_a_bubblewrap_that_fails_is_not_available() -> None:
    """A program that starts and does not work counts as missing: only a trial run that succeeds counts."""
    sandbox = BubblewrapSandbox("/bin/false")
    found = await sandbox.check()
    assert not found.available
    assert set(found.missing) == set(Language)
    assert "trial run" in found.reason
