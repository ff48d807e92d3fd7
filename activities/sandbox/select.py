"""Which sandbox is in force: what the settings ask for, if a trial run shows that it works."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from shutil import which

from activities.sandbox.base import Language, Sandbox
from activities.sandbox.bubblewrap import BubblewrapSandbox
from activities.sandbox.docker import DockerSandbox
from activities.sandbox.unsafe import UnsafeSubprocess


class Choice(StrEnum):
    """What CONDUCTOR_SANDBOX may say."""

    AUTO = "auto"
    """Docker, else bubblewrap."""
    DOCKER = "docker"
    BUBBLEWRAP = "bubblewrap"
    OFF = "off"


@dataclass(frozen=True)
class Unavailable:
    """No code can be run on this worker."""

    reason: str
    """Sentences for a person: what was tried, what is missing, what to install or set."""


async def choose(
    choice: str,
    *,
    images: Mapping[Language, str],
    docker_host: str | None = None,
    runtime: str | None = None,
    unsafe_subprocess: bool = False,
    ready: int = 0,
) -> Sandbox | Unavailable:
    """The sandbox to use, tried. The caller closes it.

    `unsafe_subprocess` is the last resort of `auto`, after Docker and bubblewrap; `off` stays off.
    `ready`: containers of each language that Docker's sandbox is to keep ready from now on.
    """
    asked = Choice(choice)
    if asked is Choice.OFF:
        return Unavailable("code_run is switched off (CONDUCTOR_SANDBOX=off).")
    candidates: list[Sandbox] = []
    if asked in (Choice.AUTO, Choice.DOCKER):
        candidates.append(DockerSandbox(images, base_url=docker_host, runtime=runtime))
    if asked in (Choice.AUTO, Choice.BUBBLEWRAP):
        candidates.append(BubblewrapSandbox(which("bwrap") or "/usr/bin/bwrap"))
    if unsafe_subprocess and asked is Choice.AUTO:
        candidates.append(UnsafeSubprocess(_interpreters()))
    reasons: list[str] = []
    for candidate in candidates:
        found = await candidate.check()
        if found.available:
            if isinstance(candidate, DockerSandbox):
                candidate.keep_ready(ready)
            return candidate
        reasons.append(found.reason)
        await candidate.close()
    return Unavailable(
        " ".join(["No sandbox works here, so code_run is off.", *reasons, "Install Docker or bubblewrap."])
    )


def _interpreters() -> dict[Language, str]:
    node = which("node")
    return {Language.PYTHON: sys.executable} | ({} if node is None else {Language.JAVASCRIPT: node})
