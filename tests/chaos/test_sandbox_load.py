"""A hundred calls of code at once: as many run at a time as the setting says, none is lost, none is left behind."""

from collections.abc import Iterator

import docker
import pytest
from temporalio.client import Client

from activities.sandbox.base import Check, Sandbox, SandboxJob, SandboxOutcome
from activities.sandbox.docker import DockerSandbox
from activities.sandbox.docker_labels import OWNER
from activities.tools.code_run import CodeRun
from conductor_ai.contracts.status import CallState, Status
from tests.fixtures_docker import processes_with
from tests.rig import answer, calls, rig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SESSIONS = 2
CALLS = 50
"""Of each session: a reply may have 64."""
AT_ONCE = 4


class Counting:
    """Another sandbox, and how many of its runs there were at the same time."""

    def __init__(self, inner: Sandbox) -> None:
        self._inner = inner
        self.now = 0
        self.most = 0
        self.jobs: list[SandboxJob] = []

    @property
    def name(self) -> str:
        return self._inner.name

    def describe(self) -> str:
        return self._inner.describe()

    async def check(self) -> Check:
        return await self._inner.check()

    async def run(self, job: SandboxJob, /) -> SandboxOutcome:
        self.jobs.append(job)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await self._inner.run(job)
        finally:
            self.now -= 1

    async def reap(self) -> int:
        return await self._inner.reap()

    async def close(self) -> None:
        """The inner one belongs to the test's fixture."""


@pytest.fixture
def owned(request: pytest.FixtureRequest, sandbox: Sandbox) -> Iterator[Sandbox]:
    """The sandbox; what it has left on an engine afterwards is a failure."""
    if not isinstance(sandbox, DockerSandbox):
        yield sandbox
        return
    engine: docker.APIClient = request.getfixturevalue("docker_engine")
    yield sandbox
    left = engine.containers(all=True, filters={"label": [f"{OWNER}={sandbox._owner}"]})
    assert [one["Names"] for one in left if not one["Names"][0].startswith("/conductor.ready.")] == []


@pytest.mark.parametrize(
    "sandbox",
    [
        pytest.param("docker", marks=pytest.mark.needs_docker),
        pytest.param("ready", marks=pytest.mark.needs_docker),
        pytest.param("bubblewrap", marks=pytest.mark.needs_bubblewrap),
    ],
    indirect=True,
)
async def test_a_hundred_at_once(owned: Sandbox, temporal: Client, store_url: str, task_queue: str) -> None:
    """Two replies ask for fifty programs each: every result is its call's, through Temporal, the store and the real sandbox."""
    mark = f"mark-{task_queue}"
    counting = Counting(owned)
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'pass', '{mark}']); print({number})"
    wanted = [
        ("code_run", {"code": code.format(mark=mark, number=number), "language": "python"}) for number in range(CALLS)
    ]
    async with rig(
        temporal,
        store_url,
        task_queue,
        replies=[*[calls(*wanted)] * SESSIONS, *[answer()] * SESSIONS],
        tools=[CodeRun(counting)],
        sandbox_concurrency=AT_ONCE,
        max_cached_workflows=10,
    ) as r:
        started = [await r.start() for _ in range(SESSIONS)]
        views = [await r.ended(session_id, seconds=200) for session_id in started]
    for view in views:
        assert view.status is Status.COMPLETED
        actions = view.steps[0].actions
        assert [action.status for action in actions] == [CallState.SUCCEEDED] * CALLS
        assert [(action.observation or "").strip() for action in actions] == [str(number) for number in range(CALLS)]
    assert len({job.call_id for job in counting.jobs}) == SESSIONS * CALLS
    assert counting.most == AT_ONCE
    assert processes_with(mark) == []
