"""Code in a Docker container of its own, made for one call and removed after it, whatever happens."""

import asyncio
import time
import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any

import docker
import docker.errors
import docker.utils

from activities.sandbox.base import (
    MEMORY_BYTES,
    TMP_BYTES,
    Check,
    Language,
    LanguageUnavailable,
    SandboxJob,
    SandboxOutcome,
)
from activities.sandbox.docker_config import CPUS
from activities.sandbox.docker_container import Container, Removal, refused, remove
from activities.sandbox.docker_engine import Engine
from activities.sandbox.docker_labels import CALL, SANDBOX, fate, is_predecessor, labels
from activities.sandbox.owner import Owner
from activities.sandbox.tasks import finish
from activities.sandbox.trial import try_languages
from conductor_ai.errors import ToolUnavailable

PULL_SECONDS = 600
"""How long an engine that pulls an image may say nothing."""


class DockerSandbox:
    """Runs every job in a container without network, with little memory, and with a deadline of its own."""

    name = "docker"

    def __init__(
        self, images: Mapping[Language, str], *, base_url: str | None = None, runtime: str | None = None
    ) -> None:
        """`base_url`: as DOCKER_HOST; None is the SDK's default. `runtime`: for example `runsc`."""
        self._images = dict(images)
        self._runtime = runtime
        self._base_url = base_url
        self._engine = Engine(base_url)
        self._owner = Owner.myself()
        self._running: set[str] = set()
        self._missing: Mapping[Language, str] = {}

    def describe(self) -> str:
        return " ".join(
            [
                f"Docker ({self._runtime or 'default runtime'}): a container for one call, without network, with "
                f"{MEMORY_BYTES >> 20} MB of memory and {CPUS:.0%} of a CPU, read-only but for {TMP_BYTES >> 20} MB "
                "in /tmp.",
                *self._missing.values(),
            ]
        )

    async def check(self) -> Check:
        try:
            found = await self._try()
        except (ToolUnavailable, docker.errors.APIError) as error:
            found = Check.failed(error.message if isinstance(error, ToolUnavailable) else refused("to be asked", error))
        self._missing = found.missing
        return found

    async def _try(self) -> Check:
        info: dict[str, Any] = await self._engine.call(lambda client: client.info())
        unlimited = [what for what in ("MemoryLimit", "PidsLimit", "CpuCfsQuota") if not info.get(what)]
        if unlimited:
            return Check.failed(
                f"The Docker engine cannot enforce limits ({', '.join(unlimited)}), so code would not be contained. "
                "Give the engine cgroups (rootless engines need cgroup v2 with delegation)."
            )
        if self._runtime is not None and self._runtime not in info.get("Runtimes", {}):
            return Check.failed(
                f"The Docker engine has no runtime {self._runtime}. Install it there, or change "
                "CONDUCTOR_SANDBOX_RUNTIME."
            )
        return await try_languages(self)

    async def prepare(self) -> None:
        """Pull the images that are not there. For `conductor sandbox prepare`; takes as long as it takes.

        Raises:
            ToolUnavailable: the engine is away, or an image cannot be had.
        """
        missing = [image for image in self._images.values() if not await self._has(image)]
        puller = Engine(self._base_url, PULL_SECONDS)
        try:
            for image in missing:
                await puller.call(partial(_pull, image))
                if not await self._has(image):  # the engine reports a failed pull inside of an answer of status 200
                    raise ToolUnavailable(_not_pulled(image))
        finally:
            await puller.close()

    async def _has(self, image: str) -> bool:
        try:
            await self._engine.call(lambda client: client.inspect_image(image))
        except docker.errors.NotFound:
            return False
        return True

    async def run(self, job: SandboxJob, /) -> SandboxOutcome:
        image = self._images.get(job.language)
        if image is None:
            raise LanguageUnavailable(f"{job.language} is not available: no image is configured for it.")
        name = f"conductor-{uuid.uuid4().hex}"
        one = Container(self._engine, name)
        self._running.add(name)
        try:
            await self._remove_predecessors(job)
            # Waited for even when cancelled: what is half made cannot be removed.
            await finish(one.create(job, image, self._runtime, labels(job, self._owner, time.time())))
            outcome = await one.run(job)
        except docker.errors.ImageNotFound as error:
            raise LanguageUnavailable(
                f"{job.language} is not available: the image {image} is not on the Docker engine, and images are never "
                "pulled during a call. Run `conductor sandbox prepare`."
            ) from error
        except docker.errors.APIError as error:
            raise ToolUnavailable(refused("to run a container", error)) from error
        finally:
            removal = await finish(one.remove())
            self._running.discard(name)
        if removal is not Removal.BY_US:
            # Then its end, too, may be their doing and not the code's.
            raise ToolUnavailable("The container was removed by somebody else while the code ran.")
        return outcome

    async def reap(self) -> int:
        try:
            found = await self._list(f"{SANDBOX}=1")
            doomed = [name for name, of in found if fate(of, name, self._owner, self._running, time.time()).remove]
            await asyncio.gather(*(remove(self._engine, name) for name in doomed))
        except docker.errors.APIError as error:
            raise ToolUnavailable(refused("to remove containers", error)) from error
        return len(doomed)

    async def close(self) -> None:
        await self._engine.close()

    async def _remove_predecessors(self, job: SandboxJob) -> None:
        found = await self._list(f"{CALL}={job.call_id}")
        await asyncio.gather(*(remove(self._engine, name) for name, of in found if is_predecessor(of, job)))

    async def _list(self, label: str) -> list[tuple[str, dict[str, str]]]:
        found = await self._engine.call(lambda client: client.containers(all=True, filters={"label": [label]}))
        return [(one["Names"][0].removeprefix("/"), one["Labels"]) for one in found if one["Names"]]


def _pull(image: str, client: docker.APIClient) -> None:
    repository, tag = docker.utils.parse_repository_tag(image)
    try:
        client.pull(repository, tag=tag or "latest")
    except docker.errors.APIError as error:
        raise ToolUnavailable(_not_pulled(image)) from error


def _not_pulled(image: str) -> str:
    return f"The image {image} could not be pulled. Check its name, and that the engine reaches a registry that has it."
