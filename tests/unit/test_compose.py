"""docker-compose.yml and the Dockerfile: valid for Compose, closed to the outside, and naming only settings that exist."""

import json
import re
import shutil
import subprocess
from functools import cache
from typing import Any

import pytest

from conductor_ai.settings import Settings
from infra.docs.source import ROOT

PASSWORDS = ("POSTGRES_PASSWORD", "CONDUCTOR_DB_PASSWORD", "TEMPORAL_DB_PASSWORD", "REDIS_PASSWORD")
OURS = ("migrate", "api", "worker", "sandbox-worker")


def compose() -> list[str] | None:
    """The Compose that is installed: Docker's plugin or the program."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and not subprocess.run([*command, "version"], capture_output=True).returncode:
            return command
    return None


def config(**environment: str) -> subprocess.CompletedProcess[str]:
    """What Compose makes of the file, without this machine's own .env."""
    command = compose()
    assert command is not None
    path = shutil.which("docker") or "/usr/bin/docker"
    return subprocess.run(
        [*command, "--env-file", "/dev/null", "--file", str(ROOT / "docker-compose.yml"), "config"],
        env={"PATH": f"{path.rpartition('/')[0]}:/usr/local/bin:/usr/bin:/bin"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@cache
def services() -> dict[str, Any]:
    """The services as Compose reads them."""
    found = config(**dict.fromkeys(PASSWORDS, "secret"))
    assert found.returncode == 0, found.stderr
    import yaml

    return dict(yaml.safe_load(found.stdout)["services"])
