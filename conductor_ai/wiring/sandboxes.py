"""What `conductor sandbox` does."""

from pathlib import Path

import conductor_ai
from activities.sandbox.base import Language
from activities.sandbox.docker import DockerSandbox
from activities.sandbox.docker_images import Images, Recipe, Tell
from activities.sandbox.limits import Verdict, try_limits
from activities.sandbox.off import OffSandbox
from conductor_ai.doctor import Check
from conductor_ai.settings import Settings
from conductor_ai.wiring.parts import images_of, sandbox_of

RECIPES = Path(conductor_ai.__file__).resolve().parents[1] / "infra" / "sandbox"
"""Where a checkout has the Dockerfiles."""


async def prepare_sandbox(
    settings: Settings, tell: Tell, *, base_python: str | None = None, base_node: str | None = None, data: bool = False
) -> None:
    """Build the images that a base is given for; pull those of the others that the engine does not have.

    `data`: Python with numpy and pandas. `tell` takes lines about the progress, which are from outside.

    Raises:
        ConfigurationError: the image would be built over its own base, or there are no Dockerfiles here.
        ToolUnavailable: the engine is away, or an image cannot be had.
    """
    recipes: dict[str, Recipe] = {}
    if base_python is not None:
        file = RECIPES / ("python-data.Dockerfile" if data else "python.Dockerfile")
        # Only this one may have to fetch something.
        recipes[settings.sandbox_image_python] = Recipe(file, base_python, network=None if data else "none")
    if base_node is not None:
        recipes[settings.sandbox_image_node] = Recipe(RECIPES / "node.Dockerfile", base_node)
    images = Images(settings.docker_host)
    try:
        await images.prepare(images_of(settings).values(), recipes, tell)
    finally:
        await images.close()


async def check_sandbox(settings: Settings) -> list[Check]:
    """Which sandbox is in force, each language, and each limit as it was found from inside."""
    sandbox = await sandbox_of(settings, serves=True)
    try:
        if isinstance(sandbox, OffSandbox):
            return [Check("sandbox", ok=False, detail=sandbox.describe())]
        found = await sandbox.check()
        if sandbox.name == "unsafe":  # nothing to try, and what the trials write would land on this machine
            return [Check("sandbox", ok=False, detail=sandbox.describe(), advice="Install Docker or bubblewrap.")]
        checks = [Check("sandbox", ok=True, detail=sandbox.describe())]
        checks += [
            Check(str(language), ok=language not in found.missing, detail=found.missing.get(language, "A program ran."))
            for language in Language
        ]
        if Language.PYTHON in found.missing:
            return [*checks, Check("limits", ok=False, detail="They were not tried: the trial programs are Python.")]
        weaker = "This sandbox does not limit it; Docker's does."
        return checks + [
            Check(one.limit, one.verdict is not Verdict.MISSING, one.detail, weaker * (one.verdict is Verdict.WEAKER))
            for one in await try_limits(sandbox)
        ]
    finally:
        await sandbox.close()


async def reap_sandbox(settings: Settings) -> int:
    """Remove the containers whose worker is dead or whose deadline has passed; how many there were.

    Raises:
        ToolUnavailable: the engine is away.
    """
    sandbox = DockerSandbox(images_of(settings), base_url=settings.docker_host, runtime=settings.sandbox_runtime)
    try:
        return await sandbox.reap()
    finally:
        await sandbox.close()
