"""Prints what is installed where it runs, as a CycloneDX 1.6 document: Python distributions and Debian packages.

Standard library alone: it runs inside the image while that is built. The same packages give the same text.
"""

import json
import platform
import re
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

DPKG = Path("/var/lib/dpkg/status")


def python_component(found: Distribution) -> dict[str, Any]:
    """One Python distribution."""
    name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
    purl = f"pkg:pypi/{quote(name)}@{quote(found.version)}"
    component = {"type": "library", "bom-ref": purl, "name": name, "version": found.version, "purl": purl}
    licence = found.metadata.json.get("license_expression")
    return component | ({"licenses": [{"expression": licence}]} if licence else {})


def debian_components(status: str, distribution: str) -> list[dict[str, Any]]:
    """The packages that dpkg calls installed."""
    components = []
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", paragraph, re.MULTILINE))
        if not fields.get("Status", "").endswith(" installed"):
            continue
        name, version = fields["Package"], fields["Version"]
        purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={fields['Architecture']}&distro={distribution}"
        components.append({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
    return components


def document(components: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole document, in an order that depends on nothing but its contents."""
    unique = {component["bom-ref"]: component for component in components}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "bom-ref": "conductor", "name": "conductor"}},
        "components": [unique[ref] for ref in sorted(unique)],
    }


def main() -> None:
    """Print it."""
    found = [python_component(one) for one in distributions()]
    runtime = f"pkg:generic/python@{platform.python_version()}"
    found.append(
        {
            "type": "platform",
            "bom-ref": runtime,
            "name": "python",
            "version": platform.python_version(),
            "purl": runtime,
        }
    )
    if DPKG.is_file():
        release = dict(re.findall(r'^(\w+)="?([^"\n]*)', Path("/etc/os-release").read_text(), re.MULTILINE))
        found += debian_components(DPKG.read_text(encoding="utf-8"), f"{release['ID']}-{release['VERSION_ID']}")
    print(json.dumps(document(found), indent=1))


if __name__ == "__main__":
    main()
