"""Code in a Docker container of its own, made for one call and removed after it, whatever happens."""

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import docker
import docker.errors

from activities.sandbox.base import (
    MEMORY_BYTES,
    TMP_BYTES,
    Check,
    Language,
    LanguageUnavailable,
    SandboxJob,
    SandboxOutcome,
)
from activities.sandbox.docker_config import CPUS, create_arguments
from activities.sandbox.docker_container import Container, Removal, refused, remove
from activities.sandbox.docker_engine import Engine
from activities.sandbox.docker_labels import (
    SANDBOX,
    fate,
    is_predecessor,
    known,
    labels,
    labels_ahead,
    name_ahead,
    name_of,
)
from activities.sandbox.docker_pool import LIFE_SECONDS, SPARE_SECONDS, Pool
from activities.sandbox.owner import Owner
from activities.sandbox.program import WAIT_SECONDS
from activities.sandbox.tasks import Background
from activities.sandbox.trial import try_languages
from conductor_ai.errors import ToolUnavailable

PATIENCE_SECONDS = 0.8
"""How long a cancelled call waits for the removal of its container. A healthy engine needs a tenth of that; from one
that hangs the container is removed later, and ends by its own clock before."""


class DockerSandbox:
    """Runs every job in a container without network, with little memory, and with a deadline of its own."""

    name = "docker"

    def __init__(
        self, images: Mapping[Language, str], *, base_url: str | None = None, runtime: str | None = None
    ) -> None:
        """`base_url`: as DOCKER_HOST; None is the SDK's default. `runtime`: for example `runsc`."""
        self._images = dict(images)
        self._runtime = runtime
        self._engine = Engine(base_url)
        self._owner = Owner.myself()
        self._held: set[str] = set()
        """Names of the containers that the reaper must leave alone."""
        self._ending = Background("The removal of a container")
        self._pool: Pool | None = None
        self._missing: Mapping[Language, str] = {}

    def describe(self) -> str:
        return " ".join(
            [
                f"Docker ({self._runtime or 'default runtime'}): a container for one call, without network, with "
                f"{MEMORY_BYTES >> 20} MB of memory and {CPUS:.0%} of a CPU, read-only but for {TMP_BYTES >> 20} MB "
                "in /tmp.",
                *([f"{self._pool.size} of each language are kept ready."] if self._pool is not None else []),
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

    def keep_ready(self, size: int) -> None:
        """From now on keep so many containers of each language that runs ready. Call it after `check`, once."""
        if size:
            languages = [language for language in self._images if language not in self._missing]
            self._pool = Pool(languages, size, self._make_ahead, self._discard)

    async def run(self, job: SandboxJob, /) -> SandboxOutcome:
        image = self._images.get(job.language)
        if image is None:
            raise LanguageUnavailable(f"{job.language} is not available: no image is configured for it.")
        try:
            await self._remove_predecessors(job)
            one = await self._taken(job) or self._container(name_of(job, time.time()))
            return await self._run_in(one, job)
        except docker.errors.ImageNotFound as error:
            raise LanguageUnavailable(
                f"{job.language} is not available: the image {image} is not on the Docker engine, and images are never "
                "pulled during a call. Run `conductor sandbox prepare`."
            ) from error
        except docker.errors.APIError as error:
            raise ToolUnavailable(refused("to run a container", error)) from error

    async def reap(self) -> int:
        try:
            found = await self._list()
            doomed = [name for name, of in found if fate(of, name, self._owner, self._held, time.time()).remove]
            await asyncio.gather(*(remove(self._engine, name) for name in doomed))
        except docker.errors.APIError as error:
            raise ToolUnavailable(refused("to remove containers", error)) from error
        return len(doomed)

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
        await self._ending.close()
        await self._engine.close()

    def _container(self, name: str) -> Container:
        self._held.add(name)
        return Container(self._engine, name)

    def _arguments(
        self, language: Language, its_labels: dict[str, str], wait_seconds: int, client: docker.APIClient
    ) -> dict[str, Any]:
        return create_arguments(client, language, self._images[language], self._runtime, its_labels, wait_seconds)

    async def _make_ahead(self, language: Language) -> Container:
        one = self._container(name_ahead())
        wait = LIFE_SECONDS + SPARE_SECONDS
        its_labels = labels_ahead(self._owner, time.time(), wait)
        try:
            await one.start(partial(self._arguments, language, its_labels, wait))
        except BaseException:
            self._discard(one)
            raise
        return one

    async def _taken(self, job: SandboxJob) -> Container | None:
        """A container that was made ahead and is this job's now, if there is a good one."""
        ready = self._pool.take(job.language) if self._pool is not None else None
        if ready is None:
            return None
        try:
            name = name_of(job, time.time())
            self._held.add(name)
            await ready.take_name(name)
        except docker.errors.APIError:
            self._discard(ready)
            return None  # gone, or in some trouble: if the engine is what is wrong, the making of another one tells
        except BaseException:
            self._discard(ready)
            raise
        if ready.alive:
            return ready
        self._discard(ready)
        return None

    async def _run_in(self, one: Container, job: SandboxJob) -> SandboxOutcome:
        """Run a job and remove its container, whatever happens."""
        try:
            if not one.alive:
                its_labels = labels(job, self._owner, time.time())
                await one.start(partial(self._arguments, job.language, its_labels, WAIT_SECONDS))
            outcome = await one.run(job)
        except asyncio.CancelledError:
            await self._ending.wait(self._ending.begin(self._end(one)), PATIENCE_SECONDS)
            raise
        except BaseException:
            await self._ending.finish(self._end(one), PATIENCE_SECONDS)
            raise
        if await self._ending.finish(self._end(one), PATIENCE_SECONDS) is not Removal.BY_US:
            # Then its end, too, may be their doing and not the code's.
            raise ToolUnavailable("The container was removed by somebody else while the code ran.")
        return outcome

    async def _end(self, one: Container) -> Removal:
        try:
            return await one.remove()
        finally:
            self._held.difference_update(one.names)

    def _discard(self, one: Container) -> None:
        self._ending.begin(self._end(one))

    async def _remove_predecessors(self, job: SandboxJob) -> None:
        found = await self._list()
        await asyncio.gather(*(remove(self._engine, name) for name, of in found if is_predecessor(of, job)))

    async def _list(self) -> list[tuple[str, dict[str, str]]]:
        """Name of every container of ours, whoever made it, and what is known of it."""
        filters = {"label": [f"{SANDBOX}=1"]}
        found = await self._engine.call(lambda client: client.containers(all=True, filters=filters))
        names = [(one["Names"][0].removeprefix("/"), one["Labels"]) for one in found if one["Names"]]
        return [(name, known(name, of)) for name, of in names]
