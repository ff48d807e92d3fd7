"""The images that containers are made from: looked for, pulled, or built. Never during a call."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import docker
import docker.errors
import docker.utils

from activities.sandbox.docker_container import refused
from activities.sandbox.docker_engine import Engine
from conductor_ai.errors import ConfigurationError, ToolUnavailable

SILENCE_SECONDS = 600
"""How long an engine that pulls or builds an image may say nothing."""

Tell = Callable[[str], None]
"""Takes a line about the progress. It is from outside."""


@dataclass(frozen=True)
class Recipe:
    """How an image is built."""

    dockerfile: Path
    base: str
    """The image that it begins with, handed over as the build argument BASE."""
    network: str | None = field(default="none")
    """`none`, or None for the engine's own default."""


class Images:
    """The images of one engine."""

    def __init__(self, base_url: str | None) -> None:
        self._engine = Engine(base_url, SILENCE_SECONDS)

    async def prepare(self, names: Iterable[str], recipes: Mapping[str, Recipe], tell: Tell) -> None:
        """Build the images that have a recipe, and pull those of the others that are not there.

        Raises:
            ConfigurationError: an image would be built over its own base, or the recipe is not there.
            ToolUnavailable: the engine is away, or an image cannot be had.
        """
        for name in names:
            try:
                await self._prepare(name, recipes.get(name), tell)
            except docker.errors.APIError as error:
                raise ToolUnavailable(refused(f"to prepare the image {name}", error)) from error

    async def close(self) -> None:
        """End the connections."""
        await self._engine.close()

    async def _prepare(self, name: str, recipe: Recipe | None, tell: Tell) -> None:
        if recipe is not None:
            if recipe.base == name:
                raise ConfigurationError(
                    f"The image {name} would be built over its own base. Give the image that is built a name of its own "
                    "in CONDUCTOR_SANDBOX_IMAGE_PYTHON or CONDUCTOR_SANDBOX_IMAGE_NODE."
                )
            if not recipe.dockerfile.is_file():
                raise ConfigurationError(
                    f"There is no {recipe.dockerfile.name} here: the Dockerfiles are part of a checkout of Conductor "
                    "(infra/sandbox). Run this command in one, or build the image with `docker build`."
                )
            tell(f"{name}: building on {recipe.base}")
            await self._engine.call(partial(_build, name, recipe, tell))
        elif await self._has(name):
            tell(f"{name}: is there")
            return
        else:
            tell(f"{name}: pulling")
            await self._engine.call(partial(_pull, name))
        if not await self._has(name):  # the engine reports a failure inside of an answer of status 200
            raise ToolUnavailable(_not_built(name) if recipe else _not_pulled(name))
        tell(f"{name}: ready")

    async def _has(self, name: str) -> bool:
        try:
            await self._engine.call(lambda client: client.inspect_image(name))
        except docker.errors.NotFound:
            return False
        return True


def _build(name: str, recipe: Recipe, tell: Tell, client: docker.APIClient) -> None:
    said: Iterable[dict[str, Any]] = client.build(
        path=str(recipe.dockerfile.parent),
        dockerfile=recipe.dockerfile.name,
        tag=name,
        buildargs={"BASE": recipe.base},
        network_mode=recipe.network,
        rm=True,
        forcerm=True,
        decode=True,
    )
    failed = False
    for one in said:
        for line in str(one.get("stream") or one.get("error") or "").splitlines():
            tell(f"    {line}")
        failed = failed or "error" in one
    if failed:
        raise ToolUnavailable(_not_built(name))


def _pull(name: str, client: docker.APIClient) -> None:
    repository, tag = docker.utils.parse_repository_tag(name)
    try:
        client.pull(repository, tag=tag or "latest")
    except docker.errors.APIError as error:
        raise ToolUnavailable(_not_pulled(name)) from error


def _not_pulled(name: str) -> str:
    return f"The image {name} could not be pulled. Check its name, and that the engine reaches a registry that has it."


def _not_built(name: str) -> str:
    return f"The image {name} could not be built. The engine's own words are above; check that it has the base image."
