"""The stack of docker-compose.yml, really started, from images that were made on this machine (infra/ci/stack/images.sh)."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import httpx

from conductor_ai.names import new_id
from conductor_ai.settings import Settings
from infra.docs.source import ROOT
from tests.fixtures_docker import missing

IMAGES = ("conductor:local", *(f"conductor-ci-{name}:local" for name in ("postgres", "redis", "temporal")))
SERVICES = {"postgres": 1, "redis": 1, "temporal": 1, "api": 1, "worker": 2, "sandbox-worker": 1}
"""What runs, and how many of each; `migrate` has ended, and the stand-in for Temporal brings its own UI."""
SQL_URL = "postgresql://shop_login:not-a-secret@postgres:5432/shop"


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float) -> None:
    """Poll until it is so, or fail. Each look asks the engine about every container: four in a second are enough."""
    try:
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(0.25)
    except TimeoutError:
        raise AssertionError(f"waited {seconds} s in vain for: {what}") from None


def compose_command() -> list[str]:
    """The Compose that is installed: Docker's plugin or the program."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and not subprocess.run([*command, "version"], capture_output=True).returncode:
            return command
    return missing("Docker Compose is not installed")


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Stack:
    """A running stack."""

    folder: Path
    """Where its secrets and its empty .env are."""
    engine: docker.APIClient
    settings: Settings
    project: str = field(default_factory=lambda: new_id("ci").replace("_", "")[:14])
    port: int = field(default_factory=free_port)
    ui_port: int = field(default_factory=free_port)
    key: str = ""

    def compose(self, *arguments: str, seconds: float = 180, **environment: str) -> str:
        """Run Compose on the stack. Returns its standard output."""
        done = subprocess.run(
            [
                *compose_command(), "--env-file", str(self.folder / "env"), "--project-name", self.project,
                "--project-directory", str(ROOT), "--file", str(ROOT / "docker-compose.yml"),
                "--file", str(ROOT / "infra/ci/stack/compose.yml"), *arguments,
            ],
            env=self.environment() | environment,
            capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout[-2000:]} {done.stderr[-4000:]}"
        return done.stdout

    def environment(self) -> dict[str, str]:
        """What a person would have in .env."""
        host = self.settings.docker_host or "unix:///var/run/docker.sock"
        engine = Path(host.removeprefix("unix://"))
        return {
            "PATH": os.defpath + ":/usr/local/bin",
            "COMPOSE_HTTP_TIMEOUT": "180",
            "DOCKER_HOST": host,
            "DOCKER_SOCKET": str(engine),
            "DOCKER_GID": str(engine.stat().st_gid),
            "CONDUCTOR_SECRETS": str(self.folder / "secrets"),
            "CONDUCTOR_PUBLISH_PORT": str(self.port),
            "TEMPORAL_UI_PUBLISH_PORT": str(self.ui_port),
            "CONDUCTOR_SANDBOX_IMAGE_PYTHON": self.settings.sandbox_image_python,
            "CONDUCTOR_SANDBOX_IMAGE_NODE": self.settings.sandbox_image_node,
            "CONDUCTOR_SQL_ROLE": "shop_agent",
        }

    def containers(self, service: str | None = None) -> list[dict[str, Any]]:
        """What the engine knows of the stack's containers, or of those of one service."""
        labels = [f"com.docker.compose.project={self.project}"]
        labels += [f"com.docker.compose.service={service}"] if service else []
        found = self.engine.containers(all=True, filters={"label": labels})
        return [self.engine.inspect_container(one["Id"]) for one in found]

    def healthy(self) -> bool:
        """Whether everything that is to run does, and says that it is well."""
        for service, count in SERVICES.items():
            states = [one["State"] for one in self.containers(service)]
            if [state["Health"]["Status"] for state in states if state["Running"]] != ["healthy"] * count:
                return False
        return True

    def crash(self, service: str) -> int:
        """Kill the processes of a service from outside, as the kernel would: its containers restart. Returns how many."""
        pids = [one["State"]["Pid"] for one in self.containers(service) if one["State"]["Running"]]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return len(pids)

    def restarts(self, service: str) -> int:
        """How often its containers were started again."""
        return sum(one["RestartCount"] for one in self.containers(service))

    async def wait_until_healthy(self, seconds: float = 90) -> None:
        """Poll until the stack is well."""

        async def look() -> bool:
            return await asyncio.to_thread(self.healthy)

        try:
            await until(look, "the stack to be healthy", seconds)
        except AssertionError as error:
            states = {one["Name"]: (one["State"]["Status"], one["RestartCount"]) for one in self.containers()}
            raise AssertionError(f"{error}; now {states}; {self.compose('logs', '--tail', '5')[-4000:]}") from None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client of the published API, with a key."""
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"Bearer {self.key}"}, timeout=20
        ) as client:
            yield client

    async def get(self, session_id: str) -> dict[str, Any]:
        """The session now; while the API is away, nothing."""
        async with self.client() as client:
            with suppress(httpx.TransportError):
                answer = await client.get(f"/v1/agents/{session_id}")
                if answer.status_code == 200:
                    return dict(answer.json())
        return {"status": "", "pending_approvals": []}

    async def run(self, *lines: str) -> str:
        """Start a session of the demo model with these directives. Returns its id."""
        async with self.client() as client:
            body = {"model": "demo", "messages": [{"role": "user", "content": "\n".join(lines)}]}
            answer = await client.post("/v1/agents/run", json=body)
            assert answer.status_code == 202, answer.text
            return str(answer.json()["session_id"])

    async def ended(self, session_id: str, seconds: float = 90) -> dict[str, Any]:
        """Poll until the session has ended."""

        async def look() -> bool:
            return (await self.get(session_id))["status"] in ("completed", "failed", "cancelled")

        await until(look, f"the end of {session_id}", seconds)
        return await self.get(session_id)

    async def pending(self, session_id: str, seconds: float = 60) -> dict[str, Any]:
        """Poll until a call waits for a decision. Returns the approval."""

        async def look() -> bool:
            return bool((await self.get(session_id))["pending_approvals"])

        await until(look, "a pending approval", seconds)
        return dict((await self.get(session_id))["pending_approvals"][0])

    async def decide(self, approval: dict[str, Any], decision: str) -> httpx.Response:
        """Decide by REST."""
        body = {"decision": decision, "arguments_sha256": approval["arguments_sha256"]}
        async with self.client() as client:
            return await client.post(f"/v1/approvals/{approval['id']}/decision", json=body)

    def stock(self) -> int:
        """What the shop has of its product."""
        query = "SELECT stock FROM products"
        return int(self.compose("exec", "-T", "postgres", "psql", "-U", "postgres", "-At", "-c", query, "shop"))


def up(folder: Path) -> Iterator[Stack]:
    """Start the stack from nothing; afterwards nothing of it is left: no container, network or volume."""
    settings = Settings()
    compose_command()
    engine = docker.APIClient(base_url=settings.docker_host, version="auto", timeout=60)
    try:
        engine.ping()
        absent = [name for name in IMAGES if not engine.images(name=name)]
    except (docker.errors.DockerException, OSError):
        missing("no Docker engine answers")
    if absent:
        missing(f"there is no image {absent[0]}: run infra/ci/stack/images.sh")
    subprocess.run(
        ["sh", str(ROOT / "infra/docker/prepare.sh"), str(folder / "secrets")], check=True, capture_output=True
    )
    (folder / "secrets/CONDUCTOR_SQL_URL").unlink()
    (folder / "secrets/CONDUCTOR_SQL_URL").write_text(SQL_URL, encoding="utf-8")
    (folder / "env").touch()
    stack = Stack(folder, engine, settings)
    try:
        stack.compose("up", "--detach", "--no-build", "--scale", "temporal-ui=0", seconds=300)
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "10")
        left = [
            engine.containers(all=True, filters=(label := {"label": f"com.docker.compose.project={stack.project}"}))
        ]
        left += [engine.networks(filters=label), engine.volumes(filters=label)["Volumes"] or []]
        engine.close()
        assert not any(left), left
