"""The list of what is in the image: what infra/docker/sbom.py makes of an environment and of dpkg's database."""

import json
import subprocess
import sys
from importlib.metadata import distribution, distributions

from infra.docker.sbom import debian_components, document, python_component
from infra.docs.source import ROOT
from tests.fixtures_sbom import is_cyclonedx

STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u13

Package: left-over
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""


def test_python_packages_are_named_as_the_index_names_them() -> None:
    """Normalised name, version, licence and package URL."""
    found = python_component(distribution("pydantic-settings"))
    assert found["purl"] == f"pkg:pypi/pydantic-settings@{distribution('pydantic_settings').version}"
    assert found["licenses"] == [{"expression": "MIT"}]


def test_debian_packages_that_are_installed() -> None:
    """Removed packages that left their configuration are none; + in a version is escaped."""
    (found,) = debian_components(STATUS, "debian-12")
    assert found["purl"] == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u13?arch=amd64&distro=debian-12"


def test_the_document_depends_on_its_contents_alone() -> None:
    """Order and repetition of what was found do not matter: the same image has the same list."""
    one, two = ({"bom-ref": ref, "type": "library", "name": ref, "version": "1"} for ref in ("b", "a"))
    assert document([one, two, one]) == document([two, one])
    assert [part["name"] for part in document([one, two])["components"]] == ["a", "b"]


def test_it_runs_alone() -> None:
    """With the standard library and without the checkout, as it does inside the build."""
    script = str(ROOT / "infra/docker/sbom.py")
    said = subprocess.run([sys.executable, "-I", script], capture_output=True, text=True, check=True).stdout
    names = {part["name"] for part in json.loads(said)["components"]}
    assert {"temporalio", "fastapi", "python"} <= names


def test_it_is_cyclonedx() -> None:
    """The required fields of CycloneDX 1.6, no other ones, and unique references, of Python and Debian packages alike."""
    is_cyclonedx(document([python_component(one) for one in distributions()] + debian_components(STATUS, "debian-12")))
