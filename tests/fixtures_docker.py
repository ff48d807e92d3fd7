"""Sandboxes for tests: the Docker engine and images that the settings name, bubblewrap, the plain process.

What is missing is skipped with the reason, but fails in CI, which installs everything.
"""

import asyncio
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import docker
import pytest

from activities.sandbox.base import Language, Sandbox, SandboxJob
from activities.sandbox.bubblewrap import BubblewrapSandbox
from activities.sandbox.docker import DockerSandbox
from activities.sandbox.unsafe import UnsafeSubprocess
from conductor_ai.settings import Settings

MakeDocker = Callable[[], DockerSandbox]


def missing(reason: str) -> NoReturn:
    """Skip this test, or fail it where everything must be there."""
    if os.environ.get("CI"):  # noqa: TID251 - asks about the place that tests run in, which is no setting of Conductor
        pytest.fail(f"CI must not skip this: {reason}")
    pytest.skip(reason)


def images(settings: Settings) -> dict[Language, str]:
    """The images of the settings, by language."""
    return {Language.PYTHON: settings.sandbox_image_python, Language.JAVASCRIPT: settings.sandbox_image_node}


def a_job(
    source: str,
    language: Language = Language.PYTHON,
    timeout: float = 20,
    *,
    call_id: str | None = None,
    attempt: int = 1,
) -> SandboxJob:
    """A job with ids of its own."""
    return SandboxJob(
        language=language,
        source=source,
        timeout_seconds=timeout,
        session_id="sess_test",
        call_id=call_id or f"call_{uuid.uuid4().hex}",
        run_id="run-1",
        attempt=attempt,
    )


def processes_with(mark: str) -> list[str]:
    """Command lines on this machine, in whatever namespace, that hold this text."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended while we looked, or is not ours to see
        if mark in text:
            found.append(text)
    return found


async def wait_until(true: Callable[[], bool], description: str, seconds: float = 5) -> None:
    """Poll until it is so, or fail."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s: {description}"
        await asyncio.sleep(0.02)


ATTEMPT = """
import ctypes, errno, json, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *args):
    "The name of the error of a system call, or 'done'."
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in args))
    return errno.errorcode[ctypes.get_errno()] if result == -1 else 'done'
def attempt(function, *args):
    "The name of the error of a Python call, or 'done'."
    try:
        function(*args)
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
    except Exception as error:
        return type(error).__name__
    return 'done'
def tell(**what):
    print(json.dumps(what))
"""
"""Start of a program for `told`: it tries something and tells what came of it as JSON."""


async def told(sandbox: Sandbox, source: str, timeout: float = 20) -> Any:
    """What the program told."""
    outcome = await sandbox.run(a_job(ATTEMPT + source, timeout=timeout))
    assert outcome.exit_code == 0, outcome
    return json.loads(outcome.stdout)


@pytest.fixture(scope="session")
def docker_settings() -> Settings:
    """Settings of this environment: DOCKER_HOST and the two image names are what matters."""
    return Settings()


@pytest.fixture(scope="session")
async def docker_sandbox(docker_settings: Settings) -> AsyncIterator[DockerSandbox]:
    """A Docker sandbox that runs both languages."""
    sandbox = DockerSandbox(images(docker_settings), base_url=docker_settings.docker_host)
    found = await sandbox.check()
    if found.missing:
        await sandbox.close()
        missing(found.reason)
    yield sandbox
    await sandbox.close()


@pytest.fixture(scope="session")
def docker_engine(docker_sandbox: DockerSandbox, docker_settings: Settings) -> Iterator[docker.APIClient]:
    """The engine, asked directly."""
    client = docker.APIClient(base_url=docker_settings.docker_host, version="auto", timeout=10)
    yield client
    client.close()


@pytest.fixture(scope="session")
async def ready_sandbox(docker_sandbox: DockerSandbox, docker_settings: Settings) -> AsyncIterator[DockerSandbox]:
    """A Docker sandbox that keeps two containers of each language ready."""
    sandbox = DockerSandbox(images(docker_settings), base_url=docker_settings.docker_host)
    sandbox.keep_ready(2)
    yield sandbox
    await sandbox.close()


@pytest.fixture(scope="session")
async def make_docker(docker_sandbox: DockerSandbox, docker_settings: Settings) -> AsyncIterator[MakeDocker]:
    """Makes further Docker sandboxes on the same engine: other workers, as it were."""
    made: list[DockerSandbox] = []

    def make() -> DockerSandbox:
        made.append(DockerSandbox(images(docker_settings), base_url=docker_settings.docker_host))
        return made[-1]

    yield make
    for sandbox in made:
        await sandbox.close()


@pytest.fixture(scope="session")
async def bubblewrap_sandbox() -> AsyncIterator[BubblewrapSandbox]:
    """A bubblewrap sandbox that runs Python at least."""
    sandbox = BubblewrapSandbox()
    found = await sandbox.check()
    if Language.PYTHON in found.missing:
        missing(found.reason)
    yield sandbox
    await sandbox.close()


@pytest.fixture(scope="session")
async def unsafe_sandbox() -> AsyncIterator[UnsafeSubprocess]:
    """The plain process."""
    programs = {Language.PYTHON: sys.executable}
    node = shutil.which("node")
    if node is not None:
        programs[Language.JAVASCRIPT] = node
    sandbox = UnsafeSubprocess(programs)
    await sandbox.check()
    yield sandbox
    await sandbox.close()


EVERY_SANDBOX = [
    pytest.param("docker", marks=pytest.mark.needs_docker),
    pytest.param("bubblewrap", marks=pytest.mark.needs_bubblewrap),
    pytest.param("unsafe"),
]
"""For tests of what every runner promises."""

EVERY_WAY = [pytest.param("ready", marks=pytest.mark.needs_docker), *EVERY_SANDBOX]
"""The same, and Docker with containers that were made ahead."""

EVERY_REAL_SANDBOX = EVERY_SANDBOX[:2]
"""For tests of isolation, which the plain process does not have and must not be tried on."""


async def until_full(sandbox: Sandbox) -> None:
    """Wait until a sandbox has ready what it is to keep ready, if anything."""
    if isinstance(sandbox, DockerSandbox) and (pool := sandbox._pool) is not None:
        await wait_until(lambda: pool.full, "the containers are ready", 20)


@pytest.fixture
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """The sandbox that an indirect parameter names; only that one is set up."""
    chosen: Sandbox = request.getfixturevalue(f"{request.param}_sandbox")
    return chosen


@pytest.fixture
async def filled(sandbox: Sandbox) -> None:
    """What the sandbox keeps ready is there when the test begins."""
    await until_full(sandbox)
